//! `medley boot`: a machine on a disk, its console on this terminal.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use medley_hypervisor::qemu::Qemu;
use medley_hypervisor::{
    Acceleration, AcceleratorChoice, DiskEndpoint, Hypervisor, Machine, MachineSpec, Serial,
};
use medley_memory::{Host, Policy};
use medley_session::UplinkReport;
use nix::libc;
use serde::Serialize;
use vdisk::image::Mode;
use vdisk_frontends::nbd::{NbdOptions, NbdServer};

use crate::args::{DiskArgs, SessionArgs, mode_name, must_be_new};
use crate::console::{Console, End, Outcome, Sink, Source};
use crate::exit::{Failure, Result};
use crate::output::{Fields, Report, Ui};
use crate::run_dir::RunDir;
use crate::script::{Player, Script};
use crate::terminal::Kept;
use crate::{progress, signals};

mod network;
pub mod screen;
mod services;
mod session;
mod windows;

pub use network::read as read_network_policy;
pub use session::{DISK_SERVER, serve_disk};

/// Options of `boot`.
#[derive(Debug, Args)]
#[command(after_help = "\
The guest's boot loader starts from the disk; its serial console is on this terminal. Ctrl-]
asks the guest to shut down, a second time ends it at once; SIGINT and SIGTERM do the same. When
the guest powers itself off, the exit code is 0. With --json the console is on standard error and
standard output holds one document: the report, or the error (which is on standard error, too,
but there the guest could have said it).

A script (--script) speaks to the console, one step on each line, # for remarks:
  wait TEXT        until the guest says TEXT, behind the last TEXT that was waited for
  send TEXT        types TEXT and Enter
  type TEXT        types TEXT; \\r \\n \\t \\e \\\\ and \\xNN work in every TEXT
  timeout SECONDS  how long each wait may take from now on (60 at the beginning)
  sleep SECONDS    does nothing for a while
  suspend          puts the machine to sleep (with --session)
  poweroff         presses the power button and waits for the end; so does the end of the script
  stop             ends the machine at once
A guest echoes what it is sent: wait for something that only the answer contains.

EXAMPLES
  Try something and forget it:
    medley boot office.vhd
  Install updates for good:
    medley boot office.vhd --keep --network nat
  Let it reach what its policy lists and nothing else; see `medley network explain --help`:
    medley boot office.vhd --session office.session --network-policy office.toml
  Let it into the host's network, with an address of its own:
    medley boot office.vhd --bridge br0
  What it asked for and may not have:
    medley boot office.vhd --network-policy office.toml --script steps.txt --json | jq .network.refused
  Go on where the last session ended, but leave the disk as it is:
    medley boot office.vhd --overlay office.overlay
  Like a laptop: suspended by `medley machine suspend office.session` in another terminal, it goes
  on where it was the next time:
    medley boot office.vhd --session office.session
  With its apps as windows of this desktop, and in its menu; `medley run office.session xterm`
  starts one from a shell:
    medley boot office.vhd --session office.session --windows --publish all
  Let it hand out documents (scanned, into ~/Workspace-Incoming/office), print, and notify:
    medley boot office.vhd --session office.session --windows --publish all \
      --files-out --files-types pdf,odt --files-scan clamscan --print --notes
  Make it open this desktop's documents, and start its mail program by itself:
    medley boot office.vhd --session office.session --windows --publish all --files-in \
      --handle application/pdf,x-scheme-handler/mailto --autostart Thunderbird
  With its whole screen, from the firmware on; `medley view office.session` opens it:
    medley boot office.vhd --session office.session --desktop
  From a script, with a report:
    medley boot office.vhd --script steps.txt --ready-marker 'login:' --timeout 600 --json")]
#[command(group(ArgGroup::new("shown").args(["windows", "desktop"]).multiple(true)))]
pub struct Boot {
    #[command(flatten)]
    disk: DiskArgs,
    /// Forget at the end what the guest writes [the default]
    #[arg(long, group = "mode")]
    revertible: bool,
    /// Write into the disk: changes stay
    #[arg(long, group = "mode")]
    keep: bool,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    sleep: session::SleepArgs,
    #[command(flatten)]
    windows: windows::WindowArgs,
    #[command(flatten)]
    screen: screen::ScreenArgs,
    /// The guest's RAM, or `auto` for what suits this host
    #[arg(long, value_name = "MIB|auto", default_value = "auto", value_parser = memory)]
    memory: Memory,
    /// Processors of the guest [default: as many as the host's, up to 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    cpus: Option<u8>,
    /// What runs the guest's code
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Accel::Auto)]
    accel: Accel,
    #[command(flatten)]
    network: network::NetworkArgs,
    /// Boot this kernel instead of what the disk's boot loader finds
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The kernel's initial RAM file system
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The kernel's command line
    #[arg(long, value_name = "TEXT", requires = "kernel", default_value = "")]
    append: String,
    /// Where the serial console goes: this terminal, or a new file, a device or a pipe that only takes
    /// what the guest says
    #[arg(long, value_name = "stdio|PATH", default_value = "stdio")]
    serial: PathBuf,
    /// End the machine after so many seconds, as a failure
    #[arg(long, value_name = "S", value_parser = seconds)]
    timeout: Option<Duration>,
    /// How long the guest may take to shut down when asked
    #[arg(long, value_name = "S", default_value = "20", value_parser = seconds)]
    grace: Duration,
    /// What the guest says on its console when it is ready; the report tells how long it took
    #[arg(long, value_name = "TEXT")]
    ready_marker: Option<String>,
    /// Let a script speak to the console
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

impl Boot {
    /// Gives the machine a screen, if it is to have one.
    fn screen(&self, spec: &mut MachineSpec) -> Option<screen::Place> {
        let workspace = self.windows.label(&self.disk.disk);
        self.screen.prepare(spec, workspace, self.windows.colour())
    }

    /// How the guest begins.
    fn boot(&self) -> medley_hypervisor::Boot {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        match &self.kernel {
            None => medley_hypervisor::Boot::Disk,
            Some(kernel) => medley_hypervisor::Boot::Kernel {
                kernel: absolute(kernel),
                initrd: self.initrd.as_ref().map(absolute),
                cmdline: self.append.clone(),
            },
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Memory {
    Auto,
    Mib(u32),
}

/// The guest's RAM and how it came about.
struct Planned {
    guest_mib: u32,
    reasons: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Accel {
    /// KVM where it is measured to work, TCG otherwise
    Auto,
    /// KVM or a failure
    Kvm,
    /// Software
    Tcg,
}

fn memory(text: &str) -> Result<Memory, String> {
    match text {
        "auto" => Ok(Memory::Auto),
        mib => mib
            .parse()
            .map(Memory::Mib)
            .map_err(|_| "neither `auto` nor a number of MiB".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=1e7).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not a number of seconds".into()),
    }
}

#[derive(Serialize)]
struct Booted {
    disk: PathBuf,
    encrypted: bool,
    mode: &'static str,
    hypervisor: String,
    accelerator: String,
    reason: String,
    memory_mib: u32,
    memory_reasons: Vec<String>,
    cpus: u8,
    /// From the machine's start until the marker came.
    seconds_to_ready: Option<f64>,
    seconds_total: f64,
    read_bytes: u64,
    written_bytes: u64,
    /// How the machine ended.
    exit: serde_json::Value,
    /// The guest's way to the world, at the end.
    network: UplinkReport,
    /// Of a machine that can sleep.
    session: Option<session::Told>,
}

impl Report for Booted {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        let ready = self
            .seconds_to_ready
            .map_or(String::new(), |s| format!(", ready after {s:.1} s"));
        fields.row("ended", format!("after {:.1} s{ready}", self.seconds_total));
        network::refusals(&self.network, &mut fields);
        if let Some(told) = &self.session {
            told.rows(&mut fields);
            return fields.to_string();
        }
        let fate = match self.mode {
            "revertible" => "forgotten",
            _ => "kept",
        };
        fields.row(
            "written",
            format!("{}, {fate}", crate::size::human(self.written_bytes)),
        );
        fields.to_string()
    }
}

/// Runs it.
pub fn run(args: Boot, ui: Ui) -> Result<()> {
    // What is missing is said before anybody types a passphrase.
    let script = args.script.as_deref().map(read_script).transpose()?;
    let network = args.network.wanted()?;
    let qemu = Qemu::find()?;
    let memory = plan(args.memory)?;
    check_serial(&args.serial)?;
    let found = args.disk.find()?;
    // Declared in the order in which they must come to be: dropped, the machine goes first.
    let run_dir = RunDir::new()?;
    let mut uplink = network.open(run_dir.path())?;
    let keys = args.disk.unlock(ui, &found)?;

    let watch = signals::Watch::start()?;
    let choice = match args.accel {
        Accel::Auto => AcceleratorChoice::Auto,
        Accel::Kvm => AcceleratorChoice::Kvm,
        Accel::Tcg => AcceleratorChoice::Tcg,
    };
    let acceleration = progress::busy(ui, "measuring accelerators", || qemu.acceleration(choice))?;
    signals::check()?;
    if args.sleep.is_asked() {
        return session::run(
            args,
            ui,
            session::Ready {
                qemu,
                acceleration,
                choice,
                memory,
                script,
                keys,
                watch,
                run_dir,
                uplink,
            },
        );
    }
    let mode = match args.keep {
        true => Mode::Keep,
        false => args.session.mode(),
    };
    let opened = args.disk.open(ui, mode.clone(), &keys)?;
    args.session.limit(&opened);
    let disk = opened.disk;
    let encrypted = keys.own.is_some();
    drop(keys);

    // Not before the disk is ours: a command that fails makes no file.
    let sink = sink(&args.serial, ui)?;
    let unbegun = Unbegun::new(&sink, &args.serial);
    let server = NbdServer::bind(
        run_dir.path().join("disk.sock"),
        disk,
        NbdOptions::default(),
    )?;
    let serial = run_dir.path().join("console.sock");
    let cpus = cpus(&args);
    let mut spec = MachineSpec::new(
        machine_name(&args.disk.disk),
        DiskEndpoint::nbd_unix(server.path(), ""),
        run_dir.path(),
    );
    spec.memory_mib = memory.guest_mib;
    spec.cpus = cpus;
    spec.accelerator = choice;
    spec.serial = Serial::socket(&serial);
    spec.boot = args.boot();
    spec.network = uplink.network();
    let place = args.screen(&mut spec);
    introduce(ui, &args, &qemu, &acceleration, &memory, &mode, encrypted);
    let mut fields = Fields::default();
    network::introduce(&uplink.report(), &mut fields);
    if place.is_some() {
        fields.row(
            "screen",
            format!("medley view {}", run_dir.path().display()),
        );
    }
    note(ui, &fields);
    let qemu = qemu.with_acceleration(acceleration.clone());
    let machine: Arc<dyn Machine> = Arc::from(qemu.create(&spec)?);
    let seen = place.map(|place| place.tell(&[run_dir.path()]));
    let _seen = seen.transpose()?;
    // Whoever watches such a machine reads the log.
    let (notices, _) = channel();
    uplink.lead_to(&machine, false, notices);
    let interactive = script.is_none() && matches!(sink, Sink::Stdout | Sink::Stderr);
    let kept = if interactive { Kept::raw() } else { None };
    let mut source = source(script, &sink, kept.is_some());
    let console = Console {
        machine: &*machine,
        events: machine.events(),
        serial: machine.serial()?,
        sink: &sink,
        source: &mut source,
        watch: &watch,
        grace: args.grace,
        timeout: args.timeout,
        marker: args.ready_marker.clone(),
        session: None,
        ui,
    };
    unbegun.begins();
    let outcome = console.run();
    drop(kept);
    let network = uplink.report();
    drop(uplink);
    drop(machine);
    let requests = server.stats();
    let flushed = server.shutdown();
    let Outcome { end, ready, total } = match (outcome, flushed.map_err(Failure::from)) {
        (Ok(outcome), flushed) => flushed.map(|()| outcome)?,
        (Err(failure), Ok(())) => return Err(failure),
        // What may be lost comes first.
        (Err(failure), Err(flush)) => return Err(flush.remedy(&failure.to_string())),
    };
    let describe = qemu.describe();
    ui.done(&Booted {
        disk: args.disk.disk,
        encrypted,
        mode: mode_name(&mode),
        hypervisor: describe,
        accelerator: acceleration.accelerator.to_string(),
        reason: acceleration.reason,
        memory_mib: memory.guest_mib,
        memory_reasons: memory.reasons,
        cpus,
        seconds_to_ready: ready.map(|time| time.as_secs_f64()),
        seconds_total: total.as_secs_f64(),
        read_bytes: requests.read.bytes,
        written_bytes: requests.write.bytes,
        exit: how(&end),
        network,
        session: None,
    })?;
    Ok(())
}

/// How the machine ended, for the report.
fn how(end: &End) -> serde_json::Value {
    match end {
        End::Exit(exit) | End::Unwanted(exit) => {
            serde_json::to_value(exit.reason).unwrap_or_default()
        }
        End::Sleep(_) => "suspended".into(),
    }
}

/// Processors, where nobody said how many.
fn cpus(args: &Boot) -> u8 {
    args.cpus.unwrap_or_else(|| {
        std::thread::available_parallelism()
            .map_or(1, |n| u8::try_from(n.get()).unwrap_or(4).min(4))
    })
}

fn source(script: Option<Script>, sink: &Sink, raw: bool) -> Source {
    match (script, sink) {
        (Some(script), _) => Source::Script(Box::new(Player::new(script))),
        (None, Sink::Stdout | Sink::Stderr) => Source::Keyboard { raw },
        (None, Sink::File(_)) => Source::Nothing,
    }
}

fn introduce(
    ui: Ui,
    args: &Boot,
    qemu: &Qemu,
    acceleration: &Acceleration,
    memory: &Planned,
    mode: &Mode,
    encrypted: bool,
) {
    let mut fields = Fields::default();
    let encrypted = if encrypted { ", encrypted" } else { "" };
    fields.row("disk", format!("{}{encrypted}", args.disk.disk.display()));
    fields.row(
        "mode",
        match mode {
            Mode::Revertible { dir } => {
                format!(
                    "revertible: what the guest writes lies in {} and is forgotten at the end",
                    dir.display()
                )
            }
            Mode::Durable { overlay, .. } => format!(
                "durable: what the guest writes lies in {} and is there the next time",
                overlay.display()
            ),
            _ => "keep: what the guest writes stays on the disk".into(),
        },
    );
    fields.row(
        "machine",
        format!(
            "{}, {}: {}",
            qemu.describe(),
            acceleration.accelerator,
            acceleration.reason
        ),
    );
    fields.row("memory", memory.reasons.join("; "));
    if args.script.is_none() && args.serial == Path::new("stdio") {
        fields.row(
            "end",
            "Ctrl-] asks the guest to shut down, twice ends it at once",
        );
    }
    note(ui, &fields);
}

fn note(ui: Ui, fields: &Fields) {
    let text = fields.to_string();
    if !text.is_empty() {
        ui.note(text.trim_end());
    }
}

fn plan(memory: Memory) -> Result<Planned> {
    match memory {
        Memory::Auto => {
            let plan = Policy::default().plan(&Host::read()?)?;
            Ok(Planned {
                guest_mib: plan.guest_mib,
                reasons: plan.why.memory,
            })
        }
        Memory::Mib(guest_mib) => Ok(Planned {
            guest_mib,
            reasons: vec![format!("{guest_mib} MiB were asked for")],
        }),
    }
}

fn read_script(path: &Path) -> Result<Script> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(Failure::io(format!("{name}: cannot read the script")))?;
    Script::parse(&text).map_err(|e| Failure::new(e.kind(), format!("{name}: {e}")))
}

/// Whether the console can go to this path, before anybody types a passphrase: to a new file, or to a
/// device or pipe that is there.
fn check_serial(serial: &Path) -> Result<()> {
    if serial == Path::new("stdio") || is_stream(serial) {
        return Ok(());
    }
    must_be_new(serial)
}

fn is_stream(path: &Path) -> bool {
    let kind = path.metadata().map(|meta| meta.file_type());
    kind.is_ok_and(|kind| kind.is_char_device() || kind.is_fifo())
}

fn sink(serial: &Path, ui: Ui) -> Result<Sink> {
    match (serial == Path::new("stdio"), ui.json) {
        (true, false) => Ok(Sink::Stdout),
        (true, true) => Ok(Sink::Stderr),
        (false, _) => serial_file(serial).map(Sink::File),
    }
}

/// The file of a console that has not begun: a command that fails before leaves none.
struct Unbegun<'p>(Option<&'p Path>);

impl<'p> Unbegun<'p> {
    fn new(sink: &Sink, path: &'p Path) -> Self {
        let ours = matches!(sink, Sink::File(_)) && !is_stream(path);
        Self(ours.then_some(path))
    }

    fn begins(mut self) {
        self.0 = None;
    }
}

impl Drop for Unbegun<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            drop(std::fs::remove_file(path));
        }
    }
}

fn serial_file(path: &Path) -> Result<File> {
    check_serial(path)?;
    let name = path.display();
    let mut options = File::options();
    options.write(true);
    if is_stream(path) {
        // Opening a pipe waits for its reader otherwise.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    } else {
        options.create_new(true);
    }
    options.open(path).map_err(|error| {
        let unread = error.raw_os_error() == Some(libc::ENXIO);
        let what = format!("{name}: cannot write the console to it");
        let failure = Failure::io::<std::io::Error>(what)(error);
        match unread {
            true => failure.remedy("if it is a pipe, start its reader first"),
            false => failure,
        }
    })
}

/// The disk's name as machines may be called.
fn machine_name(disk: &Path) -> String {
    let stem = disk.file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .take(64)
        .collect();
    if name.is_empty() { "disk".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Kind;

    #[test]
    fn the_console_replaces_no_file_and_waits_for_no_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        drop(serial_file(&path).unwrap());
        assert_eq!(serial_file(&path).unwrap_err().kind(), Kind::Usage);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        assert_eq!(serial_file(&link).unwrap_err().kind(), Kind::Usage);
        serial_file(Path::new("/dev/null")).unwrap();

        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let unread = serial_file(&pipe).unwrap_err().to_string();
        assert!(unread.contains("start its reader"), "{unread}");
        let _reader = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&pipe)
            .unwrap();
        serial_file(&pipe).unwrap();
    }
}
