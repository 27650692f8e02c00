//! A directory with the disk as files: `disk.raw`, `disk.vhd` and `status.json`.
//!
//! `files` answers the kernel's requests, `allocated` knows how full they are, `mount` attaches and detaches the directory; here is the
//! handle that keeps both together.

mod allocated;
mod files;
mod mount;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vdisk::Disk;

use crate::error::{Error, Result};
use crate::stats::{Stats, Summary};
use files::Files;
use mount::Mount;

/// How long an ordinary unmount is tried before users of the files are cut off.
const PATIENCE: Duration = Duration::from_millis(500);

/// How a disk is mounted.
#[derive(Debug, Clone)]
pub struct FuseOptions {
    /// Threads that answer requests; 0 means as many as suit this machine.
    pub threads: usize,
    /// Refuse writes, even if the disk allows them.
    pub read_only: bool,
    /// The footer that makes a fixed VHD of the disk's bytes.
    pub footer: [u8; 512],
}

impl FuseOptions {
    /// Writable, with the usual number of threads.
    pub fn new(footer: [u8; 512]) -> Self {
        Self {
            threads: 0,
            read_only: false,
            footer,
        }
    }
}

/// How a mount came down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// Nobody was using it, or somebody else had unmounted it already.
    Clean,
    /// Files were open: the directory is gone, and their users get errors from now on.
    CutOff,
    /// Files were open and could not be cut off: the directory is gone, but the disk is served until
    /// their users close them.
    Lingering,
}

/// A mounted disk. Dropping it does what [`FuseMount::unmount`] does, without telling of errors.
///
/// If the process is killed, a watcher unmounts in its place.
pub struct FuseMount {
    mount: Mount,
    /// What to flush; `None` if nobody may write.
    written: Option<Disk>,
    stats: Arc<Stats>,
    end: Arc<End>,
}

impl std::fmt::Debug for FuseMount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FuseMount")
            .field("mount", &self.mount)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// The end of the service, for those who wait for it.
#[derive(Debug, Default)]
struct End {
    state: Mutex<EndState>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct EndState {
    reached: bool,
    /// What went wrong at the end, until it is told.
    failed: Option<Error>,
}

impl End {
    fn lock(&self) -> MutexGuard<'_, EndState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FuseMount {
    /// Mounts `disk` on an empty directory, for this user only.
    ///
    /// A mount that a dead process left there is removed first.
    pub fn mount(mountpoint: impl AsRef<Path>, disk: Disk, options: FuseOptions) -> Result<Self> {
        let read_only = options.read_only || disk.info().read_only;
        let (device, mount) = Mount::new(mountpoint.as_ref(), &disk.info().name, read_only)?;
        let stats = Arc::new(Stats::default());
        let files = Files::new(disk.clone(), read_only, options.footer, stats.clone());
        let mut config = fuser::Config::default();
        config.n_threads = Some(match options.threads {
            // More than processors: a thread may be waiting for the store under the disk.
            0 => std::thread::available_parallelism().map_or(4, |n| n.get().clamp(2, 8) * 2),
            n => n,
        });
        config.clone_fd = true;
        let acl = fuser::SessionACL::Owner;
        let end = Arc::new(End::default());
        let written = (!read_only).then_some(disk);
        let started = fuser::Session::from_fd(files, device, acl, config).and_then(|session| {
            let (end, mount, written) = (end.clone(), mount.clone(), written.clone());
            std::thread::Builder::new()
                .name("fuse-session".into())
                .spawn(move || {
                    let ended = match session.run() {
                        // Cut off, by us or by `umount -f`; its users were told.
                        Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {
                            Ok(())
                        }
                        ended => ended,
                    };
                    let ended = ended.map_err(Error::io(mount.path(), "FUSE session ended badly"));
                    // One that was not unmounted leaves a mount that nobody answers for.
                    mount.abandon(ended.is_err());
                    let flushed = flush(written.as_ref());
                    drop(written);
                    // Of two errors the caller gets the worse one: bytes may be lost.
                    if let (Err(error), Err(_)) = (&ended, &flushed) {
                        tracing::error!("{error}");
                    }
                    let mut state = end.lock();
                    *state = EndState {
                        reached: true,
                        failed: flushed.and(ended).err(),
                    };
                    end.bell.notify_all();
                })
        });
        if let Err(source) = started {
            let path = mount.path().to_owned();
            let _ = mount.detach(true);
            mount.ended();
            return Err(Error::io(path, "FUSE session cannot start")(source));
        }
        Ok(Self {
            mount,
            written,
            stats,
            end,
        })
    }

    /// The mountpoint, absolute.
    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// The disk as plain bytes.
    pub fn raw(&self) -> PathBuf {
        self.path().join(files::RAW)
    }

    /// The disk as a fixed VHD.
    pub fn vhd(&self) -> PathBuf {
        self.path().join(files::VHD)
    }

    /// What was done so far; `status.json` says the same.
    pub fn stats(&self) -> Summary {
        self.stats.summary()
    }

    /// Whether the disk is still served.
    pub fn is_mounted(&self) -> bool {
        !self.end.lock().reached
    }

    /// Waits until somebody unmounts (`fusermount3 -u`, or [`FuseMount::unmount`] in another thread), or
    /// the service fails. What went wrong at the end is told once, to whoever asks first.
    pub fn wait(&self) -> Result<()> {
        while !self.wait_for(Duration::from_secs(3600)) {}
        self.result()
    }

    /// Waits, but not longer than `limit`; whether the mount has ended.
    pub fn wait_for(&self, limit: Duration) -> bool {
        let state = self.end.lock();
        let waited = self
            .end
            .bell
            .wait_timeout_while(state, limit, |state| !state.reached);
        waited.unwrap_or_else(PoisonError::into_inner).0.reached
    }

    /// Unmounts and flushes the disk. Open files do not stop it: see [`Unmounted`].
    ///
    /// Whatever this returns, what was written before the call is flushed, or the error says that it is
    /// not; after an error [`FuseMount::is_mounted`] says whether the disk is still served.
    pub fn unmount(&self) -> Result<Unmounted> {
        let unmounted = self.take_down();
        // The end of the service flushes, but it may never come, or not before the process is gone.
        if self.is_mounted() || matches!(unmounted, Ok(Unmounted::Lingering)) {
            flush(self.written.as_ref())?;
        }
        unmounted
    }

    fn take_down(&self) -> Result<Unmounted> {
        if !self.is_mounted() {
            return self.result().map(|()| Unmounted::Clean);
        }
        let begin = Instant::now();
        let clean = loop {
            if self.mount.detach(false)? {
                break true;
            }
            // Often it is only somebody who looks at every new mount.
            if begin.elapsed() > PATIENCE {
                break false;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if clean && self.wait_for(PATIENCE) {
            return self.result().map(|()| Unmounted::Clean);
        }
        tracing::warn!(path = %self.path().display(), "unmounting although files are open");
        self.mount.detach(true)?;
        let cut_off = self.wait_for(Duration::from_millis(50)) || self.mount.abort();
        if cut_off && self.wait_for(Duration::from_secs(5)) {
            return self.result().map(|()| Unmounted::CutOff);
        }
        // The directory is free for others, whom our watcher must not unmount.
        self.mount.ended();
        Ok(Unmounted::Lingering)
    }

    /// How the service ended. Told once.
    fn result(&self) -> Result<()> {
        self.end.lock().failed.take().map_or(Ok(()), Err)
    }
}

fn flush(written: Option<&Disk>) -> Result<()> {
    Ok(written.map_or(Ok(()), Disk::flush)?)
}

impl Drop for FuseMount {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            tracing::error!(%error, path = %self.path().display(), "FUSE mount ended badly");
        }
    }
}
