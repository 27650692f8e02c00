//! A newer agent from the host, which vouches for it: taken, held against its size and digest, put where the agent
//! may write, and run in this one's place. Where it may write nowhere, an update is declined.
use super::folder::Partial;
use crate::control::Control;
use crate::transfers::{Sink, Transfers};
use anyhow::{Context, Result, bail};
use medley_wire::bulk::Carries;
use medley_wire::control::{Answer, Update, Verdict};
use medley_wire::limits::UPDATE_BYTES;
use sha2::{Digest, Sha256};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program's name where updates are kept.
const NAME: &str = "medley-guest";

/// An update on its way.
#[derive(Debug)]
struct Coming {
    transfer: u32,
    digest: [u8; 32],
    partial: Partial,
}

/// Updates of this agent.
#[derive(Debug)]
pub struct Updates {
    /// Where the newer program goes.
    place: PathBuf,
    coming: Option<Coming>,
}

impl Updates {
    /// Updates of the agent whose program is there.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        Self {
            place: kept().unwrap_or_else(|| program.to_owned()),
            coming: None,
        }
    }

    /// The host has a newer one.
    pub fn offered(&mut self, update: &Update, transfers: &mut Transfers, say: &mut Control<'_>) {
        let transfer = update.transfer;
        let verdict = if update.size > UPDATE_BYTES {
            Verdict::TooLarge
        } else {
            match self.begin(update) {
                Ok(sink) => {
                    transfers.expect(Carries::Update, transfer, update.size, sink);
                    Verdict::Yes
                }
                Err(error) => {
                    tracing::warn!("an update is declined: {error:#}");
                    Verdict::Declined
                }
            }
        };
        say.say(Answer { transfer, verdict });
    }

    fn begin(&mut self, update: &Update) -> Result<Sink> {
        if self.coming.is_some() {
            bail!("another one is on its way");
        }
        let folder = self.place.parent().context("the program is nowhere")?;
        let (partial, file) = Partial::new(folder, "update")?;
        self.coming = Some(Coming {
            transfer: update.transfer,
            digest: update.digest,
            partial,
        });
        Ok(Sink::File(file))
    }

    /// An update is whole, or never will be. The program to run from now on, if it is good.
    pub fn finished(&mut self, transfer: u32, sink: Option<Sink>) -> Option<PathBuf> {
        let coming = self.coming.take_if(|coming| coming.transfer == transfer)?;
        // Closed, for a program that is still written to cannot be run.
        let whole = sink.map(drop).is_some();
        if !whole {
            tracing::warn!("an update did not come whole");
            return None;
        }
        match self.put(coming) {
            Ok(()) => Some(self.place.clone()),
            Err(error) => {
                tracing::warn!("an update is not used: {error:#}");
                None
            }
        }
    }

    fn put(&self, coming: Coming) -> Result<()> {
        let path = coming.partial.path();
        let bytes = fs::read(path).context("it cannot be read")?;
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != coming.digest {
            bail!("it is not what the host announced");
        }
        fs::set_permissions(path, Permissions::from_mode(0o755))
            .context("it cannot be made a program")?;
        // One of another machine's kind, or without its libraries, would be this agent's end.
        let runs = Command::new(path)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !runs.is_ok_and(|status| status.success()) {
            bail!("it does not run here");
        }
        coming.partial.replace(&self.place)
    }

    /// The host is gone.
    pub fn lost(&mut self, transfers: &mut Transfers) {
        if let Some(coming) = self.coming.take() {
            transfers.unexpect(Carries::Update, coming.transfer);
        }
    }
}

/// Where systemd lets the agent's unit keep updates.
fn kept() -> Option<PathBuf> {
    let folders = std::env::var_os("STATE_DIRECTORY")?;
    let folder = std::env::split_paths(&folders).find(|folder| folder.is_absolute())?;
    Some(folder.join(NAME))
}

/// The updated program, if there is one that is newer than the one that runs. An image's newer one counts again.
#[must_use]
pub fn newer() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let kept = kept().filter(|kept| *kept != own)?;
    let time = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    (time(&kept)? > time(&own)?).then_some(kept)
}

/// Runs a program in this one's place, with the same arguments; comes back only if that fails.
#[must_use]
pub fn run_instead(program: &Path) -> anyhow::Error {
    let error = Command::new(program)
        .args(std::env::args_os().skip(1))
        .exec();
    anyhow::Error::from(error).context(format!("{}: cannot be run", program.display()))
}
