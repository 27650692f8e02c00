//! A disk in memory, mounted on a directory for a test.
#![allow(dead_code)] // Each test binary uses a part.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use nix::errno::Errno;
use vdisk::Disk;
use vdisk::memory::MemoryDisk;
use vdisk_frontends::fuse::{FuseMount, FuseOptions};

use super::common::peer;

pub const SIZE: usize = 16 << 20;

/// A fixed VHD's footer for `size` bytes, made here from the format's description.
pub fn footer(size: u64) -> [u8; 512] {
    let mut footer = [0; 512];
    footer[..8].copy_from_slice(b"conectix");
    footer[8..12].copy_from_slice(&2u32.to_be_bytes());
    footer[12..16].copy_from_slice(&0x0001_0000u32.to_be_bytes());
    footer[16..24].copy_from_slice(&u64::MAX.to_be_bytes());
    footer[28..32].copy_from_slice(b"vdsk");
    footer[32..36].copy_from_slice(&0x0001_0000u32.to_be_bytes());
    footer[36..40].copy_from_slice(b"Wi2k");
    footer[40..48].copy_from_slice(&size.to_be_bytes());
    footer[48..56].copy_from_slice(&size.to_be_bytes());
    let cylinders = (size / 512 / (4 * 17)) as u16;
    footer[56..58].copy_from_slice(&cylinders.to_be_bytes());
    footer[58] = 4;
    footer[59] = 17;
    footer[60..64].copy_from_slice(&2u32.to_be_bytes());
    footer[68..84].copy_from_slice(&[7; 16]);
    let sum: u32 = footer.iter().map(|b| u32::from(*b)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

pub struct Mounted {
    pub mount: FuseMount,
    pub disk: Disk,
    pub dir: tempfile::TempDir,
}

/// `None` where FUSE itself is missing and peers may be skipped.
pub fn mount(bytes: Vec<u8>, change: impl FnOnce(&mut FuseOptions)) -> Option<Mounted> {
    if !peer("fusermount3") {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let point = dir.path().join("mount point");
    fs::create_dir(&point).unwrap();
    let mut options = FuseOptions::new(footer(bytes.len() as u64));
    change(&mut options);
    let disk = Disk::new(MemoryDisk::with(bytes, false));
    let mount = FuseMount::mount(&point, disk.clone(), options).unwrap();
    Some(Mounted { mount, disk, dir })
}

pub fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap())
}

pub fn mounted_at(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.contains(&path.to_str().unwrap().replace(' ', "\\040"))
}
