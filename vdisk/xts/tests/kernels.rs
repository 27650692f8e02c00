//! Every kernel of this machine against an independent implementation, byte for byte.

#![allow(clippy::unwrap_used)]

use aes::Aes256;
use aes::cipher::{Array, KeyInit};
use proptest::prelude::*;
use vdisk_xts::{DataUnit, Error, Kernel, Xts, XtsKey};
use xts_mode::Xts128;

/// XTS one unit at a time by the `xts-mode` crate; also defines how sector numbers wrap.
struct Reference(Xts128<Aes256>);

impl Reference {
    fn new(key: &[u8; 64]) -> Self {
        let [data, tweak] = key.as_chunks::<32>().0 else {
            unreachable!()
        };
        let cipher = |key| Aes256::new(Array::cast_from_core(key));
        Self(Xts128::new(cipher(data), cipher(tweak)))
    }

    fn each_unit(
        unit: DataUnit,
        first: u64,
        buf: &mut [u8],
        f: impl Fn(&mut [u8], Array<u8, aes::cipher::consts::U16>),
    ) {
        let mut sector = first;
        for unit_bytes in buf.chunks_exact_mut(unit.bytes()) {
            f(unit_bytes, u128::from(sector).to_le_bytes().into());
            sector = sector.wrapping_add(unit.bytes() as u64 / 512);
        }
    }

    fn encrypt(&self, unit: DataUnit, first: u64, buf: &mut [u8]) {
        Self::each_unit(unit, first, buf, |unit, tweak| {
            self.0.encrypt_sector(unit, tweak)
        });
    }
}

fn key_and_bytes() -> ([u8; 64], XtsKey) {
    let bytes = core::array::from_fn(|i| (i as u8).wrapping_mul(37).wrapping_add(11));
    (bytes, XtsKey::new(bytes).unwrap())
}

fn units() -> impl Strategy<Value = DataUnit> {
    prop_oneof![Just(DataUnit::B512), Just(DataUnit::B4096)]
}

/// Any sector, with the ends of the range and of 32 bits as likely as the rest together.
fn sectors() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..64u64,
        (0..600u64).prop_map(|back| u64::MAX - back),
        (0..600u64).prop_map(|back| (1 << 32) - back.min(300) + back / 2),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Also at odd addresses, for every number of units around the batches of the kernels, and
    /// without touching a byte around the buffer or any byte of the source.
    #[test]
    fn kernels_agree_with_the_reference(
        key in proptest::array::uniform32(any::<u8>()),
        tweak_key in proptest::array::uniform32(any::<u8>()),
        unit in units(),
        count in 0..70usize,
        first in sectors(),
        (lead, src_lead) in (0..70usize, 0..70usize),
        seed in any::<u64>(),
    ) {
        prop_assume!(key != tweak_key);
        let bytes: [u8; 64] = core::array::from_fn(|i| if i < 32 { key[i] } else { tweak_key[i - 32] });
        let count = if unit == DataUnit::B4096 { count / 2 } else { count };
        let len = count * unit.bytes();
        let plain: Vec<u8> = random_bytes(seed, len);
        let mut expected = plain.clone();
        Reference::new(&bytes).encrypt(unit, first, &mut expected);

        let key = XtsKey::new(bytes).unwrap();
        for kernel in Kernel::all_available() {
            let xts = Xts::with_kernel(&key, kernel).unwrap();
            let mut around = vec![0xa5; lead + len + 70];
            around[lead..lead + len].copy_from_slice(&plain);
            xts.encrypt(unit, first, &mut around[lead..lead + len]);
            prop_assert!(around[lead..lead + len] == expected, "{kernel} encrypt");
            xts.decrypt(unit, first, &mut around[lead..lead + len]);
            prop_assert!(around[lead..lead + len] == plain, "{kernel} decrypt");

            let mut src = vec![0x5a; src_lead];
            src.extend_from_slice(&plain);
            let before = src.clone();
            xts.encrypt_into(unit, first, &src[src_lead..], &mut around[lead..lead + len]);
            prop_assert!(around[lead..lead + len] == expected, "{kernel} encrypt_into");
            prop_assert!(src == before, "{kernel} changed its source");
            prop_assert!(around[..lead].iter().all(|&b| b == 0xa5), "{kernel} wrote before");
            prop_assert!(around[lead + len..].iter().all(|&b| b == 0xa5), "{kernel} wrote behind");
        }
    }

    /// A request may be cut anywhere between units without changing a byte.
    #[test]
    fn requests_can_be_split(
        unit in units(),
        (head, tail) in (0..40usize, 0..40usize),
        first in sectors(),
        seed in any::<u64>(),
    ) {
        let (_, key) = key_and_bytes();
        let plain = random_bytes(seed, (head + tail) * unit.bytes());
        for kernel in Kernel::all_available() {
            let xts = Xts::with_kernel(&key, kernel).unwrap();
            let mut whole = plain.clone();
            xts.encrypt(unit, first, &mut whole);
            let mut parts = plain.clone();
            let (a, b) = parts.split_at_mut(head * unit.bytes());
            let second = first.wrapping_add(a.len() as u64 / 512);
            xts.encrypt(unit, first, a);
            xts.encrypt(unit, second, b);
            prop_assert!(whole == parts, "{kernel}");
        }
    }
}

/// splitmix64: enough to make no two blocks alike.
fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    });
    words.flatten().take(len).collect()
}

#[test]
fn sector_zero_follows_the_last() {
    let (_, key) = key_and_bytes();
    for kernel in Kernel::all_available() {
        let xts = Xts::with_kernel(&key, kernel).unwrap();
        for unit in [DataUnit::B512, DataUnit::B4096] {
            let step = unit.bytes() as u64 / 512;
            let mut across = vec![7; 40 * unit.bytes()];
            xts.encrypt(unit, 0u64.wrapping_sub(20 * step), &mut across);
            let mut from_zero = vec![7; 20 * unit.bytes()];
            xts.encrypt(unit, 0, &mut from_zero);
            assert_eq!(across[20 * unit.bytes()..], from_zero, "{kernel}");
        }
    }
}

#[test]
fn the_first_sectors_of_both_units_agree() {
    let (_, key) = key_and_bytes();
    for kernel in Kernel::all_available() {
        let xts = Xts::with_kernel(&key, kernel).unwrap();
        let (mut small, mut large) = ([9; 512], [9; 4096]);
        xts.encrypt(DataUnit::B512, 77, &mut small);
        xts.encrypt(DataUnit::B4096, 77, &mut large);
        assert_eq!(
            small,
            large[..512],
            "{kernel}: same tweak, same first 512 bytes"
        );
        xts.encrypt(DataUnit::B512, 78, &mut small);
        assert_ne!(
            small,
            large[512..1024],
            "{kernel}: one tweak for all 4096 bytes"
        );
    }
}

#[test]
fn one_key_serves_many_threads() {
    let (bytes, key) = key_and_bytes();
    let xts = Xts::new(&key);
    let mut expected = vec![1; 64 * 512];
    Reference::new(&bytes).encrypt(DataUnit::B512, 5, &mut expected);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let mut buf = vec![1; 64 * 512];
                    xts.encrypt(DataUnit::B512, 5, &mut buf);
                    assert!(buf == expected);
                }
            });
        }
    });
}

#[test]
fn kernels_are_refused_where_they_cannot_run() {
    let (_, key) = key_and_bytes();
    for kernel in [
        Kernel::Vaes512,
        Kernel::Vaes256,
        Kernel::AesNi,
        Kernel::Armv8,
        Kernel::Portable,
    ] {
        let made = Xts::with_kernel(&key, kernel);
        match made {
            Ok(xts) => assert!(kernel.available() && xts.kernel() == kernel),
            Err(error) => {
                assert!(!kernel.available());
                assert_eq!(error, Error::KernelUnavailable(kernel));
            }
        }
    }
}

#[test]
fn debug_names_the_kernel_only() {
    let (_, key) = key_and_bytes();
    let xts = Xts::with_kernel(&key, Kernel::Portable).unwrap();
    assert_eq!(format!("{xts:?}"), "Xts { kernel: Portable, .. }");
}

#[test]
#[should_panic(expected = "513 bytes are not a whole number of 512-byte data units")]
fn partial_units_panic() {
    let (_, key) = key_and_bytes();
    Xts::new(&key).encrypt(DataUnit::B512, 0, &mut [0; 513]);
}

#[test]
#[should_panic(expected = "a destination as long as its source")]
fn unequal_lengths_panic() {
    let (_, key) = key_and_bytes();
    Xts::new(&key).encrypt_into(DataUnit::B512, 0, &[0; 1024], &mut [0; 512]);
}
