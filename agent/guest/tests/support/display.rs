//! X servers of a test's own, and a second look at what is on them.
#![allow(dead_code, clippy::unwrap_used)]
use medley_desktop::{Desktop, Window};
use std::process::Command;

/// Xvfb: one screen of fixed size.
pub fn virtual_one() -> Desktop {
    Desktop::bare(1600, 1000).unwrap()
}

/// Xorg with the dummy driver, as in a guest.
pub fn dummy(config: &str) -> Desktop {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xorg.conf");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new("Xorg");
    command
        .arg("-config")
        .arg(&path)
        .arg("-logfile")
        .arg(folder.path().join("log"))
        .args(["-novtswitch", "-sharevts", "vt7"]);
    Desktop::of(&mut command, folder).unwrap()
}

/// The top-level window of that class.
pub fn find(server: &Desktop, class: &str) -> Option<Window> {
    let all = server.children(server.root).unwrap();
    all.into_iter().find(|window| {
        let classes = server.text(*window, "WM_CLASS").unwrap();
        classes.split('\0').any(|half| half == class)
    })
}
