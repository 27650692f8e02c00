//! What happened by itself, for whoever runs the session: told, never asked for. A guest must not make somebody
//! listen all day, so that what it can cause at will is told now and then, with a count of the rest.
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One notice of a kind in this time; the others are counted.
const PACE: Duration = Duration::from_secs(5);

/// Something that whoever runs the session may want to know. The words are for people, the code is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Of windows: `windows-ready`, `windows-restarted`, `windows-violation`, `windows-gave-up`,
    /// `windows-refused`, `unlock-asked`, `autostart-failed`. Of what went between host and guest: `file-came`,
    /// `file-refused`, `file-given`, `file-not-given`, `url-opened`, `url-refused`, `print-sent`,
    /// `print-refused`, `notes-unavailable`, `tray-unavailable`.
    pub code: &'static str,
    /// In words.
    #[serde(rename = "text")]
    pub words: String,
    /// What an auditor wants to find without reading words: `name`, `size`, `sha256`, `verdict` and the like.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<&'static str, String>,
}

impl Notice {
    /// A notice without details.
    pub(crate) fn new(code: &'static str, words: impl Into<String>) -> Self {
        Self {
            code,
            words: words.into(),
            details: BTreeMap::new(),
        }
    }

    /// The same with one more detail.
    #[must_use]
    pub(crate) fn with(mut self, what: &'static str, value: impl ToString) -> Self {
        self.details.insert(what, value.to_string());
        self
    }
}

/// Tells notices.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    to: SyncSender<Notice>,
    last: Arc<Mutex<BTreeMap<&'static str, Last>>>,
}

/// When a kind was last told, and how often it was not since.
#[derive(Debug)]
struct Last {
    told: Instant,
    left_out: u64,
}

impl Teller {
    pub fn new(to: SyncSender<Notice>) -> Self {
        let last = Arc::default();
        Self { to, last }
    }

    /// Tells of something that a guest can cause as often as it likes.
    pub fn say(&self, mut notice: Notice) {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = last.get_mut(notice.code);
        if let Some(before) = of_kind {
            if now.duration_since(before.told) < PACE {
                before.left_out += 1;
                tracing::debug!(code = notice.code, words = notice.words, "left out");
                return;
            }
            if before.left_out > 0 {
                let count = before.left_out;
                notice = notice.with("left_out", count);
            }
        }
        let told = Last {
            told: now,
            left_out: 0,
        };
        last.insert(notice.code, told);
        drop(last);
        log(&notice);
        // Who has stopped listening does not want to know.
        let _ = self.to.try_send(notice);
    }

    /// Tells of something that has been done: each time, for it is what an audit is made of. Waits while
    /// nobody listens, so that it belongs on a thread that may wait: the guest's next transfer waits with it.
    pub fn record(&self, notice: Notice) {
        log(&notice);
        let _ = self.to.send(notice);
    }
}

fn log(notice: &Notice) {
    let (code, words) = (notice.code, &notice.words);
    tracing::info!(code, words, details = ?notice.details, "windows");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn what_a_guest_causes_at_will_is_told_now_and_then() {
        let (to, from) = sync_channel(8);
        let teller = Teller::new(to);
        for _ in 0..5 {
            teller.say(Notice::new("url-refused", "no"));
        }
        teller.say(Notice::new("file-refused", "no"));
        let codes: Vec<_> = from.try_iter().map(|notice| notice.code).collect();
        assert_eq!(codes, ["url-refused", "file-refused"]);
        let mut last = teller.last.lock().unwrap();
        last.get_mut("url-refused").unwrap().told = Instant::now() - PACE;
        drop(last);
        teller.say(Notice::new("url-refused", "no"));
        assert_eq!(from.try_recv().unwrap().details["left_out"], "4");
    }

    #[test]
    fn what_was_done_is_told_each_time() {
        let (to, from) = sync_channel(2);
        let teller = Teller::new(to);
        let waiting = std::thread::spawn(move || {
            for number in 0..20 {
                teller.record(Notice::new("file-came", number.to_string()));
            }
        });
        assert_eq!(from.iter().count(), 20);
        waiting.join().unwrap();
    }
}
