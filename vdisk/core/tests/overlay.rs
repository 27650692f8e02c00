//! Durable overlays: what stays, what is refused, what a crash leaves, and how they end.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use uuid::Uuid;
use vdisk::chain::Parents;
use vdisk::convert::NewImage;
use vdisk::image::{DiskKey, Format, Mode, OpenImage, OpenedImage, random_key};
use vdisk::overlay::{self, Base, CLUSTER, CommitOverlay, OpenOverlay, OverlayOptions, State};
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{MemoryStore, Sharing, Store};
use vdisk::{Disk, ErrorKind, Result, SECTOR};

mod conformance;
use conformance::{check, ops};

const SIZE: u64 = 5 << 20;

/// A base disk with some bytes in it, and where its overlay goes.
struct Bench {
    dir: tempfile::TempDir,
    key: Option<DiskKey>,
    bytes: Vec<u8>,
}

impl Bench {
    fn new(format: Format, encrypted: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = encrypted.then(|| DiskKey {
            key: random_key().unwrap(),
            header: Uuid::new_v4(),
        });
        let mut bytes = vec![0; SIZE as usize];
        for at in (0..SIZE as usize).step_by(300_000) {
            bytes[at..][..70_000].fill(at as u8 | 1);
        }
        let image = NewImage::create(&dir.path().join("base"), format, SIZE, key.as_ref()).unwrap();
        let source = Disk::new(vdisk::memory::MemoryDisk::new(SIZE / SECTOR));
        source.write_at(0, &bytes).unwrap();
        image
            .fill_from(&source, &|_| ControlFlow::Continue(()))
            .unwrap();
        image.finish().unwrap();
        Self { dir, key, bytes }
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }

    fn overlay(&self) -> PathBuf {
        self.dir.path().join("session.overlay")
    }

    fn open_with(&self, options: OverlayOptions) -> Result<OpenedImage> {
        let mode = Mode::Durable {
            overlay: self.overlay(),
            options,
        };
        self.open_as(mode)
    }

    fn open_as(&self, mode: Mode) -> Result<OpenedImage> {
        OpenImage {
            path: &self.base(),
            format: None,
            mode,
            key: self.key.as_ref(),
        }
        .open()
    }

    fn open(&self) -> OpenedImage {
        self.open_with(OverlayOptions::default()).unwrap()
    }

    fn commit(&self) -> Result<overlay::Committed> {
        CommitOverlay {
            base: &self.base(),
            format: None,
            key: self.key.as_ref(),
            overlay: &self.overlay(),
            parents: Parents::default(),
            force_base: false,
        }
        .run(&mut |_| ControlFlow::Continue(()))
    }
}

fn read(disk: &Disk, at: u64, len: u64) -> Vec<u8> {
    let mut buf = vec![0; len as usize];
    disk.read_at(at, &mut buf).unwrap();
    buf
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_durable_overlay_is_a_disk_that_can_be_closed(ops in ops(SIZE, 60), encrypted: bool) {
        let bench = Bench::new(Format::VhdDynamic, encrypted);
        let base = std::fs::read(bench.base()).unwrap();
        check(bench.bytes.clone(), &ops, |old| {
            drop(old);
            bench.open().disk
        });
        prop_assert!(std::fs::read(bench.base()).unwrap() == base, "a session wrote to its base");
        let report = overlay::check(&bench.overlay()).unwrap();
        prop_assert!(report.troubles.is_empty(), "{report:?}");
    }

    #[test]
    fn a_commit_makes_the_base_what_the_session_saw(ops in ops(SIZE, 40), encrypted: bool) {
        let bench = Bench::new(Format::VhdDynamic, encrypted);
        let mut seen = Vec::new();
        check(bench.bytes.clone(), &ops, |old| {
            drop(old);
            bench.open().disk
        });
        seen.extend(read(&bench.open().disk, 0, SIZE));
        bench.commit().unwrap();
        prop_assert!(!bench.overlay().exists());
        let base = bench.open_as(Mode::ReadOnly).unwrap();
        prop_assert!(read(&base.disk, 0, SIZE) == seen);
    }

    #[test]
    fn any_damage_is_an_error_or_harmless_but_never_a_panic(
        flips in prop::collection::vec((0..24576usize, any::<u8>()), 1..6),
        cut in prop::option::of(0..3_000_000u64),
    ) {
        let bench = Bench::new(Format::Raw, false);
        let opened = bench.open();
        for at in (0..SIZE).step_by(200_000) {
            opened.disk.write_at(at, &[1; 5000]).unwrap();
        }
        opened.disk.write_zeroes(1 << 20, 1 << 20).unwrap();
        drop(opened);
        let mut bytes = std::fs::read(bench.overlay()).unwrap();
        for (at, value) in flips {
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut as usize);
        }
        std::fs::write(bench.overlay(), bytes).unwrap();
        let _ = overlay::check(&bench.overlay());
        let _ = overlay::inspect(&bench.overlay());
        if let Ok(opened) = bench.open_with(OverlayOptions::default()) {
            let mut buf = vec![0; 4096];
            for at in (0..SIZE).step_by(4096) {
                let _ = opened.disk.read_at(at, &mut buf);
                let _ = opened.disk.write_at(at, &buf[..512]);
            }
            let _ = opened.disk.flush();
        }
    }
}

#[test]
fn what_was_flushed_survives_and_what_was_written_is_ciphertext() {
    let bench = Bench::new(Format::VhdDynamic, true);
    let secret = b"a secret that must not be found!".repeat(4096);
    let opened = bench.open();
    opened.disk.write_at(777 * SECTOR, &secret).unwrap();
    opened.disk.flush().unwrap();
    assert_eq!(
        overlay::inspect(&bench.overlay()).unwrap().state,
        State::Open
    );
    drop(opened);
    assert_eq!(
        overlay::inspect(&bench.overlay()).unwrap().state,
        State::Clean
    );
    let file = std::fs::read(bench.overlay()).unwrap();
    assert!(!file.windows(16).any(|w| w == &secret[..16]));
    // The same plaintext under the base's key would show which sectors changed: the keys differ.
    let opened = bench.open();
    assert!(read(&opened.disk, 777 * SECTOR, secret.len() as u64) == secret);
    assert!(opened.overlay.unwrap().used() >= secret.len() as u64);
}

#[test]
fn other_bases_and_changed_ones_are_refused() {
    let bench = Bench::new(Format::VhdDynamic, true);
    bench.open().disk.write_at(0, &[1; 512]).unwrap();

    let other = Bench::new(Format::VhdDynamic, true);
    std::fs::copy(bench.overlay(), other.overlay()).unwrap();
    let refused = other.open_with(OverlayOptions::default()).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Parent);
    assert!(
        refused.to_string().contains("was made for disk"),
        "{refused}"
    );
    // Even by force: the key of another base does not open it.
    let force = OverlayOptions {
        force_base: true,
        ..OverlayOptions::default()
    };
    let refused = other.open_with(force.clone()).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Key);

    let refused = |bench: &Bench| {
        let refused = bench.open_with(OverlayOptions::default()).err().unwrap();
        assert!(
            refused.to_string().contains("was written since"),
            "{refused}"
        );
    };
    // A copy is as good, whatever its file's times; one that was written to is not.
    std::fs::copy(bench.base(), bench.dir.path().join("copy")).unwrap();
    std::fs::rename(bench.dir.path().join("copy"), bench.base()).unwrap();
    drop(bench.open());
    let base = bench.open_as(Mode::Keep).unwrap();
    base.disk.write_at(0, &[9; 512]).unwrap();
    drop(base);
    refused(&bench);
    drop(bench.open_with(force.clone()).unwrap());
    // Taken as it is once, it is the overlay's base from then on.
    drop(bench.open());

    // Of a raw disk only its file's times tell.
    let raw = Bench::new(Format::Raw, false);
    drop(raw.open());
    let base = std::fs::File::options()
        .write(true)
        .open(raw.base())
        .unwrap();
    base.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    refused(&raw);
    drop(raw.open_with(force).unwrap());
    drop(raw.open());
}

#[test]
fn a_file_cut_short_is_refused() {
    let bench = Bench::new(Format::Raw, false);
    let opened = bench.open();
    opened.disk.write_at(0, &vec![1; 1 << 20]).unwrap();
    drop(opened);
    let file = std::fs::File::options()
        .write(true)
        .open(bench.overlay())
        .unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len - CLUSTER).unwrap();
    let refused = bench.open_with(OverlayOptions::default()).err().unwrap();
    assert!(refused.to_string().contains("cut short"), "{refused}");
    assert!(
        !overlay::check(&bench.overlay())
            .unwrap()
            .troubles
            .is_empty()
    );
}

#[test]
fn two_words_on_one_cluster_are_found() {
    let bench = Bench::new(Format::Raw, false);
    let opened = bench.open();
    opened
        .disk
        .write_at(0, &vec![1; 2 * CLUSTER as usize])
        .unwrap();
    drop(opened);
    let mut bytes = std::fs::read(bench.overlay()).unwrap();
    bytes.copy_within(8192..8200, 8200);
    std::fs::write(bench.overlay(), bytes).unwrap();
    let troubles = overlay::check(&bench.overlay()).unwrap().troubles;
    assert!(
        troubles.iter().any(|t| t.contains("2 words name")),
        "{troubles:?}"
    );
}

#[test]
fn a_suspended_overlay_waits_for_its_machine() {
    let bench = Bench::new(Format::VhdDynamic, true);
    let opened = bench.open();
    let control = opened.overlay.clone().unwrap();
    opened.disk.write_at(0, &[7; 4096]).unwrap();
    let early = control.suspend([3; 32]).unwrap_err();
    assert!(early.to_string().contains("not flushed"), "{early}");
    opened.disk.flush().unwrap();
    control.suspend([3; 32]).unwrap();
    let refused = opened.disk.write_at(0, &[8; 4096]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly);
    assert!(opened.disk.write_zeroes(0, 4096).is_err());
    drop((opened, control));

    let with = |resume| {
        bench.open_with(OverlayOptions {
            resume,
            ..OverlayOptions::default()
        })
    };
    for wrong in [None, Some([4; 32])] {
        assert_eq!(with(wrong).err().unwrap().kind(), ErrorKind::Busy);
    }
    let opened = with(Some([3; 32])).unwrap();
    assert_eq!(read(&opened.disk, 0, 4096), [7; 4096]);
    opened.disk.write_at(0, &[9; 4096]).unwrap();
    drop(opened);
    // The saved machine is out of date now.
    assert_eq!(with(Some([3; 32])).err().unwrap().kind(), ErrorKind::Busy);
    assert_eq!(read(&bench.open().disk, 0, 4096), [9; 4096]);
}

#[test]
fn a_suspended_overlay_may_be_read_while_it_sleeps() {
    let bench = Bench::new(Format::VhdDynamic, true);
    let opened = bench.open();
    let control = opened.overlay.clone().unwrap();
    opened.disk.write_at(0, &[7; 4096]).unwrap();
    opened.disk.flush().unwrap();
    control.suspend([3; 32]).unwrap();
    drop((opened, control));
    let asleep = || {
        bench
            .open_with(OverlayOptions {
                resume: Some([3; 32]),
                asleep: true,
                ..OverlayOptions::default()
            })
            .unwrap()
    };
    let before = std::fs::read(bench.overlay()).unwrap();
    let opened = asleep();
    assert_eq!(read(&opened.disk, 0, 4096), [7; 4096]);
    let refused = opened.disk.write_at(0, &[8; 4096]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly);
    opened.disk.flush().unwrap();
    drop(opened);
    assert!(std::fs::read(bench.overlay()).unwrap() == before);
    // And again, now to wake.
    let opened = asleep();
    opened.overlay.as_ref().unwrap().resume().unwrap();
    opened.disk.write_at(4096, &[9; 4096]).unwrap();
    drop(opened);
    let opened = bench.open();
    assert_eq!(read(&opened.disk, 0, 4096), [7; 4096]);
    assert_eq!(read(&opened.disk, 4096, 4096), [9; 4096]);
}

#[test]
fn many_sessions_begin_on_a_kept_overlay() {
    let bench = Bench::new(Format::VhdDynamic, true);
    let opened = bench.open();
    let control = opened.overlay.clone().unwrap();
    opened.disk.write_at(512, &[7; 4096]).unwrap();
    opened.disk.flush().unwrap();
    control.suspend([3; 32]).unwrap();
    drop((opened, control));
    let kept = bench.overlay().with_extension("kept");
    std::fs::rename(bench.overlay(), &kept).unwrap();
    let on = |saved| OverlayOptions {
        on: Some(overlay::Kept {
            overlay: kept.clone(),
            saved,
        }),
        ..OverlayOptions::default()
    };
    let before = std::fs::read(&kept).unwrap();
    let opened = bench.open_with(on([3; 32])).unwrap();
    assert_eq!(read(&opened.disk, 512, 4096), [7; 4096]);
    opened.disk.write_at(1024, &[9; 512]).unwrap();
    drop(opened);
    let opened = bench.open_with(on([3; 32])).unwrap();
    assert_eq!(read(&opened.disk, 512, 512), [7; 512]);
    assert_eq!(read(&opened.disk, 1024, 512), [9; 512]);
    assert_eq!(read(&opened.disk, 8192, 512), bench.bytes[8192..][..512]);
    drop(opened);
    assert!(std::fs::read(&kept).unwrap() == before);
    // What lies above it goes with it alone.
    assert_eq!(
        bench.open_with(on([4; 32])).err().unwrap().kind(),
        ErrorKind::Busy
    );
    let alone = bench.open_with(OverlayOptions::default()).err().unwrap();
    assert_eq!(alone.kind(), ErrorKind::Parent);
}

#[test]
fn a_suspension_that_is_called_off_goes_on() {
    let bench = Bench::new(Format::Raw, false);
    let opened = bench.open();
    let control = opened.overlay.clone().unwrap();
    control.suspend([1; 32]).unwrap();
    control.resume().unwrap();
    opened.disk.write_at(0, &[1; 512]).unwrap();
    drop((opened, control));
    assert_eq!(read(&bench.open().disk, 0, 512), [1; 512]);
}

#[test]
fn a_quota_holds_and_trim_makes_room() {
    let bench = Bench::new(Format::Raw, false);
    let opened = bench
        .open_with(OverlayOptions {
            quota: Some(1 << 20),
            ..OverlayOptions::default()
        })
        .unwrap();
    let (disk, control) = (&opened.disk, opened.overlay.as_ref().unwrap());
    disk.write_at(0, &vec![1; 1 << 20]).unwrap();
    let full = disk.write_at(2 << 20, &[2; 512]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::NoSpace);
    // What is there can still be changed, and nothing was lost.
    disk.write_at(4096, &[3; 4096]).unwrap();
    assert_eq!(read(disk, 2 << 20, 512), bench.bytes[2 << 20..][..512]);
    disk.discard(0, CLUSTER).unwrap();
    // Until a flush the words on the medium may still name the cluster: its space is not free yet.
    assert_eq!(
        disk.write_at(2 << 20, &[2; 512]).unwrap_err().kind(),
        ErrorKind::NoSpace
    );
    disk.flush().unwrap();
    assert_eq!(
        read(disk, 0, 512),
        bench.bytes[..512],
        "fell back to the base"
    );
    disk.write_at(2 << 20, &[2; 512]).unwrap();
    assert_eq!(control.used(), 1 << 20);
    drop(opened);
    // It is remembered.
    let full = bench.open().disk.write_at(3 << 20, &[2; 512]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::NoSpace);
}

fn blocks(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn trim_gives_space_back_to_the_host() {
    let bench = Bench::new(Format::VhdDynamic, true);
    let opened = bench.open();
    opened.disk.write_at(0, &vec![1; 4 << 20]).unwrap();
    opened.disk.flush().unwrap();
    let before = blocks(&bench.overlay());
    assert!(before >= 4 << 20);
    opened.disk.discard(0, 3 << 20).unwrap();
    // A crash may still bring the old words back, so their clusters stay until the new ones are durable.
    assert!(blocks(&bench.overlay()) + (64 << 10) >= before);
    opened.disk.flush().unwrap();
    assert!(blocks(&bench.overlay()) <= before - (3 << 20) + (64 << 10));
}

#[test]
fn a_commit_that_was_stopped_is_finished_later_and_by_nothing_else() {
    let bench = Bench::new(Format::VhdDynamic, true);
    let opened = bench.open();
    opened.disk.write_at(0, &vec![1; 4 << 20]).unwrap();
    opened.disk.write_zeroes(4 << 20, 1 << 20).unwrap();
    let seen = read(&opened.disk, 0, SIZE);
    drop(opened);
    let stopped = CommitOverlay {
        base: &bench.base(),
        format: None,
        key: bench.key.as_ref(),
        overlay: &bench.overlay(),
        parents: Parents::default(),
        force_base: false,
    }
    .run(&mut |done| match done {
        0..2_000_000 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    });
    assert!(stopped.is_err());
    let refused = bench.open_with(OverlayOptions::default()).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Busy);
    bench.commit().unwrap();
    assert!(read(&bench.open_as(Mode::ReadOnly).unwrap().disk, 0, SIZE) == seen);
}

#[test]
fn a_commit_is_finished_into_the_disk_it_was_begun_with() {
    let bench = Bench::new(Format::VhdDynamic, false);
    let opened = bench.open();
    opened.disk.write_at(0, &vec![1; 4 << 20]).unwrap();
    drop(opened);
    let into = |base: &Path, stop: bool| {
        CommitOverlay {
            base,
            format: None,
            key: None,
            overlay: &bench.overlay(),
            parents: Parents::default(),
            force_base: false,
        }
        .run(&mut |_| match stop {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    };
    assert!(into(&bench.base(), true).is_err());
    let other = Bench::new(Format::VhdDynamic, false);
    let refused = into(&other.base(), false).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Parent);
    let untouched = other.open_as(Mode::ReadOnly).unwrap();
    assert!(read(&untouched.disk, 0, SIZE) == other.bytes);
    into(&bench.base(), false).unwrap();
}

#[test]
fn a_revert_that_a_crash_interrupted_is_one() {
    let bench = Bench::new(Format::VhdDynamic, true);
    let opened = bench.open();
    opened.disk.write_at(0, &[1; 4096]).unwrap();
    drop(opened);
    let witness = bench.dir.path().join("witness");
    std::fs::hard_link(bench.overlay(), &witness).unwrap();
    overlay::revert(&bench.overlay()).unwrap();
    // The crash brings the name back, over what the revert had made durable.
    std::fs::rename(&witness, bench.overlay()).unwrap();
    let again = bench.dir.path().join("again");
    std::fs::copy(bench.overlay(), &again).unwrap();
    overlay::revert(&again).unwrap();
    assert_eq!(read(&bench.open().disk, 0, 4096), bench.bytes[..4096]);
}

/// A store whose next sync fails when told so.
struct Failing(Arc<MemoryStore>, Arc<AtomicBool>);

impl Store for Failing {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.0.write_at(offset, buf)
    }
    fn len(&self) -> Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.0.set_len(len)
    }
    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.0.punch(offset, len)
    }
    fn sync(&self) -> Result<()> {
        match self.1.load(Ordering::SeqCst) {
            true => Err(vdisk::Error::new(ErrorKind::Io, "a sync that fails")),
            false => Ok(()),
        }
    }
}

#[test]
fn after_a_flush_that_failed_the_overlay_is_not_called_clean() {
    let bench = Bench::new(Format::Raw, false);
    drop(bench.open());
    let bytes = Arc::new(MemoryStore::new(std::fs::read(bench.overlay()).unwrap()));
    let failing = Arc::new(AtomicBool::new(false));
    let open = || {
        let opened = OpenOverlay {
            path: Path::new("in memory"),
            base: Base::of(&bench.base(), None).unwrap(),
            base_key: None,
            sharing: Sharing::Exclusive,
            options: &OverlayOptions::default(),
        }
        .open_store(Failing(bytes.clone(), failing.clone()));
        let (overlay, _) = opened.unwrap();
        let layers = vec![StackedLayer::plain(overlay.clone())];
        (
            overlay,
            Disk::new(Stack::new(layers, false, "test").unwrap()),
        )
    };
    let (overlay, disk) = open();
    disk.write_at(0, &vec![1; 10 * CLUSTER as usize]).unwrap();
    disk.flush().unwrap();
    disk.discard(0, 8 * CLUSTER).unwrap();
    failing.store(true, Ordering::SeqCst);
    disk.flush().unwrap_err();
    failing.store(false, Ordering::SeqCst);
    overlay.suspend([1; 32]).unwrap_err();
    assert_eq!(
        disk.discard(0, CLUSTER).unwrap_err().kind(),
        ErrorKind::Poisoned
    );
    drop((overlay, disk));
    let (overlay, disk) = open();
    assert_eq!(overlay.used(), 10 * CLUSTER, "counted anew");
    disk.discard(0, 8 * CLUSTER).unwrap();
    disk.flush().unwrap();
    assert_eq!(overlay.used(), 2 * CLUSTER);
    disk.write_at(1 << 20, &[1; 512]).unwrap();
}

#[test]
fn a_base_in_use_keeps_its_overlay_as_it_was() {
    let bench = Bench::new(Format::VhdDynamic, false);
    let opened = bench.open();
    opened.disk.write_at(0, &[1; 512]).unwrap();
    drop(opened);
    let reader = bench.open_as(Mode::ReadOnly).unwrap();
    assert_eq!(bench.commit().unwrap_err().kind(), ErrorKind::Busy);
    drop(reader);
    assert_eq!(read(&bench.open().disk, 0, 512), [1; 512]);
}

#[test]
fn a_revert_destroys_the_key_before_the_name_and_nothing_else() {
    let bench = Bench::new(Format::VhdDynamic, true);
    let opened = bench.open();
    opened.disk.write_at(0, &[1; 4096]).unwrap();
    assert_eq!(
        overlay::revert(&bench.overlay()).unwrap_err().kind(),
        ErrorKind::Busy
    );
    drop(opened);
    // Another name keeps the file itself in sight.
    let witness = bench.dir.path().join("witness");
    std::fs::hard_link(bench.overlay(), &witness).unwrap();
    overlay::revert(&bench.overlay()).unwrap();
    assert!(!bench.overlay().exists());
    let left = std::fs::read(witness).unwrap();
    assert!(
        left[8..4096]
            .iter()
            .chain(&left[4104..8192])
            .all(|b| *b == 0),
        "the wrapped key is still there"
    );
    let refused = overlay::revert(&bench.base()).unwrap_err();
    assert!(refused.to_string().contains("not an overlay"), "{refused}");
    assert_eq!(read(&bench.open().disk, 0, 4096), bench.bytes[..4096]);
}

#[test]
fn a_crash_without_a_close_keeps_what_was_flushed() {
    let bench = Bench::new(Format::Raw, false);
    let opened = bench.open();
    opened.disk.write_at(0, &[1; 100_000]).unwrap();
    opened.disk.flush().unwrap();
    // A copy of the file as a crash would leave it.
    let crashed = std::fs::read(bench.overlay()).unwrap();
    drop(opened);
    std::fs::write(bench.overlay(), crashed).unwrap();
    assert_eq!(
        overlay::inspect(&bench.overlay()).unwrap().state,
        State::Open
    );
    let opened = bench.open();
    assert_eq!(read(&opened.disk, 0, 100_000), [1; 100_000]);
    assert_eq!(opened.overlay.as_ref().unwrap().used(), 7 * CLUSTER);
    opened.disk.write_at(1 << 20, &[2; 512]).unwrap();
    assert_eq!(read(&opened.disk, 0, 100_000), [1; 100_000]);
}
