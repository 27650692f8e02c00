//! The agent's warnings and errors, on their way to the host. A few a second: who floods says how much was left
//! out. The agent's log holds no key, no typed text, nothing copied, and no name of a file or address; so neither
//! does what the host gets.
use crate::waker::Waker;
use medley_wire::control::{self, FromGuest, Level};
use medley_wire::limits::LOG_BYTES;
use medley_wire::{Text, Untrusted};
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Lines that may come at once, and the time after which there is room for another.
const BURST: u32 = 20;
const PACE: Duration = Duration::from_millis(100);

/// Lines that are kept while no host listens: the first of a trouble say most.
const KEPT: usize = 64;

#[derive(Debug)]
struct Line {
    level: Level,
    dropped: u32,
    part: &'static str,
    words: String,
}

#[derive(Debug)]
struct State {
    lines: VecDeque<Line>,
    /// Lines that were left out since the last one that was not.
    dropped: u32,
    room: u32,
    since: Instant,
    waker: Option<Arc<Waker>>,
}

/// Lines for the host. Clones are of the same lines.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Mutex<State>>);

impl Default for Lines {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            lines: VecDeque::new(),
            dropped: 0,
            room: BURST,
            since: Instant::now(),
            waker: None,
        })))
    }
}

impl Lines {
    /// What writes them down, for a subscriber of `tracing`.
    #[must_use]
    pub fn layer(&self) -> Writer {
        Writer(self.clone())
    }

    /// Whom to wake when there is a line: it may come from any thread.
    pub fn set_waker(&self, waker: Arc<Waker>) {
        self.state().waker = Some(waker);
    }

    /// The next line as a message for the host, handed to `say`. False, if there is none.
    pub fn next(&self, say: impl FnOnce(FromGuest<'_>)) -> bool {
        // Not held while it is said: saying may log.
        let line = self.state().lines.pop_front();
        let Some(line) = line else { return false };
        say(control::Log {
            level: line.level,
            dropped: line.dropped,
            part: Untrusted::claim(Text::cut(line.part)),
            words: Untrusted::claim(Text::cut(&line.words)),
        }
        .into());
        true
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, level: Level, part: &'static str, words: String, now: Instant) {
        let mut state = self.state();
        let passed = now.saturating_duration_since(state.since).as_nanos() / PACE.as_nanos();
        if passed > 0 {
            let more = u32::try_from(passed).unwrap_or(u32::MAX);
            state.room = state.room.saturating_add(more).min(BURST);
            state.since = now;
        }
        if state.room == 0 || state.lines.len() >= KEPT {
            state.dropped = state.dropped.saturating_add(1);
            return;
        }
        state.room -= 1;
        let dropped = std::mem::take(&mut state.dropped);
        state.lines.push_back(Line {
            level,
            dropped,
            part,
            words,
        });
        if let Some(waker) = &state.waker {
            waker.wake();
        }
    }
}

/// Writes down what is grave.
#[derive(Debug)]
pub struct Writer(Lines);

impl<S: Subscriber> Layer<S> for Writer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let about = event.metadata();
        let level = match *about.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warning,
            _ => return,
        };
        // Libraries may say anything; the agent's own crates are named after the house.
        let Some(part) = about.target().strip_prefix("medley_") else {
            return;
        };
        let mut words = Words::default();
        event.record(&mut words);
        self.0.write(level, part, words.0, Instant::now());
    }
}

/// A line's words: its message, then its fields.
#[derive(Default)]
struct Words(String);

impl Words {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.0.len() > LOG_BYTES {
            return;
        }
        let written = if field.name() == "message" {
            let rest = std::mem::take(&mut self.0);
            write!(self.0, "{value}{rest}")
        } else {
            write!(self.0, " {}={value}", field.name())
        };
        debug_assert!(written.is_ok(), "a text takes everything");
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    fn said(lines: &Lines) -> Option<(Level, u32, String, String)> {
        let mut said = None;
        lines.next(|message| {
            if let FromGuest::Log(log) = message {
                let (part, words) = (log.part.display(), log.words.display());
                let texts = (part.as_str().to_owned(), words.as_str().to_owned());
                said = Some((log.level, log.dropped, texts.0, texts.1));
            }
        });
        said
    }

    #[test]
    fn only_what_is_grave_and_our_own_goes_to_the_host() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(lines.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("nothing happened");
            tracing::warn!(target: "zbus::connection", "a library's");
            tracing::warn!(count = 3, name = "x", "odd");
            tracing::error!(target: "medley_link", "broken: {}", "why");
        });
        let (level, dropped, part, words) = said(&lines).unwrap();
        assert_eq!((level, dropped), (Level::Warning, 0));
        assert_eq!(part, "guest::log::tests");
        assert_eq!(words, "odd count=3 name=x");
        let (level, _, part, words) = said(&lines).unwrap();
        assert_eq!((level, part.as_str()), (Level::Error, "link"));
        assert_eq!(words, "broken: why");
        assert_eq!(said(&lines), None);
    }

    #[test]
    fn a_flood_is_counted() {
        let lines = Lines::default();
        let begun = Instant::now();
        let write = |at: Duration| {
            lines.write(Level::Warning, "x", "y".repeat(5000), begun + at);
        };
        (0..1000).for_each(|_| write(Duration::ZERO));
        let mut all = 0;
        while let Some((_, dropped, _, words)) = said(&lines) {
            assert_eq!((dropped, words.len()), (0, LOG_BYTES));
            all += 1;
        }
        assert_eq!(all, BURST);
        write(Duration::from_secs(1));
        assert_eq!(said(&lines).unwrap().1, 1000 - BURST);
        (0..1000).for_each(|n| write(Duration::from_secs(10 + n)));
        let kept = std::iter::from_fn(|| said(&lines)).count();
        assert_eq!(kept, KEPT, "not more than a host wants to hear later");
    }
}
