//! Eight threads on one disk on real files, every sector verified; and a verifier that notices.
//!
//! Three seconds each as a rule; `MEDLEY_SOAK_SECONDS` says for how long instead.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;
use vdisk::convert::NewImage;
use vdisk::image::{DiskKey, Format, Mode, OpenImage, random_key};
use vdisk::memory::MemoryDisk;
use vdisk::overlay::OverlayOptions;
use vdisk::{Disk, SECTOR};
use vdisk_proving::verify::{Damage, Fault, Faulty, Report, Verifier, fill};

/// More than two blocks of a dynamic VHD.
const SIZE: u64 = 6 << 20;

fn verifier() -> Verifier {
    let seconds = std::env::var("MEDLEY_SOAK_SECONDS").map(|s| s.parse().unwrap());
    Verifier {
        time: Duration::from_secs(seconds.unwrap_or(3)),
        seed: 1,
    }
}

/// A filled, encrypted, dynamic VHD.
struct Image {
    dir: tempfile::TempDir,
    key: DiskKey,
}

impl Image {
    fn new() -> Self {
        let image = Self {
            dir: tempfile::tempdir().unwrap(),
            key: DiskKey {
                key: random_key().unwrap(),
                header: Uuid::new_v4(),
            },
        };
        let new = NewImage::create(
            &image.path("base"),
            Format::VhdDynamic,
            SIZE,
            Some(&image.key),
        )
        .unwrap();
        let source = Disk::new(MemoryDisk::new(SIZE / SECTOR));
        fill(&source).unwrap();
        new.fill_from(&source, &|_| ControlFlow::Continue(()))
            .unwrap();
        new.finish().unwrap();
        image
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, base: &str, mode: Mode) -> vdisk::Result<Disk> {
        let image = OpenImage {
            path: &self.path(base),
            format: None,
            mode,
            key: Some(&self.key),
        };
        Ok(image.open()?.disk)
    }

    fn durable(&self, overlay: &str) -> Mode {
        Mode::Durable {
            overlay: self.path(overlay),
            options: OverlayOptions::default(),
        }
    }
}

fn assert_sound(report: &Report) {
    println!("{report:?}");
    assert!(report.mismatches.is_empty(), "{}", report.mismatches[0]);
    assert!(
        report.writes > 100 && report.discards > 10 && report.zeroes > 10,
        "{report:?}"
    );
    assert!(report.reads > 100 && report.copies > 0, "{report:?}");
}

/// A copy of a file under a new name, by way of what a reader of it sees.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_file(to);
    std::fs::copy(from, to).unwrap();
}

#[test]
fn eight_threads_find_what_they_wrote_in_an_overlay() {
    let image = Image::new();
    let disk = image.open("base", image.durable("session")).unwrap();
    let report = verifier().run(
        &disk,
        Some(&|| {
            copy(&image.path("session"), &image.path("copy"));
            image.open("base", image.durable("copy"))
        }),
    );
    assert_sound(&report);
}

#[test]
fn eight_threads_find_what_they_wrote_in_a_dynamic_vhd() {
    let image = Image::new();
    let disk = image.open("base", Mode::Keep).unwrap();
    let report = verifier().run(
        &disk,
        Some(&|| {
            copy(&image.path("base"), &image.path("copy"));
            image.open("copy", Mode::Keep)
        }),
    );
    assert_sound(&report);
}

#[test]
fn every_fault_is_noticed_and_called_by_its_name() {
    for fault in Fault::ALL {
        for every in [50, 1000] {
            let memory = MemoryDisk::new(1 << 12);
            fill_device(&memory);
            let disk = Disk::new(Faulty::new(memory, fault, every));
            let verifier = Verifier {
                time: Duration::from_secs(60),
                seed: every,
            };
            let report = verifier.run(&disk, None);
            let damage: Vec<_> = report.mismatches.iter().filter_map(|m| m.damage).collect();
            let named = damage.iter().any(|damage| match fault {
                Fault::LostWrite | Fault::StaleRead => matches!(damage, Damage::Stale(_)),
                // Where it should have gone, or where it went: whoever looks first.
                Fault::MisdirectedWrite => {
                    matches!(damage, Damage::Stale(_) | Damage::Misplaced(_))
                }
                Fault::TornSector => matches!(damage, Damage::Torn(_)),
                Fault::SwappedKey => matches!(damage, Damage::Noise),
            });
            assert!(named, "{fault:?} at every write {every}: {report:?}");
        }
    }
}

fn fill_device(memory: &MemoryDisk) {
    use vdisk::BlockDevice;
    use vdisk_proving::verify::Stamp;
    for sector in 0..memory.info().size / SECTOR {
        memory
            .write_at(sector * SECTOR, &Stamp::first(sector).to_bytes())
            .unwrap();
    }
}

#[test]
fn a_copy_that_lost_what_was_flushed_is_noticed() {
    let disk = Disk::new(MemoryDisk::new(1 << 10));
    fill(&disk).unwrap();
    let report = Verifier {
        time: Duration::from_secs(60),
        seed: 1,
    }
    .run(
        &disk,
        Some(&|| {
            let old = Disk::new(MemoryDisk::new(1 << 10));
            fill(&old)?;
            Ok(old)
        }),
    );
    assert!(
        matches!(report.mismatches[0].damage, Some(Damage::Stale(_))),
        "{report:?}"
    );
}
