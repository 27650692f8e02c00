//! A folder to work in, and the program in it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Key derivation that costs nothing.
pub const CHEAP: [&str; 4] = ["--kdf-memory", "64K", "--kdf-time", "1"];

/// Text that must never be seen in a ciphertext.
pub const PLAIN: &[u8] = b"this is the plaintext of the disk";

/// A temporary folder with a passphrase in `pw`; what runs in it runs in its own `tmp`, too.
pub struct Folder(tempfile::TempDir);

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Folder {
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("pw", b"secret\n");
        std::fs::create_dir(folder.path("tmp")).unwrap();
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// Names in the folder, sorted, but for those it begins with.
    pub fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.retain(|name| name != "pw" && name != "tmp");
        names.sort();
        names
    }

    /// Whether nothing temporary is left.
    pub fn is_tidy(&self) -> bool {
        std::fs::read_dir(self.path("tmp"))
            .unwrap()
            .next()
            .is_none()
    }

    /// The program with these arguments, blank-separated.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_medley"));
        command
            .args(args.split_ascii_whitespace())
            .current_dir(self.0.path())
            .env("TMPDIR", self.path("tmp"))
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &str) -> Ran {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(args).output().unwrap();
        Ran {
            code: status.code().unwrap_or(-1),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }

    /// Runs what must succeed.
    #[track_caller]
    pub fn ok(&self, args: &str) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "medley {args}: {ran:?}");
        ran.out
    }

    /// Runs what must succeed and print one JSON document.
    #[track_caller]
    pub fn json(&self, args: &str) -> Value {
        let out = self.ok(&format!("{args} --json"));
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("medley {args} --json: {e}: {out}"))
    }

    /// Runs what must fail with this exit code, both ways, and returns the message.
    #[track_caller]
    pub fn fails(&self, code: i32, args: &str) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, code, "medley {args}: {ran:?}");
        assert!(ran.err.starts_with("medley: "), "{ran:?}");
        let json = self.run(&format!("{args} --json"));
        assert_eq!(json.code, code, "medley {args} --json: {json:?}");
        let error: Value = serde_json::from_str(json.err.trim()).unwrap();
        assert!(error["error"]["kind"].is_string() && error["error"]["message"].is_string());
        ran.err
    }

    /// An encrypted disk of 4 MiB from [`plain`].
    pub fn encrypted(&self, name: &str) {
        self.write("plain.raw", &plain(4 << 20));
        let cheap = CHEAP.join(" ");
        self.ok(&format!(
            "disk encrypt plain.raw {name} --passphrase-file pw {cheap}"
        ));
        std::fs::remove_file(self.path("plain.raw")).unwrap();
    }
}

/// Bytes with text, zeros and noise in them.
pub fn plain(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (index, chunk) in bytes.chunks_mut(4096).enumerate() {
        match index % 3 {
            0 => chunk[..PLAIN.len()].copy_from_slice(PLAIN),
            1 => chunk
                .iter_mut()
                .enumerate()
                .for_each(|(i, byte)| *byte = (i * 7 + index) as u8),
            _ => {}
        }
    }
    bytes
}

pub fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "waited in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A child that is killed if the test fails before it has ended.
pub struct Running(pub Child);

impl Running {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    /// Its exit code, once it has ended by itself.
    #[track_caller]
    pub fn code(&mut self) -> i32 {
        let mut status = None;
        until("the program's end", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code().unwrap_or(-1)
    }

    /// Whether it has this file open.
    pub fn has_open(&self, file: &str) -> bool {
        let Ok(open) = std::fs::read_dir(format!("/proc/{}/fd", self.0.id())) else {
            return false;
        };
        open.flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .any(|path| path.to_string_lossy().contains(file))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts something that stays, and its first line.
pub fn start(folder: &Folder, args: &str) -> (Running, String) {
    let mut child = Running(folder.command(args).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    (child, line)
}

pub fn is_mounted(dir: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == dir.to_str())
}

pub fn alive(pid: u64) -> bool {
    // A zombie that nobody has waited for yet has ended, too.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Whether the tools of others may be missing; otherwise a test without them fails.
pub fn skipped(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}
