//! Disks in a folder for tests of chains: made, opened, written and read by name.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vdisk::chain::{NewChild, Parents};
use vdisk::convert::NewImage;
use vdisk::image::{DiskKey, Format, Mode, OpenImage, OpenedImage, random_key};
use vdisk::{Disk, Result};

/// Size of the disks: two blocks and a bit.
pub const SIZE: u64 = (4 << 20) + (64 << 10) + 3 * 512;

pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn image(&self, name: &str, format: Format, key: Option<&DiskKey>) -> PathBuf {
        let path = self.path(name);
        let image = NewImage::create(&path, format, SIZE, key).unwrap();
        image
            .fill_with_zeros(&|_| std::ops::ControlFlow::Continue(()))
            .unwrap();
        image.finish().unwrap();
        path
    }

    pub fn child(&self, name: &str, parent: &Path, key: Option<&DiskKey>) -> PathBuf {
        let path = self.path(name);
        let child = NewChild {
            path: &path,
            parent,
            key,
        };
        child.create().unwrap();
        path
    }
}

pub fn new_key() -> Arc<DiskKey> {
    Arc::new(DiskKey {
        key: random_key().unwrap(),
        header: uuid::Uuid::new_v4(),
    })
}

pub fn try_open(
    path: &Path,
    mode: Mode,
    keys: &[&Arc<DiskKey>],
    force_parent: bool,
) -> Result<OpenedImage> {
    let header = vdisk::image::probe(path)?.footer.and_then(|f| f.luks);
    let find = |header| keys.iter().copied().find(|key| Some(key.header) == header);
    OpenImage {
        path,
        format: None,
        mode,
        key: find(header).map(|key| &**key),
    }
    .open_above(&Parents {
        keys: &|_, header| Ok(find(header).cloned()),
        force_parent,
    })
}

pub fn open(path: &Path, mode: Mode, keys: &[&Arc<DiskKey>]) -> Disk {
    let opened = try_open(path, mode, keys, false).unwrap();
    assert!(opened.troubles.is_empty(), "{:?}", opened.troubles);
    opened.disk
}

pub fn contents(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.size() as usize];
    disk.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Writes into a disk and into its model.
pub fn write(disk: &Disk, model: &mut [u8], at: u64, len: u64, byte: u8) {
    let data: Vec<u8> = (0..len).map(|i| byte ^ (i / 512) as u8).collect();
    disk.write_at(at, &data).unwrap();
    model[at as usize..][..len as usize].copy_from_slice(&data);
}

pub fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).position(|(a, b)| a != b)
}
