//! Tray icons of the old kind: an app of GTK's that is told to use XEmbed, a real agent, and a host that is a script.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::{Desktop, Process};
use medley_wire::control::{Allowed, Click, TrayChoice, TrayClick, TrayState};
use medley_wire::{Features, window::Kind};
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use support::display;
use support::{Doors, Host, PATIENCE, agent};
use x11rb::protocol::xproto::{ConnectionExt, MapState};

/// The app.
const APP: &str = include_str!("support/icon.py");

struct Icon {
    _app: Process,
    input: ChildStdin,
    heard: Receiver<String>,
}

impl Icon {
    fn new(server: &Desktop) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", APP])
            .env("DISPLAY", &server.name)
            .env("GDK_BACKEND", "x11")
            .env("NO_AT_BRIDGE", "1")
            .env("GTK_A11Y", "none")
            .env("DBUS_SESSION_BUS_ADDRESS", "disabled:")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 with GTK (Debian: python3-gi, gir1.2-gtk-3.0)");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            _app: Process(child),
            input,
            heard,
        }
    }

    fn order(&mut self, words: &str) {
        writeln!(self.input, "{words}").unwrap();
    }
}

/// Waits for words of the app's, while the host listens.
fn says(host: &mut Host, icon: &Icon, words: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        match icon.heard.try_recv() {
            Ok(line) if line == words => return,
            _ => {}
        }
        assert!(Instant::now() < end, "the app never said {words:?}");
        host.turn(Duration::from_millis(10));
    }
}

fn start(allowed: Allowed) -> (Desktop, Doors, Process, Host) {
    let server = display::virtual_one();
    let doors = Doors::new();
    let agent = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    host.allow(allowed);
    (server, doors, agent, host)
}

/// The only item, once its picture has that colour in its middle: its number.
fn item(host: &mut Host, colour: [u8; 4]) -> u32 {
    let middle = |pixels: &Vec<u8>| {
        let side = (pixels.len() / 4).isqrt();
        let at = (side / 2 * side + side / 2) * 4;
        pixels[at..at + 4] == colour
    };
    host.until("an icon of that colour", |model| {
        let known = model
            .trays
            .keys()
            .all(|id| model.tray_icons.contains_key(id));
        model.trays.len() == 1
            && model.trays.values().all(|tray| tray.menu.len() == 1)
            && known
            && model.tray_icons.values().any(middle)
    });
    *host.model.trays.keys().next().unwrap()
}

const BLUE: [u8; 4] = [0xc0, 0x80, 0x20, 0xff];

#[test]
fn icons_of_the_old_kind_are_shown_and_clicked() {
    let (server, doors, first, mut host) = start(Allowed::TRAY);
    let mut icon = Icon::new(&server);
    let id = item(&mut host, BLUE);
    assert_eq!(host.model.trays[&id].title, "Count 0");
    assert_eq!(host.model.trays[&id].state, Some(TrayState::Active));
    assert_eq!(
        host.model.tray_icons[&id][..4],
        [0; 4],
        "its corner is see-through"
    );
    assert!(
        host.model.windows.is_empty(),
        "neither icon nor socket is a window of the host's"
    );

    host.order(TrayClick {
        id,
        click: Click::Main,
    });
    says(&mut host, &icon, "activated");
    host.order(TrayClick {
        id,
        click: Click::Middle,
    });
    says(&mut host, &icon, "pressed 2");

    // A panel that is about to show the menu says so; that is no click on the icon.
    host.order(TrayClick {
        id,
        click: Click::Menu,
    });
    // Its own menu is a window of the app's, in the corner where trays are.
    let entries = &host.model.trays[&id].menu;
    assert_eq!(entries.len(), 1);
    let entry = entries[0].0;
    host.watch(Duration::from_millis(100));
    assert!(host.model.popup().is_none());
    host.order(TrayChoice { id, entry });
    host.until("a menu", |model| {
        model.popup().is_some_and(|menu| menu.frames > 0)
    });
    let menu = host.model.popup().unwrap();
    assert_eq!(menu.kind, Some(Kind::PopupMenu));
    let (window, right) = (
        menu.id,
        menu.rect.x() + menu.rect.size().width().cast_signed(),
    );
    assert!(right > 1500 && menu.rect.y() > 800, "{:?}", menu.rect);
    for down in [true, false] {
        host.say(medley_wire::gui::Button {
            window,
            x: 10,
            y: 10,
            code: 0x110,
            down,
            held: medley_wire::window::Modifiers::NONE,
        });
    }
    says(&mut host, &icon, "chosen");
    host.until("the menu to go", |model| model.popup().is_none());

    icon.order("title Count 7");
    host.until("the title", |model| model.trays[&id].title == "Count 7");
    icon.order("colour ff000080");
    assert_eq!(item(&mut host, [0, 0, 0x80, 0x80]), id);
    icon.order("hide");
    host.until("the item to go", |model| model.trays.is_empty());
    // Shown again, it may be another window, and is another item then.
    icon.order("show");
    item(&mut host, [0, 0, 0x80, 0x80]);

    // Another agent: the app comes to it by itself.
    drop((first, host));
    let manager = server.atom("WM_S0").unwrap();
    let gone = || {
        let owner = server.conn.get_selection_owner(manager).unwrap().reply();
        owner.unwrap().owner == 0
    };
    while !gone() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _second = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    host.allow(Allowed::TRAY);
    item(&mut host, [0, 0, 0x80, 0x80]);
    assert!(host.model.windows.is_empty(), "the icon was no window");
    drop(icon);
    host.until("the item to go", |model| model.trays.is_empty());
}

#[test]
fn what_is_not_allowed_is_not_taken_in() {
    let (server, _doors, _agent, mut host) = start(Allowed::NONE);
    let tray = server.atom("_NET_SYSTEM_TRAY_S0").unwrap();
    let owner = || {
        let reply = server.conn.get_selection_owner(tray).unwrap().reply();
        reply.unwrap().owner
    };
    let _icon = Icon::new(&server);
    host.watch(Duration::from_millis(700));
    assert_eq!(owner(), 0);
    assert!(host.model.trays.is_empty());
    host.allow(Allowed::TRAY);
    item(&mut host, BLUE);
    assert_ne!(owner(), 0);
    host.allow(Allowed::NONE);
    host.until("the item to go", |model| model.trays.is_empty());
    // The item goes first, the tray a moment later.
    let begun = std::time::Instant::now();
    while owner() != 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it keeps the tray"
        );
        host.watch(Duration::from_millis(20));
    }
    host.watch(Duration::from_millis(300));
    assert!(host.model.windows.is_empty(), "the icon is no window");
    // And again.
    host.allow(Allowed::TRAY);
    item(&mut host, BLUE);
}

#[test]
fn a_tray_of_the_guests_own_stays_until_it_ends() {
    let (server, _doors, _agent, mut host) = start(Allowed::NONE);
    let (x, screen) = x11rb::rust_connection::RustConnection::connect(Some(&server.name)).unwrap();
    let tray = server.atom("_NET_SYSTEM_TRAY_S0").unwrap();
    let root = x11rb::connection::Connection::setup(&x).roots[screen].root;
    let theirs = x11rb::connection::Connection::generate_id(&x).unwrap();
    x.create_window(
        0,
        theirs,
        root,
        0,
        0,
        1,
        1,
        0,
        x11rb::protocol::xproto::WindowClass::INPUT_ONLY,
        0,
        &x11rb::protocol::xproto::CreateWindowAux::new(),
    )
    .unwrap();
    x.set_selection_owner(theirs, tray, 0_u32).unwrap();
    x.get_input_focus().unwrap().reply().unwrap();
    let owner = || {
        let reply = server.conn.get_selection_owner(tray).unwrap().reply();
        reply.unwrap().owner
    };
    host.allow(Allowed::TRAY);
    host.watch(Duration::from_millis(300));
    assert_eq!(owner(), theirs);
    drop(x);
    let end = Instant::now() + PATIENCE;
    while [0, theirs].contains(&owner()) {
        assert!(Instant::now() < end, "the tray never became the agent's");
        host.turn(Duration::from_millis(20));
    }
    let manager = owner();
    let attributes = server.conn.get_window_attributes(manager).unwrap().reply();
    assert_eq!(attributes.unwrap().map_state, MapState::UNMAPPED);
}
