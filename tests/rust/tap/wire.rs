//! Frames, written and read by etherparse, which knows nothing of the driver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::icmpv6::{Icmpv6PayloadSlice, NdpOptionSlice};
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv6Type, IpNumber, NetSlice, PacketBuilder, SlicedPacket,
    TransportSlice,
};

pub type Mac = [u8; 6];

/// What a frame out of a TAP says of neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    ArpRequest { to: Mac, sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr },
    ArpReply { to: Mac, sender_mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr },
    Solicitation { to: Mac, from: Mac, source: Ipv6Addr, destination: Ipv6Addr, target: Ipv6Addr, link: Option<Mac> },
    Advertisement { to: Mac, from: Mac, destination: Ipv6Addr, target: Ipv6Addr, flags: Flags },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub router: bool,
    pub solicited: bool,
}

/// Reads a frame that the driver wrote, and refuses what no station may send: RFC 826, RFC 5227, RFC 4861 section 7.1.
pub fn read(frame: &[u8]) -> Result<Said, String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let header = packet.link.as_ref().and_then(|link| link.to_header()).and_then(|link| link.ethernet2());
    let header = header.ok_or("no Ethernet header")?;
    let (to, from) = (header.destination, header.source);
    if from[0] & 1 != 0 || from == [0; 6] || to == [0; 6] {
        return Err(format!("from {from:x?} to {to:x?}"));
    }
    match packet.net.as_ref() {
        Some(NetSlice::Arp(arp)) => read_arp(to, from, &arp.to_packet(), frame.len()),
        Some(NetSlice::Ipv6(ip)) => {
            let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { return Err("no ICMPv6".into()) };
            let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
            if ip.header().hop_limit() != 255 || icmp.code_u8() != 0 {
                return Err("hop limit or code".into());
            }
            if !icmp.is_checksum_valid(source.octets(), destination.octets()) {
                return Err("checksum".into());
            }
            if destination.is_multicast() && to != multicast_mac(destination) {
                return Err(format!("{destination} to {to:x?}"));
            }
            if destination.is_multicast() != (to[0] & 1 != 0) {
                return Err(format!("{destination} to {to:x?}"));
            }
            let payload = icmp.payload_slice().map_err(|error| error.to_string())?;
            read_ndp((to, from), (source, destination), icmp.icmp_type(), &payload)
        }
        _ => Err("neither ARP nor IPv6".into()),
    }
}

fn read_arp(to: Mac, from: Mac, packet: &ArpPacket, length: usize) -> Result<Said, String> {
    let mac = |bytes: &[u8]| Mac::try_from(bytes).map_err(|_| "a MAC of six octets".to_string());
    let address = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from).map_err(|_| "an IPv4 address");
    let kind = (packet.hw_addr_type, packet.proto_addr_type);
    if kind != (ArpHardwareId::ETHERNET, EtherType::IPV4) || length != 42 {
        return Err("not ARP for IPv4 over Ethernet".into());
    }
    let (sender_mac, sender) = (mac(packet.sender_hw_addr())?, address(packet.sender_protocol_addr())?);
    let (target_mac, target) = (mac(packet.target_hw_addr())?, address(packet.target_protocol_addr())?);
    if sender_mac != from {
        return Err(format!("{sender_mac:x?} says from {from:x?}"));
    }
    match packet.operation {
        ArpOperation::REQUEST => Ok(Said::ArpRequest { to, sender_mac, sender, target }),
        ArpOperation::REPLY if target_mac == to => Ok(Said::ArpReply { to, sender_mac, sender, target_mac, target }),
        operation => Err(format!("operation {operation:?} to {target_mac:x?}")),
    }
}

fn read_ndp(
    (to, from): (Mac, Mac),
    (source, destination): (Ipv6Addr, Ipv6Addr),
    kind: Icmpv6Type,
    payload: &Icmpv6PayloadSlice<'_>,
) -> Result<Said, String> {
    let mac = |bytes: &[u8]| Mac::try_from(bytes).map_err(|_| "a MAC of six octets".to_string());
    match (kind, payload) {
        (Icmpv6Type::NeighborSolicitation, Icmpv6PayloadSlice::NeighborSolicitation(body)) => {
            let mut link = None;
            for option in body.options_iterator() {
                match option.map_err(|error| error.to_string())? {
                    NdpOptionSlice::SourceLinkLayerAddress(option) => link = Some(mac(option.link_layer_address())?),
                    other => return Err(format!("option {other:?}")),
                }
            }
            if source.is_unspecified() == link.is_some() || link.is_some_and(|link| link != from) {
                return Err(format!("{source} at {link:x?} from {from:x?}"));
            }
            Ok(Said::Solicitation { to, from, source, destination, target: body.target_address(), link })
        }
        (Icmpv6Type::NeighborAdvertisement(header), Icmpv6PayloadSlice::NeighborAdvertisement(body)) => {
            let options: Vec<_> = body.options_iterator().collect();
            let [Ok(NdpOptionSlice::TargetLinkLayerAddress(link))] = &options[..] else {
                return Err(format!("options {options:?}"));
            };
            if mac(link.link_layer_address())? != from || source != body.target_address() || !header.r#override {
                return Err("not in the target's name".into());
            }
            if header.solicited && destination.is_multicast() {
                return Err("solicited by all".into());
            }
            let flags = Flags { router: header.router, solicited: header.solicited };
            Ok(Said::Advertisement { to, from, destination, target: body.target_address(), flags })
        }
        (kind, _) => Err(format!("{kind:?}")),
    }
}

pub fn multicast_mac(group: Ipv6Addr) -> Mac {
    let octets = group.octets();
    [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]]
}

pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let mut octets = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    octets[13..].copy_from_slice(&address.octets()[13..]);
    octets.into()
}

pub const BROADCAST: Mac = [0xff; 6];

pub fn arp_request(from: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(BROADCAST, from, ArpOperation::REQUEST, (from, sender), ([0; 6], target))
}

pub fn arp_reply(from: Mac, sender: Ipv4Addr, to: Mac, target: Ipv4Addr) -> Vec<u8> {
    arp(to, from, ArpOperation::REPLY, (from, sender), (to, target))
}

pub fn arp(to: Mac, from: Mac, operation: ArpOperation, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &sender.0,
        &sender.1.octets(),
        &target.0,
        &target.1.octets(),
    );
    let builder = PacketBuilder::ethernet2(from, to).arp(packet.unwrap());
    let mut frame = Vec::new();
    builder.write(&mut frame).unwrap();
    frame
}

/// A solicitation as Linux sends it: to the target's group; without a MAC from nobody.
pub fn solicitation(from: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let group = solicited_node(target);
    let mut body = target.octets().to_vec();
    if !source.is_unspecified() {
        body.extend([1, 1]);
        body.extend(from);
    }
    ndp((from, multicast_mac(group)), (source, group), 135, [0; 4], &body)
}

/// An advertisement; `flags` are the first octet of its flags.
pub fn advertisement(from: Mac, to: (Mac, Ipv6Addr), target: Ipv6Addr, flags: u8) -> Vec<u8> {
    let mut body = target.octets().to_vec();
    body.extend([2, 1]);
    body.extend(from);
    ndp((from, to.0), (target, to.1), 136, [flags, 0, 0, 0], &body)
}

pub fn router_advertisement(from: Mac, source: Ipv6Addr, lifetime: u16) -> Vec<u8> {
    let [high, low] = lifetime.to_be_bytes();
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    ndp((from, multicast_mac(all)), (source, all), 134, [64, 0, high, low], &[0; 8])
}

fn ndp(macs: (Mac, Mac), addresses: (Ipv6Addr, Ipv6Addr), kind: u8, word: [u8; 4], body: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv6(addresses.0.octets(), addresses.1.octets(), 255)
        .icmpv6_raw(kind, 0, word);
    let mut frame = Vec::new();
    builder.write(&mut frame, body).unwrap();
    frame
}

/// A UDP datagram in a frame.
pub fn udp(from: Mac, to: Mac, source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(from, to);
    let builder = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => builder.ipv4(source.octets(), destination.octets(), 64),
        (IpAddr::V6(source), IpAddr::V6(destination)) => builder.ipv6(source.octets(), destination.octets(), 64),
        _ => panic!("{source} to {destination}"),
    };
    let mut frame = Vec::new();
    builder.udp(1000, 2000).write(&mut frame, b"hello").unwrap();
    frame
}

/// An IPv6 datagram in a frame with extension headers before what is in it.
pub fn behind(frame: &[u8], first: IpNumber, headers: &[u8]) -> Vec<u8> {
    let mut frame = [&frame[..54], headers, &frame[54..]].concat();
    let length = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame[20] = first.0;
    frame
}

pub fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
