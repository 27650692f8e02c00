//! A guest's notifications on this desktop, by `org.freedesktop.Notifications`. Every one says whose it is: the
//! app that servers show and group by is the workspace, and so begins its title. Nothing a guest says is markup,
//! its pictures are not shown, and none is critical: those would stay on top of everything.
use super::Post;
use super::pace::Pace;
use super::worker::{Do, Tasks, Worker};
use crate::notice::{Notice, Teller};
use crate::policy::Notes as Policy;
use medley_services::Order;
use medley_services::event::Urgency;
use medley_wire::limits::NOTE_BUTTONS;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use zbus::blocking::{Connection, MessageIterator, connection};
use zbus::names::OwnedUniqueName;
use zbus::zvariant::Value;
use zbus::{MatchRule, message::Type};

const SERVICE: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";
/// The host's own: a guest shows no pictures here.
const ICON: &str = "computer";
/// A server that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// A bus that was not there is looked for again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// What waits for the bus.
const WAITING: usize = 64;
/// At once, and then one in a second.
const BURST: u32 = 10;
/// That are shown at the same time; the oldest makes room.
const LIVE: usize = 32;

/// A notification as it will be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The guest's number of it.
    pub note: u32,
    /// How urgent.
    pub urgency: Urgency,
    /// Fit for display.
    pub summary: String,
    /// Lines, fit for display.
    pub body: String,
    /// Fit for display.
    pub buttons: Vec<String>,
}

/// What there is to do.
#[derive(Debug)]
enum Task {
    Show(Note),
    Gone(u32),
}

/// Shows notifications, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Notes {
    worker: Worker<Task>,
    pace: Pace,
}

/// Which of the server's are ours: its numbers, oldest first, beside the guest's.
type Live = Arc<Mutex<Vec<(u32, u32)>>>;

impl Notes {
    pub fn start(
        policy: Policy,
        workspace: String,
        teller: Teller,
        post: Post,
    ) -> std::io::Result<Self> {
        let server = Server {
            policy,
            workspace,
            teller,
            post,
            bus: None,
            tried: None,
            live: Live::default(),
        };
        Ok(Self {
            worker: Worker::start("notes", WAITING, move |tasks| server.run(tasks))?,
            pace: Pace::new(BURST, Duration::from_secs(1)),
        })
    }

    /// Shows one, or what has changed about it. Never waits: one too many is left out.
    pub fn show(&mut self, mut note: Note) {
        if !self.pace.take(Instant::now()) {
            return tracing::debug!("a notification too many");
        }
        note.summary = crate::clean::line(&note.summary);
        note.body = crate::clean::lines(&note.body);
        note.buttons.truncate(NOTE_BUTTONS);
        for button in &mut note.buttons {
            *button = crate::clean::line(button);
        }
        self.worker.put(Task::Show(note));
    }

    /// Takes one back.
    pub fn gone(&self, note: u32) {
        self.worker.put(Task::Gone(note));
    }

    /// Takes all back: nobody would hear what is done with them.
    pub fn all_gone(&self) {
        self.worker.clear();
    }
}

/// The session's bus, and what its notification server can do.
struct Bus {
    connection: Connection,
    markup: bool,
    body: bool,
    actions: bool,
}

struct Server {
    policy: Policy,
    workspace: String,
    teller: Teller,
    post: Post,
    bus: Option<Bus>,
    /// When the bus was last looked for.
    tried: Option<Instant>,
    live: Live,
}

impl Server {
    fn run(mut self, mut tasks: Tasks<Task>) {
        while let Ok(found) = tasks.next() {
            match found {
                Do::Task(Task::Show(note)) => self.show(&note),
                Do::Task(Task::Gone(note)) => self.take_back(Some(note)),
                Do::Clear => self.take_back(None),
            }
        }
        self.take_back(None);
        if let Some(bus) = self.bus.take()
            && let Err(error) = bus.connection.close()
        {
            tracing::debug!(%error, "the bus");
        }
    }

    fn show(&mut self, note: &Note) {
        if self.bus.is_none() && !self.connect() {
            return;
        }
        let Some(bus) = &self.bus else { return };
        match notify(bus, &self.workspace, &self.policy, note, &self.live) {
            Ok(over) => {
                for (server, guest) in over {
                    let _ = close(bus, server);
                    self.post.order(&Order::NoteAnswer {
                        note: guest,
                        button: 0,
                    });
                }
            }
            Err(error) => self.lose(&error),
        }
    }

    fn take_back(&mut self, note: Option<u32>) {
        let mut gone = Vec::new();
        lock(&self.live).retain(|(server, guest)| {
            let stays = note.is_some_and(|note| note != *guest);
            if !stays {
                gone.push(*server);
            }
            stays
        });
        if let Some(bus) = &self.bus {
            // One that does not answer is not asked thirty times.
            let _ = gone.into_iter().try_for_each(|server| close(bus, server));
        }
    }

    fn connect(&mut self) -> bool {
        let now = Instant::now();
        let soon = |tried: Instant| now.duration_since(tried) < LOOK_AGAIN;
        if self.tried.is_some_and(soon) {
            return false;
        }
        self.tried = Some(now);
        match open(&self.live, &self.post) {
            Ok(bus) => self.bus = Some(bus),
            Err(error) => self.lose(&error),
        }
        self.bus.is_some()
    }

    fn lose(&mut self, error: &zbus::Error) {
        self.bus = None;
        lock(&self.live).clear();
        self.tried = Some(Instant::now());
        let words = format!("the guest's notifications cannot be shown here: {error}");
        self.teller.say(Notice::new("notes-unavailable", words));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects, asks what the server can do, and listens to what becomes of ours.
fn open(live: &Live, post: &Post) -> zbus::Result<Bus> {
    let connection = connection::Builder::session()?
        .method_timeout(PATIENCE)
        .build()?;
    let reply =
        connection.call_method(Some(SERVICE), PATH, Some(SERVICE), "GetCapabilities", &())?;
    let server = reply.header().sender().map(|name| name.to_owned().into());
    let can: Vec<String> = reply.body().deserialize()?;
    let can = |what: &str| can.iter().any(|other| other == what);
    let bus = Bus {
        markup: can("body-markup"),
        body: can("body"),
        actions: can("actions"),
        connection: connection.clone(),
    };
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .interface(SERVICE)?
        .path(PATH)?
        .build();
    let signals = MessageIterator::for_match_rule(rule, &connection, Some(WAITING))?;
    let (live, post) = (live.clone(), post.clone());
    std::thread::Builder::new()
        .name("note-answers".into())
        .spawn(move || listen(signals, server.as_ref(), &live, &post))
        .map_err(|error| zbus::Error::InputOutput(Arc::new(error)))?;
    Ok(bus)
}

/// Shows one; which had to make room for it.
fn notify(
    bus: &Bus,
    workspace: &str,
    policy: &Policy,
    note: &Note,
    live: &Live,
) -> zbus::Result<Vec<(u32, u32)>> {
    let known = lock(live)
        .iter()
        .find(|(_, guest)| *guest == note.note)
        .map_or(0, |(server, _)| *server);
    let summary = format!("[{workspace}] {}", note.summary);
    let body = match (bus.body, bus.markup) {
        (false, _) => String::new(),
        (true, false) => note.body.clone(),
        (true, true) => escaped(&note.body),
    };
    let keys: Vec<String> = (1..=note.buttons.len()).map(|n| n.to_string()).collect();
    let buttons = keys.iter().zip(&note.buttons);
    let actions: Vec<&str> = match policy.buttons && bus.actions {
        true => buttons
            .flat_map(|(key, label)| [key.as_str(), label.as_str()])
            .collect(),
        false => Vec::new(),
    };
    let urgency = match note.urgency {
        Urgency::Low => 0_u8,
        Urgency::Normal | Urgency::Critical => 1,
    };
    let hints = HashMap::from([("urgency", Value::from(urgency))]);
    let whole = (
        workspace, known, ICON, summary, body, actions, hints, -1_i32,
    );
    let reply = bus
        .connection
        .call_method(Some(SERVICE), PATH, Some(SERVICE), "Notify", &whole)?;
    let server: u32 = reply.body().deserialize()?;
    let mut live = lock(live);
    live.retain(|(other, guest)| *other != server && *guest != note.note);
    live.push((server, note.note));
    let over = live.len().saturating_sub(LIVE);
    Ok(live.drain(..over).collect())
}

/// Takes one back; an error if the server does not answer.
fn close(bus: &Bus, server: u32) -> zbus::Result<()> {
    let connection = &bus.connection;
    let call = connection.call_method(
        Some(SERVICE),
        PATH,
        Some(SERVICE),
        "CloseNotification",
        &server,
    );
    match call {
        Ok(_) => Ok(()),
        // It may be gone by itself.
        Err(error @ zbus::Error::MethodError(..)) => {
            tracing::debug!(%error, "a notification cannot be taken back");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Tells the guest what was done with its notifications, until the connection ends.
fn listen(signals: MessageIterator, server: Option<&OwnedUniqueName>, live: &Live, post: &Post) {
    for message in signals {
        let Ok(message) = message else { return };
        let header = message.header();
        // Anybody on the bus can say such things.
        if header.sender().map(|name| name.as_str()) != server.map(|name| name.as_str()) {
            continue;
        }
        let body = message.body();
        let answer = match header.member().map(|name| name.as_str()) {
            Some("ActionInvoked") => body
                .deserialize::<(u32, String)>()
                .ok()
                .and_then(|(id, key)| Some((id, key.parse().ok().filter(|key| *key > 0)?))),
            Some("NotificationClosed") => {
                body.deserialize::<(u32, u32)>().ok().map(|(id, _)| (id, 0))
            }
            _ => None,
        };
        let Some((id, button)) = answer else { continue };
        let guest = {
            let mut live = lock(live);
            let at = live.iter().position(|(server, _)| *server == id);
            // What we have closed ourselves is not among them any more.
            at.map(|at| match button {
                0 => live.remove(at).1,
                _ => live[at].1,
            })
        };
        if let Some(note) = guest {
            post.order(&Order::NoteAnswer { note, button });
        }
    }
}

/// A text for servers that read markup in it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
