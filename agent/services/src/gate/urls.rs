//! Addresses that a guest wants the host's browser to open: few, and none that a person could not read.
use super::Outbox;
use crate::event::Event;
use crate::rate::Rate;
use medley_wire::control::OpenUrl;
use std::collections::VecDeque;
use std::time::Duration;

/// Between two addresses.
const EVERY: Duration = Duration::from_secs(2);

/// Between two times of the same one: a click is heard once, however often a guest says it.
const SAME: Duration = Duration::from_secs(5);

/// Bytes of an address: what a question to a person can still show as a whole, and what goes the other way with
/// a launch.
const SHOWN: usize = 2048;

/// What was opened lately.
#[derive(Debug)]
pub struct Urls {
    rate: Rate,
    lately: VecDeque<(String, Duration)>,
}

impl Urls {
    pub const fn new() -> Self {
        Self {
            rate: Rate::new(1, EVERY),
            lately: VecDeque::new(),
        }
    }

    /// Passes an address on, unless there were too many. Tells whether it is one that may be opened at all.
    pub fn open(&mut self, open: &OpenUrl<'_>, now: Duration, out: &mut Outbox) -> bool {
        let Some(url) = open.url.web_url() else {
            return false;
        };
        let url = url.as_str();
        if url.len() > SHOWN || open.url.display().as_str() != url {
            return false;
        }
        self.lately.retain(|(_, at)| *at + SAME > now);
        if !self.lately.iter().any(|(old, _)| old == url) && self.rate.take(now) {
            self.lately.push_back((url.to_owned(), now));
            let url = url.to_owned();
            out.tell(Event::Url { url });
        }
        true
    }
}
