//! The thread of a queue. It owns the queue while it runs; to change anything, the session stops it and
//! starts another, so that serving needs no locks.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::queue::Queue;

/// An eventfd of the client's.
#[derive(Debug, Clone)]
pub struct Doorbell(Arc<File>);

impl Doorbell {
    /// Takes what a client sent, if it is an eventfd: anything else could block or keep us spinning.
    pub fn from_client(file: File) -> io::Result<Self> {
        let target = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        if target.as_os_str() != "anon_inode:[eventfd]" {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a kick, call or error descriptor is no eventfd",
            ));
        }
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
        fcntl(&file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self(Arc::new(file)))
    }

    /// Rings. If nobody has heard the last 2^64 - 2 times, once more does not matter.
    pub fn ring(&self) {
        let _ = (&*self.0).write(&1u64.to_ne_bytes());
    }

    fn hush(&self) {
        let _ = (&*self.0).read(&mut [0; 8]);
    }
}

/// The doorbells of a queue.
#[derive(Debug, Default, Clone)]
pub struct Doorbells {
    /// The driver has made something available.
    pub kick: Option<Doorbell>,
    /// The device has used something.
    pub call: Option<Doorbell>,
    /// The queue is broken.
    pub error: Option<Doorbell>,
}

/// A running thread.
#[derive(Debug)]
pub struct Worker {
    thread: JoinHandle<u16>,
    stop: Arc<Stop>,
}

#[derive(Debug)]
struct Stop {
    wanted: AtomicBool,
    bell: EventFd,
}

impl Worker {
    /// Starts to serve `queue`, first whatever is available already. Should the thread panic, it hangs
    /// up on `client`.
    pub fn start(
        index: usize,
        mut queue: Queue,
        kick: Doorbell,
        bells: Doorbells,
        client: Arc<UnixStream>,
    ) -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let stop = Arc::new(Stop {
            wanted: AtomicBool::new(false),
            bell,
        });
        let seen = stop.clone();
        let thread = std::thread::Builder::new()
            .name(format!("vhost-queue-{index}"))
            .spawn(move || {
                let _panics = HangUp(client);
                run(&mut queue, &kick, &bells, &seen);
                queue.next_available()
            })?;
        Ok(Self { thread, stop })
    }

    /// Ends the thread after the request that it is working on. Returns the number of the available entry
    /// that comes next; none if the thread panicked.
    pub fn stop(self) -> Option<u16> {
        self.stop.wanted.store(true, Relaxed);
        let _ = self.stop.bell.write(1);
        self.thread.join().ok()
    }
}

struct HangUp(Arc<UnixStream>);

impl Drop for HangUp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.shutdown(Shutdown::Both);
        }
    }
}

fn run(queue: &mut Queue, kick: &Doorbell, bells: &Doorbells, stop: &Stop) {
    let interrupt = || {
        if let Some(call) = &bells.call {
            call.ring();
        }
    };
    let wanted = || stop.wanted.load(Relaxed);
    // The server before us may have died after it gave chains back and before it said so, and the driver
    // may be asleep since. One interrupt too many does no harm.
    interrupt();
    let mut sound = true;
    loop {
        // Even if we are to stop already: the queue stands where the requests that a server before us
        // left behind are done.
        if sound && let Err(broken) = queue.serve(&mut || !wanted(), &interrupt) {
            tracing::warn!(%broken, "a guest's queue cannot be served any more");
            sound = false;
            if let Some(error) = &bells.error {
                error.ring();
            }
        }
        if wanted() {
            return;
        }
        let mut fds = [
            PollFd::new(stop.bell.as_fd(), PollFlags::POLLIN),
            PollFd::new(kick.0.as_fd(), PollFlags::POLLIN),
        ];
        // A broken queue is not looked at again, however often it is kicked.
        let heard = if sound { &mut fds[..] } else { &mut fds[..1] };
        let _ = poll(heard, PollTimeout::NONE);
        if sound {
            kick.hush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::device::Device;
    use super::super::execute::Executor;
    use super::super::inflight::Inflight;
    use super::super::memory::{Memory, Region, Window};
    use super::super::ring::Layout;
    use super::super::server::VhostUserOptions;
    use super::*;
    use vdisk::Disk;
    use vdisk::memory::MemoryDisk;

    fn bell() -> Doorbell {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap();
        Doorbell::from_client(File::from(std::os::fd::OwnedFd::from(event))).unwrap()
    }

    /// A queue with one request that a killed server had taken is stopped at once.
    #[test]
    fn what_was_left_behind_is_done_before_any_stop() {
        let guest = Window::private(4096).unwrap();
        guest.u16(258).store(1u16.to_le(), Relaxed); // One chain is available: an empty one.
        let mut memory = Memory::default();
        let region = Region {
            guest: 0,
            client: 0,
            window: guest.clone(),
        };
        memory.add(region).unwrap();
        let shared = Window::private(4096).unwrap();
        shared.u16(8).store(1u16.to_le(), Relaxed); // The version.
        shared.u8(16).store(1, Relaxed); // Head 0 is in flight.
        let layout = Layout {
            size: 16,
            descriptors: 0,
            available: 256,
            used: 512,
        };
        let disk = Disk::new(MemoryDisk::new(1));
        let device = Arc::new(Device::new(disk, &VhostUserOptions::default()));
        let inflight = Inflight::of(&shared, 0, 16);
        let executor = Executor::new(device, false);
        let mut queue = Queue::new(Arc::new(memory), layout, false, 0, inflight, executor).unwrap();
        let stop = Stop {
            wanted: AtomicBool::new(true),
            bell: EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap(),
        };
        run(&mut queue, &bell(), &Doorbells::default(), &stop);
        assert_eq!(queue.next_available(), 1);
        assert_eq!(u16::from_le(guest.u16(514).load(Relaxed)), 1);
    }
}
