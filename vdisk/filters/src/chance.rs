//! Chance that repeats itself: the n-th throw under a seed is always the same, whoever asks and when.

/// The `n`-th number of the sequence named by `seed`: the finaliser of SplitMix64.
pub fn throw(seed: u64, n: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0xD134_2543_DE82_EF95)
        .wrapping_add(n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A throw as a number from 0 to `end`, without `end`; 0 if that is 0.
pub fn below(throw: u64, end: u64) -> u64 {
    ((u128::from(throw) * u128::from(end)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throws_repeat_and_spread() {
        assert_eq!(throw(1, 2), throw(1, 2));
        assert_ne!(throw(1, 2), throw(2, 1));
        for seed in 0..10 {
            let mut counts = [0; 10];
            for n in 0..10_000 {
                counts[below(throw(seed, n), 10) as usize] += 1;
            }
            assert!(counts.iter().all(|n| (850..1150).contains(n)), "{counts:?}");
        }
        assert_eq!(below(u64::MAX, 0), 0);
    }
}
