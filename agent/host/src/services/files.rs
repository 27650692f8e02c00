//! Files that a guest offers: judged, received, scanned, put into the inbox; each with a notice.
use super::inbox::{Draft, Inbox};
use super::intake::{Fate, Intake, Trouble};
use crate::notice::{Notice, Teller};
use medley_services::order::Refusal;
use medley_wire::FileName;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Files that are received or scanned at the same time; the presenter keeps no more waiting either.
const AT_ONCE: usize = 8;

/// Receives files.
#[derive(Debug)]
pub(crate) struct Files {
    inbox: Inbox,
    teller: Teller,
    /// One clone for each that is on its way.
    busy: Arc<()>,
}

/// A file that is taken: what the presenter writes into, and how its thread hears what became of it.
pub(crate) type Taken = (OwnedFd, Sender<Fate>);

impl Files {
    pub fn new(inbox: Inbox, teller: Teller) -> Self {
        let busy = Arc::new(());
        Self {
            inbox,
            teller,
            busy,
        }
    }

    /// Takes a file, or says why not.
    pub fn offered(&self, name: &str, size: u64) -> Result<Taken, Refusal> {
        let shown = crate::clean::line(name);
        self.take(name, size).map_err(|(refusal, why)| {
            self.teller.say(refused(&shown, size, &why));
            refusal
        })
    }

    fn take(&self, name: &str, size: u64) -> Result<Taken, (Refusal, String)> {
        let name = self.inbox.admit(name, size)?;
        if Arc::strong_count(&self.busy) > AT_ONCE {
            return Err((
                Refusal::Failed,
                "too many files come at the same time".into(),
            ));
        }
        let failed = |error: &dyn std::fmt::Display| {
            tracing::warn!(%error, "no file can be taken");
            (Refusal::Failed, error.to_string())
        };
        let draft = self.inbox.draft(&name).map_err(|error| failed(&error))?;
        // What is promised counts, for those who look how full the inbox is.
        draft.file.set_len(size).map_err(|error| failed(&error))?;
        let (intake, writes, fate) = Intake::new(size).map_err(|error| failed(&error))?;
        let (busy, teller) = (self.busy.clone(), self.teller.clone());
        let receive = move || {
            receive(intake, draft, &name, size, &teller);
            drop(busy);
        };
        std::thread::Builder::new()
            .name("file-in".into())
            .spawn(receive)
            .map_err(|error| failed(&error))?;
        Ok((writes, fate))
    }
}

fn receive(intake: Intake, mut draft: Draft, name: &FileName, size: u64, teller: &Teller) {
    let whole = match intake.receive(&mut draft.file) {
        Ok(whole) => whole,
        Err(trouble) => {
            let notice = refused(name.as_str(), size, &trouble);
            return match trouble {
                Trouble::Disk(_) => teller.record(notice),
                _ => teller.say(notice),
            };
        }
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
