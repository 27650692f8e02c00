//! An imagined machine: a thread is its processor, and sockets are its wires.

use super::guest::{Answer, Guest};
use super::{Disks, Fault, check_network, disk_socket};
use crate::words::READY;
use medley_hypervisor::backend::{ALIVE, Record, connect_serial, lock, unsupported};
use medley_hypervisor::{
    Acceleration, Capabilities, DiskEndpoint, Error, ErrorKind, Event, Events, Exit, GuestMemory,
    Machine, MachineSpec, Network, OnReset, Result, State, StopReason,
};
use std::io::{PipeWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A turn of the imagined processor.
const TURN: Duration = Duration::from_millis(2);
/// How many turns its guest takes to start.
const BOOT_TURNS: u32 = 10;

pub(super) struct FakeMachine {
    nature: Nature,
    inner: Arc<Inner>,
}

/// What a machine is by its back end.
pub(super) struct Nature {
    pub acceleration: Acceleration,
    pub can: Capabilities,
    pub stall: Duration,
    pub fault: Option<Fault>,
    pub disks: Disks,
}

struct Inner {
    record: Record,
    spec: MachineSpec,
    fault: Option<Fault>,
    guest: Mutex<Guest>,
    balloon_target: Mutex<Option<u32>>,
    button: AtomicBool,
    disks: Disks,
    // Since when a request has waited for the disk's server.
    waits: Mutex<Option<Instant>>,
}

impl FakeMachine {
    /// A machine with this guest, which stands still.
    pub fn new(spec: &MachineSpec, nature: Nature, guest: Guest) -> Result<FakeMachine> {
        let wire = |(name, path): (&str, &Path)| Wire::listen(name, path);
        let channels = spec.channels.iter();
        let channels = channels.map(|channel| (channel.name.as_str(), channel.socket.as_path()));
        let serial = spec.serial.socket.as_deref().map(|path| ("", path));
        let wires: Vec<Wire> = serial
            .into_iter()
            .chain(channels)
            .map(wire)
            .collect::<Result<_>>()?;
        let record = Record::new(&spec.name);
        let inner = Arc::new(Inner {
            record,
            spec: spec.clone(),
            fault: nature.fault,
            guest: Mutex::new(guest),
            balloon_target: Mutex::default(),
            button: AtomicBool::new(false),
            disks: Arc::clone(&nature.disks),
            waits: Mutex::default(),
        });
        let processor = Arc::clone(&inner);
        thread::spawn(move || processor.run(wires));
        Ok(FakeMachine { nature, inner })
    }

    /// A restored machine's guest has run before, and stands still now.
    pub fn restored(self) -> FakeMachine {
        let runs = self.inner.has(Fault::RunsUnasked);
        let state = if runs { State::Running } else { State::Paused };
        self.inner.record.change(state, None);
        self
    }

    fn needs(&self, can: bool, operation: &str) -> Result<()> {
        if can || self.inner.has(Fault::Undeclared) {
            return Ok(());
        }
        let operation = format!("{operation} machine {}", self.name());
        Err(unsupported(operation, "it was made without"))
    }

    fn failed<T>(&self, kind: ErrorKind, operation: &str, detail: &str) -> Result<T> {
        Err(Error::new(
            kind,
            format!("{operation} machine {}", self.name()),
            detail,
        ))
    }
}

impl Inner {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn finish(&self, reason: StopReason) {
        if !self.has(Fault::LeavesSockets) {
            for socket in self.spec.listening_sockets() {
                drop(std::fs::remove_file(socket));
            }
        }
        self.record.end(Exit {
            reason,
            code: (reason != StopReason::Killed).then_some(0),
            signal: (reason == StopReason::Killed).then_some(9),
            stderr: String::new(),
        });
    }

    fn runs(&self) -> bool {
        match self.record.state() {
            State::Running => true,
            State::Paused => self.has(Fault::PauseIgnored),
            _ => false,
        }
    }

    /// The processor: as long as the machine is there, turns of the guest.
    fn run(&self, mut wires: Vec<Wire>) {
        let (mut turns, mut began) = (0, None);
        while self.record.wait_exit(TURN).is_none() {
            wires.iter_mut().for_each(Wire::accept);
            if !self.runs() {
                continue;
            }
            let began = *began.get_or_insert_with(Instant::now);
            if matches!(self.fault, Some(Fault::DiesAfter(time)) if began.elapsed() >= time) {
                self.finish(StopReason::Died);
                return;
            }
            turns += 1;
            self.turn(&mut wires, &mut turns);
        }
    }

    fn turn(&self, wires: &mut [Wire], turns: &mut u32) {
        let mut guest = lock(&self.guest);
        if !guest.ready {
            if *turns < BOOT_TURNS || self.has(Fault::NeverReady) {
                return;
            }
            guest.ready = true;
            wires[0].say(&format!("\n{READY} up=0\n"));
        }
        if let Some(count) = &mut guest.count {
            *count += 1;
        }
        if let Some(target) = lock(&self.balloon_target).take()
            && !self.has(Fault::BalloonIgnored)
        {
            guest.balloon_mib = target;
            self.record.tell(Event::Balloon { actual_mib: target });
        }
        let pressed = self.button.swap(false, Relaxed);
        if pressed && !self.has(Fault::PowerButtonDead) {
            drop(guest);
            return self.finish(StopReason::GuestShutdown);
        }
        let (serial, channels) = wires.split_at_mut(1);
        for channel in channels {
            if guest.echoes.contains(&channel.name) {
                let garble = u8::from(self.has(Fault::ChannelGarbles));
                let bytes = channel.take();
                channel.out.extend(bytes.iter().map(|byte| byte ^ garble));
                channel.flush();
            }
        }
        let waiting = guest.waiting.take();
        if let Some(line) = waiting.or_else(|| serial[0].line()) {
            self.question(&mut guest, &line, &mut serial[0], turns);
        }
        serial[0].flush();
    }

    fn question(&self, guest: &mut Guest, line: &str, serial: &mut Wire, turns: &mut u32) {
        let Some((id, command)) = line.split_once(' ') else {
            return;
        };
        let (said, status) = match guest.answer(command, self.fault) {
            Answer::Said(text) => (text, 0),
            Answer::Failed => (String::new(), 1),
            Answer::Echo(name) => {
                self.record.tell(Event::Channel {
                    name: name.clone(),
                    open: true,
                });
                guest.echoes.push(name);
                (String::new(), 0)
            }
            Answer::Reboot => {
                self.record.tell(Event::Reset { by_guest: true });
                if self.spec.on_reset == OnReset::Stop {
                    return self.finish(StopReason::GuestReset);
                }
                *guest = Guest::new(&self.spec);
                *turns = 0;
                if self.has(Fault::RebootHangs) {
                    guest.ready = true;
                }
                return;
            }
            Answer::Write(_) | Answer::Read if !self.disk_answers() => {
                if self.may_wait() {
                    guest.waiting = Some(line.to_owned());
                    return;
                }
                let halted = !self.has(Fault::DiskErrorShown);
                self.record.tell(Event::DiskError {
                    write: false,
                    halted,
                    reason: "its server is gone".into(),
                });
                if halted {
                    guest.waiting = Some(line.to_owned());
                    return self.record.change(State::Faulted, Some(Event::Paused));
                }
                (String::new(), 1)
            }
            Answer::Write(word) => {
                if !self.has(Fault::FlushLost) {
                    lock(&self.disks).insert(disk_socket(&self.spec.disk).into(), word);
                }
                (String::new(), 0)
            }
            Answer::Read => {
                let disks = lock(&self.disks);
                let note = disks.get(disk_socket(&self.spec.disk));
                (note.cloned().unwrap_or_default(), 0)
            }
        };
        serial.say(&format!(
            "MEDLEY-BEGIN {id}\n{said}\nMEDLEY-END {id} {status}\n"
        ));
    }

    fn disk_answers(&self) -> bool {
        let answers = UnixStream::connect(disk_socket(&self.spec.disk)).is_ok();
        if answers {
            *lock(&self.waits) = None;
        }
        answers
    }

    /// Whether a request may wait on for the disk's server.
    fn may_wait(&self) -> bool {
        let since = *lock(&self.waits).get_or_insert_with(Instant::now);
        match &self.spec.disk {
            DiskEndpoint::NbdUnix { reconnect, .. } => {
                !self.has(Fault::DiskErrorShown) && since.elapsed() < *reconnect
            }
            _ => false,
        }
    }
}

/// A socket with one client at a time; what it cannot take yet waits.
struct Wire {
    name: String,
    listener: UnixListener,
    client: Option<UnixStream>,
    heard: Vec<u8>,
    out: Vec<u8>,
}

impl Wire {
    fn listen(name: &str, path: &Path) -> Result<Wire> {
        drop(std::fs::remove_file(path));
        let listener = UnixListener::bind(path).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        Ok(Wire {
            name: name.into(),
            listener: listener
                .map_err(|e| Error::io(format!("listen at {}", path.display()), e))?,
            client: None,
            heard: Vec::new(),
            out: Vec::new(),
        })
    }

    fn accept(&mut self) {
        if let Ok((client, _)) = self.listener.accept()
            && client.set_nonblocking(true).is_ok()
        {
            self.client = Some(client);
        }
    }

    /// What has come.
    fn take(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        let read = self.client.as_mut().map(|client| client.read(&mut bytes));
        bytes.truncate(read.and_then(|read| read.ok()).unwrap_or(0));
        bytes
    }

    /// The next whole line.
    fn line(&mut self) -> Option<String> {
        let bytes = self.take();
        self.heard.extend(bytes);
        let end = self.heard.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.heard.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim().to_owned())
    }

    fn say(&mut self, text: &str) {
        self.out.extend(text.as_bytes());
        self.flush();
    }

    fn flush(&mut self) {
        if let Some(client) = &mut self.client
            && let Ok(n) = client.write(&self.out)
        {
            self.out.drain(..n);
        }
    }
}

impl Machine for FakeMachine {
    fn name(&self) -> &str {
        self.inner.record.name()
    }

    fn acceleration(&self) -> &Acceleration {
        &self.nature.acceleration
    }

    fn process_id(&self) -> Option<u32> {
        None
    }

    fn serial(&self) -> Result<UnixStream> {
        let record = &self.inner.record;
        record.expect("reach the serial port of", &ALIVE)?;
        connect_serial(self.name(), self.inner.spec.serial.socket.as_deref())
    }

    fn start(&self) -> Result<()> {
        let record = &self.inner.record;
        record.expect("start", &[State::Created])?;
        record.change(State::Running, Some(Event::Started));
        if self.inner.has(Fault::DiesAtStart) {
            self.inner.finish(StopReason::Died);
        }
        Ok(())
    }

    fn pause(&self) -> Result<()> {
        let record = &self.inner.record;
        record.expect("pause", &[State::Running, State::Paused])?;
        record.change(State::Paused, Some(Event::Paused));
        // The turn that goes on ends before this returns.
        drop(lock(&self.inner.guest));
        Ok(())
    }

    fn resume(&self) -> Result<()> {
        let record = &self.inner.record;
        record.expect("resume", &[State::Running, State::Paused, State::Faulted])?;
        let told = (!self.inner.has(Fault::EventLost)).then_some(Event::Resumed);
        record.change(State::Running, told);
        Ok(())
    }

    fn powerdown(&self) -> Result<()> {
        let record = &self.inner.record;
        record.expect("press the power button of", &[State::Running])?;
        record.tell(Event::PowerDown);
        self.inner.button.store(true, Relaxed);
        Ok(())
    }

    fn save(&self, mut to: PipeWriter) -> Result<()> {
        self.needs(self.nature.can.suspend, "save")?;
        self.pause()?;
        let state = lock(&self.inner.guest).to_state()?;
        let (half, rest) = state.split_at(state.len() / 2);
        let mut write = |bytes: &[u8]| {
            let written = to.write_all(bytes);
            written.or_else(|error| self.failed(ErrorKind::State, "save", &error.to_string()))
        };
        write(half)?;
        match self.inner.fault {
            Some(Fault::SaveLies) => Ok(()),
            Some(Fault::SaveFails) => self.failed(ErrorKind::State, "save", "it broke off"),
            Some(Fault::SaveStalls) => {
                thread::sleep(self.nature.stall);
                self.failed(ErrorKind::Timeout, "save", "nothing moved")
            }
            _ => write(rest),
        }
    }

    fn set_balloon(&self, mib: u32) -> Result<()> {
        self.needs(self.nature.can.balloon, "set the balloon of")?;
        let record = &self.inner.record;
        record.expect("set the balloon of", &[State::Running, State::Paused])?;
        *lock(&self.inner.balloon_target) = Some(mib.min(self.inner.spec.memory_mib));
        Ok(())
    }

    fn memory(&self) -> Result<GuestMemory> {
        self.needs(self.nature.can.balloon, "look at the memory of")?;
        let guest = lock(&self.inner.guest);
        Ok(GuestMemory {
            actual_mib: guest.balloon_mib,
            available_mib: guest.ready.then(|| guest.free_mib()),
            total_mib: guest.ready.then_some(guest.balloon_mib),
            major_faults: guest.ready.then_some(0),
        })
    }

    fn plug_network(&self, network: &Network) -> Result<()> {
        self.needs(self.nature.can.network_hotplug, "plug a network into")?;
        check_network(network)?;
        self.unplug_network()?;
        let mut guest = lock(&self.inner.guest);
        guest.card |= *network != Network::None && !self.inner.has(Fault::CardIgnored);
        guest.link = true;
        Ok(())
    }

    fn unplug_network(&self) -> Result<()> {
        self.needs(self.nature.can.network_hotplug, "unplug the network of")?;
        let record = &self.inner.record;
        record.expect("unplug the network of", &[State::Running, State::Paused])?;
        lock(&self.inner.guest).card &= self.inner.has(Fault::CardStuck);
        Ok(())
    }

    fn set_link(&self, up: bool) -> Result<()> {
        lock(&self.inner.guest).link = up;
        Ok(())
    }

    fn stop(&self, grace: Duration) -> Result<Exit> {
        if self.inner.has(Fault::StopsSlowly) {
            thread::sleep(self.nature.stall);
        }
        self.inner.finish(StopReason::Asked);
        self.ended(grace)
    }

    fn kill(&self) -> Result<Exit> {
        self.inner.finish(StopReason::Killed);
        self.ended(Duration::ZERO)
    }

    fn state(&self) -> State {
        self.inner.record.state()
    }

    fn wait_state(&self, wanted: State, timeout: Duration) -> Result<()> {
        self.inner.record.wait_state(wanted, timeout)
    }

    fn wait_exit(&self, timeout: Duration) -> Option<Exit> {
        self.inner.record.wait_exit(timeout)
    }

    fn events(&self) -> Events {
        self.inner.record.events()
    }
}

impl FakeMachine {
    fn ended(&self, timeout: Duration) -> Result<Exit> {
        match self.wait_exit(timeout) {
            Some(exit) => Ok(exit),
            None => self.failed(ErrorKind::Timeout, "end", "it does not end"),
        }
    }
}

impl Drop for FakeMachine {
    fn drop(&mut self) {
        self.inner.finish(StopReason::Killed);
    }
}
