//! A desk whose presenter is a script.
use super::state::State;
use super::*;
use crate::presenter::Presenter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

const EDITOR: &str = "00000000000000000000000000000001";
const PATIENCE: Duration = Duration::from_secs(20);

/// A desk whose presenter is a script.
fn desk(dir: &Path, script: &str) -> (Desk, Receiver<Notice>) {
    let program = dir.join("presenter");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (notify, notices) = sync_channel(64);
    let socket = PathBuf::from("/none");
    let command = Command {
        program,
        workspace: "office".into(),
        gui: socket.clone(),
        control: socket.clone(),
        bulk: socket,
        pool: None,
        options: Vec::new(),
    };
    (
        Desk::open(command, ServicesPolicy::default(), notify).unwrap(),
        notices,
    )
}

/// Says which apps there are, and answers launches.
const WILLING: &str = r#"
    echo '{"event":"ready"}'
    echo '{"event":"app","app":"00000000000000000000000000000001","name":"Editor"}'
    echo '{"event":"app","app":"00000000000000000000000000000002","name":"Terminal"}'
    echo '{"event":"apps","count":2}'
    n=0
    while read -r word id; do
        case $word in
        launch) n=$((n+7)); echo "{\"event\":\"launching\",\"request\":$n}"
                echo "{\"event\":\"launched\",\"request\":$n,\"started\":true}"
                echo "{\"event\":\"opened\",\"launch\":$n}" ;;
        lock) echo '{"event":"locked"}' ;;
        unlock) echo '{"event":"unlocked"}' ;;
        esac
    done"#;

#[test]
fn apps_are_known_and_launched_by_id_or_name() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, _notices) = desk(dir.path(), WILLING);
    let counter = desk.counter();
    let (_, apps) = counter.apps(PATIENCE).unwrap();
    assert_eq!(
        apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(),
        ["Editor", "Terminal"]
    );
    let window = Launch {
        window: true,
        ..Launch::default()
    };
    for wanted in [EDITOR, "editor", "edi"] {
        assert_eq!(counter.run(wanted, &window, PATIENCE).unwrap().id, EDITOR);
    }
    assert!(
        counter
            .run("browser", &window, PATIENCE)
            .unwrap_err()
            .contains("no app")
    );
    assert!(
        counter
            .run("", &window, PATIENCE)
            .unwrap_err()
            .contains("2 apps")
    );
    counter.set_locked(true, PATIENCE).unwrap();
    assert_eq!(counter.status(), (true, 3, true));
    counter.set_locked(false, PATIENCE).unwrap();
}

/// A guest can end its presenter by breaking a rule.
#[test]
fn a_lock_outlives_the_presenter() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(r#"case "$*" in *--locked*) echo '{{"event":"locked"}}';; esac{WILLING}"#);
    let (desk, _notices) = desk(dir.path(), &script);
    let counter = desk.counter();
    counter.apps(PATIENCE).unwrap();
    counter.set_locked(true, PATIENCE).unwrap();
    let first = desk.presenter().unwrap();
    let pid = nix::unistd::Pid::from_raw(first.cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let locked_again = |state: &mut State| {
        let now = state.presenter.as_ref().map(Presenter::pid);
        (now.is_some() && now != Some(first) && state.locked).then_some(())
    };
    counter
        .until(PATIENCE, "another one is locked", locked_again)
        .unwrap();
    assert!(counter.status().2);
    counter.set_locked(false, PATIENCE).unwrap();
    assert!(!counter.status().2);
}

/// The machine's whole screen is shown by others: they look for the mark, whoever has locked.
#[test]
fn whoever_locks_the_mark_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (chord, mark) = (dir.path().join("chord"), dir.path().join("mark"));
    let pressed = format!(
        r#"(until [ -e {} ]; do sleep 0.02; done; echo '{{"event":"locked"}}') &{WILLING}"#,
        chord.display()
    );
    let (desk, _notices) = desk(dir.path(), &pressed);
    desk.mark_locks(mark.clone());
    let counter = desk.counter();
    let until = |there: bool| {
        let so = |_: &mut State| (mark.exists() == there).then_some(());
        counter.until(PATIENCE, "the mark", so).unwrap();
    };
    counter.apps(PATIENCE).unwrap();
    until(false);
    std::fs::write(&chord, "").unwrap();
    until(true);
    counter.set_locked(false, PATIENCE).unwrap();
    until(false);
    counter.set_locked(true, PATIENCE).unwrap();
    until(true);
}

/// One that a guest has taken over need not obey.
#[test]
fn a_presenter_that_does_not_lock_is_ended_and_the_next_begins_locked() {
    let dir = tempfile::tempdir().unwrap();
    let deaf = r#"
        echo '{"event":"ready"}'
        case "$*" in *--locked*) echo '{"event":"locked"}';; esac
        while read -r word; do :; done"#;
    let (desk, notices) = desk(dir.path(), deaf);
    let counter = desk.counter();
    let ready = |state: &mut State| state.ready.then_some(());
    counter.until(PATIENCE, "it is ready", ready).unwrap();
    let first = desk.presenter().unwrap();
    counter.set_locked(true, PATIENCE).unwrap();
    assert_ne!(desk.presenter(), Some(first));
    let gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(first.cast_signed()), None);
    assert!(gone.is_err(), "it shows nothing any more");
    let said = notices.iter().find(|n| n.code == "windows-disobeyed");
    assert!(said.is_some());
    let locked_again =
        |state: &mut State| (state.presenter.is_some() && state.locked).then_some(());
    counter
        .until(PATIENCE, "the next is locked", locked_again)
        .unwrap();
}

#[test]
fn a_presenter_that_is_killed_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, notices) = desk(dir.path(), WILLING);
    desk.counter().apps(PATIENCE).unwrap();
    let first = desk.presenter().unwrap();
    let pid = nix::unistd::Pid::from_raw(first.cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let restarted = notices
        .iter()
        .find(|notice| notice.code == "windows-restarted");
    assert!(restarted.is_some());
    let other = |state: &mut State| {
        let now = state.presenter.as_ref().map(Presenter::pid);
        (now.is_some() && now != Some(first)).then_some(())
    };
    desk.counter()
        .until(PATIENCE, "another one is there", other)
        .unwrap();
    assert_eq!(
        desk.counter()
            .run(EDITOR, &Launch::default(), PATIENCE)
            .unwrap()
            .name,
        "Editor"
    );
}

#[test]
fn published_apps_are_in_the_menu_while_the_desk_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (mut desk, _notices) = desk(dir.path(), WILLING);
    let menu = Menu::below(
        dir.path(),
        &dir.path().join("config"),
        "office",
        vec!["medley".into()],
    );
    let only = Published::Only(vec!["editor".into()]);
    desk.publish(menu, only).unwrap();
    let entries = || {
        let list = std::fs::read_dir(dir.path().join("applications"));
        list.into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.ends_with(".desktop"))
            .collect::<Vec<_>>()
    };
    let begun = Instant::now();
    while entries().is_empty() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    let names = entries();
    assert!(
        names.len() == 1 && names[0].ends_with(&format!(".{EDITOR}.desktop")),
        "{names:?}"
    );
    drop(desk);
    assert!(entries().is_empty());
}

#[test]
fn one_that_cannot_live_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"echo '{"event":"ended","code":8,"words":"no sandbox"}'"#;
    let (desk, notices) = desk(dir.path(), script);
    let notice = notices.recv_timeout(PATIENCE).unwrap();
    assert_eq!(notice.code, "windows-gave-up");
    let error = desk.counter().apps(PATIENCE).unwrap_err();
    assert!(error.contains("no sandbox"), "{error}");
}

#[test]
fn the_end_is_prompt_whatever_the_presenter_does() {
    let dir = tempfile::tempdir().unwrap();
    for script in ["trap '' TERM; exec sleep 1000", WILLING, "exit 3"] {
        let (desk, _notices) = desk(dir.path(), script);
        let begun = Instant::now();
        drop(desk);
        assert!(begun.elapsed() < Duration::from_secs(5), "{script}");
    }
}

/// A guest that says farewell again and again does not keep its host busy.
#[test]
fn one_that_ends_at_once_costs_its_budget() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let script = format!(
        r#"echo x >>{}; echo '{{"event":"ready"}}'; echo '{{"event":"ended","code":0}}'"#,
        log.display()
    );
    let (desk, notices) = desk(dir.path(), &script);
    // It is given up after eight in a minute, which takes longer than a test should.
    let restarted = notices
        .iter()
        .find(|notice| notice.code == "windows-restarted");
    assert!(restarted.unwrap().words.contains("left at once"));
    std::thread::sleep(Duration::from_secs(2));
    let starts = std::fs::read_to_string(&log).unwrap().lines().count();
    // Pauses of 0.3, 0.3, 0.3, 0.4 and 0.8 s, and not 0.3 s each.
    assert!((3..=6).contains(&starts), "{starts}");
    drop(desk);
}

#[test]
fn one_that_was_told_to_end_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"echo '{"event":"ready"}'
        while read -r word; do
            [ "$word" = quit ] && { echo '{"event":"ended","code":0}'; exit 0; }
        done"#;
    let (desk, notices) = desk(dir.path(), script);
    for _ in 0..10 {
        let before = desk.presenter().unwrap();
        desk.renew();
        let another = |state: &mut State| {
            let now = state.presenter.as_ref().map(Presenter::pid);
            (state.ready && now.is_some() && now != Some(before)).then_some(())
        };
        let counter = desk.counter();
        counter.until(PATIENCE, "another one", another).unwrap();
    }
    let codes: Vec<_> = notices.try_iter().map(|notice| notice.code).collect();
    assert_eq!(codes, ["windows-ready"]);
}

#[test]
fn a_wish_to_unlock_reaches_somebody() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(r#"echo '{{"event":"unlock-asked"}}'{WILLING}"#);
    let (_desk, notices) = desk(dir.path(), &script);
    let notice = notices.recv_timeout(PATIENCE).unwrap();
    assert_eq!(notice.code, "unlock-asked");
}

#[test]
fn what_is_to_start_by_itself_starts_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let script = WILLING.replace(
        "launch) ",
        &format!("launch) echo $id >>{}; ", log.display()),
    );
    let (mut desk, notices) = desk(dir.path(), &script);
    desk.autostart(vec!["Editor".into(), "Browser".into()])
        .unwrap();
    let failed = notices
        .iter()
        .find(|notice| notice.code == "autostart-failed");
    assert!(failed.unwrap().words.contains("Browser"));
    let first = desk.presenter().unwrap();
    let pid = nix::unistd::Pid::from_raw(first.cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let counter = desk.counter();
    let launched = Launch::default();
    let another = |state: &mut State| (state.generation == 2 && state.ready).then_some(());
    counter.until(PATIENCE, "another one", another).unwrap();
    counter.run("Terminal", &launched, PATIENCE).unwrap();
    let log = std::fs::read_to_string(&log).unwrap();
    let terminal = EDITOR.replace('1', "2");
    assert_eq!(log.lines().collect::<Vec<_>>(), [EDITOR, &terminal]);
}

/// Whoever asks waits for nobody, and one that does not read is ended.
#[test]
fn a_presenter_that_does_not_read_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let script = WILLING.replace("n=0", "exec sleep 1000");
    let (desk, _notices) = desk(dir.path(), &script);
    let counter = desk.counter();
    counter.apps(PATIENCE).unwrap();
    let first = desk.presenter().unwrap();
    let arguments = vec![format!("https://{}", "x".repeat(2000)); 16];
    let how = Launch {
        arguments,
        ..Launch::default()
    };
    let begun = Instant::now();
    // More than the socket and the line hold.
    for _ in 0..200 {
        let _ = counter.run(EDITOR, &how, Duration::from_millis(1));
        counter.status();
    }
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    let another = |state: &mut State| {
        let now = state.presenter.as_ref().map(Presenter::pid);
        (now.is_some() && now != Some(first)).then_some(())
    };
    counter.until(PATIENCE, "another one", another).unwrap();
}
