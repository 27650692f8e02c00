//! A QEMU of our own: a child process with its monitor on a socket that only we have.

use super::argv;
use super::life::Life;
use super::machine::{Hold, QemuMachine};
use super::process::Process;
use super::qmp::{Client, Report};
use crate::{Acceleration, Error, ErrorKind, MachineSpec, Result};
use serde_json::Value;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// How long QEMU may take to build a machine: a moment, or many on a host that swaps.
const READY_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Own {
    monitor: Client,
    process: Process,
}

impl Hold for Own {
    fn execute(&self, command: &str, arguments: Value, within: Duration) -> Result<Value> {
        self.monitor.execute(command, arguments, within)
    }

    fn hand_over(&self, name: &str, fd: BorrowedFd<'_>, within: Duration) -> Result<()> {
        self.monitor.hand_over(name, fd, within)
    }

    fn process_id(&self) -> Option<u32> {
        Some(self.process.pid())
    }

    fn kill(&self) {
        self.process.kill();
    }
}

/// Starts a QEMU and has it build the machine.
pub(super) fn launch(
    program: &Path,
    spec: &MachineSpec,
    acceleration: Acceleration,
    incoming: bool,
) -> Result<QemuMachine> {
    let failed = |error| {
        Error::io(
            format!("start {} for {}", program.display(), spec.name),
            error,
        )
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args(argv::arguments(
            spec,
            acceleration.accelerator,
            theirs.as_raw_fd(),
        ))
        .args(argv::INCOMING.iter().filter(|_| incoming))
        .current_dir(&spec.run_dir)
        .stdout(std::process::Stdio::null());
    tracing::debug!(?command, "starting");

    let channels = spec
        .channels
        .iter()
        .map(|channel| channel.name.clone())
        .collect();
    let sockets: Vec<PathBuf> = spec.listening_sockets().map(Path::to_path_buf).collect();
    let life = Arc::new(Life::new(channels, sockets));
    let at_end = Arc::clone(&life);
    let process = Process::spawn(command, vec![theirs.into()], move |ended| at_end.end(ended))
        .map_err(failed)?;

    let listener = Arc::clone(&life);
    let report = move |report| listener.hear(report);
    life.monitored();
    let monitor = match Client::connect(ours, READY_WITHIN, report) {
        Ok(monitor) => monitor,
        Err(error) => {
            life.hear(Report::Closed);
            return Err(stillborn(&spec.name, &process, error));
        }
    };
    // The monitor may greet before the machine is built; it answers after.
    if let Err(error) = monitor.execute("query-status", Value::Null, READY_WITHIN) {
        return Err(stillborn(&spec.name, &process, error));
    }
    tracing::info!(name = spec.name, pid = process.pid(), "machine created");
    let machine = QemuMachine::new(spec, acceleration, life, Own { monitor, process })?;
    if argv::is_handed(&spec.network) {
        machine.plug(&spec.network)?;
    }
    Ok(machine)
}

/// Why a machine did not come to be: QEMU's own words, if it had any.
fn stillborn(name: &str, process: &Process, error: Error) -> Error {
    let ended = process.wait(Duration::from_secs(3));
    process.kill();
    let operation = format!("create machine {name}");
    match ended {
        Some(ended) if !ended.stderr.is_empty() => {
            Error::new(ErrorKind::Launch, operation, ended.stderr)
        }
        Some(ended) => {
            let how = (ended.code, ended.signal);
            Error::new(
                ErrorKind::Launch,
                operation,
                format!("QEMU ended without a word (exit code, signal: {how:?})"),
            )
        }
        None => Error::new(ErrorKind::Launch, operation, error.to_string()),
    }
}
