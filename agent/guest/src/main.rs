//! The agent's command line.
#![forbid(unsafe_code)]
use anyhow::Result;
use clap::{Parser, Subcommand};
use medley_guest::apps::launch;
use medley_guest::{Options, install, run};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Medley's agent in a Linux guest: shows the guest's windows on the host's desktop.
#[derive(Debug, Parser)]
#[command(name = "medley-guest", version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Be the window manager and compositor of a display, and speak with the host.
    Run {
        /// The X display, as in :0.
        #[arg(long, env = "DISPLAY")]
        display: String,
        /// The gui channel: a virtio-serial port or a Unix socket. [default: the port of that name]
        #[arg(long)]
        gui: Option<PathBuf>,
        /// The control channel.
        #[arg(long)]
        control: Option<PathBuf>,
        /// The bulk channel.
        #[arg(long)]
        bulk: Option<PathBuf>,
        /// Memory shared with the host for pixels: a PCI device's resource2, a file, or "auto".
        #[arg(long)]
        pool: Option<PathBuf>,
        /// Set the guest's clock when the host says what time it is.
        #[arg(long)]
        set_clock: bool,
    },
    /// Write into a guest's files what the agent needs there: the X server's configuration, units, itself.
    Install {
        /// The root of the guest's files.
        #[arg(long)]
        root: PathBuf,
        /// The user whose apps are shown.
        #[arg(long, default_value = "medley")]
        user: String,
    },
    /// Start a program that outlives whoever started it.
    #[command(name = launch::START, hide = true)]
    Start {
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("MEDLEY_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .init();
    match command(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("medley-guest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Verb::Run {
            display,
            gui,
            control,
            bulk,
            pool,
            set_clock,
        } => {
            let ports = Options::on(display);
            run(&Options {
                gui: gui.unwrap_or(ports.gui),
                control: control.unwrap_or(ports.control),
                bulk: bulk.unwrap_or(ports.bulk),
                pool: match pool {
                    Some(path) if path.as_os_str() == "auto" => install::find_pool(),
                    other => other,
                },
                sets_clock: set_clock,
                display: ports.display,
            })
        }
        Verb::Install { root, user } => install::install(&root, &user),
        Verb::Start { command } => launch::start_detached(&command),
    }
}
