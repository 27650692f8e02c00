//! The peer: QEMU by itself, with the very devices of our machine, on a raw file that is not encrypted,
//! saving into a plain file and resuming from it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::console::Console;
use crate::server::text;

/// How the rows call it.
pub const NAME: &str = "QEMU, plain file";
/// No single wait may take longer.
const LIMIT: Duration = Duration::from_secs(120);
/// What our machines call their disk.
const DISK: &str = "disk0";

/// How to start one.
pub struct Recipe {
    program: PathBuf,
    arguments: Vec<String>,
    serial: PathBuf,
}

impl Recipe {
    /// The same as the process `like`, which runs in `theirs`, only on the raw file `disk`; its sockets
    /// go to `dir`.
    ///
    /// # Errors
    /// There is no such process.
    pub fn new(like: u32, theirs: &Path, disk: &Path, dir: &Path) -> Result<Self> {
        let told = std::fs::read_to_string(format!("/proc/{like}/cmdline"))?;
        let arguments: Vec<String> = told
            .split_terminator('\0')
            .skip(1)
            .map(|argument| {
                if argument.starts_with("socket,id=monitor,fd=") {
                    return Ok("socket,id=monitor,fd=0".into());
                }
                let mut node = serde_json::from_str(argument).unwrap_or(Value::Null);
                if node["node-name"] == DISK {
                    let file = json!({"driver": "file", "filename": text(disk)});
                    let raw = json!({"driver": "raw", "node-name": DISK, "discard": "unmap", "file": file});
                    return Ok(raw.to_string());
                }
                // Memory that is shared with somebody is of its own.
                if let (true, Some(size)) = (node["mem-path"].is_string(), node["size"].as_u64()) {
                    let memory = dir.join("memory");
                    File::create(&memory)?.set_len(size)?;
                    node["mem-path"] = text(&memory).into();
                    return Ok(node.to_string());
                }
                Ok(argument.replace(&text(theirs), &text(dir)))
            })
            .collect::<Result<_>>()?;
        let mut serial = arguments.iter().filter_map(|argument| {
            let path = argument.strip_prefix("socket,id=serial0,path=")?;
            Some(path.split(',').next()?.into())
        });
        Ok(Self {
            program: std::fs::read_link(format!("/proc/{like}/exe"))?,
            serial: serial.next().context("the machine has no console")?,
            arguments,
        })
    }

    /// With more arguments.
    #[must_use]
    pub fn with(mut self, more: impl IntoIterator<Item = String>) -> Self {
        self.arguments.extend(more);
        self
    }

    /// A machine that stands before its first instruction.
    ///
    /// # Errors
    /// QEMU does not start.
    pub fn start(&self) -> Result<Plain> {
        self.launch(&[])
    }

    /// A machine that goes on where another was saved.
    ///
    /// # Errors
    /// QEMU does not start, or does not take the state.
    pub fn resume(&self, file: &Path) -> Result<Plain> {
        let mut plain = self.launch(&["-incoming", "defer"])?;
        plain.migrate("migrate-incoming", file)?;
        plain.go()?;
        Ok(plain)
    }

    fn launch(&self, more: &[&str]) -> Result<Plain> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(LIMIT))?;
        let qemu = Command::new(&self.program)
            .args(&self.arguments)
            .args(more)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .process_group(0)
            .spawn()
            .context("qemu-system-x86_64")?;
        let mut plain = Plain {
            qemu,
            monitor: BufReader::new(ours),
            serial: self.serial.clone(),
        };
        plain.hear(|said| said.get("QMP").is_some())?;
        plain.ask("qmp_capabilities", json!({}))?;
        let events = json!({"capability": "events", "state": true});
        plain.ask(
            "migrate-set-capabilities",
            json!({"capabilities": [events]}),
        )?;
        let fast = json!({"max-bandwidth": 1u64 << 40});
        plain.ask("migrate-set-parameters", fast)?;
        Ok(plain)
    }
}

/// A QEMU. Dropping it ends it.
pub struct Plain {
    qemu: Child,
    monitor: BufReader<UnixStream>,
    serial: PathBuf,
}

impl Plain {
    /// Lets it run.
    ///
    /// # Errors
    /// QEMU is gone.
    pub fn go(&mut self) -> Result<()> {
        self.ask("cont", json!({})).map(drop)
    }

    /// Saves the machine, which then stands still.
    ///
    /// # Errors
    /// QEMU is gone, or cannot save it.
    pub fn save(&mut self, file: &Path) -> Result<()> {
        self.ask("stop", json!({}))?;
        self.migrate("migrate", file)
    }

    /// Its guest.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn console(&self) -> Result<Console> {
        let socket = &self.serial;
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        Console::on(stream)
    }

    fn migrate(&mut self, command: &str, file: &Path) -> Result<()> {
        self.ask(command, json!({"uri": format!("file:{}", text(file))}))?;
        let over = |said: &Value| {
            let over = ["completed", "failed"].map(Value::from);
            said["event"] == "MIGRATION" && over.contains(&said["data"]["status"])
        };
        let said = self.hear(over)?;
        ensure!(said["data"]["status"] == "completed", "{command}: {said}");
        Ok(())
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let text = json!({"execute": command, "arguments": arguments}).to_string();
        self.monitor.get_mut().write_all(text.as_bytes())?;
        let said = self.hear(|said| said.get("return").is_some() || said.get("error").is_some())?;
        match said.get("error") {
            Some(error) => bail!("{command}: {error}"),
            None => Ok(said["return"].clone()),
        }
    }

    /// The next message of this kind.
    fn hear(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        loop {
            let mut line = String::new();
            let n = self.monitor.read_line(&mut line);
            ensure!(n.context("QEMU does not answer")? > 0, "QEMU hung up");
            let said: Value = serde_json::from_str(&line)?;
            if wanted(&said) {
                return Ok(said);
            }
        }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
