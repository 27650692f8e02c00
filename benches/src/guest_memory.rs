//! Streams that look like what a machine saves, the same in every run.

/// Bytes of a page.
const PAGE: usize = 4096;

/// What a stream is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A quarter each of zero pages, text, kernel-like pointers and noise, in stretches of up to sixteen
    /// pages.
    Guest,
    /// Noise.
    Random,
    /// Zeros.
    Zeros,
}

impl Contents {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Guest, Self::Random, Self::Zeros];

    /// Its name in a row.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guest => "like a guest's memory",
            Self::Random => "random",
            Self::Zeros => "zeros",
        }
    }

    /// `len` bytes of it.
    pub fn make(self, len: usize) -> Vec<u8> {
        let mut dice = Dice(0x2545_f491_4f6c_dd1d);
        let mut out = Vec::with_capacity(len + 16 * PAGE);
        while out.len() < len {
            let (kind, pages) = match self {
                Self::Zeros => (0, 16),
                Self::Random => (3, 16),
                Self::Guest => (dice.below(4), 1 + dice.below(16) as usize),
            };
            let end = out.len() + pages * PAGE;
            while out.len() < end {
                match kind {
                    0 => out.resize(end, 0),
                    1 => dice.word(&mut out),
                    2 => out.extend_from_slice(&dice.field().to_le_bytes()),
                    _ => out.extend_from_slice(&dice.next().to_le_bytes()),
                }
            }
            out.truncate(end);
        }
        out.truncate(len);
        out
    }
}

/// Xorshift: good enough that nothing compresses it.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }

    /// A word of program text or of a log, now and then with a number.
    fn word(&mut self, out: &mut Vec<u8>) {
        const WORDS: [&str; 16] = [
            "the ",
            "error: ",
            "kernel ",
            "static ",
            "return ",
            "int ",
            "struct ",
            "memory\n",
            "page ",
            "of ",
            "and ",
            "/usr/lib/x86_64-linux-gnu/",
            "= ",
            "if (",
            "null ",
            "window ",
        ];
        out.extend_from_slice(WORDS[self.below(16) as usize].as_bytes());
        if self.below(4) == 0 {
            out.extend_from_slice(format!("{:x} ", self.below(1 << 16)).as_bytes());
        }
    }

    /// A field of a kernel's structure: nothing, something small, or a pointer into 2 GiB.
    fn field(&mut self) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => self.below(256),
            _ => 0xffff_8880_0000_0000 | self.below(1 << 28) << 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_s_memory_is_a_quarter_noise_and_a_quarter_zeros() {
        let stream = Contents::Guest.make(16 << 20);
        assert_eq!(stream.len(), 16 << 20);
        assert!(
            stream == Contents::Guest.make(16 << 20),
            "not the same again"
        );
        let pages = stream.chunks(PAGE);
        let zeros = pages.clone().filter(|p| p.iter().all(|b| *b == 0)).count();
        let noise = pages.filter(|p| {
            let mut seen = [false; 256];
            p.iter().for_each(|b| seen[usize::from(*b)] = true);
            seen.iter().filter(|s| **s).count() > 250
        });
        for count in [zeros, noise.count()] {
            assert!((700..1400).contains(&count), "{count} pages of 4096");
        }
    }
}
