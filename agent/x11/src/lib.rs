//! A connection to an X server, for those who answer each repaint: it asks the kernel only what it does not know.
//!
//! x11rb asks whether it may write before every request, though requests only go into its own buffer, and again before
//! it sends them; and it reads until there is nothing left, though a read that filled less than was offered has said so
//! already. Each of these costs little, and they are most of the calls between a repaint and its pixels: in an emulated
//! guest, a tenth of the time from a key to what it shows.

mod eager;

pub use eager::Eager;

use x11rb::errors::{ConnectError, DisplayParsingError};
use x11rb::reexports::x11rb_protocol::parse_display::parse_display;
use x11rb::reexports::x11rb_protocol::xauth::get_auth;
use x11rb::rust_connection::{DefaultStream, RustConnection};

/// A connection to an X server over an [`Eager`] stream. It is used as any of x11rb's.
pub type Conn = RustConnection<Eager<DefaultStream>>;

/// Connects to a display, or to the one that `DISPLAY` names; also tells which of its screens is meant.
///
/// # Errors
/// The name is none of a display's, nobody answers there, or the server does not want us.
pub fn connect(name: Option<&str>) -> Result<(Conn, usize), ConnectError> {
    let display = parse_display(name)?;
    let screen = usize::from(display.screen);
    let mut failed = ConnectError::from(DisplayParsingError::Unknown);
    for address in display.connect_instruction() {
        match DefaultStream::connect(&address) {
            Ok((stream, (family, peer))) => {
                // Without a word that proves who we are, the server may still know us by our user.
                let proof = get_auth(family, &peer, display.display).ok().flatten();
                let (kind, proof) = proof.unwrap_or_default();
                let stream = Eager::from(stream);
                let conn = Conn::connect_to_stream_with_auth_info(stream, screen, kind, proof)?;
                return Ok((conn, screen));
            }
            Err(error) => failed = error.into(),
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_no_display_and_of_nobody_are_told_apart() {
        let bad = connect(Some("no display"));
        assert!(matches!(bad, Err(ConnectError::DisplayParsingError(_))));
        // Numbers of real servers are small.
        let nobody = connect(Some(":59000"));
        assert!(matches!(nobody, Err(ConnectError::IoError(_))));
    }
}
