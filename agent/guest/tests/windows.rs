//! The agent against a real X server with real apps, and a host that is a script.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::{Desktop, Process, key_of};
use medley_link::Pool;
use medley_wire::pixels::Format;
use medley_wire::window::{Change, Kind, Modifiers, Seen, States};
use medley_wire::{Bytes, Features, Rect, Size, WindowId, gui};
use std::time::{Duration, Instant};
use support::display;
use support::{Doors, Host, PATIENCE, agent, app};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::ConnectionExt;

fn rect(x: i32, y: i32, width: u32, height: u32) -> Rect {
    Rect::new(x, y, Size::new(width, height).unwrap()).unwrap()
}

fn start(more: &[&str]) -> (Desktop, Doors, Process, Host) {
    let server = display::virtual_one();
    let doors = Doors::new();
    let agent = agent(&server, &doors, more);
    let host = Host::accept(&doors, Features::ALL, None);
    (server, doors, agent, host)
}

/// Compares what the host has with what the server has. The unused byte of a pixel is not looked at.
fn same_pixels(server: &Desktop, host: &Host, class: &str, border: usize) {
    let window = display::find(server, class).unwrap();
    let (_, _, width, height) = server.place(window).unwrap();
    let real = server.image(window, (0, 0, width, height)).unwrap().pixels;
    let ours = host.model.find(class).unwrap().inner(border);
    let ours = ours.as_chunks::<4>().0.iter();
    let ours: Vec<u32> = ours
        .map(|pixel| u32::from_le_bytes(*pixel) & 0x00ff_ffff)
        .collect();
    assert_eq!(ours.len(), real.len());
    let differ = ours.iter().zip(&real).filter(|(a, b)| a != b).count();
    assert_eq!(
        differ,
        0,
        "pixels of {class} that differ, of {}",
        ours.len()
    );
    let first = real[0];
    assert!(
        real.iter().any(|pixel| *pixel != first),
        "{class} shows nothing"
    );
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn press(host: &mut Host, window: WindowId, code: u16, down: bool, held: Modifiers) {
    host.say(gui::Key {
        window,
        code: medley_wire::window::KeyCode(code),
        down,
        group: 0,
        held,
        locked: Modifiers::NONE,
    });
}

fn type_text(host: &mut Host, window: WindowId, text: &str) {
    for letter in text.chars() {
        let (code, shift) = key_of(letter).unwrap();
        let held = if shift {
            Modifiers::SHIFT
        } else {
            Modifiers::NONE
        };
        press(host, window, code.into(), true, held);
        press(host, window, code.into(), false, held);
    }
}

fn focus(host: &mut Host, window: WindowId) {
    host.say(gui::Focus {
        window,
        held: Modifiers::NONE,
        locked: Modifiers::NONE,
    });
}

#[test]
fn a_window_comes_with_its_name_kind_hints_and_pixels() {
    let (server, _doors, _agent, mut host) = start(&[]);
    let _xterm = app(
        &server,
        "xterm",
        &["-title", "Títle — 1", "-e", "sh", "-c", "seq 30; sleep 60"],
    );
    let id = host.window("XTerm");
    host.settle(id);
    let win = &host.model.windows[&id];
    assert_eq!(win.class, ("xterm".into(), "XTerm".into()));
    assert_eq!(win.title, "Títle — 1");
    assert_eq!(
        (win.kind, win.unmanaged, win.parent),
        (Some(Kind::Normal), false, None)
    );
    let step = win.hints.unwrap().step.unwrap();
    assert!(step.width() > 1 && step.height() > 1);
    same_pixels(&server, &host, "XTerm", 0);
    let xid = display::find(&server, "XTerm").unwrap();
    assert_eq!(server.numbers(xid, "WM_STATE").unwrap()[0], 1);
    assert_eq!(server.numbers(xid, "_NET_FRAME_EXTENTS").unwrap(), [0; 4]);
    assert_eq!(
        server.numbers(server.root, "_NET_CLIENT_LIST").unwrap(),
        [xid]
    );
}

#[test]
fn what_is_typed_arrives() {
    let (server, doors, _agent, mut host) = start(&[]);
    let typed = doors.path("typed");
    let script = format!("read line; printf %s \"$line\" > {}", typed.display());
    let _xterm = app(&server, "xterm", &["-u8", "-e", "sh", "-c", &script]);
    let id = host.window("XTerm");
    host.settle(id);
    focus(&mut host, id);
    type_text(&mut host, id, "Hello, World 42");
    host.say(gui::InputText {
        window: id,
        text: Bytes(" žluťoučký 日本".as_bytes()),
    });
    type_text(&mut host, id, " end\n");
    let got = wait_for("what was typed", || {
        std::fs::read_to_string(&typed)
            .ok()
            .filter(|t| !t.is_empty())
    });
    assert_eq!(got, "Hello, World 42 žluťoučký 日本 end");
    // The shell ended, so its window goes; the host lets its number go.
    host.until("the window to go", |model| model.windows.is_empty());
}

#[test]
fn a_window_is_closed_politely_and_by_force() {
    let (server, _doors, _agent, mut host) = start(&[]);
    let mut polite = app(
        &server,
        "zenity",
        &["--info", "--text=bye", "--title=Polite"],
    );
    let id = host.window("Zenity");
    assert_eq!(host.model.windows[&id].kind, Some(Kind::Dialog));
    assert_eq!(host.model.windows[&id].title, "Polite");
    host.say(gui::Close { window: id });
    host.until("the dialog to go", |model| {
        model.find("Zenity").is_none_or(|w| !w.mapped)
    });
    // Zenity says with 1 that it was closed; a killed one would have no status.
    assert_eq!(polite.0.wait().unwrap().code(), Some(1));
}

#[test]
fn the_host_says_where_a_window_is() {
    let (server, _doors, _agent, mut host) = start(&[]);
    let _logo = app(&server, "xlogo", &["-geometry", "200x150"]);
    let id = host.window("XLogo");
    for (serial, place) in [(5, rect(300, 200, 420, 310)), (6, rect(10, 20, 420, 310))] {
        host.say(gui::Configure {
            window: id,
            rect: place,
            serial,
        });
        host.until("the answer", |model| {
            model.windows[&id].answers.last() == Some(&serial)
        });
        assert_eq!(host.model.windows[&id].rect, place);
        host.settle(id);
        same_pixels(&server, &host, "XLogo", 0);
        let xid = display::find(&server, "XLogo").unwrap();
        let real = server.conn.get_geometry(xid).unwrap().reply().unwrap();
        let real = (
            i32::from(real.x),
            i32::from(real.y),
            real.width,
            real.height,
        );
        assert_eq!(real, (place.x(), place.y(), 420, 310));
    }
}

#[test]
fn an_app_that_wants_another_size_waits_for_the_host() {
    let (server, _doors, _agent, mut host) = start(&[]);
    let _xterm = app(
        &server,
        "xterm",
        &[
            "-xrm",
            "XTerm*allowWindowOps: true",
            "-e",
            "sh",
            "-c",
            "sleep 0.4; printf '\\033[8;10;40t'; sleep 60",
        ],
    );
    let id = host.window("XTerm");
    let before = host.model.windows[&id].rect;
    host.until("a wish", |model| !model.windows[&id].wishes.is_empty());
    let wish = *host.model.windows[&id].wishes.last().unwrap();
    assert!(wish.size().width() < before.size().width());
    let xid = display::find(&server, "XTerm").unwrap();
    let real = server.conn.get_geometry(xid).unwrap().reply().unwrap();
    assert_eq!(
        u32::from(real.width),
        before.size().width(),
        "nothing changes before the host says so"
    );
    host.say(gui::Configure {
        window: id,
        rect: wish,
        serial: 1,
    });
    host.until("the answer", |model| model.windows[&id].answers == [1]);
    host.settle(id);
    same_pixels(&server, &host, "XTerm", 0);
}

#[test]
fn menus_of_old_and_new_toolkits() {
    let (server, _doors, _agent, mut host) = start(&[]);
    let _xterm = app(&server, "xterm", &["-e", "sleep", "60"]);
    let id = host.window("XTerm");
    focus(&mut host, id);
    let click = |host: &mut Host, code, down, held| {
        host.say(gui::Button {
            window: id,
            x: 40,
            y: 40,
            code,
            down,
            held,
        });
    };
    click(&mut host, 0x110, true, Modifiers::CONTROL);
    host.until("a menu", |model| {
        model.popup().is_some_and(|w| w.frames > 0)
    });
    let menu = host.model.popup().unwrap();
    assert_eq!((menu.kind, menu.parent), (Some(Kind::PopupMenu), Some(id)));
    assert!(menu.rect.size().height() > 50);
    let menu = menu.id;
    host.settle(menu);
    let shown = host.model.windows[&menu].inner(1);
    assert!(
        shown.chunks_exact(4).any(|p| p[..3] != shown[..3]),
        "the menu shows words"
    );
    click(&mut host, 0x110, false, Modifiers::NONE);
    host.until("the menu to go", |model| model.popup().is_none());

    let _entry = app(&server, "zenity", &["--entry", "--text=x"]);
    let dialog = host.window("Zenity");
    host.settle(dialog);
    focus(&mut host, dialog);
    let size = host.model.windows[&dialog].rect.size();
    for down in [true, false] {
        host.say(gui::Button {
            window: dialog,
            x: size.width() as i32 / 2,
            y: size.height() as i32 / 2,
            code: 0x111,
            down,
            held: Modifiers::NONE,
        });
    }
    host.until("a GTK menu", |model| {
        model.popup().is_some_and(|w| w.frames > 0)
    });
    let menu = host.model.popup().unwrap();
    assert_eq!(
        (menu.kind, menu.parent),
        (Some(Kind::PopupMenu), Some(dialog))
    );
}

#[test]
fn an_agent_that_was_killed_finds_everything_again() {
    let (server, doors, mut first, mut host) = start(&[]);
    let _logo = app(&server, "xlogo", &[]);
    let _xterm = app(&server, "xterm", &["-e", "sleep", "60"]);
    let (logo, _) = (host.window("XLogo"), host.window("XTerm"));
    host.say(gui::State {
        window: logo,
        change: Change::new(States::MAXIMISED_DOWN, States::NONE).unwrap(),
    });
    wait_for("the state", || {
        let logo = display::find(&server, "XLogo").unwrap();
        let states = server.numbers(logo, "_NET_WM_STATE").unwrap();
        states
            .contains(&server.atom("_NET_WM_STATE_MAXIMIZED_VERT").unwrap())
            .then_some(())
    });
    let begun = Instant::now();
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    drop(host);
    let _second = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    let (logo, xterm) = (host.window("XLogo"), host.window("XTerm"));
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert!(host.model.windows[&logo].states.has(States::MAXIMISED_DOWN));
    assert!(!host.model.windows[&xterm].unmanaged);
    host.settle(xterm);
    same_pixels(&server, &host, "XLogo", 0);
    same_pixels(&server, &host, "XTerm", 0);
}

#[test]
fn a_host_that_comes_back_is_told_everything() {
    let (server, doors, _agent, mut host) = start(&[]);
    let _logo = app(&server, "xlogo", &[]);
    let id = host.window("XLogo");
    press(&mut host, id, 42, true, Modifiers::NONE);
    focus(&mut host, id);
    press(&mut host, id, 30, true, Modifiers::NONE);
    let down = |server: &Desktop| {
        let keys = server.conn.query_keymap().unwrap().reply().unwrap().keys;
        keys.iter().map(|byte| byte.count_ones()).sum::<u32>()
    };
    wait_for("a key to be down", || (down(&server) == 1).then_some(()));
    drop(host);
    wait_for("keys to be released", || (down(&server) == 0).then_some(()));
    let mut host = Host::accept(&doors, Features::ALL, None);
    let id = host.window("XLogo");
    host.settle(id);
    same_pixels(&server, &host, "XLogo", 0);
    // The same once more on a connection that stays.
    host.resync(9);
    let id = host.window("XLogo");
    host.settle(id);
    same_pixels(&server, &host, "XLogo", 0);
}

#[test]
fn pixels_go_through_shared_memory() {
    let server = display::virtual_one();
    let doors = Doors::new();
    let path = doors.path("pool");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    file.set_len(8 << 20).unwrap();
    let _agent = agent(&server, &doors, &["--pool", path.to_str().unwrap()]);
    let mut host = Host::accept(&doors, Features::ALL, Some(Pool::of_host(&file).unwrap()));
    let _xterm = app(
        &server,
        "xterm",
        &[
            "-e",
            "sh",
            "-c",
            "for i in $(seq 50); do echo $i $i; sleep 0.01; done; sleep 60",
        ],
    );
    let _logo = app(&server, "xlogo", &[]);
    let xterm = host.window("XTerm");
    let logo = host.window("XLogo");
    host.settle(xterm);
    assert!(host.model.windows[&xterm].buffer.is_some());
    assert_eq!(
        host.model.windows[&xterm].buffer.unwrap().format(),
        Format::Xrgb
    );
    same_pixels(&server, &host, "XTerm", 0);
    same_pixels(&server, &host, "XLogo", 0);
    // A window that does not fit any more goes through the stream.
    host.say(gui::Configure {
        window: logo,
        rect: rect(0, 0, 1600, 1400),
        serial: 3,
    });
    host.until("the answer", |model| model.windows[&logo].answers == [3]);
    let before = host.model.windows[&logo].frames;
    host.until("a frame", |model| model.windows[&logo].frames > before);
    host.settle(logo);
    same_pixels(&server, &host, "XLogo", 0);
}

#[test]
fn frames_wait_for_the_host_and_hidden_windows_cost_nothing() {
    let (server, _doors, _agent, mut host) = start(&[]);
    let _xterm = app(
        &server,
        "xterm",
        &[
            "-e",
            "sh",
            "-c",
            "while true; do date +%N; sleep 0.01; done",
        ],
    );
    let id = host.window("XTerm");
    host.watch(Duration::from_millis(300));
    assert!(host.model.windows[&id].frames > 5);
    host.model.silent = true;
    host.watch(Duration::from_millis(100));
    let before = host.model.windows[&id].frames;
    host.watch(Duration::from_millis(300));
    assert!(
        host.model.windows[&id].frames - before <= 2,
        "two unacknowledged frames"
    );
    host.resync(2);
    host.watch(Duration::from_millis(300));
    assert_eq!(
        host.model.windows[&id].frames, 2,
        "as before, after everything was said anew"
    );
    host.model.silent = false;
    let show = |host: &mut Host, seen, frames| {
        host.say(gui::Visibility {
            window: id,
            seen,
            frames,
        });
    };
    host.resync(3);
    show(&mut host, Seen::Hidden, 0);
    host.watch(Duration::from_millis(100));
    let before = host.model.windows[&id].frames;
    host.watch(Duration::from_millis(300));
    assert_eq!(host.model.windows[&id].frames, before, "hidden");
    show(&mut host, Seen::Visible, 10);
    host.watch(Duration::from_millis(1000));
    let shown = host.model.windows[&id].frames - before;
    assert!((3..=12).contains(&shown), "ten frames a second: {shown}");
}

#[test]
fn an_idle_agent_sleeps() {
    let (server, _doors, agent, mut host) = start(&[]);
    let _logo = app(&server, "xlogo", &[]);
    let id = host.window("XLogo");
    host.settle(id);
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.0.id())).unwrap();
        let line = status
            .lines()
            .find(|l| l.starts_with("voluntary_ctxt_switches"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = switches();
    host.watch(Duration::from_millis(1500));
    assert_eq!(switches(), before, "it woke up with nothing to do");
}

#[test]
fn the_keyboard_never_repeats_by_itself() {
    let (server, _doors, _agent, mut host) = start(&[]);
    let _logo = app(&server, "xlogo", &[]);
    host.window("XLogo");
    let repeats = || {
        let reply = server.conn.get_keyboard_control().unwrap().reply().unwrap();
        reply.global_auto_repeat == x11rb::protocol::xproto::AutoRepeatMode::ON
    };
    assert!(!repeats());
    let on = x11rb::protocol::xproto::ChangeKeyboardControlAux::new()
        .auto_repeat_mode(x11rb::protocol::xproto::AutoRepeatMode::ON);
    server.conn.change_keyboard_control(&on).unwrap();
    server.conn.flush().unwrap();
    wait_for("repeat to be off again", || (!repeats()).then_some(()));
}

#[test]
fn states_are_wishes_until_the_host_agrees() {
    let (server, _doors, _agent, mut host) = start(&[]);
    let _xterm = app(
        &server,
        "xterm",
        &[
            "-xrm",
            "XTerm*allowWindowOps: true",
            "-e",
            "sh",
            "-c",
            "sleep 0.4; printf '\\033[9;1t'; printf '\\033[2t'; sleep 60",
        ],
    );
    let id = host.window("XTerm");
    host.until("wishes", |model| {
        model.windows[&id].states.has(States::MINIMISED)
    });
    let xid = display::find(&server, "XTerm").unwrap();
    assert_eq!(
        server.numbers(xid, "WM_STATE").unwrap()[0],
        1,
        "not before the host agrees"
    );
    host.say(gui::State {
        window: id,
        change: Change::new(States::MINIMISED, States::NONE).unwrap(),
    });
    wait_for("the state", || {
        (server.numbers(xid, "WM_STATE").unwrap()[0] == 3).then_some(())
    });
}

#[test]
fn round_windows_say_their_shape() {
    let (server, _doors, _agent, mut host) = start(&[]);
    let _eyes = app(&server, "xeyes", &["-geometry", "300x200"]);
    let id = host.window("XEyes");
    host.until("the shape", |model| model.windows[&id].outline > 4);
    assert!(host.model.windows[&id].outline <= 64);
}

#[test]
fn only_one_window_manager() {
    let server = display::virtual_one();
    let doors = Doors::new();
    let _first = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    let mut second = agent(&server, &Doors::new(), &[]);
    let status = wait_for("the second agent to give up", || {
        second.0.try_wait().unwrap()
    });
    assert!(!status.success());
    let _logo = app(&server, "xlogo", &[]);
    host.window("XLogo");
}

/// A window of the test's own, that its connection owns.
struct Own<'s> {
    server: &'s Desktop,
    window: u32,
}

impl<'s> Own<'s> {
    fn new(server: &'s Desktop, class: &str, owner: Option<u32>) -> Self {
        use x11rb::protocol::xproto::{
            AtomEnum, CreateWindowAux, EventMask, PropMode, WindowClass,
        };
        use x11rb::wrapper::ConnectionExt as _;
        let x = &server.conn;
        let window = x.generate_id().unwrap();
        let look = CreateWindowAux::new()
            .background_pixel(0x33_66_99)
            .event_mask(
                EventMask::POINTER_MOTION
                    | EventMask::ENTER_WINDOW
                    | EventMask::LEAVE_WINDOW
                    | EventMask::BUTTON_PRESS
                    | EventMask::STRUCTURE_NOTIFY,
            );
        let depth = x11rb::COPY_DEPTH_FROM_PARENT;
        let kind = WindowClass::INPUT_OUTPUT;
        x.create_window(
            depth,
            window,
            server.root,
            50,
            60,
            200,
            100,
            3,
            kind,
            0,
            &look,
        )
        .unwrap();
        let both = format!("{class}\0{class}\0");
        let (replace, string) = (PropMode::REPLACE, AtomEnum::STRING);
        x.change_property8(replace, window, AtomEnum::WM_CLASS, string, both.as_bytes())
            .unwrap();
        if let Some(owner) = owner {
            let of = AtomEnum::WM_TRANSIENT_FOR;
            x.change_property32(replace, window, of, AtomEnum::WINDOW, &[owner])
                .unwrap();
        }
        x.map_window(window).unwrap();
        x.flush().unwrap();
        Self { server, window }
    }

    /// Sends a message to the window manager about this window.
    fn ask(&self, kind: &str, data: [u32; 5]) {
        use x11rb::protocol::xproto::{ClientMessageEvent, EventMask};
        let server = self.server;
        let message = ClientMessageEvent::new(32, self.window, server.atom(kind).unwrap(), data);
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        server
            .conn
            .send_event(false, server.root, mask, message)
            .unwrap();
        server.conn.flush().unwrap();
    }

    /// Waits for an event that is wanted.
    fn hears<T>(&self, what: &str, wanted: impl Fn(&x11rb::protocol::Event) -> Option<T>) -> T {
        wait_for(what, || {
            std::iter::from_fn(|| self.server.conn.poll_for_event().unwrap())
                .find_map(|e| wanted(&e))
        })
    }
}

#[test]
fn a_dialog_keeps_its_owner_through_a_restart() {
    let (server, doors, mut first, mut host) = start(&[]);
    let owner = Own::new(&server, "Owner", None);
    let owner_id = host.window("Owner");
    // Later, and lower: it is found before the window that it stands before.
    let dialog = Own::new(&server, "Question", Some(owner.window));
    let dialog_id = host.window("Question");
    let shown = &host.model.windows[&dialog_id];
    assert_eq!(
        (shown.kind, shown.parent),
        (Some(Kind::Dialog), Some(owner_id))
    );
    assert_eq!(
        shown.rect.size(),
        Size::new(200, 100).unwrap(),
        "its own border is gone"
    );
    host.say(gui::Stack {
        window: dialog_id,
        sibling: Some(owner_id),
        place: medley_wire::window::Place::Below,
    });
    wait_for("the order", || {
        (server
            .numbers(server.root, "_NET_CLIENT_LIST_STACKING")
            .unwrap()
            == [dialog.window, owner.window])
        .then_some(())
    });
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    drop(host);
    let _second = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    let (owner_id, dialog_id) = (host.window("Owner"), host.window("Question"));
    let shown = &host.model.windows[&dialog_id];
    assert_eq!(
        (shown.kind, shown.parent),
        (Some(Kind::Dialog), Some(owner_id))
    );
    assert_eq!(host.model.stacks, [dialog_id, owner_id], "the lowest first");
}

#[test]
fn the_pointer_goes_where_the_host_points_and_leaves_no_trace() {
    use x11rb::protocol::Event;
    let (server, _doors, _agent, mut host) = start(&[]);
    let below = Own::new(&server, "Below", None);
    let below_id = host.window("Below");
    let _above = Own::new(&server, "Above", None);
    host.window("Above");
    // Both lie at the same place; on the host's screen they may not.
    host.say(gui::Crossing {
        window: below_id,
        inside: true,
        x: 5,
        y: 6,
    });
    host.say(gui::Motion {
        window: below_id,
        x: 20,
        y: 30,
        dx: 0,
        dy: 0,
    });
    let at = below.hears("motion", |event| match event {
        Event::MotionNotify(e) if e.event == below.window => Some((e.event_x, e.event_y)),
        _ => None,
    });
    assert!([(5, 6), (20, 30)].contains(&at));
    host.say(gui::Scroll {
        window: below_id,
        across: 0,
        down: 70,
        held: Modifiers::NONE,
    });
    host.say(gui::Scroll {
        window: below_id,
        across: 0,
        down: 70,
        held: Modifiers::NONE,
    });
    let button = below.hears("the wheel", |event| match event {
        Event::ButtonPress(e) if e.event == below.window => Some(e.detail),
        _ => None,
    });
    assert_eq!(button, 5, "one whole notch down");
    host.say(gui::Crossing {
        window: below_id,
        inside: false,
        x: 0,
        y: 0,
    });
    below.hears("the pointer to leave", |event| match event {
        Event::LeaveNotify(e) if e.event == below.window => Some(()),
        _ => None,
    });
    host.say(gui::Crossing {
        window: below_id,
        inside: true,
        x: 1,
        y: 1,
    });
    below.hears("the pointer to come back", |event| match event {
        Event::EnterNotify(e) if e.event == below.window => Some(()),
        _ => None,
    });
}

#[test]
fn what_apps_ask_their_window_manager() {
    let (server, _doors, _agent, mut host) = start(&[]);
    let own = Own::new(&server, "Asker", None);
    let id = host.window("Asker");
    own.ask("_NET_WM_MOVERESIZE", [1, 1, 3, 1, 1]);
    host.until("a drag", |model| {
        model.drags == [medley_wire::window::Grip::Right]
    });
    own.ask("_NET_WM_MOVERESIZE", [1, 1, 11, 1, 1]);
    {
        use x11rb::protocol::xproto::{AtomEnum, PropMode};
        use x11rb::wrapper::ConnectionExt as _;
        let (replace, icon) = (PropMode::REPLACE, server.atom("_NET_WM_ICON").unwrap());
        let words = [&[96, 96][..], &[0xffff_ffff; 96 * 96]].concat();
        server
            .conn
            .change_property32(replace, own.window, icon, AtomEnum::CARDINAL, &words)
            .unwrap();
        server.conn.flush().unwrap();
    }
    host.until("the icon", |model| {
        model.window_icons.get(&id) == Some(&(64, 64))
    });
    let full = server.atom("_NET_WM_STATE_FULLSCREEN").unwrap();
    own.ask("_NET_WM_STATE", [2, full, 0, 1, 0]);
    host.until("the wish", |model| {
        model.windows[&id].states.has(States::FULLSCREEN)
    });
    assert!(
        server
            .numbers(own.window, "_NET_WM_STATE")
            .unwrap()
            .is_empty(),
        "not before the host agrees"
    );
    host.say(gui::State {
        window: id,
        change: Change::new(States::FULLSCREEN, States::NONE).unwrap(),
    });
    wait_for("the state", || {
        (server.numbers(own.window, "_NET_WM_STATE").unwrap() == [full]).then_some(())
    });
    own.ask("_NET_ACTIVE_WINDOW", [1, 0, 0, 0, 0]);
    host.until("attention", |model| {
        model.windows[&id].states.has(States::ATTENTION)
    });
    focus(&mut host, id);
    wait_for("the keyboard", || {
        let focus = server
            .conn
            .get_input_focus()
            .unwrap()
            .reply()
            .unwrap()
            .focus;
        (focus == own.window).then_some(())
    });
    assert_eq!(
        server.numbers(server.root, "_NET_ACTIVE_WINDOW").unwrap(),
        [own.window]
    );
    host.say(gui::Leave { window: id });
    wait_for("the keyboard to go", || {
        let focus = server
            .conn
            .get_input_focus()
            .unwrap()
            .reply()
            .unwrap()
            .focus;
        (focus != own.window).then_some(())
    });
    server.conn.bell(0).unwrap();
    server.conn.bell(0).unwrap();
    server.conn.bell(0).unwrap();
    server.conn.flush().unwrap();
    host.until("the bell", |model| model.bells == 2);
    host.watch(Duration::from_millis(100));
    assert_eq!((host.model.bells, host.model.drags.len()), (2, 1));
    // An app without WM_DELETE_WINDOW cannot be asked.
    host.say(gui::Close { window: id });
    host.until("the window to go", |model| model.windows.is_empty());
}

#[test]
fn more_windows_than_the_host_takes_wait_for_their_turn() {
    let (server, _doors, _agent, mut host) = start(&[]);
    host.say(gui::Limits {
        windows: 2,
        size: Size::new(150, 16384).unwrap(),
        pixels: 1 << 32,
        frames: 60,
    });
    host.resync(2);
    let first = Own::new(&server, "First", None);
    let id = host.window("First");
    assert_eq!(
        host.model.windows[&id].rect.size().width(),
        150,
        "no larger than the host takes"
    );
    let _second = Own::new(&server, "Second", None);
    host.window("Second");
    let _third = Own::new(&server, "Third", None);
    host.watch(Duration::from_millis(200));
    assert!(host.model.find("Third").is_none());
    server.conn.destroy_window(first.window).unwrap();
    server.conn.flush().unwrap();
    host.window("Third");
    assert_eq!(host.model.windows.len(), 2);
}

#[test]
fn locks_and_layouts_are_the_hosts() {
    use medley_wire::window::KeyCode;
    use medley_wire::{Text, control};
    let (server, doors, _agent, mut host) = start(&[]);
    host.order(control::Keymap {
        repeat: [500, 30],
        model: Text::cut("pc105"),
        layout: Text::cut("us,de"),
        variant: Text::cut(","),
        options: Text::cut(""),
        compiled: Text::cut(""),
    });
    let typed = doors.path("typed");
    let script = format!("read line; printf %s \"$line\" > {}", typed.display());
    let _xterm = app(&server, "xterm", &["-e", "sh", "-c", &script]);
    let id = host.window("XTerm");
    host.settle(id);
    focus(&mut host, id);
    let stroke = |host: &mut Host, code, group, held, locked| {
        for down in [true, false] {
            host.say(gui::Key {
                window: id,
                code: KeyCode(code),
                down,
                group,
                held,
                locked,
            });
        }
    };
    let none = Modifiers::NONE;
    let (a, y) = (30, 21);
    stroke(&mut host, a, 0, none, none);
    stroke(&mut host, a, 0, none, Modifiers::LOCK);
    stroke(&mut host, a, 0, Modifiers::SHIFT, Modifiers::LOCK);
    stroke(&mut host, a, 0, none, none);
    stroke(&mut host, y, 0, none, none);
    stroke(&mut host, y, 1, none, none);
    stroke(&mut host, y, 1, Modifiers::SHIFT, none);
    stroke(&mut host, y, 0, none, none);
    // A key that stays down on the host repeats there, and each repeat is one letter.
    for _ in 0..3 {
        press(&mut host, id, a, true, none);
    }
    press(&mut host, id, a, false, none);
    stroke(&mut host, 28, 0, none, none);
    let got = wait_for("what was typed", || {
        std::fs::read_to_string(&typed)
            .ok()
            .filter(|t| !t.is_empty())
    });
    assert_eq!(got, "aAaayzZyaaa");
}
