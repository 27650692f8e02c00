//! A session from its beginning to its end.

use crate::balloon::GuestBalloon;
use crate::disk::{DiskServer, Program};
use crate::folder::{Folder, remove};
use crate::server::{Frontend, Order, Request};
use crate::sleep::{self, Likeness, Slept, Unwoken};
use crate::watchdog::Budget;
use crate::{Code, Error, ErrorKind, Notice, Result, keys};
use medley_hypervisor::{DiskEndpoint, Exit, Hypervisor, Machine, MachineSpec, State, StopReason};
use medley_memory::{Controller, Follow, Source};
use medley_sealing::{SealedFile, WrappingKey};
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use uuid::Uuid;
use vdisk::image::DiskKey;
use vdisk_xts::XtsKey;

/// How long a machine that ended may take to be gone.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What a session is made of.
#[derive(Debug)]
pub struct Setup {
    /// The disk's file.
    pub disk: PathBuf,
    /// Its format, by name, where it should not be found out.
    pub format: Option<String>,
    /// Its key, if it is encrypted. Only sessions of encrypted disks sleep: their memory would lie in
    /// clear.
    pub key: Option<DiskKey>,
    /// The machine; its disk is filled in here. Its `run_dir` takes the disk's socket, too.
    pub spec: MachineSpec,
    /// How the machine reaches the disk.
    pub frontend: Frontend,
    /// Most bytes the session may write.
    pub quota: Option<u64>,
    /// Whether what is written is forgotten when the session ends (not when it sleeps).
    pub revertible: bool,
    /// Boot, whatever is saved; saved states are dropped.
    pub boot_anew: bool,
    /// How the disk's server is started.
    pub program: Program,
}

/// How a session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Began {
    /// From power-on: the machine is made and not yet started.
    Boot,
    /// Where it slept: the machine is paused.
    Resumed,
    /// Where [`Session::keep_booted`] was called: the machine is paused.
    FromBooted,
}

/// What becomes of what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is there the next time.
    Keep,
    /// It is forgotten, key first.
    Revert,
}

/// A session that runs. Dropping it pulls the machine's plug; what the guest flushed stays.
pub struct Session<'a> {
    // Dropped in this order: the machine before its disk, the lock last.
    follow: Option<Follow>,
    machine: Option<Arc<dyn Machine>>,
    disk: DiskServer,
    hypervisor: &'a dyn Hypervisor,
    spec: MachineSpec,
    likeness: Likeness,
    state_key: Option<WrappingKey>,
    began: Began,
    revertible: bool,
    restarts: Budget,
    notices: Sender<Notice>,
    folder: Folder,
}

impl<'a> Session<'a> {
    /// Begins a session in `folder`: goes on with what is saved there, else boots. What happens by itself,
    /// now and later, is told to `notices`.
    ///
    /// A saved state that is out of date, damaged or forged is dropped, told of, and the machine boots
    /// from what its disk holds. One that could wake, only not here and now, is an error and stays.
    pub fn begin(
        folder: Folder,
        setup: Setup,
        hypervisor: &'a dyn Hypervisor,
        notices: Sender<Notice>,
    ) -> Result<Self> {
        let beginning = Beginning::new(folder, setup, hypervisor, notices)?;
        beginning.tidy()?;
        if beginning.setup.boot_anew {
            return beginning.boot();
        }
        let state = beginning.folder.state();
        if let Some((machine, disk)) = beginning.wake(&state, Began::Resumed)? {
            return Ok(beginning.into_session(machine, disk, Began::Resumed));
        }
        let (overlay, booted) = (
            beginning.folder.overlay(),
            beginning.folder.booted_overlay(),
        );
        if beginning.setup.revertible && !there(&overlay) && there(&booted) {
            copy_sparse(&booted, &overlay)?;
            let state = beginning.folder.booted_state();
            if let Some((machine, disk)) = beginning.wake(&state, Began::FromBooted)? {
                return Ok(beginning.into_session(machine, disk, Began::FromBooted));
            }
            // What the boot wrote is no use without its memory.
            revert(&overlay)?;
        }
        beginning.boot()
    }

    /// How it began.
    pub fn began(&self) -> Began {
        self.began
    }

    /// The machine.
    pub fn machine(&self) -> &dyn Machine {
        // Only methods that consume the session take it.
        match &self.machine {
            Some(machine) => &**machine,
            None => unreachable!("a session without a machine is over"),
        }
    }

    /// The guest's RAM, all of it.
    pub fn memory_mib(&self) -> u32 {
        self.spec.memory_mib
    }

    /// The process that serves the disk now.
    pub fn disk_server_id(&self) -> u32 {
        self.disk.process_id()
    }

    /// From now on the guest's RAM follows what the host has to spare, as `controller` decides; until the
    /// machine ends.
    pub fn follow(&mut self, controller: Controller, host: impl Source) -> Result<()> {
        if let Some(machine) = &self.machine {
            let balloon = GuestBalloon(Arc::downgrade(machine));
            let follow = Follow::start(controller, host, balloon);
            self.follow = Some(follow.map_err(|e| {
                Error::new(ErrorKind::Machine, "follow the host's memory").because(e)
            })?);
        }
        Ok(())
    }

    /// Whether it can sleep, and if not, why.
    pub fn can_sleep(&self) -> Result<()> {
        self.state_key().map(drop)
    }

    fn state_key(&self) -> Result<&WrappingKey> {
        if !self.hypervisor.capabilities().suspend {
            let what = format!("{} cannot suspend machines", self.hypervisor.describe());
            return Err(Error::new(ErrorKind::Request, what));
        }
        self.state_key.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Request,
                "the disk is not encrypted, and the machine's memory would lie in clear beside it",
            )
            .remedy("encrypt the disk, or shut the guest down")
        })
    }

    /// Falls asleep: memory sealed, disk flushed, machine and server ended. On an error the machine runs
    /// on as if nothing had been asked, and the session is handed back.
    pub fn sleep(mut self) -> Result<Slept, Box<(Self, Error)>> {
        let path = self.folder.state();
        match self.save(&path) {
            Ok(slept) => {
                // The machine is of no more use: nothing it could write may reach the disk.
                let ended = self.machine.take().map(|machine| machine.kill());
                tracing::debug!(?ended, "the machine sleeps");
                if let Err(error) = self.disk.close() {
                    // All was flushed before.
                    tracing::warn!(%error, "the disk's server");
                }
                Ok(slept)
            }
            Err(error) => {
                if let Err(also) = self.go_on() {
                    tracing::warn!(%also, "the machine does not go on");
                }
                Err(Box::new((self, error)))
            }
        }
    }

    /// Keeps the machine as it is now for sessions to begin with: right after a boot, say, with the user's
    /// desktop waiting. The machine goes on.
    pub fn keep_booted(&self) -> Result<Slept> {
        let (path, overlay) = (self.folder.booted_state(), self.folder.booted_overlay());
        drop_booted(&self.folder)?;
        let kept = self.save(&path).and_then(|slept| {
            copy_sparse(&self.folder.overlay(), &overlay)?;
            Ok(slept)
        });
        let awake = self.disk.ask(Request::Wake);
        let on = self.go_on();
        match kept.and_then(|slept| awake.and(on).map(|()| slept)) {
            Ok(slept) => Ok(slept),
            Err(error) => {
                drop_booted(&self.folder)?;
                Err(error)
            }
        }
    }

    /// Saves machine and disk together. The machine stands still and the overlay is tied to the state.
    fn save(&self, path: &Path) -> Result<Slept> {
        let key = self.state_key()?;
        let began = Instant::now();
        let saved = sleep::save(self.machine(), path, key, &self.likeness)?;
        // Until here the state belongs to nothing; from here on the overlay goes on with it alone.
        if let Err(error) = self.disk.ask(Request::Sleep(*saved.identity.as_bytes())) {
            remove(path)?;
            return Err(error);
        }
        Ok(Slept {
            state_bytes: saved.bytes,
            file_bytes: saved.file_bytes,
            took: began.elapsed(),
        })
    }

    fn go_on(&self) -> Result<()> {
        match self.machine().state() {
            State::Paused | State::Faulted => Ok(self.machine().resume()?),
            _ => Ok(()),
        }
    }

    /// Starts the machine again after an end that nobody wanted, as a power failure would: from what its
    /// disk holds. Waits as long as the budget says; an error when there were too many.
    pub fn restart(&mut self, why: &Exit) -> Result<()> {
        let code = match why.reason {
            StopReason::GuestPanicked => Code::GuestPanicked,
            StopReason::Killed => Code::GuestSilent,
            _ => Code::MachineDied,
        };
        self.tell(code, format!("the machine ended: {why}"));
        let Some(pause) = self.restarts.spend(Instant::now()) else {
            let what = format!("the machine ended too often, the last time: {why}");
            self.tell(Code::MachineGaveUp, what.clone());
            return Err(Error::new(ErrorKind::Machine, what)
                .remedy("look at the guest's console; start the session again to try once more"));
        };
        std::thread::sleep(pause);
        self.machine = None;
        self.machine = Some(Arc::from(self.hypervisor.create(&self.spec)?));
        self.machine().start()?;
        self.tell(Code::MachineRestarted, "the machine was started again");
        Ok(())
    }

    /// Ends the session; the machine, if it still runs, like a plug that is pulled. What the guest flushed
    /// is on disk when this returns.
    pub fn end(mut self, fate: Fate) -> Result<Option<Exit>> {
        let exit = match self.machine.take() {
            Some(machine) => Some(machine.stop(STOP_WITHIN)?),
            None => None,
        };
        let closed = self.disk.close();
        if fate == Fate::Revert && self.revertible {
            revert(&self.folder.overlay())?;
        }
        closed.map(|()| exit)
    }

    fn tell(&self, code: Code, text: impl Into<String>) {
        drop(self.notices.send(Notice::new(code, text)));
    }
}

/// A machine that stands where it slept, and its disk.
type Awake = (Box<dyn Machine>, DiskServer);

/// Everything before there is a machine.
struct Beginning<'a> {
    folder: Folder,
    setup: Setup,
    hypervisor: &'a dyn Hypervisor,
    likeness: Likeness,
    state_key: Option<WrappingKey>,
    notices: Sender<Notice>,
}

impl<'a> Beginning<'a> {
    fn new(
        folder: Folder,
        mut setup: Setup,
        hypervisor: &'a dyn Hypervisor,
        notices: Sender<Notice>,
    ) -> Result<Self> {
        let socket = setup.spec.run_dir.join("disk.sock");
        setup.spec.disk = match setup.frontend {
            Frontend::Nbd => DiskEndpoint::nbd_unix(socket, ""),
            Frontend::VhostUser => DiskEndpoint::vhost_user_blk(socket, setup.spec.cpus.into()),
        };
        let state_key = setup
            .key
            .as_ref()
            .map(|key| keys::of_state(&key.key))
            .transpose()?;
        if let Some(key) = &state_key
            && let Some(saved) = sleep::likeness(&folder.state(), key)
            && !setup.boot_anew
        {
            // A machine that sleeps wakes as large as it was, whatever suits the host today.
            setup.spec.memory_mib = saved.memory_mib;
            setup.spec.cpus = saved.cpus;
        }
        let accelerator = hypervisor.acceleration(setup.spec.accelerator)?.accelerator;
        Ok(Self {
            likeness: Likeness::of(&setup.spec, accelerator),
            folder,
            setup,
            hypervisor,
            state_key,
            notices,
        })
    }

    /// Forgets what must not be there: what a revertible session left that was killed, and what is not
    /// wanted any more.
    fn tidy(&self) -> Result<()> {
        let (state, overlay) = (self.folder.state(), self.folder.overlay());
        if self.setup.boot_anew {
            remove(&state)?;
            drop_booted(&self.folder)?;
        }
        let asleep = there(&state) && is_suspended(&overlay);
        if self.setup.revertible && there(&overlay) && !asleep {
            remove(&state)?;
            revert(&overlay)?;
            if !self.setup.boot_anew {
                let text = "forgot what a session that did not end in good order had written";
                self.tell(Code::LeftoverReverted, text);
            }
        }
        Ok(())
    }

    fn tell(&self, code: Code, text: impl Into<String>) {
        drop(self.notices.send(Notice::new(code, text)));
    }

    fn serve(&self, wakes: Option<[u8; 32]>) -> Result<DiskServer> {
        let (setup, socket) = (
            &self.setup,
            match &self.setup.spec.disk {
                DiskEndpoint::NbdUnix { socket, .. }
                | DiskEndpoint::VhostUserBlk { socket, .. } => socket.clone(),
                _ => return Err(Error::new(ErrorKind::Request, "a disk that is not ours")),
            },
        );
        let order = Order {
            disk: absolute(&setup.disk)?,
            format: setup.format.clone(),
            overlay: self.folder.overlay(),
            quota: setup.quota,
            wakes,
            socket,
            frontend: setup.frontend,
            header: setup.key.as_ref().map(|key| key.header),
        };
        let key = setup.key.as_ref().map(copy_of).transpose()?;
        DiskServer::start(setup.program.clone(), order, key, self.notices.clone())
    }

    /// Goes on with a saved state, if there is one that is good for anything.
    fn wake(&self, path: &Path, began: Began) -> Result<Option<Awake>> {
        let Some(key) = self.state_key.as_ref().filter(|_| there(path)) else {
            return Ok(None);
        };
        let file = match sleep::open(path, key, &self.likeness) {
            Ok(file) => file,
            Err(unwoken) => return self.unwoken(unwoken, path, None),
        };
        let identity = *file.identity().as_bytes();
        let disk = match self.serve(Some(identity)) {
            Ok(disk) => disk,
            Err(error) if error.kind() == ErrorKind::Busy => {
                self.tell(
                    Code::StateOutdated,
                    format!("the saved state is dropped, the machine boots: {error}"),
                );
                remove(path)?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match self.wake_machine(&file) {
            Ok(machine) => {
                // From the first write on the state is out of date; a booted one stays for the next time.
                if began == Began::Resumed {
                    remove(path)?;
                }
                let (code, text) = match began {
                    Began::FromBooted => (Code::FromBooted, "the machine goes on after its boot"),
                    _ => (Code::Resumed, "the machine goes on where it slept"),
                };
                self.tell(code, text);
                Ok(Some((machine, disk)))
            }
            Err(unwoken) => self.unwoken(unwoken, path, Some((disk, identity))),
        }
    }

    fn wake_machine(&self, file: &SealedFile) -> Result<Box<dyn Machine>, Unwoken> {
        sleep::wake(self.hypervisor, &self.setup.spec, file)
    }

    /// A state that never wakes is dropped. One that does not now is tied to its disk again, and stays.
    fn unwoken(
        &self,
        unwoken: Unwoken,
        path: &Path,
        disk: Option<(DiskServer, [u8; 32])>,
    ) -> Result<Option<Awake>> {
        match unwoken {
            Unwoken::Bad(error) => {
                self.tell(
                    Code::StateRefused,
                    format!("the saved state is dropped, the machine boots: {error}"),
                );
                match disk {
                    Some((disk, _)) => disk.close()?,
                    // The overlay is still tied to what cannot be opened: it is untied by waking it.
                    None => self.untie(),
                }
                remove(path)?;
                Ok(None)
            }
            Unwoken::NotNow(error) => {
                if let Some((disk, identity)) = disk {
                    disk.ask(Request::Sleep(identity))?;
                    disk.close()?;
                }
                Err(error)
            }
        }
    }

    /// Lets an overlay go on without its state.
    fn untie(&self) {
        let overlay = self.folder.overlay();
        if let Ok(found) = vdisk::overlay::inspect(&overlay)
            && let vdisk::overlay::State::Suspended(state) = found.state
        {
            match self.serve(Some(state)).and_then(DiskServer::close) {
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "the overlay stays asleep"),
            }
        }
    }

    fn boot(self) -> Result<Session<'a>> {
        // A state that is gone must not keep its disk from being used.
        if !there(&self.folder.state()) && is_suspended(&self.folder.overlay()) {
            self.untie();
        }
        let disk = self.serve(None)?;
        let machine = self.hypervisor.create(&self.setup.spec)?;
        Ok(self.into_session(machine, disk, Began::Boot))
    }

    fn into_session(
        self,
        machine: Box<dyn Machine>,
        disk: DiskServer,
        began: Began,
    ) -> Session<'a> {
        Session {
            follow: None,
            machine: Some(Arc::from(machine)),
            disk,
            hypervisor: self.hypervisor,
            spec: self.setup.spec,
            likeness: self.likeness,
            state_key: self.state_key,
            began,
            revertible: self.setup.revertible,
            restarts: Budget::new(5, Duration::from_secs(600), Duration::from_secs(1)),
            notices: self.notices,
            folder: self.folder,
        }
    }
}

/// Another copy of a key, wiped like the first.
fn copy_of(key: &DiskKey) -> Result<DiskKey> {
    let header: Uuid = key.header;
    let key = XtsKey::new(*key.key.as_bytes())
        .map_err(|e| Error::new(ErrorKind::Disk, "the disk's key").because(e))?;
    Ok(DiskKey { key, header })
}

fn there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::file("cannot find the disk", path))
}

fn is_suspended(overlay: &Path) -> bool {
    let found = vdisk::overlay::inspect(overlay);
    found.is_ok_and(|found| matches!(found.state, vdisk::overlay::State::Suspended(_)))
}

fn drop_booted(folder: &Folder) -> Result<()> {
    // The memory first: an overlay alone is never begun with.
    remove(&folder.booted_state())?;
    if there(&folder.booted_overlay()) {
        revert(&folder.booted_overlay())?;
    }
    Ok(())
}

/// Forgets an overlay, key first.
fn revert(overlay: &Path) -> Result<()> {
    if !there(overlay) {
        return Ok(());
    }
    vdisk::overlay::revert(overlay)
        .map_err(|e| Error::new(ErrorKind::Disk, "revert the session").because(e))
}

/// Copies a file's data and leaves its holes holes.
fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    use nix::unistd::{Whence, lseek};
    use std::io::{Read, Seek, SeekFrom, Write};
    let copy = || -> std::io::Result<()> {
        let source = File::open(from)?;
        let folder = to.parent().unwrap_or(Path::new("."));
        let mut draft = tempfile::NamedTempFile::new_in(folder)?;
        let len = source.metadata()?.len();
        draft.as_file().set_len(len)?;
        let mut at = 0;
        while at < len {
            // The end of the file is a hole that is not there.
            let Ok(data) = lseek(&source, at.cast_signed(), Whence::SeekData) else {
                break;
            };
            let hole = lseek(&source, data, Whence::SeekHole)?;
            let (data, hole) = (data.cast_unsigned(), hole.cast_unsigned());
            (&source).seek(SeekFrom::Start(data))?;
            draft.as_file_mut().seek(SeekFrom::Start(data))?;
            std::io::copy(&mut (&source).take(hole - data), draft.as_file_mut())?;
            at = hole;
        }
        draft.as_file_mut().flush()?;
        draft.as_file().sync_all()?;
        draft.persist(to)?;
        Ok(())
    };
    copy().map_err(Error::file("cannot copy the overlay", from))
}
