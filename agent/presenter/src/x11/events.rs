//! Events of the X server's, in the model's words. Movements of the pointer that came together are one.
use super::Display;
use crate::error::Result;
use crate::model::{HostEvent, Layout};
use crate::screen::Heard;
use medley_wire::WindowId;
use medley_wire::window::{Seen, States};
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, ButtonPressEvent, ClientMessageEvent, ConfigureNotifyEvent, ConnectionExt, EventMask,
    NotifyDetail, Property, PropertyNotifyEvent, Visibility, Window,
};

/// Keycodes of X's are evdev's and eight.
const KEYCODES: u8 = 8;

/// A notch of the wheel.
const NOTCH: i32 = 120;

/// evdev's number of a button of X's.
fn evdev_button(detail: u8) -> Option<u16> {
    match detail {
        1 => Some(0x110),
        2 => Some(0x112),
        3 => Some(0x111),
        8 => Some(0x113),
        9 => Some(0x114),
        _ => None,
    }
}

/// X's number of a button of evdev's.
pub(super) const fn x_button(code: u16) -> u8 {
    match code {
        0x112 => 2,
        0x111 => 3,
        0x113 => 8,
        0x114 => 9,
        _ => 1,
    }
}

impl Display {
    /// Takes all events that are there.
    ///
    /// # Errors
    /// The display is gone.
    pub fn hear(&mut self) -> Result<Heard> {
        let mut heard = Heard::default();
        let mut motion = None;
        let mut relayout = false;
        while let Some(event) = self.conn.poll_for_event()? {
            heard.any = true;
            if let Event::MotionNotify(event) = &event
                && let Some((window, x, y, _)) =
                    self.point(event.event, event.event_x, event.event_y)
            {
                let next = HostEvent::Motion { window, x, y };
                // Another window's movement is another one.
                let same = matches!(&motion, Some(HostEvent::Motion { window: last, .. }) if *last == window);
                if let Some(last) = motion.replace(next).filter(|_| !same) {
                    heard.events.push(last);
                }
                continue;
            }
            heard.events.extend(motion.take());
            self.translate(event, &mut heard, &mut relayout)?;
        }
        heard.events.extend(motion);
        if relayout {
            self.layout = super::monitors::read(&self.conn, self.root, &self.atoms)?;
            heard.events.push(HostEvent::Layout(self.layout.clone()));
        }
        Ok(heard)
    }

    /// A point of an X window, seen from the guest's first pixel; whether it lies inside of the ring.
    fn point(&self, window: Window, x: i16, y: i16) -> Option<(WindowId, i32, i32, bool)> {
        let id = *self.names.get(&window)?;
        let host = self.windows.get(&id)?;
        let (x, y, inside) = self.dress.frame.point(x, y, host.inner);
        Some((id, x, y, inside))
    }

    fn translate(&mut self, event: Event, heard: &mut Heard, relayout: &mut bool) -> Result<()> {
        match event {
            Event::Expose(expose) if Some(expose.window) == self.card => self.paint_card()?,
            Event::Expose(expose) => {
                if let Some(window) = self.names.get(&expose.window) {
                    self.repaint(*window);
                }
            }
            Event::ConfigureNotify(configure) if configure.window == self.root => *relayout = true,
            Event::ConfigureNotify(configure) => self.configured(&configure, heard)?,
            Event::RandrNotify(_) | Event::RandrScreenChangeNotify(_) => *relayout = true,
            Event::PropertyNotify(property) if self.is_selection(property.window) => {
                heard.clipboard.extend(self.selected(&event)?);
            }
            Event::PropertyNotify(property) => self.property(&property, heard, relayout)?,
            Event::MapNotify(map) => self.seen(map.window, Seen::Visible, heard),
            Event::UnmapNotify(unmap) => self.seen(unmap.window, Seen::Hidden, heard),
            Event::VisibilityNotify(visibility) => {
                let covered = visibility.state == Visibility::FULLY_OBSCURED;
                let seen = if covered {
                    Seen::Covered
                } else {
                    Seen::Visible
                };
                self.seen(visibility.window, seen, heard);
            }
            Event::FocusIn(focus) if is_own(focus.detail) => {
                if let Some(window) = self.names.get(&focus.event) {
                    heard.events.push(HostEvent::Focused {
                        window: *window,
                        held: self.keyboard.held,
                        locked: self.keyboard.locked,
                    });
                }
            }
            Event::FocusOut(focus) if is_own(focus.detail) => {
                if let Some(window) = self.names.get(&focus.event) {
                    heard.events.push(HostEvent::Unfocused(*window));
                }
            }
            Event::KeyPress(key) if Some(key.event) == self.card => heard.unlock = true,
            Event::ButtonPress(press) if Some(press.event) == self.card => heard.unlock = true,
            Event::KeyPress(key) => self.key(key.detail, true, key.time, heard),
            Event::KeyRelease(key) => self.key(key.detail, false, key.time, heard),
            Event::ButtonPress(press) => self.button(&press, true, heard),
            Event::ButtonRelease(release) => self.button(&release, false, heard),
            Event::EnterNotify(cross) => {
                self.crossing(
                    cross.event,
                    cross.event_x,
                    cross.event_y,
                    cross.detail,
                    true,
                    heard,
                );
            }
            Event::LeaveNotify(cross) => {
                self.crossing(
                    cross.event,
                    cross.event_x,
                    cross.event_y,
                    cross.detail,
                    false,
                    heard,
                );
            }
            Event::ClientMessage(message) => self.message(&message, heard)?,
            Event::XkbStateNotify(state) => self.keyboard.changed(&state),
            Event::SelectionClear(_)
            | Event::SelectionRequest(_)
            | Event::SelectionNotify(_)
            | Event::XfixesSelectionNotify(_) => heard.clipboard.extend(self.selected(&event)?),
            Event::Error(error) => {
                // Windows of others vanish while we speak of them: nothing depends on it.
                tracing::warn!(kind = ?error.error_kind, request = ?error.request_name, "the display refused a request");
            }
            _ => {}
        }
        Ok(())
    }

    fn configured(&mut self, configure: &ConfigureNotifyEvent, heard: &mut Heard) -> Result<()> {
        let Some(window) = self.names.get(&configure.window).copied() else {
            return Ok(());
        };
        let managed = self.windows.get(&window).is_some_and(|host| host.managed);
        if !managed {
            return Ok(());
        }
        let inner = self.resized(window, configure.width, configure.height)?;
        // Only what a window manager sends counts from the screen's corner.
        let sent = configure.response_type & 0x80 != 0;
        let (x, y) = if sent {
            (configure.x, configure.y)
        } else {
            let at = self
                .conn
                .translate_coordinates(configure.window, self.root, 0, 0)?
                .reply();
            let Ok(at) = at else { return Ok(()) };
            (at.dst_x, at.dst_y)
        };
        let (left, top) = self.dress.frame.origin();
        let rect = Layout::reported(
            i32::from(x) + i32::from(left),
            i32::from(y) + i32::from(top),
            inner,
        );
        heard.events.push(HostEvent::Moved { window, rect });
        Ok(())
    }

    fn seen(&self, window: Window, seen: Seen, heard: &mut Heard) {
        if let Some(window) = self.names.get(&window) {
            heard.events.push(HostEvent::Seen {
                window: *window,
                seen,
            });
        }
    }

    fn property(
        &mut self,
        event: &PropertyNotifyEvent,
        heard: &mut Heard,
        relayout: &mut bool,
    ) -> Result<()> {
        let atoms = &self.atoms;
        if event.window == self.root {
            if event.atom == atoms._NET_WORKAREA || event.atom == atoms._NET_CURRENT_DESKTOP {
                *relayout = true;
            } else if event.atom == atoms._XKB_RULES_NAMES {
                heard.keymap = true;
            } else if event.atom == atoms._NET_CLIENT_LIST_STACKING {
                let order = self.numbers(self.root, event.atom, AtomEnum::WINDOW.into())?;
                let ours = order.iter().filter_map(|id| self.names.get(id)).copied();
                heard.events.push(HostEvent::Stacked(ours.collect()));
            }
            return Ok(());
        }
        let states = event.atom == atoms._NET_WM_STATE || event.atom == atoms.WM_STATE;
        if let Some(window) = self.names.get(&event.window).copied()
            && states
        {
            let mut states = States::NONE;
            if event.state == Property::NEW_VALUE || event.atom == atoms.WM_STATE {
                let set = self.numbers(event.window, atoms._NET_WM_STATE, AtomEnum::ATOM.into())?;
                let all = [
                    (States::MAXIMISED_ACROSS, atoms._NET_WM_STATE_MAXIMIZED_HORZ),
                    (States::MAXIMISED_DOWN, atoms._NET_WM_STATE_MAXIMIZED_VERT),
                    (States::FULLSCREEN, atoms._NET_WM_STATE_FULLSCREEN),
                    (States::MINIMISED, atoms._NET_WM_STATE_HIDDEN),
                ];
                for (state, atom) in all {
                    if set.contains(&atom) {
                        states = states.with(state);
                    }
                }
            }
            heard.events.push(HostEvent::States { window, states });
        }
        Ok(())
    }

    fn numbers(&self, window: Window, atom: u32, kind: u32) -> Result<Vec<u32>> {
        let reply = self
            .conn
            .get_property(false, window, atom, kind, 0, 4096)?
            .reply();
        // A window that is gone has no properties.
        let numbers = reply
            .ok()
            .and_then(|reply| Some(reply.value32()?.collect()));
        Ok(numbers.unwrap_or_default())
    }

    fn key(&mut self, detail: u8, down: bool, time: u32, heard: &mut Heard) {
        self.time = time;
        if let Some(code) = detail.checked_sub(KEYCODES) {
            heard.events.push(HostEvent::Key {
                code: code.into(),
                down,
                group: self.keyboard.group,
                held: self.keyboard.held,
                locked: self.keyboard.locked,
            });
        }
    }

    fn button(&mut self, event: &ButtonPressEvent, down: bool, heard: &mut Heard) {
        self.time = event.time;
        let Some((window, x, y, inside)) = self.point(event.event, event.event_x, event.event_y)
        else {
            return;
        };
        let held = self.keyboard.held;
        let scroll = |across, down| HostEvent::Scroll {
            window,
            across,
            down,
            held,
        };
        let wheel = match event.detail {
            4 => Some(scroll(0, -NOTCH)),
            5 => Some(scroll(0, NOTCH)),
            6 => Some(scroll(-NOTCH, 0)),
            7 => Some(scroll(NOTCH, 0)),
            _ => None,
        };
        if let Some(code) = evdev_button(event.detail) {
            heard.events.push(HostEvent::Button {
                window,
                x,
                y,
                code,
                down,
                held,
            });
        } else {
            heard.events.extend(wheel.filter(|_| down && inside));
        }
    }

    fn crossing(
        &self,
        window: Window,
        x: i16,
        y: i16,
        detail: NotifyDetail,
        inside: bool,
        heard: &mut Heard,
    ) {
        if detail != NotifyDetail::INFERIOR
            && let Some((window, x, y, _)) = self.point(window, x, y)
        {
            heard.events.push(HostEvent::Crossing {
                window,
                inside,
                x,
                y,
            });
        }
    }

    fn message(&self, message: &ClientMessageEvent, heard: &mut Heard) -> Result<()> {
        let atoms = &self.atoms;
        if message.type_ != atoms.WM_PROTOCOLS || message.format != 32 {
            return Ok(());
        }
        let [what, ..] = message.data.as_data32();
        if what == atoms.WM_DELETE_WINDOW {
            if let Some(window) = self.names.get(&message.window) {
                heard.events.push(HostEvent::Close(*window));
            }
        } else if what == atoms._NET_WM_PING {
            // We live. Whether the guest does is the heartbeat's matter.
            let mut answer = *message;
            answer.window = self.root;
            let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
            self.conn.send_event(false, self.root, mask, answer)?;
        }
        Ok(())
    }
}

/// Whether a change of the keyboard is about the window itself, and not about where the pointer is.
fn is_own(detail: NotifyDetail) -> bool {
    !matches!(
        detail,
        NotifyDetail::POINTER
            | NotifyDetail::POINTER_ROOT
            | NotifyDetail::NONE
            | NotifyDetail::INFERIOR
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buttons_go_there_and_back() {
        for detail in [1, 2, 3, 8, 9] {
            assert_eq!(x_button(evdev_button(detail).unwrap()), detail);
        }
        assert_eq!(evdev_button(4), None);
    }
}
