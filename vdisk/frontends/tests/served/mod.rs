//! A disk behind a vhost-user-blk server, and what its tests do with a queue.
#![allow(dead_code)] // Each test binary uses a part.

use std::time::Duration;

use vdisk::Disk;
use vdisk::memory::MemoryDisk;
use vdisk::{BlockDevice, DeviceInfo, Extent};
use vdisk_frontends::vhost_user::{VhostUserOptions, VhostUserServer};
use vdisk_vhost_client::{Client, Done, Options, Queue};

pub const SECTORS: u64 = 16 << 11;
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Served {
    pub server: VhostUserServer,
    pub disk: Disk,
    pub dir: tempfile::TempDir,
}

impl Served {
    pub fn new(bytes: Vec<u8>, options: VhostUserOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(MemoryDisk::with(bytes, false));
        let path = dir.path().join("v.sock");
        let server = VhostUserServer::bind(path, disk.clone(), options).unwrap();
        Self { server, disk, dir }
    }

    pub fn zeros() -> Self {
        Self::new(
            vec![0; (SECTORS * 512) as usize],
            VhostUserOptions::default(),
        )
    }

    pub fn client(&self, options: Options) -> Client {
        Client::connect(self.server.path(), options).unwrap()
    }

    pub fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.disk.read_at(offset, &mut bytes).unwrap();
        bytes
    }
}

pub fn finish(queue: &mut Queue) -> Done {
    queue.kick().unwrap();
    queue.wait(LIMIT).unwrap()
}

pub fn fill(queue: &Queue, slot: u16, bytes: &[u8]) {
    queue.memory().write(queue.data(slot), bytes);
}

pub fn data(queue: &Queue, slot: u16, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    queue.memory().read(queue.data(slot), &mut bytes);
    bytes
}

/// A large disk that is slow to write, and reads as somebody says.
pub struct Strange<R> {
    info: DeviceInfo,
    read: R,
}

impl<R: Fn(&mut [u8]) + Send + Sync + 'static> Strange<R> {
    pub fn disk(read: R) -> Disk {
        let info = DeviceInfo {
            size: 8 << 30,
            read_only: false,
            preferred_io: 4096,
            name: "strange".into(),
        };
        Disk::new(Self { info, read })
    }
}

impl<R: Fn(&mut [u8]) + Send + Sync> BlockDevice for Strange<R> {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn read_at(&self, _: u64, buf: &mut [u8]) -> vdisk::Result<()> {
        (self.read)(buf);
        Ok(())
    }

    fn write_at(&self, _: u64, buf: &[u8]) -> vdisk::Result<()> {
        std::thread::sleep(Duration::from_nanos(buf.len() as u64 * 10));
        Ok(())
    }

    fn write_zeroes(&self, _: u64, len: u64) -> vdisk::Result<()> {
        std::thread::sleep(Duration::from_nanos(len * 10));
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> vdisk::Result<()> {
        self.write_zeroes(offset, len)
    }

    fn flush(&self) -> vdisk::Result<()> {
        Ok(())
    }

    fn extents(&self, _: u64, _: u64, _: &mut dyn FnMut(Extent)) -> vdisk::Result<()> {
        Ok(())
    }
}
