//! The fuzzer: libFuzzer around the target that `MEDLEY_FUZZ_TARGET` names. One program holds all targets,
//! since linking it takes longer than any of them.
#![no_main]

// The one place with `unsafe` that both fuzzers need.
#[path = "../../../vdisk/fuzz/src/cap.rs"]
mod cap;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use medley_fuzz::{TARGETS, Target};

#[global_allocator]
static MEMORY: cap::Capped = cap::Capped;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

/// Prints each target on a line of its own: name, longest input, what it is; then ends.
fn list() -> ! {
    for target in TARGETS {
        println!("{}\t{}\t{}", target.name, target.max_len, target.about);
    }
    std::process::exit(0);
}

fuzz_target!(
    init: {
        let name = std::env::var("MEDLEY_FUZZ_TARGET").unwrap_or_default();
        if name == "list" {
            list();
        }
        let Some(target) = medley_fuzz::find(&name) else {
            eprintln!("MEDLEY_FUZZ_TARGET=`{name}` is no target, nor `list`");
            std::process::exit(2);
        };
        TARGET.get_or_init(|| target);
    },
    |bytes: &[u8]| -> () {
        if let Some(target) = TARGET.get() {
            (target.run)(bytes);
        }
    }
);
