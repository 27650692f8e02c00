//! The power fails at every instant of every plan: between two syncs any subset of the writes may have reached the
//! file, each of them torn anywhere. Whatever is left must open.

use std::collections::HashMap;

use proptest::prelude::*;
use vdisk_luks::{Header, Luks1, SlotInfo, Step, VolumeKey};

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

/// A sector that a write changes: where it is, and what it becomes.
type Changed = (usize, [u8; 512]);

/// The sectors of `file` that a write changes. Those it leaves as they are make no other state, torn or not.
fn changed(file: &[u8], offset: usize, bytes: &[u8]) -> Vec<Changed> {
    let (first, last) = (offset / 512, (offset + bytes.len()).div_ceil(512));
    let mut span = file[first * 512..last * 512].to_vec();
    span[offset - first * 512..][..bytes.len()].copy_from_slice(bytes);
    let sectors = span.as_chunks::<512>().0.iter().enumerate();
    sectors
        .map(|(i, sector)| ((first + i) * 512, *sector))
        .filter(|(at, sector)| file[*at..at + 512] != *sector)
        .collect()
}

/// Runs `check` on the file as every cut may leave it, and counts: between two syncs, every subset of up to 12
/// changed sectors. Where more change (key material), every subset of the writes, and with none and with all of
/// the others each write torn at every sector; at every eighth also its end, that sector, and all but it alone.
fn every_cut(before: &[u8], plan: &[Step], mut check: impl FnMut(&[u8])) -> usize {
    let mut file = before.to_vec();
    let mut states = 0;
    for epoch in epochs(plan) {
        let writes: Vec<Vec<Changed>> = epoch
            .iter()
            .map(|(offset, bytes)| changed(&file, *offset, bytes))
            .collect();
        let all: Vec<&Changed> = writes.iter().flatten().collect();
        let mut cut = file.clone();
        let mut with = |keep: &dyn Fn(usize) -> bool| {
            for (_, (at, sector)) in all.iter().enumerate().filter(|(i, _)| keep(*i)) {
                cut[*at..at + 512].copy_from_slice(sector);
            }
            check(&cut);
            states += 1;
            for (at, _) in &all {
                cut[*at..at + 512].copy_from_slice(&file[*at..at + 512]);
            }
        };
        if all.len() <= 12 {
            for subset in 0..1u32 << all.len() {
                with(&|i| subset >> i & 1 == 1);
            }
        } else {
            assert!(writes.len() <= 12, "more writes than can be enumerated");
            let owner: Vec<usize> = writes
                .iter()
                .enumerate()
                .flat_map(|(w, sectors)| vec![w; sectors.len()])
                .collect();
            for subset in 0..1u32 << writes.len() {
                with(&|i| subset >> owner[i] & 1 == 1);
            }
            for torn in 0..writes.len() {
                let first = owner.iter().position(|w| *w == torn).unwrap_or(0);
                for others in [false, true] {
                    for n in first..first + writes[torn].len() {
                        let tear = |of_torn: &dyn Fn(usize) -> bool, i: usize| match owner[i] {
                            w if w == torn => of_torn(i),
                            _ => others,
                        };
                        with(&|i| tear(&|i| i < n, i));
                        if n % 8 == 0 {
                            with(&|i| tear(&|i| i >= n, i));
                            with(&|i| tear(&|i| i == n, i));
                            with(&|i| tear(&|i| i != n, i));
                        }
                    }
                    if writes.len() == 1 {
                        break;
                    }
                }
            }
        }
        for (offset, bytes) in epoch {
            tear(&mut file, offset, bytes, |_| true);
        }
    }
    states
}

/// A fingerprint to tell states apart, fast rather than strong.
fn print(bytes: &[u8]) -> u64 {
    let mut lanes = [17u64, 19, 23, 29];
    for chunk in bytes.as_chunks::<32>().0 {
        for (lane, word) in lanes.iter_mut().zip(chunk.as_chunks::<8>().0) {
            *lane = (*lane ^ u64::from_le_bytes(*word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
    }
    let rest = bytes.as_chunks::<32>().1;
    lanes
        .into_iter()
        .chain(rest.iter().map(|b| u64::from(*b)))
        .fold(0, |n, x| {
            (n ^ x).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
        })
}

/// Which of some passphrases open a file. Most cuts differ in nothing that a passphrase passes through, so each
/// combination of header and key material is tried once.
struct Opener<'a> {
    key: VolumeKey,
    passphrases: &'a [&'a [u8]],
    /// What a header says, by the fingerprint of its two copies.
    headers: HashMap<u64, (u64, Vec<SlotInfo>)>,
    known: HashMap<Vec<u64>, Vec<bool>>,
}

impl<'a> Opener<'a> {
    fn new(key: &VolumeKey, passphrases: &'a [&'a [u8]]) -> Self {
        Self {
            key: key.clone(),
            passphrases,
            headers: HashMap::new(),
            known: HashMap::new(),
        }
    }

    fn luks2(&mut self, file: &[u8]) -> Vec<bool> {
        let (seqid, slots) = self
            .headers
            .entry(print(&file[..2 * 16384]))
            .or_insert_with(|| {
                let header = Header::parse(file).unwrap();
                (header.seqid(), header.slots())
            });
        let mut state = vec![*seqid];
        for slot in slots {
            let area = slot.area_offset as usize..(slot.area_offset + slot.area_size) as usize;
            state.extend([u64::from(slot.id), slot.area_offset, print(&file[area])]);
        }
        let unlock = |passphrase: &[u8]| Header::parse(file)?.unlock(passphrase);
        Self::ask(&mut self.known, state, &self.key, self.passphrases, unlock)
    }

    fn luks1(&mut self, file: &[u8]) -> Vec<bool> {
        let mut state = vec![print(&file[..592])];
        for slot in file[208..592].chunks_exact(48) {
            if slot[..4] == [0x00, 0xac, 0x71, 0xf3] {
                let sector = u32::from_be_bytes(slot[40..44].try_into().unwrap());
                state.push(print(&file[sector as usize * 512..][..256_000]));
            }
        }
        let unlock = |passphrase: &[u8]| Luks1::parse(file).unwrap().unlock(passphrase);
        Self::ask(&mut self.known, state, &self.key, self.passphrases, unlock)
    }

    fn ask(
        known: &mut HashMap<Vec<u64>, Vec<bool>>,
        state: Vec<u64>,
        key: &VolumeKey,
        passphrases: &[&[u8]],
        unlock: impl Fn(&[u8]) -> vdisk_luks::Result<VolumeKey>,
    ) -> Vec<bool> {
        let opens = |passphrase: &&[u8]| unlock(passphrase).is_ok_and(|k| k == *key);
        known
            .entry(state)
            .or_insert_with(|| passphrases.iter().map(opens).collect())
            .clone()
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

/// Cuts the plan of `h` everywhere, carries it out, and gives the number of states and the file.
fn cut(h: &mut Header, before: &[u8], check: impl FnMut(&[u8])) -> (usize, Vec<u8>) {
    let plan = h.update_plan();
    let states = every_cut(before, &plan, check);
    let file = after(before, &plan);
    assert!(file == h.bytes());
    h.persisted();
    (states, file)
}

#[test]
fn keys_survive_every_cut() {
    let mut states = 0;
    // A header in order, and one with either copy destroyed before.
    for damaged in [0..0, 0..16384, 16384..32768] {
        let (h, key) = header(b"old");
        let mut opener = Opener::new(&key, &[b"old", b"new", b"third"]);
        let mut file = h.bytes();
        file[damaged].fill(0x5a);
        let mut h = Header::parse(&file).unwrap();

        h.add_key(&key, b"new", &CHEAP).unwrap();
        let (n, file) = cut(&mut h, &file, |file| assert!(opener.luks2(file)[0]));
        states += n;

        h.change_key(b"old", b"third", &CHEAP).unwrap();
        let (n, file) = cut(&mut h, &file, |file| {
            let opens = opener.luks2(file);
            assert!(opens[0] || opens[2], "neither the old nor the new opens");
            assert!(opens[1], "another key suffered");
        });
        states += n;

        h.remove_key(b"new").unwrap();
        let (n, file) = cut(&mut h, &file, |file| assert!(opener.luks2(file)[2]));
        states += n;
        assert_eq!(opener.luks2(&file), [false, false, true]);
    }
    eprintln!("{states} states of single changes");
    assert!(states > 8_000, "{states}");
}

#[test]
fn many_changes_at_once_survive_every_cut() {
    let (mut h, key) = header(b"old");
    h.add_key(&key, b"kept", &CHEAP).unwrap();
    h.persisted();
    let before = h.bytes();
    h.add_key(&key, b"new", &CHEAP).unwrap();
    h.remove_key(b"old").unwrap();
    h.set_label("changed").unwrap();
    h.add_token(serde_json::json!({"type": "x", "keyslots": []}))
        .unwrap();
    let mut opener = Opener::new(&key, &[b"old", b"kept", b"new"]);
    let (states, file) = cut(&mut h, &before, |file| {
        let opens = opener.luks2(file);
        assert!(opens[1], "another key suffered");
        let changed = Header::parse(file).unwrap().label() == "changed";
        assert!(if changed { opens[2] } else { opens[0] });
    });
    assert_eq!(opener.luks2(&file), [false, true, true]);
    eprintln!("{states} states of many changes");
    assert!(states > 1_000, "{states}");
}

#[test]
fn a_twin_survives_every_cut() {
    let key = VolumeKey::random().unwrap();
    let mut states = 0;
    let mut opener = Opener::new(&key, &[b"old"]);
    let unlock = |file: &[u8]| {
        Luks1::parse(file)
            .unwrap()
            .unlock(b"new")
            .is_ok_and(|k| k == key)
    };
    let mut file = Luks1::export(&key, b"old", 1000).unwrap();
    // Slot 6 lies across two sectors: fill the slots up to it with dead entries.
    for slot in 1..6 {
        let (from, to) = (208, 208 + 48 * slot);
        let offset = file[to + 40..to + 44].to_vec();
        file.copy_within(from..from + 40, to);
        file[to + 40..to + 44].copy_from_slice(&offset);
    }
    for slot in [6, 7] {
        let mut h = Luks1::parse(&file).unwrap();
        assert_eq!(h.add_key(&key, b"new", 1000).unwrap(), slot);
        let plan = h.update_plan();
        states += every_cut(&file, &plan, |file| {
            assert!(opener.luks1(file)[0]);
        });
        file = after(&file, &plan);
        assert!(opener.luks1(&file)[0] && unlock(&file));
        h.persisted();
        if slot == 7 {
            break;
        }
        h.remove_slot(slot).unwrap();
        let plan = h.update_plan();
        states += every_cut(&file, &plan, |file| {
            assert!(opener.luks1(file)[0]);
        });
        let gone = after(&file, &plan);
        assert!(opener.luks1(&gone)[0] && !unlock(&gone));
        // From here on slot 7 is the free one.
    }
    eprintln!("{states} states of a twin");
    assert!(states > 1_500, "{states}");
}

#[test]
fn a_cut_change_can_be_finished_or_made_again() {
    let (mut h, key) = header(b"old");
    let before = h.bytes();
    h.change_key(b"old", b"new", &CHEAP).unwrap();
    let mut seen = std::collections::HashSet::new();
    every_cut(&before, &h.update_plan(), |file| {
        let mut next = Header::parse(file).unwrap();
        // One of each kind of state: which copy leads, and which is damaged.
        if !seen.insert((next.seqid(), next.health(), file[..32768].to_vec())) {
            return;
        }
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
    assert!(seen.len() > 8, "{}", seen.len());
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
