//! From damage to frames. The server gathers what changed and says only how the box around it grows; the agent
//! fetches it when the host has room for a frame. So a window that repaints a thousand times between two frames costs
//! one frame, and one that nobody sees costs nothing.
use super::Gui;
use super::client::{Client, Frames};
use super::grabber::Grabber;
use super::packing::Packer;
use super::pieces::{bands, merged};
use super::slots::Slots;
use crate::display::{Display, gone};
use anyhow::Result;
use medley_link::Pool;
use medley_wire::limits::FRAMES_PER_WINDOW;
use medley_wire::pixels::{Buffer, Format, Patch};
use medley_wire::window::Seen;
use medley_wire::{Features, List, Rect, Size, Untrusted, WindowId, gui};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use x11rb::NONE;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt, Rectangle};
use x11rb::protocol::{composite, damage, xfixes};

/// Bytes in the channel's queue beyond which nothing more is captured: it would be old when it arrives.
const QUEUED: usize = 8 << 20;

/// After a window was mapped or resized, how long its app has to paint before the first frame: what is sent
/// earlier shows an empty background for a moment.
pub const PAINTING: Duration = Duration::from_millis(8);

/// How far a window's frames may be ahead of its rate, so that the second of two quick changes, as of a key and
/// of the cursor behind it, does not wait for a whole interval.
const AHEAD: Duration = Duration::from_millis(50);

/// Bytes of a box of which all is taken into shared memory, whatever of it has changed: a letter and a cursor, or a line
/// of text. To ask what exactly it was would cost more time than its pixels. In the stream their bytes count, too.
const SMALL: usize = 16 << 10;

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
    grabber: Grabber,
    region: u32,
    shared: Option<Shared>,
    sent: VecDeque<Sent>,
    frames: u64,
    packer: Packer,
}

impl Capture {
    /// Shares memory with the X server, and with the host if there is a pool.
    ///
    /// # Errors
    /// The X server cannot map the agent's memory: it runs elsewhere.
    pub fn new(display: &Display, pool: Option<Pool>) -> Result<Self> {
        let region = display.x.generate_id()?;
        xfixes::create_region(&display.x, region, &[])?;
        let grabber = Grabber::new(display, pool.as_ref())?;
        let shared = pool.map(|pool| Shared {
            slots: Slots::new(pool.len()),
            places: HashMap::new(),
            pool,
        });
        Ok(Self {
            grabber,
            region,
            shared,
            sent: VecDeque::new(),
            frames: 0,
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
        let near = client.frames.near.take();
        let shares = self.shared.is_some() && say.have(Features::SHARED_PIXELS);
        let rects = if std::mem::take(&mut client.frames.whole) {
            damage::subtract(&display.x, damage, NONE, NONE)?;
            vec![client.whole()]
        } else if let Some(near) = near.filter(|near| shares && bytes(near) <= SMALL) {
            damage::subtract(&display.x, damage, NONE, NONE)?;
            merged(client.past_border(near), client.whole())
        } else {
            damage::subtract(&display.x, damage, NONE, self.region)?;
            let region = gone(xfixes::fetch_region(&display.x, self.region)?.reply())?;
            let changed = region.map_or_else(Vec::new, |region| region.rectangles);
            let changed = changed.into_iter();
            merged(
                changed.filter_map(|rect| client.past_border(rect)),
                client.whole(),
            )
        };
        let pieces: Vec<Rect> = rects.iter().copied().flat_map(bands).collect();
        if pieces.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let waited = changed.map_or(Duration::ZERO, |since| begun.duration_since(since));
        let frame = client.frames.next;
        let pixmap = client.pixmap(display)?;
        let sink = self.place(client, format, say);
        // Whole rows lie in the window's place as the server gives them.
        let rows = |place: &Place| pieces.iter().all(|p| p.size().width() == place.width);
        let there = match sink.filter(rows) {
            Some(place) => {
                let start = place.offset;
                self.grabber
                    .grab_for_host(display, pixmap, &pieces, start)?
            }
            None => None,
        };
        let given = match there {
            Some(given) => given,
            None => self.grabber.grab(display, pixmap, &pieces)?,
        };
        if !given {
            // The window changed its size or went. If it is still there, everything is due again.
            client.frames.whole = true;
            client.frames.changed = changed;
            client.frames.refused += 1;
            client.frames.not_before = Some(begun + PAINTING * (1 << client.frames.refused.min(7)));
            client.forget_pixmap(display)?;
            return Ok(());
        }
        client.frames.refused = 0;
        if there.is_none() {
            let took = [micros(waited), micros(begun.elapsed())];
            self.hand_over(client, &pieces, sink, took, say)?;
        }
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
        let interval = Duration::from_secs(1) / rate.into();
        // On schedule, or on a new one where the old has long passed; some frames may be ahead of it.
        let schedule = client.frames.schedule.map_or(begun, |at| at.max(begun)) + interval;
        client.frames.schedule = Some(schedule);
        client.frames.not_before = schedule.checked_sub(interval.max(AHEAD));
        self.sent.push_back(Sent {
            window: client.id,
            frame,
            order: self.frames,
        });
        self.frames += 1;
        self.packer.rest();
        self.grabber.rest();
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

    /// Says the pieces that were grabbed, or puts them where the host will look.
    fn hand_over(
        &mut self,
        client: &Client,
        pieces: &[Rect],
        sink: Option<Place>,
        took: [u32; 2],
        say: &mut Gui<'_>,
    ) -> Result<()> {
        let mut rest = self.grabber.pixels();
        for (index, piece) in pieces.iter().enumerate() {
            let Some((pixels, others)) = rest.split_at_checked(piece.size().bytes()) else {
                break;
            };
            rest = others;
            match (sink, &self.shared) {
                (Some(place), Some(shared)) => write_rows(&shared.pool, place, *piece, pixels)?,
                _ => say.say(gui::Pixels {
                    window: client.id,
                    frame: client.frames.next,
                    took,
                    last: index + 1 == pieces.len(),
                    patch: Untrusted::claim(Patch {
                        rect: *piece,
                        format: client.format.unwrap_or(Format::Xrgb),
                        payload: self.packer.pack(pixels, say.have(Features::LZ4)),
                    }),
                }),
            }
        }
        Ok(())
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

fn bytes(rect: &Rectangle) -> usize {
    usize::from(rect.width) * usize::from(rect.height) * 4
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
            let level = damage::ReportLevel::BOUNDING_BOX;
            damage::create(&display.x, damage, self.xid, level)?;
            self.damage = Some(damage);
        }
        Ok(())
    }

    /// A rectangle of the server, who counts from inside the border; none, if it has no pixel.
    fn past_border(&self, rect: Rectangle) -> Option<Rect> {
        let border = self.border.cast_signed();
        let size = Size::new(rect.width.into(), rect.height.into())?;
        Rect::new(i32::from(rect.x) + border, i32::from(rect.y) + border, size)
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
