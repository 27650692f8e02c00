//! `medley-viewer`: shows one machine's whole screen in a window.
#![forbid(unsafe_code)]
use clap::Parser;
use medley_presenter::frame::{Colour, Frame, Look};
use medley_presenter::model::Policy;
use medley_presenter::report::Report;
use medley_viewer::shown::Dress;
use medley_viewer::window::{self, Ending, Options};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Shows a machine's whole screen on this desktop, in a frame that no pixel of it can reach.
///
/// It ends with 0 when the machine ended or the window was closed, 1 if the system failed it, 2 for wrong
/// arguments, 3 if the display failed, 4 if nobody shows a screen on the socket, 5 if the connection failed, 6 if
/// the screen broke a rule of the protocol.
#[derive(Debug, Parser)]
#[command(name = "medley-viewer", version)]
struct Arguments {
    /// The Unix socket on which the machine shows its screen (RFB 3.8, without a password).
    #[arg(long, value_name = "SOCKET")]
    socket: PathBuf,
    /// The workspace's name: stands in front of the title.
    #[arg(long, value_name = "NAME")]
    workspace: String,
    /// Colour of the frame.
    #[arg(long, value_name = "RRGGBB", value_parser = colour, default_value = "0000c0")]
    colour: Colour,
    /// Width of the frame, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 3)]
    border: u16,
    /// No pattern: the frame has one colour.
    #[arg(long)]
    plain: bool,
    /// Cover a whole monitor.
    #[arg(long)]
    fullscreen: bool,
    /// Show every pixel of the guest's as one of this desktop's; what does not fit is cut off.
    #[arg(long)]
    original_size: bool,
    /// End when standard input does: with whoever has the other end.
    #[arg(long)]
    tied: bool,
    /// Print each event as a line of JSON.
    #[arg(long)]
    json: bool,
}

fn colour(digits: &str) -> Result<Colour, String> {
    Colour::parse(digits)
        .ok_or_else(|| "a colour is six hexadecimal digits, as in 0000c0".to_owned())
}

fn options(arguments: Arguments) -> Options {
    // A name that cannot end its own bracket, as the windows of apps have it.
    let workspace = Policy::new(&arguments.workspace).workspace;
    let look = match arguments.plain {
        true => Look::plain(arguments.colour),
        false => Look::new(arguments.colour, &arguments.workspace),
    };
    Options {
        socket: arguments.socket,
        workspace,
        dress: Dress {
            frame: Frame::new(arguments.border, 0),
            look,
            original: arguments.original_size,
        },
        fullscreen: arguments.fullscreen,
    }
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let arguments = Arguments::parse();
    let report = Report::new(arguments.json);
    let json = arguments.json;
    if arguments.tied {
        let tied = std::thread::Builder::new().name("tied".into());
        let end = || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            std::process::exit(0);
        };
        if let Err(error) = tied.spawn(end) {
            eprintln!("medley-viewer: a thread for standard input: {error}");
            return ExitCode::FAILURE;
        }
    }
    match window::run(options(arguments), &report) {
        Ok(ending) => {
            let cause = match ending {
                Ending::Machine => "machine",
                Ending::Window => "window",
            };
            report.say("ended", json!({ "cause": cause, "code": 0 }));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let (code, words) = (error.exit_code(), error.to_string());
            report.say(
                "ended",
                json!({ "cause": "failed", "code": code, "words": words }),
            );
            if !json {
                eprintln!("medley-viewer: {words}");
            }
            ExitCode::from(code)
        }
    }
}
