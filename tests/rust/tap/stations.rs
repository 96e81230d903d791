//! A bridge behind a TAP: many stations, each with a MAC of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vnet_drivers::tap::counters::Reason;
use vnet_drivers::tap::ndp;
use vnet_drivers::tap::neighbourhood::{Event, News};
use vnet_drivers::tap::neighbours::questions::{KEPT, KEPT_BYTES, OPEN};
use vnet_drivers::tap::neighbours::stations::{LEARNED_BRIDGE, REACHABLE};
use vnet_drivers::tap::neighbours::{Held, Way};

use crate::lan::{Lan, SECOND, mac, v4, v6};
use crate::wire::{self, BROADCAST, Said};

const STATION: wire::Mac = [2, 0xbb, 0, 0, 0, 1];

/// 1 is a bridge with an address of its own, 2 a guest behind a TAP, 3 one that speaks IP.
fn lan() -> Lan {
    let mut lan = Lan::new();
    lan.tap(1, &[v4(1).into(), v6(1).into()], true);
    lan.tap(2, &[v4(2).into(), v6(2).into()], false);
    lan.nic(3, &[v4(3).into(), v6(3).into()]);
    lan
}

fn datagram(from: impl Into<IpAddr>, to: impl Into<IpAddr>) -> Vec<u8> {
    wire::udp(mac(3), mac(1), from.into(), to.into())[14..].to_vec()
}

/// What waited and can go now: MACs, and the addresses that the datagrams are for.
fn resolved(lan: &mut Lan) -> Vec<(wire::Mac, IpAddr)> {
    let tap = lan.taps.get_mut(&1).unwrap();
    let next = || tap.neighbours.resolved();
    std::iter::from_fn(next)
        .map(|(mac, kept)| (mac, vnet_drivers::base::datagram::destination(&kept.datagram).unwrap().into()))
        .collect()
}

fn question(from: wire::Mac, source: Ipv4Addr, to: wire::Mac, target: Ipv4Addr) -> Said {
    Said::ArpRequest { to, sender_mac: from, sender: source, target }
}

#[test]
fn a_datagram_for_a_station_waits_until_it_has_told_its_mac() {
    let mut lan = lan();
    assert_eq!(lan.datagram(1, &datagram(v4(3), v4(50))), Way::Resolve(v4(50).into()));
    assert_eq!(lan.datagram(1, &datagram(v4(3), v4(50))), Way::Resolve(v4(50).into()));
    assert_eq!(lan.said(1), [question(mac(3), v4(3), BROADCAST, v4(50))], "one question, in the sender's name");
    assert_eq!(resolved(&mut lan), []);
    lan.frame(1, &wire::arp_reply(STATION, v4(50), mac(3), v4(3)));
    assert_eq!(resolved(&mut lan), [(STATION, v4(50).into()); 2]);
    assert_eq!(lan.datagram(1, &datagram(v4(3), v4(50))), Way::To(STATION));
    assert_eq!(lan.owner(v4(50)), Some(1), "and others find it in the table");
    lan.frame(2, &wire::arp_request(mac(2), v4(2), v4(50)));
    let answer = Said::ArpReply { to: mac(2), sender_mac: mac(1), sender: v4(50), target_mac: mac(2), target: v4(2) };
    assert_eq!(lan.said(2), [answer], "under the MAC of the bridge's NIC");

    assert_eq!(lan.datagram(1, &datagram(v6(3), v6(50))), Way::Resolve(v6(50).into()));
    let [Said::Solicitation { source, link, target, .. }] = lan.said(1)[..] else { panic!("a solicitation") };
    assert_eq!((source, link, target), (v6(3), Some(mac(3)), v6(50)));
    lan.frame(1, &wire::advertisement(STATION, (mac(3), v6(3)), v6(50), 0x60));
    assert_eq!(resolved(&mut lan), [(STATION, v6(50).into())]);
}

/// RFC 4861 section 7.2.2, and Linux for ARP: three questions, a second apart.
#[test]
fn a_station_that_is_not_there_is_asked_for_three_times_and_what_waits_is_dropped() {
    let mut lan = lan();
    lan.datagram(1, &datagram(v4(3), v4(50)));
    lan.datagram(1, &datagram(v4(3), v4(50)));
    let mut asked = Vec::new();
    for _ in 0..8 {
        asked.push(lan.said(1).len());
        lan.pass(SECOND / 2);
    }
    assert_eq!(asked, [1, 0, 1, 0, 1, 0, 0, 0]);
    assert_eq!(lan.taps[&1].counts(), [("asked", 3), ("unresolved", 2)]);
    assert_eq!(lan.taps[&1].neighbours.held(), Held::default());
    assert_eq!(lan.datagram(1, &datagram(v4(3), v4(50))), Way::Resolve(v4(50).into()), "who comes later asks anew");
}

#[test]
fn a_sender_that_is_no_neighbour_is_asked_for_in_nobodys_name() {
    let mut lan = lan();
    let voice = [0x82, 0, 0, 0, 0, 1];
    lan.datagram(1, &datagram(Ipv4Addr::new(192, 0, 2, 1), v4(50)));
    assert_eq!(lan.said(1), [question(voice, Ipv4Addr::UNSPECIFIED, BROADCAST, v4(50))]);
    lan.frame(1, &wire::arp_reply(STATION, v4(50), voice, Ipv4Addr::UNSPECIFIED));
    assert_eq!(resolved(&mut lan), [(STATION, v4(50).into())]);
    lan.datagram(1, &datagram(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), v6(50)));
    let [Said::Solicitation { from, source, .. }] = lan.said(1)[..] else { panic!("a solicitation") };
    assert_eq!((from, source), (voice, ndp::link_local(voice)));
}

#[test]
fn a_mac_that_was_not_heard_for_long_is_used_on_while_it_is_asked_for() {
    let mut lan = lan();
    lan.frame(1, &wire::arp_request(STATION, v4(50), v4(3)));
    lan.said(1);
    lan.pass(REACHABLE - 1);
    assert_eq!(lan.datagram(1, &datagram(v4(3), v4(50))), Way::To(STATION));
    assert_eq!(lan.said(1), []);
    lan.pass(1);
    for _ in 0..5 {
        assert_eq!(lan.datagram(1, &datagram(v4(3), v4(50))), Way::To(STATION));
    }
    assert_eq!(lan.said(1), [question(mac(3), v4(3), STATION, v4(50))], "it alone is asked, once");
    lan.frame(1, &wire::arp_reply(STATION, v4(50), mac(3), v4(3)));
    lan.pass(REACHABLE);
    lan.datagram(1, &datagram(v4(3), v4(50)));
    lan.pass(3 * SECOND);
    assert_eq!(lan.said(1).len(), 3);
    assert_eq!(lan.datagram(1, &datagram(v4(3), v4(50))), Way::Resolve(v4(50).into()), "silent, it is asked for again");
    assert_eq!(lan.owner(v4(50)), Some(1), "others still find it here");
    assert_eq!(lan.said(1), [question(mac(3), v4(3), BROADCAST, v4(50))]);
    // It has another MAC by now.
    lan.frame(1, &wire::arp_reply([2, 0xcc, 0, 0, 0, 1], v4(50), mac(3), v4(3)));
    assert_eq!(resolved(&mut lan), [([2, 0xcc, 0, 0, 0, 1], v4(50).into())]);
}

/// RFC 826: merge; RFC 4861 section 7.2.5: the override flag.
#[test]
fn a_station_moves_when_it_says_so_and_not_when_a_datagram_comes_another_way() {
    let mut lan = lan();
    let other = [2, 0xcc, 0, 0, 0, 1];
    let way = |lan: &mut Lan| lan.datagram(1, &datagram(v6(3), v6(50)));
    lan.frame(1, &wire::solicitation(STATION, v6(50), v6(3)));
    assert_eq!(way(&mut lan), Way::To(STATION));
    lan.frame(1, &wire::udp(other, mac(3), v6(50).into(), v6(3).into()));
    lan.frame(1, &wire::advertisement(other, (mac(3), v6(3)), v6(50), 0x40));
    assert_eq!(way(&mut lan), Way::To(STATION), "through a router; without override");
    lan.frame(1, &wire::advertisement(other, (mac(3), v6(3)), v6(50), 0x60));
    assert_eq!(way(&mut lan), Way::To(other));
    lan.frame(1, &wire::solicitation(STATION, v6(50), v6(3)));
    assert_eq!(way(&mut lan), Way::To(STATION));
    lan.frame(1, &wire::arp_request(STATION, v4(50), v4(3)));
    lan.frame(1, &wire::arp_request(other, v4(50), v4(3)));
    assert_eq!(lan.datagram(1, &datagram(v4(3), v4(50))), Way::To(other));
    assert_eq!(lan.count(1, Reason::GuestMoved), 0, "the NIC's own MAC stands for all");
}

#[test]
fn the_bridges_own_address_and_what_leads_elsewhere_go_to_the_mac_that_it_tells() {
    let mut lan = lan();
    let bridge = [2, 0xdd, 0, 0, 0, 1];
    assert_eq!(lan.datagram(1, &datagram(v4(3), v4(1))), Way::Resolve(v4(1).into()));
    let outside = Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(lan.datagram(1, &datagram(v4(3), outside)), Way::Resolve(v4(1).into()), "it is the gateway");
    assert_eq!(lan.said(1), [question(mac(3), v4(3), BROADCAST, v4(1))]);
    lan.frame(1, &wire::arp_reply(bridge, v4(1), mac(3), v4(3)));
    assert_eq!(resolved(&mut lan), [(bridge, v4(1).into()), (bridge, outside.into())]);
    assert_eq!(lan.datagram(1, &datagram(v4(3), outside)), Way::To(bridge));
    let mut plain = Lan::new();
    plain.tap(1, &[], true);
    plain.nic(3, &[v4(3).into()]);
    assert_eq!(plain.datagram(1, &datagram(v4(3), outside)), Way::Nowhere(Reason::Unresolved), "it has no address");
}

#[test]
fn what_a_bridge_floods_to_its_own_stations_goes_no_further() {
    let mut lan = lan();
    lan.frame(1, &wire::arp_request(STATION, v4(50), v4(3)));
    let frame = wire::udp([2, 0xbb, 0, 0, 0, 2], STATION, v4(51).into(), v4(50).into());
    assert_eq!(lan.frame(1, &frame), None);
    assert_eq!(lan.count(1, Reason::OtherHost), 1);
    let frame = wire::udp(STATION, mac(3), v4(50).into(), v4(3).into());
    assert_eq!(lan.frame(1, &frame).as_deref(), Some(&frame[14..]));
    let frame = wire::udp(STATION, BROADCAST, v4(50).into(), v4(255).into());
    assert!(lan.frame(1, &frame).is_some(), "broadcasts pass");
    lan.frame(1, &wire::arp_request(STATION, v4(50), v4(1)));
    assert_eq!(lan.count(1, Reason::Unanswered), 1, "the bridge answers for itself");
}

#[test]
fn frames_of_the_lan_that_come_back_through_a_second_bridge_go_no_further() {
    let mut lan = lan();
    let back = [
        wire::udp(mac(3), BROADCAST, v4(3).into(), v4(255).into()),
        wire::udp(mac(3), wire::multicast_mac(ndp::ALL_NODES), v6(3).into(), ndp::ALL_NODES.into()),
        wire::arp_request(mac(3), v4(3), v4(50)),
        wire::solicitation(mac(3), v6(3), v6(50)),
        wire::advertisement(mac(3), (mac(2), v6(2)), v6(3), 0x60),
    ];
    for frame in &back {
        assert_eq!(lan.frame(1, frame), None);
    }
    assert_eq!(lan.taps[&1].counts(), [("looped", 5)]);
    assert_eq!((lan.said(1), lan.said(2)), (vec![], vec![]));
}

#[test]
fn what_waits_for_an_address_that_is_elsewhere_is_let_go() {
    let mut lan = lan();
    lan.datagram(1, &datagram(v4(3), v4(50)));
    lan.frame(2, &wire::arp_request(mac(2), v4(50), v4(3)));
    assert_eq!(lan.owner(v4(50)), Some(2));
    assert_eq!(lan.count(1, Reason::Elsewhere), 1);
    assert_eq!(lan.taps[&1].neighbours.held(), Held::default());
    assert_eq!(lan.datagram(1, &datagram(v4(3), v4(50))), Way::Nowhere(Reason::Elsewhere));
}

#[test]
fn a_station_whose_address_the_base_gives_to_another_nic_gets_no_more_datagrams() {
    let mut lan = lan();
    lan.frame(1, &wire::arp_request(STATION, v4(50), v4(3)));
    assert_eq!(lan.datagram(1, &datagram(v4(3), v4(50))), Way::To(STATION));
    lan.nic(3, &[v4(50).into()]);
    let event = Event::Told { address: v4(50).into(), mac: mac(3), news: News::Moved };
    let tap = lan.taps.get_mut(&1).unwrap();
    tap.neighbours.hear(event, &mut tap.side, lan.now);
    assert_eq!(lan.datagram(1, &datagram(v4(3), v4(50))), Way::Nowhere(Reason::Elsewhere));
    assert_eq!(lan.taps[&1].neighbours.held(), Held::default());
}

#[test]
fn questions_of_others_do_not_displace_one_that_a_datagram_waits_for() {
    let mut lan = lan();
    lan.datagram(1, &datagram(v4(3), v4(50)));
    for host in 0..1000 {
        lan.now += SECOND / 1000;
        lan.frame(2, &wire::solicitation(mac(2), v6(2), v6(1000 + host)));
    }
    assert_eq!(lan.taps[&1].neighbours.held().questions, OPEN);
    lan.frame(1, &wire::arp_reply(STATION, v4(50), mac(3), v4(3)));
    assert_eq!(resolved(&mut lan), [(STATION, v4(50).into())]);
}

#[test]
fn stations_datagrams_and_bytes_that_are_held_have_limits_and_the_oldest_goes() {
    let mut lan = lan();
    for number in 0..KEPT as u8 + 4 {
        let mut datagram = datagram(v4(3), v4(50));
        datagram[20] = number;
        lan.datagram(1, &datagram);
    }
    assert_eq!(lan.count(1, Reason::Displaced), 4);
    lan.frame(1, &wire::arp_request(STATION, v4(50), v4(3)));
    let tap = lan.taps.get_mut(&1).unwrap();
    let left: Vec<u8> = std::iter::from_fn(|| tap.neighbours.resolved()).map(|(_, kept)| kept.datagram[20]).collect();
    assert_eq!(left, (4..KEPT as u8 + 4).collect::<Vec<_>>());

    let large = |host: u16| {
        let mut datagram = datagram(v6(3), v6(host));
        datagram.resize(60_000, 0);
        datagram
    };
    for host in 0..40 {
        lan.datagram(1, &large(1000 + host));
    }
    let held = lan.taps[&1].neighbours.held();
    assert!(held.bytes <= KEPT_BYTES && held.bytes > KEPT_BYTES - 60_000, "{held:?}");
    for host in 0..300 {
        lan.datagram(1, &datagram(v6(3), v6(2000 + host)));
    }
    let held = lan.taps[&1].neighbours.held();
    assert_eq!(held.questions, OPEN);
    assert!(lan.count(1, Reason::RateLimited) > 0, "and so have questions a second");
    lan.pass(10 * SECOND);
    assert_eq!(lan.taps[&1].neighbours.held().questions, 0);

    for host in 0..2000 {
        lan.frame(1, &wire::udp(STATION, mac(3), v6(3000 + host).into(), v6(3).into()));
    }
    assert_eq!(lan.taps[&1].neighbours.held().learned, LEARNED_BRIDGE);
}
