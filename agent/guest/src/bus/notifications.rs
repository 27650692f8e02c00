//! The server of notifications, as the freedesktop specification 1.2 has it.
use super::hints::{Hint, Hints};
use super::{Closed, Event, NOTES_PATH, Posted, Shared, Timeout, markup, picture};
use crate::apps::icon::Icon;
use medley_wire::control::Urgency;
use medley_wire::limits::{NAME_BYTES, NOTE_BUTTONS, NOTE_BYTES};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use zbus::message::Header;
use zbus::names::BusName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, fdo, interface};

/// What clicking on a notification itself does, among an app's actions. The host has buttons only.
const DEFAULT: &str = "default";

/// What its button says if the app gives it no words.
const OPEN: &str = "Open";

/// The interface.
#[derive(Debug)]
pub struct Notifications {
    shared: Arc<Shared>,
}

impl Notifications {
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

// One after the other, for what is said anew must not come before what it replaces.
#[interface(name = "org.freedesktop.Notifications", spawn = false)]
impl Notifications {
    /// What this server can: buttons and a body, which lasts until somebody has seen it.
    #[expect(clippy::unused_self, reason = "a method of the interface")]
    fn get_capabilities(&self) -> Vec<&'static str> {
        vec!["actions", "body", "persistence"]
    }

    /// Its name, vendor, version, and the specification's.
    #[expect(clippy::unused_self, reason = "a method of the interface")]
    fn get_server_information(&self) -> (&str, &str, &str, &str) {
        ("medley-guest", "Medley", env!("CARGO_PKG_VERSION"), "1.2")
    }

    /// An app says something.
    #[expect(clippy::too_many_arguments, reason = "the specification's")]
    async fn notify(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        app_name: String,
        replaces_id: u32,
        app_icon: String,
        summary: String,
        body: String,
        actions: Vec<String>,
        hints: HashMap<String, Hint>,
        expire_timeout: i32,
    ) -> fdo::Result<u32> {
        if !self.shared.notes_allowed.load(Ordering::SeqCst) {
            return Err(fdo::Error::AccessDenied(
                "notifications are not allowed here".into(),
            ));
        }
        let hints = Hints(hints);
        let id = if replaces_id == 0 {
            next(&self.shared)
        } else {
            replaces_id
        };
        let posted = Posted {
            id,
            process: process(connection, &header).await,
            entry: hints.text("desktop-entry").map(str::to_owned),
            icon: icon(&hints, &app_icon, &self.shared),
            app_name: cut(app_name, NAME_BYTES),
            summary: cut(summary, NAME_BYTES),
            // Markup is as long as text again, and more.
            body: cut(markup::strip(&cut(body, 4 * NOTE_BYTES)), NOTE_BYTES),
            actions: buttons(&actions),
            urgency: match hints.byte("urgency") {
                Some(0) => Urgency::Low,
                Some(2) => Urgency::Critical,
                _ => Urgency::Normal,
            },
            resident: hints.holds("resident"),
            timeout: match u64::try_from(expire_timeout) {
                Err(_) => Timeout::Servers,
                Ok(0) => Timeout::Never,
                Ok(milliseconds) => Timeout::After(Duration::from_millis(milliseconds)),
            },
        };
        self.shared.tell(Event::Posted(Box::new(posted)));
        Ok(id)
    }

    /// An app takes its own back.
    fn close_notification(&self, id: u32) {
        self.shared.tell(Event::TakenBack(id));
    }

    /// A button was pressed.
    #[zbus(signal)]
    async fn action_invoked(
        emitter: &SignalEmitter<'_>,
        id: u32,
        action_key: &str,
    ) -> zbus::Result<()>;

    /// A notification is gone.
    #[zbus(signal)]
    async fn notification_closed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        reason: u32,
    ) -> zbus::Result<()>;
}

/// Tells apps that a button was pressed.
pub async fn pressed(connection: Connection, id: u32, key: String) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(&connection, NOTES_PATH)?;
    Notifications::action_invoked(&emitter, id, &key).await
}

/// Tells apps that a notification is gone.
pub async fn closed(connection: Connection, id: u32, why: Closed) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(&connection, NOTES_PATH)?;
    Notifications::notification_closed(&emitter, id, why as u32).await
}

/// A number for a notification; never zero.
fn next(shared: &Shared) -> u32 {
    loop {
        let id = shared.note.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        if id != 0 {
            return id;
        }
    }
}

/// The process that speaks, if the bus knows.
pub async fn process(connection: &Connection, header: &Header<'_>) -> Option<u32> {
    let sender = BusName::from(header.sender()?.to_owned());
    process_of(connection, sender).await
}

/// The process behind a name of the bus.
pub async fn process_of(connection: &Connection, name: BusName<'_>) -> Option<u32> {
    let bus = fdo::DBusProxy::new(connection).await.ok()?;
    bus.get_connection_unix_process_id(name).await.ok()
}

/// The picture, as the specification ranks where it may be.
fn icon(hints: &Hints, app_icon: &str, shared: &Shared) -> Option<Icon> {
    let named = |name: &str| picture::of_name(name, None, &shared.folders);
    hints
        .picture(&["image-data", "image_data"])
        .and_then(picture::of_bytes)
        .or_else(|| named(hints.text("image-path").or(hints.text("image_path"))?))
        .or_else(|| named(app_icon))
        .or_else(|| hints.picture(&["icon_data"]).and_then(picture::of_bytes))
}

/// Actions come as names and words in turn.
fn buttons(actions: &[String]) -> Vec<(String, String)> {
    let pairs = actions.chunks_exact(2).map(|pair| {
        let (key, words) = (&pair[0], &pair[1]);
        let words = if key == DEFAULT && words.is_empty() {
            OPEN
        } else {
            words
        };
        (key.clone(), cut(words.to_owned(), NAME_BYTES))
    });
    pairs.take(NOTE_BUTTONS).collect()
}

/// At most so many bytes of a text, cut between two characters.
pub fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}
