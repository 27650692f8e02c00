//! The thread that makes a running guest follow its host: reads, decides, moves the balloon.

use crate::controller::{Controller, GuestRam, Observation, Target};
use crate::pressure::Source;
use crate::{Error, Result};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often to look: a program may take the host's reserve within a second, and a guest needs time to give.
const LOOK: Duration = Duration::from_millis(500);

/// A running guest's balloon. Calls must return within a few seconds: whoever ends a [`Follow`]
/// waits for them.
pub trait Balloon: Send + 'static {
    /// Asks the guest to live with so much RAM, in MiB. The guest complies in its own time.
    fn target(&self, mib: u32) -> Result<(), BalloonError>;

    /// The guest's RAM now.
    fn statistics(&self) -> Result<GuestRam, BalloonError>;
}

/// Why a balloon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum BalloonError {
    /// The machine has ended, and with it whatever followed.
    #[error("the machine has ended")]
    Ended,
    /// It failed this time, as when the machine is paused.
    #[error("{0}")]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

/// A guest that follows its host, until this is dropped or the machine ends. What the balloon has
/// taken by then stays taken.
#[derive(Debug)]
pub struct Follow {
    /// Dropped, it hangs up on the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
    last: Arc<Mutex<Option<Target>>>,
}

impl Follow {
    /// Follows `source` with `balloon` as `controller` decides, on a thread of its own that
    /// looks twice a second.
    pub fn start(
        controller: Controller,
        source: impl Source,
        balloon: impl Balloon,
    ) -> Result<Follow> {
        let failed = |what| move |error| Error::io(what, error);
        let (stopped, stop) =
            std::io::pipe().map_err(failed("make a pipe to stop following the host"))?;
        let last = Arc::new(Mutex::new(None));
        let runner = Runner {
            controller,
            source,
            balloon,
            stopped,
            last: last.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("memory".into())
            .spawn(move || runner.run())
            .map_err(failed("start a thread to follow the host"))?;
        Ok(Follow {
            stop: Some(stop),
            thread: Some(thread),
            last,
        })
    }

    /// What the balloon was last asked for, if it was asked at all.
    pub fn last(&self) -> Option<Target> {
        let last = self.last.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the machine still runs, as far as its balloon told.
    pub fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that follows the host's memory pressure has panicked");
        }
    }
}

struct Runner<S, B> {
    controller: Controller,
    source: S,
    balloon: B,
    stopped: PipeReader,
    last: Arc<Mutex<Option<Target>>>,
}

impl<S: Source, B: Balloon> Runner<S, B> {
    fn run(mut self) {
        let begin = Instant::now();
        // A resumed guest may be without some of its memory already.
        if let Ok(guest) = self.balloon.statistics() {
            self.controller.hold(guest.actual_mib);
        }
        let mut complained = false;
        loop {
            match self.round(begin.elapsed()) {
                Ok(()) => complained = false,
                Err(Trouble::Balloon(BalloonError::Ended)) => return,
                Err(trouble) if !complained => {
                    tracing::warn!(%trouble, "the guest does not follow its host's memory pressure");
                    complained = true;
                }
                Err(_) => {}
            }
            self.source.wait(self.stopped.as_fd(), LOOK);
            if self.is_stopped() {
                return;
            }
        }
    }

    fn round(&mut self, at: Duration) -> Result<(), Trouble> {
        let host = self.source.read().map_err(Trouble::Host)?;
        let guest = match self.controller.wants_guest(&host) {
            true => Some(self.balloon.statistics()?),
            false => None,
        };
        let mut controller = self.controller.clone();
        let target = controller.step(&Observation {
            at,
            host: &host,
            guest,
        });
        if let Some(target) = &target {
            self.balloon.target(target.mib)?;
            tracing::info!("{target}");
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(target.clone());
        }
        // What could not be asked for was not decided.
        self.controller = controller;
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN)];
        !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0) | Err(_))
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Host(Error),
    #[error("{0}")]
    Balloon(#[from] BalloonError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reading, Room};
    use std::os::fd::BorrowedFd;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A host whose free memory the test decides, and that is looked at when it does.
    struct Scripted(Receiver<u64>);

    impl Source for Scripted {
        fn read(&mut self) -> Result<Reading> {
            // The script's end is a calm host.
            let available_mib = self.0.try_recv().unwrap_or(4096);
            let room = Room {
                name: "the host".into(),
                total_mib: 8192,
                available_mib,
                reserve_mib: 512,
            };
            Ok(Reading {
                rooms: vec![room],
                stalled_permille: None,
            })
        }

        fn wait(&mut self, _: BorrowedFd<'_>, _: Duration) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    struct Guest {
        asked: Sender<u32>,
        actual: Mutex<u32>,
        refuse: Mutex<u32>,
        ended: Arc<Mutex<bool>>,
    }

    impl Guest {
        fn new(refuse: u32) -> (Guest, Receiver<u32>) {
            let (asked, answers) = channel();
            let guest = Guest {
                asked,
                actual: Mutex::new(1024),
                refuse: Mutex::new(refuse),
                ended: Arc::new(Mutex::new(false)),
            };
            (guest, answers)
        }
    }

    impl Balloon for Guest {
        fn target(&self, mib: u32) -> Result<(), BalloonError> {
            let mut refuse = self.refuse.lock().unwrap();
            if *refuse > 0 {
                *refuse -= 1;
                return Err(BalloonError::Failed("paused".into()));
            }
            *self.actual.lock().unwrap() = mib;
            let _ = self.asked.send(mib);
            Ok(())
        }

        fn statistics(&self) -> Result<GuestRam, BalloonError> {
            match *self.ended.lock().unwrap() {
                true => Err(BalloonError::Ended),
                false => Ok(GuestRam {
                    actual_mib: *self.actual.lock().unwrap(),
                    total_mib: Some(1024),
                    available_mib: Some(900),
                }),
            }
        }
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_guest_follows_also_one_that_refuses_at_first() {
        for refuse in [0, 2] {
            let (guest, answers) = Guest::new(refuse);
            let (script, source) = channel();
            script.send(3000).unwrap();
            for _ in 0..=refuse {
                script.send(500).unwrap();
            }
            let controller = Controller::between(256, 1024);
            let follow = Follow::start(controller, Scripted(source), guest).unwrap();
            // 1.5 reserves less what is there.
            assert_eq!(answers.recv_timeout(PATIENCE).unwrap(), 1024 - 268);
            crate::tests::until(|| follow.last().is_some());
            assert_eq!(follow.last().unwrap().mib, 1024 - 268);
            assert!(follow.is_running());
        }
    }

    #[test]
    fn the_end_of_the_machine_is_the_end_of_it() {
        let (guest, _answers) = Guest::new(0);
        *guest.ended.lock().unwrap() = true;
        let (script, source) = channel();
        script.send(100).unwrap();
        let follow =
            Follow::start(Controller::between(256, 1024), Scripted(source), guest).unwrap();
        crate::tests::until(|| !follow.is_running());
    }

    #[test]
    fn pressure_on_an_imagined_host_reaches_the_balloon_within_five_seconds() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let available = |mib: u64| {
            // Replaced in one step: it may be read at any time.
            let text = format!("MemTotal: 8388608 kB\nMemAvailable: {} kB\n", mib << 10);
            let new = root.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, root.path().join("proc/meminfo")).unwrap();
        };
        available(4096);
        let (guest, answers) = Guest::new(0);
        let source = crate::HostSource::below(root.path(), &crate::MemoryPolicy::default());
        let controller = Controller::between(256, 1024);
        let follow = Follow::start(controller, source, guest).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let begin = Instant::now();
        available(400);
        let asked = answers.recv_timeout(PATIENCE).unwrap();
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{:?}",
            begin.elapsed()
        );
        assert_eq!(asked, 1024 - 368);
        drop(follow);
    }

    #[test]
    fn a_calm_host_is_watched_at_next_to_no_cost_and_stopping_is_prompt() {
        let policy = crate::MemoryPolicy {
            reserve: crate::Rule::Fixed(1),
            ..Default::default()
        };
        let (guest, answers) = Guest::new(0);
        let source = crate::HostSource::new(&policy);
        let follow = Follow::start(Controller::between(256, 1024), source, guest).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let begin = Instant::now();
        drop(follow);
        assert!(
            begin.elapsed() < Duration::from_millis(900),
            "{:?}",
            begin.elapsed()
        );
        assert!(answers.try_recv().is_err());
    }
}
