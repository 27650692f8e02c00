//! `medley boot --desktop`: a machine with a screen, and the note by which `medley view` finds it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use medley_hypervisor::{MachineSpec, Screen};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::exit::{Failure, Kind, Result};

/// The note, in the session's folder and in the machine's own.
const NOTE: &str = "screen.json";
/// While it is written; whoever takes the folder next sweeps it away.
const PART: &str = ".medley-screen.part";
/// A note has a path and two names.
const NOTE_MAX: u64 = 16 << 10;

/// Options of machines that have a screen.
#[derive(Debug, Args)]
pub struct ScreenArgs {
    /// Give the machine a screen, a keyboard and a pointer; `medley view` shows them, from the firmware's
    /// first line on. The guest needs no agent for it
    #[arg(long, help_heading = "Windows")]
    desktop: bool,
}

/// Where a machine's screen is, and how its window is to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The machine's socket.
    pub socket: PathBuf,
    /// What the window calls the workspace.
    pub workspace: String,
    /// Of its frame, six hexadecimal digits.
    pub colour: String,
}

impl ScreenArgs {
    /// Adds a screen to a machine, if there is to be one.
    pub fn prepare(
        &self,
        spec: &mut MachineSpec,
        workspace: String,
        colour: &str,
    ) -> Option<Place> {
        let socket = self.desktop.then(|| spec.run_dir.join("screen.sock"))?;
        spec.screen = Some(Screen::new(&socket));
        Some(Place {
            socket,
            workspace,
            colour: colour.into(),
        })
    }
}

/// Notes that are there. Dropped, they go.
pub struct Notes(Vec<PathBuf>);

impl Drop for Notes {
    fn drop(&mut self) {
        for note in &self.0 {
            if let Err(error) = std::fs::remove_file(note) {
                tracing::debug!(%error, note = %note.display(), "the note stays");
            }
        }
    }
}

impl Place {
    /// Says in these folders where the screen is. What an earlier machine said there is over.
    pub fn tell(&self, folders: &[&Path]) -> Result<Notes> {
        // Its folder is ours alone, as are all of the machine's sockets; this one takes keys.
        let private = PermissionsExt::from_mode(0o600);
        match std::fs::set_permissions(&self.socket, private) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let what = format!("{}: cannot be closed to others", self.socket.display());
                return Err(Failure::io::<std::io::Error>(what)(error));
            }
            _ => {}
        }
        self.lock(false)?;
        let mut notes = Notes(Vec::new());
        for folder in folders {
            let note = folder.join(NOTE);
            self.write(&folder.join(PART), &note)
                .map_err(Failure::io(format!(
                    "{}: cannot say where the screen is",
                    note.display()
                )))?;
            notes.0.push(note);
        }
        Ok(notes)
    }

    /// The file that is there while nobody may look; beside the socket, so that it goes with the machine.
    pub fn mark(&self) -> PathBuf {
        self.socket.with_extension("locked")
    }

    /// Whether the machine is there that said so; one that was killed leaves its note and its socket.
    pub fn is_there(&self) -> bool {
        UnixStream::connect(&self.socket).is_ok()
    }

    /// Somebody who looks, as long as this lasts.
    pub fn look(&self) -> Result<Flock<File>> {
        let (file, failed) = self.viewers()?;
        Flock::lock(file, FlockArg::LockShared)
            .map_err(|(_, error)| Failure::io::<std::io::Error>(failed)(error.into()))
    }

    /// Waits until nobody looks any more; whether that is so.
    pub fn unseen(&self, limit: Duration) -> Result<bool> {
        let until = Instant::now() + limit;
        let (mut file, failed) = self.viewers()?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(_) => return Ok(true),
                Err((same, Errno::EWOULDBLOCK)) => file = same,
                Err((_, error)) => {
                    return Err(Failure::io::<std::io::Error>(failed)(error.into()));
                }
            }
            if Instant::now() > until {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The file that all who look hold together, and what to say when it cannot be had.
    fn viewers(&self) -> Result<(File, String)> {
        let path = self.socket.with_extension("viewers");
        let failed = format!("{}: cannot tell who looks", path.display());
        let file = File::options().create(true).append(true).open(&path);
        Ok((file.map_err(Failure::io(failed.clone()))?, failed))
    }

    /// Whether nobody may look.
    pub fn is_locked(&self) -> bool {
        self.mark().exists()
    }

    /// From now on nobody may look, or everybody again; those who do see it within a moment.
    pub fn lock(&self, locked: bool) -> Result<()> {
        let mark = self.mark();
        let made = match locked {
            true => File::create(&mark).map(drop),
            false => match std::fs::remove_file(&mark) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        let verb = if locked { "locked" } else { "unlocked" };
        made.map_err(Failure::io(format!(
            "{}: the screen cannot be {verb}",
            mark.display()
        )))
    }

    fn write(&self, part: &Path, note: &Path) -> std::io::Result<()> {
        // Left by somebody who died while writing it.
        let _ = std::fs::remove_file(part);
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(part)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        std::fs::rename(part, note)
    }

    /// What a folder says of a screen. A machine that was killed may have left its note behind.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::find(folder)?.ok_or_else(|| {
            let what = format!("{}: no machine shows a screen here", folder.display());
            Failure::usage(what).remedy("start it with medley boot --desktop")
        })
    }

    /// The same, for whom a machine without a screen is as good.
    pub fn find(folder: &Path) -> Result<Option<Self>> {
        let note = folder.join(NOTE);
        let mut text = String::new();
        let read = File::open(&note).and_then(|file| file.take(NOTE_MAX).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::io::<std::io::Error>(format!(
                "{}: cannot be read",
                note.display()
            ))(error)),
            Ok(_) => serde_json::from_str(&text).map(Some).map_err(|error| {
                let what = format!("{}: not what medley boot writes: {error}", note.display());
                Failure::new(Kind::Damaged, what).remedy("start the machine again")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_there_as_long_as_its_machine_and_for_nobody_else() {
        let [one, two, run] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let place = Place {
            socket: run.path().join("screen.sock"),
            workspace: "office \"1\"".into(),
            colour: "0000c0".into(),
        };
        place.lock(true).unwrap();
        std::fs::write(one.path().join(NOTE), "of an earlier machine").unwrap();
        let notes = place.tell(&[one.path(), two.path()]).unwrap();
        for folder in [&one, &two] {
            assert_eq!(Place::read(folder.path()).unwrap(), place);
            let mode = folder.path().join(NOTE).metadata().unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o600);
            assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        }
        // A lock of an earlier machine's is over; one of this machine's is seen, and taken off once.
        assert!(!place.is_locked());
        place.lock(true).unwrap();
        assert!(Place::read(one.path()).unwrap().is_locked());
        place.lock(false).unwrap();
        place.lock(false).unwrap();
        assert!(!place.is_locked());
        // Who looks is waited for, and no longer than that.
        let one_looks = place.look().unwrap();
        let another = place.look().unwrap();
        drop(one_looks);
        assert!(!place.unseen(Duration::from_millis(50)).unwrap());
        drop(another);
        assert!(place.unseen(Duration::from_millis(50)).unwrap());
        // A machine that was killed leaves its socket.
        let machine = std::os::unix::net::UnixListener::bind(&place.socket).unwrap();
        assert!(place.is_there());
        drop(machine);
        assert!(place.socket.exists() && !place.is_there());
        drop(notes);
        let gone = Place::read(one.path()).unwrap_err();
        assert_eq!(gone.kind(), Kind::Usage);
        assert!(Place::find(one.path()).unwrap().is_none());
        assert!(gone.to_string().contains("--desktop"), "{gone}");
        std::fs::write(one.path().join(NOTE), "{}").unwrap();
        assert_eq!(Place::read(one.path()).unwrap_err().kind(), Kind::Damaged);
    }
}
