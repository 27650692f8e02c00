//! Notifications and tray items on a real bus, with a notification server and a panel of the test's own.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use medley_host::ServicesPolicy;
use medley_host::policy::{Notes, Tray};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use support::bus::on_a_bus;
use support::{PATIENCE, Session};
use zbus::blocking::{Connection, Proxy, connection};
use zbus::object_server::SignalEmitter;
use zbus::zvariant::{OwnedValue, Value};

#[test]
#[ignore = "plays the presenter for the other tests"]
fn double() {
    support::double::play();
}

const NOTES: &str = "org.freedesktop.Notifications";
const NOTES_PATH: &str = "/org/freedesktop/Notifications";

/// A notification as a server gets it.
#[derive(Debug)]
struct Shown {
    app: String,
    replaces: u32,
    icon: String,
    summary: String,
    body: String,
    actions: Vec<String>,
    urgency: u8,
    id: u32,
}

#[derive(Debug)]
enum Call {
    Shown(Shown),
    Closed(u32),
}

struct Server {
    calls: Sender<Call>,
    can: Vec<&'static str>,
    last: u32,
}

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Server {
    fn get_capabilities(&self) -> Vec<String> {
        self.can.iter().map(|word| (*word).to_owned()).collect()
    }

    #[expect(clippy::too_many_arguments, reason = "the specification's")]
    fn notify(
        &mut self,
        app: String,
        replaces: u32,
        icon: String,
        summary: String,
        body: String,
        actions: Vec<String>,
        hints: HashMap<String, OwnedValue>,
        _expires: i32,
    ) -> u32 {
        let id = match replaces {
            0 => {
                self.last += 1;
                self.last
            }
            known => known,
        };
        let urgency = hints["urgency"].downcast_ref().unwrap();
        let shown = Shown {
            app,
            replaces,
            icon,
            summary,
            body,
            actions,
            urgency,
            id,
        };
        self.calls.send(Call::Shown(shown)).unwrap();
        id
    }

    fn close_notification(&self, id: u32) {
        self.calls.send(Call::Closed(id)).unwrap();
    }

    #[zbus(signal)]
    async fn action_invoked(emitter: &SignalEmitter<'_>, id: u32, key: &str) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn notification_closed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        reason: u32,
    ) -> zbus::Result<()>;
}

fn server(can: &[&'static str]) -> (Connection, Receiver<Call>) {
    let (calls, received) = channel();
    let server = Server {
        calls,
        can: can.to_vec(),
        last: 100,
    };
    let builder = connection::Builder::session().unwrap();
    let builder = builder.serve_at(NOTES_PATH, server).unwrap();
    (builder.name(NOTES).unwrap().build().unwrap(), received)
}

fn shown(calls: &Receiver<Call>) -> Shown {
    match calls.recv_timeout(PATIENCE).unwrap() {
        Call::Shown(shown) => shown,
        closed @ Call::Closed(_) => panic!("{closed:?}"),
    }
}

fn notes(buttons: bool) -> ServicesPolicy {
    ServicesPolicy {
        notes: Some(Notes { buttons }),
        ..ServicesPolicy::default()
    }
}

#[test]
fn notifications_say_whose_they_are_and_answers_come_back() {
    on_a_bus(
        "notifications_say_whose_they_are_and_answers_come_back",
        || {
            let (bus, calls) = server(&["body", "body-markup", "actions"]);
            let mut session = Session::start(
                notes(true),
                r#"
say {"event":"note","note":1,"app":"","urgency":"critical","summary":"<b>Low\u202e</b>","body":"<a href='x'>a</a>\n& more\u0007","buttons":["Yes","No"]}
say {"event":"note","note":50,"app":"","urgency":"normal","summary":"marker","body":"","buttons":[]}
await "note":1,"button":2
say {"event":"note","note":1,"app":"","urgency":"low","summary":"again","body":"","buttons":[]}
say {"event":"note","note":51,"app":"","urgency":"normal","summary":"marker","body":"","buttons":[]}
await "note":1,"button":0
say {"event":"note","note":2,"app":"","urgency":"normal","summary":"second","body":"","buttons":[]}
say {"event":"note-gone","note":2}
say {"event":"note","note":3,"app":"","urgency":"normal","summary":"third","body":"","buttons":[]}
"#,
            );
            let first = shown(&calls);
            assert_eq!(
                (first.app.as_str(), first.icon.as_str()),
                ("office", "computer")
            );
            assert_eq!(
                first.summary, "[office] <b>Low\u{fffd}</b>",
                "a title has no markup"
            );
            assert_eq!(
                first.body,
                "&lt;a href=&#39;x&#39;&gt;a&lt;/a&gt;\n&amp; more\u{fffd}"
            );
            assert_eq!(first.actions, ["1", "Yes", "2", "No"]);
            assert_eq!((first.urgency, first.replaces), (1, 0), "none is critical");
            // A server answers before anybody can click; ours says so by the next one, for they come in turn.
            let mut markers = vec![shown(&calls).id];
            // Somebody else on the bus cannot answer.
            let stranger = Connection::session().unwrap();
            let emit = |bus: &Connection, name: &str, body: &(u32, &str)| {
                let none: Option<&str> = None;
                bus.emit_signal(none, NOTES_PATH, NOTES, name, body)
                    .unwrap();
            };
            emit(&stranger, "ActionInvoked", &(first.id, "1"));
            emit(&bus, "ActionInvoked", &(999, "1"));
            emit(&bus, "ActionInvoked", &(first.id, "default"));
            emit(&bus, "ActionInvoked", &(first.id, "2"));
            let second = shown(&calls);
            assert_eq!((second.replaces, second.id), (first.id, first.id));
            assert!(second.actions.is_empty() && second.urgency == 0);
            markers.push(shown(&calls).id);
            let none: Option<&str> = None;
            bus.emit_signal(
                none,
                NOTES_PATH,
                NOTES,
                "NotificationClosed",
                &(first.id, 2_u32),
            )
            .unwrap();
            let third = shown(&calls);
            assert!(matches!(calls.recv_timeout(PATIENCE), Ok(Call::Closed(id)) if id == third.id));
            let fourth = shown(&calls);
            assert_eq!(fourth.summary, "[office] third");
            assert!(
                !session.told().contains(r#""note":1,"button":1"#),
                "{}",
                session.told()
            );
            session.end();
            // Nobody would hear what is done with them.
            markers.push(fourth.id);
            let closed = |_: &u32| match calls.recv_timeout(PATIENCE).unwrap() {
                Call::Closed(id) => id,
                shown @ Call::Shown(_) => panic!("{shown:?}"),
            };
            let closed: Vec<_> = markers.iter().map(closed).collect();
            assert_eq!(closed, markers);
        },
    );
}

#[test]
fn notifications_have_what_policy_and_server_allow() {
    on_a_bus("notifications_have_what_policy_and_server_allow", || {
        let (_bus, calls) = server(&["body", "actions"]);
        let note = r#"say {"event":"note","note":NUMBER,"app":"","urgency":"normal","summary":"x","body":"<i>&","buttons":["Yes"]}"#;
        let many: Vec<_> = (1..=30)
            .map(|number| note.replace("NUMBER", &number.to_string()))
            .collect();
        let _session = Session::start(notes(false), &many.join("\n"));
        let first = shown(&calls);
        assert_eq!(
            first.body, "<i>&",
            "a server without markup shows what is there"
        );
        assert!(first.actions.is_empty());
        let rest = (0..30).map_while(|_| {
            let soon = std::time::Duration::from_millis(700);
            calls.recv_timeout(soon).ok()
        });
        let rest = rest.count();
        assert!((9..=11).contains(&rest), "a flood is held up: {rest}");
    });
}

#[test]
fn no_bus_is_told_once() {
    on_a_bus("no_bus_is_told_once", || {
        // A bus, and nobody on it who shows notifications.
        let session = Session::start(
            notes(false),
            r#"
say {"event":"note","note":1,"app":"","urgency":"normal","summary":"x","body":"","buttons":[]}
say {"event":"note","note":2,"app":"","urgency":"normal","summary":"x","body":"","buttons":[]}
say {"event":"unlock-asked"}
"#,
        );
        session.notice("notes-unavailable");
        let soon = std::time::Duration::from_millis(500);
        while let Ok(notice) = session.notices.recv_timeout(soon) {
            assert_ne!(notice.code, "notes-unavailable");
        }
    });
}

/// Keeps the names of items that came.
struct Watcher(Arc<Mutex<Vec<String>>>);

#[zbus::interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    fn register_status_notifier_item(&self, service: String) {
        self.0.lock().unwrap().push(service);
    }

    #[zbus(property)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }
}

/// An entry of a menu as the bus has it: number, properties, and what is in it.
type Layout = (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>);

/// Number, label, and number and label of what is in it.
type Labels = (i32, String, Vec<(i32, String)>);

fn layout(menu: &Proxy<'_>) -> Vec<Labels> {
    let names: Vec<&str> = Vec::new();
    let (_, root): (u32, Layout) = menu.call("GetLayout", &(0, -1, names)).unwrap();
    let entry = |value: &OwnedValue| -> Layout { value.try_clone().unwrap().try_into().unwrap() };
    let label = |layout: &Layout| match layout.1.get("label") {
        Some(label) => label.downcast_ref::<String>().unwrap(),
        None => "-".to_owned(),
    };
    let below = |layout: &Layout| {
        let entries = layout.2.iter().map(entry);
        entries.map(|layout| (layout.0, label(&layout))).collect()
    };
    let entries = root.2.iter().map(entry);
    entries
        .map(|layout| (layout.0, label(&layout), below(&layout)))
        .collect()
}

#[test]
fn tray_items_are_shown_and_clicks_come_back() {
    on_a_bus("tray_items_are_shown_and_clicks_come_back", || {
        let items = Arc::new(Mutex::new(Vec::new()));
        let builder = connection::Builder::session().unwrap();
        let builder = builder.serve_at("/StatusNotifierWatcher", Watcher(items.clone()));
        let builder = builder.unwrap().name("org.kde.StatusNotifierWatcher");
        let bus = builder.unwrap().build().unwrap();
        let policy = ServicesPolicy {
            tray: Some(Tray {}),
            ..ServicesPolicy::default()
        };
        let mut session = Session::start(
            policy,
            r#"
say {"event":"tray","item":5,"app":"","look":"active","title":"Mail\u001b"}
say {"event":"tray-icon","item":5,"side":1,"argb":"/wECAw=="}
say {"event":"tray-icon","item":5,"side":2,"argb":"/wECAw=="}
say {"event":"tray-menu","item":5,"entries":[{"id":1,"parent":0,"label":"New_mail","enabled":true,"checked":false,"separator":false},{"id":2,"parent":0,"label":"","enabled":true,"checked":false,"separator":true},{"id":3,"parent":0,"label":"More","enabled":true,"checked":false,"separator":false},{"id":4,"parent":3,"label":"Quit","enabled":true,"checked":true,"separator":false},{"id":1,"parent":0,"label":"twice","enabled":true,"checked":false,"separator":false},{"id":7,"parent":9,"label":"orphan","enabled":true,"checked":false,"separator":false}]}
await "tray-choice"
say {"event":"tray","item":5,"app":"","look":"attention","title":"Mail (1)"}
await "click":"middle"
say {"event":"tray-gone","item":5}
"#,
        );
        support::until("an item", || items.lock().unwrap().len() == 1);
        let name = items.lock().unwrap()[0].clone();
        let item = Proxy::new(
            &bus,
            name.as_str(),
            "/StatusNotifierItem",
            "org.kde.StatusNotifierItem",
        );
        let item = item.unwrap();
        let text = |what: &str| item.get_property::<String>(what).unwrap();
        assert_eq!(text("Id"), "medley-office-5");
        assert_eq!(text("Title"), "[office] Mail\u{fffd}");
        assert_eq!(text("Status"), "Active");
        let pictures: Vec<(i32, i32, Vec<u8>)> = item.get_property("IconPixmap").unwrap();
        assert_eq!(
            pictures,
            [(1, 1, vec![0xff, 1, 2, 3])],
            "one that is no square is left out"
        );
        let menu = Proxy::new(&bus, name.as_str(), "/MenuBar", "com.canonical.dbusmenu").unwrap();
        let entries = layout(&menu);
        let labels: Vec<_> = entries.iter().map(|(_, label, _)| label.as_str()).collect();
        assert_eq!(labels, ["New__mail", "-", "More"], "{entries:?}");
        let (quit, label) = &entries[2].2[0];
        assert_eq!(label, "Quit");
        let _: bool = menu.call("AboutToShow", &(0,)).unwrap();
        session.heard(r#"{"order":"tray-click","item":5,"click":"menu"}"#);
        let _: () = item.call("Activate", &(3, 4)).unwrap();
        session.heard(r#"{"order":"tray-click","item":5,"click":"main"}"#);
        let chosen = (*quit, "clicked", Value::from(0), 0_u32);
        let _: () = menu.call("Event", &chosen).unwrap();
        session.heard(r#"{"order":"tray-choice","item":5,"entry":4}"#);
        let told = session.told();
        assert!(!told.contains(r#""entry":1"#), "{told}");
        // The proxy keeps what it has read.
        support::until("the new title", || {
            let item = Proxy::new(
                &bus,
                name.as_str(),
                "/StatusNotifierItem",
                "org.kde.StatusNotifierItem",
            );
            let title = item.unwrap().get_property::<String>("Title");
            title.is_ok_and(|title| title == "[office] Mail (1)")
        });
        // The item goes by this click, perhaps before it could answer.
        let _: zbus::Result<()> = item.call("SecondaryActivate", &(3, 4));
        let bus_names = zbus::blocking::fdo::DBusProxy::new(&bus).unwrap();
        support::until("the item is gone", || {
            let owned = bus_names.name_has_owner(name.as_str().try_into().unwrap());
            !owned.unwrap()
        });
        session.end();
    });
}

#[test]
fn no_panel_is_told() {
    on_a_bus("no_panel_is_told", || {
        let policy = ServicesPolicy {
            tray: Some(Tray {}),
            ..ServicesPolicy::default()
        };
        let tray = r#"say {"event":"tray","item":5,"app":"","look":"active","title":"Mail"}"#;
        let session = Session::start(policy, tray);
        session.notice("tray-unavailable");
    });
}
