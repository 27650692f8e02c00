//! A machine's life as its monitor and its process tell it: from raw events to states and events
//! for others.

use super::process::Ended;
use super::qmp::{QmpEvent, Report};
use crate::sync::{Broadcast, lock};
use crate::{Event, Events, Exit, State, StopReason};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the monitor may lag behind the process's end.
const MONITOR_LAG: Duration = Duration::from_secs(2);

/// What is known of one machine; shared by its owner, its monitor's reader and its keeper.
#[derive(Debug)]
pub struct Life {
    now: Mutex<Now>,
    changed: Condvar,
    broadcast: Broadcast,
    /// Names of the channels, by index.
    channels: Vec<String>,
    /// Sockets to remove at the end: a QEMU that was killed leaves them behind.
    sockets: Vec<PathBuf>,
}

#[derive(Debug)]
struct Now {
    state: State,
    exit: Option<Exit>,
    monitored: bool,
    // What was asked of QEMU, to tell its own decisions from ours.
    pausing: bool,
    killing: bool,
    // The reason of its SHUTDOWN event.
    ending: Option<StopReason>,
    // What was last heard of the machine's state on its way in or out: `active`, `completed`, …
    migration: Option<String>,
}

impl Life {
    /// A machine that was just made, with its channels' names in the order of its ports, and the
    /// sockets on which its QEMU listens.
    pub fn new(channels: Vec<String>, sockets: Vec<PathBuf>) -> Life {
        let now = Now {
            state: State::Created,
            exit: None,
            monitored: false,
            pausing: false,
            killing: false,
            ending: None,
            migration: None,
        };
        Life {
            now: Mutex::new(now),
            changed: Condvar::new(),
            broadcast: Broadcast::new(),
            channels,
            sockets,
        }
    }

    /// The state as last heard of.
    pub fn state(&self) -> State {
        lock(&self.now).state
    }

    /// The events from now on.
    pub fn subscribe(&self) -> Events {
        self.broadcast.subscribe()
    }

    /// The monitor is about to be connected: its `Closed` will come.
    pub fn monitored(&self) {
        lock(&self.now).monitored = true;
    }

    /// A pause is about to be asked for, or is no longer.
    pub fn pausing(&self, asked: bool) {
        lock(&self.now).pausing = asked;
    }

    /// A migration is about to be asked for.
    pub fn migrating(&self) {
        lock(&self.now).migration = None;
    }

    /// Waits until the migration has come to an end, or the machine has; tells which it was.
    pub fn wait_migration(&self, timeout: Duration) -> Option<String> {
        let over =
            |status: &String| matches!(status.as_str(), "completed" | "failed" | "cancelled");
        let now = self.wait_now(timeout, |now| {
            now.exit.is_some() || now.migration.as_ref().is_some_and(over)
        });
        now.migration.clone().filter(over)
    }

    /// The machine is where another one was saved, and stands still.
    pub fn restored(&self) {
        lock(&self.now).state = State::Paused;
        self.changed.notify_all();
    }

    /// A kill is about to be asked for.
    pub fn killing(&self) {
        lock(&self.now).killing = true;
    }

    /// Waits until the state is one of those; returns the state, whichever it is by then.
    pub fn wait(&self, timeout: Duration, wanted: impl Fn(State) -> bool) -> State {
        self.wait_now(timeout, |now| wanted(now.state)).state
    }

    /// Waits for the end; `None` if the time is over before.
    pub fn wait_exit(&self, timeout: Duration) -> Option<Exit> {
        self.wait_now(timeout, |now| now.exit.is_some())
            .exit
            .clone()
    }

    fn wait_now(&self, timeout: Duration, until: impl Fn(&Now) -> bool) -> MutexGuard<'_, Now> {
        let waited = self
            .changed
            .wait_timeout_while(lock(&self.now), timeout, |now| !until(now));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Takes what the monitor's reader reports.
    pub fn hear(&self, report: Report) {
        match report {
            Report::Closed => {
                lock(&self.now).monitored = false;
                self.changed.notify_all();
            }
            Report::Event(event) => {
                tracing::debug!(event = event.name, data = %event.data, "machine");
                let event = lock(&self.now).learn(&event, &self.channels);
                self.changed.notify_all();
                if let Some(event) = event {
                    self.broadcast.send(event);
                }
            }
        }
    }

    /// Takes the process's end. The monitor's last words, which may say why, are waited for.
    pub fn end(&self, ended: &Ended) {
        for socket in &self.sockets {
            // QEMU removes them itself unless it was killed. Before anybody learns of the end: the next
            // machine may have the same ones.
            drop(std::fs::remove_file(socket));
        }
        let deadline = Instant::now() + MONITOR_LAG;
        let mut now = lock(&self.now);
        while now.monitored && Instant::now() < deadline {
            drop(now);
            let left = deadline.saturating_duration_since(Instant::now());
            now = self.wait_now(left, |now| !now.monitored);
        }
        let reason = match now.ending {
            Some(reason) if ended.code == Some(0) => reason,
            _ if now.killing && ended.signal.is_some() => StopReason::Killed,
            _ => StopReason::Died,
        };
        let exit = Exit {
            reason,
            code: ended.code,
            signal: ended.signal,
            stderr: ended.stderr.clone(),
        };
        now.state = State::Stopped;
        now.exit = Some(exit.clone());
        drop(now);
        self.changed.notify_all();
        self.broadcast.finish(Event::Stopped(exit));
    }
}

impl Now {
    /// What an event of QEMU's means.
    fn learn(&mut self, event: &QmpEvent, channels: &[String]) -> Option<Event> {
        let flag = |name: &str| event.data[name].as_bool().unwrap_or(false);
        let text = |name: &str| event.data[name].as_str().unwrap_or_default();
        match event.name.as_str() {
            "RESUME" => {
                let first = self.state == State::Created;
                self.state = State::Running;
                Some(if first {
                    Event::Started
                } else {
                    Event::Resumed
                })
            }
            // Stopping is part of shutting down.
            "STOP" if self.ending.is_some() => None,
            "STOP" => {
                self.state = if self.pausing {
                    State::Paused
                } else {
                    State::Faulted
                };
                Some(Event::Paused)
            }
            // The first reason counts: who sees the guest's end may well end QEMU because of it.
            "SHUTDOWN" => {
                self.ending.get_or_insert(shutdown_reason(&event.data));
                None
            }
            "MIGRATION" => {
                self.migration = Some(text("status").to_owned());
                None
            }
            "BALLOON_CHANGE" => {
                let bytes = event.data["actual"].as_u64()?;
                let actual_mib = u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
                Some(Event::Balloon { actual_mib })
            }
            "POWERDOWN" => Some(Event::PowerDown),
            "RESET" => Some(Event::Reset {
                by_guest: flag("guest"),
            }),
            "GUEST_PANICKED" => {
                self.ending.get_or_insert(StopReason::GuestPanicked);
                Some(Event::GuestPanicked)
            }
            "BLOCK_IO_ERROR" => Some(Event::DiskError {
                write: text("operation") == "write",
                halted: text("action") == "stop",
                reason: text("reason").to_owned(),
            }),
            "VSERPORT_CHANGE" => {
                let mut named = channels.iter().enumerate();
                let (_, name) = named.find(|(n, _)| super::argv::channel_id(*n) == text("id"))?;
                Some(Event::Channel {
                    name: name.clone(),
                    open: flag("open"),
                })
            }
            _ => None,
        }
    }
}

fn shutdown_reason(data: &Value) -> StopReason {
    match data["reason"].as_str() {
        Some("guest-shutdown") => StopReason::GuestShutdown,
        Some("guest-reset") => StopReason::GuestReset,
        Some("guest-panic") => StopReason::GuestPanicked,
        Some("host-qmp-quit") => StopReason::Asked,
        Some("host-signal") => StopReason::HostSignal,
        _ => StopReason::Died,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn life() -> Life {
        Life::new(vec!["gui".into(), "control".into()], vec![])
    }

    fn hear(life: &Life, name: &str, data: Value) {
        life.hear(Report::Event(QmpEvent {
            name: name.into(),
            data,
        }));
    }

    fn ended(code: Option<i32>, signal: Option<i32>) -> Ended {
        Ended {
            code,
            signal,
            stderr: "words".into(),
        }
    }

    fn reason(life: &Life) -> StopReason {
        life.wait_exit(Duration::ZERO).unwrap().reason
    }

    #[test]
    fn the_first_resume_is_the_start() {
        let life = life();
        let events = life.subscribe();
        hear(&life, "RESUME", json!({}));
        life.pausing(true);
        hear(&life, "STOP", json!({}));
        assert_eq!(life.state(), State::Paused);
        hear(&life, "RESUME", json!({}));
        let heard: Vec<_> = events.try_iter().collect();
        assert_eq!(heard, [Event::Started, Event::Paused, Event::Resumed]);
    }

    #[test]
    fn a_stop_nobody_asked_for_is_a_fault() {
        let life = life();
        let events = life.subscribe();
        let error = json!({"operation": "read", "action": "stop", "reason": "gone"});
        hear(&life, "BLOCK_IO_ERROR", error);
        hear(&life, "STOP", json!({}));
        assert_eq!(life.state(), State::Faulted);
        let disk = Event::DiskError {
            write: false,
            halted: true,
            reason: "gone".into(),
        };
        assert_eq!(events.try_iter().collect::<Vec<_>>(), [disk, Event::Paused]);
    }

    #[test]
    fn the_shutdown_event_says_why_it_ended() {
        for (told, expected) in [
            ("guest-shutdown", StopReason::GuestShutdown),
            ("guest-reset", StopReason::GuestReset),
            ("guest-panic", StopReason::GuestPanicked),
            ("host-qmp-quit", StopReason::Asked),
            ("host-signal", StopReason::HostSignal),
            ("host-error", StopReason::Died),
        ] {
            let life = life();
            hear(&life, "SHUTDOWN", json!({"guest": true, "reason": told}));
            hear(&life, "STOP", json!({}));
            life.end(&ended(Some(0), None));
            assert_eq!(reason(&life), expected);
            assert_eq!(life.state(), State::Stopped);
        }
    }

    #[test]
    fn a_signal_of_ours_is_a_kill_and_any_other_a_death() {
        let killed = life();
        killed.killing();
        killed.end(&ended(None, Some(9)));
        assert_eq!(reason(&killed), StopReason::Killed);

        let died = life();
        died.end(&ended(None, Some(9)));
        assert_eq!(reason(&died), StopReason::Died);
        assert_eq!(died.wait_exit(Duration::ZERO).unwrap().stderr, "words");

        let crashed_while_ending = life();
        hear(
            &crashed_while_ending,
            "SHUTDOWN",
            json!({"reason": "guest-shutdown"}),
        );
        crashed_while_ending.end(&ended(None, Some(11)));
        assert_eq!(reason(&crashed_while_ending), StopReason::Died);
    }

    #[test]
    fn the_monitors_last_words_are_waited_for_but_not_for_ever() {
        let life = life();
        life.monitored();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                hear(&life, "SHUTDOWN", json!({"reason": "guest-shutdown"}));
                life.hear(Report::Closed);
            });
            life.end(&ended(Some(0), None));
        });
        assert_eq!(reason(&life), StopReason::GuestShutdown);

        let silent = super::tests::life();
        silent.monitored();
        silent.end(&ended(Some(0), None));
        assert_eq!(reason(&silent), StopReason::Died);
    }

    #[test]
    fn channels_are_called_by_their_names() {
        let life = life();
        let events = life.subscribe();
        hear(
            &life,
            "VSERPORT_CHANGE",
            json!({"id": "channel1", "open": true}),
        );
        hear(
            &life,
            "VSERPORT_CHANGE",
            json!({"id": "channel9", "open": true}),
        );
        hear(&life, "SOMETHING_NEW", json!({"x": 1}));
        hear(&life, "BLOCK_IO_ERROR", Value::Null);
        let heard: Vec<_> = events.try_iter().collect();
        assert_eq!(
            heard[0],
            Event::Channel {
                name: "control".into(),
                open: true
            }
        );
        assert_eq!(heard.len(), 2);
    }

    #[test]
    fn sockets_are_gone_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("serial.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        Life::new(vec![], vec![socket.clone()]).end(&ended(None, Some(9)));
        assert!(!socket.exists());
    }
}
