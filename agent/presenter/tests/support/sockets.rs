//! Where a guest listens, and what it says and hears there besides windows.
use super::{Guest, PATIENCE};
use medley_link::{End, Greets, Progress};
use medley_wire::{Channel, Features, Hello, Set};
use nix::poll::{PollFd, PollTimeout, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where a guest listens.
pub struct Sockets {
    pub dir: TempDir,
    gui: UnixListener,
}

impl Sockets {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let gui = UnixListener::bind(dir.path().join("gui")).unwrap();
        Self { dir, gui }
    }

    /// The gui channel's socket, for somebody else to accept on.
    pub fn gui_listener(&self) -> UnixListener {
        self.gui.try_clone().unwrap()
    }

    pub fn listen(&self, name: &str) -> UnixListener {
        UnixListener::bind(self.dir.path().join(name)).unwrap()
    }

    /// Takes a presenter's connection and greets.
    pub fn accept(&self) -> Guest {
        let (stream, _) = self.gui.accept().unwrap();
        let features = Features::LZ4
            .with(Features::ZSTD)
            .with(Features::SHARED_PIXELS)
            .with(Features::CURSOR_PICTURES);
        let hello = Hello::new(Channel::Gui, features, [7; 32]);
        Guest::new(End::guest(OwnedFd::from(stream), hello).unwrap())
    }
}

/// A guest's end of a channel.
pub struct Line<In: Greets, Out: Greets>(pub End<In, Out>);

impl<In: Greets, Out: Greets> Line<In, Out> {
    pub fn accept(listener: &UnixListener, channel: Channel) -> Self {
        let (stream, _) = listener.accept().unwrap();
        let hello = Hello::new(channel, Features::ALL, [7; 32]);
        Self(End::guest(OwnedFd::from(stream), hello).unwrap())
    }

    pub fn say<'m>(&mut self, message: impl Into<Out::Message<'m>>) {
        self.0.outgoing().send(&message.into()).unwrap();
        self.0.flush().unwrap();
    }

    /// What can be made of the messages that come within a time, one after the other.
    pub fn hear<T>(
        &mut self,
        within: Duration,
        mut find: impl FnMut(&<In as Set>::Message<'_>) -> Option<T>,
    ) -> Vec<T> {
        self.0.flush().unwrap();
        let timeout = PollTimeout::try_from(within).unwrap();
        poll(
            &mut [PollFd::new(self.0.as_fd(), self.0.interest())],
            timeout,
        )
        .unwrap();
        let mut found = Vec::new();
        let progress = self
            .0
            .read(|_, received| -> Result<(), medley_link::Error> {
                found.extend(find(&received.message));
                Ok(())
            });
        assert_eq!(progress.unwrap(), Progress::Open);
        found
    }

    pub fn wait<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&<In as Set>::Message<'_>) -> Option<T>,
    ) -> T {
        let began = Instant::now();
        loop {
            if let Some(first) = self.hear(Duration::from_millis(50), &mut find).pop() {
                return first;
            }
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        }
    }
}
