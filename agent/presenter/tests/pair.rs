//! The real agent and the real presenter: a terminal in one X server is a window of another one's desktop.
#![allow(clippy::unwrap_used)]
mod support;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::stack::{agent_program, pixels, relay};
use support::*;
use x11rb::protocol::xproto::{ConnectionExt, Window};

fn agent(display: &str, socket: &Path) -> Process {
    let child = Command::new(agent_program())
        .args(["run", "--display", display, "--gui"])
        .arg(socket)
        .arg("--control")
        .arg(socket.with_file_name("no-control"))
        .arg("--bulk")
        .arg(socket.with_file_name("no-bulk"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

/// The terminal's window in the guest, by its class.
fn terminal(guest: &Desk) -> Option<Window> {
    let tree = guest.conn.query_tree(guest.root).unwrap().reply().unwrap();
    let mut all = tree.children.into_iter();
    all.find(|window| {
        guest.text(*window, "WM_CLASS").contains("XTerm") && guest.is_viewable(*window)
    })
}

/// The same, as they are on the host's screen inside of the frame; nothing, if there is no such window.
fn outside(host: &Desk) -> Option<Vec<u32>> {
    let window = *host.windows().first()?;
    let (x, y, width, height) = host.place(window);
    Some(host.shot((x + 3, y + 3, width - 6, height - 6)).pixels)
}

/// Waits until host and guest show the same, and more than one colour.
fn same(host: &Desk, guest: &Desk, within: Duration) -> Vec<u32> {
    let began = Instant::now();
    loop {
        let here = outside(host);
        let there = terminal(guest).and_then(|window| pixels(guest, window));
        if let (Some(here), Some(there)) = (here, there)
            && here == there
            && here.iter().any(|pixel| *pixel != here[0])
        {
            return here;
        }
        if began.elapsed() > within {
            host.describe();
            let here = outside(host).map(|pixels| pixels.len());
            let there = terminal(guest).and_then(|window| pixels(guest, window));
            let there = there.map(|pixels| pixels.len());
            panic!("host and guest show different things: {here:?} and {there:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_terminal_is_a_window_that_survives_presenter_and_agent() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("guest-gui");
    let (desk, guest, sockets) = (Desk::new(1024, 768), Desk::bare(1024, 768), Sockets::new());
    relay(UnixListener::bind(&socket).unwrap(), sockets.gui_listener());
    let mut first = agent(&guest.name, &socket);
    let _terminal = Process(
        Command::new("xterm")
            .args(["-display", &guest.name, "-geometry", "60x15", "-e", "sh"])
            .env("HOME", folder.path())
            .env("PS1", "$ ")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut presenter = Presenter::start(&desk, &sockets, &[]);
    let before = same(&desk, &guest, PATIENCE);
    let window = desk.windows()[0];
    desk.activate(window);
    // echo, a space, 42, return.
    for code in [18, 46, 35, 24, 57, 5, 3, 28] {
        desk.key(code);
    }
    let mut typed = before.clone();
    wait_for("what was typed", || {
        typed = same(&desk, &guest, PATIENCE);
        let changed = typed.iter().zip(&before).filter(|(a, b)| a != b).count();
        changed > 150
    });
    // The cursor's blink is off; what stands there stays.
    std::thread::sleep(Duration::from_millis(300));
    let typed = same(&desk, &guest, PATIENCE);

    // The presenter is killed: its successor shows the same again, with the agent none the wiser.
    let old = desk.place(window);
    presenter.process.0.kill().unwrap();
    wait_for("an empty desktop", || desk.windows().is_empty());
    let mut presenter = Presenter::start(&desk, &sockets, &[]);
    let again = same(&desk, &guest, Duration::from_secs(3));
    assert_eq!(again.len(), typed.len());
    assert_eq!(desk.place(desk.windows()[0]), old, "it is where it was");

    // The agent is killed: the presenter ends, and both begin anew; the terminal lives on.
    first.0.kill().unwrap();
    assert_eq!(presenter.event("ended")["cause"], "guest");
    assert_eq!(presenter.ended(), 0);
    // Its X server notices a moment later that it is gone; until then there is a window manager.
    let manager = guest.atom("WM_S0");
    wait_for("the agent's end", || {
        let owner = guest.conn.get_selection_owner(manager).unwrap().reply();
        owner.unwrap().owner == 0
    });
    let _second = agent(&guest.name, &socket);
    let _presenter = Presenter::start(&desk, &sockets, &[]);
    let again = same(&desk, &guest, Duration::from_secs(3));
    assert_eq!(again.len(), typed.len());
}
