//! Project Wycheproof's answers, which were made for units of every length: a sector begins with each of them.

#![allow(clippy::unwrap_used)]

use vdisk_xts::{DataUnit, Kernel, Xts, XtsKey};

fn unhex(text: &str) -> Vec<u8> {
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(byte).collect()
}

/// Blocks before the last two do not depend on what follows them, and in units of whole blocks none does.
#[test]
fn every_kernel_gives_wycheproofs_answers() {
    let mut blocks = 0;
    for line in include_str!("data/wycheproof-aes-256-xts.txt").lines() {
        if line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split(' ').collect();
        let [number, key, tweak, plain, cipher] = fields[..] else {
            panic!("{line}");
        };
        let key = XtsKey::try_from(unhex(key).as_slice()).unwrap();
        // Tweaks shorter than a block are filled up with zeros; longer numbers than 64 bits are no sectors.
        let mut number_of_sector = [0; 16];
        let tweak = unhex(tweak);
        number_of_sector[..tweak.len()].copy_from_slice(&tweak);
        let Ok(sector) = u64::try_from(u128::from_le_bytes(number_of_sector)) else {
            continue;
        };
        let (plain, cipher) = (unhex(plain), unhex(cipher));
        let whole = match plain.len() % 16 {
            0 => plain.len(),
            rest => plain.len() - rest - 16,
        };
        blocks += whole / 16;
        for kernel in Kernel::all_available() {
            let xts = Xts::with_kernel(&key, kernel).unwrap();
            for unit in [DataUnit::B512, DataUnit::B4096] {
                let mut buf = vec![0x33; unit.bytes()];
                buf[..whole].copy_from_slice(&plain[..whole]);
                xts.encrypt(unit, sector, &mut buf);
                assert_eq!(buf[..whole], cipher[..whole], "{kernel} {number}");
                xts.decrypt(unit, sector, &mut buf);
                assert_eq!(buf[..whole], plain[..whole], "{kernel} {number}");
            }
        }
    }
    assert_eq!(blocks, 56);
}
