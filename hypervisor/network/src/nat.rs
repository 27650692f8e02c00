//! Address translation without root: passt as a child of ours, behind our gate, started again
//! when it dies.

use crate::dns::GuestDns;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::{Filter, Refusal};
use crate::gate::{Gate, lock};
use crate::lifeline;
use crate::rule::Rule;
use crate::way_out::WayOut;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Ten times what passt takes until it listens.
const READY_WITHIN: Duration = Duration::from_secs(5);
const SOONEST_RESTART: Duration = Duration::from_millis(100);
const LATEST_RESTART: Duration = Duration::from_secs(5);
/// Having lived so long, its end is a new misfortune and not the old one again.
const SETTLED: Duration = Duration::from_secs(30);
/// The router's hardware address, the same on every host: a guest that slept knows it still.
const ROUTER: &str = "52:55:0a:00:02:02";
/// `sun_path` less its terminating zero.
const SOCKET_PATH_MAX: usize = 107;

/// What a guest is given and allowed.
#[derive(Clone, Debug, Default)]
pub struct NatOptions {
    /// Names.
    pub dns: GuestDns,
    /// What it may reach; `None` is everything but the host's loopback.
    pub allow: Option<Vec<Rule>>,
    /// The program, instead of the `passt` in `PATH`.
    pub passt: Option<PathBuf>,
}

/// A guest's way to the world while it lives: dropped, nothing of it is left.
///
/// The guest is 10.0.2.15 behind the router 10.0.2.2 on every host, so that one that slept wakes
/// with an address that is right. Nothing listens but Unix sockets in a folder of the caller's.
#[derive(Debug)]
pub struct Nat {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    gate: Gate,
    program: PathBuf,
    socket: PathBuf,
    passt_socket: PathBuf,
    log: PathBuf,
    dns: Mutex<GuestDns>,
    // Held over kill and over the reaping wait: a number that was reaped is never signalled.
    child: Mutex<Option<Child>>,
    stop: Mutex<bool>,
    stopping: Condvar,
    // passt ends because we want it to.
    renewing: AtomicBool,
}

/// How a guest reaches the world.
#[derive(Debug)]
pub enum Way {
    /// A machine is given [`Nat::socket`].
    Passt(Nat),
    /// The hypervisor's own address translation, and why.
    User {
        /// A sentence for people.
        why: String,
    },
}

impl Way {
    /// Through passt; where it is not installed, through the hypervisor's own address translation,
    /// if that can do what the options ask: it knows no allow-list and no names but the host's.
    pub fn open(options: &NatOptions, host: &GuestDns, run_dir: &Path) -> Result<Way> {
        match Nat::start(options, run_dir) {
            Ok(nat) => Ok(Way::Passt(nat)),
            Err(error)
                if error.kind() == ErrorKind::Missing
                    && options.allow.is_none()
                    && options.dns == *host =>
            {
                Ok(Way::User {
                    why: error.to_string(),
                })
            }
            Err(error) => Err(error),
        }
    }
}

impl Nat {
    /// Starts passt. `run_dir` is an existing folder that only this user may enter; it gets two
    /// sockets and a log.
    pub fn start(options: &NatOptions, run_dir: &Path) -> Result<Nat> {
        let program = find(options.passt.as_deref())?;
        check_private(run_dir)?;
        let socket = run_dir.join("network.sock");
        let shared = Arc::new(Shared {
            gate: Gate::new(Filter::new(options.allow.clone(), options.dns.resolvers())),
            program,
            passt_socket: run_dir.join("passt.sock"),
            log: run_dir.join("passt.log"),
            dns: Mutex::new(options.dns.clone()),
            child: Mutex::new(None),
            stop: Mutex::new(false),
            stopping: Condvar::new(),
            renewing: AtomicBool::new(false),
            socket,
        });
        if shared.socket.as_os_str().len() > SOCKET_PATH_MAX {
            let path = shared.socket.display().to_string();
            return Err(Error::new(
                ErrorKind::Io,
                path,
                "too long for a socket's path",
            ));
        }
        remove(&shared.socket)?;
        let listener = UnixListener::bind(&shared.socket)
            .map_err(|error| Error::io(shared.socket.display().to_string(), error))?;
        let mut nat = Nat {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
        };
        let (tell, told) = channel();
        nat.spawn("network-world", move |shared| shared.supervise(tell))?;
        told.recv().unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Launch,
                "start passt",
                "its supervisor ended",
            ))
        })?;
        nat.spawn("network-machine", move |shared| {
            shared.gate.serve(&listener)
        })?;
        Ok(nat)
    }

    /// Where the machine finds its network: one that speaks frames behind their lengths, such as
    /// QEMU's `stream`, connects here.
    pub fn socket(&self) -> &Path {
        &self.shared.socket
    }

    /// passt's process at this moment.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.shared.child).as_ref().map(Child::id)
    }

    /// What the filter refused so far.
    pub fn refusals(&self) -> Vec<Refusal> {
        lock(&self.shared.gate.filter).refusals()
    }

    /// For a host that changed its network: passt starts anew, by the way out that is there now,
    /// and tells the guest these names from its next lease on. Connections end; they ended anyway.
    pub fn renew(&self, dns: GuestDns) {
        let mut now = lock(&self.shared.dns);
        lock(&self.shared.gate.filter).set_resolvers(dns.resolvers());
        *now = dns;
        drop(now);
        self.shared.renewing.store(true, Ordering::Release);
        self.shared.gate.leave_world();
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce(&Shared) + Send + 'static) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || work(&shared))
            .map_err(|error| Error::io("start a thread", error))?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        *lock(&self.shared.stop) = true;
        self.shared.stopping.notify_all();
        self.shared.gate.close(&self.shared.socket);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::warn!("a thread of the network panicked");
            }
        }
        let files = [
            &self.shared.socket,
            &self.shared.passt_socket,
            &self.shared.log,
        ];
        for file in files {
            drop(fs::remove_file(file));
        }
    }
}

impl Shared {
    /// Keeps passt running until told to stop. On this thread its life depends (see `lifeline`).
    fn supervise(&self, tell: Sender<Result<()>>) {
        let mut tell = Some(tell);
        let mut pause = SOONEST_RESTART;
        loop {
            let started = Instant::now();
            let launched = self.launch();
            let failed = launched.as_ref().err().map(ToString::to_string);
            match (launched, tell.take()) {
                (Ok(stream), first) => {
                    first.map(|tell| tell.send(Ok(())));
                    if let Err(error) = self.gate.bring(stream) {
                        tracing::warn!(%error, "the connection to passt broke");
                    }
                }
                (Err(error), Some(first)) => {
                    self.end();
                    drop(first.send(Err(error)));
                    return;
                }
                (Err(_), None) => {}
            }
            self.end();
            if started.elapsed() > SETTLED {
                pause = SOONEST_RESTART;
            }
            let stop = lock(&self.stop);
            let waited = self.stopping.wait_timeout_while(stop, pause, |stop| !*stop);
            if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                return;
            }
            if self.renewing.swap(false, Ordering::AcqRel) {
                pause = SOONEST_RESTART;
                continue;
            }
            tracing::warn!(why = failed, "passt ended; it is started again");
            pause = (pause * 2).min(LATEST_RESTART);
        }
    }

    fn launch(&self) -> Result<UnixStream> {
        let operation = || format!("start {}", self.program.display());
        let refused = |error| Error::io(operation(), error);
        remove(&self.passt_socket)?;
        let log = File::create(&self.log).map_err(refused)?;
        let mut command = Command::new(&self.program);
        command
            .args(["--foreground", "--quiet"])
            .args(["--tcp-ports", "none", "--udp-ports", "none", "--no-map-gw"])
            .args([
                "--address",
                "10.0.2.15",
                "--netmask",
                "24",
                "--gateway",
                "10.0.2.2",
            ])
            .args(["--mac-addr", ROUTER])
            .args(lock(&self.dns).passt_arguments())
            .arg("--socket")
            .arg(&self.passt_socket)
            .env_clear()
            // What is typed at our terminal is not for it: it ends when we do.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if !WayOut::now().map_err(refused)?.is_there() {
            // passt does not start without a way out. A guest may start on a laptop that is in no
            // network yet; it is renewed once there is one.
            command.args(["--ipv4-only", "--interface", "lo"]);
        }
        if nix::unistd::geteuid().is_root() {
            // It would become nobody, who may not enter the folder.
            command.args(["--runas", "0:0"]);
        }
        lifeline::tie(&mut command);
        *lock(&self.child) = Some(command.spawn().map_err(refused)?);
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(stream) = UnixStream::connect(&self.passt_socket) {
                return Ok(stream);
            }
            let ended = match lock(&self.child).as_mut() {
                Some(child) => child.try_wait().map_err(refused)?,
                None => None,
            };
            let why = match ended {
                Some(status) => format!("it ended, {status}: {}", self.complaint()),
                None if Instant::now() >= deadline => "it does not listen".into(),
                None if self.gate.is_closing() => "no longer wanted".into(),
                None => {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                }
            };
            return Err(Error::new(ErrorKind::Launch, operation(), why));
        }
    }

    /// Ends passt if it has not ended.
    fn end(&self) {
        let child = lock(&self.child).take();
        if let Some(mut child) = child {
            let ended = child.kill().and_then(|()| child.wait());
            if let Err(error) = ended {
                tracing::warn!(%error, "cannot end passt");
            }
        }
    }

    /// The last of what it said, without what it says about its log.
    fn complaint(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2048)..]).into_owned();
        let lines = text.lines().map(str::trim);
        let lines: Vec<_> = lines
            .filter(|line| !line.is_empty() && !line.starts_with("Failed to send"))
            .collect();
        lines.join("; ")
    }
}

fn find(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(program) = given {
        return match program.is_file() {
            true => Ok(program.to_owned()),
            false => {
                let path = program.display().to_string();
                Err(Error::new(
                    ErrorKind::Missing,
                    path,
                    "there is no such program",
                ))
            }
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("passt"));
    let runs = |file: &PathBuf| {
        file.is_absolute()
            && fs::metadata(file)
                .is_ok_and(|is| is.is_file() && is.permissions().mode() & 0o111 != 0)
    };
    found.find(runs).ok_or_else(|| {
        Error::new(
            ErrorKind::Missing,
            "find passt",
            "no program of this name is in PATH",
        )
        .remedy("install the package passt")
    })
}

/// Whoever may enter the folder could speak in the guest's name.
fn check_private(run_dir: &Path) -> Result<()> {
    let bad = |error| Error::io(run_dir.display().to_string(), error);
    let folder = fs::metadata(run_dir).map_err(bad)?;
    let ours = folder.uid() == nix::unistd::geteuid().as_raw();
    if !folder.is_dir() || !ours || folder.mode() & 0o077 != 0 {
        let operation = run_dir.display().to_string();
        return Err(Error::new(
            ErrorKind::Io,
            operation,
            "not a folder that only this user may enter",
        )
        .remedy("chmod 700 it, or give another"));
    }
    Ok(())
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(file.display().to_string(), error))
        }
        _ => Ok(()),
    }
}
