//! Folders of the host's in a guest, by virtiofs: served by another process, which works in the guest's memory.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use medley_hypervisor::qemu::Qemu;
use medley_hypervisor::{
    AcceleratorChoice, DiskEndpoint, Hypervisor, MachineSpec, Serial, SharedFolder,
};
use medley_tests::READY;

const LIMIT: Duration = Duration::from_secs(120);

/// A process that ends with its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The folders' server: Debian's package virtiofsd, from release 13 on, or what `MEDLEY_VIRTIOFSD` names.
fn virtiofsd() -> Option<PathBuf> {
    let named = std::env::var_os("MEDLEY_VIRTIOFSD").map(PathBuf::from);
    let usual = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("virtiofsd"));
    named
        .into_iter()
        .chain(usual.map(PathBuf::from))
        .chain(found)
        .find(|program| program.is_file())
}

fn wait_for(what: &str, there: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + LIMIT;
    while !there() {
        ensure!(Instant::now() < end, "{what} is not there");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The guest's serial line.
struct Line {
    stream: UnixStream,
    heard: String,
}

impl Line {
    fn wait_for(&mut self, text: &str) -> Result<String> {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some((before, after)) = self.heard.split_once(text) {
                let (before, after) = (before.to_owned(), after.to_owned());
                self.heard = after;
                return Ok(before);
            }
            ensure!(Instant::now() < end, "no {text:?} in {:?}", self.heard);
            self.stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => bail!("the line is closed: {:?}", self.heard),
                Ok(n) => self.heard += &String::from_utf8_lossy(&bytes[..n]).replace('\r', ""),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn run(&mut self, id: &str, command: &str) -> Result<String> {
        writeln!(self.stream, "{id} {command}")?;
        self.wait_for(&format!("MEDLEY-BEGIN {id}\n"))?;
        let said = self.wait_for(&format!("\nMEDLEY-END {id} "))?;
        ensure!(self.wait_for("\n")? == "0", "{command}: {said}");
        Ok(said.trim().to_owned())
    }
}

#[test]
fn guest_folder_of_the_host_is_read_and_written() -> Result<()> {
    let Some(virtiofsd) = virtiofsd() else {
        println!("skipped: no virtiofsd here (Debian 12 has none); MEDLEY_VIRTIOFSD names one");
        return Ok(());
    };
    let guest = std::env::var_os("MEDLEY_GUEST_TINY").context("MEDLEY_GUEST_TINY is not set")?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("inbox"))?;
    fs::write(path("inbox/from-the-host"), "a letter to the guest\n")?;
    let nbd = Command::new("qemu-nbd")
        .args([
            "--persistent",
            "--shared=4",
            "--snapshot",
            "--format=vpc",
            "--socket",
        ])
        .arg(path("disk.sock"))
        .arg(guest)
        .stdin(Stdio::null())
        .spawn()
        .context("this test needs qemu-nbd, from the package qemu-utils")?;
    let _nbd = Ended(nbd);
    let serve = || -> Result<Ended> {
        let _ = fs::remove_file(path("inbox.sock"));
        let server = Command::new(&virtiofsd)
            .arg("--socket-path")
            .arg(path("inbox.sock"))
            .arg("--shared-dir")
            .arg(path("inbox"))
            .args(["--sandbox", "namespace", "--log-level", "warn"])
            .stdin(Stdio::null())
            .spawn()?;
        // It serves the first who connects, so nobody may knock.
        wait_for("virtiofsd", || path("inbox.sock").exists())?;
        Ok(Ended(server))
    };
    let mut server = serve()?;
    wait_for("qemu-nbd", || {
        UnixStream::connect(path("disk.sock")).is_ok()
    })?;

    let disk = DiskEndpoint::nbd_unix(path("disk.sock"), "");
    let spec = MachineSpec {
        memory_mib: 192,
        serial: Serial::socket(path("serial.sock")),
        accelerator: AcceleratorChoice::Tcg,
        folders: vec![SharedFolder {
            tag: "inbox".into(),
            socket: path("inbox.sock"),
        }],
        ..MachineSpec::new("folders", disk, dir.path())
    };
    let qemu = Qemu::find()?;
    let machine = qemu.create(&spec)?;
    let stream = machine.serial()?;
    let heard = String::new();
    let mut line = Line { stream, heard };
    machine.start()?;
    line.wait_for(READY)?;
    line.wait_for("\n")?;
    let said = line.run(
        "c1",
        "mkdir -p /mnt/inbox; mount -t virtiofs inbox /mnt/inbox && cat /mnt/inbox/from-the-host",
    )?;
    ensure!(said == "a letter to the guest", "{said}");
    line.run(
        "c2",
        "dd if=/dev/urandom of=/mnt/inbox/noise bs=64k count=64 2>/dev/null; sync; \
         sha256sum < /mnt/inbox/noise > /mnt/inbox/sum",
    )?;
    let sum = Command::new("sha256sum")
        .stdin(fs::File::open(path("inbox/noise"))?)
        .output()?;
    ensure!(
        sum.stdout == fs::read(path("inbox/sum"))?
            && fs::metadata(path("inbox/noise"))?.len() == 4 << 20,
        "the host sees something else"
    );
    // What the host does is seen at once by name.
    fs::write(path("inbox/later"), "later\n")?;
    ensure!(line.run("c3", "cat /mnt/inbox/later")? == "later");
    // Nothing beside the folder is there.
    let beside = line.run(
        "c4",
        "cat /mnt/inbox/../disk.sock /mnt/inbox/../../etc/hostname; true",
    )?;
    ensure!(!beside.contains("a letter"), "{beside}");
    // A server that can tell its state lets the machine sleep, and the next one goes on with it.
    line.run("c5", "(cd /mnt/inbox; exec 4>>kept-open; while usleep 200000; do echo . >&4; done) >/dev/null 2>&1 & true")?;
    let length = || fs::metadata(path("inbox/kept-open")).map_or(0, |file| file.len());
    wait_for("the worker", || length() > 0)?;
    let (reader, writer) = std::io::pipe()?;
    let read = std::thread::spawn(move || {
        let (mut reader, mut state) = (reader, Vec::new());
        reader.read_to_end(&mut state).map(|_| state)
    });
    machine.save(writer)?;
    let state = read.join().unwrap()?;
    drop(line);
    machine.kill()?;
    // It serves one machine, and ends with it.
    let end = Instant::now() + LIMIT;
    while server.0.try_wait()?.is_none() {
        ensure!(Instant::now() < end, "virtiofsd does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    let server = serve()?;
    let (reader, mut writer) = std::io::pipe()?;
    let written = std::thread::spawn(move || writer.write_all(&state));
    let machine = qemu.restore(&spec, reader)?;
    written.join().unwrap()?;
    let stream = machine.serial()?;
    let heard = String::new();
    let mut line = Line { stream, heard };
    let before = length();
    machine.resume()?;
    fs::write(path("inbox/awake"), "awake\n")?;
    ensure!(line.run("c6", "cat /mnt/inbox/awake; sleep 2")? == "awake");
    ensure!(length() > before, "an open file does not go on");
    machine.stop(LIMIT)?;
    drop(server);
    Ok(())
}
