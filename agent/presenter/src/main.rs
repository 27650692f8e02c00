//! `medley-presenter`: shows one guest's windows on the host's screen.
#![forbid(unsafe_code)]
use clap::{Parser, ValueEnum};
use medley_presenter::frame::{Colour, Frame, Look};
use medley_presenter::model::Policy;
use medley_presenter::run::{self, Ending, Options};
use medley_presenter::screen::{Dress, Server};
use medley_presenter::services::{self, ClipboardPolicy, Way};
use medley_services::Service;
use std::path::PathBuf;
use std::process::ExitCode;

/// Shows a guest's windows on this desktop, each in a frame that the guest cannot reach.
///
/// It ends with 0 when it was told to or the guest said farewell, 1 if the system failed it, 2 for wrong
/// arguments, 3 if the display failed, 4 if a socket or file cannot be opened, 5 if a channel failed, 6 if
/// the guest broke a rule, 7 if guest and host have no version in common, 8 if there can be no sandbox.
#[derive(Debug, Parser)]
#[command(name = "medley-presenter", version)]
struct Arguments {
    /// The workspace's name: stands in front of every title.
    #[arg(long, value_name = "NAME")]
    workspace: String,
    /// Colour of the frames.
    #[arg(long, value_name = "RRGGBB", value_parser = colour, default_value = "0000c0")]
    colour: Colour,
    /// Width of the frames, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 3)]
    border: u16,
    /// No pattern: the frames have one colour.
    #[arg(long)]
    plain: bool,
    /// A strip with the workspace's name above every window.
    #[arg(long)]
    caption: bool,
    /// Words that are written faintly over the guest's pixels.
    #[arg(long, value_name = "WORDS")]
    watermark: Option<String>,
    /// The gui channel's Unix socket.
    #[arg(long, value_name = "SOCKET")]
    gui: PathBuf,
    /// The control channel's Unix socket.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// The bulk channel's Unix socket.
    #[arg(long, value_name = "SOCKET")]
    bulk: Option<PathBuf>,
    /// The file of the memory that guest and host share for pixels.
    #[arg(long, value_name = "FILE")]
    pool: Option<PathBuf>,
    /// The window system. Auto is X11 where it answers, else Wayland: only on X11 can a window be put where
    /// the guest has it.
    #[arg(long, value_enum, default_value = "auto")]
    display_server: DisplayServer,
    /// The display: `:0` or the like for X11, a socket's name or path for Wayland; by default the
    /// environment's.
    #[arg(long, value_name = "DISPLAY")]
    display: Option<String>,
    /// Let windows cover a whole monitor.
    #[arg(long)]
    fullscreen: bool,
    /// Let cursors be the guest's own pictures, with an outline in the workspace's colour.
    #[arg(long)]
    cursor_pictures: bool,
    /// When the guest may have what the host copied.
    #[arg(long, value_enum, default_value = "denied")]
    clipboard_in: ClipboardWay,
    /// When the host may have what the guest copied.
    #[arg(long, value_enum, default_value = "denied")]
    clipboard_out: ClipboardWay,
    /// Bytes of a copied text, either way.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10)]
    clipboard_bytes: u64,
    /// Bytes of a copied picture (PNG), either way. Zero: pictures do not cross.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    clipboard_pictures: u64,
    /// What guest and host may hand to each other besides: files-in, files-out, print, notes, tray, urls. Who
    /// starts the presenter does it; the presenter asks for it in events, and is ordered.
    #[arg(long, value_name = "SERVICES", value_delimiter = ',')]
    allow: Vec<Service>,
    /// Write what goes over the gui channel to a new file. It will hold what is typed.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print each event as a line of JSON.
    #[arg(long)]
    json: bool,
    /// Read commands from standard input, and end with it: lock, unlock, resync, apps, launch ID, quit.
    #[arg(long)]
    commands: bool,
    /// Begin locked: nothing of the guest is shown until the command `unlock`.
    #[arg(long)]
    locked: bool,
    /// Go on without a sandbox, for debugging.
    #[arg(long)]
    no_sandbox: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DisplayServer {
    /// X11 if it answers, else Wayland.
    Auto,
    /// X11.
    X11,
    /// Wayland.
    Wayland,
}

impl From<DisplayServer> for Server {
    fn from(server: DisplayServer) -> Self {
        match server {
            DisplayServer::Auto => Self::Auto,
            DisplayServer::X11 => Self::X11,
            DisplayServer::Wayland => Self::Wayland,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ClipboardWay {
    /// Never.
    Denied,
    /// When Super+Shift+C (out) or Super+Shift+V (in) is pressed.
    Chord,
    /// While one of the guest's windows has the keyboard.
    Focus,
}

impl From<ClipboardWay> for Way {
    fn from(way: ClipboardWay) -> Self {
        match way {
            ClipboardWay::Denied => Self::Denied,
            ClipboardWay::Chord => Self::Chord,
            ClipboardWay::Focus => Self::Focus,
        }
    }
}

fn colour(digits: &str) -> Result<Colour, String> {
    Colour::parse(digits)
        .ok_or_else(|| "a colour is six hexadecimal digits, as in 0000c0".to_owned())
}

/// Pixels of the caption strip: the height of the host's fixed font, with some air.
const CAPTION: u16 = 18;

fn options(arguments: Arguments) -> Options {
    let look = if arguments.plain {
        Look::plain(arguments.colour)
    } else {
        Look::new(arguments.colour, &arguments.workspace)
    };
    let mut policy = Policy::new(&arguments.workspace);
    policy.fullscreen = arguments.fullscreen;
    policy.cursor_pictures = arguments.cursor_pictures;
    Options {
        dress: Dress {
            workspace: policy.workspace.clone(),
            frame: Frame::new(
                arguments.border,
                if arguments.caption { CAPTION } else { 0 },
            ),
            look,
            watermark: arguments.watermark,
        },
        services: services::Policy {
            clipboard: ClipboardPolicy {
                inward: arguments.clipboard_in.into(),
                outward: arguments.clipboard_out.into(),
                bytes: arguments.clipboard_bytes,
                pictures: arguments.clipboard_pictures,
            },
            allowed: medley_services::Policy::allowing(arguments.allow),
            workspace: policy.workspace.clone(),
        },
        policy,
        server: arguments.display_server.into(),
        display: arguments.display,
        gui: arguments.gui,
        control: arguments.control,
        bulk: arguments.bulk,
        pool: arguments.pool,
        record: arguments.record,
        json: arguments.json,
        commands: arguments.commands,
        locked: arguments.locked,
        no_sandbox: arguments.no_sandbox,
    }
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let options = options(Arguments::parse());
    let report = medley_presenter::report::Report::new(options.json);
    match run::run(options) {
        Ok(ending) => {
            let cause = match ending {
                Ending::Asked => "asked",
                Ending::Guest => "guest",
            };
            report.say("ended", serde_json::json!({ "cause": cause, "code": 0 }));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = error.exit_code();
            let words = chain(&error);
            report.say(
                "ended",
                serde_json::json!({ "cause": "failed", "code": code, "words": words }),
            );
            tracing::error!("{words}");
            ExitCode::from(code)
        }
    }
}

/// An error and what led to it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        words.push_str(": ");
        words.push_str(&error.to_string());
        source = error.source();
    }
    words
}
