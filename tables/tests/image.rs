//! Images: what was written is read, and whatever is not that, whole and for this machine, is told from it.

use std::io::{self, Cursor};

use proptest::prelude::*;
use vnet_tables::image::{ImageError, Key, Kind, LABEL_BYTES, VERSION, check, check_with, peek, write};
use vnet_tables::plan::{
    Attached, ClassId, ClassKind, ClassSpec, Compiled, Description, Plan, PortChange, PortId, PortSpec, RouterId,
    RouterSpec, compile,
};
use vnet_tables::sync::AtomicU32;
use vnet_tables::{ABI, NetworkId, SlotId};

const KEY: Key = [0xA5; 32];
const PAGE: usize = 4096;

fn written(sections: &[(Kind, &[u32])]) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let bytes = write(&mut out, &KEY, "a test", sections).unwrap();
    assert_eq!(bytes, out.get_ref().len() as u64);
    out.into_inner()
}

fn sample() -> Vec<u8> {
    let plan: Vec<u32> = (0..5000).map(|n: u32| n.wrapping_mul(0x9E37_79B9)).collect();
    written(&[(Kind::Plan, &plan), (Kind::Routes, &[1, 2, 3])])
}

fn words(bytes: &[u8], at: u64, words: u64) -> Vec<u32> {
    let bytes = &bytes[at as usize..][..words as usize * 4];
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
}

/// With a field of the header changed, and the checksum of the header made right again.
fn changed(at: usize, field: &[u8]) -> Vec<u8> {
    let mut bytes = sample();
    bytes[at..at + field.len()].copy_from_slice(field);
    signed(bytes)
}

fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[44..48].fill(0);
    let checksum = crc32fast::hash(&bytes[..PAGE]);
    bytes[44..48].copy_from_slice(&checksum.to_ne_bytes());
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    check(bytes, Some(&KEY)).unwrap_err().to_string()
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        plan in prop::collection::vec(any::<u32>(), 0..3000),
        routes in prop::collection::vec(any::<u32>(), 0..3000),
        label in "\\PC{0,200}",
    ) {
        let mut out = Cursor::new(Vec::new());
        write(&mut out, &KEY, &label, &[(Kind::Routes, &routes), (Kind::Plan, &plan)]).unwrap();
        let bytes = out.into_inner();
        let image = check(&bytes, Some(&KEY)).unwrap();
        prop_assert_eq!(image.bytes, bytes.len() as u64);
        prop_assert_eq!(image.key, KEY);
        prop_assert!(label.starts_with(image.label.as_str()) && image.label.len() + 4 > label.len().min(LABEL_BYTES));
        for (kind, expected) in [(Kind::Plan, plan), (Kind::Routes, routes)] {
            let section = image.section(kind).unwrap();
            prop_assert_eq!(section.at % PAGE as u64, 0);
            prop_assert_eq!(words(&bytes, section.at, section.words), expected);
        }
        prop_assert_eq!(image.section(Kind::Filters), None);
    }

    #[test]
    fn bytes_of_any_kind_are_refused_or_read_and_nothing_else(
        bytes in prop::collection::vec(any::<u8>(), 0..2 * PAGE), count in 0..20_u32, at in 0..512_usize
    ) {
        let _ = check(&bytes, None);
        // With a right beginning and checksum, so that what lies behind them is looked at.
        let mut bytes = changed(40, &count.to_ne_bytes());
        bytes[256 + at] ^= 1 << (count % 8);
        let bytes = signed(bytes);
        if let Ok(image) = check(&bytes, None) {
            prop_assert_eq!(image.bytes, bytes.len() as u64);
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let whole = sample();
    assert!(check(&whole, Some(&KEY)).is_ok());
    // All bits of the header, all of a short section with the zeros behind it, and a sample of the others.
    let header = 0..8 * 768;
    let rest = (8 * 768..8 * whole.len()).step_by(7);
    for bit in header.chain(rest) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(check(&bytes, Some(&KEY)).is_err(), "bit {bit}");
    }
}

#[test]
fn every_shorter_and_every_longer_file_is_found() {
    let whole = sample();
    for length in (0..whole.len()).step_by(101).chain([7, 8, PAGE - 1, PAGE, whole.len() - 1]) {
        let refused = check(&whole[..length], Some(&KEY)).unwrap_err();
        let expected = if length < 8 { "no image" } else { "truncated" };
        assert!(refused.to_string().contains(expected), "{length} bytes: {refused}");
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(matches!(check(&longer, Some(&KEY)), Err(ImageError::TooLong { .. })));
}

#[test]
fn a_file_that_becomes_shorter_while_it_is_checked_is_an_error() {
    let whole = sample();
    let mut reads = 0;
    let shrinking = check_with(whole.len() as u64, Some(&KEY), &mut |at, into| {
        reads += 1;
        if reads > 1 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        into.copy_from_slice(&whole[at as usize..][..into.len()]);
        Ok(())
    });
    assert!(matches!(shrinking, Err(ImageError::System(_))));
}

#[test]
fn each_way_of_being_for_somebody_else_has_its_sentence() {
    assert_eq!(refusal(&changed(0, b"vnet-lan")), "it is no image");
    assert_eq!(refusal(&changed(8, &0x0403_0201_u32.to_ne_bytes())), "it is of a machine of the other byte order");
    let versions = format!("its format has version {}, this vnet has {VERSION}", VERSION + 1);
    assert_eq!(refusal(&changed(12, &(VERSION + 1).to_ne_bytes())), versions);
    let versions = format!("it has ABI version {}, this vnet has {ABI}", ABI - 1);
    assert_eq!(refusal(&changed(16, &(ABI - 1).to_ne_bytes())), versions);
    let machines = refusal(&changed(20, &32_u32.to_ne_bytes()));
    assert!(machines.starts_with("it was compiled on a machine of 32 bits called"), "{machines}");
    let machines = refusal(&changed(24, b"pdp11\0\0\0\0\0\0\0\0\0\0\0"));
    assert!(machines.contains("called \"pdp11\", this one has"), "{machines}");
    assert!(refusal(&changed(64, &[7; 32])).ends_with(&format!("its key is {}", "07".repeat(32))));
}

#[test]
fn a_header_that_says_what_cannot_be_is_damaged_even_where_its_checksum_is_right() {
    let entry = |index: usize, field: usize| 256 + index * 32 + field;
    let cases: [(&str, usize, Vec<u8>); 9] = [
        ("more sections than there can be", 40, 17_u32.to_ne_bytes().into()),
        ("a section that nobody knows", entry(1, 0), 9_u32.to_ne_bytes().into()),
        ("the same section twice", entry(1, 0), 0_u32.to_ne_bytes().into()),
        ("a section that lies in the header", entry(0, 8), 0_u64.to_ne_bytes().into()),
        ("a section that lies in another", entry(1, 8), 4096_u64.to_ne_bytes().into()),
        ("a section that begins at the end of numbers", entry(1, 8), u64::MAX.to_ne_bytes().into()),
        ("a section without end", entry(1, 16), u64::MAX.to_ne_bytes().into()),
        ("a section with more words than it has", entry(1, 16), 5000_u64.to_ne_bytes().into()),
        ("another length", 48, 4096_u64.to_ne_bytes().into()),
    ];
    for (what, at, field) in cases {
        assert_eq!(refusal(&changed(at, &field)), "its header is damaged", "{what}");
    }
}

#[test]
fn a_damaged_section_is_named() {
    let whole = sample();
    let image = check(&whole, None).unwrap();
    for (kind, name) in [(Kind::Plan, "plan"), (Kind::Routes, "routes")] {
        let mut bytes = whole.clone();
        // Of the zeros behind the words.
        bytes[(image.section(kind).unwrap().at + image.section(kind).unwrap().words * 4) as usize] = 1;
        assert_eq!(refusal(&bytes), format!("its section \"{name}\" is damaged"));
    }
}

#[test]
fn the_header_alone_tells_all_but_damage_in_sections() {
    let mut bytes = sample();
    let length = bytes.len() as u64;
    bytes[PAGE] ^= 1;
    let image = peek(&bytes[..PAGE], length, Some(&KEY)).unwrap();
    assert_eq!((image.label.as_str(), image.sections.len()), ("a test", 2));
    assert!(matches!(check(&bytes, Some(&KEY)), Err(ImageError::Section(Kind::Plan))));
    assert!(matches!(peek(&bytes[..PAGE], length - 1, None), Err(ImageError::Truncated { .. })));
    assert!(matches!(peek(&bytes[..PAGE], length, Some(&[0; 32])), Err(ImageError::Key { .. })));
}

#[test]
fn a_file_whose_writer_was_killed_is_no_image() {
    // The header is written last.
    let mut half = sample();
    half[..PAGE].fill(0);
    assert!(matches!(check(&half, None), Err(ImageError::NotAnImage)));
}

#[test]
fn an_image_without_sections_is_its_header() {
    let bytes = written(&[]);
    assert_eq!(bytes.len(), PAGE);
    assert_eq!(check(&bytes, Some(&KEY)).unwrap().sections, []);
}

/// A ring of routers with some chords, a network at each.
fn ring(routers: u32) -> Description {
    let router = RouterSpec { guest: false, present: true };
    let mut description = Description { routers: vec![router; routers as usize], ..Description::default() };
    let port = |router: u32, attached, weight| PortSpec {
        router: RouterId(router as u16),
        attached,
        slot: SlotId(0),
        mtu: 1500,
        weight,
        v4: 0,
        v6: 0,
        up: true,
        present: true,
    };
    let chords = (0..routers).step_by(7).map(|from| (from, from * 3 % routers, 2));
    let links = (0..routers).map(|from| (from, (from + 1) % routers, 1)).chain(chords);
    for (from, to, weight) in links.filter(|(from, to, _)| from != to) {
        let first = description.ports.len() as u32;
        for (router, peer) in [(from, first + 1), (to, first)] {
            description.ports.push(port(router, Attached::Link { peer: PortId(peer) }, weight));
        }
    }
    let none = ClassSpec { kind: ClassKind::Static, parent: ClassId(0), statics: vec![] };
    description.classes.push(none);
    for number in 0..routers {
        let network = NetworkId(number as u16 + 1);
        description.ports.push(port(number, Attached::Network(network), 1));
        description.classes.push(ClassSpec { kind: ClassKind::Network(network), parent: ClassId(0), statics: vec![] });
    }
    description
}

/// What each router does about each class, whatever the flow.
fn decisions(words: &[u32], description: &Description) -> Vec<String> {
    let words: Vec<AtomicU32> = words.iter().copied().map(AtomicU32::new).collect();
    let plan = Plan::new(&words);
    let classes = 1..description.classes.len() as u16;
    let pairs = classes.flat_map(|class| (0..description.routers.len() as u16).map(move |router| (router, class)));
    let flows = |(router, class)| (0..4).map(move |flow| (RouterId(router), ClassId(class), flow * 0x4000_0001));
    pairs.flat_map(flows).map(|(router, class, flow)| format!("{:?}", plan.next(router, class, flow))).collect()
}

#[test]
fn a_plan_out_of_an_image_changes_as_one_that_was_just_compiled() {
    let description = ring(40);
    let mut compiled = compile(&description, None);
    let bytes = written(&[(Kind::Plan, compiled.words())]);
    let section = check(&bytes, Some(&KEY)).unwrap().section(Kind::Plan).unwrap();
    let mut mapped = Compiled::of_words(&description, words(&bytes, section.at, section.words)).unwrap();
    for cut in 0..30 {
        let change = PortChange { port: PortId(cut * 2), up: cut % 3 == 0, weight: 1 + cut };
        compiled.set_ports(&[change]).unwrap();
        mapped.set_ports(&[change]).unwrap();
        assert_eq!(decisions(mapped.words(), &description), decisions(compiled.words(), &description), "cut {cut}");
    }
    let fresh = compile(mapped.description(), None);
    assert_eq!(decisions(mapped.words(), &description), decisions(fresh.words(), &description));
}

#[test]
fn the_words_of_another_plan_are_refused() {
    let description = ring(10);
    let words = compile(&description, None).words().to_vec();
    assert!(Compiled::of_words(&ring(11), words.clone()).is_none());
    let mut heavier = description.clone();
    heavier.ports[3].weight += 1;
    assert!(Compiled::of_words(&heavier, words.clone()).is_none());
    assert!(Compiled::of_words(&description, words[..words.len() / 2].to_vec()).is_none());
    assert!(Compiled::of_words(&description, words).is_some());
}
