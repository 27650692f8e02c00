//! What the guest sees of the disk: features and configuration space of a virtio block device.

use vdisk::{Disk, SECTOR};

use super::server::VhostUserOptions;
use crate::stats::Stats;

/// Bytes of one request, at most. Drivers do not ask for that much.
pub const MAX_DATA: u64 = 64 << 20;
/// Heads, and sectors in a track, of the disk that old software sees.
const HEADS: u32 = 16;
const TRACK: u32 = 63;
/// Segments of a request: a queue of 128 entries less header and status.
const SEG_MAX: u32 = 126;
/// Ranges in one discard.
pub const MAX_DISCARDS: u32 = 32;
/// Ranges in one write of zeros, which may take as long as any write of that length.
pub const MAX_ZEROES: u32 = 1;
/// Sectors in one such range: 2 GiB.
pub const MAX_RANGE_SECTORS: u32 = 4 << 20;

/// Bytes of the configuration space that we fill.
const CONFIG_LEN: usize = 60;

/// Feature bits, named as in the virtio specification.
pub mod feature {
    pub const SEG_MAX: u64 = 1 << 2;
    pub const GEOMETRY: u64 = 1 << 4;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const MQ: u64 = 1 << 12;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
    pub const LOG_ALL: u64 = 1 << 26;
    pub const INDIRECT_DESC: u64 = 1 << 28;
    pub const EVENT_IDX: u64 = 1 << 29;
    pub const PROTOCOL_FEATURES: u64 = 1 << 30;
    pub const VERSION_1: u64 = 1 << 32;
}

/// A disk as a virtio block device.
pub struct Device {
    pub disk: Disk,
    pub stats: Stats,
    pub read_only: bool,
    pub queues: u16,
    pub serial: [u8; 20],
}

impl Device {
    pub fn new(disk: Disk, options: &VhostUserOptions) -> Self {
        let mut serial = [0; 20];
        for (to, from) in serial.iter_mut().zip(options.serial.bytes()) {
            *to = from;
        }
        Self {
            read_only: options.read_only || disk.info().read_only,
            queues: options.queues,
            stats: Stats::default(),
            serial,
            disk,
        }
    }

    /// What is offered.
    pub fn features(&self) -> u64 {
        let writes = if self.read_only {
            feature::RO
        } else {
            feature::DISCARD | feature::WRITE_ZEROES
        };
        // No SIZE_MAX: segments may have any size.
        feature::SEG_MAX
            | feature::GEOMETRY
            | feature::BLK_SIZE
            | feature::FLUSH
            | feature::TOPOLOGY
            | feature::MQ
            | feature::LOG_ALL
            | feature::INDIRECT_DESC
            | feature::EVENT_IDX
            | feature::PROTOCOL_FEATURES
            | feature::VERSION_1
            | writes
    }

    /// Bytes `offset..offset + len` of the configuration space, zeros where it ends.
    pub fn config(&self, offset: u32, len: u32) -> Vec<u8> {
        let info = self.disk.info();
        let sectors = info.size / SECTOR;
        let mut space = [0; CONFIG_LEN];
        let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &sectors.to_le_bytes());
        put(12, &SEG_MAX.to_le_bytes());
        // What a BIOS tells old boot loaders.
        let cylinders = (sectors / u64::from(HEADS * TRACK)).clamp(2, 16383) as u16;
        put(16, &cylinders.to_le_bytes());
        put(18, &[HEADS as u8, TRACK as u8]);
        put(20, &(SECTOR as u32).to_le_bytes());
        // Physical blocks of 4 KiB: what the page cache and most overlays work with.
        put(24, &[3, 0]);
        put(26, &8u16.to_le_bytes());
        put(
            28,
            &(info.preferred_io / SECTOR as u32).max(8).to_le_bytes(),
        );
        put(32, &[1]);
        put(34, &self.queues.to_le_bytes());
        put(36, &MAX_RANGE_SECTORS.to_le_bytes());
        put(40, &MAX_DISCARDS.to_le_bytes());
        put(44, &8u32.to_le_bytes());
        put(48, &MAX_RANGE_SECTORS.to_le_bytes());
        put(52, &MAX_ZEROES.to_le_bytes());
        put(56, &[1]);
        let byte = |at: u64| {
            usize::try_from(at)
                .ok()
                .and_then(|at| space.get(at).copied())
        };
        (0..u64::from(len.min(256)))
            .map(|i| byte(u64::from(offset) + i).unwrap_or(0))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vdisk::memory::MemoryDisk;

    #[test]
    fn configuration_tells_size_and_limits() {
        let options = VhostUserOptions {
            serial: "a serial number longer than twenty bytes".into(),
            ..VhostUserOptions::default()
        };
        let device = Device::new(Disk::new(MemoryDisk::new(0x12345)), &options);
        let config = device.config(0, 60);
        assert_eq!(config[..8], 0x12345u64.to_le_bytes());
        assert_eq!(config[34..36], options.queues.to_le_bytes());
        assert_eq!(device.config(56, 8), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(device.config(u32::MAX, u32::MAX), [0; 256]);
        assert_eq!(&device.serial, b"a serial number long");
        assert_eq!(device.features() & feature::RO, 0);
    }

    #[test]
    fn a_disk_for_reading_says_so() {
        let device = Device::new(
            Disk::new(MemoryDisk::with(vec![0; 512], true)),
            &VhostUserOptions::default(),
        );
        let features = device.features();
        assert_ne!(features & feature::RO, 0);
        assert_eq!(features & (feature::DISCARD | feature::WRITE_ZEROES), 0);
    }
}
