//! One transfer that comes in. The presenter writes its bytes into a pipe, and the file is ours alone: whoever
//! takes the presenter over can neither change what was judged nor fill the disk.
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Duration;

/// A chunk of the wire fits four times: the presenter seldom waits for a disk.
const PIPE: i32 = 1 << 20;
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// A guest that says nothing more for so long has lost interest.
const IDLE: Duration = Duration::from_secs(120);

/// What a presenter says about a transfer in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has written so many bytes, and these are all.
    Came(u64),
    /// There will be no more.
    Broke,
}

/// A transfer on its way.
#[derive(Debug)]
pub(crate) struct Intake {
    pipe: PipeReader,
    fate: Receiver<Fate>,
    size: u64,
}

/// All of it is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Its digest, in hexadecimal digits.
    pub sha256: String,
}

/// Why it is not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The guest or the presenter ended it.
    #[error("it broke off")]
    Broke,
    /// The presenter wrote something else than was announced.
    #[error("it had {0} bytes and was to have {1}")]
    Size(u64, u64),
    /// Nobody has written anything for too long.
    #[error("nothing more came for {IDLE:?}")]
    Idle,
    /// It cannot be written down.
    #[error("it cannot be kept: {0}")]
    Disk(std::io::Error),
}

impl Intake {
    /// A transfer of so many bytes; what the presenter is to write into, and how it is told what the presenter
    /// said in the end.
    pub fn new(size: u64) -> std::io::Result<(Self, OwnedFd, Sender<Fate>)> {
        let (pipe, writes) = std::io::pipe()?;
        // The presenter's one thread shows windows and hears chords: it must never wait for a disk of ours.
        fcntl(&writes, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // A user has only so much for pipes; a short one works, too.
        if let Err(error) = fcntl(&writes, FcntlArg::F_SETPIPE_SZ(PIPE)) {
            tracing::debug!(%error, "a pipe stays short");
        }
        let (tell, fate) = channel();
        Ok((Self { pipe, fate, size }, writes.into(), tell))
    }

    /// Whoever reads of it is gone before it began.
    pub fn is_over(&self) -> bool {
        !matches!(self.fate.try_recv(), Err(TryRecvError::Empty))
    }

    /// Receives all of it into a file.
    ///
    /// # Errors
    /// It does not come whole; the file holds a part then.
    pub fn receive(mut self, file: &mut File) -> Result<Whole, Trouble> {
        let mut digest = Sha256::new();
        let mut piece = vec![0; PIECE];
        let mut count = 0;
        while count < self.size {
            self.wait()?;
            let got = match self.pipe.read(&mut piece) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Trouble::Disk(error)),
            };
            let bytes = piece.get(..got).unwrap_or_default();
            count += got as u64;
            if count > self.size {
                return Err(Trouble::Size(count, self.size));
            }
            digest.update(bytes);
            file.write_all(bytes).map_err(Trouble::Disk)?;
        }
        match self.fate.recv_timeout(IDLE) {
            Ok(Fate::Came(said)) if count == self.size && said == self.size => {}
            Ok(Fate::Came(_)) => return Err(Trouble::Size(count, self.size)),
            Ok(Fate::Broke) | Err(RecvTimeoutError::Disconnected) => return Err(Trouble::Broke),
            Err(RecvTimeoutError::Timeout) => return Err(Trouble::Idle),
        }
        let digits = digest.finalize();
        Ok(Whole {
            sha256: digits.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Waits for more.
    fn wait(&self) -> Result<(), Trouble> {
        let timeout = PollTimeout::try_from(IDLE).unwrap_or(PollTimeout::MAX);
        loop {
            let mut pipe = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
            match poll(&mut pipe, timeout) {
                Ok(0) => return Err(Trouble::Idle),
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(Trouble::Disk(error.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of these bytes, when so many were announced and this was said.
    fn receive(bytes: &[u8], size: u64, fate: Option<Fate>) -> Result<Whole, Trouble> {
        let (intake, writes, tell) = Intake::new(size).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                fcntl(&writes, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
                // It may be closed at our end.
                let _ = File::from(writes).write_all(bytes);
                fate.map(|fate| tell.send(fate));
            });
            intake.receive(&mut file)
        })
    }

    #[test]
    fn exactly_what_was_announced_or_nothing() {
        let bytes = vec![7; 3 << 20];
        let size = bytes.len() as u64;
        let whole = receive(&bytes, size, Some(Fate::Came(size))).unwrap();
        let digest = Sha256::digest(&bytes);
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(whole.sha256, digits);
        assert!(receive(b"", 0, Some(Fate::Came(0))).is_ok());
        let wrong = receive(&bytes, size + 1, Some(Fate::Came(size + 1)));
        assert!(matches!(wrong, Err(Trouble::Size(..))), "{wrong:?}");
        let wrong = receive(&bytes, size - 1, Some(Fate::Came(size - 1)));
        assert!(matches!(wrong, Err(Trouble::Size(..))), "{wrong:?}");
        let wrong = receive(&bytes, size, Some(Fate::Came(size - 1)));
        assert!(matches!(wrong, Err(Trouble::Size(..))), "{wrong:?}");
        for fate in [Some(Fate::Broke), None] {
            let wrong = receive(&bytes, size, fate);
            assert!(matches!(wrong, Err(Trouble::Broke)), "{wrong:?}");
        }
    }
}
