//! A bench for one property: a folder, a disk server in it, machines on that, and a look at what
//! they leave behind.

use crate::Fixture;
use crate::console::{Console, Transcript};
use crate::fixture::{DiskServer, Transport};
use anyhow::{Context, Error, Result, bail, ensure};
use medley_hypervisor::{
    Boot, DiskEndpoint, Event, Events, Exit, Hypervisor, Machine, MachineSpec, Serial,
};
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Set for the process that makes a machine and dies.
pub const MAKER: &str = "MEDLEY_CONFORMANCE_MAKER";

pub(crate) struct Bench<'a> {
    pub hypervisor: &'a dyn Hypervisor,
    pub fixture: &'a Fixture,
    folder: TempDir,
    pub server: Option<DiskServer>,
    transcript: Transcript,
}

/// A machine, and its guest's console.
pub(crate) struct Guest {
    pub machine: Box<dyn Machine>,
    pub console: Console,
}

impl<'a> Bench<'a> {
    pub fn new(hypervisor: &'a dyn Hypervisor, fixture: &'a Fixture) -> Result<Bench<'a>> {
        let folder = tempfile::Builder::new().prefix("medley-cf").tempdir()?;
        fixture.make_disk(folder.path())?;
        std::fs::create_dir(folder.path().join("run"))?;
        let mut bench = Bench {
            hypervisor,
            fixture,
            folder,
            server: None,
            transcript: Transcript::default(),
        };
        bench.serve(Transport::Nbd)?;
        Ok(bench)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Serves the disk, in place of any server before.
    pub fn serve(&mut self, transport: Transport) -> Result<()> {
        self.server = None;
        self.server = Some(self.fixture.serve(self.folder.path(), transport)?);
        Ok(())
    }

    /// A machine with a serial port and a disk, and nothing else.
    pub fn spec(&self) -> MachineSpec {
        let disk = DiskEndpoint::NbdUnix {
            socket: self.path("disk.sock"),
            export: String::new(),
            reconnect: Duration::from_secs(1),
        };
        MachineSpec {
            memory_mib: self.fixture.memory_mib,
            serial: Serial::socket(self.path("run/serial.sock")),
            accelerator: self.fixture.accelerator,
            ..MachineSpec::new("conformance", disk, self.path("run"))
        }
    }

    /// Starts with a kernel of the host's; what a boot loader would tell it.
    pub fn direct_boot(&self) -> Result<Boot> {
        let [kernel, initrd] = self.fixture.take_kernel(self.folder.path())?;
        let cmdline = "root=LABEL=medley-root rw console=ttyS0 quiet mitigations=off";
        Ok(Boot::Kernel {
            kernel,
            initrd: Some(initrd),
            cmdline: cmdline.into(),
        })
    }

    pub fn console(&self, machine: &dyn Machine) -> Result<Console> {
        Console::of(machine, self.fixture.patience, self.transcript.clone())
    }

    /// A machine that is created, and not yet started.
    pub fn create(&self, spec: &MachineSpec) -> Result<Guest> {
        let machine = self.hypervisor.create(spec).context("create")?;
        let console = self.console(&*machine)?;
        Ok(Guest { machine, console })
    }

    /// A machine whose guest takes commands.
    pub fn boot(&self, spec: &MachineSpec) -> Result<Guest> {
        let mut guest = self.create(spec)?;
        guest.machine.start().context("start")?;
        guest.console.ready()?;
        Ok(guest)
    }

    /// A machine that goes on with this state.
    pub fn restore(
        &self,
        spec: &MachineSpec,
        state: &[u8],
    ) -> medley_hypervisor::Result<Box<dyn Machine>> {
        let (reader, mut writer) =
            pipe().map_err(|e| medley_hypervisor::Error::io("make a pipe", e))?;
        std::thread::scope(|scope| {
            // Whoever does not want it to the end hangs up.
            scope.spawn(move || drop(writer.write_all(state)));
            self.hypervisor.restore(spec, reader)
        })
    }

    /// Waits until a figure from inside or outside of the guest is as it should be.
    pub fn until(
        &self,
        what: &str,
        mut is: impl FnMut() -> Result<Result<(), String>>,
    ) -> Result<()> {
        let deadline = Instant::now() + self.fixture.patience;
        loop {
            match is()? {
                Ok(()) => return Ok(()),
                Err(seen) if Instant::now() > deadline => bail!("{what}: {seen}"),
                Err(_) => std::thread::sleep(self.fixture.quiet / 3),
            }
        }
    }

    /// Nothing of a machine is left: no socket, no file that was not there before.
    pub fn nothing_left(&self) -> Result<()> {
        let left: Vec<_> = std::fs::read_dir(self.path("run"))?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    }

    /// An error with what the guest said last.
    pub fn with_console(&self, error: Error) -> Error {
        let heard = self.transcript.lock();
        let heard = heard.unwrap_or_else(PoisonError::into_inner);
        let tail: String = heard.chars().rev().take(2000).collect();
        let tail: String = tail.chars().rev().collect();
        anyhow::anyhow!("{error:#}\n--- the guest's last words ---\n{tail}")
    }
}

/// What a maker that was killed left behind.
pub struct Orphan {
    machine: Option<u32>,
    /// The disk server's process.
    server: Option<u32>,
    folder: PathBuf,
}

impl Orphan {
    /// Starts the fixture's maker, and kills it when its machine runs.
    pub fn leave(fixture: &Fixture) -> Result<Orphan> {
        let maker = fixture.maker.as_ref().context("no maker was named")?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--ignored", "--exact", maker, "--nocapture"])
            .envs(fixture.maker_environment.iter().cloned())
            .env(MAKER, "1")
            .stdout(Stdio::piped())
            .spawn()?;
        let told = child.stdout.take().and_then(|stdout| {
            let mut lines = BufReader::new(stdout).lines().map_while(|line| line.ok());
            lines.find_map(|line| Some(line.split_once("machine=")?.1.to_owned()))
        });
        drop(child.kill());
        drop(child.wait());
        let told = told.context("the maker made no machine")?;
        let mut words = told.split('|');
        let mut number = || words.next().and_then(|word| word.parse().ok());
        Ok(Orphan {
            machine: number(),
            server: number(),
            folder: words.next().unwrap_or_default().into(),
        })
    }

    /// Whether its process is there.
    pub fn lives(&self) -> bool {
        self.machine.is_some_and(alive)
    }

    /// Waits until its process is gone.
    pub fn gone(&self, within: Duration) -> Result<()> {
        gone(self.machine, within)
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        // The killed maker could clean up nothing: both are ours now.
        if let Some(server) = self.server {
            sigkill(server);
        }
        if self.folder.starts_with(std::env::temp_dir()) {
            drop(std::fs::remove_dir_all(&self.folder));
        }
    }
}

/// Makes a machine, says so on the standard output, and waits to be killed.
///
/// # Panics
/// If there is no machine.
pub fn be_a_maker(hypervisor: &dyn Hypervisor, fixture: &Fixture) {
    let made = Bench::new(hypervisor, fixture).and_then(|bench| {
        let machine = hypervisor.create(&bench.spec())?;
        machine.start()?;
        Ok((bench, machine))
    });
    match made {
        Ok((bench, machine)) => {
            let number = |id: Option<u32>| id.map(|id| id.to_string()).unwrap_or_default();
            let server = bench.server.as_ref().and_then(DiskServer::process_id);
            let (machine_id, server) = (number(machine.process_id()), number(server));
            println!(
                "\nmachine={machine_id}|{server}|{}",
                bench.folder.path().display()
            );
            machine.wait_exit(Duration::from_secs(300));
        }
        Err(error) => panic!("{error:#}"),
    }
}

impl Guest {
    /// The machine's state, which is its whole memory.
    pub fn save(&self) -> Result<Vec<u8>> {
        let (mut reader, writer) = pipe()?;
        std::thread::scope(|scope| {
            let state = scope.spawn(move || {
                let mut state = Vec::new();
                reader.read_to_end(&mut state).map(|_| state)
            });
            let saved = self.machine.save(writer).context("save");
            let state = state
                .join()
                .map_err(|_| anyhow::anyhow!("the reader panicked"))?;
            saved.and(Ok(state?))
        })
    }

    /// How the machine ends by itself, in time.
    pub fn end(&self, bench: &Bench<'_>) -> Result<Exit> {
        let exit = self.machine.wait_exit(bench.fixture.patience);
        exit.context("the machine does not end")
    }
}

/// True while a process of this number exists that is not merely waiting to be reaped.
pub(crate) fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| {
        let state = rest.trim_start().chars().next();
        state.is_some_and(|state| state != 'Z' && state != 'X')
    })
}

/// Waits until a process is gone.
pub(crate) fn gone(pid: Option<u32>, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    while pid.is_some_and(alive) {
        ensure!(Instant::now() < deadline, "process {pid:?} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Sends SIGKILL to a process that a test started.
pub(crate) fn sigkill(pid: u32) {
    // Every shell has it built in.
    let mut shell = Command::new("/bin/sh");
    drop(shell.args(["-c", &format!("kill -KILL {pid}")]).status());
}

/// What happened up to the event that fits, without what the guest does by itself.
pub(crate) fn events_until(
    events: &Events,
    patience: Duration,
    fits: impl Fn(&Event) -> bool,
) -> Result<Vec<Event>> {
    let deadline = Instant::now() + patience;
    let mut seen = Vec::new();
    while !seen.last().is_some_and(&fits) {
        let left = deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(left) {
            Ok(Event::Channel { .. } | Event::Balloon { .. }) => {}
            Ok(event) => seen.push(event),
            Err(error) => bail!("the event that should come does not ({error}), but {seen:?}"),
        }
    }
    Ok(seen)
}

/// True if this folder's socket is there and somebody listens.
pub(crate) fn listens(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}
