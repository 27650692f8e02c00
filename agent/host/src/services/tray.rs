//! A guest's tray items in this desktop's panel, as status notifier items. Each says in its title whose it is.
//! What changes is gathered: a panel is asked to draw anew a few times in a second at most, however often a
//! guest says something.
use super::Post;
use super::worker::{Do, Tasks, Worker};
use crate::notice::{Notice, Teller};
use ksni::blocking::{Handle, TrayMethods};
use ksni::menu::{CheckmarkItem, StandardItem, SubMenu};
use ksni::{Icon, MenuItem, OfflineReason, Status, ToolTip};
use medley_services::Order;
use medley_services::event::{Entry, Look};
use medley_services::order::Click;
use medley_wire::limits::{TRAY_ENTRIES, TRAY_ITEMS};
use std::collections::BTreeMap;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// What waits to be shown.
const WAITING: usize = 256;
/// The panel hears of changes at most so often.
const PACE: Duration = Duration::from_millis(200);
/// A bus that was not there is looked for again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Menus in menus.
const DEPTH: u8 = 8;

/// What there is to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// An item, or what has changed about it.
    Item {
        item: u32,
        look: Look,
        title: String,
    },
    /// Its picture: pixels across and down, four bytes each, alpha first.
    Icon { item: u32, side: u16, argb: Vec<u8> },
    /// Its menu.
    Menu { item: u32, entries: Vec<Entry> },
    /// It is gone.
    Gone(u32),
}

/// Shows tray items, on a thread of its own.
pub(crate) fn start(
    workspace: String,
    teller: Teller,
    post: Post,
) -> std::io::Result<Worker<Task>> {
    let panel = Panel {
        workspace,
        teller,
        post,
        items: BTreeMap::new(),
        tried: None,
    };
    Worker::start("tray", WAITING, move |tasks| panel.run(tasks))
}

/// What an item shows.
#[derive(Clone, Debug)]
struct Shown {
    id: String,
    item: u32,
    look: Look,
    title: String,
    icon: Option<Icon>,
    entries: Vec<Entry>,
    post: Post,
    teller: Teller,
}

/// An item, and where it is shown.
struct Item {
    shown: Shown,
    changed: bool,
    handle: Option<Handle<Shown>>,
}

struct Panel {
    workspace: String,
    teller: Teller,
    post: Post,
    items: BTreeMap<u32, Item>,
    /// When the bus was last not there.
    tried: Option<Instant>,
}

impl Panel {
    fn run(mut self, mut tasks: Tasks<Task>) {
        let mut drawn = Instant::now();
        loop {
            let dirty = self.items.values().any(|item| item.changed);
            let task = match dirty {
                true => tasks.next_within(self.rest(drawn)),
                false => tasks.next().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match task {
                Ok(Do::Task(task)) => self.take(task),
                Ok(Do::Clear) => self.clear(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if drawn.elapsed() >= PACE {
                self.draw();
                drawn = Instant::now();
            }
        }
        self.clear();
    }

    fn take(&mut self, task: Task) {
        match task {
            Task::Item { item, look, title } => {
                if !self.items.contains_key(&item) && self.items.len() >= TRAY_ITEMS as usize {
                    return;
                }
                let title = format!("[{}] {}", self.workspace, crate::clean::line(&title));
                let (workspace, post, teller) = (&self.workspace, &self.post, &self.teller);
                let known = self.items.entry(item).or_insert_with(|| Item {
                    shown: Shown {
                        id: format!("medley-{}-{item}", crate::clean::plain(workspace)),
                        item,
                        look,
                        title: String::new(),
                        icon: None,
                        entries: Vec::new(),
                        post: post.clone(),
                        teller: teller.clone(),
                    },
                    changed: true,
                    handle: None,
                });
                (known.shown.look, known.shown.title, known.changed) = (look, title, true);
            }
            Task::Icon { item, side, argb } => {
                let side = usize::from(side);
                let whole = side > 0
                    && side <= usize::from(medley_services::event::TRAY_SIDE)
                    && argb.len() == side * side * 4;
                if let Some(known) = self.items.get_mut(&item).filter(|_| whole) {
                    let side = i32::try_from(side).unwrap_or_default();
                    known.shown.icon = Some(Icon {
                        width: side,
                        height: side,
                        data: argb,
                    });
                    known.changed = true;
                }
            }
            Task::Menu { item, entries } => {
                if let Some(known) = self.items.get_mut(&item) {
                    (known.shown.entries, known.changed) = (judged(entries), true);
                }
            }
            Task::Gone(item) => {
                if let Some(known) = self.items.remove(&item) {
                    known.end();
                }
            }
        }
    }

    fn clear(&mut self) {
        for item in std::mem::take(&mut self.items).into_values() {
            item.end();
        }
    }

    /// How long it is until what has changed is to be drawn.
    fn rest(&self, drawn: Instant) -> Duration {
        let tried = self
            .tried
            .map(|tried| LOOK_AGAIN.saturating_sub(tried.elapsed()));
        PACE.saturating_sub(drawn.elapsed())
            .max(tried.unwrap_or_default())
    }

    /// Brings what has changed to the panel.
    fn draw(&mut self) {
        for item in self.items.values_mut().filter(|item| item.changed) {
            // The thread that showed it may have failed.
            let handle = item.handle.take().filter(|handle| !handle.is_closed());
            if let Some(handle) = handle {
                let shown = item.shown.clone();
                handle.update(|now| *now = shown);
                (item.handle, item.changed) = (Some(handle), false);
                continue;
            }
            let soon = |tried: Instant| tried.elapsed() < LOOK_AGAIN;
            if self.tried.is_some_and(soon) {
                // It stays to be drawn: the bus is looked for again.
                continue;
            }
            // A panel that comes later asks by itself.
            match item.shown.clone().assume_sni_available(true).spawn() {
                Ok(handle) => {
                    (item.handle, item.changed) = (Some(handle), false);
                    self.tried = None;
                }
                Err(error) => {
                    self.tried = Some(Instant::now());
                    unavailable(&self.teller, &error.to_string());
                }
            }
        }
    }
}

impl Item {
    fn end(self) {
        if let Some(handle) = self.handle {
            handle.shutdown().wait();
        }
    }
}

fn unavailable(teller: &Teller, why: &str) {
    let words = format!("the guest's tray items are not shown: {why}");
    teller.say(Notice::new("tray-unavailable", words));
}

/// A menu that is a tree: each entry's parent came before it, and no number comes twice.
fn judged(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.truncate(TRAY_ENTRIES);
    let mut depths = BTreeMap::from([(0, 0)]);
    entries.retain_mut(|entry| {
        let Some(depth) = depths.get(&entry.parent).map(|depth| depth + 1) else {
            return false;
        };
        if depth > DEPTH || depths.contains_key(&entry.id) {
            return false;
        }
        depths.insert(entry.id, depth);
        entry.label = crate::clean::line(&entry.label);
        true
    });
    entries
}

impl Shown {
    fn click(&self, click: Click) {
        let item = self.item;
        self.post.order(&Order::TrayClick { item, click });
    }

    /// The entries of one menu.
    fn below(&self, parent: u16) -> Vec<MenuItem<Self>> {
        let here = self.entries.iter().filter(|entry| entry.parent == parent);
        here.map(|entry| self.entry(entry)).collect()
    }

    fn entry(&self, entry: &Entry) -> MenuItem<Self> {
        if entry.separator {
            return MenuItem::Separator;
        }
        // An underscore would mark a key.
        let (label, enabled, id) = (entry.label.replace('_', "__"), entry.enabled, entry.id);
        let choose = Box::new(move |shown: &mut Self| {
            let item = shown.item;
            shown.post.order(&Order::TrayChoice { item, entry: id });
        });
        if self.entries.iter().any(|other| other.parent == id) {
            return MenuItem::SubMenu(SubMenu {
                label,
                enabled,
                submenu: self.below(id),
                ..SubMenu::default()
            });
        }
        match entry.checked {
            true => MenuItem::Checkmark(CheckmarkItem {
                label,
                enabled,
                checked: true,
                activate: choose,
                ..CheckmarkItem::default()
            }),
            false => MenuItem::Standard(StandardItem {
                label,
                enabled,
                activate: choose,
                ..StandardItem::default()
            }),
        }
    }
}

impl ksni::Tray for Shown {
    fn id(&self) -> String {
        self.id.clone()
    }

    fn title(&self) -> String {
        self.title.clone()
    }

    fn tool_tip(&self) -> ToolTip {
        ToolTip {
            title: self.title.clone(),
            ..ToolTip::default()
        }
    }

    fn status(&self) -> Status {
        match self.look {
            Look::Passive => Status::Passive,
            Look::Active => Status::Active,
            Look::Attention => Status::NeedsAttention,
        }
    }

    fn icon_pixmap(&self) -> Vec<Icon> {
        self.icon.iter().cloned().collect()
    }

    fn attention_icon_pixmap(&self) -> Vec<Icon> {
        self.icon_pixmap()
    }

    fn menu(&self) -> Vec<MenuItem<Self>> {
        self.below(0)
    }

    fn activate(&mut self, _x: i32, _y: i32) {
        self.click(Click::Main);
    }

    fn secondary_activate(&mut self, _x: i32, _y: i32) {
        self.click(Click::Middle);
    }

    fn menu_about_to_show(&mut self) {
        self.click(Click::Menu);
    }

    fn watcher_offline(&self, reason: OfflineReason) -> bool {
        let why = match reason {
            OfflineReason::Error(error) => error.to_string(),
            _ => "this desktop's panel has gone".into(),
        };
        unavailable(&self.teller, &why);
        true
    }
}
