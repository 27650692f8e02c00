//! The agent's loop: one thread that sleeps until the display, the host or a clock has something for it.
use crate::channel::{Channel, News};
use crate::clipboard::Clipboard;
use crate::control::Services;
use crate::display::Display;
use crate::screen::Screen;
use crate::transfers::Transfers;
use anyhow::{Context, Result};
use medley_link::{Door, Pool, ports};
use medley_wire::control::{self, Progress};
use medley_wire::{Channel as Which, Features, Hello, Reason, Text, Untrusted, bulk, gui};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use sha2::{Digest, Sha256};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Options {
    /// The X display.
    pub display: String,
    /// The gui channel's port or socket.
    pub gui: PathBuf,
    /// The control channel's.
    pub control: PathBuf,
    /// The bulk channel's.
    pub bulk: PathBuf,
    /// The memory shared with the host, if there is one.
    pub pool: Option<PathBuf>,
    /// Whether the host's clock is the guest's.
    pub sets_clock: bool,
}

impl Options {
    /// The ports of a virtual machine, and this display.
    #[must_use]
    pub fn on(display: String) -> Self {
        Self {
            display,
            gui: ports::device(Which::Gui),
            control: ports::device(Which::Control),
            bulk: ports::device(Which::Bulk),
            pool: None,
            sets_clock: false,
        }
    }
}

/// After an app's entry changed, how long to wait for more of the same: a package writes many files.
const SETTLING: Duration = Duration::from_millis(300);

type Gui = Channel<gui::FromHost<'static>, gui::FromGuest<'static>>;
type Control = Channel<control::FromHost<'static>, control::FromGuest<'static>>;
type Bulk = Channel<bulk::FromHost<'static>, bulk::FromGuest<'static>>;

struct Agent {
    screen: Screen,
    services: Services,
    clipboard: Clipboard,
    transfers: Transfers,
    gui: Gui,
    control: Control,
    bulk: Bulk,
    entries: Inotify,
    rescan: Option<Instant>,
    /// When the next frame is due.
    frame: Option<Instant>,
}

/// Runs until the display is gone or somebody ends the process.
///
/// # Errors
/// The display cannot be used, or went.
pub fn run(options: &Options) -> Result<()> {
    let display = match Display::open(Some(&options.display)) {
        Ok(display) => display,
        Err(error) => {
            say_stuck(options, &format!("{error:#}"));
            return Err(error);
        }
    };
    let pool = options.pool.as_deref().map(Pool::guest).transpose()?;
    let screen = Screen::new(display, pool)?;
    let build = build();
    let mut features = Features::LZ4
        .with(Features::CURSOR_PICTURES)
        .with(Features::INPUT_TEXT);
    if screen.has_pool() {
        features = features.with(Features::SHARED_PIXELS);
    }
    let hello = |channel| Hello::new(channel, features, build);
    let services = Services::new(options.display.clone(), options.sets_clock)?;
    let entries = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
        .context("cannot watch for new apps")?;
    let mut agent = Agent {
        clipboard: Clipboard::new(&screen.display)?,
        transfers: Transfers::default(),
        screen,
        gui: Channel::new(Door::new(&options.gui), hello(Which::Gui)),
        control: Channel::new(Door::new(&options.control), hello(Which::Control)),
        bulk: Channel::new(Door::new(&options.bulk), hello(Which::Bulk)),
        services,
        entries,
        rescan: None,
        frame: None,
    };
    agent.watch_entries();
    agent.screen.set_apps(Rc::clone(&agent.services.apps.index));
    loop {
        agent.work()?;
        agent.sleep()?;
    }
}

impl Agent {
    /// Does what there is to do, until there is nothing.
    fn work(&mut self) -> Result<()> {
        loop {
            let (screen, clipboard) = (&mut self.screen, &mut self.clipboard);
            let transfers = &mut self.transfers;
            let (control, frame) = (&mut self.control, &mut self.frame);
            let busy = self.gui.speak(|say| {
                let mut busy = false;
                while let Some(event) = screen.display.event()? {
                    busy = true;
                    let display = &mut screen.display;
                    control.speak(|say| clipboard.event(&event, display, transfers, say))?;
                    screen.event(event, say)?;
                }
                screen.settle(say)?;
                *frame = screen.frames(say)?;
                Ok(busy)
            })?;
            self.gui.flush();
            let services = &mut self.services;
            self.bulk.speak(|say| {
                transfers.pump(say);
                services.send_icons(say);
                screen.send_icons(say)
            })?;
            self.control.flush();
            self.bulk.flush();
            self.listen_to_news()?;
            if !busy {
                return Ok(());
            }
        }
    }

    /// Channels that came or went.
    fn listen_to_news(&mut self) -> Result<()> {
        if self.gui.news() == News::Lost {
            self.screen.lost()?;
        }
        match self.control.news() {
            News::Open => {
                let services = &mut self.services;
                self.control.speak(|say| {
                    services.opened(say);
                    Ok(())
                })?;
                self.control.flush();
                self.clipboard.opened(&mut self.screen.display)?;
            }
            News::Lost => {
                self.services.lost();
                self.clipboard.lost(&mut self.screen.display)?;
            }
            News::None => {}
        }
        if self.bulk.news() == News::Lost {
            self.transfers.lost();
        }
        Ok(())
    }

    /// Waits until something happens, and reads what the host said.
    fn sleep(&mut self) -> Result<()> {
        use x11rb::connection::Connection;
        self.screen.display.x.flush()?;
        if self.screen.display.has_event()? {
            return Ok(());
        }
        let deadline = [
            self.gui.deadline(),
            self.control.deadline(),
            self.bulk.deadline(),
            self.rescan,
            self.frame,
            self.clipboard.deadline(),
        ];
        let timeout = deadline.into_iter().flatten().min().map(|at| {
            // Rounded up: to wake a moment early would be to wake twice.
            at.saturating_duration_since(Instant::now())
                .as_micros()
                .div_ceil(1000)
        });
        let timeout = timeout.map_or(PollTimeout::NONE, |ms| {
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });
        let ready = {
            let display = self.screen.display.x.stream().as_fd();
            let mut asked = vec![
                PollFd::new(display, PollFlags::POLLIN),
                PollFd::new(self.entries.as_fd(), PollFlags::POLLIN),
            ];
            let channels = [
                self.gui.interest(),
                self.control.interest(),
                self.bulk.interest(),
            ];
            let mut places = [None; 3];
            for (place, interest) in places.iter_mut().zip(channels) {
                if let Some((fd, flags)) = interest {
                    *place = Some(asked.len());
                    asked.push(PollFd::new(fd, flags));
                }
            }
            match poll(&mut asked, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("cannot wait for anything"),
            }
            let has = |at: usize| asked[at].any().unwrap_or(true);
            [
                has(1),
                places[0].is_some_and(has),
                places[1].is_some_and(has),
                places[2].is_some_and(has),
            ]
        };
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if ready[1] || due(self.gui.deadline()) {
            let screen = &mut self.screen;
            self.gui
                .step(|say, message| screen.host_says(message, say))?;
        }
        if ready[2] || due(self.control.deadline()) {
            let (screen, services) = (&mut self.screen, &mut self.services);
            let (clipboard, transfers) = (&mut self.clipboard, &mut self.transfers);
            self.control.step(|say, message| {
                if let control::FromHost::Settings(settings) = &message {
                    clipboard.set_allowed(settings.allowed);
                }
                let display = &mut screen.display;
                match clipboard.host_says(message, display, transfers, say)? {
                    Some(other) => services.host_says(other, screen, say),
                    None => Ok(()),
                }
            })?;
        }
        if ready[3] || due(self.bulk.deadline()) {
            let (screen, clipboard) = (&mut self.screen, &mut self.clipboard);
            let transfers = &mut self.transfers;
            self.bulk
                .step(|say, message| match transfers.host_says(message, say) {
                    Some(finished) => clipboard.finished(finished, &screen.display),
                    None => Ok(()),
                })?;
        }
        if due(self.clipboard.deadline()) {
            let (screen, clipboard) = (&mut self.screen, &mut self.clipboard);
            self.control
                .speak(|say| clipboard.expire(&screen.display, say))?;
        }
        if ready[0] {
            while self
                .entries
                .read_events()
                .is_ok_and(|events| !events.is_empty())
            {}
            self.rescan = Some(now + SETTLING);
        }
        if due(self.rescan) {
            self.rescan = None;
            self.watch_entries();
            let services = &mut self.services;
            self.control.speak(|say| {
                services.refresh(say);
                Ok(())
            })?;
            self.screen.set_apps(Rc::clone(&self.services.apps.index));
        }
        Ok(())
    }

    /// Watches the folders of apps, as far as they are there; the data folders above them tell when one comes.
    fn watch_entries(&self) {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CLOSE_WRITE;
        for folder in self.services.apps.folders() {
            let apps = folder.join("applications");
            let watched = self
                .entries
                .add_watch(&apps, flags | AddWatchFlags::IN_ONLYDIR);
            if watched.is_err() {
                // Not there. What comes into the folder above is seldom anything else.
                let _ = self.entries.add_watch(folder, AddWatchFlags::IN_CREATE);
            }
        }
    }
}

/// Which build this is, for the host's log and for updates.
fn build() -> [u8; 32] {
    Sha256::digest(concat!(
        env!("CARGO_PKG_NAME"),
        " ",
        env!("CARGO_PKG_VERSION")
    ))
    .into()
}

/// Without a display the host should know at least why: this waits for it a moment, and tells.
fn say_stuck(options: &Options, words: &str) {
    let hello = Hello::new(Which::Control, Features::NONE, build());
    let mut control = Control::new(Door::new(&options.control), hello);
    let until = Instant::now() + Duration::from_secs(2);
    let mut told = false;
    while Instant::now() < until && !told {
        if control.step(|_, _| Ok(())).is_err() {
            return;
        }
        if control.news() == News::Open {
            let _ = control.speak(|say| {
                say.say(control::Stage {
                    progress: Progress::Stuck,
                    words: Untrusted::claim(Text::cut(words)),
                });
                Ok(())
            });
            told = true;
        }
        control.flush();
        if !told {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    control.close(Reason::Failure, words);
}
