//! Keys and tokens come and go.

use serde_json::{Value, json};
use vdisk_luks::{ErrorKind, Hash, Header, Kdf, Limits, Step, VolumeKey};

use crate::{CHEAP, header};

fn reread(header: &Header) -> Header {
    Header::parse(&header.bytes()).unwrap()
}

#[test]
fn keys_come_and_go() {
    let (mut h, key) = header(b"one");
    assert_eq!(
        h.add_key(
            &key,
            b"two",
            &Kdf::Pbkdf2 {
                hash: Hash::Sha512,
                iterations: 1000
            }
        )
        .unwrap(),
        1
    );
    assert_eq!(h.unlock_slot(b"two").unwrap().0, 1);
    assert_eq!(h.change_key(b"one", b"three", &CHEAP).unwrap(), 0);
    let again = reread(&h);
    assert!(again.unlock(b"two").unwrap() == key && again.unlock(b"three").unwrap() == key);
    assert_eq!(
        again.unlock(b"one").unwrap_err().kind(),
        ErrorKind::WrongPassphrase
    );
    assert!(again.unlock_with_slot(1, b"two").unwrap() == key);
    assert_eq!(
        again.unlock_with_slot(1, b"three").unwrap_err().kind(),
        ErrorKind::WrongPassphrase
    );
    assert_eq!(
        again.unlock_with_slot(9, b"two").unwrap_err().kind(),
        ErrorKind::NotFound
    );

    assert_eq!(h.remove_key(b"two").unwrap(), 1);
    assert_eq!(
        h.remove_key(b"two").unwrap_err().kind(),
        ErrorKind::WrongPassphrase
    );
    assert_eq!(
        h.remove_key(b"three").unwrap_err().kind(),
        ErrorKind::LastKey
    );
    assert_eq!(
        h.remove_slot(7, true).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert!(reread(&h).unlock(b"three").unwrap() == key);
    h.remove_slot(0, true).unwrap();
    assert_eq!(
        reread(&h).unlock(b"three").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    // Whoever still has the volume key can come back.
    h.persisted();
    h.add_key(&key, b"four", &CHEAP).unwrap();
    assert!(reread(&h).unlock(b"four").unwrap() == key);
}

#[test]
fn a_stranger_or_empty_key_is_not_added() {
    let (mut h, key) = header(b"one");
    let before = h.bytes();
    let stranger = VolumeKey::random().unwrap();
    assert_eq!(
        h.add_key(&stranger, b"two", &CHEAP).unwrap_err().kind(),
        ErrorKind::KeyMismatch
    );
    assert_eq!(
        h.add_key(&key, b"", &CHEAP).unwrap_err().kind(),
        ErrorKind::Input
    );
    let useless = Kdf::Argon2id {
        time: 0,
        memory_kib: 32,
        lanes: 1,
    };
    assert_eq!(
        h.add_key(&key, b"two", &useless).unwrap_err().kind(),
        ErrorKind::Input
    );
    assert_eq!(
        h.change_key(b"no", b"two", &CHEAP).unwrap_err().kind(),
        ErrorKind::WrongPassphrase
    );
    assert_eq!(
        h.set_label(&"x".repeat(48)).unwrap_err().kind(),
        ErrorKind::Input
    );
    assert_eq!((h.bytes(), h.update_plan()), (before, vec![]));
}

#[test]
fn room_ends_with_an_error_and_no_change() {
    let (mut h, key) = header(b"0");
    for i in 1..4 {
        h.add_key(&key, format!("{i}").as_bytes(), &CHEAP).unwrap();
    }
    let before = h.bytes();
    assert_eq!(
        h.add_key(&key, b"4", &CHEAP).unwrap_err().kind(),
        ErrorKind::NoSpace
    );
    assert_eq!(
        h.change_key(b"0", b"4", &CHEAP).unwrap_err().kind(),
        ErrorKind::NoSpace
    );
    let huge = json!({"type": "medley", "keyslots": [], "filler": "x".repeat(12 << 10)});
    assert_eq!(h.add_token(huge).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(h.bytes(), before);

    // An area given up is not reused before the header that named it is gone from the file.
    h.persisted();
    h.remove_slot(2, false).unwrap();
    assert_eq!(
        h.add_key(&key, b"4", &CHEAP).unwrap_err().kind(),
        ErrorKind::NoSpace
    );
    h.persisted();
    assert_eq!(h.add_key(&key, b"4", &CHEAP).unwrap(), 2);
}

#[test]
fn removed_key_material_is_gone() {
    let (mut h, _) = header(b"one");
    let slot = h.slots()[0].clone();
    let area =
        |h: &Header| h.bytes()[slot.area_offset as usize..][..slot.area_size as usize].to_vec();
    let before = area(&h);
    h.change_key(b"one", b"two", &CHEAP).unwrap();
    let same = area(&h).iter().zip(&before).filter(|(a, b)| a == b).count();
    assert!(
        same < before.len() / 64,
        "{same} of {} bytes survive",
        before.len()
    );
    let last_write = h
        .update_plan()
        .into_iter()
        .rev()
        .find(|step| *step != Step::Sync);
    assert!(matches!(last_write, Some(Step::Write { offset, .. }) if offset == slot.area_offset));
}

#[test]
fn tokens_are_kept_as_they_are() {
    let (mut h, key) = header(b"one");
    let token = json!({"type": "medley-lease", "keyslots": ["0"], "until": 1_800_000_000u64, "deep": [{"ü": null}]});
    assert_eq!(h.add_token(token.clone()).unwrap(), 0);
    assert_eq!(
        h.add_token(json!({"type": "x", "keyslots": []})).unwrap(),
        1
    );
    assert_eq!(
        reread(&h).tokens(),
        [(0, &token), (1, &json!({"type": "x", "keyslots": []}))]
    );
    h.replace_token(1, json!({"type": "y", "keyslots": []}))
        .unwrap();
    h.remove_token(0).unwrap();
    assert_eq!(
        reread(&h).tokens(),
        [(1, &json!({"type": "y", "keyslots": []}))]
    );
    assert_eq!(h.remove_token(0).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        h.replace_token(0, token.clone()).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let bad: [Value; 6] = [
        json!(1),
        json!({}),
        json!({"type": 1, "keyslots": []}),
        json!({"type": "x"}),
        json!({"type": "x", "keyslots": [0]}),
        json!({"type": "x", "keyslots": ["3"]}),
    ];
    for token in bad {
        assert_eq!(h.add_token(token).unwrap_err().kind(), ErrorKind::Input);
    }
    // A token lets go of a slot that is removed.
    h.add_key(&key, b"two", &CHEAP).unwrap();
    h.replace_token(1, token).unwrap();
    h.remove_slot(0, false).unwrap();
    assert_eq!(reread(&h).token(1).unwrap()["keyslots"], json!([]));
}

#[test]
fn the_label_and_the_sequence_number_move() {
    let (mut h, _) = header(b"one");
    let seqid = h.seqid();
    h.set_label("büro").unwrap();
    h.set_label("buero").unwrap();
    assert_eq!((reread(&h).label(), h.seqid()), ("buero", seqid + 1));
    h.persisted();
    h.set_label("").unwrap();
    assert_eq!((reread(&h).label(), h.seqid()), ("", seqid + 2));
    assert_eq!(reread(&h).uuid(), h.uuid());
    assert!(!format!("{h:?}").is_empty());
}

#[test]
fn limits_stop_a_costly_header() {
    let (mut h, key) = header(b"one");
    h.set_limits(Limits {
        memory_kib: 31,
        ..Limits::default()
    });
    let error = h.unlock(b"one").unwrap_err();
    assert_eq!(
        (error.kind(), error.field()),
        (ErrorKind::TooCostly, "keyslots.0.kdf.memory")
    );
    // Another slot within the limits still opens; a wrong passphrase then is not called wrong.
    h.set_limits(Limits::default());
    h.add_key(
        &key,
        b"two",
        &Kdf::Pbkdf2 {
            hash: Hash::Sha256,
            iterations: 1000,
        },
    )
    .unwrap();
    h.set_limits(Limits {
        memory_kib: 31,
        ..Limits::default()
    });
    assert!(h.unlock(b"two").unwrap() == key);
    assert_eq!(h.unlock(b"three").unwrap_err().kind(), ErrorKind::TooCostly);
    h.set_limits(Limits {
        pbkdf2_rounds: 999,
        ..Limits::default()
    });
    assert_eq!(h.check_key(&key).unwrap_err().kind(), ErrorKind::TooCostly);
}
