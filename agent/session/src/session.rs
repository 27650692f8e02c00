//! A session from its beginning to its end.

use crate::balloon::GuestBalloon;
use crate::disk::{DiskServer, Program};
use crate::folder::{Folder, remove};
use crate::server::{Frontend, Order};
use crate::sleep::{self, Likeness, Slept, Unwoken};
use crate::uplink::{Uplink, UplinkReport};
use crate::watchdog::Budget;
use crate::{Code, Error, ErrorKind, Notice, Result, keys};
use medley_hypervisor::{
    Accelerator, DiskEndpoint, Exit, Hypervisor, Machine, MachineSpec, State, StopReason,
};
use medley_memory::{Controller, Follow, Source};
use medley_sealing::WrappingKey;
use serde::Serialize;
use std::cell::Cell;
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
enum Fate {
    /// It is there the next time.
    Keep,
    /// It is forgotten, key first.
    Revert,
}

/// A session that runs. Dropping it pulls the machine's plug; what the guest flushed stays.
pub struct Session<'a> {
    // Dropped in this order: the machine before its disk, the lock last.
    follow: Option<Follow>,
    machine: Arc<dyn Machine>,
    disk: Option<DiskServer>,
    uplink: Option<Uplink>,
    hypervisor: &'a dyn Hypervisor,
    spec: MachineSpec,
    likeness: Likeness,
    state_key: Option<WrappingKey>,
    began: Began,
    /// What becomes of what was written, if nobody says otherwise.
    fate: Fate,
    /// The kept boot that this session, or from now on others, began with.
    on: Cell<Option<[u8; 32]>>,
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
        let mut beginning = Beginning::new(folder, setup, hypervisor, notices)?;
        beginning.tidy()?;
        if beginning.setup.boot_anew {
            return beginning.boot();
        }
        if let Some(awake) = beginning.wake()? {
            return Ok(beginning.into_session(awake, Began::Resumed));
        }
        if beginning.setup.revertible
            && let Some(awake) = beginning.wake_booted()?
        {
            return Ok(beginning.into_session(awake, Began::FromBooted));
        }
        beginning.boot()
    }

    /// How it began.
    pub fn began(&self) -> Began {
        self.began
    }

    /// The machine.
    pub fn machine(&self) -> &dyn Machine {
        &*self.machine
    }

    /// The guest's RAM, all of it.
    pub fn memory_mib(&self) -> u32 {
        self.spec.memory_mib
    }

    /// The process that serves the disk now; `None` while it is being started again.
    pub fn disk_server_id(&self) -> Option<u32> {
        self.disk.as_ref().and_then(DiskServer::process_id)
    }

    fn disk(&self) -> Result<&DiskServer> {
        let over = || Error::new(ErrorKind::Request, "the session is over");
        self.disk.as_ref().ok_or_else(over)
    }

    /// From now on the guest's RAM follows what the host has to spare, as `controller` decides; until the
    /// machine ends.
    pub fn follow(&mut self, controller: Controller, host: impl Source) -> Result<()> {
        let balloon = GuestBalloon(Arc::downgrade(&self.machine));
        let follow = Follow::start(controller, host, balloon);
        let failed = |e| Error::new(ErrorKind::Machine, "follow the host's memory").because(e);
        self.follow = Some(follow.map_err(failed)?);
        Ok(())
    }

    /// Takes over the way to the world that the machine was begun with ([`MachineSpec::network`] is its
    /// [`Uplink::network`]): it lives as long as the session, whatever becomes of machines, and follows
    /// the host.
    pub fn join(&mut self, mut uplink: Uplink) {
        let woke = self.began != Began::Boot;
        uplink.lead_to(&self.machine, woke, self.notices.clone());
        self.uplink = Some(uplink);
    }

    /// The way to the world, as it is now.
    pub fn uplink(&self) -> Option<UplinkReport> {
        self.uplink.as_ref().map(Uplink::report)
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
        if !self.spec.folders.is_empty() {
            let what =
                "the machine has folders of the host's, and no session starts their servers again";
            return Err(Error::new(ErrorKind::Request, what).remedy("shut the guest down"));
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
            Ok((slept, _)) => {
                self.fate = Fate::Keep;
                // The machine is of no more use. Its disk takes no more writes, whatever it does.
                let ended = self.machine.kill();
                tracing::debug!(?ended, "the machine sleeps");
                if let Err(error) = self.finish() {
                    // All was flushed before.
                    tracing::warn!(%error, "the disk's server");
                }
                Ok(slept)
            }
            Err(error) => {
                if let Err(also) = self.call_off(&path) {
                    tracing::warn!(%also, "the machine does not go on");
                }
                Err(Box::new((self, error)))
            }
        }
    }

    /// Keeps the machine as it is now for sessions to begin with: right after a boot, say, with the user's
    /// desktop waiting. What it wrote until now lies below all of them; this one goes on above it, too.
    pub fn keep_booted(&self) -> Result<Slept> {
        let (state, below) = (self.folder.booted_state(), self.folder.booted_overlay());
        if self.on.get().is_some() {
            return Err(Error::new(
                ErrorKind::Request,
                "this session began on a kept boot",
            ));
        }
        drop_booted(&self.folder)?;
        let (slept, identity) = match self.save(&state) {
            Ok(kept) => kept,
            Err(error) => {
                self.call_off(&state)?;
                return Err(error);
            }
        };
        let overlay = self.folder.overlay(self.revertible());
        if let Err(error) = std::fs::rename(&overlay, &below) {
            self.call_off(&state)?;
            return Err(Error::file("cannot keep the overlay", &overlay)(error));
        }
        self.disk()?.move_on(|order| {
            order.wakes = None;
            order.on = Some((below, identity));
        })?;
        self.on.set(Some(identity));
        self.go_on()?;
        Ok(slept)
    }

    fn revertible(&self) -> bool {
        self.fate == Fate::Revert
    }

    /// Saves machine and disk together. The machine stands still then, and the overlay takes no writes.
    fn save(&self, path: &Path) -> Result<(Slept, [u8; 32])> {
        let key = self.state_key()?;
        let began = Instant::now();
        // A card that sleeps without its cable wakes without it.
        let _still = self.uplink.as_ref().and_then(Uplink::hold_still);
        let likeness = Likeness {
            on: self.on.get(),
            ..self.likeness.clone()
        };
        let saved = sleep::save(self.machine(), path, key, &likeness)?;
        // Until here the state belongs to nothing; from here on the overlay goes on with it alone.
        let identity = *saved.identity.as_bytes();
        self.disk()?.sleep(identity)?;
        let slept = Slept {
            state_bytes: saved.bytes,
            file_bytes: saved.file_bytes,
            took: began.elapsed(),
        };
        Ok((slept, identity))
    }

    /// Goes on as if there had been no sleep.
    fn call_off(&self, state: &Path) -> Result<()> {
        self.disk()?.wake()?;
        remove(state)?;
        self.go_on()
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
        let machine = self.hypervisor.create(&self.spec)?;
        machine.start()?;
        self.machine = Arc::from(machine);
        if let Some(uplink) = &mut self.uplink {
            uplink.lead_to(&self.machine, false, self.notices.clone());
        }
        self.tell(Code::MachineRestarted, "the machine was started again");
        Ok(())
    }

    /// Ends the session; the machine, if it still runs, like a plug that is pulled. What the guest flushed
    /// is on disk when this returns, or forgotten if the session is revertible.
    pub fn end(mut self) -> Result<Exit> {
        let stopped = self.machine.stop(STOP_WITHIN);
        let finished = self.finish();
        let exit = stopped?;
        finished.map(|()| exit)
    }

    /// Ends everything but the lock. Once.
    fn finish(&mut self) -> Result<()> {
        let Some(disk) = self.disk.take() else {
            return Ok(());
        };
        self.follow = None;
        if let Err(error) = self.machine.kill() {
            tracing::warn!(%error, "the machine");
        }
        let closed = disk.close();
        match self.fate {
            Fate::Keep => closed,
            // What its server could not flush is of no interest any more.
            Fate::Revert => revert(&self.folder.overlay(true)),
        }
    }

    fn tell(&self, code: Code, text: impl Into<String>) {
        drop(self.notices.send(Notice::new(code, text)));
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::warn!(%error, "the session did not end in good order");
        }
    }
}

/// A machine that stands where it slept, its disk, and the kept boot below it, if any.
struct Awake {
    machine: Box<dyn Machine>,
    disk: DiskServer,
    on: Option<[u8; 32]>,
}

/// Everything before there is a machine.
struct Beginning<'a> {
    folder: Folder,
    setup: Setup,
    hypervisor: &'a dyn Hypervisor,
    likeness: Likeness,
    accelerator: Accelerator,
    state_key: Option<WrappingKey>,
    notices: Sender<Notice>,
}

impl<'a> Beginning<'a> {
    fn new(
        folder: Folder,
        setup: Setup,
        hypervisor: &'a dyn Hypervisor,
        notices: Sender<Notice>,
    ) -> Result<Self> {
        let key = setup.key.as_ref().map(|key| keys::of_state(&key.key));
        let state_key = key.transpose()?;
        let accelerator = hypervisor.acceleration(setup.spec.accelerator)?.accelerator;
        let mut beginning = Self {
            likeness: Likeness::of(&setup.spec, accelerator),
            accelerator,
            folder,
            setup,
            hypervisor,
            state_key,
            notices,
        };
        beginning.attach();
        Ok(beginning)
    }

    /// Fills in the disk, which follows the processors.
    fn attach(&mut self) {
        let spec = &mut self.setup.spec;
        let socket = spec.run_dir.join("disk.sock");
        spec.disk = match self.setup.frontend {
            Frontend::Nbd => DiskEndpoint::nbd_unix(socket, ""),
            Frontend::VhostUser => DiskEndpoint::vhost_user_blk(socket, spec.cpus.into()),
        };
        self.likeness = Likeness::of(spec, self.accelerator);
    }

    /// A machine that slept wakes as large as it was, whatever suits the host today.
    fn adopt(&mut self, saved: &Likeness) {
        self.setup.spec.memory_mib = saved.memory_mib;
        self.setup.spec.cpus = saved.cpus;
        self.attach();
    }

    fn overlay(&self) -> PathBuf {
        self.folder.overlay(self.setup.revertible)
    }

    /// Forgets what must not be there: what a revertible session left that was killed, and what is not
    /// wanted any more.
    fn tidy(&self) -> Result<()> {
        self.folder.sweep()?;
        let state = self.folder.state();
        if self.setup.boot_anew {
            remove(&state)?;
            drop_booted(&self.folder)?;
        } else if there(&state) && sleeps(&self.folder.overlay(!self.setup.revertible))? {
            let (is, remedy) = match self.setup.revertible {
                true => ("durable", "start it without --revertible"),
                false => ("revertible", "start it with --revertible"),
            };
            let what = format!("the session that sleeps in this folder is {is}");
            let remedy = format!("{remedy}, or drop what sleeps with --boot-anew");
            return Err(Error::new(ErrorKind::Request, what).remedy(remedy));
        }
        let left = self.folder.overlay(true);
        if there(&left) && !(there(&state) && sleeps(&left)?) {
            revert(&left)?;
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

    fn serve(&self, wakes: Option<[u8; 32]>, on: Option<[u8; 32]>) -> Result<DiskServer> {
        let setup = &self.setup;
        let order = Order {
            disk: absolute(&setup.disk)?,
            format: setup.format.clone(),
            overlay: self.overlay(),
            quota: setup.quota,
            wakes,
            again: false,
            on: on.map(|saved| (self.folder.booted_overlay(), saved)),
            socket: setup.spec.run_dir.join("disk.sock"),
            frontend: setup.frontend,
            header: setup.key.as_ref().map(|key| key.header),
        };
        for path in [&order.disk, &order.overlay, &order.socket] {
            if path.to_str().is_none() {
                let what = format!("{}: the name is not UTF-8", path.display());
                return Err(Error::new(ErrorKind::Request, what));
            }
        }
        let key = setup.key.as_ref().map(copy_of).transpose()?;
        DiskServer::start(setup.program.clone(), order, key, self.notices.clone())
    }

    /// Goes on where the session slept, if it did and the state is good for anything.
    fn wake(&mut self) -> Result<Option<Awake>> {
        let path = self.folder.state();
        if !there(&path) {
            return Ok(None);
        }
        match self.wake_from(&path, false) {
            Ok(awake) => {
                // Out of date from here on, whether it goes or not.
                if let Err(error) = remove(&path) {
                    tracing::warn!(%error, "the saved state stays");
                }
                self.tell(Code::Resumed, "the machine goes on where it slept");
                Ok(Some(awake))
            }
            Err(Unwoken::NotNow(error)) => Err(error),
            Err(Unwoken::Bad(error)) => {
                let code = match error.kind() {
                    ErrorKind::Outdated => Code::StateOutdated,
                    _ => Code::StateRefused,
                };
                let text = format!("the saved state is dropped, the machine boots: {error}");
                self.tell(code, text);
                remove(&path)?;
                Ok(None)
            }
        }
    }

    /// Goes on from a kept boot, if there is one. It is a convenience: whatever is wrong with it, the
    /// machine boots.
    fn wake_booted(&mut self) -> Result<Option<Awake>> {
        let path = self.folder.booted_state();
        if !there(&path) {
            return Ok(None);
        }
        match self.wake_from(&path, true) {
            Ok(awake) => {
                self.tell(Code::FromBooted, "the machine goes on after its boot");
                Ok(Some(awake))
            }
            Err(Unwoken::NotNow(error)) if error.kind() == ErrorKind::Busy => Err(error),
            Err(Unwoken::NotNow(error) | Unwoken::Bad(error)) => {
                let text = format!("the kept boot is dropped, the machine boots: {error}");
                self.tell(Code::BootedDropped, text);
                drop_booted(&self.folder)?;
                revert(&self.overlay())?;
                Ok(None)
            }
        }
    }

    /// A machine that goes on with a saved state, and its disk; nothing is out of date before both are
    /// there.
    fn wake_from(&mut self, path: &Path, booted: bool) -> Result<Awake, Unwoken> {
        let key = self.state_key.as_ref().ok_or_else(|| {
            let what =
                "the saved state was made with a disk that is encrypted, and this one is not";
            Unwoken::NotNow(
                Error::new(ErrorKind::Request, what).remedy("name the disk it was made with"),
            )
        })?;
        let (file, saved) = sleep::open(path, key)?;
        self.adopt(&saved);
        sleep::check_likeness(&saved, &self.likeness)?;
        let identity = *file.identity().as_bytes();
        let (wakes, on) = match booted {
            true => (None, Some(identity)),
            false => (Some(identity), saved.on),
        };
        let disk = self.serve(wakes, on).map_err(|error| match error.kind() {
            ErrorKind::Outdated => Unwoken::Bad(error),
            _ => Unwoken::NotNow(error),
        })?;
        let machine = sleep::wake(self.hypervisor, &self.setup.spec, &file)?;
        disk.wake().map_err(Unwoken::NotNow)?;
        Ok(Awake { machine, disk, on })
    }

    fn boot(self) -> Result<Session<'a>> {
        let overlay = self.overlay();
        // A state that is gone must not keep its disk from being used.
        if !there(&self.folder.state()) && sleeps(&overlay)? {
            self.untie(&overlay)?;
        }
        let disk = self.serve(None, None)?;
        let machine = self.hypervisor.create(&self.setup.spec)?;
        let awake = Awake {
            machine,
            disk,
            on: None,
        };
        Ok(self.into_session(awake, Began::Boot))
    }

    /// Lets an overlay go on without its state.
    fn untie(&self, overlay: &Path) -> Result<()> {
        let found = vdisk::overlay::inspect(overlay)
            .map_err(|e| Error::new(ErrorKind::Disk, "look at the overlay").because(e))?;
        if let vdisk::overlay::State::Suspended(state) = found.state {
            let disk = self.serve(Some(state), None)?;
            disk.wake()?;
            disk.close()?;
        }
        Ok(())
    }

    fn into_session(self, awake: Awake, began: Began) -> Session<'a> {
        Session {
            follow: None,
            machine: Arc::from(awake.machine),
            disk: Some(awake.disk),
            uplink: None,
            hypervisor: self.hypervisor,
            spec: self.setup.spec,
            likeness: self.likeness,
            state_key: self.state_key,
            began,
            fate: match self.setup.revertible {
                true => Fate::Revert,
                false => Fate::Keep,
            },
            on: Cell::new(awake.on),
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

/// Whether an overlay belongs to a saved state. What cannot be told stops everything: nobody may take it
/// for a no.
fn sleeps(overlay: &Path) -> Result<bool> {
    if !there(overlay) {
        return Ok(false);
    }
    vdisk::overlay::inspect(overlay)
        .map(|found| matches!(found.state, vdisk::overlay::State::Suspended(_)))
        .map_err(|e| Error::new(ErrorKind::Disk, "look at what was written").because(e))
}

fn drop_booted(folder: &Folder) -> Result<()> {
    // The memory first: an overlay alone is never begun with.
    remove(&folder.booted_state())?;
    if there(&folder.booted_overlay()) {
        revert(&folder.booted_overlay())?;
    }
    Ok(())
}

/// Forgets an overlay, key first. A server that was left behind may still be at its last flush.
fn revert(overlay: &Path) -> Result<()> {
    let deadline = Instant::now() + STOP_WITHIN;
    while there(overlay) {
        match vdisk::overlay::revert(overlay) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() != vdisk::ErrorKind::Busy || Instant::now() > deadline => {
                return Err(Error::new(ErrorKind::Disk, "revert the session").because(error));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    Ok(())
}
