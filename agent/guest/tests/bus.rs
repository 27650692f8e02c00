//! Notifications and tray items: a real agent on a real session bus of the test's own, apps that speak to it as any
//! app does, and a host that is a script.
#![allow(clippy::unwrap_used)]
mod support;

use ksni::blocking::TrayMethods;
use ksni::menu::{CheckmarkItem, MenuItem, StandardItem, SubMenu};
use medley_desktop::{Desktop, Process};
use medley_guest::apps::id_of;
use medley_wire::control::{
    Allowed, Click, EntryLook, NoteAnswer, TrayChoice, TrayClick, TrayState, Urgency,
};
use medley_wire::{AppId, Features};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use support::bus::Bus;
use support::display;
use support::{AGENT, Doors, Host, PATIENCE, agent_with};
use zbus::blocking::{Connection, MessageIterator};
use zbus::zvariant::Value;

const NOTES: &str = "org.freedesktop.Notifications";
const TRAY: &str = "org.kde.StatusNotifierWatcher";

/// What ends first stands first.
struct Desk {
    host: Host,
    agent: Process,
    bus: Bus,
    doors: Doors,
    server: Desktop,
}

fn agent(server: &Desktop, doors: &Doors, bus: &Bus) -> Process {
    let environment = [("DBUS_SESSION_BUS_ADDRESS", bus.address.as_str())];
    agent_with(AGENT, &server.name, doors, &[], &environment)
}

fn start(allowed: Allowed) -> Desk {
    let server = display::virtual_one();
    let doors = Doors::new();
    let bus = Bus::new(doors.folder.path());
    let apps = doors.path("data").join("applications");
    std::fs::create_dir_all(&apps).unwrap();
    let entry = "[Desktop Entry]\nType=Application\nName=Editor\nExec=true\n";
    std::fs::write(apps.join("org.example.Editor.desktop"), entry).unwrap();
    let agent = agent(&server, &doors, &bus);
    let mut host = Host::accept(&doors, Features::ALL, None);
    host.allow(allowed);
    Desk {
        server,
        doors,
        bus,
        agent,
        host,
    }
}

impl Desk {
    /// Waits until something outside holds, and reads what the agent says meanwhile.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Host) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(&self.host) {
            assert!(
                Instant::now() < end,
                "waited in vain for {what}: {:?}",
                self.host.model
            );
            assert!(
                self.host.turn(Duration::from_millis(20)),
                "the agent is gone"
            );
        }
    }

    /// The host goes, and another one comes.
    fn next_host(self) -> Self {
        let Self {
            server,
            doors,
            bus,
            agent,
            host,
        } = self;
        drop(host);
        let host = Host::accept(&doors, Features::ALL, None);
        Self {
            server,
            doors,
            bus,
            agent,
            host,
        }
    }

    fn owned(&mut self, app: &Connection, name: &str, owned: bool) {
        let bus = zbus::blocking::fdo::DBusProxy::new(app).unwrap();
        self.until("the name", |_| {
            bus.name_has_owner(name.try_into().unwrap()).unwrap() == owned
        });
    }
}

/// What an app posts.
#[derive(Default)]
struct Note<'a> {
    replaces: u32,
    summary: &'a str,
    body: &'a str,
    actions: Vec<&'a str>,
    hints: HashMap<&'a str, Value<'a>>,
    timeout: i32,
}

fn notify(app: &Connection, note: Note<'_>) -> u32 {
    let Note {
        replaces,
        summary,
        body,
        actions,
        hints,
        timeout,
    } = note;
    let body = ("app", replaces, "", summary, body, actions, hints, timeout);
    let path = "/org/freedesktop/Notifications";
    let reply = app.call_method(Some(NOTES), path, Some(NOTES), "Notify", &body);
    reply.unwrap().body().deserialize().unwrap()
}

/// Signals that an app hears, as their names and fields in words.
fn signals(bus: &Bus) -> Receiver<String> {
    let connection = bus.connect();
    let rule = zbus::MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .interface(NOTES)
        .unwrap()
        .build();
    let messages = MessageIterator::for_match_rule(rule, &connection, None).unwrap();
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        for message in messages.flatten() {
            let member = message.header().member().unwrap().to_string();
            let body = message.body();
            let fields = match body.deserialize::<(u32, u32)>() {
                Ok((id, reason)) => format!("{id} {reason}"),
                Err(_) => {
                    let (id, key): (u32, String) = body.deserialize().unwrap();
                    format!("{id} {key}")
                }
            };
            if sender.send(format!("{member} {fields}")).is_err() {
                return;
            }
        }
    });
    heard
}

fn next(heard: &Receiver<String>) -> String {
    heard.recv_timeout(PATIENCE).expect("a signal")
}

#[test]
fn notifications_reach_the_host_and_its_answers_the_apps() {
    let mut desk = start(Allowed::NOTES);
    let app = desk.bus.connect();
    desk.owned(&app, NOTES, true);
    let heard = signals(&desk.bus);

    let path = "/org/freedesktop/Notifications";
    let ask = |member| app.call_method(Some(NOTES), path, Some(NOTES), member, &());
    let reply = ask("GetServerInformation").unwrap();
    let (name, _, _, version): (String, String, String, String) =
        reply.body().deserialize().unwrap();
    assert_eq!((name.as_str(), version.as_str()), ("medley-guest", "1.2"));
    let reply = ask("GetCapabilities").unwrap();
    let can: Vec<String> = reply.body().deserialize().unwrap();
    assert!(can.iter().any(|c| c == "actions") && !can.iter().any(|c| c == "body-markup"));

    let pixels = [10_u8, 20, 30, 255].repeat(4);
    let hints = HashMap::from([
        ("desktop-entry", "org.example.Editor".into()),
        ("urgency", 2_u8.into()),
        (
            "image-data",
            (2_i32, 2_i32, 8_i32, true, 8_i32, 4_i32, pixels).into(),
        ),
        ("x-own", vec![1_u64, 2].into()),
    ]);
    let first = notify(
        &app,
        Note {
            summary: "Mail & <more>",
            body: "<b>One</b> &amp; two\n1 < 2",
            actions: vec!["default", "", "reply", "Reply"],
            hints,
            timeout: -1,
            ..Note::default()
        },
    );
    desk.until("the note and its picture", |host| {
        host.model.notes.contains_key(&first) && host.model.note_icons.contains_key(&first)
    });
    let note = desk.host.model.notes[&first].clone();
    assert_eq!(note.app, id_of("org.example.Editor.desktop"));
    assert_eq!(note.urgency, Urgency::Critical);
    assert_eq!(note.summary, "Mail & <more>");
    assert_eq!(note.body, ["One & two", "1 < 2"]);
    assert_eq!(note.buttons, ["Open", "Reply"]);
    assert_eq!(desk.host.model.note_icons[&first][..4], [30, 20, 10, 255]);

    // Said anew under its number, and pressed.
    let again = notify(
        &app,
        Note {
            replaces: first,
            summary: "Mail, again",
            actions: vec!["default", "", "reply", "Reply", "odd"],
            timeout: -1,
            ..Note::default()
        },
    );
    assert_eq!(again, first);
    desk.until("the change", |host| {
        host.model.notes[&first].summary == "Mail, again"
    });
    assert_eq!(desk.host.model.notes[&first].app, AppId::NONE);
    desk.host.order(NoteAnswer {
        id: first,
        button: 9,
    });
    desk.host.order(NoteAnswer {
        id: first,
        button: 2,
    });
    assert_eq!(next(&heard), format!("ActionInvoked {first} reply"));
    assert_eq!(next(&heard), format!("NotificationClosed {first} 2"));

    // One that stays when it is pressed, until somebody closes it.
    let resident = notify(
        &app,
        Note {
            summary: "Player",
            actions: vec!["next", "Next"],
            hints: HashMap::from([("resident", true.into())]),
            ..Note::default()
        },
    );
    assert_ne!(resident, first);
    desk.until("the note", |host| host.model.notes.contains_key(&resident));
    desk.host.order(NoteAnswer {
        id: resident,
        button: 1,
    });
    assert_eq!(next(&heard), format!("ActionInvoked {resident} next"));
    desk.host.order(NoteAnswer {
        id: resident,
        button: 0,
    });
    assert_eq!(next(&heard), format!("NotificationClosed {resident} 2"));

    // One whose time is over, and one that its app takes back.
    let short = notify(
        &app,
        Note {
            summary: "short",
            timeout: 150,
            ..Note::default()
        },
    );
    desk.until("it to go", |host| host.model.notes_gone.contains(&short));
    assert_eq!(next(&heard), format!("NotificationClosed {short} 1"));
    let taken = notify(
        &app,
        Note {
            summary: "taken",
            ..Note::default()
        },
    );
    app.call_method(Some(NOTES), path, Some(NOTES), "CloseNotification", &taken)
        .unwrap();
    desk.until("it to go", |host| host.model.notes_gone.contains(&taken));
    assert_eq!(next(&heard), format!("NotificationClosed {taken} 3"));

    // The next host hears of what is still shown, and a policy ends it.
    let stays = notify(
        &app,
        Note {
            summary: "stays",
            ..Note::default()
        },
    );
    desk.until("the note", |host| host.model.notes.contains_key(&stays));
    let mut desk = desk.next_host();
    desk.host.allow(Allowed::NOTES);
    desk.until("the note", |host| host.model.notes.len() == 1);
    assert_eq!(desk.host.model.notes[&stays].summary, "stays");
    desk.host.allow(Allowed::NONE);
    assert_eq!(next(&heard), format!("NotificationClosed {stays} 4"));
    desk.owned(&app, NOTES, false);
}

/// libnotify is what most apps post with.
#[test]
fn notify_send_waits_for_the_button_that_somebody_presses() {
    let version = Command::new("notify-send").arg("--version").output();
    let Ok(version) = version else {
        eprintln!("notify-send (Debian: libnotify-bin) is not installed: nothing was tried");
        return;
    };
    let mut desk = start(Allowed::NOTES);
    let app = desk.bus.connect();
    desk.owned(&app, NOTES, true);
    let mut command = Command::new("notify-send");
    command
        .args([
            "--urgency=low",
            "--hint=string:desktop-entry:org.example.Editor",
        ])
        .args(["--wait", "--action=later=Later", "--action=now=Now"])
        .args(["Upd\u{e4}te", "Restart <i>now</i>?"])
        .env("DBUS_SESSION_BUS_ADDRESS", &desk.bus.address)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = Process(command.spawn().unwrap());
    desk.until("the note", |host| !host.model.notes.is_empty());
    let (id, note) = desk.host.model.notes.iter().next().unwrap();
    let id = *id;
    assert_eq!(note.app, id_of("org.example.Editor.desktop"));
    assert_eq!(note.urgency, Urgency::Low);
    assert_eq!(
        (note.summary.as_str(), &note.body[..]),
        ("Upd\u{e4}te", &["Restart now?".to_owned()][..])
    );
    assert_eq!(note.buttons, ["Later", "Now"]);
    desk.host.order(NoteAnswer { id, button: 2 });
    desk.until("notify-send to end", |_| {
        child.0.try_wait().unwrap().is_some()
    });
    let mut out = String::new();
    std::io::Read::read_to_string(&mut child.0.stdout.take().unwrap(), &mut out).unwrap();
    assert_eq!(out.trim(), "now", "{version:?}");
}

#[test]
fn an_app_that_floods_shows_its_newest() {
    let mut desk = start(Allowed::NOTES);
    let app = desk.bus.connect();
    desk.owned(&app, NOTES, true);
    let long = "\u{e4}".repeat(100_000);
    let mut last = 0;
    for _ in 0..200 {
        last = notify(
            &app,
            Note {
                summary: &long,
                body: &long,
                actions: vec![&long; 20],
                ..Note::default()
            },
        );
    }
    desk.until("the newest", |host| host.model.notes.contains_key(&last));
    let model = &desk.host.model;
    assert_eq!(model.notes.len(), 32);
    assert_eq!(model.notes_gone.len(), 200 - 32);
    let note = &model.notes[&last];
    assert_eq!((note.summary.len(), note.body[0].len()), (128, 4096));
    assert_eq!(note.buttons.len(), 4);
}

/// An app with a tray item, as its own process.
struct TrayApp {
    name: &'static str,
    count: u32,
    loud: bool,
    on: bool,
}

impl ksni::Tray for TrayApp {
    fn id(&self) -> String {
        self.name.into()
    }
    fn title(&self) -> String {
        format!("Count {}", self.count)
    }
    fn status(&self) -> ksni::Status {
        if self.loud {
            ksni::Status::NeedsAttention
        } else {
            ksni::Status::Active
        }
    }
    fn icon_pixmap(&self) -> Vec<ksni::Icon> {
        let pixel = [255, 100, self.count as u8, 0];
        vec![ksni::Icon {
            width: 32,
            height: 32,
            data: pixel.repeat(32 * 32),
        }]
    }
    fn activate(&mut self, x: i32, y: i32) {
        println!("activated {x} {y}");
    }
    fn secondary_activate(&mut self, _: i32, _: i32) {
        println!("activated by the middle button");
    }
    fn menu(&self) -> Vec<MenuItem<Self>> {
        let count = StandardItem {
            label: "_Count on".into(),
            activate: Box::new(|app: &mut Self| {
                app.count += 1;
                println!("counted {}", app.count);
            }),
            ..Default::default()
        };
        let check = CheckmarkItem {
            label: "Check".into(),
            checked: self.on,
            activate: Box::new(|app: &mut Self| {
                app.on = !app.on;
                println!("checked {}", app.on);
            }),
            ..Default::default()
        };
        let deep = StandardItem {
            label: "Deep".into(),
            enabled: false,
            ..Default::default()
        };
        let more = SubMenu {
            label: "More".into(),
            submenu: vec![deep.into()],
            ..Default::default()
        };
        vec![count.into(), MenuItem::Separator, check.into(), more.into()]
    }
}

/// No test but the app of the next one, which starts it: does what its standard input says.
#[test]
#[ignore = "an app that another test starts"]
fn tray_app() {
    if std::env::var_os("MEDLEY_TRAY_APP").is_none() {
        return;
    }
    let app = TrayApp {
        name: "org.example.Editor",
        count: 0,
        loud: false,
        on: true,
    };
    let handle = app.assume_sni_available(true).spawn().unwrap();
    for line in std::io::stdin().lines() {
        handle.update(|app| match line.unwrap().as_str() {
            "loud" => app.loud = true,
            other => app.count = other.parse().unwrap(),
        });
    }
}

/// An app with an item. The watcher should be there before it: the library of this app asks first and listens
/// afterwards, so that it never hears of one that comes between the two.
fn begin_tray_app(bus: &Bus) -> (Process, ChildStdin, Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "tray_app", "--nocapture"])
        .env("DBUS_SESSION_BUS_ADDRESS", &bus.address)
        .env("MEDLEY_TRAY_APP", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let words = line.contains("ed ") && !line.contains("filtered");
            if words && sender.send(line).is_err() {
                return;
            }
        }
    });
    (Process(child), input, heard)
}

#[test]
fn tray_items_are_shown_and_used_on_the_host() {
    let mut desk = start(Allowed::TRAY);
    let looks = desk.bus.connect();
    desk.owned(&looks, TRAY, true);
    let (app, mut input, heard) = begin_tray_app(&desk.bus);
    desk.until("the item", |host| {
        let mut trays = host.model.trays.iter();
        trays.any(|(id, tray)| !tray.menu.is_empty() && host.model.tray_icons.contains_key(id))
    });
    let (id, tray) = desk.host.model.trays.iter().next().unwrap();
    let (id, tray) = (*id, tray.clone());
    assert_eq!(tray.app, Some(id_of("org.example.Editor.desktop")));
    assert_eq!(tray.title, "Count 0");
    assert_eq!(tray.state, Some(TrayState::Active));
    let icon = &desk.host.model.tray_icons[&id];
    assert_eq!(
        (icon.len(), &icon[..4]),
        (32 * 32 * 4, &[0, 0, 100, 255][..])
    );
    let on = EntryLook::ENABLED.with(EntryLook::CHECKED);
    let menu: Vec<_> = tray
        .menu
        .iter()
        .map(|(_, parent, look, label)| (*parent, *look, label.as_str()))
        .collect();
    let number = |label: &str| tray.menu.iter().find(|e| e.3 == label).unwrap().0;
    assert_eq!(
        menu,
        [
            (0, EntryLook::ENABLED, "Count on"),
            (0, EntryLook::SEPARATOR, ""),
            (0, on, "Check"),
            (0, EntryLook::ENABLED, "More"),
            (number("More"), EntryLook::NONE, "Deep"),
        ]
    );

    let click = |click| TrayClick { id, click };
    desk.host.order(click(Click::Main));
    assert_eq!(next(&heard), "activated 0 0");
    desk.host.order(click(Click::Middle));
    assert_eq!(next(&heard), "activated by the middle button");
    let entry = number("Check");
    desk.host.order(TrayChoice { id, entry: 999 });
    desk.host.order(TrayChoice { id, entry });
    assert_eq!(next(&heard), "checked false");
    desk.until("the mark to go", |host| {
        host.model.trays[&id].menu[2].2 == EntryLook::ENABLED
    });
    let entry = number("Count on");
    desk.host.order(TrayChoice { id, entry });
    assert_eq!(next(&heard), "counted 1");
    writeln!(input, "7\nloud").unwrap();
    desk.until("what it says now", |host| {
        let tray = &host.model.trays[&id];
        tray.title == "Count 7"
            && tray.state == Some(TrayState::Attention)
            && host.model.tray_icons[&id][..4] == [0, 7, 100, 255]
    });

    // The next host hears of it, and the item goes with its app.
    let mut desk = desk.next_host();
    desk.host.allow(Allowed::TRAY);
    desk.until("the item again", |host| {
        let known = host.model.trays.get(&id);
        known.is_some_and(|tray| tray.menu.len() == 5) && host.model.tray_icons.contains_key(&id)
    });
    drop((app, input));
    desk.until("the item to go", |host| host.model.trays_gone == [id]);
}

/// Two changes at a time once gave back a name that had just been allowed; and a tray that was left and taken twice
/// was left and taken for ever.
#[test]
fn names_are_as_the_last_of_many_changes_has_them() {
    let mut desk = start(Allowed::NONE);
    let looks = desk.bus.connect();
    let both = Allowed::NOTES.with(Allowed::TRAY);
    for _ in 0..20 {
        desk.host.allow(Allowed::NONE);
        desk.host.allow(both);
    }
    for _ in 0..2 {
        desk.owned(&looks, NOTES, true);
        desk.owned(&looks, TRAY, true);
        desk.host.watch(Duration::from_millis(300));
    }
    desk.host.allow(Allowed::NONE);
    desk.owned(&looks, NOTES, false);
    desk.owned(&looks, TRAY, false);
}

#[test]
fn what_is_not_allowed_is_not_offered() {
    let mut desk = start(Allowed::NONE);
    let app = desk.bus.connect();
    desk.host.watch(Duration::from_millis(500));
    desk.owned(&app, NOTES, false);
    desk.owned(&app, TRAY, false);
    desk.host.allow(Allowed::NOTES.with(Allowed::TRAY));
    desk.owned(&app, NOTES, true);
    desk.owned(&app, TRAY, true);
    let (_app, _input, _heard) = begin_tray_app(&desk.bus);
    desk.until("the item", |host| host.model.trays.len() == 1);
    desk.host.allow(Allowed::NOTES);
    desk.until("the item to go", |host| host.model.trays.is_empty());
    desk.owned(&app, TRAY, false);
}

#[test]
fn another_server_of_the_guests_keeps_its_name_until_it_ends() {
    let mut desk = start(Allowed::NONE);
    let other = desk.bus.connect();
    other.request_name(NOTES).unwrap();
    let app = desk.bus.connect();
    let bus = zbus::blocking::fdo::DBusProxy::new(&app).unwrap();
    let owner = || bus.get_name_owner(NOTES.try_into().unwrap()).ok();
    let theirs = owner().unwrap();
    desk.host.allow(Allowed::NOTES);
    desk.host.watch(Duration::from_millis(300));
    assert_eq!(owner(), Some(theirs.clone()));
    drop(other);
    desk.until("the name to come", |_| owner().is_some_and(|o| o != theirs));
    let id = notify(
        &app,
        Note {
            summary: "now",
            ..Note::default()
        },
    );
    desk.until("the note", |host| host.model.notes.contains_key(&id));
}
