//! `medley-hostile`: plays scenarios as it is told on its standard input, one line at a time.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::Parser;
use medley_hostile::guest::{Guest, Places};

/// A guest that means harm. Lines on standard input tell it what to do: `play NAME`, `go`, `tell`.
///
/// Each is answered with lines on standard output, the last of which is `ready` and the number of the line.
#[derive(Debug, Parser)]
#[command(name = "medley-hostile", version)]
struct Arguments {
    /// Listen on sockets in this folder, named gui, control and bulk, instead of opening the machine's ports.
    #[arg(long, value_name = "DIR")]
    sockets: Option<PathBuf>,
    /// Only say which scenarios there are.
    #[arg(long)]
    list: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.list {
        for scenario in medley_hostile::scenarios::ALL {
            println!("{:<16} {}", scenario.name, scenario.about);
        }
        return Ok(());
    }
    let places = match &arguments.sockets {
        Some(folder) => Places::listening(folder)?,
        None => Places::ports(),
    };
    Guest::new(places).obey()
}
