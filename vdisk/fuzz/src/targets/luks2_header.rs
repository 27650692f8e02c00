//! LUKS2 headers with checksums set right, so that the fields and the JSON behind them are reached.
//!
//! An input is a list of changes to a good header: bytes of the binary part, and either a JSON text of its
//! own or cuts and insertions in the good one.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use vdisk_luks::{CreateParams, Hash, Header, Kdf, Limits, VolumeKey};

use super::Target;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "luks2_header",
    about: "changes to a good LUKS2 header: refused, or read, unlocked within limits, edited, and read again",
    max_len: 12 << 10,
    run,
};

/// Bits of the first byte.
const OWN_TEXT: u8 = 1;
const UNSEALED: u8 = 2;
const BARE: u8 = 4;
const DIFFER: u8 = 8;
const UNLOCK: u8 = 16;
const EDIT: u8 = 32;

const COPY: usize = 16 << 10;
const JSON: usize = 4096;
const PASSPHRASE: &[u8] = b"fuzz";

/// What one unlock may cost here.
const LIMITS: Limits = Limits {
    memory_kib: 64,
    argon2_work_kib: 256,
    pbkdf2_rounds: 4_000,
};

/// A good header and the key in it.
fn template() -> &'static (Vec<u8>, VolumeKey) {
    static TEMPLATE: OnceLock<(Vec<u8>, VolumeKey)> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let mut bytes = [3; 64];
        bytes[0] = 4;
        let key = VolumeKey::from_bytes(&bytes).expect("a key");
        let params = CreateParams {
            label: "fuzz".into(),
            uuid: Some(uuid::Uuid::from_u128(5)),
            kdf: Kdf::Pbkdf2 {
                hash: Hash::Sha256,
                iterations: 1000,
            },
            copy_size: COPY as u64,
            keyslots_size: 252 << 10,
        };
        let header = Header::create(&params, &key, PASSPHRASE).expect("a header can be made");
        (header.bytes(), key)
    })
}

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let flags = input.u8();
    let (good, key) = template();
    let mut image = match flags & BARE {
        0 => good.clone(),
        _ => good[..2 * COPY].to_vec(),
    };
    for _ in 0..input.u8() % 8 {
        let (at, value) = (usize::from(input.u16()) % 512, input.u8());
        image[at] = value;
        if flags & DIFFER == 0 {
            image[COPY + at] = if at < 6 { good[COPY + at] } else { value };
        }
    }
    let text = text(flags, &mut input, &good[JSON..COPY]);
    for at in [0, COPY] {
        let area = &mut image[at + JSON..at + COPY];
        area.fill(0);
        area[..text.len()].copy_from_slice(&text);
        if flags & UNSEALED == 0 {
            seal(&mut image[at..at + COPY]);
        }
    }

    let _ = vdisk_luks::version(&image);
    let Ok(mut header) = Header::parse(&image) else {
        return;
    };
    header.set_limits(LIMITS);
    let slots = header.slots();
    let _ = (header.segment().is_ok(), header.check_disk_layout().is_ok());
    let _ = (
        header.label(),
        header.uuid(),
        header.subsystem(),
        header.seqid(),
    );
    for (id, _) in header.tokens() {
        assert!(header.token(id).is_some());
    }
    if flags & UNLOCK != 0 {
        let unlocked = header.unlock(PASSPHRASE);
        if let Ok(found) = &unlocked {
            assert!(found == key, "a passphrase opened another key");
        }
        if let Some(slot) = slots.first() {
            let _ = header.unlock_with_slot(slot.id, PASSPHRASE);
        }
    }
    if flags & EDIT != 0 {
        edit(&mut header);
    }
}

/// The JSON area without its zeros.
fn text(flags: u8, input: &mut Input<'_>, good: &[u8]) -> Vec<u8> {
    let room = good.len();
    if flags & OWN_TEXT != 0 {
        return input.take(room).to_vec();
    }
    let end = good.iter().position(|b| *b == 0).unwrap_or(room);
    let mut text = good[..end].to_vec();
    for _ in 0..input.u8() % 8 {
        let at = usize::from(input.u16()) % (text.len() + 1);
        let cut = usize::from(input.u8()).min(text.len() - at);
        let insert = usize::from(input.u8() % 64);
        text.splice(at..at + cut, input.take(insert).iter().copied());
    }
    text.truncate(room);
    text
}

fn seal(copy: &mut [u8]) {
    copy[448..512].fill(0);
    let sum = Sha256::digest(&copy[..]);
    copy[448..480].copy_from_slice(&sum);
}

/// Edits what was read: what comes out must read as what went in, with the edit.
fn edit(header: &mut Header) {
    let seqid = header.seqid();
    let slots = header.slots().len();
    let mut changed = header.set_label("changed").is_ok();
    if let Some(token) = header.tokens().first().map(|(_, token)| (*token).clone()) {
        changed |= header.add_token(token).is_ok();
    }
    let mut removed = 0;
    if let Some(slot) = header.slots().last().map(|slot| slot.id)
        && header.remove_slot(slot, true).is_ok()
    {
        (changed, removed) = (true, 1);
    }
    if !changed {
        return;
    }
    let steps = header.update_plan();
    assert!(!steps.is_empty(), "a change without anything to write");
    let again = Header::parse(&header.bytes()).expect("what we write, we read");
    assert!(
        again.seqid() > seqid || seqid == u64::MAX,
        "an older header"
    );
    assert_eq!(again.label(), header.label());
    assert_eq!(again.slots().len() + removed, slots);
    assert_eq!(again.tokens().len(), header.tokens().len());
    header.persisted();
}
