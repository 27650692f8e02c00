//! Passphrases: from a file descriptor, a file, or a prompt; never from arguments or the environment,
//! which other users can see. They live in memory that is erased.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use zeroize::Zeroizing;

use crate::exit::{Failure, Kind, Result};
use crate::terminal;
use crate::{fd, signals};

/// A passphrase, erased when dropped.
pub type Passphrase = Zeroizing<Vec<u8>>;

/// The longest passphrase, in bytes: as much as `cryptsetup` takes from a key file.
const MAX_LEN: usize = 8 << 20;

/// Where the passphrase comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct PassphraseArgs {
    /// Read the passphrase from this open file descriptor
    #[arg(long, value_name = "N", value_parser = fd::inherited, conflicts_with = "passphrase_file")]
    passphrase_fd: Option<Arc<OwnedFd>>,
    /// Read the passphrase from this file, `-` for standard input; one newline at its end is left out
    #[arg(long, value_name = "PATH")]
    passphrase_file: Option<PathBuf>,
}

/// Where a new passphrase comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct NewPassphraseArgs {
    /// Read the new passphrase from this open file descriptor
    #[arg(long, value_name = "N", value_parser = fd::inherited, conflicts_with = "new_passphrase_file")]
    new_passphrase_fd: Option<Arc<OwnedFd>>,
    /// Read the new passphrase from this file, `-` for standard input
    #[arg(long, value_name = "PATH")]
    new_passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// The passphrase that opens what is there.
    pub fn read(&self, what: &Path) -> Result<Passphrase> {
        let given = from(self.passphrase_fd.as_ref(), self.passphrase_file.as_deref())?;
        match given {
            Some(passphrase) => Ok(passphrase),
            None => ask(&format!("Passphrase of {}: ", what.display())),
        }
    }

    /// The same options for a passphrase that is only now chosen.
    pub fn as_new(&self) -> NewPassphraseArgs {
        NewPassphraseArgs {
            new_passphrase_fd: self.passphrase_fd.clone(),
            new_passphrase_file: self.passphrase_file.clone(),
        }
    }
}

impl NewPassphraseArgs {
    /// Whether the passphrase comes from elsewhere than a prompt.
    pub fn given(&self) -> bool {
        self.new_passphrase_fd.is_some() || self.new_passphrase_file.is_some()
    }

    /// A passphrase to be; an empty one is refused.
    pub fn read(&self, what: &Path) -> Result<Passphrase> {
        let given = from(
            self.new_passphrase_fd.as_ref(),
            self.new_passphrase_file.as_deref(),
        )?;
        let passphrase = match given {
            Some(passphrase) => passphrase,
            None => {
                let first = ask(&format!("New passphrase of {}: ", what.display()))?;
                if !first.is_empty() && first != ask("Once more: ")? {
                    return Err(Failure::usage("the two passphrases differ"));
                }
                first
            }
        };
        if passphrase.is_empty() {
            return Err(Failure::usage(
                "the new passphrase is empty, which would lock nothing",
            ));
        }
        Ok(passphrase)
    }
}

fn from(fd: Option<&Arc<OwnedFd>>, path: Option<&Path>) -> Result<Option<Passphrase>> {
    let (source, name) = match (fd, path) {
        (Some(fd), _) => (
            fd.as_fd().try_clone_to_owned(),
            "the file descriptor".into(),
        ),
        (None, Some(path)) if path == Path::new("-") => (
            io::stdin().as_fd().try_clone_to_owned(),
            "standard input".into(),
        ),
        (None, Some(path)) => (
            File::open(path).map(OwnedFd::from),
            path.display().to_string(),
        ),
        (None, None) => return Ok(None),
    };
    let fail =
        |error| Failure::io::<io::Error>(format!("cannot read the passphrase from {name}"))(error);
    read(File::from(source.map_err(fail)?))
        .map_err(fail)
        .and_then(|text| match text {
            Some(text) => Ok(Some(text)),
            None => Err(Failure::usage(format!(
                "{name} holds more than {MAX_LEN} bytes, which is no passphrase"
            ))),
        })
}

/// Everything to the end but one newline; `None` if it is too long. No copy is left unerased: the buffer
/// is never moved to a larger one by anybody but us.
fn read(mut source: impl Read) -> io::Result<Option<Passphrase>> {
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    let mut part = Zeroizing::new([0; 4096]);
    loop {
        let count = match source.read(&mut part[..]) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if text.len() + count > MAX_LEN {
            return Ok(None);
        }
        if text.len() + count > text.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(text.capacity() * 4 + count));
            larger.extend_from_slice(&text);
            text = larger;
        }
        text.extend_from_slice(&part[..count]);
    }
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Ok(Some(text))
}

fn ask(prompt: &str) -> Result<Passphrase> {
    let _kept = terminal::Kept::controlling();
    match signals::at_once(|| rpassword::prompt_password(prompt)) {
        Ok(text) => Ok(Zeroizing::new(text.into_bytes())),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Failure::interrupted(
            signals::received().unwrap_or(signal_hook::consts::SIGINT),
        )),
        Err(error) => Err(Failure::new(
            Kind::Missing,
            format!("no terminal to ask for the passphrase on ({error})"),
        )
        .remedy("give it with --passphrase-fd or --passphrase-file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_no_part_of_it() {
        for (text, passphrase) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\n\n", "a\n"),
            ("a b\r\n", "a b\r"),
            ("", ""),
            ("\n", ""),
        ] {
            let read = read(text.as_bytes()).unwrap().unwrap();
            assert_eq!(read.as_slice(), passphrase.as_bytes());
        }
    }

    #[test]
    fn long_ones_are_read_whole_and_endless_ones_refused() {
        let long = vec![b'x'; 100_000];
        assert_eq!(read(&long[..]).unwrap().unwrap().as_slice(), long);
        assert!(read(io::repeat(1)).unwrap().is_none());
    }
}
