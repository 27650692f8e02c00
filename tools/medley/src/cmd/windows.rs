//! `medley run`, `open`, `send`, `apps`, `lock` and `unlock`: the windows of a session that
//! `medley boot --windows` runs.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use medley_host::{Answer, App, Ask, Error};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::boot::screen::Place;
use crate::exit::{Failure, Kind, Result};
use crate::output::{Report, Ui};
use crate::progress;

/// How long windows of a whole screen may take to go.
const UNSEEN: Duration = Duration::from_secs(3);

/// Options of `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
The app is named as the guest's menu names it, or by the beginning of that name, or by its id.
Files are sent to the guest first, which the session must allow (medley boot --files-in).

EXAMPLES
  medley run office.session xterm
  medley run office.session 'Text Editor' --wait-window
  medley run office.session Writer letter.odt notes.txt
  medley run office.session Firefox https://intranet.example/
  medley run office.session Firefox --action 1        # what else it can do; see `medley apps --json`")]
pub struct Run {
    /// The session's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The app's name, or its id
    #[arg(value_name = "APP")]
    app: String,
    /// What it is to open: files of this host's, and addresses
    #[arg(value_name = "FILE|URL")]
    with: Vec<OsString>,
    /// Launch this one of the app's further actions
    #[arg(long, value_name = "N", default_value_t = 0)]
    action: u8,
    /// Return when its first window is there
    #[arg(long)]
    wait_window: bool,
    /// How long the guest may take
    #[arg(long, value_name = "S", default_value_t = 60)]
    timeout: u32,
}

/// Options of `open`.
#[derive(Debug, Args)]
#[command(after_help = "\
The guest's app is the first by name that opens such addresses or documents; files are sent to the
guest first, which the session must allow (medley boot --files-in).

EXAMPLES
  medley open office.session https://intranet.example/
  medley open office.session letter.odt")]
pub struct Open {
    /// The session's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// A file of this host's, or an address
    #[arg(value_name = "FILE|URL", required = true)]
    with: Vec<OsString>,
    /// Return when its first window is there
    #[arg(long)]
    wait_window: bool,
    /// How long the guest may take
    #[arg(long, value_name = "S", default_value_t = 60)]
    timeout: u32,
}

/// Options of `send`.
#[derive(Debug, Args)]
#[command(after_help = "\
The files lie in the guest's folder for what comes in. The session must allow it
(medley boot --files-in); --files-types, --files-bytes and --files-scan say which pass.

EXAMPLES
  medley send office.session letter.odt figures.ods")]
pub struct Send {
    /// The session's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How long it may take
    #[arg(long, value_name = "S", default_value_t = 600)]
    timeout: u32,
}

/// Options of `apps`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  medley apps office.session
  medley apps office.session --json | jq -r '.apps[].name'")]
pub struct Apps {
    /// The session's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// How long the guest may take to say which it has
    #[arg(long, value_name = "S", default_value_t = 60)]
    timeout: u32,
}

/// Options of `lock`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing of the guest is shown and no key reaches it until `medley unlock`; it runs on. Windows of its
apps come back then by themselves; one of its whole screen (`medley view`) is closed, and is to be opened anew.

EXAMPLES
  medley lock office.session")]
pub struct Lock {
    /// The session's folder, or the machine's own
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Options of `unlock`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  medley unlock office.session")]
pub struct Unlock {
    /// The session's folder, or the machine's own
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

#[derive(Serialize)]
struct Listed {
    apps: Vec<App>,
}

impl Report for Listed {
    fn human(&self) -> String {
        let lines = self
            .apps
            .iter()
            .map(|app| format!("{}  {}", app.id, app.name));
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[derive(Serialize)]
struct Started {
    started: App,
}

impl Report for Started {
    fn human(&self) -> String {
        format!("{} runs", self.started.name)
    }
}

#[derive(Serialize)]
struct Sent {
    sent: Vec<PathBuf>,
}

impl Report for Sent {
    fn human(&self) -> String {
        let lines = self.sent.iter().map(|path| format!("{}", path.display()));
        lines.map(|line| line + " was sent\n").collect()
    }
}

#[derive(Serialize)]
struct Obeyed {
    locked: bool,
}

impl Report for Obeyed {
    fn human(&self) -> String {
        let words = if self.locked { "locked" } else { "unlocked" };
        words.into()
    }
}

/// Runs `run`.
pub fn run(args: Run, ui: Ui) -> Result<()> {
    let (arguments, files) = sorted(&args.with)?;
    let question = Ask::Run {
        app: args.app,
        action: args.action,
        arguments,
        files,
        window: args.wait_window,
        seconds: args.timeout,
    };
    started(&args.folder, &question, ui)
}

/// Runs `open`.
pub fn open(args: &Open, ui: Ui) -> Result<()> {
    let (arguments, files) = sorted(&args.with)?;
    let question = Ask::Open {
        arguments,
        files,
        window: args.wait_window,
        seconds: args.timeout,
    };
    started(&args.folder, &question, ui)
}

fn started(folder: &Path, question: &Ask, ui: Ui) -> Result<()> {
    match ask(folder, question, ui, "starting the app")? {
        Answer::Running { app } => Ok(ui.show(&Started { started: app })?),
        other => Err(odd(&other)),
    }
}

/// Runs `send`.
pub fn send(args: &Send, ui: Ui) -> Result<()> {
    let files: Result<Vec<_>> = args.files.iter().map(|path| found(path)).collect();
    let sent = files?;
    let question = Ask::Send {
        files: sent.clone(),
        seconds: args.timeout,
    };
    match ask(&args.folder, &question, ui, "sending")? {
        Answer::Done => Ok(ui.show(&Sent { sent })?),
        other => Err(odd(&other)),
    }
}

/// Addresses and files apart. What is there is a file, whatever else it looks like.
fn sorted(with: &[OsString]) -> Result<(Vec<String>, Vec<PathBuf>)> {
    let (mut addresses, mut files) = (Vec::new(), Vec::new());
    for word in with {
        match address(word) {
            Some(Address::Other(address)) => addresses.push(address),
            Some(Address::File(path)) => files.push(found(&path)?),
            None => files.push(found(Path::new(word))?),
        }
    }
    Ok((addresses, files))
}

#[derive(Debug, PartialEq, Eq)]
enum Address {
    /// As desktops name files when they start an app with some.
    File(PathBuf),
    Other(String),
}

/// The address that a word is, if it is none of a file here.
fn address(word: &OsStr) -> Option<Address> {
    use std::os::unix::ffi::OsStringExt;
    if Path::new(word).symlink_metadata().is_ok() {
        return None;
    }
    let text = word.to_str()?;
    let (scheme, rest) = text.split_once(':')?;
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(letters);
    if !good || rest.is_empty() {
        return None;
    }
    if !scheme.eq_ignore_ascii_case("file") {
        return Some(Address::Other(text.into()));
    }
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    // A file of another host is none of ours, also if there is one of such a name here.
    if !path.starts_with('/') {
        return Some(Address::Other(text.into()));
    }
    let path = percent_decode_str(path).collect();
    Some(Address::File(PathBuf::from(OsString::from_vec(path))))
}

/// A file's own path, without links: the session does not follow any.
fn found(path: &Path) -> Result<PathBuf> {
    let failed = Failure::io(format!("{}: cannot be sent", path.display()));
    let path = std::fs::canonicalize(path).map_err(failed)?;
    if path.to_str().is_none() {
        return Err(
            Failure::usage(format!("{}: not a name in UTF-8", path.display()))
                .remedy("send a copy with another name"),
        );
    }
    Ok(path)
}

/// Runs `apps`.
pub fn apps(args: &Apps, ui: Ui) -> Result<()> {
    let question = Ask::Apps {
        seconds: args.timeout,
    };
    match ask(&args.folder, &question, ui, "asking the guest")? {
        Answer::Apps { apps } => Ok(ui.show(&Listed { apps })?),
        other => Err(odd(&other)),
    }
}

/// Runs `lock` and `unlock`.
pub fn lock(folder: &Path, locked: bool, ui: Ui) -> Result<()> {
    let found = Place::find(folder);
    let screen = found.as_ref().ok().and_then(Option::as_ref);
    let screen = screen.filter(|screen| screen.is_there());
    let wait = || medley_host::ask(folder, &Ask::Lock { locked });
    let answer = progress::busy(ui, "waiting for the windows", wait);
    // Who shows windows of apps marks the whole screen as well. Where there are none, or they do not obey, it can
    // be hidden all the same.
    let nobody = matches!(answer, Err(Error::Nobody(_)));
    if let Some(screen) = screen
        && (nobody || (answer.is_err() && locked))
    {
        screen.lock(locked)?;
    }
    match answer {
        Ok(Answer::Done) => {}
        Err(Error::Nobody(_)) if screen.is_some() => {}
        Ok(other) => return Err(odd(&other)),
        Err(error) => return Err(refused(error)),
    }
    if let Some(screen) = screen
        && locked
        && !progress::busy(ui, "waiting for the screen", || screen.unseen(UNSEEN))?
    {
        let what = format!("{}: a window of the whole screen stays", folder.display());
        return Err(Failure::failed(what).remedy("end medley view, which has perhaps been stopped"));
    }
    found?;
    ui.show(&Obeyed { locked })
}

fn ask(folder: &Path, question: &Ask, ui: Ui, what: &'static str) -> Result<Answer> {
    let answer = progress::busy(ui, what, || medley_host::ask(folder, question));
    answer.map_err(refused)
}

fn refused(error: Error) -> Failure {
    match error {
        Error::Nobody(_) => Failure::new(Kind::Usage, error.to_string()),
        other => other.into(),
    }
}

fn odd(answer: &Answer) -> Failure {
    Failure::failed(format!("the session answered something else: {answer:?}"))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_addresses_are_told_apart() {
        let other = |text: &str| Some(Address::Other(text.into()));
        let file = |path: &str| Some(Address::File(path.into()));
        for (word, means) in [
            (
                "https://example.org/?a:b",
                other("https://example.org/?a:b"),
            ),
            ("mailto:a@b", other("mailto:a@b")),
            ("file:///a%20b%25.txt", file("/a b%.txt")),
            ("file://localhost/a", file("/a")),
            ("FILE:/a", file("/a")),
            ("file://server/share/x", other("file://server/share/x")),
            ("file:a", other("file:a")),
            ("a.txt", None),
            ("./a:b", None),
            ("x y:z", None),
        ] {
            assert_eq!(address(OsStr::new(word)), means, "{word}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a:b");
        std::fs::write(&path, "").unwrap();
        assert_eq!(address(path.as_os_str()), None);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(found(&link).unwrap(), path.canonicalize().unwrap());
        assert!(found(&dir.path().join("none")).is_err());
    }
}
