//! Keys and the pointer.
use super::*;

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
