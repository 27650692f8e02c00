//! Operations on dynamic and differencing VHDs beside the model, with closing, opening and crashes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::Store;
use vdisk::vhd::{self, Kind, NewParent};
use vdisk::{Disk, SECTOR};
use vdisk_xts::{Xts, XtsKey};

use super::Target;
use crate::input::Input;
use crate::oracle::{self, Model, Stamp, World, base_stamp};
use crate::sparse::SparseStore;

pub const TARGET: Target = Target {
    name: "vhd_ops",
    about: "writes, zeroes, discards, flushes, reopenings and crashes of a growing VHD, beside a model",
    max_len: 200,
    run,
};

/// Bits of the first byte.
const CHILD: u8 = 1;
const ENCRYPTED: u8 = 2;

/// Sizes in sectors: three blocks and a bit, exactly two, and less than one.
const SIZES: [u64; 4] = [12_291, 8_192, 7, 4_097];

struct Vhd {
    child: SparseStore,
    parent: Option<SparseStore>,
    key: Option<XtsKey>,
    open: Option<Arc<Stack>>,
}

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let flags = input.u8();
    let sectors = SIZES[usize::from(flags >> 6)];
    let key = (flags & ENCRYPTED != 0).then(key);
    let mut vhd = Vhd::new(sectors, flags & CHILD != 0, key);
    let base: fn(u64) -> Stamp = match flags & CHILD {
        0 => |_| oracle::ZERO,
        _ => base_stamp,
    };
    Model::new(sectors, base).run(&mut vhd, &mut input);
}

/// A key; which one does not matter.
pub fn key() -> XtsKey {
    let mut bytes = [7; vdisk_xts::KEY_LEN];
    bytes[0] = 8;
    XtsKey::new(bytes).expect("the halves differ")
}

/// Writes what a base holds that the model calls [`base_stamp`].
pub fn fill(disk: &Disk) {
    for lba in 0..disk.size() / SECTOR {
        if base_stamp(lba) == oracle::BASE {
            let bytes = oracle::sector(oracle::BASE, lba);
            disk.write_at(lba * SECTOR, &bytes)
                .expect("a base can be written");
        }
    }
}

impl Vhd {
    fn new(sectors: u64, with_parent: bool, key: Option<XtsKey>) -> Self {
        let (child, size) = (SparseStore::default(), sectors * SECTOR);
        let mut parent = None;
        if with_parent {
            let store = parent_of(sectors);
            let footer = vhd::read_footer(&store)
                .ok()
                .flatten()
                .expect("it has a footer");
            let link = NewParent {
                footer: &footer,
                path: Path::new("/disks/parent.vhd"),
                child_folder: Path::new("/disks"),
            };
            vhd::create_child(&child, &link, None).expect("a child can be made");
            parent = Some(store);
        } else {
            vhd::create(&child, Kind::Dynamic, size, None).expect("a disk can be made");
        }
        Self {
            child,
            parent,
            key,
            open: None,
        }
    }
}

/// A parent that the model knows. Made once for each size; nobody writes to it.
fn parent_of(sectors: u64) -> SparseStore {
    static MADE: Mutex<BTreeMap<u64, SparseStore>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || {
        let store = SparseStore::default();
        let size = sectors * SECTOR;
        vhd::create(&store, Kind::Dynamic, size, None).expect("a parent can be made");
        fill(&Disk::new(stack(&store, None, None)));
        store
    };
    made.entry(sectors).or_insert_with(make).fork()
}

fn stack(child: &SparseStore, parent: Option<&SparseStore>, key: Option<&XtsKey>) -> Stack {
    let open = |store: &SparseStore, read_only| {
        let opened = vhd::open(Arc::new(store.clone()), read_only).expect("our own disk opens");
        assert!(
            opened.troubles.is_empty() || !read_only,
            "{:?}",
            opened.troubles
        );
        opened.into_layer()
    };
    let mut layers = vec![StackedLayer::new(open(child, false), key.map(Xts::new))];
    layers.extend(parent.map(|store| StackedLayer::new(open(store, true), None)));
    Stack::new(layers, false, "fuzz").expect("layers of one size are a stack")
}

impl World for Vhd {
    fn reopen(&mut self, crash: bool) -> Disk {
        if let Some(open) = self.open.take() {
            if crash {
                open.abandon();
            }
            drop(open);
            // Whatever the state, it must be one that a reader accepts.
            let len = self.child.len().expect("memory has a length");
            assert!(len < 64 << 20, "the file has grown to {len} bytes");
            vhd::open(Arc::new(self.child.clone()), true).expect("a reader opens it");
        }
        let stack = Arc::new(stack(&self.child, self.parent.as_ref(), self.key.as_ref()));
        self.open = Some(stack.clone());
        Disk::from_arc(stack)
    }
}
