//! The route table against a plain list, against the full Internet table, and with a writer beside readers.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use proptest::prelude::*;
use vnet_tables::lpm::{LEAST_WORDS, Listing, Prefix, PrefixError, Route, RouteTable, RouteWriter, RoutesError};

fn words(count: usize) -> Vec<AtomicU32> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

fn shared(image: Vec<u32>) -> Vec<AtomicU32> {
    image.into_iter().map(AtomicU32::new).collect()
}

/// The oracle: a plain map of prefixes; a look-up asks every length, longest first.
#[derive(Default)]
struct Plain {
    routes: HashMap<Prefix, u16>,
    lengths: BTreeMap<(bool, u8), usize>,
}

fn cut(address: IpAddr, length: u8) -> Prefix {
    match address {
        IpAddr::V4(address) => {
            let mask = if length == 0 { 0 } else { u32::MAX << (32 - length) };
            Prefix::V4(address.to_bits() & mask, length)
        }
        IpAddr::V6(address) => {
            let mask = if length == 0 { 0 } else { u128::MAX << (128 - length) };
            Prefix::V6(address.to_bits() & mask, length)
        }
    }
}

impl Plain {
    fn set(&mut self, prefix: Prefix, class: u16) -> Option<u16> {
        let lengths = self.lengths.entry((matches!(prefix, Prefix::V6(..)), prefix.length())).or_default();
        let before = if class == 0 { self.routes.remove(&prefix) } else { self.routes.insert(prefix, class) };
        match (before, class) {
            (None, 1..) => *lengths += 1,
            (Some(_), 0) => *lengths -= 1,
            _ => {}
        }
        before
    }

    fn look_up(&self, address: IpAddr) -> (u16, Option<Prefix>) {
        let family = self.lengths.range((address.is_ipv6(), 0)..=(address.is_ipv6(), 128)).rev();
        for (&(_, length), &count) in family {
            let prefix = cut(address, length);
            if let Some(&class) = self.routes.get(&prefix).filter(|_| count > 0) {
                return (class, Some(prefix));
            }
        }
        (0, None)
    }
}

fn look_up(table: RouteTable<'_>, address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(address) => table.look_up4(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            table.look_up6((bits >> 64) as u64, bits as u64)
        }
    }
}

fn host(address: IpAddr) -> Prefix {
    Prefix::new(address, if address.is_ipv4() { 32 } else { 128 }).expect("an address has all its bits")
}

/// Addresses that share much, so that prefixes nest and neighbours meet.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (any::<u32>(), 0u32..33).prop_map(|(bits, keep)| {
            let mask = u32::MAX.checked_shr(keep).unwrap_or(0);
            IpAddr::from((0x0a5a_6964 & !mask | bits & mask).to_be_bytes())
        }),
        (any::<u128>(), 0u32..129).prop_map(|(bits, keep)| {
            let mask = u128::MAX.checked_shr(keep).unwrap_or(0);
            let base = 0x2001_0db8_5a69_0000_0123_4567_89ab_cdef_u128;
            IpAddr::from((base & !mask | bits & mask).to_be_bytes())
        }),
    ]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), any::<u8>())
        .prop_map(|(address, length)| cut(address, length % if address.is_ipv4() { 33 } else { 129 }))
}

#[derive(Clone, Debug)]
enum Change {
    Insert(Prefix, u16),
    Remove(Prefix),
    RemoveOld(prop::sample::Index),
    Load(Vec<(Prefix, u16)>),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (prefix(), prop_oneof![1u16..4, 1u16..]).prop_map(|(prefix, class)| Change::Insert(prefix, class)),
        1 => prefix().prop_map(Change::Remove),
        6 => any::<prop::sample::Index>().prop_map(Change::RemoveOld),
        1 => prop::collection::vec((prefix(), 1u16..9), 0..60).prop_map(Change::Load),
    ]
}

fn edges(prefix: Prefix) -> [IpAddr; 4] {
    match prefix {
        Prefix::V4(first, length) => {
            let last = first | u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|bits| IpAddr::from(bits.to_be_bytes()))
        }
        Prefix::V6(first, length) => {
            let last = first | u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|bits| IpAddr::from(bits.to_be_bytes()))
        }
    }
}

fn agree(writer: &RouteWriter<'_>, plain: &Plain, address: IpAddr) -> Result<(), TestCaseError> {
    let (class, prefix) = plain.look_up(address);
    prop_assert_eq!(look_up(writer.table(), address), class, "{}", address);
    prop_assert_eq!(
        writer.longest(host(address)).map(|route| (route.class, route.prefix)),
        prefix.map(|it| (class, it))
    );
    Ok(())
}

fn sorted(plain: &Plain) -> Vec<Route> {
    let mut routes: Vec<Route> = plain.routes.iter().map(|(&prefix, &class)| Route { prefix, class }).collect();
    routes.sort_unstable();
    routes
}

/// The changes, checked after each; `rest` 0 has freed words used again at once.
fn follow(changes: Vec<Change>, extra: &[IpAddr], rest: u32, before: &[Route]) -> Result<(), TestCaseError> {
    let memory = words(1 << 21);
    let mut writer = RouteWriter::with_rest(&memory, rest).expect("enough words");
    let mut plain = Plain::default();
    writer.load(before.iter().copied()).expect("room");
    for route in before {
        plain.set(route.prefix, route.class);
    }
    for change in changes {
        let mut look_at = extra.to_vec();
        match change {
            Change::Insert(prefix, class) => {
                let was = writer.insert(Route { prefix, class }).expect("room");
                prop_assert_eq!(was, plain.set(prefix, class));
                look_at.extend(edges(prefix));
            }
            Change::Remove(prefix) => {
                let was = writer.remove(prefix).expect("room");
                prop_assert_eq!(was, plain.set(prefix, 0));
                look_at.extend(edges(prefix));
            }
            Change::RemoveOld(index) => {
                let routes = sorted(&plain);
                if !routes.is_empty() {
                    let old = index.get(&routes);
                    prop_assert_eq!(writer.remove(old.prefix).expect("room"), plain.set(old.prefix, 0));
                    look_at.extend(edges(old.prefix));
                }
            }
            Change::Load(routes) => {
                plain = Plain::default();
                for &(prefix, class) in &routes {
                    plain.set(prefix, class);
                }
                writer.load(routes.iter().map(|&(prefix, class)| Route { prefix, class })).expect("room");
                look_at.extend(routes.iter().flat_map(|&(prefix, _)| edges(prefix)));
            }
        }
        for address in look_at {
            agree(&writer, &plain, address)?;
        }
    }
    for route in sorted(&plain) {
        for address in edges(route.prefix) {
            agree(&writer, &plain, address)?;
        }
    }
    prop_assert_eq!(writer.routes().collect::<Vec<_>>(), sorted(&plain));
    let counted = writer.anatomy();
    prop_assert_eq!((counted.routes4 + counted.routes6) as usize, plain.routes.len());
    prop_assert_eq!(writer.len(), plain.routes.len());

    // What is kept in a file looks up the same and tells the same routes, and a writer goes on from it.
    let image = shared(writer.image(writer.routes()));
    let listed: Vec<Route> = Listing::of(&image).collect::<Result<_, _>>().expect("a list");
    prop_assert_eq!(&listed, &sorted(&plain));
    for route in &listed {
        for address in edges(route.prefix) {
            prop_assert_eq!(look_up(RouteTable::new(&image), address), plain.look_up(address).0);
        }
    }
    writer.restore(&image).expect("a list").expect("room");
    prop_assert_eq!(writer.routes().collect::<Vec<_>>(), listed);
    Ok(())
}

/// Enough routes for an array in both families, between those that the changes come to.
fn many() -> Vec<Route> {
    (0..3000u32)
        .flat_map(|index| {
            let spread = index.wrapping_mul(0x9e37_79b1);
            let class = (index % 500 + 1) as u16;
            [
                Route { prefix: Prefix::V4(spread & !0xff, 24), class },
                Route { prefix: Prefix::V6(0x2001 << 112 | u128::from(spread) << 64, 64), class },
            ]
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_small_table_agrees_with_a_plain_list_after_every_change(
        changes in prop::collection::vec(change(), 1..60),
        extra in prop::collection::vec(address(), 8),
        rest in prop_oneof![Just(0u32), Just(64), Just(4096)],
    ) {
        follow(changes, &extra, rest, &[])?;
    }

    #[test]
    fn prefixes_are_read_as_written(prefix in prefix()) {
        prop_assert_eq!(prefix.to_string().parse::<Prefix>(), Ok(prefix));
    }

    #[test]
    fn a_damaged_table_answers_something(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..40),
        addresses in prop::collection::vec(address(), 50),
        routes in prop::collection::vec((prefix(), 1u16..), 1..40),
        keep in any::<prop::sample::Index>(),
    ) {
        let memory = words(LEAST_WORDS * 4);
        let mut writer = RouteWriter::new(&memory).expect("enough words");
        writer.load(routes.iter().map(|&(prefix, class)| Route { prefix, class })).expect("room");
        let mut image = writer.image(writer.routes());
        for (index, value) in flips {
            let at = index.index(image.len());
            image[at] ^= value;
        }
        let cut = keep.index(image.len() + 1);
        let image = shared(image);
        for part in [&image[..], &image[..cut]] {
            for &address in &addresses {
                look_up(RouteTable::new(part), address);
            }
            // Ends, and tells nothing that is no route.
            for route in Listing::of(part).take(1 << 20).flatten() {
                prop_assert!(route.class != 0 && Prefix::new(route.prefix.address(), route.prefix.length()).is_ok());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_large_table_agrees_with_a_plain_list_after_every_change(
        changes in prop::collection::vec(change(), 1..40),
        extra in prop::collection::vec(address(), 8),
        rest in prop_oneof![Just(0u32), Just(4096)],
    ) {
        follow(changes, &extra, rest, &many())?;
    }
}

#[test]
fn a_family_grows_into_an_array_and_out_of_it_again() {
    let memory = words(1 << 21);
    let mut writer = RouteWriter::with_rest(&memory, 0).expect("enough words");
    let mut plain = Plain::default();
    let small = writer.anatomy().bytes;
    for route in many() {
        assert_eq!(writer.insert(route).expect("room"), plain.set(route.prefix, route.class));
    }
    assert!(writer.anatomy().bytes > 2 << 20, "two arrays");
    for route in many() {
        assert_eq!(look_up(writer.table(), route.prefix.address()), plain.look_up(route.prefix.address()).0);
    }
    for route in many() {
        assert_eq!(writer.remove(route.prefix).expect("room"), plain.set(route.prefix, 0));
    }
    assert_eq!(writer.anatomy().bytes, small);
    assert!(writer.is_empty());
}

#[test]
fn a_small_table_takes_a_page() {
    let memory = words(1 << 21);
    let mut writer = RouteWriter::new(&memory).expect("enough words");
    for text in ["0.0.0.0/0", "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/31", "::/0", "fd00:1::/64", "fd00:2::/64"] {
        writer.insert(Route { prefix: text.parse().expect("a prefix"), class: 7 }).expect("room");
    }
    assert!(writer.anatomy().extent <= 4096, "{:?}", writer.anatomy());
}

#[test]
fn a_change_without_room_changes_nothing() {
    let memory = words(LEAST_WORDS);
    let mut writer = RouteWriter::with_rest(&memory, 0).expect("enough words");
    let mut plain = Plain::default();
    let routes = many();
    let mut refused = Vec::new();
    for route in &routes {
        match writer.insert(*route) {
            Ok(_) => assert_eq!(plain.set(route.prefix, route.class), None),
            Err(failure) => {
                assert_eq!(failure, RoutesError::Full { bytes: LEAST_WORDS as u64 * 4 });
                refused.push(*route);
            }
        }
    }
    assert!(refused.len() > 100 && plain.routes.len() > 100);
    assert_eq!(writer.load(many()), Err(RoutesError::Full { bytes: LEAST_WORDS as u64 * 4 }));
    assert_eq!(writer.routes().collect::<Vec<_>>(), sorted(&plain));
    for route in &routes {
        assert_eq!(look_up(writer.table(), route.prefix.address()), plain.look_up(route.prefix.address()).0);
    }
    // Room that came free is found again; a removal may have to wait for the room that others leave.
    while !writer.is_empty() {
        let left: Vec<Route> = writer.routes().collect();
        let gone = left.iter().filter(|route| writer.remove(route.prefix).is_ok()).count();
        assert!(gone > 0, "{} routes that cannot be taken out", left.len());
    }
    writer.load(refused.into_iter().take(100)).expect("room");
    assert_eq!(writer.len(), 100);
}

#[test]
fn what_is_no_prefix_is_refused_with_its_reason() {
    let reason = |text: &str| text.parse::<Prefix>().expect_err(text);
    for text in ["", "/8", "10.0.0/8", "10.0.0.0.0/8", "x", "10.0.0.1 /8", "::g/1", "10.0.0.0/8/8 "] {
        let failure = reason(text);
        assert!(matches!(failure, PrefixError::Address | PrefixError::Length(_)), "{text:?}: {failure:?}");
    }
    for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1", "10.0.0.0/8.0", "10.0.0.0/256"] {
        assert_eq!(reason(text), PrefixError::Length(32), "{text}");
    }
    assert_eq!(reason("::/129"), PrefixError::Length(128));
    assert_eq!(reason("10.1.2.3/8"), PrefixError::HostBits("10.0.0.0/8".parse().expect("a prefix")));
    assert_eq!("10.1.2.3".parse::<Prefix>(), Ok(Prefix::V4(0x0a01_0203, 32)));
    let memory = words(LEAST_WORDS);
    let mut writer = RouteWriter::new(&memory).expect("enough words");
    let none = Route { prefix: Prefix::V4(0, 0), class: 0 };
    assert_eq!(writer.insert(none), Err(RoutesError::NoClass));
    assert_eq!(writer.load([none]), Err(RoutesError::NoClass));
    assert_eq!(writer.remove(none.prefix), Ok(None));
    assert!(matches!(RouteWriter::new(&memory[1..]), Err(RoutesError::TooSmall)));
}

/// Two readers look at addresses whose routes a writer changes as fast as it can, freed words used again at once:
/// each address must have one of the classes that it ever has.
#[test]
fn readers_beside_a_writer_see_a_route_of_before_or_after() {
    let memory = words(1 << 20);
    let mut writer = RouteWriter::with_rest(&memory, 0).expect("enough words");
    // Each /24 belongs to itself: its class tells its third octet. A look-up that came into a node of another place
    // would find another octet's class.
    let octets = 64u32;
    let address = |octet: u32| 0x0a00_0000 | octet << 8;
    let class = |octet: u32, turn: u32| (octet + 1 + octets * (turn % 2)) as u16;
    writer.insert(Route { prefix: Prefix::V4(0x0a00_0000, 8), class: 60_000 }).expect("room");
    let done = AtomicBool::new(false);
    let table = writer.table();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let done = &done;
                scope.spawn(move || {
                    let (mut octet, mut own, mut around) = (reader, 0u64, 0u64);
                    while !done.load(Ordering::Relaxed) {
                        octet = (octet * 5 + 1) % octets;
                        let seen = table.look_up4(address(octet) | octet);
                        match seen {
                            60_000 => around += 1,
                            _ if seen == class(octet, 0) || seen == class(octet, 1) => own += 1,
                            other => panic!("10.0.{octet}.0/24 had class {other}"),
                        }
                    }
                    (own, around)
                })
            })
            .collect();
        for turn in 0..60_000u32 {
            let octet = turn.wrapping_mul(2_654_435_761) >> 26;
            let prefix = Prefix::V4(address(octet), 24);
            let deeper = Prefix::V4(address(octet) | octet, 32);
            writer.insert(Route { prefix, class: class(octet, turn) }).expect("room");
            if turn % 3 == 0 {
                writer.insert(Route { prefix: deeper, class: class(octet, turn + 1) }).expect("room");
                writer.remove(deeper).expect("room");
            }
            if turn % 2 == 0 {
                writer.remove(prefix).expect("room");
            }
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            let (own, around) = reader.join().expect("only classes of this address");
            assert!(own > 0 && around > 0, "{own} {around}");
        }
    });
    assert!(writer.anatomy().reuses > 1000);
}

fn internet() -> Option<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/internet-prefixes.txt.gz");
    if !file.exists() {
        eprintln!("skipped: {} is not there", file.display());
        return None;
    }
    let mut gzip = Command::new("gzip").args(["-dc"]).arg(&file).stdout(Stdio::piped()).spawn().expect("gzip");
    let mut text = String::new();
    gzip.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
    assert!(gzip.wait().expect("gzip").success());
    Some(text)
}

#[test]
fn the_full_internet_table_agrees_with_a_plain_list() {
    let Some(text) = internet() else { return };
    let mut plain = Plain::default();
    let mut routes = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let prefix: Prefix = line.parse().expect(line);
        let class = (index as u32).wrapping_mul(2_654_435_761) as u16 | 1;
        plain.set(prefix, class);
        routes.push(Route { prefix, class });
    }
    let memory = words(16 << 20);
    let mut writer = RouteWriter::new(&memory).expect("enough words");
    writer.load(routes.iter().copied()).expect("room");
    let anatomy = writer.anatomy();
    assert!(anatomy.extent < 16 << 20, "{anatomy:?}");
    assert_eq!(writer.len(), plain.routes.len());
    for (index, route) in routes.iter().enumerate() {
        let address = edges(route.prefix)[index % 4];
        assert_eq!(look_up(writer.table(), address), plain.look_up(address).0, "{address}");
    }
    let mut random = 1u32;
    for _ in 0..200_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let address = IpAddr::from(random.to_be_bytes());
        assert_eq!(look_up(writer.table(), address), plain.look_up(address).0, "{address}");
    }
    let image = shared(writer.image(writer.routes()));
    assert!(image.len() * 4 < 16 << 20, "{} bytes with the list", image.len() * 4);
    assert!(Listing::of(&image).map(|route| route.expect("a list")).eq(sorted(&plain)));
    for route in routes.iter().step_by(7) {
        let address = edges(route.prefix)[1];
        assert_eq!(writer.remove(route.prefix), Ok(plain.set(route.prefix, 0)));
        assert_eq!(look_up(writer.table(), address), plain.look_up(address).0, "{address}");
    }
}
