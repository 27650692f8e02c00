//! How things stand, for the thread that hears a presenter and for those that ask.
use crate::app::App;
use crate::notice::Teller;
use crate::policy::ServicesPolicy;
use crate::presenter::Presenter;
use medley_services::order::Refusal;
use medley_wire::AppId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Launches and files whose outcome nobody has asked for yet.
const REMEMBERED: usize = 64;

/// How things stand.
#[derive(Debug, Default)]
pub(super) struct State {
    pub presenter: Option<Presenter>,
    /// Counts presenters.
    pub generation: u64,
    /// The presenter was told to end, and is to be followed by another.
    pub quitting: bool,
    /// Launches that this presenter was told, and those that it has given numbers: first come, first served.
    pub told: usize,
    pub requests: Vec<u32>,
    pub apps: BTreeMap<AppId, App>,
    /// Those that were said since the list was last whole: what is not among them then is gone.
    pub said: BTreeSet<AppId>,
    /// Changes with every change of the apps.
    pub edition: u64,
    /// The list of apps was whole once.
    pub listed: bool,
    pub launched: VecDeque<(u32, Result<(), String>)>,
    /// Launches whose first window is there.
    pub shown: VecDeque<u32>,
    /// Numbers files that are given.
    pub files: u32,
    /// What became of them.
    pub given: VecDeque<(u32, Option<Refusal>)>,
    pub windows: u32,
    pub ready: bool,
    /// This presenter shows nothing.
    pub locked: bool,
    /// No presenter shall show anything. Changed by [`State::wish_lock`] alone.
    pub wants_lock: bool,
    /// The file that is there meanwhile, for windows that no presenter shows.
    pub mark: Option<PathBuf>,
    /// What the presenter was told last, and has not said that it has done: to lock, or to unlock.
    pub lock_order: Option<bool>,
    /// Nobody shows windows any more, and why.
    pub over: Option<String>,
    /// It shall end.
    pub ending: bool,
}

impl State {
    /// Another presenter: it knows nothing of what the last one was told.
    pub fn begin(&mut self, presenter: Presenter) {
        self.generation += 1;
        self.quitting = false;
        self.told = 0;
        self.requests.clear();
        self.said.clear();
        self.locked = false;
        self.lock_order = None;
        self.launched.clear();
        self.shown.clear();
        self.given.clear();
        self.windows = 0;
        // Somebody may have locked it while this one was being started.
        if self.wants_lock {
            presenter.line().tell("lock");
        }
        self.presenter = Some(presenter);
    }

    /// From now on nothing shall be shown, or everything again: said to whoever looks for the mark, too.
    pub fn wish_lock(&mut self, locked: bool) {
        self.wants_lock = locked;
        let Some(mark) = &self.mark else { return };
        let made = match locked {
            true => File::create(mark).map(drop),
            false => fs::remove_file(mark),
        };
        match made {
            Err(error) if error.kind() != io::ErrorKind::NotFound || locked => {
                tracing::error!(%error, mark = %mark.display(), locked, "the machine's whole screen");
            }
            _ => {}
        }
    }
}

/// Adds to what nobody may ever ask for.
pub(super) fn remember<T>(list: &mut VecDeque<T>, value: T) {
    if list.len() == REMEMBERED {
        list.pop_front();
    }
    list.push_back(value);
}

/// What the threads of a desk share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(super) changed: Condvar,
    pub(super) policy: ServicesPolicy,
    pub(super) teller: Teller,
}

impl Shared {
    pub(super) fn new(policy: ServicesPolicy, teller: Teller) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            policy,
            teller,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
