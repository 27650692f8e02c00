//! All targets, by name.

mod filter_spec;
mod luks1_header;
mod luks2_header;
mod nbd;
mod nbd_negotiate;
mod overlay_file;
mod stack_ops;
mod vhd_check;
mod vhd_open;
mod vhd_ops;
mod vhost_queue;
mod vhost_user;

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
    vhd_open::TARGET,
    vhd_check::TARGET,
    vhd_ops::TARGET,
    luks2_header::TARGET,
    luks1_header::TARGET,
    nbd_negotiate::TARGET,
    nbd::TARGET,
    overlay_file::TARGET,
    stack_ops::TARGET,
    vhost_queue::TARGET,
    vhost_user::TARGET,
    filter_spec::TARGET,
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
