//! The desktop itself: what it shows is what was asked, what is typed is what an app reads, and nothing stays.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use medley_desktop::{Desktop, Edge, OWN, Process};
use x11rb::rust_connection::RustConnection;

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn windows_are_managed_placed_and_seen() {
    let desktop = Desktop::start(640, 480).unwrap();
    let bar = desktop.task_bar(Edge::Lower, 30).unwrap();
    assert_eq!(desktop.place(bar), Some((0, 450, 640, 30)));
    let first = desktop.own_window("first", (50, 60, 100, 80)).unwrap();
    let second = desktop.own_window("second", (50, 60, 100, 80)).unwrap();
    for window in [first, second, first] {
        desktop.activate(window).unwrap();
        assert_eq!(desktop.active().unwrap(), window);
    }
    assert_eq!(desktop.window("second", LIMIT).unwrap(), second);
    assert!(desktop.shown().unwrap().contains(&first) && !desktop.is_unmanaged(first));
    desktop.resize(first, 120, 90).unwrap();
    let size = || {
        desktop
            .place(first)
            .map(|(.., width, height)| (width, height))
    };
    let resized = || Ok(size() == Some((120, 90)));
    desktop.until("the size", LIMIT, resized).unwrap();
    let painted = || Ok(desktop.shot_of(first)?.pixels == [OWN; 120 * 90]);
    desktop.until("its pixels", LIMIT, painted).unwrap();
    assert_eq!(desktop.shot().unwrap().width, 640);

    desktop.destroy(first).unwrap();
    assert!(!desktop.is_viewable(first) && desktop.place(first).is_none());
    assert_eq!(desktop.titled("first").unwrap(), None);
    let error = desktop.window("first", Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("\"second\""), "{error}");
}

#[test]
fn what_is_typed_is_what_an_app_reads() {
    let desktop = Desktop::start(640, 480).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("typed");
    let mut xterm = desktop.program("xterm");
    let read = ["-title", "reader", "-e", "sh", "-c", "exec cat >\"$0\""];
    let xterm = xterm.args(read).arg(&file).env("HOME", folder.path());
    let _xterm = Process::start(xterm).unwrap();
    let window = desktop.window("reader", LIMIT).unwrap();
    desktop.activate(window).unwrap();
    let opened = || Ok(file.exists());
    desktop.until("the reader", LIMIT, opened).unwrap();
    // Every letter that there is, and both rows of every key.
    let all: String = (' '..='~').chain(['\n']).collect();
    desktop.type_text(&all, Duration::ZERO).unwrap();
    let typed = || Ok(std::fs::read_to_string(&file)? == all);
    desktop.until("what was typed", LIMIT, typed).unwrap();
    let error = desktop.type_text("é", Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains('é'), "{error}");
}

#[test]
fn nothing_is_left_of_it() {
    let desktop = Desktop::bare(100, 100).unwrap();
    let name = desktop.name.clone();
    assert_eq!(desktop.active().unwrap(), 0, "nobody manages");
    assert!(RustConnection::connect(Some(&name)).is_ok());
    drop(desktop);
    assert!(RustConnection::connect(Some(&name)).is_err());
}
