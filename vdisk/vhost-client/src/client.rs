//! The hypervisor's part: what is negotiated with the server and shared with it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight,
    VhostUserProtocolFeatures as Protocol,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserDirtyLogRegion, VhostUserMemoryRegionInfo, VringConfigData};

use crate::memory::Memory;
use crate::queue::Queue;

const PROTOCOL_FEATURES: u64 = 1 << 30;
const LOG_ALL: u64 = 1 << 26;
const EVENT_IDX: u64 = 1 << 29;

/// A server has this long to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the client shall be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Queues.
    pub queues: u16,
    /// Entries of each queue's ring: a power of two.
    pub size: u16,
    /// Requests in flight in each queue; each gets `size / depth` descriptors, at least 3.
    pub depth: u16,
    /// Bytes of data of each request.
    pub slot_bytes: usize,
    /// Share memory in two regions instead of one, the seam in the middle.
    pub split: bool,
    /// Features that are not accepted even if they are offered.
    pub without: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queues: 1,
            size: 128,
            depth: 32,
            slot_bytes: 4096,
            split: false,
            without: 0,
        }
    }
}

/// A client that is connected and whose queues run.
pub struct Client {
    /// The queues. They may be used from threads of their own.
    pub queues: Vec<Queue>,
    memory: Memory,
    options: Options,
    frontend: Frontend,
    features: u64,
    config: Vec<u8>,
    inflight: Option<(VhostUserInflight, File)>,
}

fn other(error: vhost::Error) -> io::Error {
    io::Error::other(error)
}

fn connect(path: &Path, queues: u16) -> io::Result<Frontend> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Frontend::from_stream(stream, queues.into()))
}

impl Client {
    /// Connects, shares memory, and starts the queues.
    pub fn connect(path: impl AsRef<Path>, options: Options) -> io::Result<Self> {
        let Options {
            queues,
            size,
            depth,
            slot_bytes,
            ..
        } = options;
        let each = Queue::footprint(size, depth, slot_bytes).next_multiple_of(4096);
        // Twice the first half: the seam of a split lies among data.
        let memory = Memory::new((each * usize::from(queues)).next_multiple_of(8192))?;
        let queue = |i| {
            Queue::new(
                memory.clone(),
                each * usize::from(i),
                size,
                depth,
                slot_bytes,
            )
        };
        let queues = (0..queues).map(queue).collect::<io::Result<_>>()?;
        let mut client = Self {
            queues,
            frontend: connect(path.as_ref(), options.queues)?,
            memory,
            options,
            features: 0,
            config: Vec::new(),
            inflight: None,
        };
        client.start()?;
        Ok(client)
    }

    /// Connects again, after the server went away: requests in flight stay in flight.
    pub fn reconnect(&mut self, path: impl AsRef<Path>) -> io::Result<()> {
        self.frontend = connect(path.as_ref(), self.options.queues)?;
        self.start()
    }

    fn start(&mut self) -> io::Result<()> {
        let regions = self.regions();
        let frontend = &mut self.frontend;
        frontend.set_owner().map_err(other)?;
        let offered = frontend.get_features().map_err(other)?;
        let accepted = offered & !LOG_ALL & !self.options.without;
        self.features = accepted;
        // Before the features, since REPLY_ACK decides about acknowledgements.
        let known = Protocol::MQ
            | Protocol::CONFIG
            | Protocol::REPLY_ACK
            | Protocol::LOG_SHMFD
            | Protocol::INFLIGHT_SHMFD
            | Protocol::CONFIGURE_MEM_SLOTS;
        let protocol = frontend.get_protocol_features().map_err(other)? & known;
        frontend.set_protocol_features(protocol).map_err(other)?;
        if protocol.contains(Protocol::REPLY_ACK) {
            frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        let (_, config) = frontend
            .get_config(0, 60, VhostUserConfigFlags::empty(), &[0; 60])
            .map_err(other)?;
        self.config = config;
        frontend.set_features(accepted).map_err(other)?;
        if protocol.contains(Protocol::INFLIGHT_SHMFD) {
            let wish = VhostUserInflight::new(0, 0, self.options.queues, self.options.size);
            let (facts, file) = match self.inflight.take() {
                Some(kept) => kept,
                None => frontend.get_inflight_fd(&wish).map_err(other)?,
            };
            frontend
                .set_inflight_fd(&facts, file.as_raw_fd())
                .map_err(other)?;
            self.inflight = Some((facts, file));
        }
        frontend.set_mem_table(&regions).map_err(other)?;
        for (index, queue) in self.queues.iter_mut().enumerate() {
            queue.event_idx = accepted & EVENT_IDX != 0;
            let base = queue.used_index();
            self.frontend
                .set_vring_num(index, queue.size())
                .map_err(other)?;
            self.frontend.set_vring_base(index, base).map_err(other)?;
        }
        self.address(false)?;
        self.set_calls()?;
        for (index, queue) in self.queues.iter().enumerate() {
            self.frontend
                .set_vring_kick(index, &queue.kick)
                .map_err(other)?;
        }
        if accepted & PROTOCOL_FEATURES != 0 {
            for index in 0..self.queues.len() {
                self.frontend.set_vring_enable(index, true).map_err(other)?;
            }
        }
        // Whatever was offered while nobody listened.
        self.queues.iter().try_for_each(Queue::kick_anyway)
    }

    /// Tells the server, again, where to call.
    pub fn set_calls(&mut self) -> io::Result<()> {
        for (index, queue) in self.queues.iter().enumerate() {
            self.frontend
                .set_vring_call(index, &queue.call)
                .map_err(other)?;
        }
        Ok(())
    }

    /// Takes all memory away from the server.
    pub fn unplug(&mut self) -> io::Result<()> {
        let regions = self.regions();
        let remove = |region| self.frontend.remove_mem_region(region).map_err(other);
        regions.iter().try_for_each(remove)
    }

    /// Gives it back.
    pub fn plug(&mut self) -> io::Result<()> {
        let regions = self.regions();
        let add = |region| {
            self.frontend
                .add_mem_region(region)
                .map(drop)
                .map_err(other)
        };
        regions.iter().try_for_each(add)
    }

    fn regions(&self) -> Vec<VhostUserMemoryRegionInfo> {
        let map = self.memory.map();
        let fd = map.file_offset().map_or(-1, |file| file.file().as_raw_fd());
        let pieces = if self.options.split { 2 } else { 1 };
        let len = (map.size() / pieces) as u64;
        let region = |at: u64| VhostUserMemoryRegionInfo {
            guest_phys_addr: Memory::GUEST + at,
            memory_size: len,
            userspace_addr: map.as_ptr() as u64 + at,
            mmap_offset: at,
            mmap_handle: fd,
        };
        (0..pieces as u64)
            .map(|piece| region(piece * len))
            .collect()
    }

    fn address(&self, log: bool) -> io::Result<()> {
        let base = self.memory.map().as_ptr() as u64;
        for (index, queue) in self.queues.iter().enumerate() {
            let config = VringConfigData {
                queue_max_size: queue.size(),
                queue_size: queue.size(),
                flags: log.into(),
                desc_table_addr: base + queue.descriptors as u64,
                used_ring_addr: base + queue.used as u64,
                avail_ring_addr: base + queue.available as u64,
                log_addr: log.then_some(Memory::GUEST + queue.used as u64),
            };
            self.frontend
                .set_vring_addr(index, &config)
                .map_err(other)?;
        }
        Ok(())
    }

    /// Features that both sides have accepted.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// The first 60 bytes of the device's configuration space.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Size of the disk in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        let field = self.config.first_chunk::<8>();
        field.map_or(0, |field| u64::from_le_bytes(*field))
    }

    /// The most queues that the server has.
    pub fn max_queues(&mut self) -> io::Result<u64> {
        self.frontend.get_queue_num().map_err(other)
    }

    /// The shared memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Starts to log the pages that the server writes, while it runs.
    pub fn start_log(&mut self) -> io::Result<DirtyLog> {
        let pages = (Memory::GUEST as usize + self.memory.len()) / 4096;
        let log = Memory::new(pages.div_ceil(8).next_multiple_of(4096))?;
        let fd = log
            .map()
            .file_offset()
            .map_or(-1, |file| file.file().as_raw_fd());
        let region = VhostUserDirtyLogRegion {
            mmap_size: log.len() as u64,
            mmap_offset: 0,
            mmap_handle: fd,
        };
        self.frontend.set_log_base(0, Some(region)).map_err(other)?;
        self.frontend
            .set_features(self.features | LOG_ALL)
            .map_err(other)?;
        self.address(true)?;
        Ok(DirtyLog(log))
    }

    /// Ends logging.
    pub fn stop_log(&mut self) -> io::Result<()> {
        self.frontend.set_features(self.features).map_err(other)?;
        self.address(false)
    }

    /// Stops the queues; where each of them stood.
    pub fn stop(&mut self) -> io::Result<Vec<u32>> {
        (0..self.queues.len())
            .map(|index| self.frontend.get_vring_base(index).map_err(other))
            .collect()
    }

    /// The connection, for messages of other kinds.
    pub fn frontend(&mut self) -> &mut Frontend {
        &mut self.frontend
    }
}

/// A log of written pages.
#[derive(Debug)]
pub struct DirtyLog(Memory);

impl DirtyLog {
    /// Whether the page at offset `at` of the shared memory was written since the log began.
    pub fn dirty(&self, at: usize) -> bool {
        let page = (Memory::GUEST as usize + at) / 4096;
        let mut byte = [0];
        self.0.read(page / 8, &mut byte);
        byte[0] & (1 << (page % 8)) != 0
    }
}
