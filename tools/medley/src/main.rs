//! The medley command line: what is typed, and which command it is.
//!
//! Every command lives in its own file in `cmd`; `args` holds the options they share, `exit` how they end,
//! `output` how they speak.

mod args;
mod background;
mod chain;
mod cmd;
mod console;
mod exit;
mod fd;
mod filters;
mod outlet;
mod output;
mod passphrase;
mod policy;
mod progress;
mod run_dir;
mod script;
mod secrets;
mod signals;
mod size;
mod terminal;

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use exit::{Failure, Result};
use output::{Report, Ui};

/// Encrypted disks, and machines that boot from them
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "\
EXAMPLES
  medley disk create office.vhd --size 20G --encrypt
  medley disk encrypt debian.vhd office.vhd
  medley disk mount office.vhd /mnt/office
  medley boot office.vhd
Exit codes are listed by `medley help exit-codes`.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON document instead of text; errors are JSON on standard error
    #[arg(long, global = true, help_heading = "Speaking")]
    json: bool,
    /// Print nothing but results and errors
    #[arg(long, short, global = true, help_heading = "Speaking")]
    quiet: bool,
    /// Tell on standard error what happens inside; twice tells more
    #[arg(long, short, global = true, help_heading = "Speaking", action = clap::ArgAction::Count)]
    verbose: u8,
    /// This process was started to work in the background.
    #[arg(long, hide = true)]
    detached: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make, open, convert and check disks
    #[command(subcommand)]
    Disk(Box<Disk>),
    /// Run a machine from a disk
    Boot(Box<cmd::boot::Boot>),
    /// Say how a machine would be on this host
    #[command(subcommand)]
    Machine(Box<cmd::machine::Machine>),
    /// Say what a guest's network would be on this host
    #[command(subcommand)]
    Network(Box<cmd::network::Network>),
    /// Start an app of a guest; its windows appear on this desktop
    Run(cmd::windows::Run),
    /// Have a guest open a file or an address, with whichever of its apps does
    Open(cmd::windows::Open),
    /// Send files to a guest
    Send(cmd::windows::Send),
    /// List the apps of a guest
    Apps(cmd::windows::Apps),
    /// Show the whole screen of a machine in a window
    View(cmd::view::View),
    /// Take a guest's windows off the screen
    Lock(cmd::windows::Lock),
    /// Show a guest's windows again
    Unlock(cmd::windows::Unlock),
    /// Serve a session's disk, as the session says.
    #[command(name = cmd::boot::DISK_SERVER, hide = true)]
    #[command(
        after_help = "EXAMPLES\n  medley boot office.vhd --session office.session   # starts one"
    )]
    SessionDisk,
    /// Print completions for a shell
    Completions(Completions),
    /// Print what the exit codes mean
    #[command(long_about = format!("Exit codes:\n\n{}", exit::table().trim_end()))]
    #[command(
        after_help = "EXAMPLES\n  medley disk check office.vhd; test $? -eq 5 && echo damaged"
    )]
    ExitCodes,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
EXAMPLES
  medley disk create office.vhd --size 20G --encrypt
  medley disk info office.vhd
  medley disk key add office.vhd")]
enum Disk {
    /// Make a new, empty disk
    Create(cmd::create::Create),
    /// Tell what a disk's file is
    Info(cmd::info::Info),
    /// Copy a plain disk into another format
    Convert(cmd::convert::Convert),
    /// Make an encrypted copy of a disk, under a key of its own
    Encrypt(cmd::encrypt::Encrypt),
    /// Make a plain copy of an encrypted disk
    Decrypt(cmd::decrypt::Decrypt),
    /// Look for damage, and repair it if asked to
    Check(cmd::check::Check),
    /// Make a disk larger or smaller
    Resize(cmd::upkeep::Resize),
    /// Give back the space that a disk's file does not need
    Compact(cmd::upkeep::Compact),
    /// Write a differencing disk's sectors into its parent
    Commit(cmd::upkeep::Commit),
    /// Give a differencing disk another parent
    Rebase(cmd::upkeep::Rebase),
    /// Show a disk as files in a directory (FUSE)
    Mount(cmd::mount::Mount),
    /// End a mount and wait until all is flushed
    Unmount(cmd::unmount::Unmount),
    /// Serve a disk over NBD or vhost-user-blk on a Unix socket
    Serve(cmd::serve::Serve),
    /// Measure how fast this machine encrypts
    Speed(cmd::speed::Speed),
    /// Manage the passphrases of an encrypted disk
    #[command(subcommand)]
    Key(cmd::key::Key),
    /// Look at, commit or revert what durable sessions wrote
    #[command(subcommand)]
    Overlay(cmd::overlay::Overlay),
}

/// Options of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  medley completions bash > ~/.local/share/bash-completion/completions/medley
  medley completions zsh > ~/.zfunc/_medley")]
struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error),
    };
    let ui = Ui {
        json: cli.json,
        quiet: cli.quiet,
    };
    log(&cli);
    let detached = cli.detached;
    let boots = matches!(cli.command, Command::Boot(_));
    let result = signals::listen()
        .map_err(Failure::io("cannot listen for signals"))
        .and_then(|()| {
            if detached {
                background::detach()
            } else {
                Ok(())
            }
        })
        .and_then(|()| run(cli.command, ui, detached));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if detached {
                background::failed(&failure);
            } else {
                ui.error(&failure);
                if boots {
                    // The guest speaks on standard error, too, and could say anything.
                    ui.error_as_result(&failure);
                }
            }
            failure.kind().code().into()
        }
    }
}

fn run(command: Command, ui: Ui, detached: bool) -> Result<()> {
    match command {
        Command::Disk(disk) => run_disk(*disk, ui, detached),
        Command::Boot(args) => cmd::boot::run(*args, ui),
        Command::Machine(verb) => cmd::machine::run(*verb, ui),
        Command::Network(verb) => cmd::network::run(*verb, ui),
        Command::Run(args) => cmd::windows::run(args, ui),
        Command::Open(args) => cmd::windows::open(&args, ui),
        Command::Send(args) => cmd::windows::send(&args, ui),
        Command::Apps(args) => cmd::windows::apps(&args, ui),
        Command::View(args) => cmd::view::run(args, ui),
        Command::Lock(args) => cmd::windows::lock(&args.folder, true, ui),
        Command::Unlock(args) => cmd::windows::lock(&args.folder, false, ui),
        Command::SessionDisk => cmd::boot::serve_disk(),
        Command::Completions(args) => {
            ui.show(&Completion::of(args.shell))?;
            Ok(())
        }
        Command::ExitCodes => {
            ui.show(&ExitCodes {
                exit_codes: exit::rows(),
            })?;
            Ok(())
        }
    }
}

fn run_disk(disk: Disk, ui: Ui, detached: bool) -> Result<()> {
    match disk {
        Disk::Create(args) => cmd::create::run(args, ui),
        Disk::Info(args) => cmd::info::run(args, ui),
        Disk::Convert(args) => cmd::convert::run(args, ui),
        Disk::Encrypt(args) => cmd::encrypt::run(args, ui),
        Disk::Decrypt(args) => cmd::decrypt::run(args, ui),
        Disk::Check(args) => cmd::check::run(args, ui),
        Disk::Resize(args) => cmd::upkeep::resize(args, ui),
        Disk::Compact(args) => cmd::upkeep::compact(args, ui),
        Disk::Commit(args) => cmd::upkeep::commit(args, ui),
        Disk::Rebase(args) => cmd::upkeep::rebase(args, ui),
        Disk::Mount(args) => cmd::mount::run(args, ui, detached),
        Disk::Unmount(args) => cmd::unmount::run(args, ui),
        Disk::Serve(args) => cmd::serve::run(args, ui, detached),
        Disk::Speed(args) => cmd::speed::run(args, ui),
        Disk::Key(verb) => cmd::key::run(verb, ui),
        Disk::Overlay(verb) => cmd::overlay::run(verb, ui),
    }
}

/// A command line that is none, or that asks for help.
fn misunderstood(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|arg| arg == OsStr::new("--json"));
    if json && error.use_stderr() {
        let text = error.render().to_string();
        let message = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
        let ui = Ui { json, quiet: false };
        let failure = Failure::usage(message);
        ui.error(&failure);
        return failure.kind().code().into();
    }
    let _ = error.print();
    u8::try_from(error.exit_code()).unwrap_or(2).into()
}

fn log(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level);
    if cli.json {
        log.json().init()
    } else {
        log.without_time().init()
    }
}

#[derive(Serialize)]
struct Completion {
    shell: String,
    script: String,
}

impl Completion {
    fn of(shell: Shell) -> Self {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "medley", &mut script);
        Self {
            shell: shell.to_string(),
            script: String::from_utf8_lossy(&script).into_owned(),
        }
    }
}

impl Report for Completion {
    fn human(&self) -> String {
        self.script.clone()
    }
}

#[derive(Serialize)]
struct ExitCodes {
    exit_codes: Vec<exit::Row>,
}

impl Report for ExitCodes {
    fn human(&self) -> String {
        exit::table()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_has_examples() {
        fn walk(command: &mut clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command.render_long_help().to_string();
            assert!(help.contains("EXAMPLES"), "no example in the help of{path}");
            // clap's own `help` needs none.
            for sub in command
                .get_subcommands_mut()
                .filter(|sub| sub.get_name() != "help")
            {
                walk(sub, &path);
            }
        }
        walk(&mut Cli::command(), "");
    }
}
