//! Which window system a presenter shows its windows on.
use std::env;

/// A window system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Server {
    /// Whichever is there; X11, if both are: there a window can be put where the guest has it.
    #[default]
    Auto,
    /// X11.
    X11,
    /// Wayland.
    Wayland,
}

/// What the environment says of displays.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// It names an X display.
    pub x11: bool,
    /// It names a Wayland display.
    pub wayland: bool,
}

impl Environment {
    /// The process's own.
    #[must_use]
    pub fn real() -> Self {
        let named = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        Self {
            x11: named("DISPLAY"),
            wayland: named("WAYLAND_DISPLAY") || named("WAYLAND_SOCKET"),
        }
    }
}

/// Decides; [`Server::Auto`] if both may be there.
#[must_use]
pub fn choose(server: Server, name: Option<&str>, environment: &Environment) -> Server {
    match (server, name) {
        // X displays are called `:0` or `host:0`; Wayland's are names of sockets.
        (Server::Auto, Some(name)) if name.contains(':') => Server::X11,
        (Server::Auto, Some(_)) => Server::Wayland,
        (Server::Auto, None) => match (environment.x11, environment.wayland) {
            (true, true) => Server::Auto,
            (false, true) => Server::Wayland,
            _ => Server::X11,
        },
        (asked, _) => asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x11_goes_first_where_both_are() {
        let of = |x11, wayland| choose(Server::Auto, None, &Environment { x11, wayland });
        assert_eq!(of(true, true), Server::Auto);
        assert_eq!(
            (of(true, false), of(false, true)),
            (Server::X11, Server::Wayland)
        );
        assert_eq!(of(false, false), Server::X11);
        let both = Environment {
            x11: true,
            wayland: true,
        };
        assert_eq!(choose(Server::Auto, Some(":7"), &both), Server::X11);
        assert_eq!(
            choose(Server::Auto, Some("wayland-1"), &both),
            Server::Wayland
        );
        assert_eq!(choose(Server::Wayland, None, &both), Server::Wayland);
    }
}
