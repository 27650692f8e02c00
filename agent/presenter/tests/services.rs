//! Apps, monitors, keymap, health and clipboard on a real X server, with a guest that is a script.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::{Desktop, Edge, Window};
use medley_wire::control::{ClipboardForm, ClipboardKind, Outcome, Verdict};
use medley_wire::gui::FromHost;
use medley_wire::pixels::Picture;
use medley_wire::{AppId, Bytes, Channel, Features, List, Text, Untrusted, bulk, control};
use serde_json::json;
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};
use support::*;
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{AtomEnum, ConnectionExt, PropMode, SelectionNotifyEvent};
use x11rb::wrapper::ConnectionExt as _;

type Control = Line<control::FromHost<'static>, control::FromGuest<'static>>;
type Bulk = Line<bulk::FromHost<'static>, bulk::FromGuest<'static>>;

struct All {
    desk: Desktop,
    _sockets: Sockets,
    presenter: Presenter,
    guest: Guest,
    control: Control,
    bulk: Bulk,
    host: Window,
}

/// A presenter with all three channels, and a window that has the keyboard.
fn begun(more: &[&str]) -> All {
    let (desk, sockets) = (Desktop::start(800, 600).unwrap(), Sockets::new());
    let (control, bulk) = (sockets.listen("control"), sockets.listen("bulk"));
    let path = |name: &str| sockets.dir.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (path("control"), path("bulk"));
    let mut all = vec!["--control", &a, "--bulk", &b];
    all.extend(more);
    let mut presenter = Presenter::start(&desk, &sockets, &all);
    let mut guest = sockets.accept();
    let control = Line::accept(&control, Channel::Control);
    let bulk = Line::accept(&bulk, Channel::Bulk);
    guest.begin();
    presenter.event("whole");
    guest.window(1, "a", rect(100, 100, 300, 200));
    let host = desk.window("[test] a", PATIENCE).unwrap();
    desk.activate(host).unwrap();
    guest.wait("the keyboard", |m| {
        matches!(m, FromHost::Focus(_)).then_some(())
    });
    All {
        desk,
        _sockets: sockets,
        presenter,
        guest,
        control,
        bulk,
        host,
    }
}

fn offer(sequence: u32) -> control::ClipboardOffer {
    let form = ClipboardForm {
        kind: ClipboardKind::Text,
        size: 0,
    };
    control::ClipboardOffer {
        sequence,
        forms: List::new(vec![form]),
    }
}

/// Pastes in an app of the host's: asks the clipboard's owner for text.
fn paste(desk: &Desktop) -> Option<String> {
    let window = desk.conn.generate_id().unwrap();
    let aux = x11rb::protocol::xproto::CreateWindowAux::new();
    let class = x11rb::protocol::xproto::WindowClass::INPUT_ONLY;
    desk.conn
        .create_window(0, window, desk.root, 0, 0, 1, 1, 0, class, 0, &aux)
        .unwrap();
    let (clipboard, utf8, at) = (
        desk.atom("CLIPBOARD").unwrap(),
        desk.atom("UTF8_STRING").unwrap(),
        desk.atom("HERE").unwrap(),
    );
    desk.conn
        .convert_selection(window, clipboard, utf8, at, 0u32)
        .unwrap();
    desk.conn.flush().unwrap();
    let mut answer = None;
    wait_for("an answer of the clipboard's owner", || {
        while let Some(event) = desk.conn.poll_for_event().unwrap() {
            if let Event::SelectionNotify(notify) = event {
                answer = Some(notify.property != 0);
            }
        }
        answer.is_some()
    });
    answer?.then(|| desk.text(window, "HERE").unwrap())
}

#[test]
fn a_guest_hears_of_monitors_keys_and_hearts_and_lists_its_apps() {
    let mut all = begun(&[]);
    let heard = {
        let mut heard = (None, false, false, false);
        let began = Instant::now();
        while heard.0.is_none() || !heard.1 || !heard.2 || !heard.3 {
            assert!(began.elapsed() < PATIENCE, "{heard:?}");
            all.control.hear(Duration::from_millis(50), |message| {
                use control::FromHost;
                match message {
                    FromHost::Monitors(monitors) => heard.0 = Some(monitors.monitors.to_vec()),
                    FromHost::Settings(settings) => {
                        assert_eq!(
                            settings.allowed,
                            control::Allowed::NONE,
                            "denied by default"
                        );
                        assert_eq!(settings.workspace.as_str(), Some("test"));
                        heard.1 = true;
                    }
                    FromHost::Keymap(keymap) => {
                        heard.2 = !keymap.layout.as_str().unwrap().is_empty()
                    }
                    FromHost::ListApps(_) => heard.3 = true,
                    _ => {}
                }
                None::<()>
            });
        }
        heard.0.unwrap()
    };
    assert_eq!(heard.len(), 1);
    assert_eq!((heard[0].rect, heard[0].main), (rect(0, 0, 800, 600), true));
    let app = AppId::new([9; 16]);
    all.control.say(control::App {
        id: app,
        categories: control::Categories::OFFICE,
        name: Untrusted::claim(Text::cut("Calc\u{202e}")),
        folder: Untrusted::claim(Text::cut("")),
        comment: Untrusted::claim(Text::cut("")),
        keywords: Untrusted::claim(Text::cut("")),
        types: List::default(),
        schemes: List::default(),
        actions: List::default(),
    });
    let listed = all.presenter.event("app");
    assert_eq!(listed["app"], "09".repeat(16));
    assert!(!listed["name"].as_str().unwrap().contains('\u{202e}'));
    // Somebody launches it: its window may take the keyboard.
    all.presenter.command(&format!("launch {app}"));
    let request = all.control.wait("a launch", |message| match message {
        control::FromHost::Launch(launch) if launch.app == app => Some(launch.request),
        _ => None,
    });
    all.control.say(control::Launched {
        request,
        outcome: Outcome::Started,
        words: Untrusted::claim(Text::cut("")),
    });
    assert_eq!(all.presenter.event("launched")["started"], true);
    // Another layout of the keyboard reaches it.
    let (conn, names) = (&all.desk.conn, all.desk.atom("_XKB_RULES_NAMES").unwrap());
    let value = b"evdev\0pc105\0de\0neo\0\0";
    conn.change_property8(
        PropMode::REPLACE,
        all.desk.root,
        names,
        AtomEnum::STRING,
        value,
    )
    .unwrap();
    conn.flush().unwrap();
    let layout = all.control.wait("a keymap", |message| match message {
        control::FromHost::Keymap(keymap) => Some((
            keymap.layout.as_str()?.to_owned(),
            keymap.variant.as_str()?.to_owned(),
        )),
        _ => None,
    });
    assert_eq!(layout, ("de".to_owned(), "neo".to_owned()));
    // Another monitor layout reaches it.
    all.desk.task_bar(Edge::Lower, 40).unwrap();
    let work = all.control.wait("a work area", |message| match message {
        control::FromHost::Monitors(monitors) => Some(monitors.monitors[0].work),
        _ => None,
    });
    assert_eq!(work, rect(0, 0, 800, 560));
}

#[test]
fn files_and_print_jobs_are_refused() {
    let mut all = begun(&[]);
    all.control.say(control::FileOffer {
        transfer: 77,
        size: Untrusted::claim(5),
        name: Untrusted::claim(Text::cut("x.txt")),
    });
    let verdict = all.control.wait("an answer", |message| match message {
        control::FromHost::Answer(answer) if answer.transfer == 77 => Some(answer.verdict),
        _ => None,
    });
    assert_eq!(verdict, Verdict::Policy);
    // Bytes that come all the same are kept nowhere; and a stream that breaks its rules ends it.
    all.bulk.say(bulk::Open {
        stream: 0,
        transfer: 77,
        carries: bulk::Carries::File,
        size: Untrusted::claim(1 << 40),
    });
    all.bulk.say(bulk::Chunk {
        stream: 0,
        offset: 5,
        data: Bytes(b"x"),
    });
    assert_eq!(all.presenter.event("ended")["code"], 6);
}

#[test]
fn a_copy_in_the_guest_is_pasted_on_the_host_after_the_chord_and_not_before() {
    let mut all = begun(&["--clipboard-out", "chord"]);
    all.control.say(offer(1));
    all.guest.settle();
    assert_eq!(paste(&all.desk), None);
    all.desk.chord(46).unwrap();
    all.presenter.event("chord");
    let owner = |desk: &Desktop| {
        let clipboard = desk.atom("CLIPBOARD").unwrap();
        desk.conn
            .get_selection_owner(clipboard)
            .unwrap()
            .reply()
            .unwrap()
            .owner
    };
    wait_for("an owner", || owner(&all.desk) != 0);
    let asked = std::thread::scope(|scope| {
        let (control, bulk) = (&mut all.control, &mut all.bulk);
        // The guest answers while the app waits.
        let guest = scope.spawn(move || {
            let (transfer, sequence) = control.wait("a request", |message| match message {
                control::FromHost::ClipboardRequest(ask) => Some((ask.transfer, ask.sequence)),
                _ => None,
            });
            assert_eq!(sequence, 1);
            control.say(control::Answer {
                transfer,
                verdict: Verdict::Yes,
            });
            // The answer goes another way than the bytes.
            std::thread::sleep(Duration::from_millis(100));
            let text = "grüße\n\x1b[31m".as_bytes();
            let size = text.len() as u64;
            bulk.say(bulk::Open {
                stream: 2,
                transfer,
                carries: bulk::Carries::Clipboard,
                size: Untrusted::claim(size),
            });
            bulk.say(bulk::FromGuest::from(bulk::Chunk {
                stream: 2,
                offset: 0,
                data: Bytes(text),
            }));
            bulk.say(bulk::End { stream: 2, size });
        });
        let text = paste(&all.desk);
        guest.join().unwrap();
        text
    });
    assert_eq!(
        asked.as_deref(),
        Some("grüße\n[31m"),
        "nothing that a terminal obeys"
    );
}

#[test]
fn a_copy_on_the_host_is_pasted_in_the_guest_while_it_has_the_keyboard() {
    let mut all = begun(&["--clipboard-in", "focus"]);
    // An app of the host's copies.
    let window = own_window(&all.desk, "editor");
    let clipboard = all.desk.atom("CLIPBOARD").unwrap();
    all.desk.activate(window).unwrap();
    all.guest.wait("the keyboard's end", |m| {
        matches!(m, FromHost::Leave(_)).then_some(())
    });
    all.desk
        .conn
        .set_selection_owner(window, clipboard, 0u32)
        .unwrap();
    all.desk.conn.flush().unwrap();
    all.guest.settle();
    let early = all.control.hear(Duration::from_millis(300), |message| {
        matches!(message, control::FromHost::ClipboardOffer(_)).then_some(())
    });
    assert!(early.is_empty(), "the guest has no keyboard");
    all.desk.activate(all.host).unwrap();
    let sequence = all.control.wait("an offer", |message| match message {
        control::FromHost::ClipboardOffer(offer) => Some(offer.sequence),
        _ => None,
    });
    all.control.say(control::ClipboardRequest {
        transfer: 5,
        sequence,
        kind: ClipboardKind::Text,
    });
    let request = {
        let mut request = None;
        wait_for("the owner to be asked", || {
            while let Some(event) = all.desk.conn.poll_for_event().unwrap() {
                if let Event::SelectionRequest(event) = event {
                    request = Some(event);
                }
            }
            request.is_some()
        });
        request.unwrap()
    };
    let conn = &all.desk.conn;
    let (replace, text) = (PropMode::REPLACE, "vom Wirt".as_bytes());
    conn.change_property8(
        replace,
        request.requestor,
        request.property,
        request.target,
        text,
    )
    .unwrap();
    let notify = SelectionNotifyEvent {
        response_type: 31,
        sequence: 0,
        time: request.time,
        requestor: request.requestor,
        selection: request.selection,
        target: request.target,
        property: request.property,
    };
    conn.send_event(
        false,
        request.requestor,
        x11rb::protocol::xproto::EventMask::NO_EVENT,
        notify,
    )
    .unwrap();
    conn.flush().unwrap();
    let verdict = all.control.wait("an answer", |message| match message {
        control::FromHost::Answer(answer) if answer.transfer == 5 => Some(answer.verdict),
        _ => None,
    });
    assert_eq!(verdict, Verdict::Yes);
    let mut got = Vec::new();
    let began = Instant::now();
    let mut whole = false;
    while !whole {
        assert!(began.elapsed() < PATIENCE);
        all.bulk.hear(Duration::from_millis(50), |message| {
            match message {
                bulk::FromHost::Open(open) => assert_eq!(open.transfer, 5),
                bulk::FromHost::Chunk(chunk) => got.extend_from_slice(chunk.data.0),
                bulk::FromHost::End(_) => whole = true,
                _ => {}
            }
            None::<()>
        });
    }
    assert_eq!(got, text);
}

#[test]
fn icons_reach_the_window_with_the_workspaces_badge() {
    let mut all = begun(&[]);
    let size = medley_wire::Size::new(16, 16).unwrap();
    let pixels = vec![0xff; 16 * 16 * 4];
    all.bulk.say(bulk::FromGuest::from(bulk::Icon {
        owner: bulk::Owner::Window(id(1)),
        picture: Picture::new(size, &pixels).unwrap(),
    }));
    let mut icon = Vec::new();
    wait_for("an icon", || {
        icon = all.desk.numbers(all.host, "_NET_WM_ICON").unwrap();
        // The window manager gives every window one that has none.
        icon.first() == Some(&16)
    });
    assert_eq!(
        (icon.len(), icon[0], icon[1], icon[2]),
        (2 + 256, 16, 16, 0xffff_ffff)
    );
    assert_ne!(icon[257], 0xffff_ffff, "the corner is the host's");
}

/// They come over another channel than windows do, and a window that is shown again is another window of the host's.
#[test]
fn icons_are_there_whenever_they_come() {
    let mut all = begun(&[]);
    let say = |all: &mut All, owner, side: u32| {
        let size = medley_wire::Size::new(side, side).unwrap();
        let pixels = vec![0xff; size.bytes()];
        all.bulk.say(bulk::FromGuest::from(bulk::Icon {
            owner,
            picture: Picture::new(size, &pixels).unwrap(),
        }));
    };
    let has = |all: &All, title: &str, side: u32| {
        let windows = windows(&all.desk).into_iter();
        let mut windows = windows.filter(|w| all.desk.text(*w, "_NET_WM_NAME").unwrap() == title);
        windows.next().is_some_and(|window| {
            all.desk.numbers(window, "_NET_WM_ICON").unwrap().first() == Some(&side)
        })
    };
    // The app's icon comes after its window; the window's own wins, whatever comes after it.
    let app = bulk::Owner::App(AppId::new([1; 16]));
    say(&mut all, app, 20);
    wait_for("the app's icon", || has(&all, "[test] a", 20));
    say(&mut all, bulk::Owner::Window(id(1)), 16);
    wait_for("the window's own", || has(&all, "[test] a", 16));
    say(&mut all, app, 24);
    all.guest.settle();
    assert!(has(&all, "[test] a", 16));
    // A lock takes the window away.
    all.presenter.command("lock");
    all.presenter.event("locked");
    wait_for("no window", || {
        all.desk.titled("[test] a").unwrap().is_none()
    });
    all.presenter.command("unlock");
    wait_for("the window's own again", || has(&all, "[test] a", 16));
}

#[test]
fn a_print_job_says_how_it_is_to_be_printed() {
    let mut all = begun(&["--allow", "print"]);
    wait_for("the greeting", || {
        all.control.hear(Duration::from_millis(50), |_| Some(()));
        all.control.0.outgoing().have(Features::PRINT_TICKETS)
    });
    all.control.say(control::PrintTicket {
        transfer: 7,
        sides: control::Sides::LongEdge,
        ink: control::Ink::Black,
        care: control::Care::Usual,
        paper: Untrusted::claim(Text::cut("iso_a4_210x297mm")),
        ranges: List::new(vec![control::PageRange { first: 2, last: 3 }]),
    });
    all.control.say(control::PrintJob {
        transfer: 7,
        size: Untrusted::claim(9),
        format: control::PrintFormat::Pdf,
        copies: 1,
        pages: 2,
        title: Untrusted::claim(Text::cut("Letter")),
    });
    let asked = all.presenter.event("print-asked");
    let ticket = json!({
        "sides": "long-edge",
        "colour": false,
        "care": null,
        "paper": "iso_a4_210x297mm",
        "ranges": [[2, 3]],
    });
    assert_eq!(asked["ticket"], ticket);
}

#[test]
fn a_file_of_the_guests_goes_where_the_supervisor_says() {
    let mut all = begun(&["--allow", "files-out"]);
    all.control.say(control::FileOffer {
        transfer: 7,
        size: Untrusted::claim(5),
        name: Untrusted::claim(Text::cut("report.txt")),
    });
    let offered = all.presenter.event("file-offered");
    assert_eq!(
        (&offered["name"], &offered["size"]),
        (&json!("report.txt"), &json!(5))
    );
    let mut file = tempfile::tempfile().unwrap();
    let transfer = &offered["transfer"];
    all.presenter
        .order(&json!({ "order": "take", "transfer": transfer }), &file);
    let verdict = all.control.wait("an answer", |message| match message {
        control::FromHost::Answer(answer) if answer.transfer == 7 => Some(answer.verdict),
        _ => None,
    });
    assert_eq!(verdict, Verdict::Yes);
    all.bulk.say(bulk::Open {
        stream: 0,
        transfer: 7,
        carries: bulk::Carries::File,
        size: Untrusted::claim(5),
    });
    all.bulk.say(bulk::Chunk {
        stream: 0,
        offset: 0,
        data: Bytes(b"hello"),
    });
    all.bulk.say(bulk::End { stream: 0, size: 5 });
    let came = all.presenter.event("came");
    assert_eq!((&came["transfer"], &came["size"]), (transfer, &json!(5)));
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    // What is not allowed is refused, whatever else is.
    all.control.say(control::OpenUrl {
        url: Untrusted::claim(Text::cut("https://example.org/")),
    });
    assert_eq!(all.presenter.event("refused")["what"], "url");
}

#[test]
fn a_file_of_the_hosts_goes_to_the_guest() {
    let mut all = begun(&["--allow", "files-in"]);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"from the host").unwrap();
    let order = json!({ "order": "give", "file": 3, "name": "letter.txt", "size": 13 });
    all.presenter.order(&order, &file);
    let transfer = all.control.wait("an offer", |message| match message {
        control::FromHost::FileOffer(offer) => {
            assert_eq!(offer.name.file_name().unwrap().as_str(), "letter.txt");
            Some(offer.transfer)
        }
        _ => None,
    });
    all.control.say(control::Answer {
        transfer,
        verdict: Verdict::Yes,
    });
    let mut bytes = Vec::new();
    all.bulk.wait("the end of it", |message| match message {
        bulk::FromHost::Chunk(chunk) => {
            bytes.extend_from_slice(chunk.data.0);
            None
        }
        bulk::FromHost::End(end) => Some(end.size),
        _ => None,
    });
    assert_eq!(bytes, b"from the host");
    all.bulk.say(bulk::Received {
        stream: 0,
        bytes: 13,
    });
    let given = all.presenter.event("given");
    // A launch with a file that was never given is answered as every launch is.
    let id = "00112233445566778899aabbccddeeff";
    let launch = json!({ "order": "launch", "app": id, "files": [99] });
    all.presenter.command(&launch.to_string());
    assert_eq!(all.presenter.event("launching")["request"], 0);
    assert_eq!(all.presenter.event("launched")["started"], false);
    assert_eq!(
        (&given["file"], &given["refused"]),
        (&json!(3), &json!(null))
    );
}
