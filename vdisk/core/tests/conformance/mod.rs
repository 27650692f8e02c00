//! The conformance suite: what every device must do, checked against a plain model.

use proptest::prelude::*;
use vdisk::{Disk, ExtentKind, SECTOR};

/// One step of a random life of a disk. Offsets and lengths are in bytes and need not be aligned.
#[derive(Debug, Clone)]
pub enum Op {
    Read {
        at: u64,
        len: u64,
    },
    Write {
        at: u64,
        len: u64,
        seed: u8,
    },
    Zero {
        at: u64,
        len: u64,
    },
    Discard {
        at: u64,
        len: u64,
    },
    Flush,
    Extents {
        at: u64,
        len: u64,
    },
    /// Close and open again, where the device can.
    Reopen,
}

/// Ranges that favour the places where mistakes hide: edges of sectors, clusters, blocks and the disk.
fn range(size: u64) -> impl Strategy<Value = (u64, u64)> {
    let edge = prop_oneof![
        Just(1u64),
        Just(SECTOR),
        Just(4096),
        Just(16 << 10),
        Just(64 << 10),
        Just(2 << 20)
    ];
    let at = (edge, 0..size, -2i64..3).prop_map(move |(unit, at, shift)| {
        (at / unit * unit)
            .saturating_add_signed(shift * 256)
            .min(size)
    });
    let len = prop_oneof![
        1..2048u64,
        (1..64u64).prop_map(|n| n * SECTOR),
        (1..40u64).prop_map(|n| n << 14),
        0..size
    ];
    (at, len).prop_map(move |(at, len)| (at, len.min(size - at)))
}

/// Random operations on a disk of `size` bytes.
pub fn ops(size: u64, count: usize) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => range(size).prop_map(|(at, len)| Op::Read { at, len }),
        6 => (range(size), any::<u8>()).prop_map(|((at, len), seed)| Op::Write { at, len, seed }),
        2 => range(size).prop_map(|(at, len)| Op::Zero { at, len }),
        2 => range(size).prop_map(|(at, len)| Op::Discard { at, len }),
        1 => Just(Op::Flush),
        1 => range(size).prop_map(|(at, len)| Op::Extents { at, len }),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..count)
}

/// Bytes that differ at every place, so that any misplaced one shows.
fn pattern(at: u64, len: u64, seed: u8) -> Vec<u8> {
    (at..at + len)
        .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8 ^ seed | 1)
        .collect()
}

/// Lives through `ops` on the device that `open` makes, beside a model; `open` is called again to
/// reopen and may give the same disk. `initial` is what the disk holds at first.
pub fn check(initial: Vec<u8>, ops: &[Op], mut open: impl FnMut(Option<Disk>) -> Disk) {
    let first = initial.clone();
    let mut model = initial;
    let mut disk = open(None);
    assert_eq!(disk.size(), model.len() as u64);
    for (step, op) in ops.iter().enumerate() {
        let context = || format!("step {step}: {op:?}");
        match *op {
            Op::Read { at, len } => {
                let mut buf = vec![0xEE; len as usize];
                disk.read_at(at, &mut buf).unwrap();
                assert!(buf == model[at as usize..][..len as usize], "{}", context());
            }
            Op::Write { at, len, seed } => {
                let data = pattern(at, len, seed);
                disk.write_at(at, &data).unwrap();
                model[at as usize..][..len as usize].copy_from_slice(&data);
            }
            Op::Zero { at, len } => {
                disk.write_zeroes(at, len).unwrap();
                model[at as usize..][..len as usize].fill(0);
            }
            Op::Discard { at, len } => {
                disk.discard(at, len).unwrap();
                // What is left must be old bytes (an overlay's or its base's) or zeros, sector by sector;
                // the model follows.
                let mut from = at;
                while from < at + len {
                    let to = (from / SECTOR * SECTOR + SECTOR).min(at + len);
                    let range = from as usize..to as usize;
                    let mut now = vec![0; range.len()];
                    disk.read_at(from, &mut now).unwrap();
                    let was =
                        |sector: &[u8]| now.iter().zip(sector).all(|(n, o)| n == o || *n == 0);
                    assert!(
                        was(&model[range.clone()]) || was(&first[range.clone()]),
                        "{}",
                        context()
                    );
                    model[range].copy_from_slice(&now);
                    from = to;
                }
            }
            Op::Flush => disk.flush().unwrap(),
            Op::Extents { at, len } => {
                let mut next = at;
                disk.extents(at, len, &mut |extent| {
                    assert!(extent.len > 0 && extent.offset == next, "{}", context());
                    next += extent.len;
                    if extent.kind == ExtentKind::Hole {
                        let bytes = &model[extent.offset as usize..][..extent.len as usize];
                        assert!(
                            bytes.iter().all(|b| *b == 0),
                            "a hole with data, {}",
                            context()
                        );
                    }
                })
                .unwrap();
                assert_eq!(next, at + len, "{}", context());
            }
            Op::Reopen => {
                disk.flush().unwrap();
                disk = open(Some(disk));
            }
        }
    }
    let mut all = vec![0xEE; model.len()];
    disk.read_at(0, &mut all).unwrap();
    let wrong = all.iter().zip(&model).position(|(a, b)| a != b);
    assert_eq!(wrong, None, "the disk differs from the model at this byte");

    // Whatever the device, requests past its end are refused and change nothing.
    let size = model.len() as u64;
    for (at, len) in [
        (size, 1),
        (size - 1, 2),
        (u64::MAX, 1),
        (u64::MAX - 511, 512),
        (0, size + 1),
    ] {
        let mut buf = vec![0; len.min(4096) as usize];
        if at
            .checked_add(buf.len() as u64)
            .is_none_or(|end| end > size)
        {
            assert!(disk.read_at(at, &mut buf).is_err());
            assert!(disk.write_at(at, &buf).is_err());
        }
        assert!(disk.write_zeroes(at, len).is_err());
        assert!(disk.discard(at, len).is_err());
        assert!(disk.extents(at, len, &mut |_| {}).is_err());
    }
}
