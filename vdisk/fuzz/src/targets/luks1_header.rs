//! LUKS1 headers: a good one with changes, or any bytes.

use std::sync::OnceLock;

use vdisk_luks::{Limits, Luks1, VolumeKey};

use super::Target;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "luks1_header",
    about: "changes to a good LUKS1 header, or any bytes: refused, or read, and unlocked within limits",
    max_len: 1024,
    run,
};

/// Bits of the first byte.
const RAW: u8 = 1;
const CUT: u8 = 2;
const UNLOCK: u8 = 4;

/// Bytes of the header proper.
const LEN: usize = 592;
const PASSPHRASE: &[u8] = b"fuzz";

fn template() -> &'static (Vec<u8>, VolumeKey) {
    static TEMPLATE: OnceLock<(Vec<u8>, VolumeKey)> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let mut bytes = [3; 64];
        bytes[0] = 4;
        let key = VolumeKey::from_bytes(&bytes).expect("a key");
        let image = Luks1::export(&key, PASSPHRASE, 1000).expect("a header can be made");
        (image, key)
    })
}

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let flags = input.u8();
    let (good, key) = template();
    let mut image = good.clone();
    if flags & RAW != 0 {
        let rest = input.take(LEN);
        image[..rest.len()].copy_from_slice(rest);
    } else {
        for _ in 0..input.u8() % 16 {
            let at = usize::from(input.u16()) % LEN;
            let len = usize::from(input.u8() % 9).min(LEN - at);
            let value = input.take(len);
            image[at..at + value.len()].copy_from_slice(value);
        }
    }
    if flags & CUT != 0 {
        image.truncate(usize::from(input.u16()) * 8);
    }
    let _ = vdisk_luks::version(&image);
    let Ok(mut header) = Luks1::parse(&image) else {
        return;
    };
    header.set_limits(Limits {
        memory_kib: 64,
        argon2_work_kib: 256,
        pbkdf2_rounds: 8_000,
    });
    let slots: Vec<_> = header.slots().map(|slot| slot.id).collect();
    assert!(slots.len() <= 8 && slots.iter().all(|id| *id < 8));
    let _ = (header.payload_offset(), header.uuid(), header.hash());
    if flags & UNLOCK != 0
        && let Ok(found) = header.unlock(PASSPHRASE)
    {
        assert!(found == *key, "a passphrase opened another key");
    }
}
