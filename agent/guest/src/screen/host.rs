//! What the host says on the gui channel, done.
use super::{Gui, Screen};
use anyhow::Result;
use medley_wire::limits::WINDOWS;
use medley_wire::window::States;
use medley_wire::{WindowId, gui};
use x11rb::CURRENT_TIME;
use x11rb::protocol::xproto::{AtomEnum, ConnectionExt, InputFocus, Window};

impl Screen {
    /// Does what one message says.
    ///
    /// # Errors
    /// The display is gone.
    pub fn host_says(&mut self, message: gui::FromHost<'_>, say: &mut Gui<'_>) -> Result<()> {
        use gui::FromHost as M;
        match message {
            M::Hello(_) => {}
            M::Bye(bye) => {
                tracing::info!(reason = ?bye.reason, words = %bye.words.display(), "the host says goodbye");
            }
            M::Limits(limits) => {
                self.limits.windows = limits.windows.min(WINDOWS).into();
                self.limits.side = (limits.size.width(), limits.size.height());
                self.limits.rate = limits.frames;
            }
            M::Resync(resync) => self.snapshot(resync.generation, say)?,
            M::Configure(configure) => self.configure(&configure, say)?,
            M::State(state) => self.state(&state)?,
            M::Stack(stack) => {
                if let Some(window) = self.window(stack.window) {
                    let sibling = stack.sibling.and_then(|sibling| self.window(sibling));
                    self.restack(window, sibling, stack.place)?;
                }
            }
            M::Focus(focus) => self.focus(&focus)?,
            M::Leave(_) => self.leave_keyboard()?,
            M::Close(close) => {
                if let Some(window) = self.window(close.window) {
                    self.close(window)?;
                }
            }
            M::Destroyed(destroyed) => {
                self.leaving.remove(&destroyed.window);
                self.introduce_waiting(say)?;
            }
            M::FrameDone(done) => self.capture.done(done.window, done.frame),
            M::Visibility(visibility) => self.visibility(&visibility),
            M::Key(key) => {
                if let Some(window) = self.window(key.window) {
                    self.last_input = Some(window);
                    self.keyboard.key(&self.display, &key)?;
                }
            }
            M::Text(text) => {
                if self.window(text.window).is_some() {
                    let text = String::from_utf8_lossy(text.text.0);
                    self.keyboard.text(&self.display, &text)?;
                }
            }
            M::Motion(motion) => {
                let at = (motion.x, motion.y);
                self.point(motion.window, at)?;
            }
            M::Button(button) => {
                if self.point(button.window, (button.x, button.y))? {
                    if button.down {
                        self.last_input = self.window(button.window);
                    }
                    self.keyboard.hold(&self.display, button.held, None)?;
                    self.pointer
                        .button(&self.display, button.code, button.down)?;
                }
            }
            M::Scroll(scroll) => {
                if self.window(scroll.window).is_some() {
                    self.keyboard.hold(&self.display, scroll.held, None)?;
                    self.pointer
                        .scroll(&self.display, scroll.across, scroll.down)?;
                }
            }
            M::Crossing(crossing) => {
                if crossing.inside {
                    self.point(crossing.window, (crossing.x, crossing.y))?;
                } else {
                    self.pointer.left(&self.display, crossing.window)?;
                }
            }
            // The agent does not say that it can do touch, so an honest host sends none.
            M::Touch(_) => {}
        }
        Ok(())
    }

    fn window(&self, id: WindowId) -> Option<Window> {
        self.by_id.get(&id).copied()
    }

    /// The host says where a window is. What it says holds for menus, too.
    fn configure(&mut self, configure: &gui::Configure, say: &mut Gui<'_>) -> Result<()> {
        let Some(window) = self.window(configure.window) else {
            return Ok(());
        };
        self.place(window, configure.rect.into())?;
        if let Some(client) = self.clients.get(&window) {
            say.say(gui::Ask {
                window: client.id,
                rect: client.area.claim(),
                answers: configure.serial,
            });
        }
        Ok(())
    }

    fn state(&mut self, state: &gui::State) -> Result<()> {
        let Some(window) = self.window(state.window) else {
            return Ok(());
        };
        if let Some(client) = self.clients.get_mut(&window) {
            client.states = state.change.apply(client.states);
            if client.managed {
                self.write_states(window)?;
            }
        }
        Ok(())
    }

    fn focus(&mut self, focus: &gui::Focus) -> Result<()> {
        let Some(window) = self.window(focus.window) else {
            return Ok(());
        };
        self.keyboard.release(&self.display)?;
        self.keyboard
            .sync(&self.display, focus.held, focus.locked, None)?;
        let Some(client) = self.clients.get_mut(&window).filter(|c| c.mapped) else {
            return Ok(());
        };
        if !client.managed {
            // A menu takes the keyboard by itself.
            return Ok(());
        }
        client.states = client.states.without(States::ATTENTION);
        let (takes_input, takes_focus) = (client.traits.takes_input, client.traits.takes_focus);
        let old = self.focus.replace(window);
        self.last_input = Some(window);
        if takes_input {
            self.display
                .x
                .set_input_focus(InputFocus::POINTER_ROOT, window, CURRENT_TIME)?;
        }
        if takes_focus {
            let now = self.display.now()?;
            let a = &self.display.atoms;
            self.display.tell(window, a.WM_TAKE_FOCUS, now, 0)?;
        }
        self.display.words(
            self.display.root,
            self.display.atoms._NET_ACTIVE_WINDOW,
            AtomEnum::WINDOW,
            &[window],
        )?;
        if let Some(old) = old.filter(|old| *old != window) {
            self.write_states(old)?;
        }
        self.write_states(window)
    }

    fn visibility(&mut self, visibility: &gui::Visibility) {
        let Some(window) = self.window(visibility.window) else {
            return;
        };
        if let Some(client) = self.clients.get_mut(&window) {
            client.frames.seen = visibility.seen;
            client.frames.rate = visibility.frames;
            // A new rate begins a new schedule.
            client.frames.schedule = None;
        }
    }

    /// Puts the pointer into a window, and nothing of the guest's over it: on the host's screen, where the
    /// pointer really is, nothing is.
    fn point(&mut self, id: WindowId, at: (i32, i32)) -> Result<bool> {
        let Some(client) = self.window(id).and_then(|w| self.clients.get(&w)) else {
            return Ok(false);
        };
        if !client.mapped {
            return Ok(false);
        }
        let (window, area) = (client.xid, client.area);
        if self.pointer.enter(&self.display, id)? {
            self.look_at_stacking()?;
            if self.stacking.last() != Some(&window) {
                self.restack(window, None, medley_wire::window::Place::Above)?;
            }
        }
        let (x, y) = (
            area.x + at.0.clamp(-32767, 32767),
            area.y + at.1.clamp(-32767, 32767),
        );
        self.pointer.move_to(&self.display, x, y)?;
        Ok(true)
    }

    /// The part of the screen that maximised windows may cover.
    ///
    /// # Errors
    /// The display is gone.
    pub fn set_work_area(&mut self, work: super::Area) -> Result<()> {
        self.work = Some(work);
        self.geometry_changed()
    }
}

impl Screen {
    /// The guest will sleep: nothing stays down meanwhile.
    ///
    /// # Errors
    /// The display is gone.
    pub fn lost_keys(&mut self) -> Result<()> {
        self.leave_keyboard()?;
        self.pointer.release(&self.display)
    }
}
