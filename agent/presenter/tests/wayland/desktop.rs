//! What is the host's: locks, monitors, captions, the sandbox, codes of ends, names of apps; and another compositor.
use super::*;

#[test]
fn a_lock_shows_nothing_of_the_guest() {
    let (sway, _sockets, mut presenter, mut guest) = desk!(FLOATING, &[]);
    let mut hands = sway.hands();
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    let count = || {
        let shot = sway.shot();
        shot.pixels.iter().filter(|pixel| **pixel == GREEN).count()
    };
    wait_for("its pixels", || count() == 300 * 200);
    presenter.command("lock");
    presenter.event("locked");
    let (x, y, ..) = sway.sized("[test] locked", 426, 126);
    guest.wait("the keyboard's end", |message| match message {
        FromHost::Leave(_) => Some(()),
        _ => None,
    });
    guest.inbox.clear();
    let frame = guest.patch(1, rect(0, 0, 300, 200), Payload::Solid(GREEN.to_le_bytes()));
    guest.shown(1, frame);
    wait_for("words on the card", || {
        let shot = sway.shot();
        let all = (0..400 * 100_u32).map(|n| shot.at(x as u32 + n % 400, y as u32 + n / 400));
        all.filter(|pixel| *pixel == 0x00ff_ffff).count() > 100
    });
    assert_eq!((count(), sway.windows().len()), (0, 1));
    // A key or a click on the card asks for an unlock and gives none.
    hands.key(30);
    presenter.event("unlock-asked");
    hands.click(x + 50, y + 50);
    presenter.event("unlock-asked");
    guest.settle();
    let heard = |m: &FromHost<'_>| matches!(m, FromHost::Key(_) | FromHost::Button(_));
    assert!(!guest.inbox.iter().any(heard));
    assert_eq!(count(), 0);
    presenter.command("unlock");
    presenter.event("unlocked");
    wait_for("its pixels", || count() == 300 * 200);
    assert_eq!(sway.windows().len(), 1, "the card is gone");
}

#[test]
fn monitors_come_and_go() {
    if !sway::is_installed() {
        return;
    }
    // The desktop's monitors are windows of another one.
    let outer = Sway::new("default_border none\nworkspace_layout tabbed\n");
    let (sway, sockets) = (Sway::within(&outer, FLOATING), Sockets::new());
    let listener = sockets.listen("control");
    let path = sockets.dir.path().join("control");
    let _presenter = sway.presenter(&sockets, &["--control", path.to_str().unwrap()]);
    let mut guest = sockets.accept();
    let mut line: Line<control::FromHost<'static>, control::FromGuest<'static>> =
        Line::accept(&listener, Channel::Control);
    guest.begin();
    let mut until = |count: usize| {
        let rects = |message: &control::FromHost<'_>| match message {
            control::FromHost::Monitors(monitors) => {
                let all = monitors.monitors.iter().map(|m| m.rect);
                Some(all.collect::<Vec<_>>())
            }
            _ => None,
        };
        loop {
            let all = line.wait(&format!("{count} monitors"), rects);
            if all.len() == count {
                return all;
            }
        }
    };
    let first = until(1)[0];
    let asked = rect(20, 20, 200, 100);
    shown(&sway, &mut guest, 1, asked);
    sway.tell("create_output");
    let second = until(2)[1];
    assert!(
        second.x() >= first.size().width() as i32,
        "{first:?} {second:?}"
    );
    // A window that is moved there is there for the guest, too.
    sway.tell("[app_id=\"medley-.*\"] move container to output WL-2");
    let there = guest.wait("a move", |message| match message {
        FromHost::Configure(c) if c.rect.x() >= second.x() => Some(c.rect),
        _ => None,
    });
    assert_eq!(there.size(), asked.size());
    outer.tell("[title=\".*WL-2.*\"] kill");
    assert_eq!(until(1), [first]);
    guest.wait("the window's return", |message| match message {
        FromHost::Configure(c) if c.rect.x() < second.x() => Some(()),
        _ => None,
    });
    sway.tell("workspace 2");
    guest.fill(1, rect(0, 0, 200, 100), 0x0012_3456);
    let place = sway.sized("[test] window 1", 206, 106);
    assert_framed(&sway, place, &[0x0012_3456; 200 * 100]);
}

#[test]
fn captions_and_watermarks_are_the_hosts() {
    let (sway, _sockets, _presenter, mut guest) =
        desk!(FLOATING, &["--caption", "--watermark", "alice 12:00"]);
    guest.window(1, "a", rect(100, 150, 400, 300));
    guest.fill(1, rect(0, 0, 400, 300), 0x00ff_ffff);
    let (x, y, ..) = sway.sized("[test] a", 406, 300 + 6 + 18);
    let marked = |shot: &Shot| {
        let all =
            (0..400 * 300_u32).map(|n| shot.at(x as u32 + 3 + n % 400, y as u32 + 21 + n / 400));
        all.filter(|pixel| *pixel != 0x00ff_ffff).count()
    };
    wait_for("a watermark", || {
        (300..30_000).contains(&marked(&sway.shot()))
    });
    let before = sway.shot();
    let strip = (3..200).flat_map(|x| (3..21).map(move |y| (x, y)));
    let white = strip.filter(|(dx, dy)| before.at(x as u32 + dx, y as u32 + dy) == 0x00ff_ffff);
    assert!(white.count() > 20, "words on the caption");
    for n in 0..400 {
        let pixel = before.at(x as u32 + n, y as u32 + 323);
        assert_eq!(pixel, look().at(n as u16, 323).pixel());
    }
    // Painted in pieces, it is the same.
    for x in (0..400).step_by(37) {
        guest.fill(1, rect(x, 0, 37, 300), 0x00ff_ffff);
    }
    std::thread::sleep(Duration::from_millis(100));
    assert!(sway.shot() == before);
}

#[test]
fn the_sandbox_is_on_while_the_guest_is_heard() {
    let (sway, _sockets, presenter, mut guest) = desk!(FLOATING, &[]);
    let ready = presenter
        .seen
        .iter()
        .find(|event| event["event"] == "ready");
    assert_eq!(ready.unwrap()["display"], "wayland");
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", presenter.process.0.id())).unwrap();
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(
        (value("Seccomp:"), value("NoNewPrivs:"), value("Threads:")),
        ("2".into(), "1".into(), "1".into())
    );
    // Nothing is left behind by a hundred windows and sizes: neither files nor memory.
    let open = || {
        let folder = format!("/proc/{}/fd", presenter.process.0.id());
        std::fs::read_dir(folder).unwrap().count()
    };
    let before = open();
    for n in 0..50 {
        let at = rect(100, 100, 100 + n, 100);
        guest.window(2, "another", at);
        guest.fill(2, rect(0, 0, 100 + n, 100), GREEN);
        guest.destroy(2);
    }
    guest.fill(1, rect(0, 0, 300, 200), GREEN);
    wait_for("as few descriptors as before", || open() <= before + 2);
}

#[test]
fn a_guest_that_breaks_a_rule_loses_its_windows() {
    let (sway, _sockets, mut presenter, mut guest) = desk!(FLOATING, &[]);
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    guest.map(1, 0, Kind::PopupMenu, true);
    assert_eq!(presenter.event("violation")["code"], "mapped-twice");
    assert_eq!(presenter.ended(), 6);
    wait_for("an empty desktop", || sway.windows().is_empty());
}

#[test]
fn each_end_of_the_display_has_its_code() {
    let (mut sway, sockets, mut presenter, _guest) = desk!(FLOATING, &[]);
    sway.process.0.kill().unwrap();
    sway.process.0.wait().unwrap();
    assert_eq!(presenter.ended(), 3, "the display is gone");
    let mut presenter = sway.presenter(&sockets, &[]);
    assert_eq!(presenter.ended(), 3, "there is none");
    let mut presenter = sway.presenter(&sockets, &["--display-server", "x11"]);
    assert_eq!(presenter.ended(), 3, "nor one of the other kind");
}

/// Both window systems are there: X11 is taken, unless somebody says otherwise.
#[test]
fn x11_goes_first_where_both_are() {
    if !sway::is_installed() {
        return;
    }
    let (sway, desk) = (Sway::new(FLOATING), Desktop::start(800, 600).unwrap());
    let ready = |server: &[&str], display: &str| {
        let sockets = Sockets::new();
        let mut command = Presenter::command_line(&sockets, &["--workspace", "test"]);
        command
            .args(server)
            .env("DISPLAY", display)
            .env("WAYLAND_DISPLAY", &sway.socket);
        Presenter::run(command).event("ready")["display"].clone()
    };
    assert_eq!(ready(&[], &desk.name), "x11");
    assert_eq!(
        ready(&["--display-server", "wayland"], &desk.name),
        "wayland"
    );
    assert_eq!(
        ready(&[], ":4711"),
        "wayland",
        "the X display does not answer"
    );
}

#[test]
fn apps_have_names_of_their_own() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    guest.title(1, "other");
    let title = sway.window("[test] other");
    assert_eq!(title["app_id"], format!("medley-test.{}", "01".repeat(16)));
    let app = AppId::new([0xab; 16]);
    guest.say(gui::Class {
        window: id(1),
        app,
        instance: Untrusted::claim(medley_wire::Text::cut("x")),
        class: Untrusted::claim(medley_wire::Text::cut("x")),
    });
    wait_for("another app", || {
        sway.window("[test] other")["app_id"] == format!("medley-test.{}", "ab".repeat(16))
    });
}

/// Somebody pressed a key, and another window comes of it: it has the keyboard. One that comes by itself has not.
#[test]
fn a_window_that_somebody_asked_for_gets_the_keyboard() {
    let config = "no_focus [app_id=\".*\"]\nfocus_on_window_activation focus\n";
    let (sway, _sockets, _presenter, mut guest) = desk!(&format!("{FLOATING}{config}"), &[]);
    let mut hands = sway.hands();
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    focus(&mut guest, 1);
    std::thread::sleep(Duration::from_millis(2100));
    shown(&sway, &mut guest, 2, rect(100, 100, 200, 100));
    guest.settle();
    let focused = |m: &FromHost<'_>| matches!(m, FromHost::Focus(_) | FromHost::Leave(_));
    assert!(!guest.inbox.iter().any(focused), "{:?}", guest.inbox);
    hands.key(28);
    shown(&sway, &mut guest, 3, rect(100, 100, 250, 150));
    focus(&mut guest, 3);
}

/// A compositor that has no seat, and knows what sway does not.
#[test]
fn weston_takes_all_of_it() {
    if !weston::is_installed() {
        return;
    }
    let (weston, sockets) = (weston::Weston::new(), Sockets::new());
    let mut presenter = weston.presenter(&sockets, &["--fullscreen", "--caption"]);
    assert_eq!(presenter.event("ready")["display"], "wayland");
    let mut guest = sockets.accept();
    guest.begin();
    presenter.event("whole");
    let at = rect(50, 60, 300, 200);
    guest.window(1, "main", at);
    // Each frame is acknowledged when the compositor wants the next one.
    for n in 0..5 {
        guest.fill(1, rect(0, 0, 300, 200), n);
    }
    guest.create(2, rect(60, 70, 200, 100));
    guest.map(2, 1, Kind::Dialog, false);
    guest.fill(2, rect(0, 0, 200, 100), GREEN);
    // Nobody has a keyboard here: only what says something by itself is shown.
    guest.create(3, rect(100, 100, 60, 40));
    guest.map(3, 1, Kind::Note, true);
    guest.fill(3, rect(0, 0, 60, 40), GREEN);
    guest.create(4, rect(160, 100, 60, 40));
    guest.map(4, 3, Kind::Note, true);
    guest.fill(4, rect(0, 0, 60, 40), GREEN);
    for (window, to) in [
        (3, rect(120, 90, 80, 50)),
        (4, rect(180, 120, 60, 40)),
        (1, rect(0, 0, 350, 250)),
    ] {
        guest.say(gui::Ask {
            window: id(window),
            rect: Untrusted::claim(to),
            answers: 0,
        });
        guest.placed(window, to);
        guest.fill(window, rect(0, 0, to.size().width(), to.size().height()), 7);
    }
    for states in [
        States::MAXIMISED_ACROSS.with(States::MAXIMISED_DOWN),
        States::FULLSCREEN,
    ] {
        guest.say(gui::State {
            window: id(1),
            change: Change::new(states, States::NONE).unwrap(),
        });
        guest.wait("a state", |message| match message {
            FromHost::State(state) if state.change.apply(States::NONE).has(states) => Some(()),
            _ => None,
        });
        let placed = guest.placed(1, at);
        guest.fill(
            1,
            rect(0, 0, placed.size().width(), placed.size().height()),
            9,
        );
        guest.say(gui::State {
            window: id(1),
            change: Change::new(States::NONE, states).unwrap(),
        });
        guest.wait("its end", |message| match message {
            FromHost::State(state) if !state.change.apply(states).has(states) => Some(()),
            _ => None,
        });
    }
    // What stands on something goes after it, whichever way a guest tidies up.
    guest.destroy(3);
    guest.destroy(1);
    guest.destroy(4);
    presenter.command("lock");
    presenter.event("locked");
    presenter.command("unlock");
    presenter.event("unlocked");
    guest.fill(2, rect(0, 0, 200, 100), GREEN);
    presenter.command("quit");
    assert_eq!(presenter.ended(), 0);
}
