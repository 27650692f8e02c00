//! Both ends of a channel over a socket that takes little at a time, driven in any order: every message arrives
//! once, whole and in its order, however writes and reads are cut; who does not read is cut off in time.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use medley_link::{End, Error, Greets, Progress};
use medley_wire::{Dice, Encoder, Features, HEADER, Hello, Set, bulk, control, gui};
use nix::sys::socket::{setsockopt, sockopt};

use super::Target;

pub const TARGET: Target = Target {
    name: "link_pair",
    about: "two ends that send, flush and read in the order that the bytes say, over a small socket",
    max_len: 4096,
    run,
};

/// Bytes that may wait at an end.
const QUEUE: usize = 8192;
/// As small as the system lets a socket be.
const ROOM: usize = 1;

fn run(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    match dice.below(3) {
        0 => pair::<gui::FromGuest<'static>, gui::FromHost<'static>>(&mut dice),
        1 => pair::<control::FromGuest<'static>, control::FromHost<'static>>(&mut dice),
        _ => pair::<bulk::FromGuest<'static>, bulk::FromHost<'static>>(&mut dice),
    }
}

/// One side: its end, and what it shall hear.
struct Side<In: Greets, Out: Greets> {
    end: End<In, Out>,
    expected: VecDeque<Vec<u8>>,
}

fn side<In: Greets, Out: Greets>(stream: UnixStream, host: bool) -> Side<In, Out> {
    setsockopt(&stream, sockopt::SndBuf, &ROOM).expect("a socket's option");
    let hello = Hello::new(In::CHANNEL, Features::ALL, [7; 32]);
    let fd = OwnedFd::from(stream);
    let end = if host {
        End::host(fd, hello)
    } else {
        End::guest(fd, hello)
    };
    Side {
        end: end.expect("a socket").with_queue(QUEUE),
        expected: VecDeque::new(),
    }
}

fn body<S: Set>(message: &S::Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0; HEADER + S::len(message)];
    let written = Encoder::<S>::new().encode(message, &mut bytes);
    assert_eq!(written, Ok(bytes.len()));
    bytes
}

/// Sends a message; the other side shall hear it if it was taken.
fn send<'m, In: Greets, Out: Greets>(
    side: &mut Side<In, Out>,
    other: &mut VecDeque<Vec<u8>>,
    message: &Out::Message<'m>,
) {
    let waiting = side.end.outgoing().queued();
    let length = HEADER + Out::len(message);
    match side.end.outgoing().send(message) {
        Ok(()) => {
            assert!(waiting + length <= QUEUE);
            assert_eq!(side.end.outgoing().queued(), waiting + length);
            other.push_back(body::<Out>(message));
        }
        Err(Error::Full { waiting: said, .. }) => {
            assert!(said == waiting && waiting + length > QUEUE);
        }
        Err(error) => panic!("what is allowed was not sent: {error}"),
    }
}

fn read<In: Greets, Out: Greets>(side: &mut Side<In, Out>) {
    let expected = &mut side.expected;
    let read = side.end.read(|_, received| -> Result<(), Error> {
        let next = expected.pop_front();
        assert!(
            next == Some(body::<In>(&received.message)),
            "another message"
        );
        Ok(())
    });
    assert!(matches!(read, Ok(Progress::Open)), "{read:?}");
}

fn flush<In: Greets, Out: Greets>(side: &mut Side<In, Out>) {
    let all = side.end.flush().expect("a socket that is open");
    assert_eq!(all, !side.end.wants_write());
}

fn pair<Guest: Greets, Host: Greets>(dice: &mut Dice<'_>) {
    let (a, b) = UnixStream::pair().expect("two sockets");
    let mut guest = side::<Host, Guest>(a, false);
    let mut host = side::<Guest, Host>(b, true);
    while !dice.is_empty() {
        let many = dice.below(8) + 1;
        match dice.below(8) {
            0 | 1 => {
                if let Some(message) = dice.message::<Guest>()
                    && Guest::hello(&message).is_none()
                {
                    for _ in 0..many {
                        send(&mut guest, &mut host.expected, &message);
                    }
                }
            }
            // Before it was greeted a host says nothing.
            2 | 3 if host.end.agreed().is_some() => {
                if let Some(message) = dice.message::<Host>()
                    && Host::hello(&message).is_none()
                {
                    for _ in 0..many {
                        send(&mut host, &mut guest.expected, &message);
                    }
                }
            }
            4 => flush(&mut guest),
            5 => flush(&mut host),
            6 => read(&mut guest),
            _ => read(&mut host),
        }
    }
    // Whatever waits arrives when both do their part.
    let mut rounds = 0;
    loop {
        flush(&mut guest);
        read(&mut host);
        flush(&mut host);
        read(&mut guest);
        let waits = guest.end.wants_write() || host.end.wants_write();
        if !waits && guest.expected.is_empty() && host.expected.is_empty() {
            break;
        }
        rounds += 1;
        assert!(rounds < 4 * QUEUE, "it does not arrive");
    }
    assert!(guest.end.agreed().is_some() && guest.end.agreed() == host.end.agreed());
    // One that goes is seen to go.
    drop(guest);
    let over = host.end.read(|_, _| -> Result<(), Error> { Ok(()) });
    assert!(matches!(over, Ok(Progress::Ended)), "{over:?}");
}
