//! Files that a guest offers: judged, received, scanned, put into the inbox; each with a notice.
use super::busy::Busy;
use super::inbox::{Draft, Inbox};
use super::intake::{Fate, Intake};
use super::pace::Pace;
use crate::notice::{Notice, Teller};
use medley_services::order::Refusal;
use medley_wire::FileName;
use std::os::fd::OwnedFd;
use std::sync::Weak;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// Files that are received or scanned at the same time; the presenter keeps no more waiting either.
const AT_ONCE: usize = 8;
/// Files at once, and then one each time: a presenter that a guest has taken over offers as many as it likes.
const RATE: (u32, Duration) = (64, Duration::from_millis(500));

/// Receives files.
#[derive(Debug)]
pub(crate) struct Files {
    inbox: Inbox,
    teller: Teller,
    pace: Pace,
    busy: Busy,
}

/// A transfer that has a thread: how that hears what became of it, and whether it is still there.
pub(crate) type Taken = (Sender<Fate>, Weak<()>);

/// What a transfer's thread answers: what the presenter is to write into, or why it is not taken.
pub(crate) type Reply = Box<dyn FnOnce(Result<OwnedFd, Refusal>) + Send>;

impl Files {
    pub fn new(inbox: Inbox, teller: Teller) -> Self {
        Self {
            inbox,
            teller,
            pace: Pace::new(RATE.0, RATE.1),
            busy: Busy::default(),
        }
    }

    /// Takes a file, or refuses it, on a thread of its own: looking into the inbox may take as long as its disk.
    ///
    /// # Errors
    /// Why there is no such thread; `reply` is not called then.
    pub fn offered(&mut self, name: &str, size: u64, reply: Reply) -> Result<Taken, Refusal> {
        let shown = crate::clean::line(name);
        let begun = if !self.pace.take(Instant::now()) {
            Err("too many files come in a short time".to_owned())
        } else if self.busy.count() >= AT_ONCE {
            Err("too many files come at the same time".to_owned())
        } else {
            self.begin(name.to_owned(), shown.clone(), size, reply)
                .map_err(|error| error.to_string())
        };
        begun.map_err(|why| {
            self.teller.say(refused(&shown, size, &why));
            Refusal::Failed
        })
    }

    fn begin(
        &self,
        name: String,
        shown: String,
        size: u64,
        reply: Reply,
    ) -> std::io::Result<Taken> {
        let (intake, writes, fate) = Intake::new(size)?;
        let (inbox, teller) = (self.inbox.clone(), self.teller.clone());
        let alive = self.busy.spawn("file-in", move || {
            match take(&inbox, &name, size) {
                // Nobody waits for it any more.
                Ok(_) if intake.is_over() => {}
                Ok((name, draft)) => {
                    reply(Ok(writes));
                    receive(intake, draft, &name, size, &teller);
                }
                Err((refusal, why)) => {
                    teller.say(refused(&shown, size, &why));
                    reply(Err(refusal));
                }
            }
        })?;
        Ok((fate, alive))
    }

    /// Waits until what has come whole is in the inbox, or was refused: no longer than this. Whether it was.
    pub fn finish(&self, until: Instant) -> bool {
        self.busy.wait(until)
    }
}

fn take(inbox: &Inbox, name: &str, size: u64) -> Result<(FileName, Draft), (Refusal, String)> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::warn!(%error, "no file can be taken");
        (Refusal::Failed, error.to_string())
    };
    let name = inbox.admit(name, size)?;
    let draft = inbox.draft(&name).map_err(|error| failed(&error))?;
    // What is promised counts, for those who look how full the inbox is.
    draft.file.set_len(size).map_err(|error| failed(&error))?;
    Ok((name, draft))
}

fn receive(intake: Intake, mut draft: Draft, name: &FileName, size: u64, teller: &Teller) {
    let whole = match intake.receive(&mut draft.file) {
        Ok(whole) => whole,
        Err(trouble) => return teller.say(refused(name.as_str(), size, &trouble)),
    };
    let refused = |why: &dyn std::fmt::Display| {
        refused(name.as_str(), size, why).with("sha256", &whole.sha256)
    };
    let verdict = match draft.scan() {
        Ok(verdict) => verdict,
        Err(why) => return teller.record(refused(&why)),
    };
    match draft.publish(name) {
        Ok(path) => teller.record(
            Notice::new("file-came", format!("a file came: {}", path.display()))
                .with("name", name)
                .with("size", size)
                .with("sha256", &whole.sha256)
                .with("verdict", verdict)
                .with("path", path.display()),
        ),
        Err(error) => teller.record(refused(&error)),
    }
}

fn refused(name: &str, size: u64, why: &dyn std::fmt::Display) -> Notice {
    let words = format!("the file {name:?} did not come in: {why}");
    Notice::new("file-refused", words)
        .with("name", name)
        .with("size", size)
        .with("verdict", why)
}
