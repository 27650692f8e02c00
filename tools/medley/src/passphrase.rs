//! Passphrases: from a file descriptor, a file, or a prompt; never from arguments or the environment,
//! which other users can see. They live in memory that is erased.

use std::fs::File;
use std::io::{self, Read, Write};
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
    /// Read all passphrases, as [`Secrets::write`] wrote them, from this open file descriptor.
    #[arg(long, hide = true, value_name = "N", value_parser = fd::inherited)]
    secrets_fd: Option<Arc<OwnedFd>>,
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
        match self.given()? {
            Some(passphrase) => Ok(passphrase),
            None => ask_for(what),
        }
    }

    /// The passphrase, if it comes from elsewhere than a prompt.
    pub fn given(&self) -> Result<Option<Passphrase>> {
        from(self.passphrase_fd.as_ref(), self.passphrase_file.as_deref())
    }

    /// The passphrases of `layers` layers, if whoever started this process has asked for them.
    pub fn handed_down(&self, layers: usize) -> Result<Option<Secrets>> {
        let Some(bytes) = from(self.secrets_fd.as_ref(), None)? else {
            return Ok(None);
        };
        match Secrets::parse(&bytes) {
            Some(secrets) if secrets.parents.len() + 1 == layers => Ok(Some(secrets)),
            _ => Err(
                Failure::failed("the disk's parents changed while it was opened")
                    .remedy("try again"),
            ),
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

/// The passphrases of a disk and its parents.
pub struct Secrets {
    own: Passphrase,
    /// Nearest first; `None` for one that has none of its own.
    parents: Vec<Option<Passphrase>>,
}

impl Secrets {
    /// The disk's own, which may be empty if only its parents are encrypted.
    pub fn new(own: Passphrase) -> Self {
        Self {
            own,
            parents: Vec::new(),
        }
    }

    /// Adds the next parent's.
    pub fn push(&mut self, parent: Option<Passphrase>) {
        self.parents.push(parent);
    }

    /// The disk's own.
    pub fn own(&self) -> &Passphrase {
        &self.own
    }

    /// That of a parent, and whether it is one of its own.
    pub fn of_parent(&self, index: usize) -> (&Passphrase, bool) {
        match self.parents.get(index) {
            Some(Some(passphrase)) => (passphrase, true),
            _ => (&self.own, false),
        }
    }

    /// For another process of this program: each as whether it is there, its length and its bytes.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        for passphrase in
            std::iter::once(Some(&self.own)).chain(self.parents.iter().map(Option::as_ref))
        {
            let bytes = passphrase.map_or(&[][..], |passphrase| passphrase);
            // No passphrase is longer than `MAX_LEN`.
            out.write_all(&[u8::from(passphrase.is_some())])?;
            out.write_all(&(bytes.len() as u32).to_le_bytes())?;
            out.write_all(bytes)?;
        }
        // The newline that every reader of passphrases leaves out.
        out.write_all(b"\n")
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut all = Vec::new();
        while let [there, a, b, c, d, rest @ ..] = bytes {
            let len = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            let (text, rest) = rest.split_at_checked(len)?;
            all.push((*there == 1).then(|| Zeroizing::new(text.to_vec())));
            bytes = rest;
        }
        if !bytes.is_empty() {
            return None;
        }
        let mut all = all.into_iter();
        Some(Self {
            own: all.next()??,
            parents: all.collect(),
        })
    }
}

/// The passphrase in a file.
pub fn from_file(path: &Path) -> Result<Passphrase> {
    from(None, Some(path)).map(Option::unwrap_or_default)
}

/// Asks for the passphrase of a disk.
pub fn ask_for(what: &Path) -> Result<Passphrase> {
    ask(&format!("Passphrase of {}: ", what.display()))
}

/// Asks for the passphrase of a disk's parent. If the disk has one, nothing means that one.
pub fn ask_for_parent(what: &Path, same: bool) -> Result<Option<Passphrase>> {
    let same = if same { " [Enter: the same]" } else { "" };
    let text = ask(&format!(
        "Passphrase of its parent {}{same}: ",
        what.display()
    ))?;
    Ok((same.is_empty() || !text.is_empty()).then_some(text))
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
    fn secrets_come_over_as_they_were() {
        let pass = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        let mut secrets = Secrets::new(pass("own\n"));
        secrets.push(None);
        secrets.push(Some(pass("\0\n")));
        secrets.push(Some(pass("")));
        let mut bytes = Vec::new();
        secrets.write(&mut bytes).unwrap();
        let bytes = read(&bytes[..]).unwrap().unwrap();
        let over = Secrets::parse(&bytes).unwrap();
        assert_eq!(over.own().as_slice(), b"own\n");
        let parents = [0, 1, 2].map(|index| over.of_parent(index));
        let parents = parents.map(|(passphrase, named)| (passphrase.to_vec(), named));
        assert_eq!(
            parents,
            [
                (b"own\n".to_vec(), false),
                (b"\0\n".to_vec(), true),
                (vec![], true)
            ]
        );
        for end in 0..bytes.len() {
            // A part of them is fewer, or none.
            let part = Secrets::parse(&bytes[..end]);
            assert!(part.is_none_or(|part| part.parents.len() < 3), "{end}");
        }
    }

    #[test]
    fn long_ones_are_read_whole_and_endless_ones_refused() {
        let long = vec![b'x'; 100_000];
        assert_eq!(read(&long[..]).unwrap().unwrap().as_slice(), long);
        assert!(read(io::repeat(1)).unwrap().is_none());
    }
}
