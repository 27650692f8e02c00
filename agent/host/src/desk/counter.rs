//! A desk for those who only ask: which apps there are, to launch one, to send a file, to lock.
use super::state::{Shared, State};
use crate::app::App;
use crate::mime;
use crate::notice::Notice;
use crate::services::gift;
use medley_services::Order;
use medley_services::order::Refusal;
use medley_wire::limits::{ARGUMENT_BYTES, ARGUMENTS, LAUNCH_FILES};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// A desk for those who only ask.
#[derive(Clone, Debug)]
pub(crate) struct Counter(pub(super) Arc<Shared>);

/// A presenter that lives takes windows away as soon as it hears that it shall.
const OBEYS: Duration = Duration::from_secs(2);
/// How long a presenter has to say what became of a file that nobody waits for any more.
const WITHDRAWN: Duration = Duration::from_secs(5);

/// How an app is launched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launch {
    /// Which of its actions; zero is the app itself.
    pub action: u8,
    /// Addresses for it to open.
    pub arguments: Vec<String>,
    /// Files of the host's for it to open: they are sent first.
    pub files: Vec<PathBuf>,
    /// Answer when its first window is there.
    pub window: bool,
}

impl Counter {
    /// Waits until something holds, for as long as there is a chance that it will.
    pub(super) fn until<T>(
        &self,
        limit: Duration,
        what: &str,
        mut holds: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, String> {
        let end = Instant::now() + limit;
        let mut state = self.0.lock();
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
                let mut apps: Vec<App> = state.apps.values().cloned().collect();
                apps.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
                (state.edition, apps)
            })
        })
    }

    /// Waits until the apps are no longer those of this edition; nothing when there will be no others.
    pub fn apps_after(&self, edition: Option<u64>) -> Option<(u64, Vec<App>)> {
        let mut state = self.0.lock();
        loop {
            if state.ending || state.over.is_some() {
                return None;
            }
            if state.listed && edition != Some(state.edition) {
                return Some((state.edition, state.apps.values().cloned().collect()));
            }
            let waited = self.0.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits, unless everything ends.
    pub fn rest(&self, pause: Duration) {
        let state = self.0.lock();
        let goes_on = |state: &mut State| !state.ending && state.over.is_none();
        drop(self.0.changed.wait_timeout_while(state, pause, goes_on));
    }

    /// Launches an app by its id or, where that is one app's alone, its name. Returns when it has been
    /// started or, if that is wanted, when its first window is there.
    pub fn run(&self, wanted: &str, how: &Launch, limit: Duration) -> Result<App, String> {
        let begun = Instant::now();
        let (_, apps) = self.apps(limit)?;
        let app = find(&apps, wanted)?.clone();
        self.launch(app, how, limit.saturating_sub(begun.elapsed()))
    }

    /// Launches whichever app of the guest's opens what it is to open.
    pub fn open(&self, how: &Launch, limit: Duration) -> Result<App, String> {
        let begun = Instant::now();
        let (_, apps) = self.apps(limit)?;
        let app = opener(&apps, how)?.clone();
        self.launch(app, how, limit.saturating_sub(begun.elapsed()))
    }

    fn launch(&self, app: App, how: &Launch, limit: Duration) -> Result<App, String> {
        let begun = Instant::now();
        let number = how.action;
        if number != 0 && !app.actions.iter().any(|action| action.number == number) {
            return Err(format!("{} has no action {number}", app.name));
        }
        if how.arguments.len() > ARGUMENTS || how.files.len() > LAUNCH_FILES {
            return Err(format!(
                "an app can be launched with {ARGUMENTS} addresses and {LAUNCH_FILES} files at most"
            ));
        }
        for argument in &how.arguments {
            if mime::scheme(argument).is_none() || argument.len() > ARGUMENT_BYTES {
                return Err(format!(
                    "{argument:?} is no address, or one that is too long"
                ));
            }
        }
        // A presenter that ends before the guest has answered takes the question with it, and the files, too.
        let (generation, request, outcome) = loop {
            let left = || limit.saturating_sub(begun.elapsed());
            let given = self.give_all(&how.files, left())?;
            let Some((generation, place)) = self.tell_launch(&app, how, given, left())? else {
                continue;
            };
            let words = "the guest has not started it";
            let outcome = self.until(left(), words, |state| {
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
        if how.window {
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

    /// Tells a presenter to launch an app, as soon as there is one; which presenter, and its place among that
    /// one's launches. Nothing if it is not the one that was given the files.
    fn tell_launch(
        &self,
        app: &App,
        how: &Launch,
        given: Option<(u64, Vec<u32>)>,
        limit: Duration,
    ) -> Result<Option<(u64, usize)>, String> {
        let plain = how.action == 0 && how.arguments.is_empty() && given.is_none();
        let (with, files) = given.unzip();
        let order = Order::Launch {
            app: app.id.clone(),
            action: how.action,
            arguments: how.arguments.clone(),
            files: files.unwrap_or_default(),
        };
        self.until(limit, "the windows are not back", |state| {
            let line = state.presenter.as_ref()?.line();
            if with.is_some_and(|with| with != state.generation) {
                return Some(None);
            }
            let told = match plain {
                true => line.tell(&format!("launch {}", app.id)),
                false => line.order(&order, None),
            };
            // One that does not hear it has ended, or will be ended.
            told.then(|| {
                state.told += 1;
                Some((state.generation, state.told - 1))
            })
        })
    }

    /// Sends files to the guest, one after the other.
    pub fn send(&self, files: &[PathBuf], limit: Duration) -> Result<(), String> {
        self.give_all(files, limit).map(drop)
    }

    /// Sends files; the presenter that has them, and their numbers. Nothing if there are none.
    fn give_all(
        &self,
        files: &[PathBuf],
        limit: Duration,
    ) -> Result<Option<(u64, Vec<u32>)>, String> {
        let begun = Instant::now();
        let mut given: Option<(u64, Vec<u32>)> = None;
        for path in files {
            let left = limit.saturating_sub(begun.elapsed());
            let (generation, number) = self.give(path, left).inspect_err(|why| {
                let words = format!("a file was not sent: {why}");
                let notice = Notice::new("file-not-given", words).with("verdict", why);
                self.0.teller.say(notice.with("path", path.display()));
            })?;
            let (with, numbers) = given.get_or_insert((generation, Vec::new()));
            if *with != generation {
                return Err("the windows were lost while files were sent; try again".into());
            }
            numbers.push(number);
        }
        Ok(given)
    }

    fn give(&self, path: &Path, limit: Duration) -> Result<(u64, u32), String> {
        let Some(policy) = &self.0.policy.files_in else {
            return Err(
                "this workspace takes no files; its policy says so (medley boot --files-in)".into(),
            );
        };
        let begun = Instant::now();
        let gift = gift::open(path, &policy.filter)?;
        let (mut file, name, size) = (Some(gift.file), gift.name, gift.size);
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(format!("it was looked at for longer than {limit:?}"));
        }
        let (generation, number) = self.until(left, "the windows are not back", |state| {
            let presenter = state.presenter.as_ref().filter(|_| state.ready)?;
            let number = state.files.wrapping_add(1).max(1);
            let order = Order::Give {
                file: number,
                name: name.clone(),
                size,
            };
            let own = file.take()?;
            // Kept, for a presenter that does not hear of it.
            file = own.try_clone().ok();
            if !presenter.line().order(&order, Some(own.into())) {
                return None;
            }
            state.files = number;
            Some((state.generation, number))
        })?;
        let mut told = |state: &mut State| {
            if state.generation != generation {
                return Some(Some(Refusal::Failed));
            }
            let at = state.given.iter().position(|(id, _)| *id == number)?;
            state.given.remove(at).map(|(_, refused)| refused)
        };
        let left = limit.saturating_sub(begun.elapsed());
        let words = "the guest has not taken the file";
        let refused = self.until(left, words, &mut told).or_else(|why| {
            // What is said of it must be so in the end: the guest may take it at this very moment.
            if let Some(presenter) = &self.0.lock().presenter {
                presenter
                    .line()
                    .order(&Order::Withdraw { file: number }, None);
            }
            match self.until(WITHDRAWN, words, &mut told) {
                Ok(None) => Ok(None),
                _ => Err(why),
            }
        })?;
        if let Some(refusal) = refused {
            let why = match refusal {
                Refusal::Policy => "its policy forbids it",
                Refusal::TooLarge => "it is too large there",
                Refusal::Kind => "it takes no such files",
                Refusal::Declined => "somebody there said no",
                Refusal::Failed => "it did not arrive whole",
            };
            return Err(format!(
                "{}: the guest has not taken it: {why}",
                path.display()
            ));
        }
        let notice = Notice::new("file-given", format!("{} was sent", path.display()))
            .with("name", &name)
            .with("size", size)
            .with("verdict", gift.verdict)
            .with("path", path.display());
        self.0.teller.record(notice);
        Ok((generation, number))
    }

    /// Takes every guest pixel off the screen, or shows them again.
    pub fn set_locked(&self, locked: bool, limit: Duration) -> Result<(), String> {
        {
            let mut state = self.0.lock();
            // Also those that come after: a guest can end its presenter whenever it likes.
            state.wish_lock(locked);
            state.lock_order = state.presenter.is_some().then_some(locked);
            if let Some(presenter) = &state.presenter {
                presenter
                    .line()
                    .tell(if locked { "lock" } else { "unlock" });
            }
        }
        let obeyed = |state: &mut State| {
            // Without a presenter nothing is shown.
            let obeyed = state.locked == locked || (locked && state.presenter.is_none());
            obeyed.then_some(())
        };
        let words = "the windows do not obey";
        if locked && self.until(limit.min(OBEYS), words, obeyed).is_err() {
            // Perhaps a guest has taken it over. The next one begins locked. One that obeyed just now stays.
            let disobedient = {
                let mut state = self.0.lock();
                if state.locked {
                    None
                } else {
                    state.presenter.take()
                }
            };
            if let Some(presenter) = disobedient {
                let words =
                    "the presenter did not take the guest's windows off the screen, and was ended";
                self.0.teller.say(Notice::new("windows-disobeyed", words));
                drop(presenter);
                self.0.changed.notify_all();
            }
        }
        self.until(limit, words, obeyed)
    }

    /// Windows on the screen, and whether they are locked.
    pub fn status(&self) -> (bool, u32, bool) {
        let state = self.0.lock();
        (state.ready, state.windows, state.locked || state.wants_lock)
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

/// The app that opens all that is to be opened: the first by name.
fn opener<'a>(apps: &'a [App], how: &Launch) -> Result<&'a App, String> {
    let schemes: Vec<_> = how.arguments.iter().map(|url| mime::scheme(url)).collect();
    let types: Vec<_> = how.files.iter().map(|path| mime::of_file(path)).collect();
    if let Some(at) = schemes.iter().position(Option::is_none) {
        return Err(format!("{:?} is no address", how.arguments[at]));
    }
    if let Some(at) = types.iter().position(Option::is_none) {
        let shown = how.files[at].display();
        return Err(format!(
            "{shown}: nobody here knows what kind of document it is; name the app: medley run"
        ));
    }
    let (schemes, types) = (schemes.into_iter().flatten(), types.into_iter().flatten());
    let (schemes, types): (Vec<_>, Vec<_>) = (schemes.collect(), types.collect());
    let opens = |app: &&App| {
        schemes.iter().all(|scheme| app.schemes.contains(scheme))
            && types.iter().all(|kind| app.types.contains(kind))
    };
    let what = || [&schemes[..], &types[..]].concat().join(", ");
    apps.iter().find(opens).ok_or_else(|| {
        let what = what();
        format!("no app of the guest's opens {what}; `medley apps --json` lists what each opens")
    })
}
