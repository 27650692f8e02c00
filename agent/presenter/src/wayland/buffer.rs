//! Memory that the compositor shows: a file without a name for each buffer. Written, not mapped, as on X11: that
//! costs one call a row, and nothing unsafe.
use super::State;
use super::damage::Damage;
use super::globals::Globals;
use medley_wire::Size;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wayland_client::protocol::wl_buffer::{self, WlBuffer};
use wayland_client::protocol::wl_shm::Format;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, QueueHandle};

/// Pixels for the compositor: four bytes for each, rows without gaps.
pub(super) struct Buffer {
    file: File,
    buffer: WlBuffer,
    size: (u16, u16),
    /// The compositor may read it: nobody writes to it now.
    held: Arc<AtomicBool>,
    /// What of its window it does not show yet.
    pub owes: Damage,
}

impl Buffer {
    /// A buffer of zeros.
    pub fn new(
        globals: &Globals,
        qh: &QueueHandle<State>,
        (width, height): (u16, u16),
        format: Format,
    ) -> io::Result<Self> {
        let bytes = u64::from(width) * u64::from(height) * 4;
        let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
        let length = i32::try_from(bytes).map_err(|_| too_large())?;
        let file = File::from(memfd_create(c"medley-pixels", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(bytes)?;
        let pool = globals.shm.create_pool(file.as_fd(), length, qh, ());
        let held = Arc::new(AtomicBool::new(false));
        let (wide, high) = (i32::from(width), i32::from(height));
        let buffer = pool.create_buffer(0, wide, high, wide * 4, format, qh, Arc::clone(&held));
        // The buffer keeps its memory.
        pool.destroy();
        Ok(Self {
            file,
            buffer,
            size: (width, height),
            held,
            owes: Damage::default(),
        })
    }

    /// A buffer that shows these pixels.
    pub fn filled(
        globals: &Globals,
        qh: &QueueHandle<State>,
        size: (u16, u16),
        format: Format,
        pixels: &[u8],
    ) -> io::Result<Self> {
        let buffer = Self::new(globals, qh, size, format)?;
        buffer.file.write_all_at(pixels, 0)?;
        Ok(buffer)
    }

    pub const fn size(&self) -> (u16, u16) {
        self.size
    }

    /// All of the guest's part of it is to be painted.
    pub fn owes_all(&mut self, inner: Size) {
        self.owes.all(inner);
    }

    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Writes pixels of one row.
    pub fn row(&self, x: u16, y: usize, pixels: &[u8]) -> io::Result<()> {
        let start = (y * usize::from(self.size.0) + usize::from(x)) * 4;
        self.file.write_all_at(pixels, start as u64)
    }

    /// Shows it on a surface, once that is committed.
    pub fn attach(&self, surface: &WlSurface) {
        surface.attach(Some(&self.buffer), 0, 0);
        self.held.store(true, Ordering::Relaxed);
    }

    pub const fn get(&self) -> &WlBuffer {
        &self.buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.buffer.destroy();
    }
}

impl Dispatch<WlBuffer, Arc<AtomicBool>> for State {
    fn event(
        _: &mut Self,
        _: &WlBuffer,
        event: wl_buffer::Event,
        held: &Arc<AtomicBool>,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_buffer::Event::Release = event {
            held.store(false, Ordering::Relaxed);
        }
    }
}
