//! A kernel proves itself before it is trusted with a disk.

use crate::vectors::{IEEE_1619, key, plaintext};
use crate::{DataUnit, Error, Kernel, Xts, XtsKey};

/// Asks `kernel` for published answers, and in long requests of both unit sizes, across the end
/// of the sector numbers, for the bytes that the portable one gives a unit at a time.
///
/// Takes some tenths of a millisecond. [`Kernel::detect`] calls it for what it chooses.
///
/// # Errors
/// [`Error::KernelUnavailable`], or [`Error::SelfTest`] naming the answer that was wrong.
pub fn self_test(kernel: Kernel) -> Result<(), Error> {
    let key = XtsKey::of_self_test(&key());
    let xts = Xts::with_kernel(&key, kernel)?;
    let portable = Xts::with_kernel(&key, Kernel::Portable)?;
    published(&xts)?;
    batches(&xts, &portable)
}

fn published(xts: &Xts) -> Result<(), Error> {
    let plain = plaintext();
    for vector in &IEEE_1619 {
        let check = |right: bool| expect(xts, right, vector.name);
        let mut buf = plain;
        xts.encrypt(DataUnit::B512, vector.sector, &mut buf);
        check(buf == vector.ciphertext)?;
        xts.decrypt(DataUnit::B512, vector.sector, &mut buf);
        check(buf == plain)?;
        xts.encrypt_into(DataUnit::B512, vector.sector, &plain, &mut buf);
        check(buf == vector.ciphertext)?;
    }
    Ok(())
}

fn batches(xts: &Xts, portable: &Xts) -> Result<(), Error> {
    // More units than any kernel takes at once, and not a multiple of that.
    for (unit, units, step) in [
        (DataUnit::B512, 37, "a batch of 512-byte units"),
        (DataUnit::B4096, 19, "a batch of 4096-byte units"),
    ] {
        let plain: Vec<u8> = (0..units * unit.bytes())
            .map(|i| (i * i / 7) as u8)
            .collect();
        let first = u64::MAX - 17;
        let mut expected = plain.clone();
        let mut sector = first;
        for bytes in expected.chunks_exact_mut(unit.bytes()) {
            portable.encrypt(unit, sector, bytes);
            sector = sector.wrapping_add(unit.sectors());
        }
        let mut buf = vec![0; plain.len()];
        xts.encrypt_into(unit, first, &plain, &mut buf);
        expect(xts, buf == expected, step)?;
        xts.decrypt(unit, first, &mut buf);
        expect(xts, buf == plain, step)?;
        xts.encrypt(unit, first, &mut buf);
        expect(xts, buf == expected, step)?;
    }
    Ok(())
}

fn expect(xts: &Xts, right: bool, step: &'static str) -> Result<(), Error> {
    if right {
        Ok(())
    } else {
        Err(Error::SelfTest {
            kernel: xts.kernel(),
            step,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::from_hex;

    #[test]
    fn every_kernel_passes() {
        for kernel in Kernel::all_available() {
            assert_eq!(self_test(kernel), Ok(()), "{kernel}");
        }
    }

    #[test]
    fn a_wrong_answer_is_named() {
        let mut other = key();
        other[63] ^= 1;
        let xts = Xts::with_kernel(&XtsKey::new(other).unwrap(), Kernel::Portable).unwrap();
        let named = |step| {
            Err(Error::SelfTest {
                kernel: Kernel::Portable,
                step,
            })
        };
        assert_eq!(published(&xts), named("IEEE 1619 vector 10"));
        let right = Xts::with_kernel(&XtsKey::new(key()).unwrap(), Kernel::Portable).unwrap();
        assert_eq!(batches(&xts, &right), named("a batch of 512-byte units"));
    }

    /// Whole-block vectors of other origin with sector numbers in their tweaks. Their units are
    /// shorter than ours, but without ciphertext stealing a unit's first blocks do not depend on
    /// what follows them.
    ///
    /// The first is number 30 of Brian Gladman's xts.6, the second number 401 of his xts.12; the
    /// third was made by BoringSSL's C code for its own tests.
    #[test]
    fn prefixes_of_other_published_vectors() {
        let gladman_6 = from_hex(
            "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0\
             bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0afaeadacabaaa9a8a7a6a5a4a3a2a1a0",
        );
        let gladman_12 = from_hex(
            "1338d7d3d66137abf00c8f33050cff7e0a6fa10ff2e2bd860119dfa68ee815c4\
             4aa1bfc76f2e084d81b862c05aae29711bf167fff7432a7b9c5899ab069fff0f",
        );
        prefix(
            gladman_6,
            0x12_3456_789a,
            from_hex::<16>("000102030405060708090a0b0c0d0e0f"),
            from_hex("c30ca8f2ed57307edc87e544867ac888"),
        );
        prefix(
            gladman_12,
            0x54,
            from_hex::<48>(
                "922489de313fceb72a5ef2594d49eeb908afec966e89f0c7fbb4f6d37a559294\
                 2c53e3a65b37193d693467006595f811",
            ),
            from_hex(
                "6f229c1b60833e2a50a041b360d99181a679f1361a011bf37b2e1565fda4a6b9\
                 22e5aabda21b167c030935e843d60c60",
            ),
        );
        prefix(
            gladman_6,
            0x12_3456_789a,
            core::array::from_fn::<u8, 160, _>(|i| i as u8),
            from_hex(
                "c30ca8f2ed57307edc87e544867ac888348c208928d7406269954551cb627b5b\
                 e1c241d0ff691de6b47ad81eac2b925b474e1fd14311edb95219ce64677f497b\
                 8917567652e9b4ef3838baf35e400fe1ffe2f16cfa1900d7ae2b67f0e6f43b71\
                 769d1b0e0c0b99ea11de58fcd3b72e1bce3d9a8750b87e945d77f4dc39d73b04\
                 e11b6adce343e1f38c6a879463c080d74a72a90b1e6fe46b7bc95a929f79947e",
            ),
        );
    }

    fn prefix<const N: usize>(key: [u8; 64], sector: u64, plain: [u8; N], cipher: [u8; N]) {
        let key = XtsKey::new(key).unwrap();
        for kernel in Kernel::all_available() {
            let xts = Xts::with_kernel(&key, kernel).unwrap();
            for unit in [DataUnit::B512, DataUnit::B4096] {
                let mut buf = vec![0x33; unit.bytes()];
                buf[..N].copy_from_slice(&plain);
                xts.encrypt(unit, sector, &mut buf);
                assert_eq!(buf[..N], cipher, "{kernel}");
                xts.decrypt(unit, sector, &mut buf);
                assert_eq!(buf[..N], plain, "{kernel}");
            }
        }
    }
}
