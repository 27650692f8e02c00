//! The power fails at every instant of every plan: between two syncs any subset of the writes may have reached the
//! file, each of them torn anywhere. Whatever is left must open.

use proptest::prelude::*;
use vdisk_luks::{Header, Step, VolumeKey};

use crate::{CHEAP, header};

/// The writes of a plan, grouped by the syncs that end them.
fn epochs(plan: &[Step]) -> Vec<Vec<(usize, &[u8])>> {
    let mut epochs = vec![Vec::new()];
    for step in plan {
        match step {
            Step::Write { offset, bytes } => epochs
                .last_mut()
                .unwrap()
                .push((*offset as usize, &bytes[..])),
            Step::Sync => epochs.push(Vec::new()),
        }
    }
    assert_eq!(epochs.pop(), Some(Vec::new()), "a plan ends with a sync");
    epochs
}

/// How a write comes out of a power cut: a mask over its 512-byte sectors.
fn tear(file: &mut [u8], offset: usize, bytes: &[u8], keep: impl Fn(usize) -> bool) {
    for (i, sector) in bytes.chunks(512).enumerate() {
        if keep(i) {
            file[offset + i * 512..][..sector.len()].copy_from_slice(sector);
        }
    }
}

/// Runs `check` on the file after every cut: each epoch with none, some or all sectors of its writes.
fn every_cut(before: &[u8], plan: &[Step], mut check: impl FnMut(&[u8])) {
    let mut file = before.to_vec();
    for epoch in epochs(plan) {
        let sectors = epoch
            .iter()
            .map(|(_, bytes)| bytes.len() / 512)
            .max()
            .unwrap_or(0);
        let masks: Vec<Box<dyn Fn(usize) -> bool>> = vec![
            Box::new(|_| false),
            Box::new(|i| i == 0),
            Box::new(|i| i != 0),
            Box::new(|i| i < 8),
            Box::new(|i| i >= 8),
            Box::new(|i| i % 2 == 0),
            Box::new(|i| i % 3 == 1),
            Box::new(move |i| i + 1 == sectors),
            Box::new(|_| true),
        ];
        // Which of the writes of this epoch happen at all, and how each is torn.
        for subset in 0..1u32 << epoch.len().min(4) {
            for mask in &masks {
                let mut cut = file.clone();
                for (n, (offset, bytes)) in epoch.iter().enumerate() {
                    if subset >> n.min(3) & 1 == 1 {
                        tear(&mut cut, *offset, bytes, mask);
                    }
                }
                check(&cut);
            }
        }
        for (offset, bytes) in epoch {
            tear(&mut file, offset, bytes, |_| true);
        }
    }
}

fn opens(file: &[u8], passphrase: &[u8], key: &VolumeKey) -> bool {
    Header::parse(file)
        .unwrap()
        .unlock(passphrase)
        .is_ok_and(|k| k == *key)
}

/// The file after a whole plan is the header's image.
fn after(before: &[u8], plan: &[Step]) -> Vec<u8> {
    let mut file = before.to_vec();
    for (offset, bytes) in epochs(plan).concat() {
        tear(&mut file, offset, bytes, |_| true);
    }
    file
}

#[test]
fn adding_changing_and_removing_keys_survive_every_cut() {
    let (mut h, key) = header(b"old");
    let before = h.bytes();
    h.add_key(&key, b"new", &CHEAP).unwrap();
    every_cut(&before, &h.update_plan(), |file| {
        assert!(opens(file, b"old", &key))
    });
    assert!(after(&before, &h.update_plan()) == h.bytes());
    h.persisted();

    let before = h.bytes();
    h.change_key(b"old", b"third", &CHEAP).unwrap();
    every_cut(&before, &h.update_plan(), |file| {
        assert!(opens(file, b"old", &key) || opens(file, b"third", &key));
        assert!(opens(file, b"new", &key));
    });
    assert!(after(&before, &h.update_plan()) == h.bytes());
    h.persisted();

    let before = h.bytes();
    h.remove_key(b"new").unwrap();
    every_cut(&before, &h.update_plan(), |file| {
        assert!(opens(file, b"third", &key))
    });
    assert!(after(&before, &h.update_plan()) == h.bytes());
}

#[test]
fn a_change_on_top_of_a_damaged_copy_survives_every_cut() {
    for damaged in [0..16384, 16384..32768] {
        let (h, key) = header(b"old");
        let mut before = h.bytes();
        before[damaged.clone()].fill(0x5a);
        let mut h = Header::parse(&before).unwrap();
        h.change_key(b"old", b"new", &CHEAP).unwrap();
        every_cut(&before, &h.update_plan(), |file| {
            assert!(
                opens(file, b"old", &key) || opens(file, b"new", &key),
                "{damaged:?}"
            );
        });
        assert!(after(&before, &h.update_plan()) == h.bytes());
    }
}

#[test]
fn a_cut_change_can_be_finished_or_made_again() {
    let (mut h, key) = header(b"old");
    let before = h.bytes();
    h.change_key(b"old", b"new", &CHEAP).unwrap();
    every_cut(&before, &h.update_plan(), |file| {
        let mut next = Header::parse(file).unwrap();
        let old = if next.unlock(b"old").is_ok() {
            &b"old"[..]
        } else {
            b"new"
        };
        next.change_key(old, b"newer", &CHEAP).unwrap();
        let file = after(file, &next.update_plan());
        assert!(opens(&file, b"newer", &key));
        assert_eq!(
            Header::parse(&file).unwrap().health(),
            vdisk_luks::Health::Good
        );
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Random edits, each cut at a random place with a random set of sectors lost.
    #[test]
    fn random_edits_survive_random_cuts(ops in prop::collection::vec((0u8..4, any::<u64>(), any::<u64>()), 1..6)) {
        let (mut h, key) = header(b"keeper");
        let mut file = h.bytes();
        for (op, cut_at, mask) in ops {
            match op {
                0 => drop(h.add_key(&key, b"extra", &CHEAP)),
                1 => drop(h.remove_key(b"extra")),
                2 => drop(h.change_key(b"extra", b"extra", &CHEAP)),
                _ => h.set_label(&mask.to_string()).unwrap(),
            }
            let plan = h.update_plan();
            let all = epochs(&plan);
            if let Some(last) = all.len().checked_sub(1) {
                let cut_epoch = (cut_at as usize) % (last + 1);
                let mut cut = file.clone();
                for (n, epoch) in all.iter().enumerate().take(cut_epoch + 1) {
                    for (w, (offset, bytes)) in epoch.iter().enumerate() {
                        tear(&mut cut, *offset, bytes, |i| n < cut_epoch || mask.rotate_left(w as u32) >> (i % 64) & 1 == 1);
                    }
                }
                prop_assert!(opens(&cut, b"keeper", &key));
            }
            file = after(&file, &plan);
            h.persisted();
            prop_assert!(file == h.bytes());
        }
    }
}
