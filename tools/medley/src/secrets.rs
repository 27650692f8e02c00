//! Keeps keys in memory out of core dumps and other processes' reach.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// From now on no debugger of the same user attaches, and a crash writes no memory to disk.
pub fn guard() {
    if let Err(error) = prctl::set_dumpable(false) {
        tracing::warn!(%error, "debuggers cannot be kept out");
    }
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
}
