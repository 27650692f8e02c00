//! What a window is: its name, kind, pixels, shape, menus and dialogs.
use super::*;

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
fn round_windows_say_their_shape() {
    let (server, _doors, _agent, mut host) = start(&[]);
    let _eyes = app(&server, "xeyes", &["-geometry", "300x200"]);
    let id = host.window("XEyes");
    host.until("the shape", |model| model.windows[&id].outline > 4);
    assert!(host.model.windows[&id].outline <= 64);
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
