//! The window manager: what the host decides and what apps ask for.
use super::*;

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
        (server.focus().unwrap() == own.window).then_some(())
    });
    assert_eq!(
        server.numbers(server.root, "_NET_ACTIVE_WINDOW").unwrap(),
        [own.window]
    );
    host.say(gui::Leave { window: id });
    wait_for("the keyboard to go", || {
        (server.focus().unwrap() != own.window).then_some(())
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
