//! The beginning of a connection: version, no password, one screen with others.
use crate::{Error, Fault, PIXELS_MOST, Result, Say, TEXT_MOST, check_size};
use std::io::{self, Read, Write};

const VERSION: &[u8; 12] = b"RFB 003.008\n";
/// The way to log in that is none.
const NO_LOGIN: u8 = 1;

/// Greets whoever shows a screen, and says what is understood; the screen's size.
///
/// # Errors
/// It is no screen, it wants a password, or it is too large; or the connection fails.
pub fn greet<S: Read + Write>(stream: &mut S) -> Result<(u16, u16)> {
    let mut version = [0; VERSION.len()];
    read(stream, &mut version)?;
    if &version != VERSION {
        let said = version.escape_ascii().to_string();
        return Err(Fault::Version(said).into());
    }
    write(stream, VERSION)?;
    let [count] = bytes(stream)?;
    if count == 0 {
        return Err(refused(stream)?.into());
    }
    let mut ways = vec![0; usize::from(count)];
    read(stream, &mut ways)?;
    if !ways.contains(&NO_LOGIN) {
        return Err(Fault::Security(ways).into());
    }
    write(stream, &[NO_LOGIN])?;
    if u32::from_be_bytes(bytes(stream)?) != 0 {
        return Err(refused(stream)?.into());
    }
    // Others may look, too.
    write(stream, &[1])?;
    let [w0, w1, h0, h1] = bytes(stream)?;
    let size = (u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1]));
    // Its own way to write pixels is of no interest: it is told ours.
    let _: [u8; 16] = bytes(stream)?;
    // Nor is its name: a window is called after its workspace.
    text(stream, "a screen's name")?;
    check_size(size.0, size.1, PIXELS_MOST)?;
    write(stream, &Say::Format.bytes())?;
    write(stream, &Say::Encodings.bytes())?;
    Ok(size)
}

fn refused(stream: &mut impl Read) -> Result<Fault> {
    let reason = text(stream, "a reason to turn us away")?;
    Ok(Fault::Refused(reason.escape_ascii().to_string()))
}

fn text(stream: &mut impl Read, what: &'static str) -> Result<Vec<u8>> {
    let length = u32::from_be_bytes(bytes(stream)?);
    if length > TEXT_MOST {
        let most = TEXT_MOST;
        return Err(Fault::Long { what, length, most }.into());
    }
    let mut text = vec![0; length as usize];
    read(stream, &mut text)?;
    Ok(text)
}

fn bytes<const N: usize>(stream: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    read(stream, &mut bytes)?;
    Ok(bytes)
}

fn read(stream: &mut impl Read, into: &mut [u8]) -> Result<()> {
    stream.read_exact(into).map_err(lost)
}

fn write(stream: &mut impl Write, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).map_err(lost)
}

fn lost(source: io::Error) -> Error {
    Error::Lost {
        doing: "greeting it",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says what is prepared, whatever it hears.
    struct Script<'a> {
        says: &'a [u8],
        heard: Vec<u8>,
    }

    impl Read for Script<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.says.read(into)
        }
    }

    impl Write for Script<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn greeted(says: &[&[u8]]) -> (Result<(u16, u16)>, Vec<u8>) {
        let says = says.concat();
        let mut script = Script {
            says: &says,
            heard: Vec::new(),
        };
        (greet(&mut script), script.heard)
    }

    fn fault(says: &[&[u8]]) -> Fault {
        match greeted(says).0.unwrap_err() {
            Error::Fault(fault) => fault,
            other => panic!("{other}"),
        }
    }

    const FORMAT: &[u8] = &[32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];

    #[test]
    fn a_screen_without_a_password_is_greeted() {
        let says: [&[u8]; 7] = [
            VERSION,
            &[2, 16, 1],
            &[0, 0, 0, 0],
            &[5, 0, 3, 32],
            FORMAT,
            &[0, 0, 0, 4],
            b"QEMU",
        ];
        let (size, heard) = greeted(&says);
        assert_eq!(size.unwrap(), (1280, 800));
        let said = [
            VERSION.as_slice(),
            &[1, 1],
            &Say::Format.bytes(),
            &Say::Encodings.bytes(),
        ];
        assert_eq!(heard, said.concat());
    }

    #[test]
    fn whoever_is_no_such_screen_is_told_so() {
        assert_eq!(
            fault(&[b"HTTP/1.1 400"]),
            Fault::Version("HTTP/1.1 400".into())
        );
        assert_eq!(fault(&[VERSION, &[1, 2]]), Fault::Security(vec![2]));
        assert_eq!(
            fault(&[VERSION, &[0], &[0, 0, 0, 2], b"n\x1b"]),
            Fault::Refused("n\\x1b".into())
        );
        assert_eq!(
            fault(&[VERSION, &[1, 1], &[0, 0, 0, 1], &[0, 0, 0, 2], b"no"]),
            Fault::Refused("no".into())
        );
        let long = fault(&[VERSION, &[0], &[255; 4]]);
        assert!(matches!(long, Fault::Long { .. }), "{long}");
        let start: [&[u8]; 3] = [VERSION, &[1, 1], &[0; 4]];
        for size in [[0, 0, 1, 0], [255, 255, 1, 0], [32, 0, 32, 0]] {
            let says = [&start[..], &[&size, FORMAT, &[0; 4]]].concat();
            assert!(matches!(fault(&says), Fault::Size(..)), "{size:?}");
        }
    }

    #[test]
    fn a_greeting_that_stops_is_an_error() {
        let says = [VERSION.as_slice(), &[1, 1], &[0; 4], &[5, 0, 3, 32], FORMAT].concat();
        for end in 0..says.len() {
            let error = greeted(&[&says[..end]]).0.unwrap_err();
            assert!(matches!(error, Error::Lost { .. }), "{end}: {error}");
        }
    }
}
