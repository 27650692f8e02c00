//! Files from the host: each arrives whole in the user's folder for downloads, and is known by its transfer's
//! number until the host goes, so that an app can be launched with it.
use super::folder::{self, Partial};
use crate::control::Control;
use crate::transfers::{Sink, Transfers};
use anyhow::{Context, Result};
use medley_wire::bulk::Carries;
use medley_wire::control::{Answer, FileOffer, Verdict};
use medley_wire::limits::FILE_BYTES;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

/// Files that come at once, or wait to.
const COMING: usize = 64;

/// Files that are known by their numbers; of more the oldest are only files.
const KNOWN: usize = 1024;

/// A file on its way.
#[derive(Debug)]
struct Coming {
    partial: Partial,
    name: String,
}

/// What is known of some transfers.
#[derive(Debug, PartialEq, Eq)]
pub enum Files {
    /// They are whole, and here.
    Here(Vec<PathBuf>),
    /// One of them is still on its way.
    Coming,
    /// One of them never came.
    Missing,
}

/// The host's files.
#[derive(Debug)]
pub struct Inbox {
    folder: Option<PathBuf>,
    coming: HashMap<u32, Coming>,
    here: HashMap<u32, PathBuf>,
    /// Their numbers, the oldest first.
    order: VecDeque<u32>,
}

impl Inbox {
    /// Files go to that folder.
    #[must_use]
    pub fn new(folder: Option<PathBuf>) -> Self {
        if let Some(folder) = &folder {
            folder::clean(folder);
        }
        Self {
            folder,
            coming: HashMap::new(),
            here: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The host offers a file.
    pub fn offered(
        &mut self,
        offer: &FileOffer<'_>,
        allowed: bool,
        transfers: &mut Transfers,
        say: &mut Control<'_>,
    ) {
        let transfer = offer.transfer;
        let verdict = match offer.size.at_most(FILE_BYTES) {
            _ if !allowed => Verdict::Policy,
            None => Verdict::TooLarge,
            Some(size) => match offer.name.file_name() {
                None => Verdict::Kind,
                Some(name) => match self.begin(transfer, name.as_str(), size) {
                    Ok(sink) => {
                        transfers.expect(Carries::File, transfer, size, sink);
                        Verdict::Yes
                    }
                    Err(error) => {
                        tracing::warn!("a file of the host's is not taken: {error:#}");
                        Verdict::Failed
                    }
                },
            },
        };
        say.say(Answer { transfer, verdict });
    }

    fn begin(&mut self, transfer: u32, name: &str, size: u64) -> Result<Sink> {
        let folder = self
            .folder
            .as_deref()
            .context("the agent's user has no home")?;
        let free = self.coming.len() < COMING && !self.coming.contains_key(&transfer);
        anyhow::ensure!(free, "too many come at once, or one with that number");
        let (partial, file) = Partial::new(folder, &transfer.to_string())?;
        let room = free_bytes(folder)?;
        anyhow::ensure!(
            size <= room,
            "{}: {size} bytes do not fit; {room} are free",
            folder.display()
        );
        self.here.remove(&transfer);
        let name = name.to_owned();
        self.coming.insert(transfer, Coming { partial, name });
        Ok(Sink::File(file))
    }

    /// A file is whole, or never will be.
    pub fn finished(&mut self, transfer: u32, sink: Option<Sink>) {
        let Some(Coming { partial, name }) = self.coming.remove(&transfer) else {
            return;
        };
        if sink.is_none() {
            tracing::warn!("a file of the host's did not come whole");
            return;
        }
        match partial.keep(&name) {
            Ok(path) => {
                tracing::info!("a file of the host's is here");
                self.order.retain(|known| *known != transfer);
                self.order.push_back(transfer);
                self.here.insert(transfer, path);
                if self.order.len() > KNOWN
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.here.remove(&oldest);
                }
            }
            Err(error) => tracing::warn!("a file of the host's is lost: {error:#}"),
        }
    }

    /// Where the files of these transfers are.
    #[must_use]
    pub fn files(&self, transfers: &[u32]) -> Files {
        if transfers.iter().any(|t| self.coming.contains_key(t)) {
            return Files::Coming;
        }
        let paths = transfers.iter().map(|t| self.here.get(t).cloned());
        paths
            .collect::<Option<_>>()
            .map_or(Files::Missing, Files::Here)
    }

    /// The host is gone, and its numbers mean nothing any more.
    pub fn lost(&mut self, transfers: &mut Transfers) {
        for (transfer, _) in self.coming.drain() {
            transfers.unexpect(Carries::File, transfer);
        }
        self.here.clear();
        self.order.clear();
    }
}

fn free_bytes(folder: &Path) -> Result<u64> {
    let found = nix::sys::statvfs::statvfs(folder)
        .with_context(|| format!("{}: cannot ask for free room", folder.display()))?;
    Ok(found
        .blocks_available()
        .saturating_mul(found.fragment_size()))
}
