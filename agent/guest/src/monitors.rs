//! The host's monitors, mirrored by the guest's: Xorg's dummy driver has sixteen outputs whose modes are made
//! at run time. Xvfb has one that cannot change; the guest then keeps it, and says so.
use crate::display::{Display, gone};
use crate::screen::Area;
use anyhow::{Context, Result};
use medley_wire::control::Monitor;
use x11rb::CURRENT_TIME;
use x11rb::protocol::randr::{
    self, ConnectionExt as _, GetOutputInfoReply, GetScreenResourcesReply, Mode, ModeInfo, Output,
    Rotation,
};

/// Dots on an inch of an unscaled monitor: what X apps take for granted.
const DPI: u32 = 96;

/// The wire's scale of an unscaled monitor.
const UNSCALED: u32 = 120;

/// Dots on an inch that apps should draw for, as the main monitor is scaled.
#[must_use]
pub fn dpi(monitors: &[Monitor]) -> u32 {
    let main = monitors.iter().find(|m| m.main).or(monitors.first());
    let scale = main.map_or(UNSCALED, |m| u32::from(m.scale));
    (DPI * scale / UNSCALED).clamp(48, 768)
}

/// The part of the screen that maximised windows may cover. There is one for all monitors: of the main one
/// what it says, if it is alone; else what is left of the whole by the margins of each.
#[must_use]
pub fn work_area(monitors: &[Monitor]) -> Option<Area> {
    let far = |at: i32, length: u32| at + length.cast_signed();
    let right = |r: medley_wire::Rect| far(r.x(), r.size().width());
    let lower = |r: medley_wire::Rect| far(r.y(), r.size().height());
    let whole = (
        monitors.iter().map(|m| m.rect.x()).min()?,
        monitors.iter().map(|m| m.rect.y()).min()?,
        monitors.iter().map(|m| right(m.rect)).max()?,
        monitors.iter().map(|m| lower(m.rect)).max()?,
    );
    let (mut left, mut top, mut end, mut bottom) = whole;
    // A margin counts where it lies at the edge of the whole: a panel between two monitors cannot be said.
    for monitor in monitors {
        let (rect, work) = (monitor.rect, monitor.work);
        if rect.x() == whole.0 {
            left = left.max(work.x());
        }
        if rect.y() == whole.1 {
            top = top.max(work.y());
        }
        if right(rect) == whole.2 {
            end = end.min(right(work));
        }
        if lower(rect) == whole.3 {
            bottom = bottom.min(lower(work));
        }
    }
    (left < end && top < bottom).then(|| Area {
        x: left,
        y: top,
        width: (end - left).unsigned_abs(),
        height: (bottom - top).unsigned_abs(),
    })
}

/// Makes the guest's outputs as the host's monitors are. False, if this server cannot.
///
/// # Errors
/// The display is gone, or refused what it said it can.
pub fn mirror(display: &Display, monitors: &[Monitor]) -> Result<bool> {
    let x = &display.x;
    let resources = x.randr_get_screen_resources(display.root)?.reply()?;
    let range = x.randr_get_screen_size_range(display.root)?.reply()?;
    let left = monitors
        .iter()
        .map(|m| m.rect.x())
        .min()
        .unwrap_or(0)
        .min(0);
    let top = monitors
        .iter()
        .map(|m| m.rect.y())
        .min()
        .unwrap_or(0)
        .min(0);
    let right = monitors
        .iter()
        .map(|m| m.rect.x() + m.rect.size().width().cast_signed());
    let lower = monitors
        .iter()
        .map(|m| m.rect.y() + m.rect.size().height().cast_signed());
    let width = right.max().unwrap_or(0) - left;
    let height = lower.max().unwrap_or(0) - top;
    let fits = width <= i32::from(range.max_width) && height <= i32::from(range.max_height);
    let outputs = resources.outputs.len().min(resources.crtcs.len());
    if range.min_width == range.max_width || !fits || outputs < monitors.len() {
        tracing::info!(
            width, height,
            monitors = monitors.len(),
            outputs,
            most = ?(range.max_width, range.max_height),
            "this X server cannot mirror the host's monitors; its screen stays as it is"
        );
        return Ok(false);
    }
    // The server lists the main output first: in the order of their numbers a monitor stays where it was.
    let mut outputs = resources.outputs.clone();
    outputs.sort_unstable();
    let mut plan: Vec<(u32, Output, Mode, (i16, i16))> = Vec::new();
    for (output, monitor) in outputs.into_iter().zip(monitors) {
        let info = x
            .randr_get_output_info(output, resources.config_timestamp)?
            .reply()?;
        let free = info
            .crtcs
            .iter()
            .find(|crtc| plan.iter().all(|(taken, ..)| taken != *crtc));
        let Some(crtc) = free.copied() else {
            return Ok(false);
        };
        let mode = mode(display, &resources, output, &info, monitor)?;
        let place = (
            (monitor.rect.x() - left) as i16,
            (monitor.rect.y() - top) as i16,
        );
        plan.push((crtc, output, mode, place));
    }
    // One whole change: apps should not see half of it.
    x11rb::protocol::xproto::grab_server(x)?;
    let changed = apply(
        display,
        &resources,
        &plan,
        (width as u16, height as u16),
        monitors,
    );
    x11rb::protocol::xproto::ungrab_server(x)?;
    x11rb::connection::Connection::flush(x)?;
    changed.context("the X server refused the host's monitors; its screen may be in between")?;
    Ok(true)
}

type Plan = [(u32, Output, Mode, (i16, i16))];

fn apply(
    display: &Display,
    resources: &GetScreenResourcesReply,
    plan: &Plan,
    (width, height): (u16, u16),
    monitors: &[Monitor],
) -> Result<()> {
    let x = &display.x;
    let time = CURRENT_TIME;
    let stamp = resources.config_timestamp;
    for crtc in &resources.crtcs {
        x.randr_set_crtc_config(*crtc, time, stamp, 0, 0, 0, Rotation::ROTATE0, &[])?
            .reply()?;
    }
    let millimetres = |pixels: u16| (u32::from(pixels) * 254 / (10 * dpi(monitors))).max(1);
    x.randr_set_screen_size(
        display.root,
        width,
        height,
        millimetres(width),
        millimetres(height),
    )?
    .check()?;
    for (crtc, output, mode, (left, top)) in plan {
        x.randr_set_crtc_config(
            *crtc,
            time,
            stamp,
            *left,
            *top,
            *mode,
            Rotation::ROTATE0,
            &[*output],
        )?
        .reply()?;
    }
    let main = monitors.iter().position(|m| m.main).unwrap_or(0);
    if let Some((_, output, ..)) = plan.get(main) {
        x.randr_set_output_primary(display.root, *output)?;
    }
    Ok(())
}

/// A mode of the monitor's size for an output: one that it has, or one that was made for another, or a new
/// one. A mode that another output has by itself is not lent: it goes when that output goes.
fn mode(
    display: &Display,
    resources: &GetScreenResourcesReply,
    output: Output,
    info: &GetOutputInfoReply,
    monitor: &Monitor,
) -> Result<Mode> {
    let x = &display.x;
    let size = monitor.rect.size();
    let (width, height) = (size.width() as u16, size.height() as u16);
    let own = resources
        .modes
        .iter()
        .find(|mode| (mode.width, mode.height) == (width, height) && info.modes.contains(&mode.id));
    if let Some(mode) = own {
        return Ok(mode.id);
    }
    let name = format!("medley-{width}x{height}");
    // The dummy has no signal, but the server wants its numbers to make sense: 60 frames a second. It counts
    // the clock in kHz, and takes one that is no whole number of them for another mode.
    let (total, lines) = (u32::from(width) + 160, u32::from(height) + 40);
    let wanted = ModeInfo {
        id: 0,
        width,
        height,
        dot_clock: (total * lines * 60).next_multiple_of(1000),
        hsync_start: width + 48,
        hsync_end: width + 80,
        htotal: total as u16,
        hskew: 0,
        vsync_start: height + 3,
        vsync_end: height + 9,
        vtotal: lines as u16,
        name_len: name.len() as u16,
        mode_flags: randr::ModeFlag::HSYNC_POSITIVE,
    };
    let made = x
        .randr_create_mode(display.root, wanted, name.as_bytes())?
        .reply();
    let id = match gone(made)? {
        Some(made) => made.mode,
        // It was made before, for another output or another time.
        None => mode_named(display, &name)?,
    };
    x.randr_add_output_mode(output, id)?.check()?;
    Ok(id)
}

fn mode_named(display: &Display, name: &str) -> Result<Mode> {
    let resources = display
        .x
        .randr_get_screen_resources(display.root)?
        .reply()?;
    let mut names = resources.names.as_slice();
    for mode in &resources.modes {
        let (this, rest) = names
            .split_at_checked(mode.name_len.into())
            .context("a list of modes is cut")?;
        if this == name.as_bytes() {
            return Ok(mode.id);
        }
        names = rest;
    }
    anyhow::bail!("the X server makes no mode {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use medley_wire::{Rect, Size};

    fn rect(x: i32, y: i32, width: u32, height: u32) -> Rect {
        Rect::new(x, y, Size::new(width, height).unwrap()).unwrap()
    }

    fn monitor(rect: Rect, work: Rect, scale: u16, main: bool) -> Monitor {
        Monitor {
            id: 1,
            rect,
            work,
            millimetres: [0; 2],
            scale,
            main,
        }
    }

    #[test]
    fn margins_at_the_edge_count() {
        let left = monitor(rect(0, 0, 1920, 1080), rect(0, 30, 1920, 1050), 120, false);
        let right = monitor(
            rect(1920, 0, 2560, 1440),
            rect(1980, 0, 2500, 1400),
            180,
            true,
        );
        let area = work_area(&[left.clone(), right.clone()]).unwrap();
        assert_eq!(
            (area.x, area.y, area.width, area.height),
            (0, 30, 4480, 1370)
        );
        let alone = work_area(std::slice::from_ref(&left)).unwrap();
        assert_eq!(
            (alone.x, alone.y, alone.width, alone.height),
            (0, 30, 1920, 1050)
        );
        assert_eq!(work_area(&[]), None);
        assert_eq!(
            (dpi(&[left.clone(), right]), dpi(&[left]), dpi(&[])),
            (144, 96, 96)
        );
    }
}
