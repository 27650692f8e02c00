//! A child that dies with us: the one place of this crate where code runs between fork and exec.
//!
//! A presenter ends with its standard input, but only one that still listens. The parent-death signal fires when
//! the *thread* that forked ends, so whoever spawns through here must do so from a thread that outlives the
//! child.
#![allow(unsafe_code)]
use nix::errno::Errno;
use nix::sys::{prctl, signal::Signal};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the command's child end with the thread that spawns it.
pub(crate) fn tie(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let prepare = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // If we died before the line above, the signal never comes.
        if nix::unistd::getppid() != parent {
            return Err(Errno::ESRCH.into());
        }
        Ok(())
    };
    // SAFETY: the closure runs in the forked child, where only async-signal-safe calls are sound. It makes two
    // system calls (prctl, getppid) and neither allocates, locks nor panics; its errors are plain numbers.
    unsafe { command.pre_exec(prepare) };
}
