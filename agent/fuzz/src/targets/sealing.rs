//! Saved states of machines: files that may come from others. The crate's own entries do the work.

use std::sync::OnceLock;

use super::Target;

pub const OPEN: Target = Target {
    name: "sealing_open",
    about: "bytes as a sealed state: checked and unsealed with the same verdict",
    max_len: 16384,
    run: medley_sealing::fuzz_opening,
};

pub const FRAME: Target = Target {
    name: "sealing_frame",
    about: "a head and a body as if they were authentic: unpacked within their bounds, or refused",
    max_len: 8192,
    run: medley_sealing::fuzz_decoding,
};

pub const ROUND: Target = Target {
    name: "sealing_round",
    about: "a stream sealed into a file and back; its first byte chooses the size of chunks",
    max_len: 65536,
    run: round,
};

fn round(stream: &[u8]) {
    static DIR: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().ok()).as_ref();
    let dir = dir.expect("a folder can be made");
    medley_sealing::fuzz_sealing(stream, dir.path());
}
