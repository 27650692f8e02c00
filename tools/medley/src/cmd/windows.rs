//! `medley run`, `apps`, `lock` and `unlock`: the windows of a session that `medley boot --windows` runs.

use std::path::{Path, PathBuf};

use clap::Args;
use medley_host::{Answer, App, Ask, Error};
use serde::Serialize;

use crate::exit::{Failure, Kind, Result};
use crate::output::{Report, Ui};
use crate::progress;

/// Options of `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
The app is named as the guest's menu names it, or by the beginning of that name, or by its id.

EXAMPLES
  medley run office.session xterm
  medley run office.session 'Text Editor' --wait-window")]
pub struct Run {
    /// The session's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The app's name, or its id
    #[arg(value_name = "APP")]
    app: String,
    /// Return when its first window is there
    #[arg(long)]
    wait_window: bool,
    /// How long the guest may take
    #[arg(long, value_name = "S", default_value_t = 60)]
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
Nothing of the guest is shown and no key reaches it until `medley unlock`; it runs on.

EXAMPLES
  medley lock office.session")]
pub struct Lock {
    /// The session's folder
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Options of `unlock`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  medley unlock office.session")]
pub struct Unlock {
    /// The session's folder
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
pub fn run(args: &Run, ui: Ui) -> Result<()> {
    let question = Ask::Run {
        app: args.app.clone(),
        window: args.wait_window,
        seconds: args.timeout,
    };
    match ask(&args.folder, &question, ui, "starting the app")? {
        Answer::Running { app } => Ok(ui.show(&Started { started: app })?),
        other => Err(odd(&other)),
    }
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
    match ask(folder, &Ask::Lock { locked }, ui, "waiting for the windows")? {
        Answer::Done => Ok(ui.show(&Obeyed { locked })?),
        other => Err(odd(&other)),
    }
}

fn ask(folder: &Path, question: &Ask, ui: Ui, what: &'static str) -> Result<Answer> {
    let answer = progress::busy(ui, what, || medley_host::ask(folder, question));
    answer.map_err(|error| match error {
        Error::Nobody(_) => Failure::new(Kind::Usage, error.to_string()),
        other => other.into(),
    })
}

fn odd(answer: &Answer) -> Failure {
    Failure::failed(format!("the session answered something else: {answer:?}"))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::failed(error.to_string())
    }
}
