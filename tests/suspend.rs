//! A guest at work is suspended and comes back in another QEMU, over another disk server, and goes on.
//!
//! The machines here are QEMUs steered by hand: what is proved is that our disk frontends let a machine be
//! saved, at rest and while it runs, and that no write is lost between the two servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use medley_tests::{READY, Workspace};
use serde_json::{Value, json};
use vdisk::Disk;
use vdisk::image::{Mode, OpenImage};
use vdisk_frontends::nbd::{NbdOptions, NbdServer};
use vdisk_frontends::vhost_user::{VhostUserOptions, VhostUserServer};

const LIMIT: Duration = Duration::from_secs(120);

/// What the guest's boot loader would tell its kernel.
const APPEND: &str =
    "root=LABEL=medley-root rw console=ttyS0 quiet nokaslr mitigations=off no_timer_check";

/// How a machine reaches its disk.
///
/// Over vhost-user the guest's kernel is given to QEMU instead of being loaded by the boot loader: QEMU's
/// translator does not notice when another process writes over code that it has translated, as happens to
/// a boot sector that loads the next one to its own place. (Under KVM there is no such thing.)
#[derive(Clone, Copy)]
enum Frontend {
    Nbd,
    VhostUser,
}

enum Server {
    Nbd(NbdServer),
    VhostUser(VhostUserServer),
}

impl Frontend {
    /// Opens the workspace's encrypted disk for keeps, and serves it.
    fn serve(self, workspace: &Workspace) -> Result<Server> {
        let path = workspace.disk();
        let key = workspace.key()?;
        let image = OpenImage {
            path: &path,
            format: None,
            mode: Mode::Keep,
            key: Some(&key),
        };
        let disk: Disk = image.open()?.disk;
        let socket = workspace.path("disk.sock");
        Ok(match self {
            Self::Nbd => Server::Nbd(NbdServer::bind(socket, disk, NbdOptions::default())?),
            Self::VhostUser => {
                let options = VhostUserOptions::default();
                Server::VhostUser(VhostUserServer::bind(socket, disk, options)?)
            }
        })
    }

    fn arguments(self, workspace: &Workspace) -> Vec<String> {
        let (socket, kernel, initrd) = ("disk.sock", "vmlinuz", "initrd");
        let [socket, kernel, initrd] = [socket, kernel, initrd].map(|name| workspace.path(name));
        let (socket, kernel) = (socket.display(), kernel.display());
        let initrd = initrd.display();
        let text = match self {
            Self::Nbd => format!(
                "-blockdev driver=nbd,node-name=d0,server.type=unix,server.path={socket} \
                 -device virtio-blk-pci,drive=d0"
            ),
            Self::VhostUser => format!(
                "-object memory-backend-memfd,id=ram,size=192M,share=on -machine memory-backend=ram \
                 -chardev socket,id=d0,path={socket},reconnect-ms=500 \
                 -device vhost-user-blk-pci,chardev=d0,num-queues=2 \
                 -kernel {kernel} -initrd {initrd}"
            ),
        };
        let mut arguments: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        if matches!(self, Self::VhostUser) {
            arguments.extend(["-append".into(), APPEND.into()]);
        }
        arguments
    }
}

impl Server {
    fn shutdown(self) -> Result<()> {
        match self {
            Self::Nbd(server) => server.shutdown()?,
            Self::VhostUser(server) => server.shutdown()?,
        }
        Ok(())
    }
}

/// A QEMU with its monitor and its guest's console.
struct Machine {
    qemu: Child,
    monitor: BufReader<UnixStream>,
    console: UnixStream,
    heard: String,
    commands: u32,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn connect(path: &Path) -> Result<UnixStream> {
    let end = Instant::now() + LIMIT;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(LIMIT))?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > end => {
                return Err(error).context(path.display().to_string());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

impl Machine {
    /// Starts a machine, to boot or to take over what another one saved.
    fn start(workspace: &Workspace, frontend: Frontend, incoming: bool) -> Result<Self> {
        let paths: [PathBuf; 2] = ["qmp", "console"].map(|name| workspace.path(name));
        for path in &paths {
            let _ = std::fs::remove_file(path);
        }
        let [qmp, console] = &paths;
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(
                "-nodefaults -no-user-config -display none -accel tcg -machine q35 -cpu max"
                    .split(' '),
            )
            .args(["-m", "192", "-no-reboot"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", qmp.display()))
            .arg("-serial")
            .arg(format!("unix:{},server=on,wait=on", console.display()))
            .args(frontend.arguments(workspace));
        if incoming {
            command.args(["-incoming", "defer"]);
        }
        let qemu = command
            .stdin(Stdio::null())
            .spawn()
            .context("qemu-system-x86_64")?;
        let mut machine = Self {
            qemu,
            // QEMU waits for a client of its console before it opens its monitor.
            console: connect(console)?,
            monitor: BufReader::new(connect(qmp)?),
            heard: String::new(),
            commands: 0,
        };
        machine.answer(|said| said.get("QMP").is_some())?;
        machine.ask("qmp_capabilities", json!({}))?;
        Ok(machine)
    }

    fn answer(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        loop {
            let mut line = String::new();
            ensure!(self.monitor.read_line(&mut line)? > 0, "QEMU hung up");
            let said: Value = serde_json::from_str(&line)?;
            if wanted(&said) {
                return Ok(said);
            }
        }
    }

    /// A command to QEMU; what it returned.
    fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let text = json!({"execute": command, "arguments": arguments}).to_string();
        self.monitor.get_mut().write_all(text.as_bytes())?;
        let said =
            self.answer(|said| said.get("return").is_some() || said.get("error").is_some())?;
        match said.get("error") {
            Some(error) => bail!("{command}: {error}"),
            None => Ok(said["return"].clone()),
        }
    }

    fn wait_status(&mut self, command: &str, wanted: &str) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let said = self.ask(command, json!({}))?;
            if said["status"] == wanted {
                return Ok(());
            }
            ensure!(
                said["status"] != "failed" && Instant::now() < end,
                "not {wanted}: {said}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Saves the machine and ends it.
    fn suspend(mut self, file: &Path, at_rest: bool) -> Result<()> {
        if at_rest {
            self.ask("stop", json!({}))?;
        }
        self.ask(
            "migrate-set-parameters",
            json!({"max-bandwidth": 1u64 << 34}),
        )?;
        self.ask(
            "migrate",
            json!({"uri": format!("file:{}", file.display())}),
        )?;
        self.wait_status("query-migrate", "completed")?;
        self.ask("quit", json!({}))?;
        self.qemu.wait()?;
        Ok(())
    }

    /// Goes on with a machine that was saved.
    fn resume(workspace: &Workspace, frontend: Frontend, file: &Path) -> Result<Self> {
        let mut machine = Self::start(workspace, frontend, true)?;
        machine.ask(
            "migrate-incoming",
            json!({"uri": format!("file:{}", file.display())}),
        )?;
        machine.wait_status("query-migrate", "completed")?;
        machine.ask("cont", json!({}))?;
        machine.wait_status("query-status", "running")?;
        Ok(machine)
    }

    /// Waits until the guest has said `end`; what it said before.
    fn wait_for(&mut self, end: &str) -> Result<String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.heard.find(end) {
                let before = self.heard[..at].to_owned();
                self.heard.drain(..at + end.len());
                return Ok(before);
            }
            ensure!(
                Instant::now() < deadline,
                "no {end:?}, but:\n{}",
                self.heard
            );
            let mut buffer = [0; 4096];
            let n = self
                .console
                .read(&mut buffer)
                .with_context(|| self.heard.clone())?;
            ensure!(n > 0, "the console ended:\n{}", self.heard);
            self.heard
                .push_str(&String::from_utf8_lossy(&buffer[..n]).replace('\r', ""));
        }
    }

    /// Runs a shell command in the guest; what it printed.
    fn run(&mut self, command: &str) -> Result<String> {
        self.commands += 1;
        // A new machine must not be answered with what the old one's guest still had to say.
        let id = format!("{}-{}", self.qemu.id(), self.commands);
        self.console
            .write_all(format!("{id} {command}\n").as_bytes())?;
        self.wait_for(&format!("MEDLEY-BEGIN {id}\n"))?;
        let said = self.wait_for(&format!("MEDLEY-END {id} "))?;
        let status = self.wait_for("\n")?;
        ensure!(status == "0", "`{command}` ended with {status}: {said}");
        Ok(said.trim().to_owned())
    }
}

fn survives(frontend: Frontend, rounds: &[bool]) -> Result<()> {
    const WORK: &str = "(i=0; while :; do i=$((i+1)); \
        dd if=/dev/urandom of=/busy bs=64k count=16 conv=fsync 2>/dev/null; echo $i > /counter; \
        done) >/dev/null 2>&1 & echo $! > /worker";
    const SUM: &str = "echo 3 > /proc/sys/vm/drop_caches; sha256sum /data";
    let workspace = Workspace::new("MEDLEY_GUEST_TINY")?;
    workspace.extract_kernel()?;
    let state = workspace.path("state");
    let mut server = frontend.serve(&workspace)?;
    let mut machine = Machine::start(&workspace, frontend, false)?;
    machine.wait_for(READY)?;
    machine.run("dd if=/dev/urandom of=/data bs=64k count=100 conv=fsync 2>/dev/null")?;
    let sum = machine.run(SUM)?;
    machine.run(WORK)?;
    let count = |machine: &mut Machine| -> Result<u64> {
        Ok(machine.run("cat /counter 2>/dev/null || echo 0")?.parse()?)
    };
    for at_rest in rounds {
        let before = count(&mut machine)?;
        machine.suspend(&state, *at_rest)?;
        server.shutdown()?;
        server = frontend.serve(&workspace)?;
        machine = Machine::resume(&workspace, frontend, &state)?;
        // The process that was at work still is, and the disk is what it was.
        machine.run("kill -0 $(cat /worker)")?;
        ensure!(machine.run(SUM)? == sum, "the disk is not what it was");
        let end = Instant::now() + LIMIT;
        while count(&mut machine)? <= before {
            ensure!(Instant::now() < end, "the guest's process does not go on");
        }
        std::fs::remove_file(&state)?;
    }
    machine.run("kill $(cat /worker); sync; dmesg | grep -i 'i/o error' && exit 1; true")?;
    drop(machine);
    server.shutdown()
}

#[test]
fn guest_survives_a_suspend_over_nbd() -> Result<()> {
    survives(Frontend::Nbd, &[true])
}

#[test]
fn guest_survives_suspends_over_vhost_user() -> Result<()> {
    // The second one while it runs, which needs the log of dirty pages.
    survives(Frontend::VhostUser, &[true, false])
}
