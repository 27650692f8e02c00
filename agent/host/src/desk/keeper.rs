//! The thread that keeps a presenter running and hears what it tells.
use super::state::{Shared, State, remember};
use crate::event::{Event, Said};
use crate::notice::Notice;
use crate::presenter::{Command, Events, Presenter};
use crate::services::Services;
use crate::{Error, Result};
use medley_session::Budget;
use medley_wire::limits::APPS;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// A guest whose agent or machine is being started again is looked for so often.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// A presenter that ended in good order has lived at least so long, or its end costs as any other does: a guest
/// could say farewell for ever.
const LIVED: Duration = Duration::from_secs(10);

/// Keeps a presenter running.
pub(super) struct Keeper {
    command: Command,
    services: Services,
    shared: Arc<Shared>,
    budget: Budget,
    restarts: u32,
}

/// What becomes of a presenter that ended.
enum Next {
    Again(Duration),
    Over(String),
}

impl Keeper {
    pub fn new(command: Command, services: Services, shared: Arc<Shared>) -> Self {
        Self {
            command,
            services,
            shared,
            budget: Budget::new(8, Duration::from_secs(60), Duration::from_millis(100)),
            restarts: 0,
        }
    }

    /// Starts the first, tells how that went, and goes on until everything ends.
    pub fn run(mut self, tell: Sender<Result<()>>) {
        let mut next = match self.start() {
            Ok(first) => {
                let _ = tell.send(Ok(()));
                Some(first)
            }
            Err(error) => return drop(tell.send(Err(error))),
        };
        while let Some((presenter, mut events)) = next.take() {
            let (begun, line) = (Instant::now(), presenter.line().clone());
            if !self.change(|state| state.begin(presenter)) {
                return;
            }
            self.services.begin(line);
            let mut last = None;
            while let Some(said) = events.next() {
                match said {
                    Said::Here(Event::Ended { code, words }) => last = Some((code, words)),
                    Said::Here(event) => self.hear(event),
                    Said::Service(event) => self.serve(event),
                }
            }
            self.services.lost();
            let mut asked = false;
            let mut presenter = None;
            let goes_on = self.change(|state| {
                state.ready = false;
                asked = state.quitting;
                presenter = state.presenter.take();
            });
            // Not under the lock: it is waited for.
            drop(presenter);
            if !goes_on {
                return;
            }
            let settled = asked || begun.elapsed() >= LIVED;
            let pause = match self.judge(last, settled) {
                Next::Again(pause) => pause,
                Next::Over(why) => return self.give_up(why),
            };
            if !self.pause(pause) {
                return;
            }
            self.restarts += 1;
            match self.start() {
                Ok(started) => next = Some(started),
                Err(error) => return self.give_up(error.to_string()),
            }
        }
    }

    fn start(&self) -> Result<(Presenter, Events), Error> {
        let locked = self.shared.lock().wants_lock;
        self.command.start(locked, &self.shared.policy.allowed())
    }

    /// Changes the state; `false` if everything shall end.
    fn change(&self, change: impl FnOnce(&mut State)) -> bool {
        let mut state = self.shared.lock();
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
        let state = self.shared.lock();
        let goes_on = |state: &mut State| !state.ending;
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, pause, goes_on);
        !waited.unwrap_or_else(PoisonError::into_inner).0.ending
    }

    fn say(&self, code: &'static str, words: String) {
        self.shared.teller.say(Notice::new(code, words));
    }

    /// Whether to start another presenter, by the exit code of the last: 0 it was told to end, or the guest
    /// said farewell or its machine is gone, 4 a socket is not there yet. A presenter that was killed said
    /// nothing. `settled` is one that was told to end, or has lived for a while.
    fn judge(&mut self, last: Option<(i32, String)>, settled: bool) -> Next {
        let (code, words) = match last {
            Some((4, _)) => return Next::Again(LOOK_AGAIN),
            Some((0, _)) if settled => return Next::Again(LOOK_AGAIN),
            Some((0, _)) => (0, "the guest left at once".to_owned()),
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

    /// Something of the services.
    fn serve(&mut self, event: medley_services::Event) {
        if let medley_services::Event::Given { file, refused } = event {
            self.change(|state| remember(&mut state.given, (file, refused)));
        } else {
            // Somebody may just have locked it: the presenter has perhaps not heard.
            let locked = self.shared.lock().wants_lock;
            self.services.set_locked(locked);
            self.services.hear(event);
        }
    }

    /// Something of windows and apps.
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
            Event::UnlockAsked => {
                self.say(
                    "unlock-asked",
                    "somebody at the screen wants the windows back: medley unlock DIR".into(),
                );
            }
            _ => {}
        }
        let mut locked = false;
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
            Event::App(listed)
                if state.apps.len() < APPS as usize || state.apps.contains_key(&listed.app) =>
            {
                let (id, app) = listed.judged();
                state.said.insert(id);
                let before = state.apps.insert(id, app);
                state.edition += u64::from(before.as_ref() != state.apps.get(&id));
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
                // Somebody pressed the chord; but who has asked for an unlock since will have it.
                if state.lock_order != Some(false) {
                    state.wish_lock(true);
                    state.lock_order = None;
                }
                locked = true;
            }
            Event::Unlocked => {
                state.locked = false;
                if state.lock_order != Some(true) {
                    state.wish_lock(false);
                    state.lock_order = None;
                }
            }
            _ => {}
        });
        if locked {
            self.services.set_locked(true);
        }
    }
}
