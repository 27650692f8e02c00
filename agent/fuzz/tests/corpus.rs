//! Every input that is kept, run through its target: what was found once is never lost again.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use medley_fuzz::{TARGETS, find};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The files below a folder, by name.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = dir
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn every_input_that_is_kept_passes() {
    for target in TARGETS {
        let inputs = files(&corpus().join(target.name));
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            assert!(bytes.len() <= target.max_len, "{}", input.display());
            // Printed only if it fails.
            println!("{}", input.display());
            (target.run)(&bytes);
        }
        (target.run)(&[]);
    }
}

/// A recording that breaks a rule after its first words would be a seed of nothing.
#[test]
fn recordings_are_played_to_their_end() {
    let mut long = 0;
    for input in files(&corpus().join("presenter_replay")) {
        let name = input.file_name().unwrap().to_str().unwrap().to_owned();
        if !["xterm", "xcalc", "xeyes"]
            .iter()
            .any(|app| name.starts_with(app))
        {
            continue;
        }
        let (messages, to_the_end) = medley_fuzz::replay(&std::fs::read(&input).unwrap());
        println!("{name}: {messages} messages, to the end: {to_the_end}");
        assert!(to_the_end && messages > 20, "{name}");
        long += usize::from(messages > 100);
    }
    assert!(long >= 2);
}

#[test]
fn the_corpora_are_small_and_belong_to_targets() {
    let mut total = 0;
    for dir in files(&corpus()).into_iter().filter(|path| path.is_dir()) {
        let name = dir.file_name().unwrap().to_str().unwrap();
        assert!(find(name).is_some(), "{name} is no target");
        total += files(&dir)
            .iter()
            .map(|f| f.metadata().unwrap().len())
            .sum::<u64>();
    }
    assert!(total < 400 << 10, "{total} bytes");
}

#[test]
fn names_are_unique() {
    for target in TARGETS {
        let same = TARGETS.iter().filter(|other| other.name == target.name);
        assert_eq!(same.count(), 1);
    }
}
