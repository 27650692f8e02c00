//! Operations on a durable overlay above a base beside the model: with closing, opening, crashes, and
//! what a suspended overlay refuses.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;
use vdisk::flat::Flat;
use vdisk::overlay::{Base, OpenOverlay, Overlay, OverlayOptions};
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{Sharing, Store};
use vdisk::{Disk, Error, ErrorKind, SECTOR};
use vdisk_xts::{Xts, XtsKey};

use super::Target;
use super::vhd_ops::{fill, key};
use crate::input::Input;
use crate::oracle::{Model, World, base_stamp};
use crate::sparse::SparseStore;

pub const TARGET: Target = Target {
    name: "stack_ops",
    about: "writes, zeroes, discards, flushes, suspends, reopenings and crashes of an overlay above a base, beside a model",
    max_len: 200,
    run,
};

/// Bits of the first byte.
const ENCRYPTED: u8 = 1;
const QUOTA: u8 = 2;
const SUSPENDS: u8 = 4;
const EPHEMERAL: u8 = 8;

/// Sizes in sectors: not whole clusters, one index page and a bit, less than a cluster.
const SIZES: [u64; 4] = [3_333, 16_390, 5, 64];
/// Bytes that an overlay with a quota may take.
const MOST: u64 = 8 * vdisk::overlay::CLUSTER;
/// The SHA-256 of a saved machine.
const SAVED: [u8; 32] = [9; 32];

struct Session {
    base: SparseStore,
    overlay: SparseStore,
    facts: Base,
    key: Option<XtsKey>,
    quota: bool,
    suspends: bool,
    open: Option<(Arc<Stack>, Overlay)>,
}

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let flags = input.u8();
    let sectors = SIZES[usize::from(flags >> 6)];
    let base = base(sectors);
    let mut session = Session {
        overlay: SparseStore::default(),
        facts: Base {
            id: Uuid::from_u128(77),
            sectors,
            file_len: sectors * SECTOR,
            modified: 1_000,
        },
        key: (flags & ENCRYPTED != 0).then(key),
        quota: flags & QUOTA != 0,
        suspends: flags & SUSPENDS != 0,
        open: None,
        base,
    };
    let base_before = session.base.pages();
    let mut model = Model::new(sectors, base_stamp);
    if flags & EPHEMERAL != 0 {
        let overlay = Overlay::ephemeral(SparseStore::default(), sectors);
        let overlay = overlay.expect("the disk is small");
        model.run(&mut Ephemeral(session.stacked(overlay, None)), &mut input);
    } else {
        model.run(&mut session, &mut input);
    }
    assert!(session.base.pages() == base_before, "the base has changed");
}

/// A raw disk that the model knows. Made once for each size; nobody writes to it.
fn base(sectors: u64) -> SparseStore {
    static MADE: Mutex<BTreeMap<u64, SparseStore>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || {
        let store = SparseStore::default();
        store.set_len(sectors * SECTOR).expect("memory grows");
        let flat = Flat::new(Arc::new(store.clone()), sectors);
        let stack = Stack::new(vec![StackedLayer::plain(flat)], false, "base");
        fill(&Disk::new(stack.expect("one layer is a stack")));
        store
    };
    made.entry(sectors).or_insert_with(make).fork()
}

impl Session {
    fn stacked(&self, overlay: Overlay, key: Option<XtsKey>) -> Arc<Stack> {
        let base = Flat::new(Arc::new(self.base.clone()), self.facts.sectors);
        let layers = vec![
            StackedLayer::new(Box::new(overlay), key.as_ref().map(Xts::new)),
            StackedLayer::plain(base),
        ];
        Arc::new(Stack::new(layers, false, "fuzz").expect("layers of one size are a stack"))
    }

    fn try_open(
        &self,
        sharing: Sharing,
        resume: Option<[u8; 32]>,
    ) -> Result<(Overlay, Option<XtsKey>), Error> {
        let options = OverlayOptions {
            quota: self.quota.then_some(MOST),
            resume,
            ..OverlayOptions::default()
        };
        OpenOverlay {
            path: Path::new("fuzz"),
            base: self.facts,
            base_key: self.key.as_ref(),
            sharing,
            options: &options,
        }
        .open_store(self.overlay.clone())
    }

    /// A new overlay. Each kind is made once; from then on it is copied.
    fn create(&self) {
        static MADE: Mutex<BTreeMap<(u64, bool), SparseStore>> = Mutex::new(BTreeMap::new());
        let kind = (self.facts.sectors, self.key.is_some());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let new = made.entry(kind).or_insert_with(|| self.make());
        self.overlay.become_copy_of(new);
    }

    /// An overlay taken from a file: only a path makes one.
    fn make(&self) -> SparseStore {
        let dir = tempfile::tempdir().expect("a folder can be made");
        let path = dir.path().join("overlay");
        let options = OverlayOptions::default();
        let made = OpenOverlay {
            path: &path,
            base: self.facts,
            base_key: self.key.as_ref(),
            sharing: Sharing::Exclusive,
            options: &options,
        }
        .open();
        drop(made.expect("an overlay can be made"));
        SparseStore::with(&std::fs::read(&path).expect("it is there"))
    }
}

impl World for Session {
    fn reopen(&mut self, crash: bool) -> Disk {
        let mut resume = None;
        match self.open.take() {
            None => self.create(),
            Some((stack, overlay)) => {
                if crash {
                    stack.abandon();
                } else if self.suspends && vdisk::BlockDevice::flush(&*stack).is_ok() {
                    overlay
                        .suspend(SAVED)
                        .expect("a flushed overlay can be suspended");
                    resume = Some(SAVED);
                }
                drop((stack, overlay));
            }
        }
        self.try_open(Sharing::ReadOnly, resume)
            .expect("a reader opens it");
        if resume.is_some() {
            for other in [None, Some([1; 32])] {
                let refused = self.try_open(Sharing::Exclusive, other).err();
                assert_eq!(refused.map(|e| e.kind()), Some(ErrorKind::Busy));
            }
        }
        let opened = self.try_open(Sharing::Exclusive, resume);
        let (overlay, key) = opened.expect("our own overlay opens");
        assert_eq!(key.is_some(), self.key.is_some());
        if self.quota {
            assert!(overlay.used() <= MOST, "{} bytes used", overlay.used());
        }
        let stack = self.stacked(overlay.clone(), key);
        self.open = Some((stack.clone(), overlay));
        Disk::from_arc(stack)
    }

    fn may_fail(&self) -> bool {
        self.quota
    }
}

/// An overlay that cannot be reopened: the disk goes on as it is.
struct Ephemeral(Arc<Stack>);

impl World for Ephemeral {
    fn reopen(&mut self, _: bool) -> Disk {
        Disk::from_arc(self.0.clone())
    }
}
