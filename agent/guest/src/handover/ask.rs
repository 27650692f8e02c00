//! The commands by which people and programs of the guest ask the agent.
use super::requests::{Question, ask};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// Sends files to the host, one after the other, and says of each what became of it.
///
/// # Errors
/// Some did not arrive.
pub fn send(files: &[PathBuf]) -> Result<()> {
    let mut failed = 0;
    for file in files {
        let sent = std::path::absolute(file)
            .context("is no path")
            .and_then(|path| ask(&Question::Send(path)));
        match sent {
            Ok(()) => println!("{}: the host has it", file.display()),
            Err(error) => {
                eprintln!("{}: {error:#}", file.display());
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} files did not arrive", files.len());
    }
    Ok(())
}

/// Has the host's browser open an address.
///
/// # Errors
/// No agent, no host, or one that forbids it.
pub fn open(url: &str) -> Result<()> {
    ask(&Question::Open(url.to_owned())).with_context(|| url.to_owned())
}
