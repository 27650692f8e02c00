//! A child that dies with us, and the descriptors it inherits: the one place of this crate where
//! code runs between fork and exec.
//!
//! The kernel's parent-death signal is the only lifeline that holds whatever happens: it needs no
//! cooperation of the child (QEMU does not end when its monitor hangs up) and no process of ours
//! that could itself be killed. It fires when the *thread* that forked ends, so whoever spawns
//! through here must do so from a thread that outlives the child; see `process.rs`.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::{prctl, signal::Signal};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the command's child end with the thread that spawns it, and hands it `inherit` under the
/// numbers they have here. They are closed here when the command is dropped.
pub(super) fn tie(command: &mut Command, inherit: Vec<OwnedFd>) {
    let parent = nix::unistd::getpid();
    let prepare = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // If we died before the line above, the signal never comes.
        if nix::unistd::getppid() != parent {
            return Err(Errno::ESRCH.into());
        }
        for fd in &inherit {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: the closure runs in the forked child, where only async-signal-safe calls are sound.
    // It makes prctl, getppid and fcntl system calls on values it owns, and neither allocates,
    // locks nor panics; the errors it converts are plain numbers.
    unsafe { command.pre_exec(prepare) };
}
