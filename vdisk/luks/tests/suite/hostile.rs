//! Headers by someone who means harm, or by a failing disk: errors that name the field, never a panic, a hang or a
//! flood of memory.

use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vdisk_luks::{ErrorKind, Header, Health, Limits, Luks1, VolumeKey};

use crate::{CHEAP, header};

const COPY: usize = 16384;

/// The JSON of the primary copy.
fn json_of(bytes: &[u8]) -> Value {
    let area = &bytes[4096..COPY];
    let len = area.iter().position(|&b| b == 0).unwrap();
    serde_json::from_slice(&area[..len]).unwrap()
}

/// Makes the checksum of the copy at `at` right.
fn reseal(bytes: &mut [u8], at: usize) {
    bytes[at + 448..at + 512].fill(0);
    let sum = Sha256::digest(&bytes[at..at + COPY]);
    bytes[at + 448..at + 480].copy_from_slice(&sum);
}

/// Both copies with another text, checksums right.
fn forge_text(bytes: &[u8], text: &[u8]) -> Vec<u8> {
    let mut forged = bytes.to_vec();
    for at in [0, COPY] {
        forged[at + 4096..at + COPY].fill(0);
        forged[at + 4096..at + 4096 + text.len()].copy_from_slice(text);
        reseal(&mut forged, at);
    }
    forged
}

fn forge(bytes: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut json = json_of(bytes);
    edit(&mut json);
    forge_text(bytes, &serde_json::to_vec(&json).unwrap())
}

/// Sets the value at a JSON pointer; removes it when `None`.
fn put(json: &mut Value, pointer: &str, value: Option<Value>) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = json.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => drop(parent.insert(name.to_owned(), value)),
        None => drop(parent.remove(name)),
    }
}

#[test]
fn every_bad_field_is_named() {
    let (h, key) = header(b"one");
    let mut h = h;
    h.add_key(&key, b"two", &CHEAP).unwrap();
    let good = h.bytes();
    let cases: &[(&str, Value, &str)] = &[
        ("/keyslots", json!([]), "keyslots"),
        ("/keyslots/x", json!({}), "keyslots.x"),
        ("/keyslots/32", json!({}), "keyslots.32"),
        ("/keyslots/00", json!({}), "keyslots.00"),
        ("/keyslots/0", json!(7), "keyslots.0"),
        ("/keyslots/0/type", json!(7), "keyslots.0.type"),
        ("/keyslots/0/key_size", json!("64"), "keyslots.0.key_size"),
        ("/keyslots/0/key_size", json!(-1), "keyslots.0.key_size"),
        ("/keyslots/0/key_size", json!(0), "keyslots.0.af.stripes"),
        (
            "/keyslots/0/key_size",
            json!(4294967295u32),
            "keyslots.0.af.stripes",
        ),
        ("/keyslots/0/priority", json!(3), "keyslots.0.priority"),
        (
            "/keyslots/0/area/offset",
            json!(32768),
            "keyslots.0.area.offset",
        ),
        (
            "/keyslots/0/area/offset",
            json!("-1"),
            "keyslots.0.area.offset",
        ),
        (
            "/keyslots/0/area/offset",
            json!(" 32768"),
            "keyslots.0.area.offset",
        ),
        ("/keyslots/0/area/offset", json!("0"), "keyslots.0.area"),
        (
            "/keyslots/0/area/offset",
            json!("18446744073709551615"),
            "keyslots.0.area",
        ),
        (
            "/keyslots/0/area/offset",
            json!("18446744073709551616"),
            "keyslots.0.area.offset",
        ),
        ("/keyslots/0/area/offset", json!("32769"), "keyslots.1.area"),
        ("/keyslots/1/area/offset", json!("32768"), "keyslots.1.area"),
        ("/keyslots/0/area/size", json!("258049"), "keyslots.1.area"),
        (
            "/keyslots/0/area/size",
            json!("18446744073709551615"),
            "keyslots.0.area",
        ),
        (
            "/keyslots/0/area/size",
            json!("255999"),
            "keyslots.0.af.stripes",
        ),
        ("/keyslots/0/af/stripes", json!(0), "keyslots.0.af.stripes"),
        (
            "/keyslots/0/af/stripes",
            json!(4294967295u32),
            "keyslots.0.af.stripes",
        ),
        ("/keyslots/0/kdf/type", Value::Null, "keyslots.0.kdf.type"),
        ("/keyslots/0/kdf/time", json!(0), "keyslots.0.kdf.time"),
        ("/keyslots/0/kdf/memory", json!(1), "keyslots.0.kdf.memory"),
        ("/keyslots/0/kdf/cpus", json!(0), "keyslots.0.kdf.cpus"),
        (
            "/keyslots/0/kdf/cpus",
            json!(4294967295u32),
            "keyslots.0.kdf.cpus",
        ),
        ("/keyslots/0/kdf/salt", json!("AAAA"), "keyslots.0.kdf"),
        ("/keyslots/0/kdf/salt", json!("!"), "keyslots.0.kdf.salt"),
        ("/tokens", json!("x"), "tokens"),
        (
            "/tokens/0",
            json!({"type": "x", "keyslots": ["9"]}),
            "tokens.0.keyslots",
        ),
        ("/tokens/0", json!({"keyslots": []}), "tokens.0"),
        ("/segments/0/size", json!("-1"), "segments.0.size"),
        ("/segments/0/size", json!("0"), "segments.0.size"),
        ("/segments/0/offset", json!("x"), "segments.0.offset"),
        (
            "/segments/0/sector_size",
            json!(513),
            "segments.0.sector_size",
        ),
        (
            "/segments/0/sector_size",
            json!(8192),
            "segments.0.sector_size",
        ),
        ("/segments/0/iv_tweak", json!(0), "segments.0.iv_tweak"),
        ("/digests/0/keyslots", json!(["0"]), "keyslots.1"),
        (
            "/digests/0/keyslots",
            json!(["0", "1", "5"]),
            "digests.0.keyslots",
        ),
        ("/digests/0/segments", json!(["1"]), "digests.0.segments"),
        ("/digests/0/digest", json!(""), "digests.0.digest"),
        ("/digests/0/digest", json!("AAAA"), "digests.0.digest"),
        ("/digests/0/iterations", json!(0), "digests.0.iterations"),
        ("/config/json_size", json!("16384"), "config.json_size"),
        (
            "/config/json_size",
            json!("18446744073709551615"),
            "config.json_size",
        ),
        ("/config/keyslots_size", json!("1"), "config.keyslots_size"),
        ("/config/keyslots_size", json!("0"), "keyslots.0.area"),
        (
            "/config/keyslots_size",
            json!("1099511627776"),
            "config.keyslots_size",
        ),
        ("/config/requirements", json!([]), "config.requirements"),
        (
            "/config/requirements",
            json!({"mandatory": [1]}),
            "config.requirements.mandatory",
        ),
    ];
    for (pointer, value, field) in cases {
        let error = Header::parse(&forge(&good, |json| {
            put(json, pointer, Some(value.clone()))
        }))
        .unwrap_err();
        assert_eq!(
            (error.kind(), error.field()),
            (ErrorKind::Corrupt, *field),
            "{pointer} = {value}"
        );
    }
    let required = [
        "/keyslots",
        "/tokens",
        "/segments",
        "/digests",
        "/config",
        "/keyslots/0/type",
        "/keyslots/0/key_size",
        "/keyslots/0/area",
        "/keyslots/0/area/offset",
        "/keyslots/0/area/size",
        "/keyslots/0/af",
        "/keyslots/0/kdf",
        "/keyslots/0/kdf/salt",
        "/keyslots/0",
        "/segments/0/type",
        "/segments/0/offset",
        "/segments/0/size",
        "/segments/0/iv_tweak",
        "/segments/0",
        "/digests/0/type",
        "/digests/0/salt",
        "/digests/0",
        "/config/json_size",
        "/config/keyslots_size",
    ];
    for pointer in required {
        let error = Header::parse(&forge(&good, |json| put(json, pointer, None))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{pointer}");
    }
}

#[test]
fn what_is_unknown_is_refused_by_name_or_kept() {
    let (h, key) = header(b"one");
    let error = Header::parse(&forge(&h.bytes(), |json| {
        put(
            json,
            "/config/requirements",
            Some(json!({"mandatory": ["quantum-reencrypt"]})),
        );
    }))
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("quantum-reencrypt"), "{error}");

    // Slots of tomorrow do not stop today's.
    for (pointer, value) in [
        (
            "/keyslots/0/kdf",
            json!({"type": "argon9", "salt": "AAAAAAAAAAAAAAAAAAAAAA=="}),
        ),
        ("/keyslots/0/af/hash", json!("blake9")),
        ("/keyslots/0/area/encryption", json!("twofish-xts-plain64")),
        ("/keyslots/0/type", json!("reencrypt")),
        ("/keyslots/0/key_size", json!(32)),
        ("/digests/0/type", json!("other")),
    ] {
        let header = Header::parse(&forge(&h.bytes(), |json| {
            put(json, pointer, Some(value.clone()))
        }))
        .unwrap();
        assert_eq!(
            header.unlock(b"one").unwrap_err().kind(),
            ErrorKind::Unsupported,
            "{pointer}"
        );
    }

    // Members without meaning to us outlive our edits.
    let marks = [
        "/mark",
        "/keyslots/0/mark",
        "/keyslots/0/area/mark",
        "/digests/0/mark",
        "/segments/0/mark",
        "/config/flags",
    ];
    let bytes = forge(&h.bytes(), |json| {
        marks
            .iter()
            .for_each(|p| put(json, p, Some(json!(["allow-discards"]))))
    });
    let mut header = Header::parse(&bytes).unwrap();
    header.add_key(&key, b"two", &CHEAP).unwrap();
    header.remove_slot(1, false).unwrap();
    header.set_label("x").unwrap();
    let json = json_of(&header.bytes());
    for pointer in marks {
        assert_eq!(
            json.pointer(pointer),
            Some(&json!(["allow-discards"])),
            "{pointer}"
        );
    }
}

#[test]
fn a_slot_to_be_ignored_is_opened_by_number_only_and_a_favourite_first() {
    let (mut h, key) = header(b"same");
    h.add_key(&key, b"same", &CHEAP).unwrap();
    let bytes = forge(&h.bytes(), |json| {
        put(json, "/keyslots/1/priority", Some(json!(2)))
    });
    assert_eq!(
        Header::parse(&bytes)
            .unwrap()
            .unlock_slot(b"same")
            .unwrap()
            .0,
        1
    );
    let bytes = forge(&h.bytes(), |json| {
        put(json, "/keyslots/0/priority", Some(json!(0)));
        put(json, "/keyslots/1/priority", Some(json!(0)));
    });
    let ignored = Header::parse(&bytes).unwrap();
    assert_eq!(
        ignored.unlock(b"same").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert!(ignored.unlock_with_slot(1, b"same").unwrap() == key);
}

#[test]
fn json_bombs_and_rubbish_are_refused() {
    let (h, _) = header(b"one");
    let good = h.bytes();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let wide = format!("{{\"a\":[{}0]}}", "0,".repeat(6000));
    for text in [
        "",
        "[]",
        "{",
        "{}",
        "null",
        "{\"config\":1}",
        " {}",
        "{}\0{}",
        "{\"\u{fffd}\":1}x",
        &deep,
        &wide,
    ] {
        let error = Header::parse(&forge_text(&good, text.as_bytes())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{text:.20}");
    }
    let unterminated = vec![b' '; COPY - 4096];
    assert_eq!(
        Header::parse(&forge_text(&good, &unterminated))
            .unwrap_err()
            .kind(),
        ErrorKind::Corrupt
    );
    let mut trailing = good.clone();
    for at in [0, COPY] {
        trailing[at + COPY - 1] = 1;
        reseal(&mut trailing, at);
    }
    assert_eq!(
        Header::parse(&trailing).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn the_good_copy_is_found() {
    let (h, key) = header(b"one");
    let good = h.bytes();
    // Each field of the binary part damaged, in one copy and in both.
    for (field, kind) in [
        (0, ErrorKind::NotLuks),
        (7, ErrorKind::Unsupported),
        (8, ErrorKind::Corrupt),
        (14, ErrorKind::Corrupt),
        (23, ErrorKind::Corrupt),
        (24, ErrorKind::Corrupt),
        (72, ErrorKind::Unsupported),
        (104, ErrorKind::Corrupt),
        (168, ErrorKind::Corrupt),
        (208, ErrorKind::Corrupt),
        (263, ErrorKind::Corrupt),
        (300, ErrorKind::Corrupt),
        (448, ErrorKind::Corrupt),
        (600, ErrorKind::Corrupt),
        (4100, ErrorKind::Corrupt),
        (COPY - 1, ErrorKind::Corrupt),
    ] {
        let mut both = good.clone();
        for (at, health) in [(0, Health::PrimaryStale), (COPY, Health::SecondaryStale)] {
            let mut one = good.clone();
            one[at + field] ^= 0x40;
            both[at + field] ^= 0x40;
            let header = Header::parse(&one).unwrap();
            assert_eq!(header.health(), health, "{field}");
            assert!(header.unlock(b"one").unwrap() == key);
        }
        assert_eq!(Header::parse(&both).unwrap_err().kind(), kind, "{field}");
    }
    // Text fields that are no text, under a right checksum.
    for field in [24..72, 72..104, 168..208, 208..256] {
        let mut bytes = good.clone();
        for at in [0, COPY] {
            bytes[at + field.start..at + field.end].fill(0xff);
            reseal(&mut bytes, at);
        }
        assert_eq!(
            Header::parse(&bytes).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
    }
}

#[test]
fn the_newest_copy_wins_and_the_last_number_is_an_error() {
    let (h, _) = header(b"one");
    for (at, health) in [(0, Health::SecondaryStale), (COPY, Health::PrimaryStale)] {
        let mut bytes = h.bytes();
        bytes[at + 16..at + 24].fill(0xff);
        reseal(&mut bytes, at);
        let mut header = Header::parse(&bytes).unwrap();
        assert_eq!((header.health(), header.seqid()), (health, u64::MAX));
        assert_eq!(
            header.set_label("x").unwrap_err().kind(),
            ErrorKind::Corrupt
        );
    }
}

#[test]
fn key_material_that_a_cut_left_behind_is_wiped() {
    let (mut h, key) = header(b"one");
    h.add_key(&key, b"two", &CHEAP).unwrap();
    let before = h.bytes();
    h.persisted();
    let area = h.slots()[1].area_offset;
    h.remove_slot(1, false).unwrap();
    // Only the primary copy made it to the file.
    let mut cut = before.clone();
    cut[..COPY].copy_from_slice(&h.bytes()[..COPY]);
    let found = Header::parse(&cut).unwrap();
    assert_eq!(found.health(), Health::SecondaryStale);
    assert_ne!(
        found.bytes()[area as usize..][..4096],
        before[area as usize..][..4096]
    );
    let wiped = |step: &vdisk_luks::Step| matches!(step, vdisk_luks::Step::Write { offset, .. } if *offset == area);
    assert!(found.update_plan().iter().any(wiped));
}

#[test]
fn a_short_file_is_called_short() {
    let (h, _) = header(b"one");
    let good = h.bytes();
    for len in [
        0,
        1,
        5,
        6,
        7,
        100,
        511,
        512,
        4095,
        4096,
        16383,
        16384,
        32768,
        100_000,
        good.len() - 1,
    ] {
        let kind = Header::parse(&good[..len]).unwrap_err().kind();
        let expected = if len < 6 {
            ErrorKind::NotLuks
        } else {
            ErrorKind::Truncated
        };
        assert_eq!(kind, expected, "{len}");
    }
    let mut long = good.clone();
    long.resize(good.len() + 12345, 7);
    assert_eq!(Header::parse(&long).unwrap().bytes(), good);
}

#[test]
fn absurd_costs_are_refused_before_they_are_paid() {
    let (h, _) = header(b"one");
    let costs = [
        (
            "/keyslots/0/kdf/memory",
            json!(u32::MAX),
            "keyslots.0.kdf.memory",
        ),
        (
            "/keyslots/0/kdf/time",
            json!(u32::MAX),
            "keyslots.0.kdf.time",
        ),
        (
            "/digests/0/iterations",
            json!(u32::MAX),
            "digests.0.iterations",
        ),
    ];
    for (pointer, value, field) in costs {
        let header =
            Header::parse(&forge(&h.bytes(), |json| put(json, pointer, Some(value)))).unwrap();
        let error = header.unlock(b"one").unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::TooCostly, field));
    }
}

fn poke(bytes: &[u8]) {
    let small = Limits {
        memory_kib: 64,
        argon2_work_kib: 512,
        pbkdf2_rounds: 20_000,
    };
    if let Ok(mut header) = Header::parse(bytes) {
        header.set_limits(small);
        let _ = (
            header.unlock(b"one"),
            header.check_disk_layout(),
            header.slots(),
            header.tokens().len(),
        );
        let _ = header.change_key(b"one", b"two", &CHEAP);
        let _ = header.remove_slot(0, true);
        let _ = header.add_token(json!({"type": "x", "keyslots": []}));
        let plan = header.update_plan();
        assert!(plan.len() < 40);
        if !plan.is_empty() {
            Header::parse(&header.bytes()).unwrap();
        }
    }
    if let Ok(mut twin) = Luks1::parse(bytes) {
        twin.set_limits(small);
        let _ = twin.unlock(b"one");
    }
}

/// Any JSON value, with a liking for what headers contain.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(|n| Value::from(n.to_string())),
        (0u64..64).prop_map(|n| Value::from((n * 4096).to_string())),
        (0u32..100).prop_map(Value::from),
        prop::sample::select(vec![
            "luks2", "raw", "argon2id", "pbkdf2", "sha512", "dynamic", "crypt", "linear", "",
            "AAAA"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[0-9]|type|size|offset", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Pointers to everything inside a value.
fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
    let mut visit = |key: &str, child: &Value| {
        let pointer = format!("{at}/{key}");
        pointers(child, &pointer, out);
        out.push(pointer);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, child)| visit(key, child)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(i, child)| visit(&i.to_string(), child)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Values replaced anywhere in the JSON, under a right checksum.
    #[test]
    fn mutated_json_never_panics(edits in prop::collection::vec((any::<prop::sample::Index>(), any_value()), 1..4)) {
        let (h, _) = header(b"one");
        let mut json = json_of(&h.bytes());
        for (index, value) in edits {
            let mut all = Vec::new();
            pointers(&json, "", &mut all);
            if !all.is_empty() && let Some(place) = json.pointer_mut(index.get::<String>(&all)) {
                *place = value;
            }
        }
        let text = serde_json::to_vec(&json).unwrap();
        prop_assume!(text.len() < COPY - 4096);
        poke(&forge_text(&h.bytes(), &text));
    }

    /// Bytes flipped anywhere in the copies, checksums right or not.
    #[test]
    fn mutated_bytes_never_panic(flips in prop::collection::vec((0usize..COPY, any::<u8>()), 1..8), honest: bool, cut: Option<u16>) {
        let (h, _) = header(b"one");
        let mut bytes = h.bytes();
        for at in [0, COPY] {
            for (position, value) in &flips {
                // Most of a copy is padding: favour the fields and the text.
                bytes[at + if position % 2 == 0 { position % 264 } else { 4096 + position % 900 }] = *value;
            }
            if honest {
                reseal(&mut bytes, at);
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut as usize * 17);
        }
        poke(&bytes);
    }

    /// The same for the twin.
    #[test]
    fn mutated_twins_never_panic(flips in prop::collection::vec((0usize..592, any::<u8>()), 1..6), cut in 0usize..300_000) {
        let mut bytes = Luks1::export(&VolumeKey::from_bytes(&(0..64).collect::<Vec<u8>>()).unwrap(), b"one", 1000).unwrap();
        for (position, value) in flips {
            bytes[position] = value;
        }
        poke(&bytes);
        poke(&bytes[..cut]);
    }
}
