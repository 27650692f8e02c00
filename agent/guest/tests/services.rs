//! The agent's services, against real servers and apps: apps listed and launched, monitors, keymaps, health.
#![allow(clippy::unwrap_used)]
mod support;

use medley_wire::control::{self, Monitor, Outcome, Progress};
use medley_wire::{AppId, Features, List, Rect, Size, Text};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use support::display;
use support::{Doors, Host, PATIENCE, agent};
use x11rb::connection::Connection;
use x11rb::protocol::randr::ConnectionExt as _;
use x11rb::protocol::xproto::ConnectionExt;

fn size(width: u32, height: u32) -> Size {
    Size::new(width, height).unwrap()
}

fn rect(x: i32, y: i32, width: u32, height: u32) -> Rect {
    Rect::new(x, y, size(width, height)).unwrap()
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

fn entry(folder: &Path, name: &str, lines: &str) {
    let folder = folder.join("applications");
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!("[Desktop Entry]\nType=Application\n{lines}\n");
    std::fs::write(folder.join(name), text).unwrap();
}

fn list(host: &mut Host, generation: u32) {
    host.order(control::ListApps {
        generation,
        icons: size(32, 32),
    });
    host.until("the list", |model| {
        model.lists.last().is_some_and(|(g, _)| *g == generation)
    });
}

fn launch(host: &mut Host, request: u32, app: AppId, addresses: &[&str]) {
    host.order(control::Launch {
        request,
        app,
        action: 0,
        arguments: List::new(addresses.iter().map(|a| Text::cut(a)).collect()),
        files: List::default(),
    });
    host.until("the launch's answer", |model| {
        model.launched.last().is_some_and(|(n, ..)| *n == request)
    });
}

fn id(host: &Host, name: &str) -> AppId {
    let found = host.model.apps.iter().find(|(_, n)| *n == name);
    *found.unwrap_or_else(|| panic!("no app {name}")).0
}

#[test]
fn apps_are_listed_launched_and_outlive_the_agent() {
    let server = display::virtual_one();
    let doors = Doors::new();
    let data = doors.path("data");
    let out = doors.path("out");
    entry(
        &data,
        "logo.desktop",
        "Name=Logo\nExec=xlogo -name \"my logo\"\nIcon=logo\nCategories=Graphics;",
    );
    entry(
        &data,
        "hidden.desktop",
        "Name=Hidden\nExec=xlogo\nNoDisplay=true",
    );
    let write = format!(
        "Name=Write\nExec=sh -c \"printf '%%s|' \\\\\"\\\\$@\\\\\" > {}\" x %U",
        out.display()
    );
    entry(&data, "write.desktop", &write);
    entry(&data, "broken.desktop", "Name=Broken\nExec=/nowhere/at/all");
    let icons = data.join("icons/hicolor/48x48/apps");
    std::fs::create_dir_all(&icons).unwrap();
    let mut png = png::Encoder::new(
        std::fs::File::create(icons.join("logo.png")).unwrap(),
        48,
        48,
    );
    png.set_color(png::ColorType::Rgba);
    png.write_header()
        .unwrap()
        .write_image_data(&[200; 48 * 48 * 4])
        .unwrap();

    let mut first = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    list(&mut host, 4);
    let mut names: Vec<_> = host.model.apps.values().cloned().collect();
    names.sort();
    assert_eq!(names, ["Broken", "Logo", "Write"]);
    assert_eq!(host.model.lists, [(4, 3)]);
    let logo = id(&host, "Logo");
    host.until("the icon", |model| {
        model.icons.get(&logo) == Some(&(32, 32))
    });

    launch(&mut host, 7, logo, &[]);
    assert_eq!(host.model.launched.last().unwrap().1, Outcome::Started);
    let window = host.window("XLogo");
    let shown = &host.model.windows[&window];
    assert_eq!((shown.app, shown.launch), (logo, 7));
    assert_eq!(shown.class.0, "my logo");

    let write = id(&host, "Write");
    launch(
        &mut host,
        8,
        write,
        &["note:one two", "https://x/?a=$(id);b"],
    );
    assert_eq!(host.model.launched.last().unwrap().1, Outcome::Started);
    let got = wait_for("what was written", || {
        std::fs::read_to_string(&out)
            .ok()
            .filter(|t| t.ends_with('|'))
    });
    assert_eq!(
        got, "note:one two|https://x/?a=$(id);b|",
        "as they are, and no shell looked at them"
    );
    launch(&mut host, 9, write, &["--option"]);
    assert_eq!(host.model.launched.last().unwrap().1, Outcome::Refused);
    let broken = id(&host, "Broken");
    launch(&mut host, 10, broken, &[]);
    let (_, outcome, words) = host.model.launched.last().unwrap().clone();
    assert_eq!(outcome, Outcome::Failed);
    assert!(words.contains("/nowhere/at/all"), "{words}");
    launch(&mut host, 11, AppId::new([9; 16]), &[]);
    assert_eq!(host.model.launched.last().unwrap().1, Outcome::Unknown);

    // The app is nobody's child: it lives on, and is known again, though its launch is of another time.
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    drop(host);
    let _second = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    let window = host.window("XLogo");
    let shown = &host.model.windows[&window];
    assert_eq!((shown.app, shown.launch), (logo, 0));
    let xid = display::find(&server, "XLogo").unwrap();
    server.conn.kill_client(xid).unwrap();
    server.conn.flush().unwrap();
    host.until("the window to go", |model| model.windows.is_empty());
}

#[test]
fn apps_come_and_go_while_the_host_looks() {
    let server = display::virtual_one();
    let doors = Doors::new();
    let data = doors.path("data");
    entry(&data, "one.desktop", "Name=One\nExec=true");
    let _agent = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    list(&mut host, 1);
    let begun = Instant::now();
    entry(&data, "two.desktop", "Name=Two\nExec=true");
    host.until("the new app", |model| {
        model.apps.values().any(|n| n == "Two")
    });
    std::fs::remove_file(data.join("applications/one.desktop")).unwrap();
    host.until("the old app to go", |model| {
        !model.apps.values().any(|n| n == "One")
    });
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(host.model.apps.len(), 1);
}

#[test]
fn it_says_how_it_is() {
    let server = display::virtual_one();
    let doors = Doors::new();
    let _agent = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    host.until("the stages", |model| {
        model.stages.last() == Some(&Progress::Apps)
    });
    host.order(control::Heartbeat { sequence: 3 });
    host.until("health", |model| !model.health.is_empty());
    let health = &host.model.health[0];
    assert_eq!(health.sequence, 3);
    assert!(
        health.memory > 1 << 20 && health.memory < 15 << 20,
        "{} bytes",
        health.memory
    );
    host.order(control::FileOffer {
        transfer: 5,
        size: medley_wire::Untrusted::claim(9),
        name: medley_wire::Untrusted::claim(Text::cut("x")),
    });
    // A host that has not said what it allows has allowed nothing.
    host.until("the answer", |model| {
        model.answers == [(5, control::Verdict::Policy)]
    });
}

#[test]
fn a_display_that_cannot_be_is_an_error() {
    let doors = Doors::new();
    let names = [":59999", ":999999999999", "nonsense", ":", ""];
    // At once, for each waits a moment for a host to tell it to.
    for (name, mut agent) in names.map(|name| (name, support::agent_on(name, &doors, &[]))) {
        let status = wait_for("the agent to give up", || agent.0.try_wait().unwrap());
        // 101 would be a panic.
        assert!([1, 2].contains(&status.code().unwrap()), "{name}: {status}");
    }
}

#[test]
fn a_guest_without_a_display_says_why() {
    let doors = Doors::new();
    // No server takes such a number by itself.
    let _agent = support::agent_on(":59000", &doors, &[]);
    let mut control = doors.take_control();
    let mut stages = Vec::new();
    let end = Instant::now() + PATIENCE;
    while stages.is_empty() && Instant::now() < end {
        let _ = control.read(|_, received| -> Result<(), medley_link::Error> {
            if let control::FromGuest::Stage(stage) = received.message {
                stages.push((stage.progress, stage.words.display().as_str().to_owned()));
            }
            Ok(())
        });
        let _ = control.flush();
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(stages[0].0, Progress::Stuck);
    assert!(
        stages[0].1.contains("cannot reach the X display"),
        "{stages:?}"
    );
}

fn monitor(id: u32, rect: Rect, work: Rect, scale: u16, main: bool) -> Monitor {
    Monitor {
        id,
        rect,
        work,
        millimetres: [0; 2],
        scale,
        main,
    }
}

fn monitors(host: &mut Host, monitors: Vec<Monitor>) {
    host.order(control::Monitors {
        monitors: List::new(monitors),
    });
}

#[test]
fn a_screen_that_cannot_change_stays_and_apps_hear_of_the_scale() {
    let server = display::virtual_one();
    let doors = Doors::new();
    let _agent = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    let all = rect(0, 0, 2560, 1440);
    monitors(&mut host, vec![monitor(1, all, all, 180, true)]);
    wait_for("the resource", || {
        server
            .text(server.root, "RESOURCE_MANAGER")
            .unwrap()
            .contains("Xft.dpi:\t144")
            .then_some(())
    });
    assert_eq!(server.place(server.root), Some((0, 0, 1600, 1000)));
    let owner = server.atom("_XSETTINGS_S0").unwrap();
    assert_ne!(
        server
            .conn
            .get_selection_owner(owner)
            .unwrap()
            .reply()
            .unwrap()
            .owner,
        0
    );
    assert_eq!(
        server.numbers(server.root, "_NET_WORKAREA").unwrap(),
        [0, 0, 1600, 1000]
    );
}

#[test]
fn the_dummy_mirrors_three_monitors_and_one_again() {
    let server = display::dummy(medley_guest::install::XORG);
    let doors = Doors::new();
    let _agent = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    let left = rect(0, 0, 1920, 1080);
    let middle = rect(1920, 0, 2560, 1440);
    let upright = rect(4480, 100, 1080, 1920);
    monitors(
        &mut host,
        vec![
            monitor(1, left, rect(0, 30, 1920, 1050), 120, false),
            monitor(2, middle, middle, 120, true),
            monitor(5, upright, upright, 120, false),
        ],
    );
    let size = || {
        let (_, _, width, height) = server.place(server.root).unwrap();
        (width, height)
    };
    wait_for("the large screen", || {
        (size() == (5560, 2020)).then_some(())
    });
    let shown = || {
        let all = server
            .conn
            .randr_get_monitors(server.root, true)
            .unwrap()
            .reply()
            .unwrap();
        let mut all: Vec<_> = all
            .monitors
            .iter()
            .map(|m| (m.x, m.y, m.width, m.height, m.primary))
            .collect();
        all.sort_unstable();
        all
    };
    let expected = vec![
        (0, 0, 1920, 1080, false),
        (1920, 0, 2560, 1440, true),
        (4480, 100, 1080, 1920, false),
    ];
    wait_for("three monitors", || (shown() == expected).then_some(()));
    wait_for("the work area", || {
        (server.numbers(server.root, "_NET_WORKAREA").unwrap() == [0, 30, 5560, 1990]).then_some(())
    });
    monitors(
        &mut host,
        vec![monitor(
            2,
            rect(0, 0, 2560, 1440),
            rect(0, 0, 2560, 1400),
            120,
            true,
        )],
    );
    wait_for("one monitor", || {
        (shown() == [(0, 0, 2560, 1440, true)]).then_some(())
    });
    // Windows are captured there as anywhere.
    let _logo = support::app(&server, "xlogo", &["-geometry", "300x200"]);
    host.window("XLogo");
}

#[test]
fn the_hosts_keymap_is_the_guests() {
    let server = display::virtual_one();
    let doors = Doors::new();
    let _agent = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    host.order(control::Keymap {
        repeat: [500, 30],
        model: Text::cut("pc105"),
        layout: Text::cut("de"),
        variant: Text::cut("nodeadkeys"),
        options: Text::cut(""),
        compiled: Text::cut(""),
    });
    // evdev's 21 is z on a German keyboard.
    let symbol = || {
        let map = server
            .conn
            .get_keyboard_mapping(29, 1)
            .unwrap()
            .reply()
            .unwrap();
        map.keysyms[0]
    };
    wait_for("the keymap", || (symbol() == u32::from('z')).then_some(()));
    let repeat = server
        .conn
        .get_keyboard_control()
        .unwrap()
        .reply()
        .unwrap()
        .global_auto_repeat;
    assert_eq!(
        repeat,
        x11rb::protocol::xproto::AutoRepeatMode::OFF,
        "a new keymap does not begin it"
    );
    let _ = host.turn(Duration::ZERO);
}

#[test]
fn apps_are_told_where_xlib_may_keep_its_table_of_letters() {
    let server = display::virtual_one();
    let doors = Doors::new();
    let out = doors.path("out");
    let exec = format!(
        "sh -c \"(printenv XCOMPOSECACHE; echo .) > {}\"",
        out.display()
    );
    entry(
        &doors.path("data"),
        "tell.desktop",
        &format!("Name=Tell\nExec={exec}"),
    );
    let _agent = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    list(&mut host, 1);
    let tell = id(&host, "Tell");
    let mut told = |request| {
        launch(&mut host, request, tell, &[]);
        let text = wait_for("what was told", || {
            std::fs::read_to_string(&out)
                .ok()
                .filter(|t| t.ends_with(".\n"))
        });
        std::fs::remove_file(&out).unwrap();
        text
    };
    let folder = doors.path("run").join("medley-compose");
    assert_eq!(told(1), format!("{}\n.\n", folder.display()));
    let mode = folder.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "Xlib uses what is the user's alone");
    // A folder that Xlib uses by itself is the user's choice.
    std::fs::create_dir(doors.path("home").join(".compose-cache")).unwrap();
    assert_eq!(told(2), ".\n");
}
