//! Signals that ask a bench to stop: it unwinds through `Result`, so that its servers, mounts and files
//! go with their guards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

fn flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// From here on SIGINT, SIGTERM and SIGHUP make [`go_on`] fail instead of ending the program.
///
/// # Errors
/// When a handler cannot be installed.
pub fn catch() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag()))
            .context("cannot install a signal handler")?;
    }
    Ok(())
}

/// Whether a signal asked us to stop.
pub fn raised() -> bool {
    flag().load(Ordering::SeqCst)
}

/// Fails if a signal asked us to stop.
///
/// # Errors
/// Then, and only then.
pub fn go_on() -> Result<()> {
    if raised() {
        bail!("interrupted");
    }
    Ok(())
}
