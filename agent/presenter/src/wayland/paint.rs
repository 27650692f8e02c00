//! Pixels into buffers. A new buffer is filled with the ring's pattern from corner to corner; the guest's pixels are
//! written to [`Inside`] places only, so that what is left of the pattern is the ring.
//!
//! Two buffers of a window take turns. Each knows what the other has shown since, and nothing is committed before
//! the compositor wants more of the window.
use super::buffer::Buffer;
use super::letters::{self, Letters};
use super::window::Host;
use super::{Name, State};
use crate::canvas::Canvas;
use crate::frame::{Frame, Inside, Look, TILE};
use crate::model::Model;
use crate::screen::Dress;
use crate::watermark::Watermark;
use medley_wire::window::Seen;
use medley_wire::{GuestRect, Rect, Untrusted};
use std::io;
use std::time::{Duration, Instant};
use wayland_client::protocol::wl_shm::Format;

/// How long a compositor may not want more of a window before it counts as covered: several of its frames.
pub(super) const COVERED: Duration = Duration::from_millis(150);

/// Buffers of a window: one is shown while the other is painted.
const BUFFERS: usize = 2;

/// Buffers of sizes that are no more, which the compositor still holds: a few, and one for each window. A guest can
/// change sizes faster than a compositor lets go of them.
const RETIRED: usize = 8;

/// What is painted with.
pub(super) struct Painter {
    frame: Frame,
    look: Look,
    workspace: String,
    watermark: Option<Watermark>,
    room: Vec<u8>,
}

impl Painter {
    pub fn new(dress: &Dress) -> Self {
        let watermark = dress.watermark.as_deref().map(|words| {
            let letters = Letters::of(words);
            Watermark::new(letters.width, letters.height, letters.bits)
        });
        Self {
            frame: dress.frame,
            look: dress.look,
            workspace: dress.workspace.clone(),
            watermark,
            room: Vec::new(),
        }
    }

    /// Fills a buffer with the ring's pattern, and writes the caption if there is one.
    fn ring(&self, buffer: &Buffer) -> io::Result<()> {
        let (width, height) = buffer.size();
        let rows: Vec<Vec<u8>> = (0..TILE)
            .map(|y| {
                let pixels = (0..width).flat_map(|x| self.look.at(x, y).pixel().to_le_bytes());
                pixels.collect()
            })
            .collect();
        let tiles = rows.concat();
        let mut y = 0;
        while y < height {
            let count = TILE.min(height - y);
            let bytes = usize::from(count) * usize::from(width) * 4;
            buffer.row(0, y.into(), &tiles[..bytes])?;
            y += count;
        }
        self.caption(buffer)
    }

    fn caption(&self, buffer: &Buffer) -> io::Result<()> {
        let (border, strip) = (self.frame.border(), self.frame.caption());
        let room = usize::from(buffer.size().0.saturating_sub(2 * border + 8));
        let text: String = self.workspace.chars().take(letters::fit(room)).collect();
        let letters = Letters::of(&text);
        let above = usize::from(strip).checked_sub(letters.height);
        let (Some(above), false) = (above, text.is_empty()) else {
            return Ok(());
        };
        let colour = self.look.colour();
        let ink = if colour.is_light() { 0 } else { 0x00ff_ffff };
        let top = usize::from(border) + above / 2;
        for (n, row) in letters.rows(ink, colour.pixel()).enumerate() {
            buffer.row(border + 4, top + n, &row)?;
        }
        Ok(())
    }

    /// Copies what a canvas has to a place inside of the ring.
    fn copy(&mut self, buffer: &Buffer, place: Inside, canvas: &Canvas) -> io::Result<()> {
        let rows = canvas.rows(place.source());
        let top = usize::from(place.y());
        let Some(watermark) = &self.watermark else {
            for (n, row) in rows.enumerate() {
                buffer.row(place.x(), top + n, row)?;
            }
            return Ok(());
        };
        self.room.clear();
        rows.for_each(|row| self.room.extend_from_slice(row));
        watermark.over(&mut self.room, place.source());
        let width = place.source().size().width() as usize * 4;
        for (n, row) in self.room.chunks_exact(width).enumerate() {
            buffer.row(place.x(), top + n, row)?;
        }
        Ok(())
    }

    /// Where a rectangle of the guest's goes, if any of it is in the window as it is now and in its canvas.
    fn place(&self, rect: GuestRect, host: &Host, canvas: &Canvas) -> Option<Inside> {
        let within = Untrusted::claim(rect.get()).clip(Rect::whole(canvas.size()))?;
        self.frame.place(within, host.inner())
    }

    /// Paints all that a buffer does not show yet.
    fn catch_up(&mut self, buffer: &mut Buffer, host: &Host, canvas: &Canvas) -> io::Result<()> {
        let owes = std::mem::take(&mut buffer.owes);
        for rect in owes.rects() {
            if let Some(place) = self.place(*rect, host, canvas) {
                self.copy(buffer, place, canvas)?;
            }
        }
        if self.room.capacity() > 4 << 20 {
            self.room = Vec::new();
        }
        Ok(())
    }
}

impl State {
    /// Paints what may be painted. Tells whether nothing waits for the compositor that somebody sees.
    pub(super) fn paint(&mut self, model: &Model) -> bool {
        self.retired.retain(Buffer::is_held);
        let mut done = true;
        let names: Vec<_> = self.hosts.keys().copied().collect();
        for name in names {
            done &= match name {
                Name::Window(window) => model
                    .canvas(window)
                    .is_none_or(|canvas| self.paint_one(name, canvas)),
                Name::Card => {
                    let card = self.card.take();
                    let painted = card
                        .as_ref()
                        .is_none_or(|card| self.paint_one(name, card.canvas()));
                    self.card = card;
                    painted
                }
            };
        }
        // What was painted first can be stood on from now on.
        self.unpark();
        done
    }

    fn paint_one(&mut self, name: Name, canvas: &Canvas) -> bool {
        let Some(mut host) = self.hosts.remove(&name) else {
            return true;
        };
        let painted = self.show_frame(name, &mut host, canvas);
        if let Err(error) = &painted {
            tracing::warn!(%error, "the system has no memory for a window's pixels");
            host.damage.clear();
        }
        let fresh = !std::mem::replace(&mut host.mapped, !host.buffers.is_empty());
        let token = host.token.take_if(|_| host.mapped);
        self.hosts.insert(name, host);
        if fresh && let Some(token) = token {
            self.activate(name, token);
        }
        painted.unwrap_or(true)
    }

    /// Puts what a window has on the screen, if the compositor wants it. Tells whether nothing waits.
    fn show_frame(&mut self, name: Name, host: &mut Host, canvas: &Canvas) -> io::Result<bool> {
        let due = host.must || !host.damage.is_empty();
        if !host.configured || !due {
            return Ok(true);
        }
        if host.awaits.is_some() && !host.must {
            return Ok(host.covered);
        }
        let (size, inner) = (self.dress.frame.outer(host.inner()), host.inner());
        let fits = host.buffers.iter().any(|buffer| buffer.size() == size);
        if !fits && self.retired.len() > RETIRED + self.hosts.len() {
            // One comes back.
            return Ok(host.covered);
        }
        let other = |buffer: &mut Buffer| buffer.size() != size;
        let old = host.buffers.extract_if(.., other);
        self.retired.extend(old.filter(Buffer::is_held));
        for buffer in &mut host.buffers {
            buffer.owes.join(&host.damage, inner);
        }
        let free = host.buffers.iter().position(|buffer| !buffer.is_held());
        let at = match free {
            Some(at) => at,
            None if host.buffers.len() < BUFFERS => {
                let mut buffer = Buffer::new(&self.globals, &self.qh, size, Format::Xrgb8888)?;
                self.painter.ring(&buffer)?;
                buffer.owes_all(inner);
                // Of a size that nobody has seen yet.
                if host.buffers.is_empty() {
                    host.renew();
                }
                host.buffers.push(buffer);
                host.buffers.len() - 1
            }
            // Both are the compositor's: one comes back.
            None => return Ok(host.covered),
        };
        let mut buffer = host.buffers.remove(at);
        let painted = self.painter.catch_up(&mut buffer, host, canvas);
        if painted.is_ok() {
            buffer.attach(&host.surface);
        }
        host.buffers.insert(at, buffer);
        painted?;
        self.commit(name, host, canvas, size);
        Ok(true)
    }

    fn commit(&self, name: Name, host: &mut Host, canvas: &Canvas, (width, height): (u16, u16)) {
        let surface = &host.surface;
        let (width, height) = (i32::from(width), i32::from(height));
        if let Some(serial) = host.acknowledges.take() {
            host.xdg.ack_configure(serial);
        }
        // A window's geometry is the whole surface unless something else is said. Saying so would end the connection where
        // the compositor has just taken a menu away: to some, its surface is no window any more.
        if std::mem::take(&mut host.must) {
            surface.damage_buffer(0, 0, width, height);
        } else {
            for rect in host.damage.rects() {
                if let Some(place) = self.painter.place(*rect, host, canvas) {
                    let size = place.source().size();
                    let [across, down] =
                        [size.width(), size.height()].map(|n| i32::try_from(n).unwrap_or(i32::MAX));
                    surface.damage_buffer(place.x().into(), place.y().into(), across, down);
                }
            }
        }
        host.damage.clear();
        let callback = surface.frame(&self.qh, name);
        host.awaits = Some((callback, Instant::now()));
        surface.commit();
    }

    /// What is due by the clock: keys that repeat, windows that nobody sees.
    pub(super) fn tick(&mut self, now: Instant) {
        self.repeat(now);
        let late = |host: &Host| host.patience().is_some_and(|at| at <= now);
        let late = self.hosts.iter().filter(|(_, host)| late(host));
        let late: Vec<_> = late.map(|(name, _)| *name).collect();
        for name in late {
            if let Some(host) = self.hosts.get_mut(&name) {
                host.covered = true;
            }
            self.seen(name, Seen::Covered);
        }
    }
}
