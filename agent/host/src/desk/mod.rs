//! Keeps one presenter running for a session, and knows what it told: the guest's apps, launches, the lock.

mod counter;
mod keeper;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use counter::{Counter, Launch};

use crate::menu::{Menu, Published};
use crate::notice::{Notice, Teller};
use crate::policy::ServicesPolicy;
use crate::presenter::Command;
use crate::services::Services;
use crate::{Error, Result};
use keeper::Keeper;
use state::Shared;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A menu is written anew at most so often: a guest can rename its apps as often as it likes.
const MENU_PACE: Duration = Duration::from_secs(2);
/// A guest may take so long until it lists an app that is to start by itself.
const AUTOSTART: Duration = Duration::from_secs(3600);

/// The windows of a session. Dropping it takes them off the screen, and its apps out of the menu.
#[derive(Debug)]
pub struct Desk {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Desk {
    /// Starts a presenter and keeps one running. The guest may use the services that `policy` allows. What
    /// happens by itself is told to `notices`.
    ///
    /// # Errors
    /// The first presenter cannot be started, or the policy's inbox cannot be opened.
    pub fn open(
        command: Command,
        policy: ServicesPolicy,
        notices: SyncSender<Notice>,
    ) -> Result<Self> {
        let teller = Teller::new(notices);
        let services = Services::new(&policy, &command.workspace, teller.clone())?;
        let shared = Arc::new(Shared::new(policy, teller));
        let keeper = Keeper::new(command, services, shared.clone());
        // Presenters live as long as the thread that starts them.
        let (tell, told) = channel();
        let thread = std::thread::Builder::new()
            .name("windows".into())
            .spawn(move || keeper.run(tell))
            .map_err(Error::system("cannot start a thread for windows"))?;
        let desk = Self {
            shared,
            threads: vec![thread],
        };
        match told.recv() {
            Ok(first) => first.map(|()| desk),
            Err(_) => Err(Error::Nonsense("the thread for windows has ended".into())),
        }
    }

    /// Keeps the published ones of the guest's apps in the desktop's menu, for as long as the desk is there.
    ///
    /// # Errors
    /// There can be no thread for it.
    pub fn publish(&mut self, menu: Menu, which: Published) -> Result<()> {
        let counter = self.counter();
        let keep = move || {
            let mut edition = None;
            while let Some((now, mut apps)) = counter.apps_after(edition) {
                edition = Some(now);
                apps.retain(|app| which.has(&app.name));
                if let Err(error) = menu.publish(&apps) {
                    tracing::warn!(%error, "the menu does not show the guest's apps");
                }
                counter.rest(MENU_PACE);
            }
            if let Err(error) = menu.clear() {
                tracing::warn!(%error, "the menu still shows the guest's apps");
            }
        };
        self.spawn("menu", keep)
    }

    /// Launches these apps, by name or id, when the guest has said which it has: once, whatever happens to
    /// presenters later.
    ///
    /// # Errors
    /// There can be no thread for it.
    pub fn autostart(&mut self, apps: Vec<String>) -> Result<()> {
        let (counter, shared) = (self.counter(), self.shared.clone());
        let launch = move || {
            for app in apps {
                if let Err(why) = counter.run(&app, &Launch::default(), AUTOSTART) {
                    let words = format!("{app:?} was to start by itself, and did not: {why}");
                    shared.teller.say(Notice::new("autostart-failed", words));
                }
            }
        };
        self.spawn("autostart", launch)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(work);
        let failed = Error::system(format!("cannot start a thread for the {name}"));
        self.threads.push(thread.map_err(failed)?);
        Ok(())
    }

    /// Connects to the guest anew: for a machine that woke. It was saved with its ports connected and does not
    /// tell its guest that somebody else is behind them, unless they are left while it runs.
    pub fn renew(&self) {
        let mut state = self.shared.lock();
        state.quitting = true;
        if let Some(presenter) = &state.presenter {
            presenter.line().tell("quit");
        }
    }

    /// This file is there from now on while the guest's windows are locked, by whomever: for windows of the
    /// machine's that no presenter shows. It is not there yet.
    pub fn mark_locks(&self, mark: PathBuf) {
        let mut state = self.shared.lock();
        state.mark = Some(mark);
        // Somebody may have been quick.
        let locked = state.wants_lock;
        state.wish_lock(locked);
    }

    pub(crate) fn counter(&self) -> Counter {
        Counter(self.shared.clone())
    }

    /// The process that shows windows now.
    #[must_use]
    pub fn presenter(&self) -> Option<u32> {
        let state = self.shared.lock();
        state
            .presenter
            .as_ref()
            .map(crate::presenter::Presenter::pid)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let presenter = {
            let mut state = self.shared.lock();
            state.ending = true;
            state.presenter.take()
        };
        drop(presenter);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that keeps windows has panicked");
            }
        }
    }
}
