//! A place on a bridge of the host's, asked of a helper that may do what we may not.
//!
//! The helper is another program with a right of its own (`medley-bridge-helper`); it gets the
//! bridge's name as its only argument and one end of a socket as its standard input, and hands
//! back an open tap device. What it refuses, it explains on standard error.

use crate::error::{Error, ErrorKind, Result};
use crate::rule::interface_name;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::fs;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the helper is called.
pub const HELPER: &str = "medley-bridge-helper";
/// Where packages put programs that other programs start.
const FOLDERS: [&str; 2] = ["/usr/libexec/medley", "/usr/lib/medley"];
/// The helper asks the kernel, and a directory of users for its rules.
const WITHIN: Duration = Duration::from_secs(30);
/// As much as is read of what it says.
const WORDS: u64 = 4096;

/// A place on a bridge: gone when it is dropped and no machine has it.
#[derive(Debug)]
pub struct Place {
    /// The open tap device, with virtio's header before each frame.
    pub device: OwnedFd,
    /// What the host calls it.
    pub interface: String,
    /// The bridge.
    pub bridge: String,
}

/// Asks for a place on this bridge: of the helper that is given, or of the one beside our own
/// program or in the folders of packages.
pub fn join(bridge: &str, helper: Option<&Path>) -> Result<Place> {
    interface_name(bridge)
        .map_err(|why| Error::new(ErrorKind::BadPolicy, "network.bridge", why))?;
    let program = match helper {
        Some(program) => program.to_owned(),
        None => find()?,
    };
    let operation = format!("join bridge {bridge}");
    let failed = |error| Error::io(format!("start {}", program.display()), error);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let child = Command::new(&program)
        .arg(bridge)
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut helper = Helper(child);
    ours.set_read_timeout(Some(WITHIN)).map_err(failed)?;
    let device = receive(&ours).map_err(|error| Error::io(&operation, error))?;
    let Some(device) = device else {
        let why = helper.explains();
        return Err(Error::new(ErrorKind::Refused, operation, why));
    };
    // The kernel says what it is: no program need be believed.
    let about = format!("/proc/self/fdinfo/{}", device.as_raw_fd());
    let about = fs::read_to_string(about).map_err(|error| Error::io(&operation, error))?;
    let interface = about.lines().find_map(|line| line.strip_prefix("iff:"));
    match interface.map(str::trim) {
        Some(interface) if !interface.is_empty() => Ok(Place {
            device,
            interface: interface.to_owned(),
            bridge: bridge.to_owned(),
        }),
        _ => Err(Error::new(
            ErrorKind::Launch,
            operation,
            format!("{} handed back no tap device", program.display()),
        )),
    }
}

fn find() -> Result<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let packaged = FOLDERS.iter().map(PathBuf::from);
    let mut places = beside.into_iter().chain(packaged);
    let there = places.find_map(|folder| {
        let program = folder.join(HELPER);
        program.is_file().then_some(program)
    });
    there.ok_or_else(|| {
        let detail = format!("no {HELPER} beside this program or in {}", FOLDERS[0]);
        Error::new(ErrorKind::Missing, "find the bridge helper", detail)
            .remedy("install it with CAP_NET_ADMIN, or use mode = \"nat\"")
    })
}

/// The descriptor that comes with the one byte that the helper sends; `None` if it hangs up.
fn receive(stream: &UnixStream) -> std::io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut byte)];
    loop {
        match recvmsg(stream, &mut bytes, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut messages = ancillary.drain();
    Ok(messages.find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

/// The helper while it runs.
struct Helper(Child);

impl Helper {
    /// Why it did not do it. It has hung up, so it is at its end.
    fn explains(&mut self) -> String {
        let mut words = Vec::new();
        if let Some(said) = self.0.stderr.take() {
            drop(said.take(WORDS).read_to_end(&mut words));
        }
        let words = String::from_utf8_lossy(&words);
        let words = words.trim();
        let words = words.strip_prefix(HELPER).unwrap_or(words);
        match words.trim_start_matches(':').trim() {
            "" => "its helper ended without a word".into(),
            words => words.to_owned(),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(1);
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() > end {
                drop(self.0.kill());
                drop(self.0.wait());
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn helper(script: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("helper");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        (folder, program)
    }

    #[test]
    fn a_helper_that_refuses_is_quoted() {
        let (_folder, program) = helper(&format!("echo '{HELPER}: not you' >&2; exit 1"));
        let error = join("br0", Some(&program)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(error.to_string(), "join bridge br0: not you");
        let (_folder, program) = helper("exit 1");
        let error = join("br0", Some(&program)).unwrap_err().to_string();
        assert!(error.contains("without a word"), "{error}");
    }

    #[test]
    fn it_gets_a_name_and_nothing_else() {
        let (_folder, program) =
            helper("echo \"$# $1 $(env | grep -vc '^\\(PWD\\|SHLVL\\|_\\)=')\" >&2");
        let error = join("br-1", Some(&program)).unwrap_err().to_string();
        assert_eq!(error, "join bridge br-1: 1 br-1 0");
    }

    #[test]
    fn names_that_are_none_are_refused_before_anybody_is_asked() {
        for name in ["", "-br", ".", "a/b", "a b", "sixteencharacter", "br0\n"] {
            let error = join(name, Some(Path::new("/nonexistent"))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadPolicy, "{name:?}");
        }
    }
}
