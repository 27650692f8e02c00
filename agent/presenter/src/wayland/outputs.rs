//! The host's monitors, in the compositor's own coordinates. Work areas are not told: no client but the desktop's
//! own knows what task bars leave.
use super::State;
use crate::frame::nearest;
use crate::model::{HostEvent, Layout, Screen};
use medley_wire::limits::MONITORS;
use medley_wire::{Rect, Size};
use std::collections::BTreeMap;
use wayland_client::protocol::wl_output::{self, WlOutput};
use wayland_client::{Connection, Dispatch, Proxy, QueueHandle, WEnum};
use wayland_protocols::xdg::xdg_output::zv1::client::zxdg_output_v1::{self, ZxdgOutputV1};

/// The registry's number of an output: the same as long as it is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OutputId(pub u32);

struct Output {
    output: WlOutput,
    logical: Option<ZxdgOutputV1>,
    at: (i32, i32),
    size: (i32, i32),
    scale: i32,
    millimetres: (i32, i32),
    /// Where it is in the coordinates of surfaces.
    logical_at: Option<(i32, i32)>,
    logical_size: Option<(i32, i32)>,
}

/// All outputs.
pub(super) struct Outputs {
    all: BTreeMap<OutputId, Output>,
    layout: Layout,
}

impl Default for Outputs {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            // Until the compositor has said what it has, and if it has none.
            layout: Layout::single(nearest(1280, 720)),
        }
    }
}

impl Output {
    fn screen(&self, OutputId(id): OutputId, main: bool) -> Option<Screen> {
        let (x, y) = self.logical_at.unwrap_or(self.at);
        let scale = self.scale.max(1);
        let (width, height) = self
            .logical_size
            .unwrap_or((self.size.0 / scale, self.size.1 / scale));
        let side = |n: i32| u32::try_from(n).ok().filter(|n| *n > 0);
        let size: Size = nearest(side(width)?, side(height)?);
        let rect = Layout::reported(x, y, size);
        let millimetres = [self.millimetres.0, self.millimetres.1];
        Some(Screen {
            id,
            rect,
            work: rect,
            millimetres: millimetres.map(|n| u32::try_from(n).unwrap_or(0)),
            main,
        })
    }
}

impl Outputs {
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn add(&mut self, id: OutputId, output: WlOutput, logical: Option<ZxdgOutputV1>) {
        if self.all.len() >= MONITORS {
            return;
        }
        self.all.insert(
            id,
            Output {
                output,
                logical,
                at: (0, 0),
                size: (0, 0),
                scale: 1,
                millimetres: (0, 0),
                logical_at: None,
                logical_size: None,
            },
        );
    }

    /// It was unplugged. Tells whether it was there.
    pub fn remove(&mut self, id: OutputId) -> bool {
        let Some(gone) = self.all.remove(&id) else {
            return false;
        };
        if let Some(logical) = gone.logical {
            logical.destroy();
        }
        if gone.output.version() >= 3 {
            gone.output.release();
        }
        true
    }

    /// Where an output is, if that is known.
    pub fn rect(&self, output: &WlOutput) -> Option<Rect> {
        let id = self.all.iter().find(|(_, o)| o.output == *output)?.0;
        let screens = self.layout.screens();
        Some(screens.iter().find(|screen| screen.id == id.0)?.rect)
    }

    /// Takes what was said of outputs. Tells whether anything is otherwise now. Without any, as while monitors
    /// are switched, everything stays where it was.
    pub fn settle(&mut self) -> bool {
        let mut screens = Vec::new();
        for (id, output) in &self.all {
            screens.extend(output.screen(*id, screens.is_empty()));
        }
        match Layout::new(screens) {
            Some(layout) if layout != self.layout => {
                self.layout = layout;
                true
            }
            _ => false,
        }
    }
}

impl State {
    /// Something that was there is gone: an output, perhaps.
    pub(super) fn vanished(&mut self, id: OutputId) {
        if self.outputs.remove(id) {
            self.relaid();
        }
    }

    /// Outputs changed: the model hears where monitors are now.
    pub(super) fn relaid(&mut self) {
        if self.outputs.settle() {
            let layout = self.outputs.layout().clone();
            self.heard.events.push(HostEvent::Layout(layout));
        }
    }
}

impl Dispatch<WlOutput, OutputId> for State {
    fn event(
        state: &mut Self,
        _: &WlOutput,
        event: wl_output::Event,
        id: &OutputId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let Some(output) = state.outputs.all.get_mut(id) else {
            return;
        };
        match event {
            wl_output::Event::Geometry {
                x,
                y,
                physical_width,
                physical_height,
                ..
            } => {
                output.at = (x, y);
                output.millimetres = (physical_width, physical_height);
            }
            wl_output::Event::Mode {
                flags: WEnum::Value(flags),
                width,
                height,
                ..
            } if flags.contains(wl_output::Mode::Current) => output.size = (width, height),
            wl_output::Event::Scale { factor } => output.scale = factor,
            wl_output::Event::Done => state.relaid(),
            _ => {}
        }
    }
}

impl Dispatch<ZxdgOutputV1, OutputId> for State {
    fn event(
        state: &mut Self,
        _: &ZxdgOutputV1,
        event: zxdg_output_v1::Event,
        id: &OutputId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let Some(output) = state.outputs.all.get_mut(id) else {
            return;
        };
        match event {
            zxdg_output_v1::Event::LogicalPosition { x, y } => output.logical_at = Some((x, y)),
            zxdg_output_v1::Event::LogicalSize { width, height } => {
                output.logical_size = Some((width, height));
            }
            zxdg_output_v1::Event::Done => state.relaid(),
            _ => {}
        }
    }
}
