//! Pixels out of the X server, through memory that both share; or, where the host shares memory with the guest and
//! rows lie there as the server writes them, right into that. All pieces of a frame are had before the host hears of
//! the first: a window may change its size between two of them, and half a frame is none.
use crate::display::{Display, gone};
use anyhow::{Context, Result};
use medley_link::Pool;
use medley_wire::Rect;
use medley_wire::limits::PIXEL_BYTES;
use medley_x11::Conn;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::unix::fs::FileExt;
use x11rb::connection::Connection;
use x11rb::cookie::Cookie;
use x11rb::errors::{ConnectionError, ReplyError};
use x11rb::protocol::shm::{self, GetImageReply};
use x11rb::protocol::xproto::ImageFormat;

/// Bytes of the shared memory: the largest piece there is.
const SEGMENT: usize = PIXEL_BYTES;

/// Bytes that are kept between frames: a window of 1280 by 800. New memory is dear, for the kernel clears it.
const KEPT: usize = 4 << 20;

/// Grabs pixels.
#[derive(Debug)]
pub struct Grabber {
    segment: u32,
    /// The same of the memory that the host shares, if the server can write there.
    pool: Option<u32>,
    file: File,
    /// Room; only the front of it is of the last frame.
    pixels: Vec<u8>,
    grabbed: usize,
}

impl Grabber {
    /// Shares memory with the X server.
    ///
    /// # Errors
    /// The X server cannot map the agent's memory: it runs elsewhere.
    pub fn new(display: &Display, pool: Option<&Pool>) -> Result<Self> {
        let memory = memfd_create(c"medley-pixels", MFdFlags::MFD_CLOEXEC)
            .context("cannot make memory to share with the X server")?;
        let file = File::from(memory);
        file.set_len(SEGMENT as u64)?;
        let segment = attach(display, &file)?.context(
            "the X server cannot map the agent's memory; it must run on the same machine",
        )?;
        let pool = match pool.and_then(Pool::file) {
            Some(file) => attach(display, file)?
                .inspect_err(|error| tracing::info!(%error, "pixels for the host are copied"))
                .ok(),
            None => None,
        };
        Ok(Self {
            segment,
            pool,
            file,
            pixels: Vec::new(),
            grabbed: 0,
        })
    }

    /// Grabs pieces of a pixmap, none larger than a patch may be. False, if the server does not give them all.
    ///
    /// # Errors
    /// The display is gone.
    pub fn grab(&mut self, display: &Display, pixmap: u32, pieces: &[Rect]) -> Result<bool> {
        self.grabbed = 0;
        let mut rest = pieces;
        while !rest.is_empty() {
            let (mut used, mut asked) = (0, Vec::new());
            while let Some((piece, others)) = rest.split_first() {
                let bytes = piece.size().bytes();
                if used + bytes > SEGMENT {
                    break;
                }
                let cookie = ask(display, pixmap, *piece, self.segment, used)?;
                asked.push((bytes, cookie));
                used += bytes;
                rest = others;
            }
            if asked.is_empty() || !all_given(asked)? {
                return Ok(false);
            }
            let (start, end) = (self.grabbed, self.grabbed + used);
            if self.pixels.len() < end {
                self.pixels.resize(end, 0);
            }
            self.file
                .read_exact_at(&mut self.pixels[start..end], 0)
                .context("cannot read the memory shared with the X server")?;
            self.grabbed = end;
        }
        Ok(true)
    }

    /// Has the server write pieces of a pixmap into the memory that the host shares, from `start` on, where a row is as
    /// long as one of the pieces. False, if the server does not give them all; nothing, if it cannot write there.
    ///
    /// # Errors
    /// The display is gone.
    pub fn grab_for_host(
        &self,
        display: &Display,
        pixmap: u32,
        pieces: &[Rect],
        start: usize,
    ) -> Result<Option<bool>> {
        let Some(pool) = self.pool else {
            return Ok(None);
        };
        let mut asked = Vec::new();
        for piece in pieces {
            let above = piece.y().unsigned_abs() as usize * piece.size().width() as usize * 4;
            let cookie = ask(display, pixmap, *piece, pool, start + above)?;
            asked.push((piece.size().bytes(), cookie));
        }
        all_given(asked).map(Some)
    }

    /// What was grabbed: the pieces' pixels, one after the other.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels[..self.grabbed]
    }

    /// Gives back what a large window needed.
    pub fn rest(&mut self) {
        self.grabbed = 0;
        self.pixels.truncate(KEPT);
        self.pixels.shrink_to(KEPT);
    }
}

type Asked<'c> = Cookie<'c, Conn, GetImageReply>;

/// Lets the server map a file; what it says if it cannot.
fn attach(display: &Display, file: &File) -> Result<Result<u32, ReplyError>> {
    let segment = display.x.generate_id()?;
    let attached = shm::attach_fd(&display.x, segment, file.try_clone()?, false)?.check();
    Ok(attached.map(|()| segment))
}

fn ask(
    display: &Display,
    pixmap: u32,
    piece: Rect,
    segment: u32,
    offset: usize,
) -> Result<Asked<'_>, ConnectionError> {
    shm::get_image(
        &display.x,
        pixmap,
        piece.x() as i16,
        piece.y() as i16,
        piece.size().width() as u16,
        piece.size().height() as u16,
        !0,
        ImageFormat::Z_PIXMAP.into(),
        segment,
        offset as u32,
    )
}

/// Takes every answer, also after one that is no good: the next ones would be written to the same memory.
fn all_given(asked: Vec<(usize, Asked<'_>)>) -> Result<bool> {
    let mut given = true;
    for (bytes, cookie) in asked {
        let reply = gone(cookie.reply())?;
        given &= reply.is_some_and(|reply| reply.size as usize == bytes);
    }
    Ok(given)
}
