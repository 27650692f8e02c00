//! Keys, the pointer, and who asks for attention.
use super::*;

#[test]
fn typing_reaches_the_guest_as_evdev_codes() {
    let (sway, _sockets, mut presenter, mut guest) = desk!(FLOATING, &[]);
    let mut hands = sway.hands();
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    focus(&mut guest, 1);
    guest.inbox.clear();
    hands.key(18);
    hands.key_down(42);
    hands.modifiers(1, 0);
    hands.key(46);
    hands.modifiers(0, 0);
    hands.key_up(42);
    let shifted = guest.wait("a key with Shift", |message| match message {
        FromHost::Key(key) if key.code.0 == 46 && key.down => Some(key.held),
        _ => None,
    });
    assert_eq!(shifted, Modifiers::SHIFT);
    hands.key(35);
    let all = keys(&mut guest);
    let expect = [
        (18, true),
        (18, false),
        (42, true),
        (46, false),
        (42, false),
        (35, true),
        (35, false),
    ];
    assert_eq!(all, expect, "and the one with Shift between");
    // The host's chord is not the guest's.
    hands.modifiers(0x41, 0);
    hands.key(47);
    hands.modifiers(0, 0);
    assert!(keys(&mut guest).iter().all(|(code, _)| *code != 47));
    assert_eq!(presenter.event("chord")["chord"], "paste");
    // A key that is held repeats, without going up between; a modifier does not.
    hands.key_down(42);
    hands.key_down(30);
    std::thread::sleep(Duration::from_millis(1000));
    hands.key_up(30);
    hands.key_up(42);
    let held = keys(&mut guest);
    let count = |key| held.iter().filter(|other| **other == key).count();
    assert!((5..=20).contains(&count((30, true))), "{held:?}");
    assert_eq!((count((30, false)), count((42, true))), (1, 1));
    // Somebody looks at another workspace: nothing more is typed here, and what is held goes up.
    hands.key_down(30);
    sway.tell("workspace 2");
    guest.wait("the keyboard's end", |message| match message {
        FromHost::Leave(_) => Some(()),
        _ => None,
    });
    guest.inbox.clear();
    hands.key_up(30);
    hands.key(31);
    std::thread::sleep(Duration::from_millis(800));
    assert!(keys(&mut guest).is_empty());
}

#[test]
fn the_pointer_reaches_the_guest_and_not_through_the_frame() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    let mut hands = sway.hands();
    let (x, y, ..) = shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    enter(&mut hands, &mut guest, x + 33, y + 43);
    guest.inbox.clear();
    hands.click(x + 33, y + 43);
    let press = guest.wait("a press", |message| match message {
        FromHost::Button(button) => Some((button.code, button.down, button.x, button.y)),
        _ => None,
    });
    assert_eq!(press, (0x110, true, 30, 40));
    guest.wait("a release", |message| match message {
        FromHost::Button(button) if !button.down => Some(()),
        _ => None,
    });
    guest.inbox.clear();
    // The frame is the host's.
    hands.click(x + 1, y + 40);
    hands.wheel(1);
    guest.settle();
    let strange = |m: &FromHost<'_>| matches!(m, FromHost::Button(_) | FromHost::Scroll(_));
    assert!(!guest.inbox.iter().any(strange), "{:?}", guest.inbox);
    hands.point(x + 12, y + 12);
    hands.wheel(-2);
    let turned = guest.wait("the wheel", |message| match message {
        FromHost::Scroll(scroll) => Some((scroll.across, scroll.down)),
        _ => None,
    });
    assert_eq!(turned, (0, -240));
    // Dragged out of the window, it is still heard.
    guest.settle();
    guest.inbox.clear();
    hands.button(0x110, true);
    hands.point(x - 20, y - 10);
    let at = guest.wait("a movement outside", |message| match message {
        FromHost::Motion(m) if m.x < 0 => Some((m.x, m.y)),
        _ => None,
    });
    assert_eq!(at, (-23, -13));
    hands.button(0x110, false);
    guest.wait("a release outside", |message| match message {
        FromHost::Button(button) if !button.down => Some(()),
        _ => None,
    });
}

/// Moves the pointer into a window of the guest's, and waits until that has reached it: a presenter learns that the seat
/// has a pointer some time after it has, and clicks until then are nobody's.
fn enter(hands: &mut Hands, guest: &mut Guest, x: i32, y: i32) {
    hands.point(x, y);
    guest.wait("the pointer inside", |message| match message {
        FromHost::Crossing(crossing) if crossing.inside => Some(()),
        _ => None,
    });
}

/// The guest types what the host's keys mean, whatever layout the guest began with.
#[test]
fn the_keymap_reaches_the_guest() {
    if !sway::is_installed() {
        return;
    }
    let (sway, sockets) = (Sway::new(FLOATING), Sockets::new());
    let _hands: Hands = sway.hands();
    let listener = sockets.listen("control");
    let path = sockets.dir.path().join("control");
    let _presenter = sway.presenter(&sockets, &["--control", path.to_str().unwrap()]);
    let mut guest = sockets.accept();
    let mut line: Line<control::FromHost<'static>, control::FromGuest<'static>> =
        Line::accept(&listener, Channel::Control);
    guest.begin();
    let text = line.wait("a keymap", |message| match message {
        control::FromHost::Keymap(keymap) => {
            let text = keymap.compiled.as_str().unwrap_or_default().to_owned();
            (text.len() > 1000).then_some((text, keymap.repeat))
        }
        _ => None,
    });
    let (text, repeat) = text;
    assert!(
        text.starts_with("xkb_keymap {") && text.trim_end().ends_with("};"),
        "{text}"
    );
    assert!(text.contains("adiaeresis"), "German letters");
    assert_eq!(repeat, [600, 40]);
    // What was squeezed is still a keymap, to the program that guests give it to.
    // Into a file of its own: xkbcomp removes what is there first, also a device.
    let dir = tempfile::tempdir().unwrap();
    let compiled = std::process::Command::new("xkbcomp")
        .args(["-w", "0", "-xkb", "-"])
        .arg(dir.path().join("keymap"))
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut compiled) = compiled else {
        eprintln!("SKIPPED: xkbcomp is not installed");
        return;
    };
    let mut stdin = compiled.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    assert!(compiled.wait().unwrap().success());
}

#[test]
fn attention_is_asked_for_and_no_keyboard_is_taken() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    let _hands = sway.hands();
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    focus(&mut guest, 1);
    sway.tell("workspace 2");
    guest.say(gui::State {
        window: id(1),
        change: Change::new(States::ATTENTION, States::NONE).unwrap(),
    });
    wait_for("the desktop's attention", || {
        sway.window("[test] window 1")["urgent"] == true
    });
    let workspaces = sway.ask("get_workspaces");
    let focused = workspaces
        .as_array()
        .unwrap()
        .iter()
        .find(|w| w["focused"] == true);
    assert_eq!(focused.unwrap()["name"], "2");
}

/// Cursors are of the desktop's theme, or an arrow of ours; a name that the guest says changes it.
#[test]
fn the_pointer_is_dressed() {
    let (sway, _sockets, _presenter, mut guest) = desk!(FLOATING, &[]);
    let mut hands = sway.hands();
    let (x, y, ..) = shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    hands.point(x + 100, y + 100);
    let strange = || {
        let shot = sway.grim(&["-c"]);
        let around = (0..40 * 40_u32).map(|n| (x as u32 + 85 + n % 40, y as u32 + 85 + n / 40));
        around.filter(|(x, y)| shot.at(*x, *y) != GREEN).count()
    };
    wait_for("a pointer", || strange() > 20);
    guest.say(gui::Cursor {
        shape: Shape::Hidden,
    });
    wait_for("no pointer", || strange() == 0);
    guest.say(gui::Cursor {
        shape: Shape::Arrow,
    });
    wait_for("a pointer again", || strange() > 20);
}
