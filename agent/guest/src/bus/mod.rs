//! The guest's session bus: the agent is there the server of notifications and the watcher of tray items, as far
//! as a policy allows them. A thread of its own speaks to the bus; the agent's loop hears of it by events, and is
//! never kept waiting by an app.
mod hints;
mod items;
mod markup;
mod menu;
mod notifications;
mod picture;
mod watcher;

use crate::apps::icon::Icon;
use crate::waker::Waker;
use anyhow::{Context, Result};
use enumflags2::BitFlags;
use items::Items;
use medley_wire::control::{Click, EntryLook, TrayState, Urgency};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zbus::blocking::{MessageIterator, connection, fdo::DBusProxy};
use zbus::{Connection, MatchRule, message};

/// Where notifications are posted.
const NOTES_NAME: &str = "org.freedesktop.Notifications";
const NOTES_PATH: &str = "/org/freedesktop/Notifications";

/// Where tray items are registered.
const TRAY_NAME: &str = "org.kde.StatusNotifierWatcher";
const TRAY_PATH: &str = "/StatusNotifierWatcher";

/// Events that wait for the agent's loop before the bus's thread waits, too.
const EVENTS: usize = 64;

/// How long an app may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pauses between attempts to reach a bus that is not there yet: the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// How long a notification stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// As the host likes.
    Servers,
    /// Until somebody closes it.
    Never,
    /// So long.
    After(Duration),
}

/// Why a notification ended, in the numbers of its specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Its time is over.
    Expired = 1,
    /// Somebody closed it, or pressed a button.
    Dismissed = 2,
    /// Its app took it back.
    TakenBack = 3,
    /// For another reason.
    Otherwise = 4,
}

/// What an app has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Its number; one that is known says it anew.
    pub id: u32,
    /// What the app calls itself.
    pub app_name: String,
    /// The name of its desktop entry.
    pub entry: Option<String>,
    /// Its process.
    pub process: Option<u32>,
    /// In a few words.
    pub summary: String,
    /// In more, without markup.
    pub body: String,
    /// Buttons: their names to the app, and to people.
    pub actions: Vec<(String, String)>,
    /// How urgent.
    pub urgency: Urgency,
    /// It stays when a button was pressed.
    pub resident: bool,
    /// How long it stays.
    pub timeout: Timeout,
    /// Its picture.
    pub icon: Option<Icon>,
}

/// A tray item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its number.
    pub id: u32,
    /// What it calls itself.
    pub name: String,
    /// What it is called.
    pub title: String,
    /// How it wants to be seen.
    pub state: TrayState,
    /// Its app's process.
    pub process: Option<u32>,
    /// Its picture.
    pub icon: Option<Icon>,
}

/// An entry of a tray item's menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MenuEntry {
    /// Its number on the wire.
    pub id: u16,
    /// The entry whose menu it is in; zero is the first menu.
    pub parent: u16,
    /// How it looks.
    pub look: EntryLook,
    /// What it says.
    pub label: String,
}

/// What happens on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An app says something.
    Posted(Box<Posted>),
    /// An app takes it back.
    TakenBack(u32),
    /// A tray item is there, or is not as it was.
    Item(Box<Item>),
    /// So is its menu.
    Menu(u32, Vec<MenuEntry>),
    /// A tray item is gone.
    ItemGone(u32),
}

/// What the bus's threads share.
#[derive(Debug)]
struct Shared {
    events: SyncSender<Event>,
    waker: Waker,
    /// Folders with icons.
    folders: Vec<PathBuf>,
    connection: Mutex<Option<Connection>>,
    notes_allowed: AtomicBool,
    tray_allowed: AtomicBool,
    /// Who takes or gives back names; two at a time would undo one another's work.
    naming: async_lock::Mutex<()>,
    /// The last number of a notification.
    note: AtomicU32,
    items: Mutex<Items>,
}

impl Shared {
    fn tell(&self, event: Event) {
        // It fails when the agent ends.
        let _ = self.events.send(event);
        self.waker.wake();
    }

    fn connection(&self) -> Option<Connection> {
        let connection = self.connection.lock();
        connection.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn items(&self) -> std::sync::MutexGuard<'_, Items> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent's end.
#[derive(Debug)]
pub struct Bus {
    shared: Arc<Shared>,
    events: Receiver<Event>,
}

impl Bus {
    /// Begins to look for the bus; `folders` are where icons lie.
    ///
    /// # Errors
    /// The kernel gives no thread or descriptor.
    pub fn new(folders: Vec<PathBuf>) -> Result<Self> {
        let (sender, events) = sync_channel(EVENTS);
        let shared = Arc::new(Shared {
            events: sender,
            waker: Waker::new()?,
            folders,
            connection: Mutex::new(None),
            notes_allowed: AtomicBool::new(false),
            tray_allowed: AtomicBool::new(false),
            naming: async_lock::Mutex::new(()),
            note: AtomicU32::new(0),
            items: Mutex::default(),
        });
        if let Some(address) = address() {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("bus".into())
                .spawn(move || attend(&address, &shared))
                .context("cannot start the bus's thread")?;
        } else {
            tracing::info!("there is no session bus here: no notifications, no tray items");
        }
        Ok(Self { shared, events })
    }

    /// What happened since this was last asked, one after the other.
    pub fn event(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// The waker was heard.
    pub fn heard(&self) {
        self.shared.waker.heard();
    }

    /// What a policy allows: what is not allowed is not offered.
    pub fn set_allowed(&self, notes: bool, tray: bool) {
        let shared = &self.shared;
        let before = (
            shared.notes_allowed.swap(notes, Ordering::SeqCst),
            shared.tray_allowed.swap(tray, Ordering::SeqCst),
        );
        if before != (notes, tray) {
            self.spawn("own names", own_names);
        }
    }

    /// Somebody pressed a button.
    pub fn note_pressed(&self, id: u32, key: String) {
        self.spawn("button", move |_, connection| {
            notifications::pressed(connection, id, key)
        });
    }

    /// A notification is gone.
    pub fn note_closed(&self, id: u32, why: Closed) {
        self.spawn("closed", move |_, connection| {
            notifications::closed(connection, id, why)
        });
    }

    /// Somebody clicked on a tray item.
    pub fn tray_clicked(&self, id: u32, click: Click) {
        self.spawn("click", move |shared, connection| {
            items::clicked(shared, connection, id, click)
        });
    }

    /// Somebody chose from a tray item's menu.
    pub fn tray_chosen(&self, id: u32, entry: u16) {
        self.spawn("choice", move |shared, connection| {
            items::chosen(shared, connection, id, entry)
        });
    }

    /// Has the bus's own thread do something, if there is a bus.
    fn spawn<F>(&self, name: &str, work: impl FnOnce(Arc<Shared>, Connection) -> F)
    where
        F: Future<Output = zbus::Result<()>> + Send + 'static,
    {
        if let Some(connection) = self.shared.connection() {
            let shared = Arc::clone(&self.shared);
            spawn(&connection.clone(), name, work(shared, connection));
        }
    }
}

impl AsFd for Bus {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.waker.as_fd()
    }
}

fn spawn(
    connection: &Connection,
    name: &str,
    work: impl Future<Output = zbus::Result<()>> + Send + 'static,
) {
    let work = async move {
        if let Err(error) = work.await {
            // What apps of the guest do not answer is theirs to know.
            tracing::debug!("on the session bus: {error}");
        }
    };
    connection.executor().spawn(work, name).detach();
}

/// Where the session bus is: as the environment says, or where systemd has it. A unit of the system's has no
/// login's environment.
fn address() -> Option<String> {
    if let Some(address) = std::env::var_os("DBUS_SESSION_BUS_ADDRESS") {
        return address.into_string().ok().filter(|text| !text.is_empty());
    }
    let user = nix::unistd::geteuid();
    let linger =
        std::env::var_os("USER").map(|user| PathBuf::from("/var/lib/systemd/linger").join(user));
    let runtime = PathBuf::from(format!("/run/user/{user}"));
    (runtime.is_dir() || linger.is_some_and(|file| file.exists()))
        .then(|| format!("unix:path={}/bus", runtime.display()))
}

/// Reaches the bus, again and again, and attends to it.
fn attend(address: &str, shared: &Arc<Shared>) {
    let mut pause = PAUSES.0;
    loop {
        match connect(address, shared) {
            Ok((connection, messages)) => {
                pause = PAUSES.0;
                tracing::info!("on the session bus");
                for message in messages {
                    let Ok(message) = message else { break };
                    items::heard(shared, &connection, &message);
                }
                tracing::info!("the session bus is gone");
            }
            Err(error) => tracing::debug!("no session bus: {error}"),
        }
        *shared
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        for id in shared.items().clear() {
            shared.tell(Event::ItemGone(id));
        }
        std::thread::sleep(pause);
        pause = PAUSES.1.min(pause * 2);
    }
}

fn connect(address: &str, shared: &Arc<Shared>) -> zbus::Result<(Connection, MessageIterator)> {
    let notes = notifications::Notifications::new(Arc::clone(shared));
    let watcher = watcher::Watcher::new(Arc::clone(shared));
    let connection = connection::Builder::address(address)?
        .method_timeout(PATIENCE)
        .serve_at(NOTES_PATH, notes)?
        .serve_at(TRAY_PATH, watcher)?
        .build()?;
    let messages = MessageIterator::from(&connection);
    let bus = DBusProxy::new(&connection)?;
    let signals = || MatchRule::builder().msg_type(message::Type::Signal);
    for rule in [
        signals().interface(items::ITEM)?.build(),
        signals().interface(menu::MENU)?.build(),
        signals()
            .sender("org.freedesktop.DBus")?
            .member("NameOwnerChanged")?
            // Those that nobody has any more.
            .arg(2, "")?
            .build(),
    ] {
        bus.add_match_rule(rule)?;
    }
    let connection = connection.into_inner();
    *shared
        .connection
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
    let names = own_names(Arc::clone(shared), connection.clone());
    spawn(&connection, "own names", names);
    Ok((connection, messages))
}

/// Takes the names of what is allowed, and gives back those of what is not. A name that another program has stays
/// with it, and comes to the agent when that ends.
async fn own_names(shared: Arc<Shared>, connection: Connection) -> zbus::Result<()> {
    let _one = shared.naming.lock().await;
    for (name, allowed) in [
        (NOTES_NAME, &shared.notes_allowed),
        (TRAY_NAME, &shared.tray_allowed),
    ] {
        if !allowed.load(Ordering::SeqCst) {
            connection.release_name(name).await?;
            if name == TRAY_NAME {
                for id in shared.items().clear() {
                    shared.tell(Event::ItemGone(id));
                }
            }
            continue;
        }
        // Without a flag: neither replaced nor replacing, but waiting.
        let asked = connection.request_name_with_flags(name, BitFlags::empty());
        match asked.await {
            Ok(zbus::fdo::RequestNameReply::InQueue) => {
                tracing::warn!(
                    "another program of the guest is {name}; its host hears nothing of it"
                );
            }
            Ok(_) if name == TRAY_NAME => watcher::announce(&connection).await?,
            Ok(_) => {}
            Err(zbus::Error::NameTaken) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
