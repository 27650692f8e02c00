//! The control channel: apps and launches, monitors, keymap, health, sleep.
use crate::apps::{App, Apps, exec, icon, launch};
use crate::channel::Say;
use crate::handover::{Files, Inbox};
use crate::screen::Screen;
use crate::settings::Settings;
use crate::{health, keymap, monitors};
use anyhow::Result;
use medley_wire::control::{self, Categories, FromGuest, FromHost, Outcome, Progress};
use medley_wire::{AppId, List, Text, Untrusted, bulk};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is said on the control channel.
pub type Control<'o> = Say<'o, FromGuest<'static>>;

/// Bytes that may wait in the bulk channel while icons are added.
const ICONS_WAITING: usize = 1 << 20;

/// Launches that wait for their files at once.
const LAUNCHES: usize = 64;

/// A launch that the host wants.
#[derive(Debug)]
struct Wanted {
    request: u32,
    app: AppId,
    action: u8,
    /// Nothing, if one of them is no text.
    addresses: Option<Vec<String>>,
    files: Vec<u32>,
}

/// What the control channel acts upon.
#[derive(Debug)]
pub struct Services {
    /// The guest's apps.
    pub apps: Apps,
    /// Apps as the host knows them, once it has asked.
    listed: Option<BTreeMap<AppId, App>>,
    /// Apps whose icons have not been sent, and the side that is wanted.
    icons: VecDeque<AppId>,
    icon_side: u32,
    /// Launches that have not begun, for files that they need are still on their way.
    launches: VecDeque<Wanted>,
    settings: Settings,
    display: String,
    agent: PathBuf,
    sets_clock: bool,
}

impl Services {
    /// Services of an agent on that display.
    ///
    /// # Errors
    /// The agent does not know its own program.
    pub fn new(display: String, sets_clock: bool) -> Result<Self> {
        Ok(Self {
            apps: Apps::new(),
            listed: None,
            icons: VecDeque::new(),
            icon_side: 48,
            launches: VecDeque::new(),
            settings: Settings::default(),
            display,
            agent: std::env::current_exe()?,
            sets_clock,
        })
    }

    /// The channel is open: says how far the guest has come.
    pub fn opened(&mut self, say: &mut Control<'_>) {
        for (progress, words) in [
            (Progress::Session, "the agent runs in a session"),
            (Progress::Display, "windows can be shown"),
            (Progress::Apps, "apps can be launched"),
        ] {
            say.say(control::Stage {
                progress,
                words: Untrusted::claim(Text::cut(words)),
            });
        }
    }

    /// The channel is gone.
    pub fn lost(&mut self) {
        self.listed = None;
        self.icons.clear();
        self.launches.clear();
        self.apps.index.next_connection();
    }

    /// The agent's own program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.agent
    }

    /// Does what one message says.
    ///
    /// # Errors
    /// The display is gone.
    pub fn host_says(
        &mut self,
        message: FromHost<'_>,
        screen: &mut Screen,
        say: &mut Control<'_>,
    ) -> Result<()> {
        match message {
            FromHost::Bye(bye) => {
                tracing::info!(reason = ?bye.reason, words = %bye.words.display(), "the host says goodbye");
            }
            FromHost::Heartbeat(beat) => {
                say.say(health::health(beat.sequence, screen.display.errors));
            }
            FromHost::Settings(settings) => self.settings(&settings, say),
            FromHost::Monitors(m) => self.monitors(&m.monitors, screen)?,
            FromHost::Keymap(map) => match keymap::load(&self.display, &map) {
                Ok(()) => {
                    let (keyboard, display) = screen.keyboard();
                    keyboard.map_changed(display)?;
                    keyboard.keep_quiet(display)?;
                }
                Err(error) => tracing::warn!("the guest keeps its keymap: {error:#}"),
            },
            FromHost::ListApps(list) => {
                self.icon_side = list.icons.width().max(list.icons.height());
                self.apps.scan();
                screen.set_apps(Rc::clone(&self.apps.index));
                for (id, app) in &self.apps.all {
                    tell_app(*id, app, say);
                }
                say.say(control::AppsEnd {
                    generation: list.generation,
                    count: u16::try_from(self.apps.all.len()).unwrap_or(u16::MAX),
                });
                self.icons = self.apps.all.keys().copied().collect();
                self.listed = Some(self.apps.all.clone());
            }
            FromHost::Launch(launch) => self.want(&launch, say),
            FromHost::Sleep(sleep) => {
                screen.lost_keys()?;
                say.say(control::Ready {
                    sequence: sleep.sequence,
                });
            }
            FromHost::Clock(clock) => {
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                let before = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
                if self.sets_clock {
                    set_clock(clock.now);
                }
                say.say(control::ClockRead {
                    sequence: clock.sequence,
                    now: before,
                });
            }
            // Hellos are dealt with below; the rest is for the clipboard and for what is handed over.
            FromHost::Hello(_)
            | FromHost::Awake(_)
            | FromHost::ClipboardOffer(_)
            | FromHost::ClipboardRequest(_)
            | FromHost::FileOffer(_)
            | FromHost::Answer(_)
            | FromHost::Update(_)
            | FromHost::NoteAnswer(_)
            | FromHost::TrayClick(_)
            | FromHost::TrayChoice(_) => {}
        }
        Ok(())
    }

    fn settings(&mut self, settings: &control::Settings<'_>, say: &mut Control<'_>) {
        if let Some(locale) = settings.locale.as_str() {
            self.apps.set_locale(locale);
            self.refresh(say);
        }
    }

    fn monitors(&mut self, all: &[control::Monitor], screen: &mut Screen) -> Result<()> {
        if all.is_empty() {
            return Ok(());
        }
        match monitors::mirror(&screen.display, all) {
            Ok(true) => {
                if let Some(work) = monitors::work_area(all) {
                    screen.set_work_area(work)?;
                }
            }
            Ok(false) => {}
            Err(error) => tracing::warn!("{error:#}"),
        }
        self.settings
            .set_dpi(&mut screen.display, monitors::dpi(all))
    }

    fn want(&mut self, launch: &control::Launch<'_>, say: &mut Control<'_>) {
        if self.launches.len() >= LAUNCHES {
            say.say(control::Launched {
                request: launch.request,
                outcome: Outcome::Refused,
                words: Untrusted::claim(Text::cut("too many others wait for their files")),
            });
            return;
        }
        let addresses = launch.arguments.iter();
        self.launches.push_back(Wanted {
            request: launch.request,
            app: launch.app,
            action: launch.action,
            addresses: addresses.map(|a| a.as_str().map(str::to_owned)).collect(),
            files: launch.files.to_vec(),
        });
    }

    /// Launches what waits for no file any more. The host may ask for a launch when it has sent its files, and
    /// the word comes before they do, over another channel.
    pub fn launch(&mut self, inbox: &Inbox, say: &mut Control<'_>) {
        for wanted in std::mem::take(&mut self.launches) {
            let (outcome, words) = match inbox.files(&wanted.files) {
                Files::Coming => {
                    self.launches.push_back(wanted);
                    continue;
                }
                Files::Missing => (
                    Outcome::Refused,
                    "a file that it should open is not here".to_owned(),
                ),
                Files::Here(files) => self.launch_with(&wanted, &files),
            };
            tracing::info!(app = %wanted.app, ?outcome, "launched");
            say.say(control::Launched {
                request: wanted.request,
                outcome,
                words: Untrusted::claim(Text::cut(&words)),
            });
        }
    }

    fn launch_with(&self, wanted: &Wanted, files: &[PathBuf]) -> (Outcome, String) {
        let Some(app) = self.apps.all.get(&wanted.app) else {
            return (Outcome::Unknown, String::new());
        };
        let Some(addresses) = &wanted.addresses else {
            return (Outcome::Refused, "an address is no text".to_owned());
        };
        let files: Vec<String> = files.iter().map(|path| exec::address_of(path)).collect();
        let addresses: Vec<&str> = addresses.iter().chain(&files).map(String::as_str).collect();
        launch::launch(
            app,
            &self.apps.index,
            &launch::Launch {
                request: wanted.request,
                app: wanted.app,
                action: wanted.action,
                addresses: &addresses,
                agent: &self.agent,
                display: &self.display,
            },
        )
    }

    /// Looks for apps again, and tells the host what is new, other or gone.
    pub fn refresh(&mut self, say: &mut Control<'_>) {
        self.apps.scan();
        let Some(listed) = &mut self.listed else {
            return;
        };
        for (id, app) in &self.apps.all {
            if listed.get(id) != Some(app) {
                tell_app(*id, app, say);
                self.icons.push_back(*id);
            }
        }
        for id in listed.keys().filter(|id| !self.apps.all.contains_key(id)) {
            say.say(control::AppGone { id: *id });
        }
        listed.clone_from(&self.apps.all);
    }

    /// Sends icons, as many as the channel takes at once.
    pub fn send_icons(&mut self, say: &mut Say<'_, bulk::FromGuest<'static>>) {
        while say.is_open() && say.queued() < ICONS_WAITING {
            let Some(id) = self.icons.pop_front() else {
                break;
            };
            let icon = self.apps.all.get(&id).and_then(|app| {
                let name = app.entry.icon.as_ref()?;
                let path = icon::find(self.apps.folders(), name, self.icon_side)?;
                icon::load(&path, self.icon_side)
            });
            if let Some(picture) = icon.as_ref().and_then(icon::Icon::picture) {
                say.say(bulk::Icon {
                    owner: bulk::Owner::App(id),
                    picture,
                });
            }
        }
    }
}

fn tell_app(id: AppId, app: &App, say: &mut Control<'_>) {
    let entry = &app.entry;
    let (schemes, types): (Vec<&str>, Vec<&str>) = entry
        .types
        .iter()
        .map(String::as_str)
        .partition(|kind| kind.starts_with("x-scheme-handler/"));
    let schemes = schemes
        .iter()
        .filter_map(|kind| Text::whole(kind.strip_prefix("x-scheme-handler/")?))
        .take(medley_wire::limits::SCHEMES)
        .map(Untrusted::claim)
        .collect();
    let types = types
        .iter()
        .filter_map(|kind| Text::whole(kind))
        .take(medley_wire::limits::MIME_TYPES)
        .map(Untrusted::claim)
        .collect();
    let actions = entry
        .actions
        .iter()
        .zip(1_u8..)
        .take(medley_wire::limits::ACTIONS);
    let (categories, folder) = place_of(&entry.categories);
    say.say(control::App {
        id,
        categories,
        name: Untrusted::claim(Text::cut(&entry.name)),
        folder: Untrusted::claim(Text::cut(folder)),
        comment: Untrusted::claim(Text::cut(&entry.comment)),
        keywords: Untrusted::claim(Text::cut(&entry.keywords.join(","))),
        types: List::new(types),
        schemes: List::new(schemes),
        actions: List::new(
            actions
                .map(|((name, _), number)| control::Action {
                    number,
                    name: Untrusted::claim(Text::cut(name)),
                })
                .collect(),
        ),
    });
}

/// The main categories of the menu among an app's, and the folder of the first of them.
fn place_of(categories: &[String]) -> (Categories, &'static str) {
    let table = [
        ("AudioVideo", Categories::MEDIA, "Multimedia"),
        ("Audio", Categories::MEDIA, "Multimedia"),
        ("Video", Categories::MEDIA, "Multimedia"),
        ("Development", Categories::DEVELOPMENT, "Development"),
        ("Education", Categories::EDUCATION, "Education"),
        ("Game", Categories::GAME, "Games"),
        ("Graphics", Categories::GRAPHICS, "Graphics"),
        ("Network", Categories::NETWORK, "Internet"),
        ("Office", Categories::OFFICE, "Office"),
        ("Science", Categories::SCIENCE, "Science"),
        ("Settings", Categories::SETTINGS, "Settings"),
        ("System", Categories::SYSTEM, "System"),
        ("Utility", Categories::UTILITY, "Accessories"),
    ];
    let mut all = Categories::NONE;
    let mut folder = "";
    for category in categories {
        if let Some((_, bit, name)) = table.iter().find(|(word, ..)| word == category) {
            all = all.with(*bit);
            if folder.is_empty() {
                folder = name;
            }
        }
    }
    (all, folder)
}

fn set_clock(nanoseconds: i64) {
    use nix::sys::time::TimeSpec;
    use nix::time::{ClockId, clock_settime};
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let rest = nanoseconds.rem_euclid(1_000_000_000);
    if let Err(errno) = clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, rest)) {
        tracing::warn!(
            "cannot set the guest's clock ({errno}); the agent needs CAP_SYS_TIME for it"
        );
    }
}
