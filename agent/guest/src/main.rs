//! The agent's command line.
#![forbid(unsafe_code)]
use anyhow::Result;
use clap::{Parser, Subcommand};
use medley_guest::apps::launch;
use medley_guest::handover::{ask, printing, updates};
use medley_guest::log::Lines;
use medley_guest::{Options, install, run};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

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
        /// The port of this machine's own on which the host's printer is reached.
        #[arg(long, default_value_t = printing::PORT)]
        printer_port: u16,
    },
    /// Send files to the host, and say what became of each.
    Send {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Open an address of the web in the host's browser.
    Open {
        /// The address: http or https.
        url: String,
    },
    /// Write into a guest's files what the agent needs there: the X server's configuration, units, itself.
    Install {
        /// The root of the guest's files.
        #[arg(long)]
        root: PathBuf,
        /// The user whose apps are shown.
        #[arg(long, default_value = "medley")]
        user: String,
        /// Links that apps of the guest open go to the host's browser, and not to one of the guest's.
        #[arg(long)]
        links_to_host: bool,
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
    let log = Lines::default();
    let filter = tracing_subscriber::EnvFilter::try_from_env("MEDLEY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let here = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(here.with_filter(filter))
        .with(log.layer())
        .init();
    match command(Arguments::parse(), log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("medley-guest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(arguments: Arguments, log: Lines) -> Result<()> {
    match arguments.command {
        Verb::Run {
            display,
            gui,
            control,
            bulk,
            pool,
            set_clock,
            printer_port,
        } => {
            if let Some(program) = updates::newer() {
                tracing::warn!("{:#}", updates::run_instead(&program));
            }
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
                printer_port,
                log,
            })
        }
        Verb::Send { files } => ask::send(&files),
        Verb::Open { url } => ask::open(&url),
        Verb::Install {
            root,
            user,
            links_to_host,
        } => install::install(&root, &user, links_to_host),
        Verb::Start { command } => launch::start_detached(&command),
    }
}
