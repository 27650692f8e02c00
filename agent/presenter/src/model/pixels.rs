//! Frames: into a window's canvas, and acknowledged once they are on the screen. Two of a window and eight of
//! the guest are on their way at most.
use super::window::Frame;
use super::{Action, Model, Violation};
use crate::canvas::Pool;
use medley_wire::gui::{self, Attach, Damage, Pixels};
use medley_wire::limits::{FRAMES_PER_GUEST, FRAMES_PER_WINDOW};
use medley_wire::pixels::Payload;
use medley_wire::{Features, GuestRect, Rect, WindowId};
use std::time::Duration;

/// How often one frame may paint a window over: honest pieces hardly overlap.
const PAINTED_MOST: u64 = 4;
/// Pieces of one frame: each may be a pixel, and none comes alone.
const PIECES_MOST: u32 = 4096;

impl Model {
    /// A frame goes on, or begins if it may.
    fn frame_comes(
        &mut self,
        window: WindowId,
        number: u32,
        now: Duration,
    ) -> Result<(), Violation> {
        let on_their_way: usize = self.windows.values().map(|w| w.frames.len()).sum();
        let w = self.known(window)?;
        if let Some(open) = w.frames.iter().find(|frame| frame.whole.is_none()) {
            return if open.number == number {
                Ok(())
            } else {
                Err(Violation::Mixed(window))
            };
        }
        if w.frames.iter().any(|frame| frame.number == number) {
            return Err(Violation::Mixed(window));
        }
        if w.frames.len() >= FRAMES_PER_WINDOW as usize || on_their_way >= FRAMES_PER_GUEST as usize
        {
            return Err(Violation::Frames(window));
        }
        w.frames.push(Frame {
            number,
            arrived: now,
            whole: None,
            painted: (0, 0),
        });
        Ok(())
    }

    /// Counts what a frame paints: a few bytes can fill a window, and so many could fill it for minutes.
    fn frame_paints(&mut self, window: WindowId, rect: GuestRect) -> Result<(), Violation> {
        let w = self.known(window)?;
        if w.canvas.is_none() {
            return Ok(());
        }
        let most = w.bytes() * PAINTED_MOST;
        let open = w.frames.iter_mut().find(|frame| frame.whole.is_none());
        if let Some(frame) = open {
            frame.painted.0 += rect.get().size().bytes() as u64;
            frame.painted.1 += 1;
            if frame.painted.0 > most || frame.painted.1 > PIECES_MOST {
                return Err(Violation::Painted(window));
            }
        }
        Ok(())
    }

    fn frame_is_whole(&mut self, window: WindowId, now: Duration) {
        if let Some(w) = self.windows.get_mut(&window) {
            for frame in w.frames.iter_mut().filter(|frame| frame.whole.is_none()) {
                frame.whole = Some(now);
            }
        }
    }

    fn paint(&mut self, window: WindowId, rect: GuestRect) {
        if self.is_on_host(window) {
            self.act(Action::Paint { window, rect });
        }
    }

    pub(super) fn attach(&mut self, attach: &Attach, pool: &dyn Pool) -> Result<(), Violation> {
        let window = attach.window;
        let w = self.known(window)?;
        let buffer = attach.buffer.within(pool.bytes());
        w.buffer = Some(buffer.ok_or(Violation::Pool(window))?);
        Ok(())
    }

    pub(super) fn damage(
        &mut self,
        damage: &Damage,
        now: Duration,
        pool: &dyn Pool,
    ) -> Result<(), Violation> {
        let window = damage.window;
        self.frame_comes(window, damage.frame, now)?;
        let w = self.known(window)?;
        let buffer = w.buffer.ok_or(Violation::Pool(window))?;
        let bounds = w.canvas.as_ref().map(|canvas| Rect::whole(canvas.size()));
        for rect in damage.rects.iter().filter_map(|rect| rect.clip(bounds?)) {
            self.frame_paints(window, rect)?;
            let canvas = self.known(window)?.canvas.as_mut();
            if !canvas.is_none_or(|canvas| canvas.fetch(rect, &buffer, pool)) {
                return Err(Violation::Pool(window));
            }
            self.paint(window, rect);
        }
        self.frame_is_whole(window, now);
        Ok(())
    }

    pub(super) fn pixels(&mut self, pixels: &Pixels<'_>, now: Duration) -> Result<(), Violation> {
        let window = pixels.window;
        self.frame_comes(window, pixels.frame, now)?;
        let features = self.policy.features;
        let size = self.size(window).ok_or(Violation::Unknown(window))?;
        // A patch of a window that is not shown, or that lies outside of what it has become, is only counted.
        if let Some(placed) = pixels.patch.place(size) {
            let agreed = match placed.payload {
                Payload::Lz4(_) => features.has(Features::LZ4),
                Payload::Zstd(_) => features.has(Features::ZSTD),
                _ => true,
            };
            if !agreed {
                return Err(Violation::Codec(window));
            }
            self.frame_paints(window, placed.rect)?;
            if let Some(w) = self.windows.get_mut(&window)
                && let Some(canvas) = &mut w.canvas
            {
                canvas
                    .paint(&placed, &mut self.unpacker)
                    .map_err(|_| Violation::Packed(window))?;
                self.paint(window, placed.rect);
            }
        }
        if pixels.last {
            self.frame_is_whole(window, now);
        }
        Ok(())
    }

    /// All that was painted is on the screen: whole frames are acknowledged.
    pub(super) fn painted(&mut self, now: Duration) {
        let micros = |from: Duration, to: Duration| {
            u32::try_from(to.saturating_sub(from).as_micros()).unwrap_or(u32::MAX)
        };
        let mut done = Vec::new();
        for (window, w) in &mut self.windows {
            w.frames.retain(|frame| {
                if let Some(whole) = frame.whole {
                    done.push(gui::FrameDone {
                        window: *window,
                        frame: frame.number,
                        took: [micros(frame.arrived, whole), micros(whole, now)],
                    });
                }
                frame.whole.is_none()
            });
        }
        for frame in done {
            self.say(frame);
        }
    }
}
