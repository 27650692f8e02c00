//! Keeps one presenter running for a session, and knows what it told: the guest's apps, launches, the lock.
use crate::app::App;
use crate::event::Event;
use crate::menu::{Menu, Published};
use crate::presenter::{Command, Events, Presenter};
use crate::{Error, Result};
use medley_session::Budget;
use medley_wire::AppId;
use medley_wire::limits::APPS;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A guest whose agent or machine is being started again is looked for so often.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// A menu is written anew at most so often: a guest can rename its apps as often as it likes.
const MENU_PACE: Duration = Duration::from_secs(2);
/// One notice of a kind in this time; the others are left out.
const NOTICE_PACE: Duration = Duration::from_secs(5);
/// Launches whose outcome nobody has asked for yet.
const REMEMBERED: usize = 64;

/// Something that whoever runs the session may want to know. The words are for people, the code is stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `windows-ready`, `windows-restarted`, `windows-violation`, `windows-gave-up`, `windows-refused`.
    pub code: &'static str,
    /// In words.
    pub words: String,
}

/// How things stand.
#[derive(Debug, Default)]
struct State {
    presenter: Option<Presenter>,
    /// Counts presenters.
    generation: u64,
    /// Launches that this presenter was told, and those that it has given numbers: first come, first served.
    told: usize,
    requests: Vec<u32>,
    apps: BTreeMap<AppId, String>,
    /// Those that were said since the list was last whole: what is not among them then is gone.
    said: BTreeSet<AppId>,
    /// Changes with every change of the apps.
    edition: u64,
    /// The list of apps was whole once.
    listed: bool,
    launched: VecDeque<(u32, Result<(), String>)>,
    /// Launches whose first window is there.
    shown: VecDeque<u32>,
    windows: u32,
    ready: bool,
    /// This presenter shows nothing.
    locked: bool,
    /// No presenter shall show anything.
    wants_lock: bool,
    /// Nobody shows windows any more, and why.
    over: Option<String>,
    /// It shall end.
    ending: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for Presenter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "presenter {}", self.pid())
    }
}

/// The windows of a session. Dropping it takes them off the screen, and its apps out of the menu.
#[derive(Debug)]
pub struct Desk {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A desk for those who only ask.
#[derive(Clone, Debug)]
pub(crate) struct Counter(Arc<Shared>);

impl Desk {
    /// Starts a presenter and keeps one running. What happens by itself is told to `notices`.
    ///
    /// # Errors
    /// The first presenter cannot be started.
    pub fn open(command: Command, notices: SyncSender<Notice>) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let first = command.start(false)?;
        let keeper = Keeper {
            command,
            notices,
            shared: shared.clone(),
            budget: Budget::new(8, Duration::from_secs(60), Duration::from_millis(100)),
            restarts: 0,
            told: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new()
            .name("windows".into())
            .spawn(move || keeper.run(first))
            .map_err(Error::system("cannot start a thread for windows"))?;
        Ok(Self {
            shared,
            threads: vec![thread],
        })
    }

    /// Keeps the published ones of the guest's apps in the desktop's menu, for as long as the desk is there.
    ///
    /// # Errors
    /// There can be no thread for it.
    pub fn publish(&mut self, menu: Menu, title: String, which: Published) -> Result<()> {
        let counter = self.counter();
        let keep = move || {
            let mut edition = None;
            while let Some((now, mut apps)) = counter.apps_after(edition) {
                edition = Some(now);
                apps.retain(|app| which.has(&app.name));
                if let Err(error) = menu.publish(&title, &apps) {
                    tracing::warn!(%error, "the menu does not show the guest's apps");
                }
                counter.rest(MENU_PACE);
            }
            if let Err(error) = menu.clear() {
                tracing::warn!(%error, "the menu still shows the guest's apps");
            }
        };
        let thread = std::thread::Builder::new().name("menu".into()).spawn(keep);
        let failed = Error::system("cannot start a thread for the menu");
        self.threads.push(thread.map_err(failed)?);
        Ok(())
    }

    /// Connects to the guest anew: for a machine that woke. It was saved with its ports connected and does not
    /// tell its guest that somebody else is behind them, unless they are left while it runs.
    pub fn renew(&self) {
        if let Some(presenter) = &mut self.counter().lock().presenter {
            presenter.tell("quit");
        }
    }

    pub(crate) fn counter(&self) -> Counter {
        Counter(self.shared.clone())
    }

    /// The process that shows windows now.
    #[must_use]
    pub fn presenter(&self) -> Option<u32> {
        self.counter().lock().presenter.as_ref().map(Presenter::pid)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        {
            let counter = self.counter();
            let mut state = counter.lock();
            state.ending = true;
            state.presenter = None;
        }
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that keeps windows has panicked");
            }
        }
    }
}

impl Counter {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something holds, for as long as there is a chance that it will.
    fn until<T>(
        &self,
        limit: Duration,
        what: &str,
        mut holds: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, String> {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(value) = holds(&mut state) {
                return Ok(value);
            }
            if let Some(why) = &state.over {
                return Err(why.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ending {
                return Err(format!("{what} within {limit:?}"));
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The guest's apps by name, and the edition of that list.
    pub fn apps(&self, limit: Duration) -> Result<(u64, Vec<App>), String> {
        self.until(limit, "the guest has not said which apps it has", |state| {
            state.listed.then(|| {
                let mut apps: Vec<App> = state.apps.iter().map(app).collect();
                apps.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
                (state.edition, apps)
            })
        })
    }

    /// Waits until the apps are no longer those of this edition; nothing when there will be no others.
    pub fn apps_after(&self, edition: Option<u64>) -> Option<(u64, Vec<App>)> {
        let mut state = self.lock();
        loop {
            if state.ending || state.over.is_some() {
                return None;
            }
            if state.listed && edition != Some(state.edition) {
                return Some((state.edition, state.apps.iter().map(app).collect()));
            }
            let waited = self.0.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits, unless everything ends.
    fn rest(&self, pause: Duration) {
        let state = self.lock();
        let goes_on = |state: &mut State| !state.ending && state.over.is_none();
        drop(self.0.changed.wait_timeout_while(state, pause, goes_on));
    }

    /// Launches an app by its id or, where that is one app's alone, its name. Returns when it has been
    /// started or, if that is wanted, when its first window is there.
    pub fn run(&self, wanted: &str, window: bool, limit: Duration) -> Result<App, String> {
        let begun = Instant::now();
        let (_, apps) = self.apps(limit)?;
        let app = find(&apps, wanted)?.clone();
        // A presenter that ends before the guest has answered takes the question with it.
        let (generation, request, outcome) = loop {
            let left = limit.saturating_sub(begun.elapsed());
            let (generation, place) = self.tell_launch(&app, left)?;
            let words = "the guest has not started it";
            let outcome = self.until(left, words, |state| {
                if state.generation != generation {
                    return Some(None);
                }
                let request = state.requests.get(place)?;
                let at = state.launched.iter().position(|(id, _)| id == request)?;
                Some(state.launched.remove(at))
            })?;
            if let Some((request, outcome)) = outcome {
                break (generation, request, outcome);
            }
        };
        outcome?;
        if window {
            let left = limit.saturating_sub(begun.elapsed());
            self.until(left, "it has shown no window", |state| {
                // Another presenter shows all windows there are.
                if state.generation != generation {
                    return Some(());
                }
                let at = state.shown.iter().position(|id| *id == request)?;
                state.shown.remove(at).map(drop)
            })?;
        }
        Ok(app)
    }

    /// Tells a presenter to launch an app, as soon as there is one; which presenter, and
    /// its place among that one's launches.
    fn tell_launch(&self, app: &App, limit: Duration) -> Result<(u64, usize), String> {
        self.until(limit, "the windows are not back", |state| {
            state
                .presenter
                .as_mut()?
                .tell(&format!("launch {}", app.id));
            state.told += 1;
            Some((state.generation, state.told - 1))
        })
    }

    /// Takes every guest pixel off the screen, or shows them again.
    pub fn set_locked(&self, locked: bool, limit: Duration) -> Result<(), String> {
        {
            let mut state = self.lock();
            // Also those that come after: a guest can end its presenter whenever it likes.
            state.wants_lock = locked;
            if let Some(presenter) = &mut state.presenter {
                presenter.tell(if locked { "lock" } else { "unlock" });
            }
        }
        self.until(limit, "the windows do not obey", |state| {
            // Without a presenter nothing is shown.
            let obeyed = state.locked == locked || (locked && state.presenter.is_none());
            obeyed.then_some(())
        })
    }

    /// Windows on the screen, and whether they are locked.
    pub fn status(&self) -> (bool, u32, bool) {
        let state = self.lock();
        (state.ready, state.windows, state.locked || state.wants_lock)
    }
}

fn app((id, name): (&AppId, &String)) -> App {
    App {
        id: id.to_string(),
        name: name.clone(),
    }
}

/// The app that somebody means.
fn find<'a>(apps: &'a [App], wanted: &str) -> Result<&'a App, String> {
    if let Some(app) = apps.iter().find(|app| app.id == wanted) {
        return Ok(app);
    }
    let lower = wanted.to_lowercase();
    let whole: Vec<_> = apps
        .iter()
        .filter(|app| app.name.to_lowercase() == lower)
        .collect();
    let begun = || {
        apps.iter()
            .filter(|app| app.name.to_lowercase().starts_with(&lower))
            .collect()
    };
    let found: Vec<_> = if whole.is_empty() { begun() } else { whole };
    match found[..] {
        [app] => Ok(app),
        [] => Err(format!(
            "the guest has no app {wanted:?}; `medley apps` lists them"
        )),
        _ => Err(format!(
            "{wanted:?} may be {} apps; name one by its id",
            found.len()
        )),
    }
}

/// The thread that keeps a presenter running.
struct Keeper {
    command: Command,
    notices: SyncSender<Notice>,
    shared: Arc<Shared>,
    budget: Budget,
    restarts: u32,
    /// When something of a kind was last told.
    told: BTreeMap<&'static str, Instant>,
}

/// What becomes of a presenter that ended.
enum Next {
    Again(Duration),
    Over(String),
}

impl Keeper {
    fn run(mut self, first: (Presenter, Events)) {
        let mut next = Some(first);
        while let Some((presenter, mut events)) = next.take() {
            if !self.change(|state| {
                state.generation += 1;
                state.told = 0;
                state.requests.clear();
                state.said.clear();
                state.locked = false;
                state.launched.clear();
                state.shown.clear();
                state.windows = 0;
                state.presenter = Some(presenter);
            }) {
                return;
            }
            let mut last = None;
            while let Some(event) = events.next() {
                if let Event::Ended { code, words } = event {
                    last = Some((code, words));
                } else {
                    self.hear(event);
                }
            }
            self.change(|state| {
                state.ready = false;
                state.presenter = None;
            });
            let pause = match self.judge(last) {
                Next::Again(pause) => pause,
                Next::Over(why) => return self.give_up(why),
            };
            if !self.pause(pause) {
                return;
            }
            self.restarts += 1;
            let locked = self.wants_lock();
            match self.command.start(locked) {
                Ok(started) => next = Some(started),
                Err(error) => return self.give_up(error.to_string()),
            }
        }
    }

    /// Changes the state; `false` if everything shall end.
    fn change(&self, change: impl FnOnce(&mut State)) -> bool {
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if state.ending {
            return false;
        }
        change(&mut state);
        drop(state);
        self.shared.changed.notify_all();
        true
    }

    /// Waits; `false` if everything shall end meanwhile.
    fn pause(&self, pause: Duration) -> bool {
        let state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, pause, |state| !state.ending);
        !waited.unwrap_or_else(PoisonError::into_inner).0.ending
    }

    fn wants_lock(&self) -> bool {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner).wants_lock
    }

    /// Tells of something, unless the like was told a moment ago: a guest must not make somebody listen.
    fn say(&mut self, code: &'static str, words: String) {
        let now = Instant::now();
        let last = self.told.insert(code, now);
        if last.is_some_and(|last| now.duration_since(last) < NOTICE_PACE) {
            tracing::debug!(code, words, "left out");
            return;
        }
        // Who has stopped listening does not want to know.
        let _ = self.notices.try_send(Notice { code, words });
    }

    /// Whether to start another presenter, by the exit code of the last: 0 the guest said farewell or its
    /// machine is gone, 4 a socket is not there yet. A presenter that was killed said nothing.
    fn judge(&mut self, last: Option<(i32, String)>) -> Next {
        let (code, words) = match last {
            Some((0 | 4, _)) => return Next::Again(LOOK_AGAIN),
            Some((code @ (2 | 7 | 8), words)) => {
                return Next::Over(format!("{words} (presenter's exit code {code})"));
            }
            Some(last) => last,
            None => (-1, "it was killed".to_owned()),
        };
        match self.budget.spend(Instant::now()) {
            Some(pause) => {
                // A guest must have the time to see that its connection ended.
                let pause = pause.max(LOOK_AGAIN);
                self.say(
                    "windows-restarted",
                    format!("the presenter ended ({words}) and is started again"),
                );
                Next::Again(pause)
            }
            None => Next::Over(format!(
                "the presenter ended too often, at last with code {code}: {words}"
            )),
        }
    }

    fn give_up(&mut self, why: String) {
        self.say("windows-gave-up", why.clone());
        self.change(|state| state.over = Some(format!("there are no windows any more: {why}")));
    }

    fn hear(&mut self, event: Event) {
        match &event {
            Event::Ready if self.restarts == 0 => {
                self.say(
                    "windows-ready",
                    "the presenter waits for the guest's agent".into(),
                );
            }
            Event::Violation { code, words } => {
                self.say(
                    "windows-violation",
                    format!("the guest broke a rule ({code}): {words}"),
                );
            }
            Event::Refused { what } => {
                self.say(
                    "windows-refused",
                    format!("the guest asked for what policy denies: {what}"),
                );
            }
            _ => {}
        }
        self.change(|state| match event {
            Event::Ready => state.ready = true,
            Event::Opened { launch } => {
                state.windows += 1;
                if launch != 0 {
                    remember(&mut state.shown, launch);
                }
            }
            Event::Closed => state.windows = state.windows.saturating_sub(1),
            Event::Whole { windows } => state.windows = windows,
            Event::App { app, name }
                if state.apps.len() < APPS as usize || state.apps.contains_key(&app) =>
            {
                state.said.insert(app);
                let before = state.apps.insert(app, name);
                state.edition += u64::from(before.as_ref() != state.apps.get(&app));
            }
            Event::AppGone { app } => {
                state.edition += u64::from(state.apps.remove(&app).is_some());
            }
            Event::Apps => {
                let before = state.apps.len();
                let said = std::mem::take(&mut state.said);
                state.apps.retain(|app, _| said.contains(app));
                state.edition += u64::from(state.apps.len() != before);
                state.listed = true;
            }
            Event::Launching { request } if state.requests.len() < state.told => {
                state.requests.push(request);
            }
            Event::Launched {
                request,
                started,
                outcome,
                words,
            } => {
                let result = if started {
                    Ok(())
                } else {
                    Err(format!("{outcome}: {words}"))
                };
                remember(&mut state.launched, (request, result));
            }
            Event::Locked => {
                state.locked = true;
                state.wants_lock = true;
            }
            Event::Unlocked => state.locked = false,
            _ => {}
        });
    }
}

fn remember<T>(list: &mut VecDeque<T>, value: T) {
    if list.len() == REMEMBERED {
        list.pop_front();
    }
    list.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::sync::mpsc::{Receiver, sync_channel};

    const EDITOR: &str = "00000000000000000000000000000001";
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A desk whose presenter is a script.
    fn desk(dir: &Path, script: &str) -> (Desk, Receiver<Notice>) {
        let program = dir.join("presenter");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let (notify, notices) = sync_channel(64);
        let socket = PathBuf::from("/none");
        let command = Command {
            program,
            workspace: "office".into(),
            gui: socket.clone(),
            control: socket.clone(),
            bulk: socket,
            pool: None,
            options: Vec::new(),
        };
        (Desk::open(command, notify).unwrap(), notices)
    }

    /// Says which apps there are, and answers launches.
    const WILLING: &str = r#"
        echo '{"event":"ready"}'
        echo '{"event":"app","app":"00000000000000000000000000000001","name":"Editor"}'
        echo '{"event":"app","app":"00000000000000000000000000000002","name":"Terminal"}'
        echo '{"event":"apps","count":2}'
        n=0
        while read -r word id; do
            case $word in
            launch) n=$((n+7)); echo "{\"event\":\"launching\",\"request\":$n}"
                    echo "{\"event\":\"launched\",\"request\":$n,\"started\":true}"
                    echo "{\"event\":\"opened\",\"launch\":$n}" ;;
            lock) echo '{"event":"locked"}' ;;
            unlock) echo '{"event":"unlocked"}' ;;
            esac
        done"#;

    #[test]
    fn apps_are_known_and_launched_by_id_or_name() {
        let dir = tempfile::tempdir().unwrap();
        let (desk, _notices) = desk(dir.path(), WILLING);
        let counter = desk.counter();
        let (_, apps) = counter.apps(PATIENCE).unwrap();
        assert_eq!(
            apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(),
            ["Editor", "Terminal"]
        );
        for wanted in [EDITOR, "editor", "edi"] {
            assert_eq!(counter.run(wanted, true, PATIENCE).unwrap().id, EDITOR);
        }
        assert!(
            counter
                .run("browser", false, PATIENCE)
                .unwrap_err()
                .contains("no app")
        );
        assert!(
            counter
                .run("", false, PATIENCE)
                .unwrap_err()
                .contains("2 apps")
        );
        counter.set_locked(true, PATIENCE).unwrap();
        assert_eq!(counter.status(), (true, 3, true));
        counter.set_locked(false, PATIENCE).unwrap();
    }

    /// A guest can end its presenter by breaking a rule.
    #[test]
    fn a_lock_outlives_the_presenter() {
        let dir = tempfile::tempdir().unwrap();
        let script =
            format!(r#"case "$*" in *--locked*) echo '{{"event":"locked"}}';; esac{WILLING}"#);
        let (desk, _notices) = desk(dir.path(), &script);
        let counter = desk.counter();
        counter.apps(PATIENCE).unwrap();
        counter.set_locked(true, PATIENCE).unwrap();
        let first = desk.presenter().unwrap();
        let pid = nix::unistd::Pid::from_raw(first.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let locked_again = |state: &mut State| {
            let now = state.presenter.as_ref().map(Presenter::pid);
            (now.is_some() && now != Some(first) && state.locked).then_some(())
        };
        counter
            .until(PATIENCE, "another one is locked", locked_again)
            .unwrap();
        assert!(counter.status().2);
        counter.set_locked(false, PATIENCE).unwrap();
        assert!(!counter.status().2);
    }

    #[test]
    fn a_presenter_that_is_killed_is_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let (desk, notices) = desk(dir.path(), WILLING);
        desk.counter().apps(PATIENCE).unwrap();
        let first = desk.presenter().unwrap();
        let pid = nix::unistd::Pid::from_raw(first.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let restarted = notices
            .iter()
            .find(|notice| notice.code == "windows-restarted");
        assert!(restarted.is_some());
        let other = |state: &mut State| {
            let now = state.presenter.as_ref().map(Presenter::pid);
            (now.is_some() && now != Some(first)).then_some(())
        };
        desk.counter()
            .until(PATIENCE, "another one is there", other)
            .unwrap();
        assert_eq!(
            desk.counter().run(EDITOR, true, PATIENCE).unwrap().name,
            "Editor"
        );
    }

    #[test]
    fn published_apps_are_in_the_menu_while_the_desk_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (mut desk, _notices) = desk(dir.path(), WILLING);
        let menu = Menu::below(dir.path(), "office", vec!["medley".into()]);
        let only = Published::Only(vec!["editor".into()]);
        desk.publish(menu, "office".into(), only).unwrap();
        let entries = || {
            let list = std::fs::read_dir(dir.path().join("applications"));
            list.into_iter()
                .flatten()
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .filter(|name| name.ends_with(".desktop"))
                .collect::<Vec<_>>()
        };
        let begun = Instant::now();
        while entries().is_empty() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let names = entries();
        assert!(
            names.len() == 1 && names[0].ends_with(&format!(".{EDITOR}.desktop")),
            "{names:?}"
        );
        drop(desk);
        assert!(entries().is_empty());
    }

    #[test]
    fn one_that_cannot_live_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"echo '{"event":"ended","code":8,"words":"no sandbox"}'"#;
        let (desk, notices) = desk(dir.path(), script);
        let notice = notices.recv_timeout(PATIENCE).unwrap();
        assert_eq!(notice.code, "windows-gave-up");
        let error = desk.counter().apps(PATIENCE).unwrap_err();
        assert!(error.contains("no sandbox"), "{error}");
    }

    #[test]
    fn the_end_is_prompt_whatever_the_presenter_does() {
        let dir = tempfile::tempdir().unwrap();
        for script in ["trap '' TERM; exec sleep 1000", WILLING, "exit 3"] {
            let (desk, _notices) = desk(dir.path(), script);
            let begun = Instant::now();
            drop(desk);
            assert!(begun.elapsed() < Duration::from_secs(5), "{script}");
        }
    }
}
