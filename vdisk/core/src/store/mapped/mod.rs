//! A file's pages where they lie: what is enciphered is deciphered straight from the page cache into
//! the reader's buffer, without the copy that a `pread` makes first.
//!
//! Address space is cheap and a file's length changes: each 64 GiB of a file get a mapping of that size
//! when they are first read, whatever the file's length is. What grows later is in it already, and only
//! bytes that were written are ever asked for. Whatever stands in the way (a file system that is not on
//! the list, no room left, an accident) makes the reader fall back to `pread`, which also has the words
//! for what is wrong.

mod faults;

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, TMPFS_MAGIC, XFS_SUPER_MAGIC,
    fstatfs,
};
use vdisk_xts::SharedBytes;

use faults::{LENGTH, Mapping};

/// Mappings of a file: 3 TiB, more than the largest VHD.
const SEGMENTS: usize = 48;

/// File systems whose reads, writes and mappings are known to see one and the same page cache. Elsewhere
/// (networks, FUSE, overlays of two file systems) a mapping may miss what somebody wrote.
const COHERENT: [FsType; 5] = [
    EXT4_SUPER_MAGIC,
    XFS_SUPER_MAGIC,
    BTRFS_SUPER_MAGIC,
    F2FS_SUPER_MAGIC,
    TMPFS_MAGIC,
];

/// The mappings of one open file, made as they are needed.
#[derive(Debug, Default)]
pub(super) struct Mapped {
    /// Empty for a file that is not mapped.
    segments: OnceLock<Box<[OnceLock<Option<Mapping>>]>>,
    shown: AtomicU64,
}

impl Mapped {
    /// Calls `take` with the bytes of `file` at `offset`. `false` if there was nothing to show, or if it
    /// turned out meanwhile that what was shown was not the file's: read it otherwise then.
    pub(super) fn show(
        &self,
        file: &File,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(SharedBytes<'_>),
    ) -> bool {
        let segments = self.segments.get_or_init(|| {
            let count = if coherent(file) { SEGMENTS } else { 0 };
            (0..count).map(|_| OnceLock::new()).collect()
        });
        let number = offset / LENGTH;
        let Some(segment) = usize::try_from(number).ok().and_then(|n| segments.get(n)) else {
            return false;
        };
        let made = segment.get_or_init(|| Mapping::new(file.as_fd(), number * LENGTH));
        let shown = made
            .as_ref()
            .is_some_and(|mapping| mapping.show(offset % LENGTH, len, take));
        if shown {
            self.shown.fetch_add(1, Ordering::Relaxed);
        }
        shown
    }

    /// How many times bytes were shown, and were the file's.
    pub(super) fn shown(&self) -> u64 {
        self.shown.load(Ordering::Relaxed)
    }
}

fn coherent(file: &File) -> bool {
    // Block devices are left out: their pages go with the medium, at any time.
    let regular = file.metadata().is_ok_and(|m| m.is_file());
    regular && fstatfs(file).is_ok_and(|fs| COHERENT.contains(&fs.filesystem_type()))
}
