//! Images as whole files: made from other disks or stopped half-way, and opened as what they are, with
//! the key they need, or refused with a reason.
#![allow(clippy::unwrap_used)]

mod chain_support;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chain_support::{Folder, contents, new_key};
use vdisk::convert::NewImage;
use vdisk::image::{DiskKey, Format, Mode, OpenImage, probe};
use vdisk::memory::MemoryDisk;
use vdisk::store::{FileStore, Sharing, Store};
use vdisk::vhd::{self, NewParent};
use vdisk::{BlockDevice, DeviceInfo, Disk, Error, ErrorKind, Extent, Result};

/// Three blocks and a bit.
const SIZE: u64 = (6 << 20) + 3 * 512;

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A disk of which only some parts are not zero: one that crosses blocks, and the last sector.
fn source() -> (Disk, Vec<u8>) {
    let mut bytes = vec![0; SIZE as usize];
    bytes[(2 << 20) - 700..(2 << 20) + 90_000].fill(0x5c);
    bytes[SIZE as usize - 512..].fill(0x77);
    (Disk::new(MemoryDisk::with(bytes.clone(), true)), bytes)
}

fn open(path: &Path, format: Option<Format>, key: Option<&DiskKey>) -> Result<Disk> {
    let mode = Mode::ReadOnly;
    let image = OpenImage {
        path,
        format,
        mode,
        key,
    };
    image.open().map(|opened| opened.disk)
}

fn files(folder: &Folder) -> usize {
    std::fs::read_dir(folder.0.path()).unwrap().count()
}

#[test]
fn a_copy_in_any_format_reads_as_its_source() {
    let folder = Folder::new();
    let (disk, bytes) = source();
    let key = new_key();
    for format in [Format::Raw, Format::VhdFixed, Format::VhdDynamic] {
        for (key, dense) in [(None, false), (Some(&*key), false), (Some(&*key), true)] {
            let path = folder.path("copy");
            let new = NewImage::create(&path, format, SIZE, key).unwrap();
            let new = if dense { new.dense() } else { new };
            let done = AtomicU64::new(0);
            new.fill_from(&disk, &|sum| {
                done.fetch_max(sum, Ordering::Relaxed);
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(
                done.into_inner(),
                SIZE,
                "the progress never came to its end"
            );
            new.flush().unwrap();
            assert!(!path.exists(), "it has its name before it is finished");
            new.finish().unwrap();
            assert!(contents(&open(&path, Some(format), key).unwrap()) == bytes);
            assert_eq!(
                probe(&path).unwrap().size,
                SIZE,
                "{format}, as somebody who only looks"
            );
            // One of the four blocks holds nothing but zeros.
            if format == Format::VhdDynamic {
                let len = std::fs::metadata(&path).unwrap().len();
                assert_eq!(len > 8 << 20, dense, "{len}");
            }
            std::fs::remove_file(&path).unwrap();
        }
    }
}

/// Under a key, zeros are data: what was never written would read as noise.
#[test]
fn an_empty_encrypted_image_reads_as_zeros() {
    let folder = Folder::new();
    let key = new_key();
    for format in [Format::Raw, Format::VhdFixed, Format::VhdDynamic] {
        let path = folder.path(format.name());
        let new = NewImage::create(&path, format, SIZE, Some(&key)).unwrap();
        new.fill_with_zeros(&go_on).unwrap();
        new.finish().unwrap();
        let disk = open(&path, Some(format), Some(&key)).unwrap();
        assert!(contents(&disk).iter().all(|b| *b == 0), "{format}");
    }
}

#[test]
fn an_image_that_cannot_be_is_refused_and_leaves_nothing() {
    let folder = Folder::new();
    let path = folder.path("new");
    for size in [0, 511, (1 << 20) + 1] {
        let refused = NewImage::create(&path, Format::Raw, size, None);
        let error = refused.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert!(error.to_string().contains(&size.to_string()), "{error}");
    }
    let child = NewImage::create(&path, Format::VhdDifferencing, SIZE, None);
    let error = child.err().unwrap().to_string();
    assert!(error.contains("name its parent"), "{error}");
    let huge = NewImage::create(&path, Format::VhdDynamic, 4 << 40, None);
    assert!(huge.err().unwrap().to_string().contains("new"));
    assert_eq!(files(&folder), 0);

    let new = NewImage::create(&path, Format::Raw, SIZE + 512, None).unwrap();
    let error = new.fill_from(&source().0, &go_on).unwrap_err();
    assert!(error.to_string().contains("does not fit"), "{error}");
    drop(new);
    assert_eq!(files(&folder), 0);
}

#[test]
fn a_copy_that_is_stopped_leaves_nothing() {
    let folder = Folder::new();
    let new = NewImage::create(&folder.path("new"), Format::VhdDynamic, SIZE, None).unwrap();
    let asked = AtomicU64::new(0);
    let stop = |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let error = new.fill_from(&source().0, &stop).unwrap_err();
    assert!(error.to_string().contains("stopped"), "{error}");
    drop(new);
    assert_eq!(files(&folder), 0);
}

/// A disk whose second half cannot be read.
struct Broken(Disk);

impl BlockDevice for Broken {
    fn info(&self) -> &DeviceInfo {
        self.0.info()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match offset >= SIZE / 2 {
            true => Err(Error::new(ErrorKind::Io, "a scratch").at_offset(offset)),
            false => self.0.read_at(offset, buf),
        }
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
        unreachable!("the source of a copy is only read")
    }

    fn write_zeroes(&self, _: u64, _: u64) -> Result<()> {
        unreachable!("the source of a copy is only read")
    }

    fn discard(&self, _: u64, _: u64) -> Result<()> {
        unreachable!("the source of a copy is only read")
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn extents(&self, offset: u64, len: u64, found: &mut dyn FnMut(Extent)) -> Result<()> {
        self.0.extents(offset, len, found)
    }
}

#[test]
fn a_source_that_fails_is_named_and_nothing_is_made_of_its_rest() {
    let folder = Folder::new();
    let broken = Disk::from_arc(Arc::new(Broken(source().0)));
    let new = NewImage::create(&folder.path("new"), Format::Raw, SIZE, None).unwrap();
    let error = new.fill_from(&broken, &go_on).unwrap_err();
    assert!(error.to_string().contains("a scratch"), "{error}");
    drop(new);
    assert_eq!(files(&folder), 0);
}

#[test]
fn formats_are_called_as_they_are_on_the_command_line() {
    for name in ["raw", "vhd-fixed", "vhd-dynamic"] {
        assert_eq!(name.parse::<Format>().unwrap().to_string(), name);
    }
    // A child is made of its parent, not by a name of its format.
    for name in ["vhd", "vhd-differencing", "RAW", ""] {
        let error = name.parse::<Format>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert!(error.to_string().contains("vhd-dynamic"), "{error}");
    }
}

#[test]
fn an_image_is_opened_as_what_it_is_with_the_key_it_needs() {
    let folder = Folder::new();
    let (own, other) = (new_key(), new_key());
    let plain = folder.image("plain.vhd", Format::VhdDynamic, None);
    let sealed = folder.image("sealed.vhd", Format::VhdFixed, Some(&own));
    let refusal = |path: &Path, format, key| {
        let error = open(path, format, key).err().unwrap();
        assert_eq!(error.path(), Some(path), "{error}");
        (error.kind(), error.to_string())
    };
    let (kind, text) = refusal(&plain, Some(Format::VhdFixed), None);
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(text.contains("vhd-dynamic, not vhd-fixed"), "{text}");
    for (path, key, says) in [
        (&plain, Some(&*own), "not encrypted"),
        (&sealed, None, "is encrypted"),
        (&sealed, Some(&*other), "not "),
    ] {
        let (kind, text) = refusal(path, None, key);
        assert_eq!(kind, ErrorKind::Key);
        assert!(text.contains(says), "{text}");
        if path == &sealed {
            assert!(text.contains(&own.header.to_string()), "{text}");
        }
    }
    for len in [0, 1000] {
        let odd = folder.path("odd");
        std::fs::write(&odd, vec![1; len]).unwrap();
        let (kind, text) = refusal(&odd, Some(Format::Raw), None);
        assert_eq!(kind, ErrorKind::Corrupt);
        assert!(text.contains(&format!("{len} bytes")), "{text}");
    }
}

/// Only a child has a parent's name to change; what is no child is left as it was.
#[test]
fn a_disk_without_a_parent_gets_none_by_relinking() {
    let folder = Folder::new();
    for format in [Format::VhdFixed, Format::VhdDynamic] {
        let path = folder.image(format.name(), format, None);
        let before = std::fs::read(&path).unwrap();
        let footer = probe(&path).unwrap().footer.unwrap();
        let parent = NewParent {
            footer: &footer,
            path: Path::new("/a/base.vhd"),
            child_folder: Path::new("/a"),
        };
        let store: Arc<dyn Store> = Arc::new(FileStore::open(&path, Sharing::Exclusive).unwrap());
        let error = vhd::relink(store, &parent, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert!(std::fs::read(&path).unwrap() == before, "{format}");
    }
}
