//! The host's monitors and their work areas, by RandR and the window manager's word.
use super::Atoms;
use crate::error::Result;
use crate::frame::nearest;
use crate::model::{Layout, Screen};
use medley_wire::Rect;
use medley_wire::limits::MONITORS;
use medley_x11::Conn;
use x11rb::connection::RequestConnection;
use x11rb::protocol::randr::{self, ConnectionExt as _, NotifyMask};
use x11rb::protocol::xproto::{
    AtomEnum, ChangeWindowAttributesAux, ConnectionExt, EventMask, Window,
};

/// Asks to be told when monitors, work areas or the stacking change.
pub(super) fn listen(conn: &Conn, root: Window) -> Result<()> {
    let mask = EventMask::PROPERTY_CHANGE | EventMask::STRUCTURE_NOTIFY;
    let aux = ChangeWindowAttributesAux::new().event_mask(mask);
    conn.change_window_attributes(root, &aux)?;
    if has_randr(conn)? {
        let mask = NotifyMask::SCREEN_CHANGE | NotifyMask::CRTC_CHANGE | NotifyMask::OUTPUT_CHANGE;
        conn.randr_select_input(root, mask)?;
    }
    Ok(())
}

fn has_randr(conn: &Conn) -> Result<bool> {
    if conn
        .extension_information(randr::X11_EXTENSION_NAME)?
        .is_none()
    {
        return Ok(false);
    }
    let version = conn.randr_query_version(1, 5)?.reply()?;
    Ok((version.major_version, version.minor_version) >= (1, 5))
}

/// The monitors as they are now.
pub(super) fn read(conn: &Conn, root: Window, atoms: &Atoms) -> Result<Layout> {
    let work = work_area(conn, root, atoms)?;
    let mut screens = Vec::new();
    if has_randr(conn)? {
        let monitors = conn.randr_get_monitors(root, true)?.reply()?.monitors;
        for monitor in monitors.iter().take(MONITORS) {
            let size = nearest(monitor.width.into(), monitor.height.into());
            let rect = Layout::reported(monitor.x.into(), monitor.y.into(), size);
            screens.push(Screen {
                id: monitor.name,
                rect,
                work: within(rect, work),
                millimetres: [monitor.width_in_millimeters, monitor.height_in_millimeters],
                main: monitor.primary,
            });
        }
    }
    if let Some(first) = screens.first_mut()
        && !monitors_have_main(&[*first])
    {
        first.main = true;
    }
    let main = screens.iter().skip(1).position(|screen| screen.main);
    if main.is_some() && screens.len() > 1 {
        // One is the main one: the one that says so.
        screens[0].main = false;
    }
    if let Some(layout) = Layout::new(screens) {
        return Ok(layout);
    }
    let size = conn.get_geometry(root)?.reply()?;
    let rect = Rect::whole(nearest(size.width.into(), size.height.into()));
    let alone = Screen {
        id: 1,
        rect,
        work: within(rect, work),
        millimetres: [0, 0],
        main: true,
    };
    Ok(Layout::new(vec![alone]).unwrap_or(Layout::single(rect.size())))
}

fn monitors_have_main(screens: &[Screen]) -> bool {
    screens.iter().any(|screen| screen.main)
}

/// The part of a monitor that lies in the work area; all of it, if none does.
fn within(rect: Rect, work: Option<Rect>) -> Rect {
    work.and_then(|work| medley_wire::Untrusted::claim(work).clip(rect))
        .map_or(rect, |part| part.get())
}

/// The window manager's work area of the present desktop.
fn work_area(conn: &Conn, root: Window, atoms: &Atoms) -> Result<Option<Rect>> {
    let numbers = |atom: u32| -> Result<Vec<u32>> {
        let reply = conn
            .get_property(false, root, atom, AtomEnum::CARDINAL, 0, 256)?
            .reply()?;
        Ok(reply.value32().map(Iterator::collect).unwrap_or_default())
    };
    let desktop = numbers(atoms._NET_CURRENT_DESKTOP)?;
    let areas = numbers(atoms._NET_WORKAREA)?;
    let desktop = desktop.first().copied().unwrap_or(0) as usize;
    let areas = areas.as_chunks::<4>().0;
    let area = areas.get(desktop).or(areas.first());
    Ok(area.map(|[x, y, width, height]| {
        Layout::reported(x.cast_signed(), y.cast_signed(), nearest(*width, *height))
    }))
}
