//! Where Xlib keeps the table of composed letters. Every app that takes text by Xlib's means reads half a megabyte
//! of text for it, unless it is told where to keep what it made of that: an emulated guest's terminal then starts
//! a fifth sooner.
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What tells Xlib the folder.
pub(super) const VARIABLE: &str = "XCOMPOSECACHE";

/// The folder, made in the user's runtime folder: Xlib takes a table to be good that is younger than what it was
/// made of, which a package's file with its own date may fool until the guest starts anew, but not for longer.
/// None where the user has chosen one.
pub(super) fn folder(runtime: &Path, home: Option<&Path>) -> Option<PathBuf> {
    // Xlib uses this one by itself.
    let chosen = home.is_some_and(|home| home.join(".compose-cache").is_dir());
    if chosen || std::env::var_os(VARIABLE).is_some() {
        return None;
    }
    let folder = runtime.join("medley-compose");
    // What is not the user's own, Xlib does not use.
    match DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
    {
        Ok(()) => Some(folder),
        Err(error) => {
            tracing::debug!(%error, "apps start without {}", folder.display());
            None
        }
    }
}
