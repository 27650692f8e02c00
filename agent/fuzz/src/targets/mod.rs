//! All targets, by name.

mod apps;
mod desktop;
mod intake;
mod link_end;
mod link_pair;
mod pixels;
pub mod replay;
mod screen;
mod sealing;
mod services;
mod wire;

/// Something to be fuzzed.
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// What the bytes are, and what is expected of whoever reads them.
    pub about: &'static str,
    /// Longest input that makes sense.
    pub max_len: usize,
    /// Runs one input; panics if something is wrong.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    wire::GUI,
    wire::CONTROL,
    wire::BULK,
    wire::HOST,
    wire::RECORDING,
    intake::TARGET,
    link_end::TARGET,
    link_pair::TARGET,
    replay::MODEL,
    replay::REPLAY,
    pixels::TARGET,
    services::GATE,
    services::PRINT,
    screen::TARGET,
    sealing::OPEN,
    sealing::FRAME,
    sealing::ROUND,
    apps::ENTRY,
    apps::EXEC,
    apps::ICON,
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
