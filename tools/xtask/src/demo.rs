//! `cargo xtask demo`: the main job from end to end, on a real guest. Every claim it prints was checked
//! in this run, and the first that does not hold ends it.

mod desktop;
mod picture;
mod proof;
mod windows;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Serialize;
use serde_json::Value;

use crate::guest::{self, Description, Kind};
use crate::progress::step;
use crate::setup::{self, Purpose};
use crate::{run, workspace};

/// What the guest writes in its first session, and must not find in the second.
const NOTE: &str = "/written-in-a-session.txt";

/// What a process of the guest remembers while its machine sleeps: in memory, and never on a disk.
const SECRET: &str = "remembered-while-asleep";

/// Makes a guest, encrypts its disk, mounts it, boots it, lets it change itself, reverts it, puts it to sleep, and
/// shows its apps as windows.
#[derive(Parser)]
pub struct Args {
    /// Which guest: the full Debian, or the tiny one, which takes seconds.
    #[arg(long, value_enum, default_value = "debian")]
    guest: Kind,
}

/// What is written to `report.json`.
#[derive(Serialize)]
struct Report {
    guest: String,
    guest_build_seconds: f64,
    plain_bytes: u64,
    encrypted_bytes: u64,
    virtual_bytes: u64,
    encrypt_seconds: f64,
    mount_seconds: f64,
    files_listed: usize,
    accelerator: String,
    accelerator_reason: String,
    memory_mib: u64,
    first_boot_seconds: f64,
    second_boot_seconds: f64,
    session_written_bytes: u64,
    base_sha256: String,
    base_unchanged: bool,
    plaintext: proof::Plaintext,
    sleep: Sleep,
    /// The tiny guest has no agent that starts by itself.
    windows: Option<windows::Windows>,
    total_seconds: f64,
}

/// How the machine slept.
#[derive(Serialize)]
struct Sleep {
    memory_bytes: u64,
    state_bytes: u64,
    texts_looked_for: usize,
    texts_found: usize,
    suspend_seconds: f64,
    resume_seconds: f64,
}

struct Demo {
    medley: PathBuf,
    dir: PathBuf,
    guest: Description,
    lines: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    setup::ensure(Purpose::Demo)?;
    let medley = step("build medley", || {
        run::quiet(&mut workspace::cargo([
            "build",
            "--release",
            "--quiet",
            "-p",
            "medley",
            "-p",
            "medley-presenter",
        ])?)?;
        Ok(workspace::target()?.join("release/medley"))
    })?;
    let guest = guest::ensure(args.guest, None, false)?;
    let dir = workspace::target()?.join("demo");
    // An earlier run may have been killed.
    drop(Mounted {
        medley: &medley,
        dir: dir.join("mnt"),
    });
    match std::fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot clear {}", dir.display()));
        }
        _ => std::fs::create_dir_all(&dir)?,
    }
    let mut demo = Demo {
        medley,
        dir,
        guest,
        lines: Vec::new(),
    };
    let report = demo.play(started)?;
    demo.finish(&report)
}

impl Demo {
    fn play(&mut self, started: Instant) -> Result<Report> {
        let plain = self.guest.vhd.clone();
        let base = self.dir.join("office.vhd");
        // Gone with this function, however it ends.
        let secret_file = new_secret(&self.dir)?;
        let secret = secret_file.path().to_owned();

        self.title("A guest");
        self.say(format!(
            "{}: {} packages of Debian in a dynamic VHD",
            short(&plain),
            self.guest.packages.len()
        ));
        self.say(format!(
            "{} on disk, {} to the guest",
            size(self.guest.file_size),
            size(self.guest.virtual_size)
        ));

        self.title("Its disk, encrypted");
        let begun = Instant::now();
        let mut encrypt = self.medley(["disk", "encrypt"]);
        encrypt
            .args([&plain, &base])
            .arg("--new-passphrase-file")
            .arg(&secret);
        self.shown(&encrypt);
        run::quiet(&mut encrypt)?;
        let encrypt_seconds = begun.elapsed().as_secs_f64();
        let encrypted_bytes = base.metadata()?.len();
        let before = proof::sha256(&base)?;
        let plaintext = proof::search(&plain, &base)?;
        self.say(format!(
            "{} in {encrypt_seconds:.1} s",
            size(encrypted_bytes)
        ));
        self.say(format!(
            "{} sectors of the plain disk looked for in it: {} found",
            plaintext.sectors_looked_for, plaintext.sectors_found
        ));
        self.say(format!(
            "{} texts of the guest looked for at every byte: {} found (all are in the plain disk)",
            plaintext.texts_looked_for, plaintext.texts_found
        ));
        ensure!(
            plaintext.sectors_found == 0 && plaintext.texts_found == 0,
            "plaintext of the guest was found in {}",
            base.display()
        );

        self.title("Its files, through FUSE");
        let begun = Instant::now();
        let files = self.list_files(&base, &secret)?;
        let mount_seconds = begun.elapsed().as_secs_f64();

        self.title("Booted, and changed");
        let write = format!("echo 'the guest was here' > {NOTE}; sync; cat {NOTE}");
        let first = self.boot(
            &base,
            &secret,
            "first",
            &["cat /etc/os-release | head -1; uname -r", &write],
        )?;
        ensure!(
            first.said.contains("the guest was here"),
            "the guest did not write its file:\n{}",
            first.said
        );
        self.say(format!(
            "{}, {}",
            first.field("accelerator"),
            first.field("reason")
        ));
        self.say(format!(
            "{} MiB of RAM; ready {:.1} s after power-on",
            first.field("memory_mib"),
            first.ready()?
        ));
        self.quote(&first.said);

        self.title("Reverted");
        let look = format!("ls -la {NOTE} 2>&1; test -e {NOTE} && echo STILL THERE || echo GONE");
        // Joined in the guest, so that nothing on the host holds it whole; a process keeps it, and waits.
        let (head, tail) = SECRET.split_at(10);
        let remember = format!(
            "(s={head}; s=$s{tail}; echo $s >/dev/shm/secret; while :; do sleep 1; done) & \
             echo $! >/dev/shm/worker; echo process $(cat /dev/shm/worker) waits"
        );
        let second = self.session(&base, &secret, "second", &[&look, &remember], "suspend")?;
        self.quote(&second.said);
        ensure!(
            second.said.contains("GONE"),
            "the file survived the revert:\n{}",
            second.said
        );
        let after = proof::sha256(&base)?;
        ensure!(
            before == after,
            "the base changed: SHA-256 {before} before, {after} after"
        );
        self.say(format!("base unchanged, SHA-256 {}…", &after[..16]));

        let sleep = self.wake(&base, &secret, &second)?;
        let windows = match self.guest.name.as_str() {
            "debian" => Some(self.windows(&base, &secret)?),
            _ => None,
        };

        Ok(Report {
            guest: self.guest.name.clone(),
            guest_build_seconds: self.guest.build_seconds,
            plain_bytes: self.guest.file_size,
            encrypted_bytes,
            virtual_bytes: self.guest.virtual_size,
            encrypt_seconds,
            mount_seconds,
            files_listed: files,
            accelerator: first.field("accelerator"),
            accelerator_reason: first.field("reason"),
            memory_mib: first.report["memory_mib"].as_u64().unwrap_or(0),
            first_boot_seconds: first.ready()?,
            second_boot_seconds: second.ready()?,
            session_written_bytes: first.report["written_bytes"].as_u64().unwrap_or(0),
            base_unchanged: before == after,
            base_sha256: after,
            plaintext,
            sleep,
            windows,
            total_seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Looks at a machine that sleeps, and wakes it.
    fn wake(&mut self, base: &Path, secret: &Path, asleep: &Session) -> Result<Sleep> {
        self.title("Asleep");
        let number = |path: &str| asleep.report.pointer(path).and_then(Value::as_f64);
        let slept = |name: &str| {
            number(&format!("/session/slept/{name}"))
                .with_context(|| format!("the machine did not sleep: {}", asleep.report))
        };
        let (memory, file) = (slept("state_bytes")? as u64, slept("file_bytes")? as u64);
        let suspend_seconds = slept("took/secs")? + slept("took/nanos")? / 1e9;
        let state = self.dir.join("session/state");
        // All of them are in the guest's memory.
        let texts: [&[u8]; 4] = [
            SECRET.as_bytes(),
            b"Linux version ",
            b"MEDLEY-GUEST-READY",
            b"/lib64/ld-linux-x86-64.so.2",
        ];
        let found = proof::texts_in(&state, &texts)?;
        self.say(format!(
            "{} of memory in {}, compressed and sealed, in {suspend_seconds:.2} s",
            size(memory),
            size(file)
        ));
        self.say(format!(
            "{} texts of the guest's memory looked for at every byte of it: {found} found",
            texts.len()
        ));
        ensure!(found == 0, "plaintext was found in {}", state.display());

        self.title("Awake");
        let look = "kill -0 $(cat /dev/shm/worker) && echo process $(cat /dev/shm/worker) still waits; \
             cat /dev/shm/secret; cat /proc/uptime";
        let awake = self.session(base, secret, "third", &[look], "poweroff")?;
        self.quote(&awake.said);
        ensure!(
            awake.said.contains("still waits") && awake.said.contains(SECRET),
            "the guest's process is gone:\n{}",
            awake.said
        );
        ensure!(
            awake.report["session"]["began"] == "resumed",
            "the machine booted instead of going on: {}",
            awake.report
        );
        let resume_seconds = awake.report["session"]["seconds_to_begin"]
            .as_f64()
            .unwrap_or(0.0);
        self.say(format!("resumed in {resume_seconds:.2} s"));
        Ok(Sleep {
            memory_bytes: memory,
            state_bytes: file,
            texts_looked_for: texts.len(),
            texts_found: found,
            suspend_seconds,
            resume_seconds,
        })
    }

    /// Mounts the disk, lists folders of the guest's own file system, and unmounts it.
    fn list_files(&mut self, base: &Path, secret: &Path) -> Result<usize> {
        let mountpoint = self.dir.join("mnt");
        std::fs::create_dir(&mountpoint)?;
        let mut mount = self.medley(["disk", "mount", "--read-only"]);
        mount
            .args([base, &mountpoint])
            .arg("--passphrase-file")
            .arg(secret);
        self.shown(&mount);
        let mounted = Mounted {
            medley: &self.medley,
            dir: mountpoint.clone(),
        };
        // What serves it is a process of its own: stopped halfway, it could still appear later.
        run::to_the_end(&mut mount)?;
        run::go_on()?;
        let raw = format!(
            "{}?offset={}",
            mountpoint.join("disk.raw").display(),
            self.guest.root.offset
        );
        let debugfs =
            |request: &str| run::capture(&mut run::command("debugfs", ["-c", "-R", request, &raw]));
        let listing = debugfs("ls -p /")? + &debugfs("ls -p /etc")?;
        drop(mounted);
        // Lines are /inode/mode/uid/gid/name/size/.
        let names: Vec<&str> = listing
            .lines()
            .filter_map(|line| line.split('/').nth(5))
            .filter(|name| !name.is_empty() && *name != "." && *name != "..")
            .collect();
        ensure!(
            names.contains(&"etc") && names.contains(&"passwd"),
            "the guest's files are not there:\n{listing}"
        );
        let root: Vec<&str> = names
            .iter()
            .copied()
            .take_while(|name| *name != "passwd")
            .take(16)
            .collect();
        self.say(format!("/: {} …", root.join(" ")));
        self.say(format!("{} names in / and /etc", names.len()));
        Ok(names.len())
    }

    /// One revertible session, forgotten with its machine, that runs commands in the guest.
    fn boot(
        &mut self,
        base: &Path,
        secret: &Path,
        name: &str,
        commands: &[&str],
    ) -> Result<Session> {
        let steps = format!("wait {}\n", guest::READY_MARKER) + &typed(name, commands);
        let dir = self.dir.clone();
        self.run(
            base,
            secret,
            name,
            &(steps + "poweroff\n"),
            &["--overlay-dir"],
            &dir,
        )
    }

    /// A revertible session that sleeps or ends.
    fn session(
        &mut self,
        base: &Path,
        secret: &Path,
        name: &str,
        commands: &[&str],
        end: &str,
    ) -> Result<Session> {
        let folder = self.dir.join("session");
        // A machine that wakes does not say again that it is ready.
        let wait = match folder.join("state").exists() {
            true => String::new(),
            false => format!("wait {}\n", guest::READY_MARKER),
        };
        let steps = wait + &typed(name, commands) + end + "\n";
        self.run(base, secret, name, &steps, &["--session"], &folder)
    }

    fn run(
        &mut self,
        base: &Path,
        secret: &Path,
        name: &str,
        steps: &str,
        option: &[&str],
        folder: &Path,
    ) -> Result<Session> {
        let script = self.dir.join(format!("{name}.script"));
        std::fs::write(&script, format!("timeout 400\n{steps}"))?;
        let mut boot = self.medley(["boot", "--revertible", "--json"]);
        boot.arg(base).arg("--passphrase-file").arg(secret);
        boot.arg("--script").arg(&script);
        boot.args(["--ready-marker", guest::READY_MARKER, "--timeout", "900"]);
        boot.args(option).arg(folder);
        self.shown(&boot);
        let (report, console) = run::both(&mut boot)?;
        std::fs::write(self.dir.join(format!("{name}.console")), &console)?;
        let report: Value =
            serde_json::from_str(&report).context("medley boot --json printed no JSON")?;
        Ok(Session {
            report,
            said: answers(&console),
        })
    }

    fn medley<const N: usize>(&self, args: [&str; N]) -> Command {
        run::command(&self.medley.to_string_lossy(), args)
    }

    fn title(&mut self, text: &str) {
        self.print(String::new());
        self.print(format!("● {text}"));
    }

    fn say(&mut self, text: String) {
        self.print(format!("  {text}"));
    }

    fn quote(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.print(format!("  │ {line}"));
        }
    }

    /// A command as a person would type it in the demo's folder.
    fn shown(&mut self, command: &Command) {
        let args = command.get_args().map(|arg| short(Path::new(arg)));
        let words: Vec<String> = std::iter::once("medley".into()).chain(args).collect();
        self.print(format!("  $ {}", words.join(" ")));
    }

    fn print(&mut self, line: String) {
        println!("{line}");
        self.lines.push(line);
    }

    fn finish(mut self, report: &Report) -> Result<()> {
        self.title("Summary");
        self.say(format!(
            "guest      {} ({} packages)",
            report.guest,
            self.guest.packages.len()
        ));
        self.say(format!(
            "disk       {} plain, {} encrypted",
            size(report.plain_bytes),
            size(report.encrypted_bytes)
        ));
        self.say(format!(
            "encrypt    {:.1} s, key derivation included",
            report.encrypt_seconds
        ));
        self.say(format!(
            "boot       {:.1} s, then {:.1} s ({})",
            report.first_boot_seconds, report.second_boot_seconds, report.accelerator
        ));
        self.say(format!(
            "session    wrote {}, forgotten",
            size(report.session_written_bytes)
        ));
        self.say(format!(
            "sleep      {:.2} s to fall asleep, {:.2} s to wake ({} of memory in {})",
            report.sleep.suspend_seconds,
            report.sleep.resume_seconds,
            size(report.sleep.memory_bytes),
            size(report.sleep.state_bytes)
        ));
        self.say(format!("all        {:.0} s", report.total_seconds));
        let json = self.dir.join("report.json");
        std::fs::write(&json, serde_json::to_string_pretty(report)? + "\n")?;
        picture::write(&self.dir.join("demo.svg"), &self.lines)?;
        println!("\n{}", json.display());
        Ok(())
    }
}

/// A finished session.
struct Session {
    report: Value,
    said: String,
}

impl Session {
    fn field(&self, name: &str) -> String {
        match &self.report[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    fn ready(&self) -> Result<f64> {
        self.report["seconds_to_ready"]
            .as_f64()
            .context("the guest never said that it was ready")
    }
}

/// A folder of the demo's that may be mounted on, and is not any more when this is dropped.
struct Mounted<'a> {
    medley: &'a Path,
    dir: PathBuf,
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if !is_mounted(&self.dir) {
            return;
        }
        let mut unmount = run::command(&self.medley.to_string_lossy(), ["disk", "unmount"]);
        if let Err(e) = run::to_the_end(unmount.arg(&self.dir)) {
            // The terminal may be gone, which is no reason to panic in here.
            let _ = writeln!(
                std::io::stderr(),
                "cannot unmount {}: {e:#}",
                self.dir.display()
            );
        }
    }
}

/// Whether something is mounted on `dir`, be it served or dead.
fn is_mounted(dir: &Path) -> bool {
    let device = |path: &Path| path.symlink_metadata().map(|metadata| metadata.dev());
    match (device(dir), dir.parent().map(device)) {
        (Ok(own), Some(Ok(parent))) => own != parent,
        // A mount whose server died answers nothing but errors.
        (Err(e), _) => e.kind() != std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// An argument as it is shown: files by their names, without the folders of this machine.
fn short(arg: &Path) -> String {
    match (arg.is_absolute(), arg.file_name()) {
        (true, Some(name)) => name.to_string_lossy().into_owned(),
        _ => arg.to_string_lossy().into_owned(),
    }
}

/// Script steps that run commands in the guest, one after the other.
fn typed(name: &str, commands: &[&str]) -> String {
    let step = |(i, command): (usize, &&str)| {
        // A machine that wakes must not be answered with what it said before it slept.
        format!("send {name}{i} {command}\nwait MEDLEY-END {name}{i}\\x20\n")
    };
    commands.iter().enumerate().map(step).collect()
}

/// What the guest's commands printed, out of everything its console said.
fn answers(console: &str) -> String {
    let mut inside = false;
    let mut said = String::new();
    for line in console.lines().map(|line| line.trim_end_matches('\r')) {
        if line.starts_with("MEDLEY-BEGIN ") {
            inside = true;
        } else if line.starts_with("MEDLEY-END ") {
            inside = false;
        } else if inside {
            said.push_str(line);
            said.push('\n');
        }
    }
    said
}

/// A passphrase nobody chose, in a file that only its owner may read.
fn new_secret(dir: &Path) -> Result<tempfile::NamedTempFile> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let mut file = tempfile::Builder::new()
        .prefix("passphrase-")
        .rand_bytes(4)
        .tempfile_in(dir)
        .context("cannot make a file for the passphrase")?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn size(bytes: u64) -> String {
    match bytes {
        n if n >= 1 << 30 => format!("{:.2} GiB", n as f64 / (1u64 << 30) as f64),
        n if n >= 1 << 20 => format!("{:.1} MiB", n as f64 / (1u64 << 20) as f64),
        n => format!("{:.1} KiB", n as f64 / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_told_from_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_mounted(Path::new("/proc")));
        assert!(!is_mounted(dir.path()) && !is_mounted(&dir.path().join("none")));
    }

    #[test]
    fn only_what_commands_print_is_an_answer() {
        let console = "boot\r\nMEDLEY-GUEST-READY up=3\r\nMEDLEY-BEGIN c0\r\none\r\ntwo\r\n\r\nMEDLEY-END c0 0\r\nbye\r\n";
        assert_eq!(answers(console), "one\ntwo\n\n");
    }
}
