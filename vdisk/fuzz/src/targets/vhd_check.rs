//! The checker and the repairer on any bytes as a VHD, put together as for `vhd_open`.

use vdisk::vhd::check::{Repair, RepairOptions, check_store, repair_store};

use super::Target;
use super::vhd_open::{image, open, seen};
use crate::sparse::SparseStore;

pub const TARGET: Target = Target {
    name: "vhd_check",
    about: "bytes as a VHD: checked, and repaired without making any readable sector unreadable or other",
    max_len: 6144,
    run,
};

fn run(bytes: &[u8]) {
    let image = image(bytes);
    let before = open(&image, true).ok().map(seen);
    let Ok(report) = check_store(&image) else {
        return;
    };
    if report.is_sound() {
        let opened = open(&image, true).expect("a sound disk opens");
        assert!(
            opened.troubles.is_empty(),
            "sound, but {:?}",
            opened.troubles
        );
    }
    let repaired = image.fork();
    let Ok(told) = repair(&repaired, false) else {
        return;
    };
    let left = told
        .after
        .findings
        .iter()
        .find(|f| f.repair == Repair::Safe);
    assert!(left.is_none(), "could be repaired, but was not: {left:?}");
    // What was readable still is, and says the same.
    if let Some(before) = before {
        let after = open(&repaired, true)
            .map(seen)
            .expect("it opened before its repair");
        for ((lba, old), (_, new)) in before.iter().zip(&after) {
            assert!(
                old.is_none() || old == new,
                "sector {lba} changed, by {:?}",
                told.repaired
            );
        }
    }
    // Losing what cannot be saved must not fail either, and leaves nothing to repair.
    if repair(&repaired, true).is_ok() {
        let again = repair(&repaired, true).expect("once more");
        assert!(
            again.repaired.is_empty(),
            "repaired again: {:?}",
            again.repaired
        );
    }
}

fn repair(store: &SparseStore, accept_loss: bool) -> vdisk::Result<vdisk::vhd::check::Repaired> {
    repair_store(store, RepairOptions { accept_loss })
}
