//! Boots a guest once, as its users will: by its own boot loader, out of its VHD, and by the serial
//! port alone.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Description, READY_MARKER};
use crate::progress::step;
use crate::run;

/// Ten times what a quiet machine needs for the slowest guest.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a boot showed.
pub struct Booted {
    /// Seconds from power-on to the ready marker.
    pub ready: f64,
    /// The guest's own clock at that moment, seconds since its kernel started.
    pub uptime: f64,
    /// Seconds from `poweroff` to the end of QEMU.
    pub off: f64,
    /// The kernel and distribution, in the guest's words.
    pub says: String,
}

/// Boots `guest` under emulation (which every machine can do), runs a command in it, shuts it down.
/// The disk is not changed.
pub fn verify(guest: &Description) -> Result<Booted> {
    step(&format!("boot {} under emulation", guest.name), || {
        let mut machine = Machine::start(guest)?;
        let started = Instant::now();
        let line = machine.wait_for(&format!("{READY_MARKER} up="), "\n")?;
        let ready = started.elapsed().as_secs_f64();
        let uptime = line
            .trim()
            .parse()
            .with_context(|| format!("the marker says {line:?}"))?;

        let says = machine.command("uname -sr; . /etc/os-release; echo $PRETTY_NAME")?;
        let written = machine.command("echo text >/root/file && sync && cat /root/file")?;
        if written != "text\n" {
            bail!("the guest cannot write its own disk: {written:?}");
        }

        let stopping = Instant::now();
        machine.send("off poweroff\n")?;
        machine.wait_for_end()?;
        let off = stopping.elapsed().as_secs_f64();
        Ok(Booted {
            ready,
            uptime,
            off,
            says: says.trim().replace('\n', ", "),
        })
    })
}

/// A running QEMU; ends with this value.
struct Machine {
    qemu: Child,
    output: Receiver<Vec<u8>>,
    /// What the serial port said and nobody asked for yet.
    pending: String,
    commands: u32,
}

impl Machine {
    fn start(guest: &Description) -> Result<Self> {
        // What the guest writes goes into a temporary file of QEMU's.
        let disk = format!(
            "if=virtio,format=vpc,snapshot=on,file={}",
            guest.vhd.display().to_string().replace(',', ",,")
        );
        let memory = guest.memory_mib.to_string();
        let args = [
            "-accel",
            "tcg",
            "-machine",
            "q35",
            "-cpu",
            // As the machines of the product: without what is slow to emulate.
            "max,erms=off,fsrm=off,la57=off",
            "-m",
            &memory,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
            "-drive",
            &disk,
        ];
        let mut qemu = run::command("qemu-system-x86_64", args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start qemu-system-x86_64")?;
        let mut serial = qemu.stdout.take().context("QEMU has no output")?;
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = serial.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            qemu,
            output,
            pending: String::new(),
            commands: 0,
        })
    }

    /// Waits until the guest says `start`, then `end`; returns what is between.
    fn wait_for(&mut self, start: &str, end: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.pending.find(start) {
                let from = at + start.len();
                if let Some(length) = self.pending[from..].find(end) {
                    let found = self.pending[from..from + length].to_owned();
                    self.pending.drain(..from + length + end.len());
                    return Ok(found);
                }
            }
            if Instant::now() > deadline {
                bail!(
                    "the guest said no {start:?} within {PATIENCE:?}, but:\n{}",
                    self.pending
                );
            }
            self.receive()?;
        }
    }

    /// Runs a shell command in the guest; returns what it printed. See `guest/medley-sh`.
    fn command(&mut self, command: &str) -> Result<String> {
        self.commands += 1;
        let id = self.commands;
        self.send(&format!("{id} {command}\n"))?;
        let output = self.wait_for(
            &format!("MEDLEY-BEGIN {id}\n"),
            &format!("\nMEDLEY-END {id} "),
        )?;
        match self.wait_for("", "\n")?.as_str() {
            "0" => Ok(output),
            status => bail!("`{command}` ended with {status} in the guest: {output}"),
        }
    }

    fn send(&mut self, text: &str) -> Result<()> {
        let input = self.qemu.stdin.as_mut().context("QEMU has no input")?;
        input
            .write_all(text.as_bytes())
            .and_then(|()| input.flush())
            .context("QEMU is gone")
    }

    fn receive(&mut self) -> Result<()> {
        if run::interrupted() {
            bail!("interrupted");
        }
        match self.output.recv_timeout(Duration::from_millis(200)) {
            Ok(bytes) => self.pending += &String::from_utf8_lossy(&bytes).replace('\r', ""),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                bail!(
                    "QEMU ended ({}); the guest said:\n{}",
                    self.qemu.wait()?,
                    self.pending
                )
            }
        }
        Ok(())
    }

    fn wait_for_end(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.qemu.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    bail!("QEMU ended with {status}")
                };
            }
            if run::interrupted() {
                bail!("interrupted");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the guest did not switch off within {PATIENCE:?}")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
