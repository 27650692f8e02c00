//! Real apps of Debian's, with three toolkits, through the real agent and the real presenter: what a user of the host
//! sees of them, and what they make of what the user does.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::Window;
use std::path::Path;
use std::time::Duration;
use support::stack::{Stack, inside};
use support::*;

/// evdev's codes.
const ESCAPE: u8 = 1;
const CONTROL: u8 = 29;
const ALT: u8 = 56;
const A: u8 = 30;
const S: u8 = 31;
const F: u8 = 33;
const O: u8 = 24;

/// A frame around it, a class of the workspace's and the app's, and all of the guest's pixels.
fn is_framed(stack: &Stack, pair: (Window, Window), id: &str) {
    let (host, _) = pair;
    let class = stack.host.text(host, "WM_CLASS").unwrap();
    let ours = format!("medley-test.{id}");
    assert_eq!(class, format!("{ours}\0{ours}\0"));
    is_ringed(stack, host);
    stack.same(pair);
}

fn is_ringed(stack: &Stack, host: Window) {
    let began = std::time::Instant::now();
    while let Some(fault) = ring_fault(&stack.host, host) {
        assert!(began.elapsed() < PATIENCE, "the ring: {fault}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The window has a picture, which has the workspace's colour in its corner.
fn has_icon(stack: &Stack, host: Window) {
    wait_for("an icon", || {
        let icon = stack.host.numbers(host, "_NET_WM_ICON").unwrap();
        // The badge has the ring's pattern.
        let of_ring = |pixel: u32| (0..16).any(|x| look().at(x, 0).pixel() == pixel);
        icon.len() > 2 && icon.last().is_some_and(|p| of_ring(*p & 0x00ff_ffff))
    });
}

/// Opens a menu and closes it: it lies where its app wanted it, seen from the window that it belongs to.
fn menu_opens_and_closes(stack: &Stack, (host, guest): (Window, Window), open: impl Fn()) {
    open();
    let menu = stack.popup();
    let seen = inside(&stack.host, menu.0);
    let wanted = stack.guest.place(menu.1).unwrap();
    let (home, own) = (inside(&stack.host, host), stack.guest.place(guest).unwrap());
    assert_eq!(
        (seen.0 - home.0, seen.1 - home.1),
        (wanted.0 - own.0, wanted.1 - own.1),
        "the menu's distance from its window"
    );
    assert!(seen.3 > 40, "a menu of {seen:?}");
    assert_eq!(
        stack.host.numbers(menu.0, "WM_TRANSIENT_FOR").unwrap(),
        [host]
    );
    is_ringed(stack, menu.0);
    stack.same(menu);
    stack.host.press(&[ESCAPE]).unwrap();
    wait_for("the menu to go", || stack.popups().is_empty());
    // Where a key opened it, the bar still has the keyboard.
    stack.host.press(&[ESCAPE]).unwrap();
}

/// What is typed comes where it belongs.
fn waits_for_text(file: &Path, text: &str) {
    let read = || std::fs::read_to_string(file).unwrap_or_default();
    let began = std::time::Instant::now();
    while read().trim_end() != text {
        assert!(began.elapsed() < PATIENCE, "the file says {:?}", read());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Opens a dialog and closes it: it stands before its window, and has the keyboard when its user gives it that.
fn dialog_opens_and_closes(stack: &Stack, (owner, main): (Window, Window), open: impl Fn()) {
    open();
    let mut found = None;
    let began = std::time::Instant::now();
    wait_for("a dialog", || {
        let all = windows(&stack.host).into_iter();
        found = all
            .filter(|window| *window != owner)
            .find(|window| !stack.host.is_unmanaged(*window));
        if found.is_none() && began.elapsed() > PATIENCE - Duration::from_millis(100) {
            stack.describe();
        }
        found.is_some()
    });
    let dialog = found.unwrap();
    assert_eq!(
        stack.host.numbers(dialog, "WM_TRANSIENT_FOR").unwrap(),
        [owner],
        "the dialog stands before its window"
    );
    is_ringed(stack, dialog);
    stack.host.activate(dialog).unwrap();
    // Some apps give the keyboard to their windows by themselves, when they are told to.
    wait_for("the keyboard to be the dialog's", || {
        let of = stack.focus();
        of.is_some_and(|window| window != main)
    });
    stack.host.press(&[ESCAPE]).unwrap();
    wait_for("the dialog to go", || windows(&stack.host) == [owner]);
}

/// The host gives a window another size: the app paints all of it.
fn repaints(stack: &Stack, pair: (Window, Window), (width, height): (i32, i32)) {
    stack.host.resize(pair.0, width + 6, height + 6).unwrap();
    wait_for("the size", || {
        let there = stack.guest.place(pair.1).unwrap();
        inside(&stack.host, pair.0).2 == width && (there.2, there.3) == (width, height)
    });
    is_ringed(stack, pair.0);
    stack.same(pair);
}

/// An editor that has a file open: everything that a window does.
fn edits(name: &str, exec: &str, before: impl FnOnce(&Stack)) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "old words\n").unwrap();
    let mut stack = Stack::start(&[(name, &format!("{exec} {}", file.display()))], &[]);
    before(&stack);
    let id = stack.launch(name);
    let pair = stack.pair("notes.txt");
    let (host, _) = pair;
    is_framed(&stack, pair, &id);
    has_icon(&stack, host);
    stack.host.activate(host).unwrap();

    menu_opens_and_closes(&stack, pair, || stack.host.press(&[ALT, F]).unwrap());

    stack.host.press(&[CONTROL, A]).unwrap();
    stack
        .host
        .type_text("new words, typed", Duration::ZERO)
        .unwrap();
    stack.host.press(&[CONTROL, S]).unwrap();
    waits_for_text(&file, "new words, typed");
    stack.same(pair);

    dialog_opens_and_closes(&stack, pair, || stack.host.press(&[CONTROL, O]).unwrap());
    stack.host.activate(host).unwrap();

    repaints(&stack, pair, (701, 433));
    repaints(&stack, pair, (640, 555));
    stack.host.close(host).unwrap();
    wait_for("the app to close", || stack.is_empty());
    stack.lives();
}

#[test]
fn an_editor_of_gtk() {
    edits("Pad", "l3afpad", |_| {});
}

#[test]
fn an_editor_of_qt() {
    edits("Feather", "featherpad --standalone", |_| {});
}

/// A page that says in its title what was typed into it.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>page</title>
<body style="background:#e0e8ff;font:16px sans-serif">
<form><input id="t" autofocus style="width:20em">
<select id="s" style="position:absolute;left:30px;top:90px;width:200px;height:30px">
<option>first</option><option>second</option><option>third</option></select></form>
<script>t.onfocus=()=>document.title='page ready'; if(document.hasFocus()&&document.activeElement==t)t.onfocus();
t.oninput=()=>document.title='page '+t.value; s.onchange=()=>document.title='chosen '+s.value</script>"#;

/// Like the editors, but that it is large, and has helpers of its own.
fn browses(name: &str, exec: &str) {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    std::fs::write(&page, PAGE).unwrap();
    let profile = folder.path().join("profile");
    std::fs::create_dir_all(&profile).unwrap();
    let exec = exec.replace("PROFILE", profile.to_str().unwrap());
    let exec = format!("{exec} file://{}", page.display());
    let mut stack = Stack::start(&[(name, &exec)], &[]);
    let id = stack.launch(name);
    let pair = stack.pair("page");
    let (host, guest) = pair;
    is_framed(&stack, pair, &id);
    has_icon(&stack, host);
    stack.host.activate(host).unwrap();

    let title = || stack.host.text(host, "_NET_WM_NAME").unwrap();
    wait_for("the page to take what is typed", || {
        title().starts_with("[test] page ready")
    });
    stack.host.type_text("typed", Duration::ZERO).unwrap();
    wait_for("what was typed in the title", || {
        title().starts_with("[test] page typed")
    });

    // The context menu of the page.
    let (x, y, width, height) = inside(&stack.host, host);
    let middle = (x + width / 2, y + height / 2);
    menu_opens_and_closes(&stack, (host, guest), || {
        stack.host.click(3, middle.0, middle.1).unwrap();
    });

    dialog_opens_and_closes(&stack, pair, || stack.host.press(&[CONTROL, O]).unwrap());

    repaints(&stack, pair, (801, 633));
    stack.host.close(host).unwrap();
    wait_for("the browser to close", || stack.is_empty());
    stack.lives();
}

#[test]
fn a_browser() {
    browses(
        "Browser",
        "chromium --no-sandbox --disable-gpu --disable-quic --no-first-run --no-default-browser-check \
         --disable-background-networking --disable-component-update --disable-sync --disable-dev-shm-usage \
         --password-store=basic --user-data-dir=PROFILE",
    );
}

/// A Win32 app: `cargo test -p medley-presenter --test apps -- --ignored wine`, with Debian's `wine`. Its first start
/// makes a Windows folder.
#[test]
#[ignore = "Wine is large: its test is run by name"]
fn a_win32_app_in_wine() {
    edits("Notepad", "wine notepad", |stack| {
        let mut boot = stack.program("wine");
        let made = boot.args(["wineboot", "--init"]).status();
        assert!(made.expect("wine is installed").success());
        wait_for("nothing to be shown", || stack.is_empty());
    });
}
