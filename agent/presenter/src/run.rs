//! Joins model, display and channels: waits until one of them has something, lets the model decide, and does
//! what it wants. It never polls: without events it sleeps.
use crate::canvas::{NoPool, Pool};
use crate::commands::{Commands, Read};
use crate::error::{Error, Result};
use crate::model::{Event, HostEvent, Model, Policy, Violation};
use crate::record::Record;
use crate::report::Report;
use crate::sandbox;
use crate::screen::{Dress, Screen, Server};
use crate::services::{self, Services};
use medley_link::{End, Progress};
use medley_services::Order;
use medley_services::order::Click;
use medley_wire::gui::{FromGuest, FromHost};
use medley_wire::{Channel, Features, Hello, Reason};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How a presenter is started.
#[derive(Debug)]
pub struct Options {
    /// How windows look.
    pub dress: Dress,
    /// What holds for windows.
    pub policy: Policy,
    /// What holds for everything else.
    pub services: services::Policy,
    /// Which window system.
    pub server: Server,
    /// The display; nothing: the environment's.
    pub display: Option<String>,
    /// The gui channel's socket.
    pub gui: PathBuf,
    /// The control channel's socket.
    pub control: Option<PathBuf>,
    /// The bulk channel's socket.
    pub bulk: Option<PathBuf>,
    /// The shared memory's file.
    pub pool: Option<PathBuf>,
    /// Where to write down what goes over the gui channel.
    pub record: Option<PathBuf>,
    /// Events as JSON.
    pub json: bool,
    /// Commands come over standard input, and the end of it is the end.
    pub commands: bool,
    /// Show nothing of the guest until somebody unlocks.
    pub locked: bool,
    /// Go on without a sandbox.
    pub no_sandbox: bool,
}

/// How a presenter ended, if nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    Asked,
    /// The guest's agent said farewell, or its end of the channel is closed.
    Guest,
}

type Gui = End<FromGuest<'static>, FromHost<'static>>;

struct Presenter {
    screen: Screen,
    model: Model,
    gui: Gui,
    pool: Box<dyn Pool>,
    services: Option<Services>,
    report: Report,
    record: Option<Record>,
    broken: Option<Violation>,
    began: Instant,
}

/// This build, for the guest's log.
pub(crate) fn build() -> [u8; 32] {
    let mut build = [0; 32];
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let count = version.len().min(build.len());
    build[..count].copy_from_slice(&version[..count]);
    build
}

fn reach(channel: &'static str, path: &Path) -> Result<OwnedFd> {
    let failed = |source| Error::Reach {
        channel,
        path: path.to_path_buf(),
        source,
    };
    UnixStream::connect(path).map(OwnedFd::from).map_err(failed)
}

/// Shows a guest's windows until somebody ends it.
///
/// # Errors
/// Something failed; [`Error::exit_code`] says what a supervisor can do about it.
pub fn run(options: Options) -> Result<Ending> {
    let report = Report::new(options.json);
    let mut policy = options.policy;
    let pool: Box<dyn Pool> = match &options.pool {
        Some(path) => {
            let failed = |source| Error::File {
                doing: "map the shared memory",
                path: path.clone(),
                source,
            };
            let file = File::open(path).map_err(failed)?;
            policy.features = policy.features.with(Features::SHARED_PIXELS);
            Box::new(medley_link::Pool::of_host(&file).map_err(failed)?)
        }
        None => Box::new(NoPool),
    };
    if policy.cursor_pictures {
        policy.features = policy.features.with(Features::CURSOR_PICTURES);
    }
    let record = options.record.as_deref().map(Record::create).transpose()?;
    let mut screen = Screen::open(
        options.server,
        options.display.as_deref(),
        options.dress.clone(),
    )?;
    let hello = |channel| Hello::new(channel, policy.features, build());
    let gui = End::host(reach("gui", &options.gui)?, hello(Channel::Gui))?;
    let services = Services::open(
        &options.services,
        options.control.as_deref(),
        options.bulk.as_deref(),
        &reach,
        &mut screen,
    )?;
    let enforced = if options.no_sandbox {
        None
    } else {
        Some(sandbox::enter(screen.calls())?)
    };
    let landlock = enforced.map_or("off", |enforced| enforced.landlock);
    report.say(
        "ready",
        json!({ "landlock": landlock, "seccomp": enforced.is_some(), "display": screen.kind() }),
    );
    let mut model = Model::new(policy, options.dress.frame, screen.layout().clone());
    if options.locked {
        model.host(HostEvent::Lock, Duration::ZERO);
    }
    let presenter = Presenter {
        screen,
        model,
        gui,
        pool,
        services,
        report,
        record,
        broken: None,
        began: Instant::now(),
    };
    presenter.go_on(options.commands)
}

impl Presenter {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn go_on(mut self, commands: bool) -> Result<Ending> {
        let mut lines = Commands::default();
        loop {
            let now = self.now();
            self.model.host(HostEvent::Settled, now);
            self.model.tick(now);
            self.deal()?;
            if self.model.is_ended() {
                return self.end();
            }
            // What came while an answer of the display's was awaited lies in a queue, and its descriptor
            // would not tell: nobody sleeps before the queue is empty.
            if self.hear()? {
                continue;
            }
            let ready = self.wait(commands)?;
            if ready.commands
                && let Some(ending) = self.command(&mut lines)?
            {
                return Ok(ending);
            }
            if ready.gui && self.read()? == Progress::Ended {
                return Ok(Ending::Guest);
            }
            if let Some(services) = &mut self.services {
                services.read(ready.control, ready.bulk, &self.report)?;
            }
        }
    }

    /// Lets the model hear the display.
    fn hear(&mut self) -> Result<bool> {
        let heard = self.screen.hear()?;
        let now = self.now();
        for event in heard.events {
            if let (HostEvent::Layout(layout), Some(services)) = (&event, &mut self.services) {
                services.monitors(layout)?;
            }
            self.model.host(event, now);
        }
        if heard.unlock {
            self.report.say("unlock-asked", json!({}));
        }
        if let Some(services) = &mut self.services {
            if heard.keymap {
                services.keymap(&self.screen)?;
            }
            for said in heard.clipboard {
                services.said(said, &mut self.screen)?;
            }
        }
        Ok(heard.any)
    }

    /// Does what the model wants, until it wants nothing more: pixels first, which somebody waits for.
    fn deal(&mut self) -> Result<()> {
        while let Some(action) = self.model.outbox().actions.pop_front() {
            self.screen.act(action, &self.model)?;
        }
        if self.screen.paint(&self.model)? {
            self.model.host(HostEvent::Painted, self.now());
        }
        // Before both have greeted, what there is to say waits.
        if self.gui.agreed().is_some() {
            while let Some(message) = self.model.outbox().messages.pop_front() {
                if let Some(record) = &mut self.record {
                    record.host(&message, self.began.elapsed());
                }
                self.gui.outgoing().send(&message)?;
            }
            self.gui.flush()?;
        }
        while let Some(event) = self.model.outbox().events.pop_front() {
            self.report.event(&event);
            if let Some(services) = &mut self.services {
                services.window(&event);
                if let Event::Chord(chord) = &event {
                    services.chord(*chord);
                }
            }
        }
        if let Some(services) = &mut self.services {
            services.work(&mut self.screen, &self.model, &self.report)?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Progress> {
        let (model, pool, record) = (&mut self.model, &*self.pool, &mut self.record);
        let began = self.began;
        let broken = &mut self.broken;
        let progress = self.gui.read(|_, received| -> Result<()> {
            let now = began.elapsed();
            if let Some(record) = record {
                record.guest(&received.message, now);
            }
            if broken.is_none() {
                *broken = model.guest(&received.message, now, pool).err();
            }
            Ok(())
        })?;
        Ok(progress)
    }

    /// Sleeps until something happens.
    fn wait(&mut self, commands: bool) -> Result<Ready> {
        let now = self.now();
        let services = self.services.as_ref();
        let deadline = [
            self.model.deadline(),
            services.and_then(|services| services.deadline(now)),
            self.screen
                .deadline()
                .map(|at| at.saturating_duration_since(self.began)),
        ];
        let deadline = deadline.into_iter().flatten().min();
        let timeout = match deadline {
            Some(at) => {
                // Rounded up: a poll that ends too early would be asked again and again.
                let left = at.saturating_sub(now).as_millis() + 1;
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        let stdin = std::io::stdin();
        let mut fds = vec![PollFd::new(self.gui.as_fd(), self.gui.interest())];
        let screen = self.screen.fds();
        fds.extend(screen.into_iter().map(|(fd, flags)| PollFd::new(fd, flags)));
        let mut places = [None; 3];
        let wanted = [
            commands.then(|| (stdin.as_fd(), PollFlags::POLLIN)),
            services.and_then(Services::control_fd),
            services.and_then(Services::bulk_fd),
        ];
        for (place, fd) in places.iter_mut().zip(wanted) {
            if let Some((fd, flags)) = fd {
                *place = Some(fds.len());
                fds.push(PollFd::new(fd, flags));
            }
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(Error::System {
                    doing: "wait for something to happen",
                    source: errno.into(),
                });
            }
        }
        let happened = |at: Option<usize>| {
            at.and_then(|at| fds[at].revents())
                .is_some_and(|events| !events.is_empty())
        };
        Ok(Ready {
            gui: happened(Some(0)),
            commands: happened(places[0]),
            control: happened(places[1]),
            bulk: happened(places[2]),
        })
    }

    /// Reads commands: `lock`, `unlock` (said by who has asked the host), `resync`, `quit`, and those of the
    /// services; and orders, which are JSON.
    fn command(&mut self, commands: &mut Commands) -> Result<Option<Ending>> {
        let lines = match commands.read(std::io::stdin())? {
            Read::Lines(lines) => lines,
            Read::End => return self.quit().map(Some),
        };
        for command in lines {
            let now = self.now();
            match command.as_str() {
                "" => {}
                "lock" => self.model.host(HostEvent::Lock, now),
                "unlock" => self.model.host(HostEvent::Unlock, now),
                "resync" => self.model.host(HostEvent::Resync, now),
                "quit" => return self.quit().map(Some),
                order if order.starts_with('{') => self.order(order, commands),
                other => {
                    let asked = self
                        .services
                        .as_mut()
                        .and_then(|services| services.command(other));
                    self.asked(asked.ok_or("it is unknown"));
                }
            }
        }
        Ok(None)
    }

    fn order(&mut self, line: &str, commands: &mut Commands) {
        let order: Order = match serde_json::from_str(line) {
            Ok(order) => order,
            Err(_) => {
                commands.forget_files();
                return self.asked(Err("it is unknown"));
            }
        };
        let file = order.has_file().then(|| commands.file()).flatten();
        let launches = matches!(order, Order::Launch { .. });
        let clicks = match order {
            Order::TrayClick { click, .. } => click != Click::Menu,
            Order::TrayChoice { .. } => true,
            _ => false,
        };
        let asked = match &mut self.services {
            Some(services) => services.order(order, file),
            None => Err("there are no services"),
        };
        match asked {
            // Whoever counts launches counts this one, too.
            Err(why) if launches => {
                self.report.say("launching", json!({ "request": 0 }));
                let failed =
                    json!({ "request": 0, "started": false, "outcome": "Refused", "words": why });
                self.report.say("launched", failed);
            }
            asked => self.asked(asked),
        }
        if clicks {
            let now = self.now();
            self.model.host(HostEvent::Tray, now);
        }
    }

    fn asked(&mut self, asked: std::result::Result<services::Asked, &'static str>) {
        match asked {
            Ok(services::Asked::Launch(number)) => {
                // One for each such command, in their order: later events name this number.
                self.report.say("launching", json!({ "request": number }));
                let now = self.now();
                self.model.host(HostEvent::Launch(number), now);
            }
            Ok(services::Asked::Done) => {}
            Err(why) => self.report.say("unknown-command", json!({ "why": why })),
        }
    }

    fn quit(&mut self) -> Result<Ending> {
        self.deal()?;
        Ok(Ending::Asked)
    }

    /// The guest is done, or broke a rule: it is told why, and everything ends.
    fn end(self) -> Result<Ending> {
        match self.broken {
            Some(violation) => {
                self.gui.close(Reason::Violation, &violation.to_string());
                Err(violation.into())
            }
            None => Ok(Ending::Guest),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Ready {
    gui: bool,
    commands: bool,
    control: bool,
    bulk: bool,
}
