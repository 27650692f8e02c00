//! One QEMU as a [`Machine`]: all that its monitor is asked, whoever started it.

use super::argv;
use super::life::Life;
use crate::backend::{ALIVE, connect_serial};
use crate::sync::lock;
use crate::{
    Acceleration, Error, ErrorKind, Events, Exit, GuestMemory, Machine, MachineSpec, Network,
    Result, State,
};
use serde_json::{Value, json};
use std::fmt;
use std::io::PipeWriter;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long QEMU may take to answer. Pausing waits for the disk's requests in flight.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How long the kernel may take to end a process that was killed.
const DEATH_WITHIN: Duration = Duration::from_secs(10);
/// How long a guest may take to let go of a network card.
const UNPLUG_WITHIN: Duration = Duration::from_secs(10);
/// How often the guest's balloon driver tells of the guest's memory.
const STATISTICS_SECONDS: u32 = 1;

/// What the owner of a machine has in hand of its QEMU. Dropping it ends the QEMU.
pub trait Hold: fmt::Debug + Send + Sync {
    /// Has QEMU's monitor execute a command; `Null` stands for no arguments. Fails when the time
    /// is over.
    fn execute(&self, command: &str, arguments: Value, within: Duration) -> Result<Value>;

    /// Gives QEMU a descriptor, which later commands may call by this name.
    fn hand_over(&self, name: &str, fd: BorrowedFd<'_>, within: Duration) -> Result<()>;

    /// QEMU's process, where it can be known.
    fn process_id(&self) -> Option<u32>;

    /// Ends QEMU without asking it; its end is told to the machine's [`Life`].
    fn kill(&self);
}

/// One QEMU as a [`Machine`], whoever started it.
#[derive(Debug)]
pub struct QemuMachine {
    name: String,
    memory_mib: u32,
    acceleration: Acceleration,
    pub(super) life: Arc<Life>,
    pub(super) hold: Box<dyn Hold>,
    serial_socket: Option<PathBuf>,
    // That of a restored machine, until somebody takes it.
    serial: Mutex<Option<UnixStream>>,
    // One command that changes the state at a time, so that each sees what the last one did.
    turn: Mutex<()>,
}

impl QemuMachine {
    /// A machine whose QEMU has built it and stands before its first instruction, or waits for
    /// the state of another.
    pub fn new(
        spec: &MachineSpec,
        acceleration: Acceleration,
        life: Arc<Life>,
        hold: impl Hold + 'static,
    ) -> Result<QemuMachine> {
        let machine = QemuMachine {
            name: spec.name.clone(),
            memory_mib: spec.memory_mib,
            acceleration,
            life,
            hold: Box::new(hold),
            serial_socket: spec.serial.socket.clone(),
            serial: Mutex::default(),
            turn: Mutex::new(()),
        };
        machine.prepare()?;
        Ok(machine)
    }

    /// What no option says: that migrations tell of themselves, and how often the guest tells of its
    /// memory.
    fn prepare(&self) -> Result<()> {
        self.tell(
            "migrate-set-capabilities",
            json!({"capabilities": [{"capability": "events", "state": true}]}),
        )?;
        // A machine's whole state goes at once; the default is a network's.
        self.tell(
            "migrate-set-parameters",
            json!({"max-bandwidth": 1u64 << 40}),
        )?;
        let (path, property) = (argv::BALLOON, "guest-stats-polling-interval");
        self.tell(
            "qom-set",
            json!({"path": path, "property": property, "value": STATISTICS_SECONDS}),
        )?;
        Ok(())
    }

    /// Plugs a network card into the empty slot, also before the machine runs for the first time.
    pub fn plug(&self, network: &Network) -> Result<()> {
        let Some(netdev) = argv::netdev(network) else {
            return Ok(());
        };
        if let Network::TapDevice(device) = network {
            let handed = self
                .hold
                .hand_over(argv::TAP, device.as_fd(), ANSWER_WITHIN);
            self.explained("getfd", handed)?;
        }
        self.tell("netdev_add", netdev)?;
        self.tell("device_add", argv::card(&self.name))
            .map(drop)
            .inspect_err(|_| {
                drop(self.tell("netdev_del", json!({"id": argv::NETDEV})));
            })
    }

    /// Connects to the serial port before a state is taken in: see [`Machine::serial`].
    pub(super) fn listen_to_serial(&self) -> Result<()> {
        if self.serial_socket.is_some() {
            let connected = self.serial()?;
            *lock(&self.serial) = Some(connected);
        }
        Ok(())
    }

    fn ask(&self, command: &str) -> Result<Value> {
        self.tell(command, Value::Null)
    }

    pub(super) fn tell(&self, command: &str, arguments: Value) -> Result<Value> {
        let said = self.hold.execute(command, arguments, ANSWER_WITHIN);
        self.explained(command, said)
    }

    /// A machine that is gone hangs up, and that is not the monitor's failure.
    fn explained<T>(&self, command: &str, said: Result<T>) -> Result<T> {
        said.map_err(|error| {
            let lag = Duration::from_millis(200);
            match self
                .life
                .wait_exit(lag)
                .filter(|_| error.kind() == ErrorKind::Protocol)
            {
                Some(exit) => self.ended(command, &exit),
                None => error,
            }
        })
    }

    fn ended(&self, operation: &str, exit: &Exit) -> Error {
        Error::new(
            ErrorKind::Ended,
            format!("{operation} machine {}", self.name),
            format!("it has ended: {exit}"),
        )
    }

    /// Refuses an operation that does not fit the state.
    fn expect(&self, operation: &str, allowed: &[State]) -> Result<State> {
        let state = self.life.state();
        if allowed.contains(&state) {
            return Ok(state);
        }
        Err(match self.life.wait_exit(Duration::ZERO) {
            Some(exit) => self.ended(operation, &exit),
            None => Error::new(
                ErrorKind::State,
                format!("{operation} machine {}", self.name),
                format!("it is {state:?}, not one of {allowed:?}").to_lowercase(),
            ),
        })
    }
}

impl Machine for QemuMachine {
    fn name(&self) -> &str {
        &self.name
    }

    fn acceleration(&self) -> &Acceleration {
        &self.acceleration
    }

    fn process_id(&self) -> Option<u32> {
        self.hold.process_id()
    }

    fn serial(&self) -> Result<UnixStream> {
        if let Some(connected) = lock(&self.serial).take() {
            return Ok(connected);
        }
        self.expect("reach the serial port of", &ALIVE)?;
        connect_serial(&self.name, self.serial_socket.as_deref())
    }

    fn start(&self) -> Result<()> {
        let _turn = lock(&self.turn);
        self.expect("start", &[State::Created])?;
        self.ask("cont").map(drop)
    }

    fn pause(&self) -> Result<()> {
        let _turn = lock(&self.turn);
        if self.expect("pause", &[State::Running, State::Paused])? == State::Paused {
            return Ok(());
        }
        self.life.pausing(true);
        let paused = self.ask("stop");
        if matches!(&paused, Err(error) if error.kind() == ErrorKind::Timeout) {
            // It may still obey, when nobody expects it any more. It obeys in order, so this undoes it;
            // the late stop is ours until then.
            drop(self.ask("cont"));
        } else {
            self.life.pausing(false);
        }
        paused.map(drop)
    }

    fn resume(&self) -> Result<()> {
        let _turn = lock(&self.turn);
        if self.expect("resume", &[State::Running, State::Paused, State::Faulted])?
            == State::Running
        {
            return Ok(());
        }
        self.life.pausing(false);
        self.ask("cont").map(drop)
    }

    fn powerdown(&self) -> Result<()> {
        self.expect("press the power button of", &[State::Running])?;
        self.ask("system_powerdown").map(drop)
    }

    fn save(&self, to: PipeWriter) -> Result<()> {
        self.pause()?;
        let _turn = lock(&self.turn);
        self.expect("save", &[State::Paused])?;
        self.hand_out(to)
    }

    fn set_balloon(&self, mib: u32) -> Result<()> {
        self.expect("set the balloon of", &[State::Running, State::Paused])?;
        let mib = mib.min(self.memory_mib);
        self.tell("balloon", json!({"value": u64::from(mib) << 20}))
            .map(drop)
    }

    fn memory(&self) -> Result<GuestMemory> {
        let actual = self.ask("query-balloon")?;
        let told = self.tell(
            "qom-get",
            json!({"path": argv::BALLOON, "property": "guest-stats"}),
        )?;
        let mib = |bytes: u64| u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        // A figure that the guest does not tell is all ones.
        let stat = |name: &str| told["stats"][name].as_u64().filter(|n| *n != u64::MAX);
        Ok(GuestMemory {
            actual_mib: actual["actual"].as_u64().map_or(self.memory_mib, mib),
            available_mib: stat("stat-available-memory").map(mib),
            total_mib: stat("stat-total-memory").map(mib),
            major_faults: stat("stat-major-faults"),
        })
    }

    fn plug_network(&self, network: &Network) -> Result<()> {
        crate::backend::check_network(network)?;
        self.unplug_network()?;
        let _turn = lock(&self.turn);
        self.expect("plug a network into", &[State::Running, State::Paused])?;
        self.plug(network)
    }

    fn unplug_network(&self) -> Result<()> {
        let _turn = lock(&self.turn);
        self.expect("unplug the network of", &[State::Running, State::Paused])?;
        let card = json!({"path": "/machine/peripheral"});
        let deadline = Instant::now() + UNPLUG_WITHIN;
        loop {
            let there = self.tell("qom-list", card.clone())?;
            let mut names = there.as_array().into_iter().flatten();
            if !names.any(|entry| entry["name"] == argv::CARD) {
                break;
            }
            // Asked again and again: a guest that boots does not hear yet.
            if let Err(error) = self.tell("device_del", json!({"id": argv::CARD}))
                && error.kind() != ErrorKind::Refused
            {
                return Err(error);
            }
            if Instant::now() > deadline {
                let detail = format!("it does not let go within {UNPLUG_WITHIN:?}");
                let operation = format!("unplug the network of machine {}", self.name);
                return Err(Error::new(ErrorKind::Timeout, operation, detail));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // Without a card's end, or never there: refused, and gone all the same.
        match self.tell("netdev_del", json!({"id": argv::NETDEV})) {
            Err(error) if error.kind() != ErrorKind::Refused => Err(error),
            _ => Ok(()),
        }
    }

    fn set_link(&self, up: bool) -> Result<()> {
        self.tell("set_link", json!({"name": argv::CARD, "up": up}))
            .map(drop)
    }

    fn stop(&self, grace: Duration) -> Result<Exit> {
        let deadline = Instant::now() + grace;
        let left = || deadline.saturating_duration_since(Instant::now());
        if self.life.state() != State::Stopped {
            // Whether it answers, hangs up or is silent: only its end counts.
            if let Err(error) = self.hold.execute("quit", Value::Null, left()) {
                tracing::debug!(name = self.name, %error, "quit");
            }
        }
        match self.life.wait_exit(left()) {
            Some(exit) => Ok(exit),
            None => {
                tracing::warn!(name = self.name, ?grace, "does not end; killing it");
                self.kill()
            }
        }
    }

    fn kill(&self) -> Result<Exit> {
        self.life.killing();
        self.hold.kill();
        self.life.wait_exit(DEATH_WITHIN).ok_or_else(|| {
            Error::new(
                ErrorKind::Timeout,
                format!("kill machine {}", self.name),
                format!("process {:?} does not end", self.hold.process_id()),
            )
        })
    }

    fn state(&self) -> State {
        self.life.state()
    }

    fn wait_state(&self, wanted: State, timeout: Duration) -> Result<()> {
        let state = self
            .life
            .wait(timeout, |state| state == wanted || state == State::Stopped);
        let operation = || format!("wait for machine {}", self.name);
        match self.life.wait_exit(Duration::ZERO) {
            _ if state == wanted => Ok(()),
            Some(exit) => Err(Error::new(
                ErrorKind::Ended,
                operation(),
                format!("it has ended: {exit}"),
            )),
            None => {
                let detail = format!("it is {state:?}, not {wanted:?}, after {timeout:?}");
                Err(Error::new(ErrorKind::Timeout, operation(), detail))
            }
        }
    }

    fn wait_exit(&self, timeout: Duration) -> Option<Exit> {
        self.life.wait_exit(timeout)
    }

    fn events(&self) -> Events {
        self.life.subscribe()
    }
}

impl Drop for QemuMachine {
    fn drop(&mut self) {
        self.life.killing();
        // The hold's own drop does the rest.
    }
}
