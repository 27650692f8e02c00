//! Where Xlib keeps the table of composed letters. Every app that takes text by Xlib's means reads half a megabyte
//! of text for it, unless it is told where to keep what it made of that.
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What tells Xlib the folder.
pub(super) const VARIABLE: &str = "XCOMPOSECACHE";

/// Where an image's maker may have put tables for everybody; Xlib looks there unless it is told another place.
const PREPARED: &str = "/var/cache/libx11/compose";

/// The folder, in the user's runtime folder: Xlib takes a table to be good that is younger than what it was made of,
/// whatever that was changed to, and a package's file brings a date of its own. So it does not outlive the machine's
/// run; Xlib itself makes it anew after a day. Root's apps get none.
///
/// None where the user or the image's maker has chosen one.
pub(super) fn folder(runtime: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let own = home.map(|home| home.join(".compose-cache"));
    let prepared = std::fs::read_dir(PREPARED).is_ok_and(|mut tables| tables.next().is_some());
    if prepared || own.is_some_and(|own| own.is_dir()) || std::env::var_os(VARIABLE).is_some() {
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
