//! Windows: their pixels, frames, sizes and ends.
use super::*;

#[test]
fn a_window_has_its_pixels_its_frame_and_its_name() {
    let (sway, _sockets, mut presenter, mut guest) = desk!(FLOATING, &[]);
    guest.window(1, "hello", rect(50, 60, 200, 120));
    let bytes = picture(200, 120);
    let frame = guest.patch(1, rect(0, 0, 200, 120), raw(&bytes));
    guest.shown(1, frame);
    let place = sway.sized("[test] hello", 206, 126);
    assert_framed(&sway, place, &as_pixels(&bytes));
    let app = "01".repeat(16);
    let window = sway.window("[test] hello");
    assert_eq!(window["app_id"], format!("medley-test.{app}"));
    // A piece of it, and one that sticks out on every side: the frame stays what it is.
    let mut pixels = as_pixels(&bytes);
    guest.fill(1, rect(10, 20, 30, 5), 0x0012_3456);
    for row in 20..25 {
        pixels[row * 200 + 10..row * 200 + 40].fill(0x0012_3456);
    }
    assert_framed(&sway, place, &pixels);
    let big = vec![0x77; 400 * 300 * 4];
    let frame = guest.patch(1, rect(-100, -100, 400, 300), raw(&big));
    guest.shown(1, frame);
    assert_framed(&sway, place, &[0x0077_7777; 200 * 120]);
    presenter.command("quit");
    assert_eq!(presenter.ended(), 0);
    wait_for("an empty desktop", || sway.windows().is_empty());
}

#[test]
fn many_frames_are_all_shown_in_the_end() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    let place = shown(&sway, &mut guest, 1, rect(50, 60, 200, 120));
    let mut pixels = vec![GREEN; 200 * 120];
    // Each is another piece, so that the two buffers must show what the other one was given.
    for n in 0..60_u32 {
        let at = rect((n % 20 * 10) as i32, (n / 20 * 40) as i32, 10, 40);
        let colour = 0x0001_0204 * (n + 1);
        let frame = guest.patch(1, at, Payload::Solid(colour.to_le_bytes()));
        guest.shown(1, frame);
        for row in at.y()..at.y() + 40 {
            let start = (row * 200 + at.x()) as usize;
            pixels[start..start + 10].fill(colour);
        }
    }
    assert_framed(&sway, place, &pixels);
}

#[test]
fn a_tiling_desktop_says_how_large_windows_are() {
    let (sway, _sockets, _presenter, mut guest) = desk!("default_border none\n", &[]);
    guest.window(1, "a", rect(50, 60, 200, 120));
    let got = guest.wait("a size", |message| match message {
        FromHost::Configure(c) if c.rect.size().width() > 700 => Some(c.rect),
        _ => None,
    });
    assert_eq!(got.size(), rect(0, 0, 794, 594).size());
    guest.fill(1, rect(0, 0, 794, 594), GREEN);
    assert_framed(&sway, (0, 0, 800, 600), &[GREEN; 794 * 594]);
    // A wish for another size is answered with the truth.
    guest.inbox.clear();
    guest.say(gui::Ask {
        window: id(1),
        rect: Untrusted::claim(rect(0, 0, 100, 100)),
        answers: 0,
    });
    let answer = guest.wait("an answer", |message| match message {
        FromHost::Configure(c) => Some(c.rect.size()),
        _ => None,
    });
    assert_eq!(answer, got.size());
    // A second window takes half of it, and the guest is asked once at a time while an edge is dragged.
    guest.window(2, "b", rect(0, 0, 100, 100));
    let half = guest.wait("half of it", |message| match message {
        FromHost::Configure(c) if c.window == id(1) => Some(c.rect.size()),
        _ => None,
    });
    assert_eq!(half, rect(0, 0, 394, 594).size());
    guest.fill(1, rect(0, 0, 394, 594), 0x0011_2233);
    guest.fill(2, rect(0, 0, 394, 594), 0x0044_5566);
    assert_framed(&sway, (0, 0, 400, 600), &[0x0011_2233; 394 * 594]);
    assert_framed(&sway, (400, 0, 400, 600), &[0x0044_5566; 394 * 594]);
}

#[test]
fn resizing_keeps_the_frame_around() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    shown(&sway, &mut guest, 1, rect(100, 100, 200, 150));
    guest.inbox.clear();
    guest.answers = false;
    for width in (156..=396).step_by(20) {
        sway.tell(&format!("[app_id=\"medley-.*\"] resize set {width} 246"));
    }
    let place = sway.sized("[test] window 1", 396, 246);
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
    guest.answers = true;
    guest.answer(&asked[0]);
    let last = guest.placed(1, rect(0, 0, 1, 1));
    assert_eq!(last.size(), rect(0, 0, 390, 240).size());
    guest.fill(1, rect(0, 0, 390, 240), 0x0011_2233);
    assert_framed(&sway, place, &[0x0011_2233; 390 * 240]);
    // Smaller again: the ring lies where the guest's pixels were, without the guest.
    sway.tell("[app_id=\"medley-.*\"] resize set 106 86");
    let place = sway.sized("[test] window 1", 106, 86);
    assert_framed(&sway, place, &[0x0011_2233; 100 * 80]);
}

#[test]
fn a_guest_that_resizes_its_window_is_heard() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    shown(&sway, &mut guest, 1, rect(100, 100, 200, 150));
    guest.inbox.clear();
    let wish = rect(40, 50, 333, 222);
    guest.say(gui::Ask {
        window: id(1),
        rect: Untrusted::claim(wish),
        answers: 0,
    });
    assert_eq!(guest.placed(1, wish), wish, "its place is its own affair");
    guest.fill(1, rect(0, 0, 333, 222), 0x0044_5566);
    let place = sway.sized("[test] window 1", 339, 228);
    assert_framed(&sway, place, &[0x0044_5566; 333 * 222]);
}

#[test]
fn dialogs_belong_to_their_windows() {
    let (sway, _sockets, _presenter, mut guest) = desk!("default_border none\n", &[]);
    guest.window(1, "main", rect(0, 0, 400, 300));
    sway.sized("[test] main", 800, 600);
    guest.create(2, rect(50, 50, 200, 100));
    guest.title(2, "dialog");
    guest.map(2, 1, Kind::Dialog, false);
    guest.fill(2, rect(0, 0, 200, 100), GREEN);
    // Sway floats what has a parent.
    let place = sway.sized("[test] dialog", 206, 106);
    assert_eq!(sway.window("[test] dialog")["type"], "floating_con");
    assert_framed(&sway, place, &[GREEN; 200 * 100]);
}

#[test]
fn sizes_have_their_limits() {
    let (sway, _sockets, _presenter, mut guest) = desk!("default_border none\n", &[]);
    guest.create(1, rect(0, 0, 200, 100));
    guest.title(1, "fixed");
    guest.say(gui::WindowHints {
        window: id(1),
        hints: Untrusted::claim(Hints {
            given: Given::SMALLEST.with(Given::LARGEST),
            smallest: [200, 100],
            largest: [200, 100],
            step: [0; 2],
            base: [0; 2],
            aspect: [0; 4],
        }),
    });
    guest.map(1, 0, Kind::Normal, false);
    guest.fill(1, rect(0, 0, 200, 100), GREEN);
    // Sway floats what has one size only; the limits count the frame.
    let place = sway.sized("[test] fixed", 206, 106);
    assert_framed(&sway, place, &[GREEN; 200 * 100]);
}

#[test]
fn closing_is_asked_of_the_guest() {
    let (sway, _sockets, mut presenter, mut guest) = desk!(FLOATING, &[]);
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    sway.tell("[app_id=\"medley-.*\"] kill");
    guest.wait("a close", |message| match message {
        FromHost::Close(close) if close.window == id(1) => Some(()),
        _ => None,
    });
    assert_eq!(sway.windows().len(), 1, "the app may ask first");
    guest.destroy(1);
    presenter.event("closed");
    wait_for("the window's end", || sway.windows().is_empty());
}

#[test]
fn fullscreen_is_the_hosts() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &["--fullscreen"]);
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    guest.inbox.clear();
    let state = |message: &FromHost<'static>| match message {
        FromHost::State(state) => Some(state.change.apply(States::FULLSCREEN)),
        _ => None,
    };
    guest.say(gui::State {
        window: id(1),
        change: Change::new(States::FULLSCREEN, States::NONE).unwrap(),
    });
    assert_eq!(guest.wait("a state", state), States::FULLSCREEN);
    let all = guest.placed(1, rect(0, 0, 1, 1));
    assert_eq!(all, rect(3, 3, 794, 594), "it begins in the corner");
    guest.fill(1, rect(0, 0, 794, 594), GREEN);
    assert_framed(&sway, (0, 0, 800, 600), &[GREEN; 794 * 594]);
    sway.tell("[app_id=\"medley-.*\"] fullscreen disable");
    let ended = guest.wait("a state's end", state);
    assert_eq!(ended, States::NONE);
    assert_eq!(guest.placed(1, all).size(), rect(0, 0, 300, 200).size());
}

#[test]
fn what_nobody_sees_is_not_painted() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    sway.tell("workspace 2");
    // The compositor wants no more of it: frames are acknowledged all the same, and the guest is told.
    for n in 0..6 {
        guest.fill(1, rect(0, 0, 300, 200), n);
    }
    guest.wait("a word about it", |message| match message {
        FromHost::Visibility(v) if v.seen == Seen::Covered && v.frames == 0 => Some(()),
        _ => None,
    });
    // A second window is shown without waiting for the first one.
    shown(&sway, &mut guest, 2, rect(100, 100, 200, 100));
    sway.tell("workspace 1");
    guest.wait("a word about it", |message| match message {
        FromHost::Visibility(v) if v.window == id(1) && v.seen == Seen::Visible => Some(()),
        _ => None,
    });
    let place = sway.place("[test] window 1");
    assert_framed(&sway, place, &[5; 300 * 200]);
}
