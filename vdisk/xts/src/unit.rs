//! How many bytes share one tweak, and how units are counted.

/// Bytes in the sector by which tweaks are always counted.
pub(crate) const SECTOR: usize = 512;

/// The length of one XTS data unit: the bytes that are enciphered under one tweak.
///
/// The tweak is the number of the unit's first **512-byte** sector as a 64-bit little-endian
/// integer (`plain64`), also when units are 4096 bytes long: consecutive 4096-byte units then
/// have tweaks eight apart, as in dm-crypt without `iv_large_sectors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataUnit {
    /// 512 bytes: what LUKS1, QEMU and guests of any age understand.
    B512,
    /// 4096 bytes: a little faster, for disks only modern guests write.
    B4096,
}

impl DataUnit {
    /// Length of one unit in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }

    /// How many 512-byte sectors one unit spans: the distance between consecutive tweaks.
    pub(crate) const fn sectors(self) -> u64 {
        (self.bytes() / SECTOR) as u64
    }
}
