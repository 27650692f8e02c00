//! `medley boot --session`: a machine that sleeps and wakes, and whose parts are started again when they die.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use clap::Args;
use medley_hypervisor::qemu::Qemu;
use medley_hypervisor::{
    Acceleration, AcceleratorChoice, Channel, DiskEndpoint, MachineSpec, Serial, State,
};
use medley_memory::{Controller, HostSource, MemoryPolicy};
use medley_session::{
    Began, Folder, Frontend, Heartbeat, Notice, Program, Session, Setup, Slept, Uplink,
};
use serde::Serialize;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;

use super::windows::Windows;
use super::{Boot, Booted, Planned, Unbegun, cpus, how, machine_name, sink, source};
use crate::args::Keys;
use crate::console::{Console, End, Sink, Sleeper};
use crate::exit::{Failure, Result};
use crate::output::{Fields, Ui};
use crate::run_dir::RunDir;
use crate::script::Script;
use crate::size;
use crate::terminal::Kept;
use crate::{progress, signals};

/// The hidden command that serves a session's disk.
pub const DISK_SERVER: &str = "session-disk";
/// Notices that the report lists.
const KEPT: usize = 10_000;
/// The guest's agent writes something into this channel at least once in a while.
const HEARTBEAT: &str = "org.medley.heartbeat";

/// Options of machines that sleep.
#[derive(Debug, Args)]
pub struct SleepArgs {
    /// Keep in this folder what the guest writes and, when it is suspended, its memory (encrypted): the next
    /// start goes on from there
    #[arg(long = "session", value_name = "DIR", conflicts_with_all = ["keep", "overlay", "overlay_dir"], help_heading = "Sleeping")]
    folder: Option<PathBuf>,
    /// Boot, though there is a saved state; it is dropped
    #[arg(long, requires = "folder", help_heading = "Sleeping")]
    boot_anew: bool,
    /// When the marker of --ready-marker comes, keep memory and disk as they are: every later start of the
    /// revertible session begins there instead of booting
    #[arg(long, requires_all = ["folder", "revertible", "ready_marker"], help_heading = "Sleeping")]
    keep_booted: bool,
    /// How the machine reaches its disk
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Over::Nbd, requires = "folder", help_heading = "Sleeping")]
    disk_over: Over,
    /// Start the machine again when the guest's heartbeat (any byte on the channel org.medley.heartbeat)
    /// stops for so long
    #[arg(long, value_name = "S", default_value = "60", value_parser = super::seconds, help_heading = "Sleeping")]
    heartbeat: Duration,
}

/// See [`Frontend`].
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Over {
    /// Works everywhere
    Nbd,
    /// Fastest; without KVM it needs --kernel
    VhostUser,
}

impl From<Over> for Frontend {
    fn from(over: Over) -> Self {
        match over {
            Over::Nbd => Self::Nbd,
            Over::VhostUser => Self::VhostUser,
        }
    }
}

impl SleepArgs {
    /// Whether the machine has a session.
    pub fn is_asked(&self) -> bool {
        self.folder.is_some()
    }
}

/// What was made ready before it was known how the machine is run.
pub struct Ready {
    pub qemu: Qemu,
    pub acceleration: Acceleration,
    pub choice: AcceleratorChoice,
    pub memory: Planned,
    pub script: Option<Script>,
    pub keys: Keys,
    pub watch: signals::Watch,
    // In this order: the folder after what lies in it.
    pub uplink: Uplink,
    pub run_dir: RunDir,
}

/// What the report tells of a session.
#[derive(Serialize)]
pub struct Told {
    began: Began,
    /// From here until the machine could run.
    seconds_to_begin: f64,
    slept: Option<Slept>,
    restarts: u32,
    notices: Vec<Heard>,
    /// Notices that came after so many that they are not kept.
    notices_left_out: u64,
}

/// A notice of the session's, or of its windows and services.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Heard {
    Session(Notice),
    Windows(medley_host::Notice),
}

impl Heard {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Windows(notice) if notice.code.ends_with("-refused"))
    }
}

impl Told {
    /// For people.
    pub fn rows(&self, fields: &mut Fields) {
        let began = match self.began {
            Began::Boot => "booted",
            Began::Resumed => "resumed",
            Began::FromBooted => "from the kept boot",
        };
        fields.row("began", format!("{began}, {:.2} s", self.seconds_to_begin));
        if let Some(slept) = &self.slept {
            let [state, file] = [slept.state_bytes, slept.file_bytes].map(size::human);
            let took = slept.took.as_secs_f64();
            fields.row(
                "suspended",
                format!("{state} of memory in {file}, sealed, {took:.2} s"),
            );
        }
    }
}

/// Serves a disk as the session on standard input says, which hears of every change on standard output.
pub fn serve_disk() -> Result<()> {
    let stream = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned();
    let stream = stream.map_err(Failure::io("standard input"))?;
    // Whoever started us ends us by hanging up, in good order; a signal is for whoever started us.
    let _watch = signals::Watch::start()?;
    let changes = std::os::fd::AsFd::as_fd(&std::io::stdout()).try_clone_to_owned();
    let changes = changes.map_err(Failure::io("standard output"))?;
    let stream = UnixStream::from(stream);
    Ok(medley_session::server::serve(stream, File::from(changes))?)
}

/// Runs it.
pub fn run(args: Boot, ui: Ui, ready: Ready) -> Result<()> {
    let Some(folder) = &args.sleep.folder else {
        return Err(Failure::usage("no --session"));
    };
    let folder = Folder::open(folder)?;
    let folder_path = folder.path().to_owned();
    let run_dir = ready.run_dir;
    let uplink = ready.uplink;
    let (serial, beat) = (
        run_dir.path().join("console.sock"),
        run_dir.path().join("beat.sock"),
    );
    let mut spec = MachineSpec::new(
        machine_name(&args.disk.disk),
        // The session's own.
        DiskEndpoint::nbd_unix(run_dir.path().join("disk.sock"), ""),
        run_dir.path(),
    );
    spec.memory_mib = ready.memory.guest_mib;
    spec.cpus = cpus(&args);
    spec.accelerator = ready.choice;
    spec.serial = Serial::socket(&serial);
    spec.channels = vec![Channel {
        name: HEARTBEAT.into(),
        socket: beat.clone(),
    }];
    spec.boot = args.boot();
    spec.network = uplink.network();
    let ground = args.windows.prepare(&mut spec)?;
    let place = args.screen(&mut spec);
    let qemu = ready.qemu.with_acceleration(ready.acceleration.clone());
    let revertible = args.revertible;
    let setup = Setup {
        disk: args.disk.disk.clone(),
        format: args.disk.input_format.map(|format| format.name().into()),
        key: ready.keys.own,
        spec: spec.clone(),
        frontend: args.sleep.disk_over.into(),
        quota: args.session.quota(),
        revertible,
        boot_anew: args.sleep.boot_anew,
        program: Program::new(|| {
            // This very program, also after another version was installed over it.
            let mut command = Command::new("/proc/self/exe");
            command.arg0("medley").arg(DISK_SERVER);
            command
        }),
    };
    let encrypted = setup.key.is_some();
    let (notify, notices) = channel();
    let mut notices = Notices {
        ui,
        heard: RefCell::default(),
        left_out: Cell::default(),
        from: notices,
        windows: None,
    };
    let mut network = uplink.report();
    let mut fields = Fields::default();
    super::network::introduce(&network, &mut fields);
    super::note(ui, &fields);
    // Before a machine wakes for nothing.
    let sink = sink(&args.serial, ui)?;
    let unbegun = Unbegun::new(&sink, &args.serial);
    let began_at = Instant::now();
    let session = progress::busy(ui, "beginning the session", || {
        Session::begin(folder, setup, &qemu, notify)
    });
    notices.tell();
    let mut session = session?;
    session.join(uplink);
    let seen = place
        .as_ref()
        .map(|place| place.tell(&[&folder_path, run_dir.path()]));
    let _seen = seen.transpose()?;
    if let Some(ground) = ground {
        let booted = session.began() != Began::Resumed;
        // A machine that woke is worth more than its windows.
        match args.windows.show(
            ground,
            &args.disk.disk,
            &folder_path,
            booted,
            place.as_ref(),
        ) {
            Ok(windows) => notices.windows = Some(windows),
            Err(failure) => ui.note(format_args!("medley: there are no windows: {failure}")),
        }
    }
    if args.sleep.keep_booted {
        session.can_sleep()?;
    }
    let seconds_to_begin = began_at.elapsed().as_secs_f64();

    let kept = match (&ready.script, &sink) {
        (None, Sink::Stdout | Sink::Stderr) => Kept::raw(),
        _ => None,
    };
    let mut source = source(ready.script, &sink, kept.is_some());
    let memory_mib = session.memory_mib();
    let started = Instant::now();
    let mut told = Told {
        began: session.began(),
        seconds_to_begin,
        slept: None,
        restarts: 0,
        notices: Vec::new(),
        notices_left_out: 0,
    };
    let mut first_ready = None;
    // Of a machine that did not fall asleep.
    let mut connected = None;
    follow(&mut session);
    unbegun.begins();
    let (exit, slept) = loop {
        let sleeper = Watched {
            session: &session,
            notices: &notices,
            heartbeat: RefCell::new(Heartbeat::listen(&beat, args.sleep.heartbeat).ok()),
            keep_booted: Cell::new(args.sleep.keep_booted && session.began() == Began::Boot),
            woke: Cell::new(session.began() != Began::Boot && told.restarts == 0),
        };
        let outcome = Console {
            machine: session.machine(),
            events: session.machine().events(),
            serial: match connected.take() {
                Some(connected) => connected,
                None => session.machine().serial()?,
            },
            sink: &sink,
            source: &mut source,
            watch: &ready.watch,
            grace: args.grace,
            timeout: args.timeout,
            marker: args.ready_marker.clone(),
            session: Some(&sleeper),
            ui,
        }
        .run();
        notices.tell();
        network = session.uplink().unwrap_or(network);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(failure) => {
                let ended = session.end();
                return Err(match ended {
                    Ok(_) => failure,
                    Err(also) => failure.remedy(&also.to_string()),
                });
            }
        };
        first_ready = first_ready.or(outcome.ready);
        let ended = how(&outcome.end);
        match outcome.end {
            End::Exit(_) => {
                session.end()?;
                break (ended, None);
            }
            End::Unwanted(exit) => {
                session.restart(&exit)?;
                follow(&mut session);
                told.restarts += 1;
                notices.tell();
            }
            End::Sleep(words) => {
                let slept = session.sleep();
                let serial = words.pass_on(&ready.watch, ui);
                let (awake, error) = match slept {
                    Ok(slept) => break (ended, Some(slept)),
                    Err(still) => *still,
                };
                ui.note(format_args!("medley: the machine does not sleep: {error}"));
                session = awake;
                connected = Some(serial);
                // It may have ended just then.
                if let Some(exit) = session.machine().wait_exit(Duration::ZERO) {
                    session.end()?;
                    break (how(&End::Exit(exit)), None);
                }
                if matches!(source, crate::console::Source::Script(_)) {
                    session.end()?;
                    return Err(error.into());
                }
            }
        }
    };
    drop(kept);
    notices.tell();
    told.slept = slept;
    told.notices = notices.heard.take();
    told.notices_left_out = notices.left_out.get();
    ui.done(&Booted {
        disk: args.disk.disk,
        encrypted,
        mode: if revertible { "revertible" } else { "durable" },
        hypervisor: medley_hypervisor::Hypervisor::describe(&qemu),
        accelerator: ready.acceleration.accelerator.to_string(),
        reason: ready.acceleration.reason,
        memory_mib,
        memory_reasons: ready.memory.reasons,
        cpus: spec.cpus,
        seconds_to_ready: first_ready.map(|time| time.as_secs_f64()),
        seconds_total: started.elapsed().as_secs_f64(),
        read_bytes: 0,
        written_bytes: 0,
        exit,
        network,
        session: Some(told),
    })?;
    Ok(())
}

/// Lets the guest's memory follow the host's; a machine runs without it, too.
fn follow(session: &mut Session<'_>) {
    let full = session.memory_mib();
    let mut controller = Controller::between((full / 4).max(128).min(full), full);
    // One that woke may have given memory back before it slept.
    if let Ok(memory) = session.machine().memory() {
        controller.hold(memory.actual_mib);
    }
    let source = HostSource::new(&MemoryPolicy::default());
    if let Err(error) = session.follow(controller, source) {
        tracing::warn!(%error, "the guest's memory stays as it is");
    }
}

/// What the session says, shown and kept.
struct Notices {
    ui: Ui,
    heard: RefCell<Vec<Heard>>,
    left_out: Cell<u64>,
    from: Receiver<Notice>,
    windows: Option<Windows>,
}

impl Notices {
    fn tell(&self) {
        for notice in self.windows.iter().flat_map(Windows::notices) {
            self.ui
                .note(format_args!("medley: {}: {}", notice.code, notice.words));
            self.keep(Heard::Windows(notice));
        }
        for notice in self.from.try_iter() {
            self.ui.note(format_args!("medley: {notice}"));
            self.keep(Heard::Session(notice));
        }
    }

    /// For the report. A guest that goes on for days must not fill our memory.
    fn keep(&self, notice: Heard) {
        let mut heard = self.heard.borrow_mut();
        if heard.len() >= KEPT {
            // What the guest was refused makes room first: it can be refused as often as it likes.
            let refused = heard.iter().position(Heard::is_refusal);
            heard.remove(refused.unwrap_or_default());
            self.left_out.set(self.left_out.get() + 1);
        }
        heard.push(notice);
    }
}

/// A session as its console sees it.
struct Watched<'a> {
    session: &'a Session<'a>,
    notices: &'a Notices,
    heartbeat: RefCell<Option<Heartbeat>>,
    keep_booted: Cell<bool>,
    /// It has slept, and has not been seen running since.
    woke: Cell<bool>,
}

impl Sleeper for Watched<'_> {
    fn is_silent(&self) -> bool {
        self.notices.tell();
        if self.woke.get() && self.session.machine().state() == State::Running {
            self.woke.set(false);
            self.notices.windows.iter().for_each(Windows::renew);
        }
        let mut heartbeat = self.heartbeat.borrow_mut();
        let Some(heartbeat) = heartbeat.as_mut() else {
            return false;
        };
        // A machine that stands still, or was made to, cannot be heard.
        if self.session.machine().state() != State::Running {
            heartbeat.forget();
            return false;
        }
        heartbeat.is_silent(Instant::now())
    }

    fn ready(&self) -> Result<()> {
        if self.keep_booted.take() {
            let ui = self.notices.ui;
            match self.session.keep_booted() {
                Ok(kept) => ui.note(format_args!(
                    "medley: kept the machine as it is now, in {}",
                    size::human(kept.file_bytes)
                )),
                // The session itself is none the worse for it.
                Err(error) => ui.note(format_args!("medley: the boot is not kept: {error}")),
            }
            if let Some(heartbeat) = self.heartbeat.borrow_mut().as_mut() {
                heartbeat.forget();
            }
        }
        Ok(())
    }
}
