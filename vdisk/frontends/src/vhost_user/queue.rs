//! A queue that is served: requests out of its ring, their answers back into it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vdisk::Disk;

use super::chain::Chain;
use super::device::Device;
use super::execute::{Executor, Status};
use super::inflight::Inflight;
use super::memory::{Memory, Region, Window};
use super::request::{Malformed, Request, parse};
use super::ring::{Broken, Layout, Ring};
use super::server::VhostUserOptions;

/// A driver with more requests waiting is not interrupted more often than this.
const PATIENCE: Duration = Duration::from_micros(50);

/// A virtqueue and what it needs.
pub struct Queue {
    memory: Arc<Memory>,
    ring: Ring,
    inflight: Option<Inflight>,
    /// Heads that a server before us did not finish.
    unfinished: Vec<u16>,
    chain: Chain,
    executor: Executor,
    interrupted: Instant,
}

impl Queue {
    /// A queue that goes on where it was: as `inflight` says, or at `next_available` without.
    pub fn new(
        memory: Arc<Memory>,
        layout: Layout,
        event_idx: bool,
        next_available: u16,
        mut inflight: Option<Inflight>,
        executor: Executor,
    ) -> Result<Self, Broken> {
        let mut ring = Ring::new(&memory, layout, event_idx, next_available)?;
        let unfinished = match &mut inflight {
            Some(inflight) => inflight.recover(&mut ring),
            None => Vec::new(),
        };
        Ok(Self {
            memory,
            ring,
            inflight,
            unfinished,
            chain: Chain::default(),
            executor,
            interrupted: Instant::now(),
        })
    }

    /// Number of the available entry that comes next.
    pub fn next_available(&self) -> u16 {
        self.ring.next_available()
    }

    /// Serves what is available until there is no more, then asks to be kicked; or until `go_on` says no,
    /// which is asked before each request and within long ones. `interrupt` is called when the driver wants to know.
    pub fn serve(
        &mut self,
        go_on: &mut dyn FnMut() -> bool,
        interrupt: &dyn Fn(),
    ) -> Result<(), Broken> {
        // Even if we shall stop: who asks then where the queue stands is not told of these.
        for head in std::mem::take(&mut self.unfinished) {
            self.one(head, &mut || true);
        }
        loop {
            self.ring.be_busy();
            while go_on() {
                let Some(head) = self.ring.pop()? else { break };
                if let Some(inflight) = &mut self.inflight {
                    inflight.begin(head);
                }
                if !self.one(head, go_on) {
                    self.ring.unpop();
                    if let Some(inflight) = &self.inflight {
                        inflight.cancel(head);
                    }
                    break;
                }
                if self.interrupted.elapsed() > PATIENCE {
                    self.interrupt(interrupt);
                }
            }
            self.interrupt(interrupt);
            let more = self.ring.be_idle();
            self.mark_used();
            if !more || !go_on() {
                return Ok(());
            }
        }
    }

    fn interrupt(&mut self, interrupt: &dyn Fn()) {
        if self.ring.interrupt_wanted() {
            interrupt();
            self.interrupted = Instant::now();
        }
    }

    fn mark_used(&self) {
        let layout = self.ring.layout();
        self.memory.mark(layout.used, layout.used_len());
    }

    /// Does one request and gives its chain back; or returns false if `go_on` would not have it.
    fn one(&mut self, head: u16, go_on: &mut dyn FnMut() -> bool) -> bool {
        let walked = self.chain.walk(&self.memory, self.ring.layout(), head);
        let (status, written) = match parse(&self.memory, &mut self.chain, walked) {
            Ok(Request { kind, status }) => {
                let executor = &mut self.executor;
                let Some((answer, written)) =
                    executor.run(&self.memory, kind, &mut self.chain, go_on)
                else {
                    return false;
                };
                (Some((status, answer)), written)
            }
            Err(Malformed { status, why }) => {
                tracing::debug!(why, "a guest sent something that is no request");
                (status.map(|at| (at, Status::IoError)), 0)
            }
        };
        let mut written = u32::try_from(written).unwrap_or(u32::MAX);
        if let Some((at, answer)) = status
            && self.memory.write(at, &[answer as u8]).is_some()
        {
            written = written.saturating_add(1);
        }
        match &self.inflight {
            Some(inflight) => inflight.end(&mut self.ring, head, written),
            None => self.ring.push(head, written),
        }
        self.mark_used();
        true
    }
}

/// Serves one queue whose guest has `image` as its memory, from address 0 on, until there is nothing to
/// do or `limit` requests were done. Returns how many were. This is all that a hostile guest can reach:
/// for fuzzing and tests, nothing else is needed.
pub fn process(
    disk: &Disk,
    image: &mut [u8],
    layout: Layout,
    event_idx: bool,
    limit: u64,
) -> Result<u64, Broken> {
    let window = Window::private(image.len()).map_err(|_| Broken("no memory"))?;
    window.bytes_mut(0, image.len(), |bytes| bytes.copy_from_slice(image));
    let mut memory = Memory::default();
    let region = Region {
        guest: 0,
        client: 0,
        window: window.clone(),
    };
    memory.add(region).map_err(Broken)?;
    let device = Arc::new(Device::new(disk.clone(), &VhostUserOptions::default()));
    let executor = Executor::new(device, false);
    let mut queue = Queue::new(Arc::new(memory), layout, event_idx, 0, None, executor)?;
    let mut done = 0;
    let result = queue.serve(
        &mut || {
            done += 1;
            done <= limit
        },
        &|| {},
    );
    window.bytes(0, image.len(), |bytes| image.copy_from_slice(bytes));
    result.map(|()| u64::from(queue.next_available()))
}
