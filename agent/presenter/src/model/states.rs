//! States, stacking and dragging: what a guest wishes and what the window manager made of it.
use super::{Action, Model, Violation};
use medley_wire::WindowId;
use medley_wire::gui::{self, Drag, Stack};
use medley_wire::window::{Change, Place, States};

/// Maximised both ways.
pub(super) const MAXIMISED: States = States::MAXIMISED_ACROSS.with(States::MAXIMISED_DOWN);

/// States that are facts of the host's: its window manager begins and ends them.
const FACTS: States = MAXIMISED.with(States::FULLSCREEN).with(States::MINIMISED);

const fn cut(states: States, to: States) -> States {
    States::known(states.bits() & to.bits())
}

impl Model {
    /// The guest wishes states.
    pub(super) fn states_wished(&mut self, state: &gui::State) -> Result<(), Violation> {
        let window = state.window;
        let fullscreen = self.policy.fullscreen;
        let w = self.known(window)?;
        let before = w.own;
        let after = state.change.apply(before);
        let on_host = w.on_host.is_some();
        if !on_host {
            // It begins with what it has when it is shown; it cannot be shown minimised.
            w.own = after.without(States::MINIMISED);
            return Ok(());
        }
        // What the guest says that it begins, and what it says that it ends, whatever was before: its word
        // and the window manager's may have crossed.
        let all = state.change.apply(States::NONE);
        let ends = cut(States::ALL, States::ALL).without(state.change.apply(States::ALL));
        let (mut begin, mut end) = (all, ends);
        // A guest cannot bring a window back before somebody's eyes. It can ask for a look.
        if end.has(States::MINIMISED) {
            end = end.without(States::MINIMISED);
            if w.host.has(States::MINIMISED) {
                begin = begin.with(States::ATTENTION);
            }
        }
        // A window that is in no task bar must belong to one that is.
        let has_parent = w.mapped.is_some_and(|mapped| mapped.parent.is_some());
        if !has_parent {
            begin = begin.without(States::NO_TASK_BAR);
        }
        if begin.has(States::FULLSCREEN) && !fullscreen {
            begin = begin.without(States::FULLSCREEN);
            w.pretends = true;
            begin = begin.with(MAXIMISED);
        } else if end.has(States::FULLSCREEN) && w.pretends {
            w.pretends = false;
            end = end.without(States::FULLSCREEN);
            if !cut(w.own, MAXIMISED).has(MAXIMISED) {
                end = end.with(MAXIMISED);
            }
        }
        end = end.without(begin);
        w.own = after.without(States::MINIMISED);
        let host = w.host;
        self.act(Action::States { window, begin, end });
        // What is so already gets no word from the window manager, but the guest waits for one.
        self.tell_states(window, host);
        Ok(())
    }

    /// The window manager says which states a window has.
    pub(super) fn states_are(&mut self, window: WindowId, states: States) {
        if self.is_on_host(window) {
            self.tell_states(window, cut(states, FACTS));
        }
    }

    fn tell_states(&mut self, window: WindowId, states: States) {
        let Some(w) = self.windows.get_mut(&window) else {
            return;
        };
        w.host = states;
        if w.pretends && !states.has(MAXIMISED) && w.told_states.has(States::FULLSCREEN) {
            // Somebody made it smaller: the pretence is over.
            w.pretends = false;
        }
        let mut fact = states;
        if w.pretends && states.has(MAXIMISED) {
            fact = fact.without(MAXIMISED).with(States::FULLSCREEN);
        }
        let (begin, end) = (fact.without(w.told_states), w.told_states.without(fact));
        if (begin, end) == (States::NONE, States::NONE) {
            return;
        }
        w.told_states = fact;
        if let Some(change) = Change::new(begin, end) {
            self.say(gui::State { window, change });
        }
    }

    /// Somebody looks at a window now: it need not ask for it any more.
    pub(super) fn looked_at(&mut self, window: WindowId) {
        let Some(w) = self.windows.get_mut(&window) else {
            return;
        };
        if w.own.has(States::ATTENTION) {
            w.own = w.own.without(States::ATTENTION);
            self.act(Action::States {
                window,
                begin: States::NONE,
                end: States::ATTENTION,
            });
            if let Some(change) = Change::new(States::NONE, States::ATTENTION) {
                self.say(gui::State { window, change });
            }
        }
    }

    /// The guest wishes an order among its own windows. It cannot put one above a stranger's: the top is its
    /// own topmost window's. Window managers take that for "to the very top", so that nothing goes up but
    /// while one of the guest's windows has the keyboard.
    pub(super) fn stack_wished(&mut self, stack: &Stack) -> Result<(), Violation> {
        let window = stack.window;
        self.known(window)?;
        if let Some(sibling) = stack.sibling {
            self.known(sibling)?;
        }
        if stack.place == Place::Above && self.focus.is_none() {
            // It is told how things are.
            let at = self.order.iter().position(|other| *other == window);
            if let Some(at) = at.filter(|_| self.order.len() > 1) {
                self.say(Stack {
                    window,
                    sibling: at.checked_sub(1).map(|below| self.order[below]),
                    place: if at > 0 { Place::Above } else { Place::Below },
                });
            }
            return Ok(());
        }
        let edge = match stack.place {
            Place::Above => self.order.last(),
            Place::Below => self.order.first(),
        };
        let sibling = stack.sibling.or(edge.copied());
        if let Some(sibling) = sibling.filter(|sibling| *sibling != window)
            && self.is_on_host(window)
            && self.is_on_host(sibling)
        {
            self.act(Action::Stack {
                window,
                sibling,
                place: stack.place,
            });
        }
        Ok(())
    }

    /// The desktop's order. The guest is told what differs from what it was told before.
    pub(super) fn stacked(&mut self, order: Vec<WindowId>) {
        let order: Vec<_> = order.into_iter().filter(|w| self.is_on_host(*w)).collect();
        let same = order
            .iter()
            .zip(&self.order)
            .take_while(|(new, old)| new == old)
            .count();
        for at in same..order.len() {
            let window = order[at];
            let below = at.checked_sub(1).and_then(|at| order.get(at)).copied();
            let place = if below.is_some() {
                Place::Above
            } else {
                Place::Below
            };
            // One window alone has no order.
            if order.len() > 1 {
                self.say(Stack {
                    window,
                    sibling: below,
                    place,
                });
            }
        }
        self.order = order;
    }

    /// An app drags its window: only while somebody holds a button down in it. From then on the button is
    /// the window manager's, and its release would never come.
    pub(super) fn drag(&mut self, drag: &Drag) -> Result<(), Violation> {
        let window = drag.window;
        self.known(window)?;
        let managed = self.windows[&window]
            .on_host
            .is_some_and(|on_host| on_host.managed);
        let held = self.buttons.iter().find(|(_, held)| **held == window);
        if let Some((button, _)) = held
            && managed
        {
            let button = *button;
            self.release_buttons(Some(window));
            self.act(Action::Drag {
                window,
                grip: drag.grip,
                button,
            });
        }
        Ok(())
    }
}
