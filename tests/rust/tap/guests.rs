//! Guests that are one station each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vnet_drivers::tap::counters::Reason;
use vnet_drivers::tap::ndp;
use vnet_drivers::tap::neighbourhood::{Event, News};
use vnet_drivers::tap::neighbours::Way;
use vnet_drivers::tap::neighbours::stations::{AGE, LEARNED};

use crate::lan::{Lan, SECOND, mac, v4, v6};
use crate::wire::{self, BROADCAST, Flags, Said};

const NOBODY4: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const NOBODY6: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const ALL: (wire::Mac, Ipv6Addr) = ([0x33, 0x33, 0, 0, 0, 1], ndp::ALL_NODES);

/// Two guests behind TAPs, 1 and 2, and 3, a guest that speaks IP.
fn lan() -> Lan {
    let mut lan = Lan::new();
    lan.tap(1, &[v4(1).into(), v6(1).into()], false);
    lan.tap(2, &[v4(2).into(), v6(2).into()], false);
    lan.nic(3, &[v4(3).into(), v6(3).into()]);
    lan
}

fn arp_reply(to: wire::Mac, asker: Ipv4Addr, sender_mac: wire::Mac, sender: Ipv4Addr) -> Said {
    Said::ArpReply { to, sender_mac, sender, target_mac: to, target: asker }
}

fn arp_request(sender_mac: wire::Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Said {
    Said::ArpRequest { to: BROADCAST, sender_mac, sender, target }
}

fn solicitation(from: wire::Mac, source: Ipv6Addr, target: Ipv6Addr) -> Said {
    let destination = wire::solicited_node(target);
    let link = (!source.is_unspecified()).then_some(from);
    Said::Solicitation { to: wire::multicast_mac(destination), from, source, destination, target, link }
}

fn advertisement((to, destination): (wire::Mac, Ipv6Addr), from: wire::Mac, target: Ipv6Addr) -> Said {
    let flags = Flags { router: false, solicited: !destination.is_multicast() };
    Said::Advertisement { to, from, destination, target, flags }
}

#[test]
fn an_address_that_nobody_has_stays_unanswered() {
    let mut lan = lan();
    lan.frame(1, &wire::arp_request(mac(1), v4(1), v4(9)));
    lan.frame(1, &wire::solicitation(mac(1), v6(1), v6(9)));
    lan.pass(10 * SECOND);
    assert_eq!(lan.said(1), []);
    assert_eq!(lan.taps[&1].counts(), [("unanswered", 2), ("passed_on", 2)]);
}

#[test]
fn nobody_answers_for_the_askers_own_side_or_for_what_no_station_can_have() {
    let mut lan = lan();
    lan.frame(1, &wire::arp_request(mac(1), v4(7), v4(1)));
    for target in [v4(7), v4(255), NOBODY4, Ipv4Addr::BROADCAST, Ipv4Addr::LOCALHOST, Ipv4Addr::new(224, 0, 0, 1)] {
        lan.frame(1, &wire::arp_request(mac(1), v4(1), target));
    }
    lan.frame(1, &wire::arp_request(mac(1), v4(1), Ipv4Addr::new(192, 0, 2, 1)));
    lan.frame(1, &wire::solicitation(mac(1), v6(7), v6(1)));
    lan.frame(1, &wire::solicitation(mac(1), v6(1), Ipv6Addr::LOCALHOST));
    assert_eq!((lan.said(1), lan.said(2)), (vec![], vec![]));
    assert_eq!(lan.count(1, Reason::Unanswered), 10);
    assert_eq!(lan.count(1, Reason::PassedOn), 0);
}

#[test]
fn an_address_that_another_guest_took_by_hand_is_found_through_it_and_then_answered_from_the_table() {
    let mut lan = lan();
    lan.frame(1, &wire::arp_request(mac(1), v4(1), v4(20)));
    assert_eq!(lan.said(2), [arp_request(mac(1), v4(1), v4(20))], "asked in the asker's name");
    lan.frame(2, &wire::arp_reply(mac(2), v4(20), mac(1), v4(1)));
    assert_eq!(lan.said(1), [arp_reply(mac(1), v4(1), mac(2), v4(20))], "the asker is answered at once");
    assert_eq!(lan.owner(v4(20)), Some(2));
    lan.frame(1, &wire::arp_request(mac(1), v4(1), v4(20)));
    assert_eq!((lan.said(1).len(), lan.said(2).len()), (1, 0));

    lan.frame(1, &wire::solicitation(mac(1), v6(1), v6(20)));
    assert_eq!(lan.said(2), [solicitation(mac(1), v6(1), v6(20))]);
    assert_eq!(lan.frame(2, &wire::advertisement(mac(2), (mac(1), v6(1)), v6(20), 0x60)), None);
    assert_eq!(lan.said(1), [advertisement((mac(1), v6(1)), mac(2), v6(20))]);
    assert_eq!(lan.owner(v6(20)), Some(2));
    assert_eq!(lan.taps[&1].counts(), [("arp_answered", 2), ("ndp_answered", 1), ("passed_on", 2)]);
    assert_eq!(lan.taps[&2].counts(), [("asked", 2), ("learned", 2)]);
}

#[test]
fn a_guest_that_asks_again_meanwhile_is_answered_once_and_others_are_asked_once() {
    let mut lan = lan();
    for _ in 0..3 {
        lan.frame(1, &wire::arp_request(mac(1), v4(1), v4(20)));
    }
    assert_eq!(lan.said(2).len(), 1);
    lan.pass(SECOND);
    lan.frame(1, &wire::arp_request(mac(1), v4(1), v4(20)));
    assert_eq!(lan.said(2).len(), 1, "a second later, once more");
    lan.frame(2, &wire::arp_reply(mac(2), v4(20), mac(1), v4(1)));
    assert_eq!(lan.said(1).len(), 1);
}

/// RFC 5227 section 2.1.1.
#[test]
fn probes_for_a_taken_address_are_answered_and_those_for_a_free_one_are_not() {
    let mut lan = lan();
    lan.frame(1, &wire::arp_request(mac(1), NOBODY4, v4(3)));
    assert_eq!(lan.said(1), [arp_reply(mac(1), NOBODY4, mac(3), v4(3))]);
    lan.frame(1, &wire::arp_request(mac(1), NOBODY4, v4(20)));
    assert_eq!(lan.said(2), [arp_request(mac(1), NOBODY4, v4(20))], "another guest may have it: a probe, too");
    lan.pass(10 * SECOND);
    lan.frame(1, &wire::arp_request(mac(1), v4(20), v4(20)));
    assert_eq!(lan.owner(v4(20)), Some(1), "announced, it is learned");
    assert_eq!(lan.said(1), []);
    assert_eq!(lan.said(2), [arp_request(mac(1), v4(20), v4(20))], "and all hear it: RFC 5227 section 2.3");
}

/// RFC 4862 section 5.4.
#[test]
fn duplicate_address_detection_finds_what_others_have_and_only_that() {
    let mut lan = lan();
    lan.frame(1, &wire::solicitation(mac(1), NOBODY6, v6(3)));
    assert_eq!(lan.said(1), [advertisement(ALL, mac(3), v6(3))], "to all nodes, unsolicited: section 5.4.3");
    lan.frame(1, &wire::solicitation(mac(1), NOBODY6, v6(1)));
    assert_eq!(lan.said(1), [], "its own");
    lan.frame(1, &wire::solicitation(mac(1), NOBODY6, v6(20)));
    assert_eq!(lan.said(2), [solicitation(mac(1), NOBODY6, v6(20))]);
    assert_eq!(lan.owner(v6(20)), None, "an address that is being probed is nobody's yet");
    // Its holder defends it: RFC 4861 section 7.2.4.
    lan.frame(2, &wire::advertisement(mac(2), ALL, v6(20), 0x20));
    assert_eq!(lan.said(1), [advertisement(ALL, mac(2), v6(20))]);
}

/// RFC 4861 section 7.3.1: a cache makes sure by unicast.
#[test]
fn questions_to_one_station_are_answered_as_those_to_all_are() {
    let mut lan = lan();
    let mut frame = wire::solicitation(mac(1), v6(1), v6(3));
    frame[..6].copy_from_slice(&mac(3));
    lan.frame(1, &frame);
    let mut frame = wire::arp_request(mac(1), v4(1), v4(3));
    frame[..6].copy_from_slice(&mac(3));
    lan.frame(1, &frame);
    assert_eq!(lan.said(1), [advertisement((mac(1), v6(1)), mac(3), v6(3)), arp_reply(mac(1), v4(1), mac(3), v4(3))]);
}

/// RFC 4429 section 3.2: an optimistic node does not tell its MAC.
#[test]
fn a_question_without_a_mac_is_answered_to_where_it_came_from() {
    let mut lan = Lan::new();
    lan.tap(1, &[v6(1).into()], false);
    lan.nic(3, &[v6(2).into()]);
    // scapy's.
    let frame = "3333ff00000202000000000a86dd6000000000183afffd000000000000000000000000000001ff0200000000000000000001ff000002\
                 870080a100000000fd000000000000000000000000000002";
    assert_eq!(lan.frame(1, &wire::bytes(frame)), None);
    assert_eq!(lan.said(1), [advertisement((mac(10), v6(1)), mac(3), v6(2))]);
}

#[test]
fn questions_of_what_can_be_no_station_are_malformed_and_unanswered() {
    let mut lan = lan();
    for asker in [Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::LOCALHOST] {
        lan.frame(1, &wire::arp_request(mac(1), asker, v4(3)));
    }
    for asker in [ndp::ALL_NODES, Ipv6Addr::LOCALHOST] {
        lan.frame(1, &wire::solicitation(mac(1), asker, v6(3)));
    }
    assert_eq!((lan.said(1), lan.said(2)), (vec![], vec![]));
    assert_eq!(lan.taps[&1].counts(), [("malformed", 5)]);
}

#[test]
fn what_says_that_another_nics_address_is_elsewhere_is_counted_and_changes_nothing() {
    let mut lan = lan();
    let forged = [
        wire::arp_reply(mac(1), v4(3), mac(2), v4(2)),
        wire::arp_request(mac(1), v4(3), v4(3)),
        wire::advertisement(mac(1), (mac(2), v6(2)), v6(3), 0x60),
        wire::advertisement(mac(1), ALL, v6(3), 0x20),
    ];
    for frame in &forged {
        assert_eq!(lan.frame(1, frame), None);
    }
    assert_eq!(lan.count(1, Reason::Conflict), 4);
    assert_eq!(lan.said(2), [], "nobody hears of it");
    // The announcement is answered as a Linux neighbour would: RFC 5227 section 2.4.
    assert_eq!(lan.said(1), [arp_reply(mac(1), v4(3), mac(3), v4(3))]);
    assert_eq!((lan.owner(v4(3)), lan.owner(v6(3))), (Some(3), Some(3)));

    // A question in another's name is answered, and passed on in nobody's: others would learn from it.
    lan.frame(1, &wire::arp_request(mac(1), v4(3), v4(20)));
    assert_eq!(lan.said(2), [arp_request(mac(1), NOBODY4, v4(20))]);
    // A datagram in another's name goes its way, as on any LAN.
    let frame = wire::udp(mac(1), mac(2), v4(3).into(), v4(2).into());
    assert_eq!(lan.frame(1, &frame).as_deref(), Some(&frame[14..]));
    assert_eq!(lan.count(1, Reason::Conflict), 6);
}

#[test]
fn sources_are_learned_but_for_those_that_can_be_no_stations() {
    let mut lan = lan();
    let never: [IpAddr; 9] = [
        NOBODY4.into(),
        Ipv4Addr::BROADCAST.into(),
        v4(255).into(),
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::new(224, 0, 0, 5).into(),
        Ipv4Addr::new(192, 0, 2, 1).into(),
        Ipv4Addr::new(0, 1, 2, 3).into(),
        v4(3).into(),
        v4(2).into(),
    ];
    for source in never {
        assert!(lan.frame(1, &wire::udp(mac(1), mac(3), source, v4(3).into())).is_some(), "{source} is carried");
    }
    for source in [NOBODY6, Ipv6Addr::LOCALHOST, ndp::ALL_NODES, Ipv4Addr::new(10, 0, 0, 8).to_ipv6_mapped(), v6(3)] {
        assert!(lan.frame(1, &wire::udp(mac(1), mac(3), source.into(), v6(3).into())).is_some());
    }
    assert_eq!(lan.count(1, Reason::Learned), 0);
    for source in [v4(30).into(), v6(30).into(), ndp::link_local(mac(1)).into()] {
        let destination = if IpAddr::is_ipv4(&source) { v4(3).into() } else { v6(3).into() };
        lan.frame(1, &wire::udp(mac(1), mac(3), source, destination));
        assert_eq!(lan.owner(source), Some(1), "{source}");
    }
    assert_eq!(lan.count(1, Reason::Learned), 3);
}

#[test]
fn one_guest_takes_no_more_than_its_share_of_the_table() {
    let mut lan = lan();
    for host in 0..200 {
        lan.frame(1, &wire::udp(mac(1), mac(3), v6(1000 + host).into(), v6(3).into()));
    }
    assert_eq!(lan.count(1, Reason::Learned), LEARNED as u64);
    assert_eq!(lan.count(1, Reason::NotLearned), 200 - LEARNED as u64);
    lan.tables.borrow_mut().room = 0;
    lan.frame(2, &wire::udp(mac(2), mac(3), v6(2000).into(), v6(3).into()));
    assert_eq!(lan.taps[&2].counts(), [("not_learned", 1)], "a full table");
}

#[test]
fn a_learned_address_leaves_the_table_when_it_is_not_heard_for_five_minutes_and_does_not_answer() {
    let mut lan = lan();
    lan.frame(1, &wire::udp(mac(1), mac(3), v4(30).into(), v4(3).into()));
    lan.frame(1, &wire::udp(mac(1), mac(3), v6(30).into(), v6(3).into()));
    lan.pass(AGE - 4 * SECOND);
    assert_eq!(lan.said(1), []);
    lan.pass(SECOND);
    let asked = lan.said(1);
    let voice = [0x82, 0, 0, 0, 0, 1];
    assert_eq!(
        asked,
        [
            arp_request(voice, NOBODY4, v4(30)),
            // Not from nobody: that would make it doubt its address.
            solicitation(voice, ndp::link_local(voice), v6(30)),
        ]
    );
    lan.frame(1, &wire::arp_reply(mac(1), v4(30), voice, NOBODY4));
    lan.pass(SECOND * 3);
    assert_eq!(lan.said(1).len(), 2, "the other is asked twice more");
    assert_eq!((lan.owner(v4(30)), lan.owner(v6(30))), (Some(1), None));
    assert_eq!(lan.count(1, Reason::Forgotten), 1);
    lan.pass(AGE);
    assert_eq!(lan.owner(v4(30)), None);
    assert_eq!(lan.owner(v4(1)), Some(1), "its own stays");
}

#[test]
fn an_address_that_went_from_one_guest_to_another_by_hand_is_the_others_within_a_second() {
    let mut lan = lan();
    lan.frame(1, &wire::udp(mac(1), mac(3), v4(30).into(), v4(3).into()));
    assert_eq!(lan.owner(v4(30)), Some(1));
    lan.pass(5 * SECOND);
    lan.said(2);
    // Guest 2 takes it, and guest 1 has let it go.
    lan.frame(2, &wire::arp_request(mac(2), v4(30), v4(3)));
    assert_eq!(lan.said(1).len(), 1, "the first is asked whether it still has it");
    lan.pass(SECOND);
    assert_eq!(lan.owner(v4(30)), None);
    lan.said(1);
    lan.frame(2, &wire::udp(mac(2), mac(3), v4(30).into(), v4(3).into()));
    assert_eq!(lan.owner(v4(30)), Some(2));
    assert_eq!(lan.said(1), [arp_request(mac(2), v4(30), v4(30))], "and neighbours learn the new MAC");
}

#[test]
fn an_address_that_moves_at_once_is_found_after_a_single_announcement() {
    let mut lan = lan();
    lan.frame(1, &wire::udp(mac(1), mac(3), v4(30).into(), v4(3).into()));
    // As keepalived does it: the old owner is gone without a word, the new one speaks once.
    lan.frame(2, &wire::arp_request(mac(2), v4(30), v4(30)));
    lan.said(2);
    lan.pass(SECOND);
    let asked = lan.said(2);
    let Some(Said::ArpRequest { sender_mac, sender, target, .. }) = asked.first() else { panic!("{asked:?}") };
    lan.frame(2, &wire::arp_reply(mac(2), *target, *sender_mac, *sender));
    assert_eq!(lan.owner(v4(30)), Some(2));
    assert_eq!(lan.said(1).last(), Some(&arp_request(mac(2), v4(30), v4(30))), "and neighbours learn the new MAC");
}

#[test]
fn an_address_that_is_in_use_stays_where_it_is_whoever_else_claims_it() {
    let mut lan = lan();
    lan.frame(1, &wire::udp(mac(1), mac(3), v4(30).into(), v4(3).into()));
    for _ in 0..20 {
        lan.pass(SECOND);
        lan.frame(2, &wire::arp_request(mac(2), v4(30), v4(30)));
        for said in lan.said(1) {
            let Said::ArpRequest { sender_mac, sender, target, .. } = said else { panic!("{said:?}") };
            lan.frame(1, &wire::arp_reply(mac(1), target, sender_mac, sender));
        }
    }
    assert_eq!(lan.owner(v4(30)), Some(1));
    assert_eq!(lan.count(2, Reason::Conflict), 20);
}

#[test]
fn who_probes_for_a_learned_address_hears_from_its_holder_if_that_still_has_it() {
    for holds in [true, false] {
        let mut lan = lan();
        lan.frame(1, &wire::udp(mac(1), mac(3), v6(30).into(), v6(3).into()));
        lan.pass(60 * SECOND);
        lan.frame(2, &wire::solicitation(mac(2), NOBODY6, v6(30)));
        assert_eq!(lan.said(2), [], "not from memory");
        let [Said::Solicitation { from, source, target, .. }] = lan.said(1)[..] else { panic!("its holder is asked") };
        assert_ne!(source, NOBODY6, "not in a way that makes it doubt its address");
        if holds {
            lan.frame(1, &wire::advertisement(mac(1), (from, source), target, 0x60));
            assert_eq!(lan.said(2), [advertisement(ALL, mac(1), v6(30))]);
        }
        // RetransTimer: how long duplicate address detection waits. That its holder let it go may be heard of, but not from
        // nobody: that would say that another wants it, too (RFC 4862 section 5.4.3).
        lan.pass(SECOND);
        let heard = lan.said(2);
        let question = solicitation(mac(1), v6(1), v6(30));
        assert!(heard.is_empty() || !holds && heard == [question], "{heard:?}");
        assert_eq!(lan.owner(v6(30)), holds.then_some(1));
    }
}

#[test]
fn a_guest_that_changes_its_mac_is_followed_and_the_others_are_told() {
    let mut lan = lan();
    let new = [2, 0xaa, 0, 0, 0, 1];
    lan.frame(1, &wire::udp(mac(1), mac(3), v4(30).into(), v4(3).into()));
    lan.frame(1, &wire::arp_request(new, v4(1), v4(3)));
    assert_eq!(lan.said(1), [arp_reply(new, v4(1), mac(3), v4(3))]);
    assert_eq!((lan.tables.borrow().macs[&1], lan.taps[&1].neighbours.mac()), (new, new));
    let told = lan.said(2);
    assert_eq!(
        told,
        [arp_request(new, v4(1), v4(1)), arp_request(new, v4(30), v4(30)), advertisement(ALL, new, v6(1))]
    );
    for destination in [v4(1), v4(30)] {
        let frame = wire::udp(mac(3), mac(1), v4(3).into(), destination.into());
        assert_eq!(lan.datagram(1, &frame[14..]), Way::To(new));
    }
    assert_eq!(lan.count(1, Reason::GuestMoved), 1);
}

#[test]
fn a_guest_that_takes_anothers_mac_or_changes_it_all_the_time_is_not_followed() {
    let mut lan = lan();
    lan.frame(1, &wire::arp_request(mac(3), v4(1), v4(2)));
    assert_eq!((lan.tables.borrow().macs[&1], lan.count(1, Reason::Conflict)), (mac(1), 1));
    for number in 0..100 {
        lan.frame(1, &wire::arp_request([2, 1, 1, 1, 1, number], v4(1), v4(3)));
    }
    assert_eq!(lan.count(1, Reason::GuestMoved), 3);
    assert_eq!(lan.count(1, Reason::RateLimited), 97);
    lan.pass(SECOND);
    lan.frame(1, &wire::arp_request(mac(1), v4(1), v4(3)));
    assert_eq!(lan.tables.borrow().macs[&1], mac(1), "and at last its MAC is what it is");
}

#[test]
fn an_address_that_the_base_gives_to_another_nic_is_announced() {
    let mut lan = lan();
    lan.nic(3, &[v4(30).into(), v6(30).into()]);
    for address in [IpAddr::from(v4(30)), v6(30).into()] {
        for tap in lan.taps.values_mut() {
            let event = Event::Told { address, mac: mac(3), news: News::Moved };
            tap.neighbours.hear(event, &mut tap.side, lan.now);
        }
    }
    assert_eq!(lan.said(1), [arp_request(mac(3), v4(30), v4(30)), advertisement(ALL, mac(3), v6(30))]);
    // News that the tables do not confirm are old.
    let tap = lan.taps.get_mut(&1).unwrap();
    tap.neighbours.hear(Event::Told { address: v4(77).into(), mac: mac(3), news: News::Moved }, &mut tap.side, lan.now);
    assert_eq!(lan.said(1), []);
}

/// RFC 4861 section 7.2.5: a router that says it is none leaves default routes.
#[test]
fn a_router_that_the_guest_was_told_of_is_said_to_be_one() {
    let mut lan = lan();
    let router = ndp::link_local(mac(3));
    lan.nic(3, &[router.into()]);
    let ask = wire::solicitation(mac(1), v6(1), router);
    let flag = |lan: &mut Lan| {
        lan.frame(1, &ask);
        let [Said::Advertisement { flags, .. }] = lan.said(1)[..] else { panic!("one answer") };
        flags.router
    };
    assert!(!flag(&mut lan));
    let advertised = wire::router_advertisement(mac(3), router, 1800);
    assert_eq!(lan.datagram(1, &advertised[14..]), Way::To(ALL.0), "it passes");
    assert!(flag(&mut lan));
    lan.pass(1799 * SECOND);
    assert!(flag(&mut lan));
    lan.pass(SECOND);
    assert!(!flag(&mut lan), "its time is over");
    lan.datagram(1, &advertised[14..]);
    lan.datagram(1, &wire::router_advertisement(mac(3), router, 0)[14..]);
    assert!(!flag(&mut lan), "it has resigned");
}

#[test]
fn an_answer_to_a_question_that_the_lan_carried_as_a_datagram_is_carried_back() {
    let mut lan = lan();
    // Guest 3 speaks IP, and asked guest 1 in a datagram of its own.
    let answer = wire::advertisement(mac(1), ([2, 9, 9, 9, 9, 9], v6(3)), v6(1), 0x60);
    assert_eq!(lan.frame(1, &answer).as_deref(), Some(&answer[14..]));
    // Guest 2 was told already: its driver asked for it, and took the first answer of two.
    let answer = wire::advertisement(mac(1), (mac(2), v6(2)), v6(1), 0x60);
    assert_eq!(lan.frame(1, &answer), None);
    let news = wire::advertisement(mac(1), ALL, v6(1), 0x20);
    assert_eq!(lan.frame(1, &news), None, "news are told in the drivers' own words");
    assert_eq!(lan.said(2), [advertisement(ALL, mac(1), v6(1))]);
}

#[test]
fn a_flood_of_questions_reaches_others_a_hundred_times_a_second() {
    let mut lan = lan();
    for second in 0..5 {
        for host in 0..1000u16 {
            lan.frame(1, &wire::solicitation(mac(1), v6(1), v6(1000 + second * 1000 + host)));
            lan.now += SECOND / 1000;
        }
    }
    let heard = lan.said(2).len();
    assert!((500..=550).contains(&heard), "{heard}");
    assert_eq!(lan.count(1, Reason::PassedOn), heard as u64);
    assert_eq!(lan.count(1, Reason::RateLimited), 5000 - heard as u64);
}

#[test]
fn groups_and_broadcasts_go_to_their_macs_and_all_else_to_the_guests() {
    let mut lan = lan();
    let way = |lan: &mut Lan, from: IpAddr, to: IpAddr| lan.datagram(1, &wire::udp(mac(3), mac(1), from, to)[14..]);
    assert_eq!(way(&mut lan, v4(3).into(), v4(1).into()), Way::To(mac(1)));
    assert_eq!(way(&mut lan, v4(3).into(), Ipv4Addr::new(192, 0, 2, 9).into()), Way::To(mac(1)), "as a gateway");
    assert_eq!(way(&mut lan, v4(3).into(), v4(255).into()), Way::To(BROADCAST));
    assert_eq!(way(&mut lan, v4(3).into(), Ipv4Addr::BROADCAST.into()), Way::To(BROADCAST));
    assert_eq!(way(&mut lan, v4(3).into(), Ipv4Addr::new(224, 0, 0, 251).into()), Way::To([1, 0, 0x5e, 0, 0, 251]));
    assert_eq!(way(&mut lan, v6(3).into(), ndp::ALL_NODES.into()), Way::To(ALL.0));
    assert!(lan.taps[&1].neighbours.is_plain());
    // An address of another station behind it, with a MAC of its own.
    lan.frame(1, &wire::arp_request([2, 7, 7, 7, 7, 7], v4(40), v4(3)));
    assert_eq!(way(&mut lan, v4(3).into(), v4(40).into()), Way::To([2, 7, 7, 7, 7, 7]));
    assert_eq!(way(&mut lan, v4(3).into(), v4(1).into()), Way::To(mac(1)));
    assert!(!lan.taps[&1].neighbours.is_plain());
}
