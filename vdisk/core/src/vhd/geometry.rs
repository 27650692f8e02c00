//! Cylinders, heads and sectors per track: what a BIOS of old was told. The algorithm is fixed by the
//! format's specification, and some readers take the disk's size from its result.

/// A disk geometry. The capacity it describes may be smaller than the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: u16,
    /// Heads per cylinder.
    pub heads: u8,
    /// Sectors per track.
    pub sectors: u8,
}

impl Geometry {
    /// The geometry that the specification gives a disk of `total` sectors.
    pub fn for_sectors(total: u64) -> Self {
        // Beyond 65535 × 16 × 255 sectors the geometry no longer grows.
        let total = total.min(65535 * 16 * 255);
        let (sectors, heads, tracks) = if total > 65535 * 16 * 63 {
            (255, 16, total / 255)
        } else {
            let mut sectors = 17;
            let mut tracks = total / sectors;
            let mut heads = tracks.div_ceil(1024).max(4);
            if tracks >= heads * 1024 || heads > 16 {
                sectors = 31;
                heads = 16;
                tracks = total / sectors;
            }
            if tracks >= heads * 1024 {
                sectors = 63;
                heads = 16;
                tracks = total / sectors;
            }
            (sectors, heads, tracks)
        };
        // All three fit by construction: 65535 × 16 × 255 is the cap above.
        Self {
            cylinders: (tracks / heads) as u16,
            heads: heads as u8,
            sectors: sectors as u8,
        }
    }

    /// Sectors of the capacity it describes.
    pub fn total_sectors(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(total: u64) -> (u16, u8, u8) {
        let g = Geometry::for_sectors(total);
        (g.cylinders, g.heads, g.sectors)
    }

    #[test]
    fn follows_the_specification() {
        // What `qemu-img create -f vpc` 10.0.2 wrote for 32M, 1G and 127G, which it rounds up to these.
        assert_eq!(geometry(964 * 4 * 17), (964, 4, 17));
        assert_eq!(geometry(2081 * 16 * 63), (2081, 16, 63));
        assert_eq!(geometry(65279 * 16 * 255), (65279, 16, 255));
    }

    #[test]
    fn never_describes_more_than_there_is() {
        for shift in 0..40 {
            for total in [(1u64 << shift) - 1, 1 << shift, (1 << shift) + 77] {
                assert!(
                    Geometry::for_sectors(total).total_sectors() <= total,
                    "{total}"
                );
            }
        }
    }
}
