//! Disks of every make, without a frontend, for benches and plots. They panic where a library would answer
//! an error: nothing can be measured then.

use std::path::Path;
use std::sync::Arc;

use vdisk::flat::Flat;
use vdisk::image::random_key;
use vdisk::layer::Layer;
use vdisk::overlay::Overlay;
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{FileStore, Store};
use vdisk::vhd::{self, Kind};
use vdisk::{BlockDevice, SECTOR};
use vdisk_xts::Xts;

/// Bytes of every disk.
pub const SIZE: u64 = 256 << 20;

/// A folder in memory where the machine has a file system there, so that no medium is measured.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a folder")
}

fn file(dir: &Path) -> Arc<dyn Store> {
    let store = FileStore::unnamed(dir).expect("a file");
    store.set_len(SIZE).expect("room");
    Arc::new(store)
}

/// A raw disk.
pub fn raw(dir: &Path) -> Box<dyn Layer> {
    Box::new(Flat::new(file(dir), SIZE / SECTOR))
}

/// A dynamic VHD.
pub fn dynamic(dir: &Path) -> Box<dyn Layer> {
    let store: Arc<dyn Store> = Arc::new(FileStore::unnamed(dir).expect("a file"));
    vhd::create(&*store, Kind::Dynamic, SIZE, None).expect("an image");
    vhd::open(store, false).expect("the image").into_layer()
}

/// An empty overlay.
pub fn overlay(dir: &Path) -> Box<dyn Layer> {
    let store = FileStore::unnamed(dir).expect("a file");
    Box::new(Overlay::ephemeral(store, SIZE / SECTOR).expect("an overlay"))
}

/// Layers, top first, each under a key of its own if `encrypted`.
pub fn stack(layers: Vec<Box<dyn Layer>>, encrypted: bool) -> Stack {
    let key = || encrypted.then(|| Xts::new(&random_key().expect("a key")));
    let layers = layers
        .into_iter()
        .map(|layer| StackedLayer::new(layer, key()))
        .collect();
    Stack::new(layers, false, "bench").expect("a stack")
}

/// Writes every sector.
pub fn fill(disk: &Stack) {
    let buf = vec![0x5a; 1 << 20];
    for at in (0..SIZE).step_by(buf.len()) {
        disk.write_at(at, &buf).expect("a write");
    }
}

/// Places all over the disk for requests of `len` bytes, the same in every run.
pub fn places(len: u64) -> impl FnMut() -> u64 {
    let mut state = 1u64;
    move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 20) % (SIZE / len) * len
    }
}

/// A dynamic VHD that was written whole, under this many empty overlays, all encrypted.
pub fn above(dir: &Path, overlays: usize) -> Stack {
    let base: Arc<dyn Store> = Arc::new(FileStore::unnamed(dir).expect("a file"));
    vhd::create(&*base, Kind::Dynamic, SIZE, None).expect("an image");
    let open = |read_only| {
        let opened = vhd::open(base.clone(), read_only).expect("the image");
        opened.into_layer()
    };
    fill(&stack(vec![open(false)], false));
    let mut layers: Vec<_> = (0..overlays).map(|_| overlay(dir)).collect();
    layers.push(open(true));
    stack(layers, true)
}
