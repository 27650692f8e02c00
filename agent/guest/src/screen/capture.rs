//! From damage to frames. The server gathers what changed and says only that something did; the agent fetches
//! it when the host has room for a frame. So a window that repaints a thousand times between two frames costs
//! one frame, and one that nobody sees costs nothing.
use super::Gui;
use super::client::{Client, Frames};
use super::packing::Packer;
use super::pieces::{bands, merged};
use super::slots::Slots;
use crate::display::{Display, gone};
use anyhow::{Context, Result};
use medley_link::Pool;
use medley_wire::limits::{FRAMES_PER_WINDOW, PIXEL_BYTES};
use medley_wire::pixels::{Buffer, Format, Patch};
use medley_wire::window::Seen;
use medley_wire::{Features, List, Rect, Untrusted, WindowId, gui};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use x11rb::NONE;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt, ImageFormat};
use x11rb::protocol::{composite, damage, shm, xfixes};

/// Bytes of the memory through which the X server hands pixels over: one patch's worth.
const SEGMENT: usize = PIXEL_BYTES;

/// Bytes in the channel's queue beyond which nothing more is captured: it would be old when it arrives.
const QUEUED: usize = 8 << 20;

/// After a window was mapped or resized, how long its app has to paint before the first frame: what is sent
/// earlier shows an empty background for a moment.
pub const PAINTING: Duration = Duration::from_millis(8);

/// When a window's next frame is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now,
    /// At that time.
    At(Instant),
    /// When the host says something.
    Later,
}

/// Whether enough waits in the channel already.
pub fn is_full(say: &Gui<'_>) -> bool {
    say.queued() > QUEUED
}

/// A frame that the host has not dealt with.
#[derive(Debug)]
struct Sent {
    window: WindowId,
    frame: u32,
    /// Its number among all frames of the guest.
    order: u64,
}

/// A window's place in the shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    offset: usize,
    width: u32,
    height: u32,
    format: Format,
}

#[derive(Debug)]
struct Shared {
    pool: Pool,
    slots: Slots,
    places: HashMap<WindowId, Place>,
}

/// Fetches pixels and sends them.
#[derive(Debug)]
pub struct Capture {
    segment: u32,
    file: File,
    region: u32,
    shared: Option<Shared>,
    sent: VecDeque<Sent>,
    frames: u64,
    pixels: Vec<u8>,
    packer: Packer,
}

impl Capture {
    /// Shares memory with the X server, and with the host if there is a pool.
    ///
    /// # Errors
    /// The X server cannot map the agent's memory: it runs elsewhere.
    pub fn new(display: &Display, pool: Option<Pool>) -> Result<Self> {
        let memory = memfd_create(c"medley-pixels", MFdFlags::MFD_CLOEXEC)
            .context("cannot make memory to share with the X server")?;
        let file = File::from(memory);
        file.set_len(SEGMENT as u64)?;
        let segment = display.x.generate_id()?;
        shm::attach_fd(&display.x, segment, file.try_clone()?, false)?
            .check()
            .context(
                "the X server cannot map the agent's memory; it must run on the same machine",
            )?;
        let region = display.x.generate_id()?;
        xfixes::create_region(&display.x, region, &[])?;
        let shared = pool.map(|pool| Shared {
            slots: Slots::new(pool.len()),
            places: HashMap::new(),
            pool,
        });
        Ok(Self {
            segment,
            file,
            region,
            shared,
            sent: VecDeque::new(),
            frames: 0,
            pixels: Vec::new(),
            packer: Packer::default(),
        })
    }

    /// Whether the host can share memory with us.
    #[must_use]
    pub const fn has_pool(&self) -> bool {
        self.shared.is_some()
    }

    /// Frames that the host has not dealt with.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.sent.len()
    }

    /// The host knows nothing any more.
    pub fn forget(&mut self) {
        self.sent.clear();
        if let Some(shared) = &mut self.shared {
            shared.places.clear();
            shared.slots = Slots::new(shared.pool.len());
        }
    }

    /// The host has dealt with a frame, and with those of the window before it.
    pub fn done(&mut self, window: WindowId, frame: u32) {
        // Numbers may wrap: a frame is earlier if it is less than half the range away.
        self.sent.retain(|sent| {
            sent.window != window || frame.wrapping_sub(sent.frame).cast_signed() < 0
        });
        self.settle();
    }

    /// A window is gone or not shown: its place in shared memory can be used again. `gone`: the host deals
    /// with no frame of it any more.
    pub fn release(&mut self, window: WindowId, gone: bool) {
        if gone {
            self.sent.retain(|sent| sent.window != window);
        }
        if let Some(shared) = &mut self.shared
            && let Some(place) = shared.places.remove(&window)
        {
            shared.slots.retire(place.offset, self.frames);
        }
        self.settle();
    }

    fn settle(&mut self) {
        let done = self.sent.front().map_or(self.frames, |sent| sent.order);
        if let Some(shared) = &mut self.shared {
            shared.slots.settle(done);
        }
    }

    /// When the window's next frame is due. `rate`: the most frames in a second of any window.
    pub fn due(&self, client: &Client, rate: u16, now: Instant) -> Due {
        let Frames {
            changed,
            not_before,
            seen,
            ..
        } = client.frames;
        let own = self.sent.iter().filter(|s| s.window == client.id).count();
        let shown = client.mapped && client.told && client.damage.is_some();
        if !shown
            || changed.is_none()
            || client.format.is_none()
            || seen != Seen::Visible
            || own >= FRAMES_PER_WINDOW as usize
            || rate == 0
            || client.frames.rate == 0
        {
            return Due::Later;
        }
        match not_before {
            Some(at) if at > now => Due::At(at),
            _ => Due::Now,
        }
    }

    /// Fetches what changed of a window, and sends it.
    ///
    /// # Errors
    /// The display is gone. A window that is gone or was resized meanwhile sends nothing: more will follow.
    pub fn send(
        &mut self,
        display: &Display,
        client: &mut Client,
        rate: u16,
        say: &mut Gui<'_>,
    ) -> Result<()> {
        let (Some(damage), Some(format)) = (client.damage, client.format) else {
            return Ok(());
        };
        let changed = client.frames.changed.take();
        damage::subtract(&display.x, damage, NONE, self.region)?;
        let region = gone(xfixes::fetch_region(&display.x, self.region)?.reply())?;
        let border = client.border.cast_signed();
        let rects: Vec<Rect> = if std::mem::take(&mut client.frames.whole) {
            vec![client.whole()]
        } else {
            let changed = region.iter().flat_map(|region| &region.rectangles);
            let rects = changed.filter_map(|r| {
                let size = medley_wire::Size::new(r.width.into(), r.height.into())?;
                Rect::new(i32::from(r.x) + border, i32::from(r.y) + border, size)
            });
            merged(rects, client.whole())
        };
        let pieces: Vec<Rect> = rects.iter().copied().flat_map(bands).collect();
        if pieces.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let waited = changed.map_or(Duration::ZERO, |since| begun.duration_since(since));
        let frame = client.frames.next;
        let sink = self.place(client, format, say);
        if !self.fetch(display, client, &pieces, sink, waited, begun, say)? {
            // The window changed its size or went. If it is still there, everything is due again.
            client.frames.whole = true;
            client.frames.changed = changed;
            client.frames.refused += 1;
            client.frames.not_before = Some(begun + PAINTING * (1 << client.frames.refused.min(7)));
            client.forget_pixmap(display)?;
            return Ok(());
        }
        client.frames.refused = 0;
        if sink.is_some() {
            let claimed = rects.iter().copied().map(Untrusted::claim).collect();
            say.say(gui::Damage {
                window: client.id,
                frame,
                took: [micros(waited), micros(begun.elapsed())],
                rects: List::new(claimed),
            });
        }
        client.frames.next = frame.wrapping_add(1);
        let rate = client.frames.rate.min(rate).max(1);
        client.frames.not_before = Some(begun + Duration::from_secs(1) / rate.into());
        self.sent.push_back(Sent {
            window: client.id,
            frame,
            order: self.frames,
        });
        self.frames += 1;
        self.packer.rest();
        self.pixels.shrink_to(1 << 20);
        Ok(())
    }

    /// Where the window's pixels go in shared memory; told to the host when that is new. Nothing, if they go
    /// into the stream.
    fn place(&mut self, client: &mut Client, format: Format, say: &mut Gui<'_>) -> Option<Place> {
        let shared = self.shared.as_mut()?;
        if !say.have(Features::SHARED_PIXELS) {
            return None;
        }
        let size = client.area.size();
        let (width, height) = (size.width(), size.height());
        let old = shared.places.get(&client.id).copied();
        if let Some(place) = old
            && (place.width, place.height, place.format) == (width, height, format)
        {
            return Some(place);
        }
        if let Some(place) = shared.places.remove(&client.id) {
            shared.slots.retire(place.offset, self.frames);
            let done = self.sent.front().map_or(self.frames, |sent| sent.order);
            shared.slots.settle(done);
        }
        let offset = shared.slots.take(size.bytes())?;
        let place = Place {
            offset,
            width,
            height,
            format,
        };
        shared.places.insert(client.id, place);
        say.say(gui::Attach {
            window: client.id,
            buffer: Untrusted::claim(Buffer {
                offset: offset as u64,
                stride: width * 4,
                size,
                format,
            }),
        });
        Some(place)
    }

    /// Fetches pieces, as many at a time as the segment holds, and puts each where it goes. False, if the
    /// server would not give one.
    #[allow(
        clippy::too_many_arguments,
        reason = "one call, split off for its length"
    )]
    fn fetch(
        &mut self,
        display: &Display,
        client: &mut Client,
        pieces: &[Rect],
        sink: Option<Place>,
        waited: Duration,
        begun: Instant,
        say: &mut Gui<'_>,
    ) -> Result<bool> {
        let pixmap = client.pixmap(display)?;
        let mut rest = pieces;
        while !rest.is_empty() {
            let (mut used, mut asked) = (0, Vec::new());
            while let Some((piece, others)) = rest.split_first() {
                let bytes = piece.size().bytes();
                if used + bytes > SEGMENT {
                    break;
                }
                let cookie = shm::get_image(
                    &display.x,
                    pixmap,
                    piece.x() as i16,
                    piece.y() as i16,
                    piece.size().width() as u16,
                    piece.size().height() as u16,
                    !0,
                    ImageFormat::Z_PIXMAP.into(),
                    self.segment,
                    used as u32,
                )?;
                asked.push((*piece, used, cookie));
                used += bytes;
                rest = others;
            }
            if asked.is_empty() {
                return Ok(false);
            }
            let mut given = true;
            let mut got = Vec::with_capacity(asked.len());
            for (piece, at, cookie) in asked {
                match gone(cookie.reply())? {
                    Some(reply) if reply.size as usize == piece.size().bytes() => {
                        got.push((piece, at));
                    }
                    _ => given = false,
                }
            }
            if !given {
                return Ok(false);
            }
            self.pixels.resize(used, 0);
            self.file
                .read_exact_at(&mut self.pixels, 0)
                .context("cannot read the memory shared with the X server")?;
            for (index, (piece, at)) in got.iter().enumerate() {
                let pixels = &self.pixels[*at..*at + piece.size().bytes()];
                match (sink, &self.shared) {
                    (Some(place), Some(shared)) => write_rows(&shared.pool, place, *piece, pixels)?,
                    _ => say.say(gui::Pixels {
                        window: client.id,
                        frame: client.frames.next,
                        took: [micros(waited), micros(begun.elapsed())],
                        last: rest.is_empty() && index + 1 == got.len(),
                        patch: Untrusted::claim(Patch {
                            rect: *piece,
                            format: client.format.unwrap_or(Format::Xrgb),
                            payload: self.packer.pack(pixels, say.have(Features::LZ4)),
                        }),
                    }),
                }
            }
        }
        Ok(true)
    }
}

fn write_rows(pool: &Pool, place: Place, piece: Rect, pixels: &[u8]) -> Result<()> {
    let stride = place.width as usize * 4;
    let (x, y) = (piece.x().unsigned_abs(), piece.y().unsigned_abs());
    let mut at = place.offset + y as usize * stride + x as usize * 4;
    if piece.size().width() == place.width {
        return Ok(pool.write(at, pixels)?);
    }
    for row in pixels.chunks_exact(piece.size().width() as usize * 4) {
        pool.write(at, row)?;
        at += stride;
    }
    Ok(())
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

impl Client {
    /// Begins to follow what changes in the window.
    ///
    /// # Errors
    /// The display is gone.
    pub(super) fn watch(&mut self, display: &Display) -> Result<()> {
        if self.damage.is_none() && self.format.is_some() {
            let damage = display.x.generate_id()?;
            damage::create(&display.x, damage, self.xid, damage::ReportLevel::NON_EMPTY)?;
            self.damage = Some(damage);
        }
        Ok(())
    }

    /// The server's name for the window's pixels: of the window itself, the server gives only what lies on the
    /// screen. It is of the size that the window has now.
    fn pixmap(&mut self, display: &Display) -> Result<u32> {
        if let Some(pixmap) = self.pixmap {
            return Ok(pixmap);
        }
        let pixmap = display.x.generate_id()?;
        composite::name_window_pixmap(&display.x, self.xid, pixmap)?;
        self.pixmap = Some(pixmap);
        Ok(pixmap)
    }

    /// The window has other pixels than those that the name is for.
    ///
    /// # Errors
    /// The display is gone.
    pub(super) fn forget_pixmap(&mut self, display: &Display) -> Result<()> {
        if let Some(pixmap) = self.pixmap.take() {
            display.x.free_pixmap(pixmap)?;
        }
        Ok(())
    }

    /// No longer follows it.
    ///
    /// # Errors
    /// The display is gone.
    pub(super) fn unwatch(&mut self, display: &Display) -> Result<()> {
        self.forget_pixmap(display)?;
        if let Some(damage) = self.damage.take() {
            damage::destroy(&display.x, damage)?;
        }
        Ok(())
    }
}
