//! The keyboard and the desktop's attention are asked for with tokens. One that names a key or click of a moment ago
//! gives a new window the keyboard; one that names nothing makes the desktop point to a window, and no more. What
//! counts as a moment the compositor decides.
use super::{Name, State};
use wayland_client::{Connection, Dispatch, QueueHandle};
use wayland_protocols::xdg::activation::v1::client::xdg_activation_token_v1::{
    self, XdgActivationTokenV1,
};

impl State {
    /// Asks for a token for a surface: for its keyboard, if somebody did something that led to it.
    pub(super) fn ask_token(&self, name: Name, by_user: bool) {
        let Some(activation) = &self.globals.activation else {
            return;
        };
        let token = activation.get_activation_token(&self.qh, name);
        if by_user {
            let focus = self.keyboard.focus().and_then(|name| self.hosts.get(&name));
            let (Some(seat), Some(focus)) = (&self.globals.seat, focus) else {
                // Nobody works here: a new window of a launch begins as the desktop likes it.
                token.destroy();
                return;
            };
            token.set_serial(self.keyboard.serial, seat);
            token.set_surface(&focus.surface);
        }
        token.commit();
    }

    /// A token came: it is used once there is something to see.
    fn token(&mut self, name: Name, token: String) {
        let Some(host) = self.hosts.get_mut(&name) else {
            return;
        };
        if host.mapped {
            self.activate(name, token);
        } else {
            host.token = Some(token);
        }
    }

    pub(super) fn activate(&self, name: Name, token: String) {
        if let (Some(host), Some(activation)) = (self.hosts.get(&name), &self.globals.activation) {
            activation.activate(token, &host.surface);
        }
    }
}

impl Dispatch<XdgActivationTokenV1, Name> for State {
    fn event(
        state: &mut Self,
        proxy: &XdgActivationTokenV1,
        event: xdg_activation_token_v1::Event,
        name: &Name,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_activation_token_v1::Event::Done { token } = event {
            proxy.destroy();
            state.token(*name, token);
        }
    }
}
