//! Pixels onto windows. The ring is filled with the host's tile, the guest's pixels are copied to [`Inside`]
//! places only, and the context that copies them cannot draw outside of the ring's inside either.
use super::Display;
use super::segment::{PIECE, Segment};
use super::text::Writer;
use super::window::HostWindow;
use crate::canvas::Canvas;
use crate::error::Result;
use crate::frame::{Frame, Inside, Look, TILE};
use crate::model::Model;
use crate::screen::Dress;
use crate::watermark::Watermark;
use medley_wire::{GuestRect, Rect, Size, Untrusted, WindowId};
use medley_x11::Conn;
use std::collections::BTreeMap;
use x11rb::connection::{Connection, RequestConnection};
use x11rb::protocol::shm::ConnectionExt as _;
use x11rb::protocol::xproto::{
    ClipOrdering, ConnectionExt, CreateGCAux, FillStyle, Gcontext, ImageFormat, Rectangle, Window,
};

/// Rectangles of one window that wait; beyond that, all of it is painted.
const WAITING: usize = 64;

/// Below so many bytes a copy through the socket is cheaper than telling the server where to look.
const SMALL: usize = 8 << 10;

/// What is painted with, and what waits to be.
pub(super) struct Painter {
    frame: Frame,
    depth: u8,
    ring: Gcontext,
    segment: Option<Segment>,
    watermark: Option<Watermark>,
    waiting: BTreeMap<WindowId, Vec<GuestRect>>,
    room: Vec<u8>,
}

impl Painter {
    pub fn open(
        conn: &Conn,
        root: Window,
        depth: u8,
        dress: &Dress,
        writer: Option<&Writer>,
    ) -> Result<Self> {
        let tile = conn.generate_id()?;
        conn.create_pixmap(depth, tile, root, TILE, TILE)?;
        let ring = conn.generate_id()?;
        conn.create_gc(ring, root, &CreateGCAux::new().graphics_exposures(0))?;
        let bytes = tile_bytes(dress.look);
        conn.put_image(
            ImageFormat::Z_PIXMAP,
            tile,
            ring,
            TILE,
            TILE,
            0,
            0,
            0,
            depth,
            &bytes,
        )?;
        conn.free_gc(ring)?;
        let aux = CreateGCAux::new()
            .tile(tile)
            .fill_style(FillStyle::TILED)
            .graphics_exposures(0);
        conn.create_gc(ring, root, &aux)?;
        let watermark = match (&dress.watermark, writer) {
            (Some(text), Some(writer)) => {
                let (width, height, bits) = writer.mask(conn, root, depth, text)?;
                Some(Watermark::new(width, height, bits))
            }
            _ => None,
        };
        Ok(Self {
            frame: dress.frame,
            depth,
            ring,
            segment: Segment::open(conn)?,
            watermark,
            waiting: BTreeMap::new(),
            room: Vec::new(),
        })
    }

    /// A context that draws nowhere but inside of the ring.
    pub fn inside(&self, conn: &Conn, window: Window, inner: Size) -> Result<Gcontext> {
        let gc = conn.generate_id()?;
        conn.create_gc(gc, window, &CreateGCAux::new().graphics_exposures(0))?;
        self.confine(conn, gc, inner)?;
        Ok(gc)
    }

    /// The same context after the window got another size.
    pub fn confine(&self, conn: &Conn, gc: Gcontext, inner: Size) -> Result<()> {
        let (x, y) = self.frame.origin();
        let rect = rectangle((x, y, side(inner.width()), side(inner.height())));
        conn.set_clip_rectangles(ClipOrdering::UNSORTED, gc, 0, 0, &[rect])?;
        Ok(())
    }

    /// Something of a window is to be painted.
    pub fn ask(&mut self, window: WindowId, rect: GuestRect, size: Size) {
        let waiting = self.waiting.entry(window).or_default();
        if waiting.iter().any(|old| old.get().contains(rect.get())) {
            return;
        }
        waiting.retain(|old| !rect.get().contains(old.get()));
        if waiting.len() >= WAITING {
            waiting.clear();
            waiting.extend(whole(size));
        } else {
            waiting.push(rect);
        }
    }

    /// All of a window is to be painted.
    pub fn ask_all(&mut self, window: WindowId, size: Size) {
        self.waiting
            .insert(window, whole(size).into_iter().collect());
    }

    /// Paints a window's ring, and its caption if it has one.
    pub fn ring(
        &self,
        conn: &Conn,
        host: &HostWindow,
        dress: &Dress,
        writer: Option<&Writer>,
    ) -> Result<()> {
        let bars = self.frame.ring(host.inner).map(rectangle);
        conn.poly_fill_rectangle(host.id, self.ring, &bars)?;
        let caption = self.frame.caption();
        if let Some(writer) = writer
            && caption >= writer.height
        {
            let colour = dress.look.colour();
            let ink = if colour.is_light() { 0 } else { 0x00ff_ffff };
            let b = self.frame.border();
            let baseline = b + (caption - writer.height) / 2 + writer.ascent;
            // Only as many letters as fit between the borders: the server would cut the rest at the window.
            let (width, _) = self.frame.outer(host.inner);
            let room = usize::from(width.saturating_sub(2 * b + 8) / writer.width("m").max(1));
            let text: String = dress.workspace.chars().take(room).collect();
            let at = (short(b + 4), short(baseline));
            writer.write(conn, host.id, at, (ink, colour.pixel()), &text)?;
        }
        Ok(())
    }

    /// Paints what waits, and waits for the server: what it has read may be written over.
    pub fn paint(
        &mut self,
        conn: &Conn,
        windows: &BTreeMap<WindowId, HostWindow>,
        model: &Model,
    ) -> Result<()> {
        let mut painted = false;
        for (window, rects) in std::mem::take(&mut self.waiting) {
            let (Some(host), Some(canvas)) = (windows.get(&window), model.canvas(window)) else {
                continue;
            };
            for rect in rects {
                // The window as the server has it may be smaller than the canvas for a moment.
                let within = Untrusted::claim(rect.get()).clip(Rect::whole(canvas.size()));
                let place = within.and_then(|rect| self.frame.place(rect, host.inner));
                if let Some(place) = place {
                    self.copy(conn, host, place, canvas)?;
                    painted = true;
                }
            }
        }
        if painted {
            self.wait(conn)?;
        }
        Ok(())
    }

    fn wait(&mut self, conn: &Conn) -> Result<()> {
        conn.get_input_focus()?.reply()?;
        if let Some(segment) = &mut self.segment {
            segment.read();
        }
        Ok(())
    }

    fn copy(
        &mut self,
        conn: &Conn,
        host: &HostWindow,
        place: Inside,
        canvas: &Canvas,
    ) -> Result<()> {
        let source = place.source();
        let (width, height) = (source.size().width(), source.size().height());
        let row = width as usize * 4;
        // Pieces that the server takes in one request, and that the segment has room for.
        let socket = conn.maximum_request_bytes().saturating_sub(64).min(1 << 20);
        let most = if self.segment.is_some() {
            PIECE
        } else {
            socket
        };
        let rows = u32::try_from((most / row).max(1)).unwrap_or(1);
        let mut done = 0;
        while done < height {
            let count = rows.min(height - done);
            let part = Rect::new(
                source.x(),
                source.y() + done.cast_signed(),
                crate::frame::nearest(width, count),
            );
            let Some(part) = part else { return Ok(()) };
            let at = (short(place.x()), short(place.y()) + done as i16);
            self.piece(conn, host, at, part, canvas)?;
            done += count;
        }
        Ok(())
    }

    fn piece(
        &mut self,
        conn: &Conn,
        host: &HostWindow,
        (x, y): (i16, i16),
        part: Rect,
        canvas: &Canvas,
    ) -> Result<()> {
        let mut room = std::mem::take(&mut self.room);
        let bytes = match (canvas.piece(part), &self.watermark) {
            (Some(piece), None) => piece,
            (_, watermark) => {
                room.clear();
                canvas
                    .rows(part)
                    .for_each(|row| room.extend_from_slice(row));
                if let Some(watermark) = watermark {
                    watermark.over(&mut room, part);
                }
                &room
            }
        };
        let (width, height) = (side(part.size().width()), side(part.size().height()));
        let shared = bytes.len() > SMALL;
        let full = self
            .segment
            .as_ref()
            .is_some_and(|segment| shared && !segment.room(bytes.len()));
        if full {
            conn.get_input_focus()?.reply()?;
            if let Some(segment) = &mut self.segment {
                segment.read();
            }
        }
        let offset = self.segment.as_mut().filter(|_| shared);
        let offset = offset.and_then(|segment| Some((segment.id, segment.put(bytes)?)));
        if let Some((segment, offset)) = offset {
            conn.shm_put_image(
                host.id,
                host.gc,
                width,
                height,
                0,
                0,
                width,
                height,
                x,
                y,
                self.depth,
                ImageFormat::Z_PIXMAP.into(),
                false,
                segment,
                offset,
            )?;
        } else {
            // Without shared memory the rows were counted so that they fit; with it, they are few. Only a
            // system without memory makes this long.
            let row = part.size().width() as usize * 4;
            let most = (conn.maximum_request_bytes().saturating_sub(64) / row).max(1);
            for (n, rows) in bytes.chunks(most * row).enumerate() {
                let down = u16::try_from(rows.len() / row).unwrap_or(u16::MAX);
                let below = y + i16::try_from(n * most).unwrap_or(i16::MAX);
                conn.put_image(
                    ImageFormat::Z_PIXMAP,
                    host.id,
                    host.gc,
                    width,
                    down,
                    x,
                    below,
                    0,
                    self.depth,
                    rows,
                )?;
            }
        }
        if room.capacity() <= 4 << 20 {
            self.room = room;
        }
        Ok(())
    }
}

fn whole(size: Size) -> Option<GuestRect> {
    let all = Rect::whole(size);
    Untrusted::claim(all).clip(all)
}

fn side(n: u32) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

fn short(n: u16) -> i16 {
    i16::try_from(n).unwrap_or(i16::MAX)
}

fn rectangle((x, y, width, height): (u16, u16, u16, u16)) -> Rectangle {
    Rectangle {
        x: short(x),
        y: short(y),
        width,
        height,
    }
}

fn tile_bytes(look: Look) -> Vec<u8> {
    let cells = (0..TILE).flat_map(|y| (0..TILE).map(move |x| (x, y)));
    cells
        .flat_map(|(x, y)| look.at(x, y).pixel().to_le_bytes())
        .collect()
}

impl Display {
    /// A window's ring and pixels are to be painted anew.
    pub(super) fn repaint(&mut self, window: WindowId) {
        self.stale.insert(window);
    }
}
