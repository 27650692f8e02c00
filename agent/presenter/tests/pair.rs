//! The real agent and the real presenter: a terminal in one X server is a window of another one's desktop.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::{Desktop, Process, Window};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::stack::{agent_program, pixels, relay};
use support::*;
use x11rb::protocol::xproto::ConnectionExt;

fn agent(display: &str, socket: &Path) -> Process {
    let mut agent = Command::new(agent_program());
    agent
        .args(["run", "--display", display, "--gui"])
        .arg(socket)
        .arg("--control")
        .arg(socket.with_file_name("no-control"))
        .arg("--bulk")
        .arg(socket.with_file_name("no-bulk"))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    Process::start(&mut agent).unwrap()
}

/// The terminal's window in the guest, by its class.
fn terminal(guest: &Desktop) -> Option<Window> {
    let mut all = guest.children(guest.root).unwrap().into_iter();
    all.find(|window| {
        guest.text(*window, "WM_CLASS").unwrap().contains("XTerm") && guest.is_viewable(*window)
    })
}

/// The same, as they are on the host's screen inside of the frame; nothing, if there is no such window.
fn outside(host: &Desktop) -> Option<Vec<u32>> {
    let window = *windows(host).first()?;
    let (x, y, width, height) = host.place(window).unwrap();
    Some(
        host.shot_at((x + 3, y + 3, width - 6, height - 6))
            .unwrap()
            .pixels,
    )
}

/// Waits until host and guest show the same, and more than one colour.
fn same(host: &Desktop, guest: &Desktop, within: Duration) -> Vec<u32> {
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
            eprintln!("{}", host.describe());
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
    let (desk, sockets) = (Desktop::start(1024, 768).unwrap(), Sockets::new());
    let guest = Desktop::bare(1024, 768).unwrap();
    relay(UnixListener::bind(&socket).unwrap(), sockets.gui_listener());
    let mut first = agent(&guest.name, &socket);
    let mut xterm = guest.program("xterm");
    xterm
        .args(["-geometry", "60x15", "-e", "sh"])
        .env("HOME", folder.path())
        .env("PS1", "$ ");
    let _terminal = Process::start(&mut xterm).unwrap();
    let mut presenter = Presenter::start(&desk, &sockets, &[]);
    let before = same(&desk, &guest, PATIENCE);
    let window = windows(&desk)[0];
    desk.activate(window).unwrap();
    // echo, a space, 42, return.
    desk.keys(&[18, 46, 35, 24, 57, 5, 3, 28]).unwrap();
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
    let old = desk.place(window).unwrap();
    presenter.process.0.kill().unwrap();
    wait_for("an empty desktop", || windows(&desk).is_empty());
    let mut presenter = Presenter::start(&desk, &sockets, &[]);
    let again = same(&desk, &guest, Duration::from_secs(3));
    assert_eq!(again.len(), typed.len());
    assert_eq!(
        desk.place(windows(&desk)[0]).unwrap(),
        old,
        "it is where it was"
    );

    // The agent is killed: the presenter ends, and both begin anew; the terminal lives on.
    first.0.kill().unwrap();
    assert_eq!(presenter.event("ended")["cause"], "guest");
    assert_eq!(presenter.ended(), 0);
    // Its X server notices a moment later that it is gone; until then there is a window manager.
    let manager = guest.atom("WM_S0").unwrap();
    wait_for("the agent's end", || {
        let owner = guest.conn.get_selection_owner(manager).unwrap().reply();
        owner.unwrap().owner == 0
    });
    let _second = agent(&guest.name, &socket);
    let _presenter = Presenter::start(&desk, &sockets, &[]);
    let again = same(&desk, &guest, Duration::from_secs(3));
    assert_eq!(again.len(), typed.len());
}
