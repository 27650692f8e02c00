//! One client from its first message to its last: what it negotiates, shares and starts.
//!
//! Whatever it says while queues run stops them, is applied, and starts them again.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use vdisk::Disk;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures as Protocol,
    VhostUserShMemConfig, VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVringAddrFlags,
    VhostUserVringState,
};
use vhost::vhost_user::{
    BackendReqHandler, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut,
};

use super::device::{Device, feature};
use super::execute::Executor;
use super::inflight::{self, Inflight};
use super::log::DirtyLog;
use super::memory::{MAX_REGIONS, Memory, Region, Window};
use super::queue::Queue;
use super::ring::{Layout, MAX_SIZE};
use super::server::VhostUserOptions;
use super::worker::{Doorbell, Doorbells, Worker};

/// The rest of a message, once it has begun, and the first message of all, come within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves one client on a connected socket, until it leaves or breaks the protocol. This is what a
/// server does with each of its clients; for fuzzing and tests.
pub fn serve(client: UnixStream, disk: &Disk, options: &VhostUserOptions) {
    converse(client, &Arc::new(Device::new(disk.clone(), options)));
}

/// Serves one client.
pub fn converse(client: UnixStream, device: &Arc<Device>) {
    match talk(client, device) {
        Ok(()) | Err(Error::Disconnected) => {}
        Err(error) => tracing::debug!(%error, "vhost-user client dropped"),
    }
}

fn talk(client: UnixStream, device: &Arc<Device>) -> Result<()> {
    // A signal in the middle of a message would lose our place in it.
    let _ = SigSet::all().thread_block();
    let client = Arc::new(client);
    let io = Error::SocketError;
    client.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    client.set_write_timeout(Some(PATIENCE)).map_err(io)?;
    let session = Session::new(device.clone(), client.clone());
    let session = Arc::new(Mutex::new(session));
    let stream = client.try_clone().map_err(io)?;
    let mut messages = BackendReqHandler::from_stream(stream, session);
    let mut timeout = PollTimeout::from(10_000u16);
    loop {
        let mut fds = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout).map_err(|errno| io(errno.into()))? == 0 {
            return Err(io(io::ErrorKind::TimedOut.into()));
        }
        messages.handle_request()?;
        timeout = PollTimeout::NONE;
    }
}

fn refused(what: &'static str) -> Error {
    failed(io::Error::new(io::ErrorKind::InvalidInput, what))
}

fn failed(error: io::Error) -> Error {
    tracing::warn!(%error, "a vhost-user client's message cannot be followed");
    Error::ReqHandlerError(error)
}

/// A queue as the client describes it; its addresses are those of the client's.
#[derive(Debug, Default)]
struct Vring {
    size: u16,
    /// Descriptors, available, used.
    addresses: Option<(u64, u64, u64)>,
    next_available: u16,
    bells: Doorbells,
    enabled: bool,
    worker: Option<Worker>,
}

struct SharedInflight {
    window: Window,
    size: u16,
}

struct Session {
    device: Arc<Device>,
    client: Arc<UnixStream>,
    features: u64,
    memory: Memory,
    log: Option<DirtyLog>,
    inflight: Option<SharedInflight>,
    vrings: Vec<Vring>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.pause();
    }
}

impl Session {
    fn new(device: Arc<Device>, client: Arc<UnixStream>) -> Self {
        let vrings = (0..device.queues).map(|_| Vring::default()).collect();
        Self {
            device,
            client,
            features: 0,
            memory: Memory::default(),
            log: None,
            inflight: None,
            vrings,
        }
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Stops the threads of all queues.
    fn pause(&mut self) -> Result<()> {
        (0..self.vrings.len()).try_for_each(|index| self.pause_one(index))
    }

    fn pause_one(&mut self, index: usize) -> Result<()> {
        let vring = self.vring(index)?;
        if let Some(worker) = vring.worker.take() {
            vring.next_available = worker.stop().ok_or(Error::BackendInternalError)?;
        }
        Ok(())
    }

    /// Starts the threads of all queues that have what it takes.
    fn resume(&mut self) -> Result<()> {
        (0..self.vrings.len()).try_for_each(|index| self.resume_one(index))
    }

    fn resume_one(&mut self, index: usize) -> Result<()> {
        let vring = &self.vrings[index];
        let (Some((descriptors, available, used)), Some(kick), true, None) = (
            vring.addresses,
            vring.bells.kick.clone(),
            vring.enabled,
            &vring.worker,
        ) else {
            return Ok(());
        };
        let guest = |client| self.memory.guest_address(client);
        let (Some(descriptors), Some(available), Some(used)) =
            (guest(descriptors), guest(available), guest(used))
        else {
            // The client may take memory away and bring it back.
            tracing::warn!(index, "a queue waits for the memory of its rings");
            return Ok(());
        };
        let layout = Layout {
            size: vring.size,
            descriptors,
            available,
            used,
        };
        let log = self.log.clone().filter(|_| self.has(feature::LOG_ALL));
        let memory = Arc::new(self.memory.logged(log));
        let inflight = self
            .inflight
            .as_ref()
            .and_then(|shared| Inflight::of(&shared.window, index, shared.size));
        let executor = Executor::new(self.device.clone(), !self.has(feature::FLUSH));
        let queue = Queue::new(
            memory,
            layout,
            self.has(feature::EVENT_IDX),
            vring.next_available,
            inflight,
            executor,
        )
        .map_err(|broken| refused(broken.0))?;
        let bells = vring.bells.clone();
        let worker =
            Worker::start(index, queue, kick, bells, self.client.clone()).map_err(failed)?;
        self.vrings[index].worker = Some(worker);
        Ok(())
    }

    fn vring(&mut self, index: usize) -> Result<&mut Vring> {
        self.vrings
            .get_mut(index)
            .ok_or_else(|| refused("no such queue"))
    }

    /// Changes one queue, which does not run meanwhile.
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Vring)) -> Result<()> {
        self.pause_one(index)?;
        change(self.vring(index)?);
        self.resume_one(index)
    }

    fn set_bell(
        &mut self,
        index: u8,
        file: Option<File>,
        place: impl FnOnce(&mut Doorbells) -> &mut Option<Doorbell>,
    ) -> Result<()> {
        let bell = file
            .map(Doorbell::from_client)
            .transpose()
            .map_err(failed)?;
        self.change(index.into(), |vring| *place(&mut vring.bells) = bell)
    }

    fn forget(&mut self) -> Result<()> {
        self.pause()?;
        let (device, client) = (self.device.clone(), self.client.clone());
        *self = Self::new(device, client);
        Ok(())
    }
}

fn region(facts: &VhostUserMemoryRegion, file: File) -> Result<Region> {
    let window = Window::map(file, facts.mmap_offset, facts.memory_size).map_err(failed)?;
    Ok(Region {
        guest: facts.guest_phys_addr,
        client: facts.user_addr,
        window,
    })
}

impl VhostUserBackendReqHandlerMut for Session {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.forget()
    }

    fn reset_device(&mut self) -> Result<()> {
        self.forget()
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.device.features())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.device.features() != 0 {
            return Err(refused("a feature was accepted that was not offered"));
        }
        self.pause()?;
        self.features = features;
        if !self.has(feature::PROTOCOL_FEATURES) {
            self.vrings
                .iter_mut()
                .for_each(|vring| vring.enabled = true);
        }
        self.resume()
    }

    fn get_protocol_features(&mut self) -> Result<Protocol> {
        Ok(Protocol::MQ
            | Protocol::CONFIG
            | Protocol::LOG_SHMFD
            | Protocol::INFLIGHT_SHMFD
            | Protocol::CONFIGURE_MEM_SLOTS)
    }

    fn set_protocol_features(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        let mut memory = Memory::default();
        for (facts, file) in regions.iter().zip(files) {
            memory.add(region(facts, file)?).map_err(refused)?;
        }
        self.pause()?;
        self.memory = memory;
        self.resume()?;
        Ok(None)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(MAX_REGIONS as u64)
    }

    fn add_mem_region(
        &mut self,
        facts: &VhostUserSingleMemoryRegion,
        file: File,
        _: Option<bool>,
    ) -> Result<Option<u64>> {
        self.pause()?;
        self.memory.add(region(facts, file)?).map_err(refused)?;
        self.resume()?;
        Ok(None)
    }

    fn remove_mem_region(&mut self, facts: &VhostUserSingleMemoryRegion) -> Result<()> {
        self.pause()?;
        self.memory
            .remove(facts.guest_phys_addr, facts.user_addr, facts.memory_size)
            .map_err(refused)?;
        self.resume()
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.vrings.len() as u64)
    }

    fn set_vring_num(&mut self, index: u32, size: u32) -> Result<()> {
        let size = u16::try_from(size)
            .ok()
            .filter(|size| size.is_power_of_two() && *size <= MAX_SIZE)
            .ok_or_else(|| refused("the size of a queue is no power of two up to 1024"))?;
        self.change(index as usize, |vring| vring.size = size)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _: VhostUserVringAddrFlags,
        descriptors: u64,
        used: u64,
        available: u64,
        _: u64,
    ) -> Result<()> {
        self.change(index as usize, |vring| {
            vring.addresses = Some((descriptors, available, used));
        })
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| refused("no such place in a ring"))?;
        self.change(index as usize, |vring| vring.next_available = base)
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.pause_one(index as usize)?;
        let vring = self.vring(index as usize)?;
        // Stopped until it is described anew.
        vring.addresses = None;
        vring.bells = Doorbells::default();
        let next = vring.next_available;
        Ok(VhostUserVringState::new(index, next.into()))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.set_bell(index, file, |bells| &mut bells.kick)
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.set_bell(index, file, |bells| &mut bells.call)
    }

    fn set_vring_err(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.set_bell(index, file, |bells| &mut bells.error)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.change(index as usize, |vring| vring.enabled = enable)
    }

    fn get_config(&mut self, offset: u32, size: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Ok(self.device.config(offset, size))
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        Err(refused("nothing in the configuration space can be written"))
    }

    fn get_inflight_fd(&mut self, wish: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        let (queues, size) = (wish.num_queues, wish.queue_size);
        if usize::from(queues) > self.vrings.len() || size > MAX_SIZE {
            return Err(refused("more queues, or larger, than there are"));
        }
        let (file, len) = inflight::create(queues, size).map_err(failed)?;
        Ok((VhostUserInflight::new(len, 0, queues, size), file))
    }

    fn set_inflight_fd(&mut self, facts: &VhostUserInflight, file: File) -> Result<()> {
        let window = Window::map(file, facts.mmap_offset, facts.mmap_size).map_err(failed)?;
        let size = facts.queue_size;
        let last = usize::from(facts.num_queues).checked_sub(1);
        if last.is_none_or(|last| Inflight::of(&window, last, size).is_none()) {
            return Err(refused("memory for requests in flight is too small"));
        }
        self.pause()?;
        self.inflight = Some(SharedInflight { window, size });
        self.resume()
    }

    fn set_log_base(&mut self, facts: &VhostUserLog, file: File) -> Result<()> {
        let window = Window::map(file, facts.mmap_offset, facts.mmap_size).map_err(failed)?;
        self.pause()?;
        self.log = Some(DirtyLog(window));
        self.resume()
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        Err(refused("this is a disk"))
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        Err(refused("a disk has no shared objects"))
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        Err(refused("this disk has no state of its own"))
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(refused("this disk has no state of its own"))
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(refused("this disk shares no memory of its own"))
    }
}
