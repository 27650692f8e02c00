//! The agent's loop: one thread that sleeps until the display, the host or a clock has something for it.
use crate::channel::{Channel, News};
use crate::clipboard::Clipboard;
use crate::control::Services;
use crate::display::Display;
use crate::docks::Docks;
use crate::handover::{Handover, updates};
use crate::log::Lines;
use crate::options::Options;
use crate::screen::Screen;
use crate::stuck::{Control, build, say_stuck};
use crate::transfers::{Done, Transfers};
use crate::waker::Waker;
use anyhow::{Context, Result};
use medley_link::{Door, Pool};
use medley_wire::{Channel as Which, Features, Hello, bulk, control, gui};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After an app's entry changed, how long to wait for more of the same: a package writes many files.
const SETTLING: Duration = Duration::from_millis(300);

type Gui = Channel<gui::FromHost<'static>, gui::FromGuest<'static>>;
type Bulk = Channel<bulk::FromHost<'static>, bulk::FromGuest<'static>>;

struct Agent {
    screen: Screen,
    services: Services,
    clipboard: Clipboard,
    transfers: Transfers,
    handover: Handover,
    docks: Docks,
    gui: Gui,
    control: Control,
    bulk: Bulk,
    entries: Inotify,
    rescan: Option<Instant>,
    /// When the next frame is due.
    frame: Option<Instant>,
    log: Lines,
    /// Called when there is a line of the log.
    waker: Arc<Waker>,
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
        .with(Features::INPUT_TEXT)
        .with(Features::PRINT_TICKETS);
    if screen.has_pool() {
        features = features.with(Features::SHARED_PIXELS);
    }
    let hello = |channel| Hello::new(channel, features, build);
    let services = Services::new(options.display.clone(), options.sets_clock)?;
    let entries = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
        .context("cannot watch for new apps")?;
    let waker = Arc::new(Waker::new()?);
    options.log.set_waker(Arc::clone(&waker));
    let mut agent = Agent {
        clipboard: Clipboard::new(&screen.display)?,
        transfers: Transfers::default(),
        handover: Handover::new(services.program(), &services.apps, options.printer_port)?,
        docks: Docks::default(),
        screen,
        gui: Channel::new(Door::new(&options.gui), hello(Which::Gui)),
        control: Channel::new(Door::new(&options.control), hello(Which::Control)),
        bulk: Channel::new(Door::new(&options.bulk), hello(Which::Bulk)),
        services,
        entries,
        rescan: None,
        frame: None,
        log: options.log.clone(),
        waker,
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
            let docks = &mut self.docks;
            let busy = self.gui.speak(|say| {
                let mut busy = false;
                while let Some(event) = screen.display.event()? {
                    busy = true;
                    let display = &mut screen.display;
                    control.speak(|say| clipboard.event(&event, display, transfers, say))?;
                    if !docks.event(&event, display)? {
                        screen.event(event, say)?;
                    }
                }
                screen.settle(say)?;
                *frame = screen.frames(say)?;
                Ok(busy)
            })?;
            self.gui.flush();
            self.tell_docks()?;
            let (screen, transfers) = (&mut self.screen, &mut self.transfers);
            let (services, handover) = (&mut self.services, &mut self.handover);
            self.bulk.speak(|say| {
                transfers.pump(say);
                services.send_icons(say);
                handover.send_icons(say);
                screen.send_icons(say)
            })?;
            self.finish_transfers()?;
            self.tell_log()?;
            self.control.flush();
            self.bulk.flush();
            self.listen_to_news()?;
            if !busy {
                return Ok(());
            }
        }
    }

    /// Transfers that ended, and launches that waited for them.
    fn finish_transfers(&mut self) -> Result<()> {
        while let Some(done) = self.transfers.done() {
            let transfer = match self.handover.finished(done) {
                Ok(None) => continue,
                Ok(Some(program)) => {
                    tracing::info!("updated");
                    // The channels end with this program; the host meets the next one as after any break.
                    tracing::error!("{:#}", updates::run_instead(&program));
                    continue;
                }
                Err(done) => done,
            };
            if let Done::Came { transfer, sink, .. } = transfer {
                self.clipboard
                    .finished(transfer, sink, &self.screen.display)?;
            }
        }
        let (services, inbox) = (&mut self.services, &self.handover.inbox);
        self.control.speak(|say| {
            services.launch(inbox, say);
            Ok(())
        })
    }

    /// Tray icons of the old kind that changed.
    fn tell_docks(&mut self) -> Result<()> {
        let (docks, handover) = (&mut self.docks, &mut self.handover);
        let apps = &self.services.apps;
        docks.work(Instant::now(), &self.screen.display)?;
        self.control.speak(|say| {
            while let Some(news) = docks.news() {
                handover.told(news, apps, say);
            }
            Ok(())
        })
    }

    /// Lines of the log, if anybody listens.
    fn tell_log(&mut self) -> Result<()> {
        let log = &self.log;
        self.control.speak(|say| {
            while say.is_open() && log.next(|line| say.say(line)) {}
            Ok(())
        })
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
                self.handover.lost(&mut self.transfers);
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
            self.handover.deadline(),
            self.docks.deadline(),
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
            let handover = asked.len();
            asked.push(PollFd::new(self.waker.as_fd(), PollFlags::POLLIN));
            asked.extend(self.handover.interest());
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
                (handover..asked.len()).any(has),
            ]
        };
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if ready[1] || due(self.gui.deadline()) {
            let screen = &mut self.screen;
            self.gui
                .step(|say, message| screen.host_says(message, say))?;
            // What was typed goes its way before anything else is looked at.
            self.screen.display.x.flush()?;
        }
        if ready[2] || due(self.control.deadline()) {
            let (screen, services) = (&mut self.screen, &mut self.services);
            let (clipboard, transfers) = (&mut self.clipboard, &mut self.transfers);
            let (handover, docks) = (&mut self.handover, &mut self.docks);
            self.control.step(|say, message| {
                if let control::FromHost::Settings(settings) = &message {
                    clipboard.set_allowed(settings.allowed);
                }
                let display = &mut screen.display;
                let Some(message) = clipboard.host_says(message, display, transfers, say)? else {
                    return Ok(());
                };
                let (pointer, display) = screen.pointer();
                let Some(message) = docks.host_says(message, display, pointer)? else {
                    return Ok(());
                };
                match handover.host_says(message, transfers, say) {
                    Some(other) => services.host_says(other, screen, say),
                    None => Ok(()),
                }
            })?;
        }
        if ready[3] || due(self.bulk.deadline()) {
            let transfers = &mut self.transfers;
            self.bulk.step(|say, message| {
                transfers.host_says(message, say);
                Ok(())
            })?;
        }
        if ready[4] {
            self.waker.heard();
            let (handover, transfers) = (&mut self.handover, &mut self.transfers);
            let apps = &self.services.apps;
            self.control.speak(|say| {
                handover.work(apps, transfers, say);
                Ok(())
            })?;
        }
        if due(self.handover.deadline()) {
            let handover = &mut self.handover;
            self.control.speak(|say| {
                handover.expire(now, say);
                Ok(())
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
