//! Windows as messages: one that appears, one that changes, all of them when the host asks.
use super::client::Client;
use super::{Gui, Screen};
use crate::display::{Display, gone};
use crate::traits::Traits;
use anyhow::Result;
use medley_wire::limits::{BELLS_PER_SECOND, SHAPE_RECTS};
use medley_wire::window::{Change, Given, Place, ShapeOf, States};
use medley_wire::{List, Rect, Size, Text, Untrusted, gui};
use std::time::{Duration, Instant};
use x11rb::protocol::shape;
use x11rb::protocol::xproto::{Rectangle, Window};

/// How much of a shape comes over: its outline, and what takes clicks.
const SHAPES: [(ShapeOf, shape::SK); 2] = [
    (ShapeOf::Outline, shape::SK::BOUNDING),
    (ShapeOf::Input, shape::SK::INPUT),
];

impl Screen {
    /// The host wants to hear everything again.
    pub(super) fn snapshot(&mut self, generation: u32, say: &mut Gui<'_>) -> Result<()> {
        self.live = true;
        self.leaving.clear();
        self.capture.forget();
        self.look_at_stacking()?;
        for client in self.clients.values_mut() {
            client.told = false;
            client.frames.whole = true;
            client.frames.not_before = None;
            client.frames.schedule = None;
            client.frames.seen = medley_wire::window::Seen::Visible;
            client.frames.rate = u16::MAX;
            client.frames.changed = client.mapped.then(Instant::now);
        }
        // Parents before those that stand before them, whatever lies on top of what: a parent must be known.
        let mut windows = self.stacking.clone();
        windows.sort_by_key(|window| self.depth(*window));
        windows.truncate(self.limits.windows);
        say.say(gui::Snapshot {
            generation,
            windows: u16::try_from(windows.len()).unwrap_or(u16::MAX),
        });
        for window in windows {
            self.introduce(window, say)?;
        }
        let told = |window: &Window| self.clients.get(window).filter(|client| client.told);
        for client in self.stacking.iter().filter_map(told) {
            say.say(gui::Stack {
                window: client.id,
                sibling: None,
                place: Place::Above,
            });
        }
        self.cursor.tell(&self.display, say)?;
        say.say(gui::SnapshotEnd { generation });
        Ok(())
    }

    /// How many windows stand behind a window.
    fn depth(&self, window: Window) -> usize {
        let mut at = self.clients.get(&window);
        let mut depth = 0;
        while let Some(parent) = at.and_then(|client| client.parent)
            && depth < self.clients.len()
        {
            depth += 1;
            at = self
                .by_id
                .get(&parent)
                .and_then(|window| self.clients.get(window));
        }
        depth
    }

    /// Tells a window that is shown, if the host knows none of it yet or it is shown again.
    pub(super) fn introduce(&mut self, window: Window, say: &mut Gui<'_>) -> Result<()> {
        let told = self.clients.values().filter(|client| client.told).count();
        let taken = told + self.leaving.len();
        if !self.live {
            return Ok(());
        }
        let Some(client) = self.clients.get_mut(&window).filter(|c| c.mapped) else {
            return Ok(());
        };
        if !client.told {
            if taken >= self.limits.windows {
                tracing::warn!("more windows than the host takes; one stays invisible");
                return Ok(());
            }
            client.told = true;
            self.icons.insert(window);
            say.say(gui::Create {
                window: client.id,
                rect: client.area.claim(),
                app: client.app,
                launch: client.launch,
            });
        }
        tell_title(client, say);
        tell_class(client, say);
        tell_hints(client, say);
        if client.states != States::NONE
            && let Some(change) = Change::new(client.states, States::NONE)
        {
            say.say(gui::State {
                window: client.id,
                change,
            });
        }
        for index in 0..SHAPES.len() {
            tell_shape(&self.display, client, index, say)?;
        }
        let Some(client) = self.clients.get(&window) else {
            return Ok(());
        };
        let parent = client.parent.filter(|parent| {
            let known = self
                .by_id
                .get(parent)
                .and_then(|window| self.clients.get(window));
            known.is_some_and(|parent| parent.told)
        });
        say.say(gui::Map {
            window: client.id,
            parent,
            kind: client.kind,
            unmanaged: !client.managed,
        });
        Ok(())
    }

    /// A number became free: tells windows that were one too many.
    pub(super) fn introduce_waiting(&mut self, say: &mut Gui<'_>) -> Result<()> {
        let waits = |client: &&Client| client.mapped && !client.told;
        let waiting: Vec<Window> = self.clients.values().filter(waits).map(|c| c.xid).collect();
        for window in waiting {
            self.introduce(window, say)?;
        }
        Ok(())
    }

    /// An app says something else about its window.
    pub(super) fn properties_changed(&mut self, window: Window, say: &mut Gui<'_>) -> Result<()> {
        let traits = Traits::read(&self.display, window)?;
        let Some(client) = self.clients.get_mut(&window) else {
            return Ok(());
        };
        let old = std::mem::replace(&mut client.traits, traits);
        let told = client.told && self.live;
        let class_changed = old.class != client.traits.class;
        let urgency_changed = old.urgent != client.traits.urgent;
        if told && old.title != client.traits.title {
            tell_title(client, say);
        }
        if told && old.hints != client.traits.hints {
            tell_hints(client, say);
        }
        if class_changed {
            let traits = client.traits.clone();
            let (app, _) = self.whose(window, &traits)?;
            if let Some(client) = self.clients.get_mut(&window) {
                client.app = app;
                if told {
                    tell_class(client, say);
                }
            }
        }
        if urgency_changed && let Some(client) = self.clients.get(&window) {
            let (attention, none) = (States::ATTENTION, States::NONE);
            if client.traits.urgent {
                self.wish(window, attention, none, say)?;
            } else {
                self.wish(window, none, attention, say)?;
            }
        }
        Ok(())
    }

    pub(super) fn shape_changed(&mut self, window: Window, say: &mut Gui<'_>) -> Result<()> {
        let live = self.live;
        let Some(client) = self.clients.get_mut(&window) else {
            return Ok(());
        };
        for index in 0..SHAPES.len() {
            client.shaped[index] = true;
            if live && client.told && client.mapped {
                tell_shape(&self.display, client, index, say)?;
            }
        }
        Ok(())
    }

    pub(super) fn bell(&mut self, window: Window, say: &mut Gui<'_>) {
        let now = Instant::now();
        let recent = |at: &Instant| now.duration_since(*at) < Duration::from_secs(1);
        self.bells.retain(recent);
        if self.live && self.bells.len() < BELLS_PER_SECOND as usize {
            self.bells.push(now);
            let client = self.clients.get(&window).filter(|client| client.told);
            say.say(gui::Bell {
                window: client.map(|client| client.id),
            });
        }
    }
}

fn tell_title(client: &Client, say: &mut Gui<'_>) {
    say.say(gui::Title {
        window: client.id,
        title: Untrusted::claim(Text::cut(&client.traits.title)),
    });
}

fn tell_class(client: &Client, say: &mut Gui<'_>) {
    let (instance, class) = &client.traits.class;
    say.say(gui::Class {
        window: client.id,
        app: client.app,
        instance: Untrusted::claim(Text::cut(instance)),
        class: Untrusted::claim(Text::cut(class)),
    });
}

fn tell_hints(client: &Client, say: &mut Gui<'_>) {
    if client.traits.hints.given != Given::NONE {
        say.say(gui::WindowHints {
            window: client.id,
            hints: Untrusted::claim(client.traits.hints.clone()),
        });
    }
}

/// Tells one of a window's shapes, unless it is and was a rectangle.
fn tell_shape(
    display: &Display,
    client: &mut Client,
    index: usize,
    say: &mut Gui<'_>,
) -> Result<()> {
    if !client.shaped[index] {
        return Ok(());
    }
    let (of, kind) = SHAPES[index];
    let reply = gone(shape::get_rectangles(&display.x, client.xid, kind)?.reply())?;
    let Some(reply) = reply else {
        return Ok(());
    };
    let rects = outline(&reply.rectangles, client);
    let first_time = client.frames.next == 0 && rects.is_empty();
    client.shaped[index] = !rects.is_empty();
    if !first_time {
        let rects = rects.into_iter().map(Untrusted::claim).collect();
        say.say(gui::WindowShape {
            window: client.id,
            of,
            rects: List::new(rects),
        });
    }
    Ok(())
}

/// A shape in at most as many rectangles as the wire takes, seen from the window's corner; none, if it is the
/// whole window. Neighbouring rows are put together where there are too many: the shape is then a little too
/// large, never too small.
fn outline(rectangles: &[Rectangle], client: &Client) -> Vec<Rect> {
    let border = client.border.cast_signed();
    let inner = |length: u32| length.saturating_sub(2 * client.border);
    let covers = |r: &Rectangle| {
        i32::from(r.x) <= 0
            && i32::from(r.y) <= 0
            && i32::from(r.x) + i32::from(r.width) >= inner(client.area.width).cast_signed()
            && i32::from(r.y) + i32::from(r.height) >= inner(client.area.height).cast_signed()
    };
    if rectangles.iter().any(covers) {
        return Vec::new();
    }
    let rects: Vec<Rect> = rectangles
        .iter()
        .filter_map(|r| {
            let size = Size::new(r.width.into(), r.height.into())?;
            Rect::new(i32::from(r.x) + border, i32::from(r.y) + border, size)
        })
        .collect();
    if rects.is_empty() {
        // Nothing at all cannot be said with no rectangle: that says everything. One outside is nothing.
        return Size::new(1, 1)
            .and_then(|dot| Rect::new(-1, -1, dot))
            .into_iter()
            .collect();
    }
    let each = rects.len().div_ceil(SHAPE_RECTS);
    rects.chunks(each).filter_map(bounding).collect()
}

fn bounding(rects: &[Rect]) -> Option<Rect> {
    let left = rects.iter().map(|r| r.x()).min()?;
    let top = rects.iter().map(|r| r.y()).min()?;
    let right = rects
        .iter()
        .map(|r| r.x() + r.size().width().cast_signed())
        .max()?;
    let bottom = rects
        .iter()
        .map(|r| r.y() + r.size().height().cast_signed())
        .max()?;
    let size = Size::new(
        (right - left).cast_unsigned(),
        (bottom - top).cast_unsigned(),
    )?;
    Rect::new(left, top, size)
}
