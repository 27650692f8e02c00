//! The presenter on a real X server with a real window manager, and a guest that says what the test wants.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::{Desktop, Edge};
use medley_presenter::frame::{Colour, Frame, Look};
use medley_wire::gui::{self, FromHost};
use medley_wire::pixels::{Buffer, Format, Payload};
use medley_wire::window::{Change, Kind, Seen, States};
use medley_wire::{Bytes, Untrusted};
use std::time::{Duration, Instant};
use support::*;

/// Asserts that a host window is a ring of the workspace's around exactly these pixels.
fn assert_framed(desk: &Desktop, window: u32, inner: &[u32]) {
    let (_, _, width, height) = desk.place(window).unwrap();
    let size = rect(0, 0, width as u32 - 6, height as u32 - 6).size();
    assert_eq!(Frame::new(3, 0).outer(size), (width as u16, height as u16));
    let shot = desk.shot_of(window).unwrap();
    let fault = fault(&shot, (0, 0, width, height), Some(inner));
    assert_eq!(fault, None);
}

#[test]
fn a_window_has_its_pixels_and_its_frame() {
    let (desk, sockets) = (Desktop::start(800, 600).unwrap(), Sockets::new());
    let mut presenter = Presenter::start(&desk, &sockets, &[]);
    let mut guest = sockets.accept();
    guest.begin();
    presenter.event("whole");
    guest.window(1, "hello", rect(50, 60, 200, 120));
    let window = desk.window("[test] hello", PATIENCE).unwrap();
    let placed = guest.placed(1, rect(50, 60, 200, 120));
    assert_eq!(placed.size(), rect(0, 0, 200, 120).size());
    let (x, y, ..) = desk.place(window).unwrap();
    assert_eq!(
        (placed.x(), placed.y()),
        (x + 3, y + 3),
        "the guest knows where it is"
    );
    let bytes = picture(200, 120);
    let frame = guest.patch(1, rect(0, 0, 200, 120), raw(&bytes));
    guest.shown(1, frame);
    assert_framed(&desk, window, &as_pixels(&bytes));
    let app = "01".repeat(16);
    let class = format!("medley-test.{app}\0medley-test.{app}\0");
    assert_eq!(desk.text(window, "WM_CLASS").unwrap(), class);
    presenter.command("quit");
    assert_eq!(presenter.ended(), 0);
}

#[test]
fn every_packing_arrives() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let at = rect(100, 100, 160, 100);
    let (window, _) = focused(&desk, &mut guest, 1, at);
    let whole = rect(0, 0, 160, 100);
    // Pixels that pack well, and are not all the same.
    let bytes: Vec<u8> = (0..160 * 100_u32)
        .flat_map(|n| (n / 160 * 0x0002_0101).to_le_bytes())
        .collect();
    for packed in [
        lz4_flex::block::compress(&bytes),
        ruzstd::encoding::compress_to_vec(&bytes[..], ruzstd::encoding::CompressionLevel::Fastest),
    ] {
        guest.fill(1, whole, 0);
        assert!(packed.len() < bytes.len());
        let zstd = packed.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        let payload = if zstd {
            Payload::Zstd(Bytes(&packed))
        } else {
            Payload::Lz4(Bytes(&packed))
        };
        let frame = guest.patch(1, whole, payload);
        guest.shown(1, frame);
        assert_framed(&desk, window, &as_pixels(&bytes));
    }
    // Scrolled up by ten rows; the lower ten stay.
    let frame = guest.patch(1, whole, Payload::Scroll { dx: 0, dy: 10 });
    guest.shown(1, frame);
    let mut scrolled = as_pixels(&bytes);
    scrolled.copy_within(10 * 160.., 0);
    assert_framed(&desk, window, &scrolled);
    // A patch that sticks out on every side is cut at the frame.
    let big = vec![0x77; 400 * 300 * 4];
    let frame = guest.patch(1, rect(-100, -100, 400, 300), raw(&big));
    guest.shown(1, frame);
    assert_framed(&desk, window, &[0x0077_7777; 160 * 100]);
}

#[test]
fn shared_memory_arrives() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let (desk, _sockets, mut presenter, mut guest) = begun(&["--pool", &path]);
    let pool = medley_link::Pool::guest(file.path()).unwrap();
    let (window, _) = focused(&desk, &mut guest, 1, rect(100, 100, 160, 100));
    let bytes = picture(200, 100);
    pool.write(4096, &bytes).unwrap();
    let buffer = |offset| Buffer {
        offset,
        stride: 800,
        size: rect(0, 0, 160, 100).size(),
        format: Format::Xrgb,
    };
    guest.say(gui::Attach {
        window: id(1),
        buffer: Untrusted::claim(buffer(4096)),
    });
    let frame = guest.next_frame(id(1));
    guest.say(gui::Damage {
        window: id(1),
        frame,
        took: [0, 0],
        rects: rects(&[
            rect(0, 0, 160, 40),
            rect(0, 40, 80, 60),
            rect(80, 40, 500, 500),
        ]),
    });
    guest.shown(1, frame);
    let expect: Vec<u32> = as_pixels(&bytes)
        .chunks(200)
        .flat_map(|row| row[..160].to_vec())
        .collect();
    assert_framed(&desk, window, &expect);
    // A buffer that begins inside and ends outside.
    guest.say(gui::Attach {
        window: id(1),
        buffer: Untrusted::claim(buffer((1 << 20) - 79_836)),
    });
    assert_eq!(presenter.event("violation")["code"], "bad-buffer");
    assert_eq!(presenter.ended(), 6);
}

#[test]
fn a_menu_has_a_frame_and_goes_when_its_owner_loses_the_keyboard() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let (_, placed) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    guest.create(2, rect(placed.x() + 20, placed.y() + 20, 80, 60));
    guest.title(2, "menu");
    guest.map(2, 1, Kind::PopupMenu, true);
    let menu = desk.window("[test] menu", PATIENCE).unwrap();
    assert!(desk.is_unmanaged(menu));
    guest.fill(2, rect(0, 0, 80, 60), 0x00ff_ff00);
    assert_eq!(
        desk.place(menu).unwrap(),
        (placed.x() + 17, placed.y() + 17, 86, 66)
    );
    assert_framed(&desk, menu, &[0x00ff_ff00; 80 * 60]);
    // Somebody goes to a window of the host's.
    let other = own_window(&desk, "host");
    desk.activate(other).unwrap();
    wait_for("the menu's end", || !windows(&desk).contains(&menu));
    guest.wait("a word about it", |message| match message {
        FromHost::Visibility(v) if v.window == id(2) && v.seen == Seen::Hidden => Some(()),
        _ => None,
    });
    // A menu that comes up meanwhile is not shown.
    guest.create(3, rect(300, 300, 50, 50));
    guest.title(3, "popup");
    guest.map(3, 1, Kind::PopupMenu, true);
    guest.settle();
    assert_eq!(windows(&desk).len(), 1);
}

#[test]
fn typing_reaches_the_guest_as_evdev_codes() {
    let (desk, _sockets, mut presenter, mut guest) = begun(&[]);
    focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    let codes = |guest: &mut Guest| {
        guest.settle();
        let keys: Vec<_> = guest
            .inbox
            .iter()
            .filter_map(|message| match message {
                FromHost::Key(key) => Some((key.code.0, key.down)),
                _ => None,
            })
            .collect();
        guest.inbox.clear();
        keys
    };
    // e, c, h, o, space with Shift around one of them.
    desk.tap(18).unwrap();
    desk.key(42, true).unwrap();
    desk.tap(46).unwrap();
    desk.key(42, false).unwrap();
    desk.tap(35).unwrap();
    let both = |code| [(code, true), (code, false)];
    let expect = [
        &both(18)[..],
        &[(42, true)],
        &both(46),
        &[(42, false)],
        &both(35),
    ]
    .concat();
    assert_eq!(codes(&mut guest), expect);
    // The Super key, and typing on: MED-V 4.12.
    desk.tap(125).unwrap();
    desk.tap(24).unwrap();
    assert_eq!(codes(&mut guest), [both(125), both(24)].concat());
    // The host's chord is not the guest's.
    desk.chord(47).unwrap();
    assert!(codes(&mut guest).iter().all(|(code, _)| *code != 47));
    assert_eq!(presenter.event("chord")["chord"], "paste");
    // A key that is held repeats, without going up between.
    desk.key(30, true).unwrap();
    std::thread::sleep(Duration::from_millis(1000));
    desk.key(30, false).unwrap();
    let held = codes(&mut guest);
    assert!(held.len() > 3, "{held:?}");
    assert_eq!(held.iter().filter(|key| **key == (30, false)).count(), 1);
    assert_eq!(held.last(), Some(&(30, false)));
    // Somebody types into a window of the host's.
    let other = own_window(&desk, "host");
    desk.activate(other).unwrap();
    desk.tap(25).unwrap();
    assert!(codes(&mut guest).is_empty());
}

#[test]
fn the_pointer_reaches_the_guest_and_not_through_the_frame() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let (_, placed) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    guest.inbox.clear();
    desk.click(1, placed.x() + 30, placed.y() + 40).unwrap();
    let press = guest.wait("a press", |message| match message {
        FromHost::Button(button) => Some((button.code, button.down, button.x, button.y)),
        _ => None,
    });
    assert_eq!(press, (0x110, true, 30, 40));
    guest.wait("a release", |message| match message {
        FromHost::Button(button) if !button.down => Some(()),
        _ => None,
    });
    for button in [1, 5] {
        let (x, y) = (placed.x() - 2, placed.y() + 40);
        desk.click(button, x, y).unwrap();
    }
    guest.settle();
    let strange = |m: &FromHost<'_>| matches!(m, FromHost::Button(_) | FromHost::Scroll(_));
    assert!(!guest.inbox.iter().any(strange), "{:?}", guest.inbox);
    desk.click(5, placed.x() + 9, placed.y() + 9).unwrap();
    let down = guest.wait("the wheel", |message| match message {
        FromHost::Scroll(scroll) => Some((scroll.across, scroll.down)),
        _ => None,
    });
    assert_eq!(down, (0, 120));
}

#[test]
fn resizing_keeps_the_frame_around() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let (window, placed) = focused(&desk, &mut guest, 1, rect(100, 100, 200, 150));
    guest.inbox.clear();
    guest.answers = false;
    // As somebody drags an edge: many sizes, of which the guest answers none for a while.
    for width in (150..400).step_by(10) {
        desk.resize(window, width + 6, 246).unwrap();
    }
    wait_for("the last size", || desk.place(window).unwrap().2 == 396);
    guest.settle();
    let asked: Vec<_> = guest
        .inbox
        .iter()
        .filter_map(|message| match message {
            FromHost::Configure(configure) => Some(configure.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 1, "one question is open");
    guest.answer(&asked[0]);
    guest.inbox.clear();
    guest.answers = true;
    let last = guest.placed(1, placed);
    assert_eq!(last.size(), rect(0, 0, 390, 240).size());
    guest.fill(1, rect(0, 0, 390, 240), 0x0011_2233);
    assert_framed(&desk, window, &[0x0011_2233; 390 * 240]);
    // Smaller again: the ring lies where the guest's pixels were.
    desk.resize(window, 106, 86).unwrap();
    wait_for("the small size", || desk.place(window).unwrap().2 == 106);
    guest.settle();
    assert_framed(&desk, window, &[0x0011_2233; 100 * 80]);
}

#[test]
fn a_guest_that_resizes_its_window_is_heard() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let (window, placed) = focused(&desk, &mut guest, 1, rect(100, 100, 200, 150));
    guest.inbox.clear();
    guest.say(gui::Ask {
        window: id(1),
        rect: Untrusted::claim(rect(placed.x(), placed.y(), 333, 222)),
        answers: 0,
    });
    wait_for("another size", || desk.place(window).unwrap().2 == 339);
    assert_eq!(guest.placed(1, placed).size(), rect(0, 0, 333, 222).size());
    guest.fill(1, rect(0, 0, 333, 222), 0x0044_5566);
    assert_framed(&desk, window, &[0x0044_5566; 333 * 222]);
}

#[test]
fn closing_is_asked_of_the_guest() {
    let (desk, _sockets, mut presenter, mut guest) = begun(&[]);
    let (window, _) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    desk.close(window).unwrap();
    guest.wait("a close", |message| match message {
        FromHost::Close(close) if close.window == id(1) => Some(()),
        _ => None,
    });
    assert!(desk.is_viewable(window), "the app may ask first");
    guest.destroy(1);
    presenter.event("closed");
    wait_for("the window's end", || windows(&desk).is_empty());
}

#[test]
fn a_lock_shows_nothing_of_the_guest() {
    let (desk, _sockets, mut presenter, mut guest) = begun(&[]);
    let (_, placed) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    let count = |desk: &Desktop| {
        let shot = desk.shot().unwrap();
        shot.pixels
            .iter()
            .filter(|pixel| **pixel == 0x0020_8040)
            .count()
    };
    assert_eq!(count(&desk), 300 * 200);
    presenter.command("lock");
    presenter.event("locked");
    wait_for("an empty desktop", || count(&desk) == 0);
    guest.wait("the keyboard's end", |message| match message {
        FromHost::Leave(_) => Some(()),
        _ => None,
    });
    wait_for("the card", || {
        desk.titled("[test] locked").unwrap().is_some()
    });
    guest.inbox.clear();
    let frame = guest.patch(
        1,
        rect(0, 0, 300, 200),
        Payload::Solid([0x40, 0x80, 0x20, 0]),
    );
    guest.shown(1, frame);
    desk.tap(30).unwrap();
    guest.settle();
    assert_eq!(count(&desk), 0);
    assert!(!guest.inbox.iter().any(|m| matches!(m, FromHost::Key(_))));
    // A click on the card asks for an unlock and gives none.
    let card = desk.titled("[test] locked").unwrap().unwrap();
    let (x, y, ..) = desk.place(card).unwrap();
    desk.click(1, x + 50, y + 50).unwrap();
    presenter.event("unlock-asked");
    assert_eq!(count(&desk), 0);
    presenter.command("unlock");
    presenter.event("unlocked");
    let window = desk.window("[test] window 1", PATIENCE).unwrap();
    wait_for("its pixels", || count(&desk) == 300 * 200);
    let (x, y, ..) = desk.place(window).unwrap();
    assert_eq!(
        (x + 3, y + 3),
        (placed.x(), placed.y()),
        "it is where it was"
    );
}

/// MED-V 4.12: maximised windows covered the task bar.
#[test]
fn medv_4_12_maximised_windows_leave_the_task_bar_free() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    desk.task_bar(Edge::Lower, 40).unwrap();
    let (window, _) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    guest.inbox.clear();
    guest.say(gui::State {
        window: id(1),
        change: Change::new(States::FULLSCREEN, States::NONE).unwrap(),
    });
    // It asked for the whole screen, gets the work area, and is told that it has what it asked for.
    let got = guest.wait("a state", |message| match message {
        FromHost::State(state) => Some(state.change.apply(States::NONE)),
        _ => None,
    });
    assert_eq!(got, States::FULLSCREEN);
    let inner = guest.placed(1, rect(0, 0, 1, 1)).size();
    let (_, y, width, height) = desk.place(window).unwrap();
    assert!(
        width > 780 && y + height <= 560 && width <= 800,
        "{y} {width} {height}"
    );
    assert_eq!(
        inner,
        rect(0, 0, width as u32 - 6, height as u32 - 6).size()
    );
}

/// What was covered comes back without the guest.
#[test]
fn what_was_covered_is_painted_again_by_the_host() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let (window, _) = focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    let other = own_window(&desk, "host");
    desk.activate(other).unwrap();
    desk.destroy(other).unwrap();
    guest.inbox.clear();
    wait_for("the pixels", || {
        let shot = desk.shot_of(window).unwrap();
        shot.pixels.iter().filter(|p| **p == 0x0020_8040).count() == 300 * 200
    });
    assert_framed(&desk, window, &[0x0020_8040; 300 * 200]);
}

#[test]
fn a_presenter_that_was_killed_brings_all_windows_back() {
    let (desk, sockets, mut presenter, mut guest) = begun(&[]);
    let (first, placed) = focused(&desk, &mut guest, 1, rect(200, 150, 300, 200));
    let old = desk.place(first).unwrap();
    presenter.process.0.kill().unwrap();
    wait_for("an empty desktop", || windows(&desk).is_empty());
    let began = Instant::now();
    let mut presenter = Presenter::start(&desk, &sockets, &[]);
    let mut guest = sockets.accept();
    guest.snapshot(|guest| guest.window(1, "window 1", placed));
    presenter.event("whole");
    let window = desk.window("[test] window 1", PATIENCE).unwrap();
    guest.fill(1, rect(0, 0, 300, 200), 0x0020_8040);
    assert_framed(&desk, window, &[0x0020_8040; 300 * 200]);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(desk.place(window).unwrap(), old);
}

#[test]
fn a_guest_that_breaks_a_rule_loses_its_windows_and_is_told_why() {
    let (desk, _sockets, mut presenter, mut guest) = begun(&[]);
    focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
    guest.map(1, 0, Kind::PopupMenu, true);
    assert_eq!(presenter.event("violation")["code"], "mapped-twice");
    assert_eq!(presenter.ended(), 6);
    wait_for("an empty desktop", || windows(&desk).is_empty());
    guest.settle();
    assert!(guest.gone);
}

/// Bytes that are no messages: the wire's own faults end it in the same way.
#[test]
fn a_guest_that_speaks_nonsense_is_hung_up_on() {
    use std::os::fd::AsFd;
    let (_desk, _sockets, mut presenter, guest) = begun(&[]);
    let nonsense = [0xff_u8; 64];
    let fd = guest.end.as_fd().try_clone_to_owned().unwrap();
    nix::unistd::write(&fd, &nonsense).unwrap();
    assert_eq!(presenter.event("ended")["code"], 6);
    assert_eq!(presenter.ended(), 6);
}

/// Bulletin 105: a second daemon ran without the properties that tell whose its windows are.
#[test]
fn qsb_105_two_workspaces_cannot_be_confused() {
    let (desk, _sockets, _presenter, mut guest) = begun(&[]);
    let (first, _) = focused(&desk, &mut guest, 1, rect(50, 50, 200, 100));
    let others = Sockets::new();
    let more = ["--workspace", "other", "--colour", "20c040"];
    let _second = Presenter::start_as(&desk, &others, &more);
    let mut other = others.accept();
    other.begin();
    // The same number, title and app as the first one's.
    other.window(1, "window 1", rect(400, 300, 200, 100));
    let second = desk.window("[other] window 1", PATIENCE).unwrap();
    other.fill(1, rect(0, 0, 200, 100), 0x0020_8040);
    desk.activate(second).unwrap();
    for property in ["WM_CLASS", "_NET_WM_NAME"] {
        assert_ne!(
            desk.text(first, property).unwrap(),
            desk.text(second, property).unwrap()
        );
    }
    let green = Look::new(Colour(0x20, 0xc0, 0x40), "other");
    let shot = desk.shot_of(second).unwrap();
    for n in 0..60 {
        assert_eq!(shot.at(n, 1), green.at(n as u16, 1).pixel());
    }
    assert_ne!(
        desk.numbers(second, "_NET_WM_PID").unwrap(),
        desk.numbers(first, "_NET_WM_PID").unwrap()
    );
}

#[test]
fn captions_and_watermarks_are_the_hosts() {
    let (desk, _sockets, _presenter, mut guest) =
        begun(&["--caption", "--watermark", "alice 12:00"]);
    guest.window(1, "a", rect(100, 150, 400, 300));
    let window = desk.window("[test] a", PATIENCE).unwrap();
    guest.placed(1, rect(100, 150, 400, 300));
    guest.fill(1, rect(0, 0, 400, 300), 0x00ff_ffff);
    let (_, _, width, height) = desk.place(window).unwrap();
    assert_eq!((width, height), (406, 300 + 6 + 18));
    let shot = desk.shot_of(window).unwrap();
    let inner = |x: u32, y: u32| shot.at(x + 3, y + 21);
    let marked = (0..400 * 300)
        .filter(|n| inner(n % 400, n / 400) != 0x00ff_ffff)
        .count();
    assert!(marked > 300, "{marked}");
    // White words on the caption, and the ring below and beside.
    let white = (3..200).flat_map(|x| (3..21).map(move |y| (x, y)));
    assert!(
        white
            .filter(|(x, y)| shot.at(*x, *y) == 0x00ff_ffff)
            .count()
            > 20
    );
    for n in 0..400 {
        assert_eq!(shot.at(n, 323), look().at(n as u16, 323).pixel());
    }
    // Painted in pieces, the watermark is the same.
    let before = desk.shot_of(window).unwrap();
    for x in (0..400).step_by(37) {
        guest.fill(1, rect(x, 0, 37, 300), 0x00ff_ffff);
    }
    assert!(desk.shot_of(window).unwrap() == before);
}

#[test]
fn the_sandbox_is_on_while_the_guest_is_heard() {
    let (desk, _sockets, mut presenter, mut guest) = begun(&[]);
    focused(&desk, &mut guest, 1, rect(100, 100, 300, 200));
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
    presenter.command("quit");
    assert_eq!(presenter.ended(), 0);
}

#[test]
fn a_recording_can_be_played_again() {
    use medley_presenter::model::{Model, Policy};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.rec");
    let (desk, _sockets, mut presenter, mut guest) = begun(&["--record", path.to_str().unwrap()]);
    focused(&desk, &mut guest, 1, rect(100, 100, 120, 80));
    presenter.command("quit");
    assert_eq!(presenter.ended(), 0);
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "what was typed is for its owner");
    let bytes = std::fs::read(&path).unwrap();
    let layout = medley_presenter::model::Layout::single(rect(0, 0, 800, 600).size());
    let mut model = Model::new(Policy::new("test"), Frame::new(3, 0), layout);
    let mut decoder = medley_wire::Decoder::<gui::FromGuest<'static>>::new();
    for record in medley_wire::record::Replayer::new(&bytes).unwrap() {
        let record = record.unwrap();
        let now = Duration::from_micros(record.at);
        let mut rest = record.bytes;
        while record.from_guest
            && let Some(received) = decoder.push(&mut rest).unwrap()
        {
            let pool = medley_presenter::canvas::NoPool;
            // The host's side of it is not played: its questions have other numbers.
            if !matches!(received.message, gui::FromGuest::Configure(_)) {
                model.guest(&received.message, now, &pool).unwrap();
            }
        }
    }
    let canvas = model.canvas(id(1)).unwrap();
    assert!(
        canvas
            .bytes()
            .as_chunks::<4>()
            .0
            .iter()
            .all(|p| *p == GREEN.to_le_bytes())
    );
}

#[test]
fn each_end_has_its_code() {
    let (mut desk, sockets, mut presenter, guest) = begun(&[]);
    drop(guest);
    assert_eq!(presenter.ended(), 0, "the guest is gone");
    let mut presenter = Presenter::start(&desk, &sockets, &["--control", "/nowhere"]);
    assert_eq!(presenter.ended(), 4, "no such socket");
    drop(sockets.accept());
    let mut presenter = Presenter::start(&desk, &sockets, &[]);
    let mut guest = sockets.accept();
    guest.begin();
    desk.server.0.kill().unwrap();
    assert_eq!(presenter.ended(), 3, "the display is gone");
    let mut presenter = Presenter::start(&desk, &sockets, &[]);
    assert_eq!(presenter.ended(), 3, "there is none");
}
