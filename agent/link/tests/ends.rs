//! Both ends of a channel over a real socket: greetings, cut pieces, a slow reader, a broken peer, new doors.
#![allow(clippy::unwrap_used)]
use medley_link::{Door, End, Error, Outgoing, Progress};
use medley_wire::{
    Agreed, Channel, Encoder, Features, Hello, Received, Set, Text, Untrusted, WindowId, gui,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

type Guest = End<gui::FromHost<'static>, gui::FromGuest<'static>>;
type Host = End<gui::FromGuest<'static>, gui::FromHost<'static>>;

fn hello(channel: Channel, features: Features) -> Hello {
    Hello::new(channel, features, [1; 32])
}

fn pair() -> (Guest, Host) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let all = hello(Channel::Gui, Features::ALL);
    let some = hello(Channel::Gui, Features::LZ4);
    (
        End::guest(ours.into(), all).unwrap(),
        End::host(theirs.into(), some).unwrap(),
    )
}

/// Reads once and notes what came, in words.
fn note<In: medley_link::Greets, Out: medley_link::Greets>(
    end: &mut End<In, Out>,
    into: &mut Vec<String>,
) -> Result<Progress, Error> {
    end.read(|_: &mut Outgoing<Out>, received: Received<'_, In>| {
        into.push(format!("{received:?}"));
        Ok(())
    })
}

fn greeted() -> (Guest, Host) {
    let (mut guest, mut host) = pair();
    let mut none = Vec::new();
    guest.flush().unwrap();
    note(&mut host, &mut none).unwrap();
    host.flush().unwrap();
    note(&mut guest, &mut none).unwrap();
    assert!(none.is_empty(), "hellos are not handed out");
    (guest, host)
}

fn title(text: &str) -> gui::Title<'_> {
    gui::Title {
        window: WindowId::new(7).unwrap(),
        title: Untrusted::claim(Text::cut(text)),
    }
}

#[test]
fn both_come_to_the_same() {
    let (guest, host) = greeted();
    let both = Agreed {
        version: 1,
        features: Features::LZ4,
    };
    assert_eq!((guest.agreed(), host.agreed()), (Some(both), Some(both)));
}

#[test]
fn a_host_says_nothing_before_the_guest() {
    let (_guest, mut host) = pair();
    assert!(!host.wants_write() && host.agreed().is_none());
    let mut came = Vec::new();
    assert_eq!(note(&mut host, &mut came).unwrap(), Progress::Open);
    assert!(!host.wants_write() && came.is_empty());
}

#[test]
fn waiting_for_the_hello_ends() {
    let (mut guest, host) = pair();
    let within = Duration::from_millis(30);
    let begun = Instant::now();
    let late = guest.greet::<Error>(within, |_, _| Ok(()));
    assert!(matches!(
        late,
        Err(Error::Io {
            doing: "greet in time",
            ..
        })
    ));
    assert!(begun.elapsed() >= within);
    drop(host);
    assert!(
        guest
            .greet::<Error>(Duration::from_secs(9), |_, _| Ok(()))
            .is_err()
    );
}

#[test]
fn pieces_may_be_cut_anywhere() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut host: Host = End::host(ours.into(), hello(Channel::Gui, Features::ALL)).unwrap();
    let mut encoder = Encoder::<gui::FromGuest>::new();
    let (mut bytes, mut came) = (Vec::new(), Vec::new());
    let messages: [gui::FromGuest<'_>; 3] = [
        hello(Channel::Gui, Features::ALL).into(),
        title("one").into(),
        title("two").into(),
    ];
    for message in &messages {
        let mut room = [0; 512];
        let length = encoder.encode(message, &mut room).unwrap();
        bytes.extend_from_slice(&room[..length]);
    }
    for byte in &bytes {
        theirs.write_all(&[*byte]).unwrap();
        assert_eq!(note(&mut host, &mut came).unwrap(), Progress::Open);
    }
    assert_eq!(came.len(), 2);
    assert!(came[1].contains("two"), "{came:?}");
    drop(theirs);
    assert_eq!(note(&mut host, &mut came).unwrap(), Progress::Ended);
}

#[test]
fn a_slow_reader_gets_everything_in_order() {
    let (mut guest, mut host) = greeted();
    let words: Vec<String> = (0..4000)
        .map(|n| format!("title {n} {}", "x".repeat(180)))
        .collect();
    for word in &words {
        guest.send(title(word)).unwrap();
    }
    assert!(!guest.flush().unwrap(), "a socket's buffer holds less");
    assert!(guest.interest().contains(PollFlags::POLLOUT));
    let mut came = Vec::new();
    while came.len() < words.len() {
        guest.flush().unwrap();
        note(&mut host, &mut came).unwrap();
    }
    assert!(!guest.wants_write());
    for (line, word) in came.iter().zip(&words) {
        assert!(line.contains(word.as_str()));
    }
}

#[test]
fn who_never_reads_is_cut_off() {
    let (guest, _host) = greeted();
    let mut guest = guest.with_queue(10_000);
    let error = loop {
        if let Err(error) = guest.send(title("again")).and_then(|()| guest.flush()) {
            break error;
        }
    };
    let Error::Full { waiting, .. } = error else {
        panic!("{error}")
    };
    assert!(waiting <= 10_000 && waiting > 9_000);
}

#[test]
fn what_breaks_a_limit_is_not_sent_and_harms_nothing() {
    let (mut guest, mut host) = greeted();
    let long = medley_wire::List::new(vec![
        Untrusted::claim(medley_wire::Rect::whole(
            medley_wire::Size::new(1, 1).unwrap()
        ));
        65
    ]);
    let window = WindowId::new(7).unwrap();
    let shape = gui::WindowShape {
        window,
        of: medley_wire::window::ShapeOf::Outline,
        rects: long,
    };
    assert!(matches!(guest.send(shape), Err(Error::Refused { .. })));
    guest.send(title("after")).unwrap();
    guest.flush().unwrap();
    let mut came = Vec::new();
    note(&mut host, &mut came).unwrap();
    assert!(came.len() == 1 && came[0].contains("after"));
}

#[test]
fn a_broken_peer_is_told_why() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut host: Host = End::host(ours.into(), hello(Channel::Gui, Features::ALL)).unwrap();
    theirs.write_all(&[0xff; 40]).unwrap();
    let error = note(&mut host, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, Error::Fault { .. }), "{error}");
    drop(host);
    let mut said = Vec::new();
    theirs.read_to_end(&mut said).unwrap();
    assert_eq!(said[4..6], [2, 0], "a farewell");
}

/// As an agent that was killed and started again does: the hypervisor passes its bytes on as one stream.
#[test]
fn a_new_beginning_on_the_same_stream_is_an_end() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let all = hello(Channel::Gui, Features::ALL);
    let mut host = Host::host(theirs.into(), all.clone()).unwrap();
    let mut said = Vec::new();
    for (count, progress) in [(1, Progress::Open), (2, Progress::Ended)] {
        let mut guest = Guest::guest(ours.try_clone().unwrap().into(), all.clone()).unwrap();
        guest.send(title("here")).unwrap();
        guest.flush().unwrap();
        assert_eq!(note(&mut host, &mut said).unwrap(), progress, "{said:?}");
        // What an agent may say before the answer came waits; nothing follows the second hello.
        assert!(said.len() <= count, "{said:?}");
        host.flush().unwrap();
    }
    // No farewell: the next to read would take it for its own.
    let mut rest = [0; 4096];
    ours.set_nonblocking(true).unwrap();
    let read = (&ours).read(&mut rest).unwrap();
    let greeting = Encoder::<gui::FromHost>::new()
        .encode(&all.into(), &mut [0; 4096])
        .unwrap();
    assert_eq!(
        read, greeting,
        "the answer to the first hello and nothing more"
    );
}

#[test]
fn crossed_ports_show() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let bulk = hello(Channel::Bulk, Features::ALL);
    let mut guest: Guest = End::guest(ours.into(), bulk).unwrap();
    guest.flush().unwrap();
    let mut host: Host = End::host(theirs.into(), hello(Channel::Gui, Features::ALL)).unwrap();
    let error = note(&mut host, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("crossed"), "{error}");
    let mut came = Vec::new();
    note(&mut guest, &mut came).unwrap();
    assert!(came[0].contains("Bye"), "{came:?}");
}

#[test]
fn the_hand_may_answer_and_may_refuse() {
    let (mut guest, mut host) = greeted();
    let window = WindowId::new(7).unwrap();
    guest.send(title("x")).unwrap();
    guest.flush().unwrap();
    host.read(|outgoing, _| outgoing.send(&gui::Close { window }.into()))
        .unwrap();
    host.flush().unwrap();
    let refused = guest.read(|_, received| -> Result<(), Error> {
        assert!(matches!(received.message, gui::FromHost::Close(_)));
        Err(Error::Misfit(3))
    });
    assert!(matches!(refused, Err(Error::Misfit(3))));
}

#[test]
fn a_door_opens_when_somebody_listens_and_again_after_a_break() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gui");
    let mut door = Door::new(&path);
    assert!(door.knock().unwrap().is_none(), "nobody is there");
    let listener = UnixListener::bind(&path).unwrap();
    for round in 0..2 {
        let fd = door.knock().unwrap().unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut guest: Guest = End::guest(fd, hello(Channel::Gui, Features::ALL)).unwrap();
        let mut host: Host = End::host(stream.into(), hello(Channel::Gui, Features::ALL)).unwrap();
        guest.flush().unwrap();
        let mut came = Vec::new();
        note(&mut host, &mut came).unwrap();
        guest.send(title("hi")).unwrap();
        guest.flush().unwrap();
        note(&mut host, &mut came).unwrap();
        // Numbers begin anew: the second round's messages are as good as the first's.
        assert!(
            came.len() == 1 && came[0].starts_with('1'),
            "round {round}: {came:?}"
        );
        drop(host);
        assert!(matches!(
            note(&mut guest, &mut came),
            Ok(Progress::Ended) | Err(Error::Io { .. })
        ));
    }
    drop(listener);
    assert!(
        door.knock().unwrap().is_none(),
        "a socket without a listener"
    );
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = Door::new(&file).knock().unwrap_err();
    assert!(error.to_string().contains("virtio-serial"), "{error}");
}

/// A pseudo terminal hangs up as a virtio port does when its other side closes.
#[test]
fn a_device_that_is_there_opens_at_once() {
    let pty = nix::pty::openpty(None, None).unwrap();
    let name = nix::unistd::ttyname(&pty.slave).unwrap();
    let mut door = Door::new(name);
    let fd = door.knock().unwrap().unwrap();
    assert!(door.as_fd().is_none(), "nothing is left to wait for");
    drop((pty.slave, pty.master));
    let mut asked = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut asked, PollTimeout::ZERO).unwrap();
    assert!(asked[0].revents().unwrap().contains(PollFlags::POLLHUP));
}

#[test]
fn the_queue_is_as_long_as_the_largest_message_needs() {
    let largest = gui::FromGuest::TABLE.iter().map(|e| e.max).max().unwrap();
    let (mut guest, _host) = greeted();
    let side = medley_wire::Size::new(2048, 2048).unwrap();
    let pixels = vec![3; side.bytes()];
    assert_eq!(pixels.len(), medley_wire::limits::PIXEL_BYTES);
    let patch = |frame| gui::Pixels {
        window: WindowId::new(7).unwrap(),
        frame,
        took: [0; 2],
        last: true,
        patch: Untrusted::claim(medley_wire::pixels::Patch {
            rect: medley_wire::Rect::whole(side),
            format: medley_wire::pixels::Format::Xrgb,
            payload: medley_wire::pixels::Payload::Raw(medley_wire::Bytes(&pixels)),
        }),
    };
    for frame in 0..3 {
        guest.send(patch(frame)).unwrap();
    }
    assert_eq!(guest.outgoing().queued(), 3 * largest);
}
