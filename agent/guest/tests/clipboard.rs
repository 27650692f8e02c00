//! Copies and pastes across the border, with apps of the guest and a host that is a script.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::{Desktop, Process};
use medley_wire::bulk::{Carries, Chunk, End, Open};
use medley_wire::control::{
    Allowed, Answer, ClipboardForm, ClipboardKind, ClipboardOffer, ClipboardRequest, Settings,
    Verdict,
};
use medley_wire::limits::CHUNK_BYTES;
use medley_wire::{Bytes, Features, List, Text, Untrusted};
use std::time::Duration;
use support::display;
use support::selections::App;
use support::{Doors, Host, agent};

fn start() -> (Desktop, Doors, Process, Host) {
    let server = display::virtual_one();
    let doors = Doors::new();
    let agent = agent(&server, &doors, &[]);
    let host = Host::accept(&doors, Features::ALL, None);
    (server, doors, agent, host)
}

fn request(host: &mut Host, transfer: u32, sequence: u32, kind: ClipboardKind) {
    host.order(ClipboardRequest {
        transfer,
        sequence,
        kind,
    });
}

fn verdict(host: &mut Host, transfer: u32) -> Verdict {
    host.until("an answer", |model| {
        model.answers.iter().any(|(t, _)| *t == transfer)
    });
    host.model
        .answers
        .iter()
        .find(|(t, _)| *t == transfer)
        .unwrap()
        .1
}

fn offer(host: &mut Host, sequence: u32, kinds: &[ClipboardKind]) {
    let forms = kinds.iter().map(|kind| ClipboardForm {
        kind: *kind,
        size: 0,
    });
    host.order(ClipboardOffer {
        sequence,
        forms: List::new(forms.collect()),
    });
}

/// Sends a stream as a host does, never further ahead than it may be.
fn stream(host: &mut Host, transfer: u32, data: &[u8]) {
    host.bulk
        .send(Open {
            stream: 0,
            transfer,
            carries: Carries::Clipboard,
            size: Untrusted::claim(data.len() as u64),
        })
        .unwrap();
    for (index, piece) in data.chunks(CHUNK_BYTES).enumerate() {
        host.bulk
            .send(Chunk {
                stream: 0,
                offset: (index * CHUNK_BYTES) as u64,
                data: Bytes(piece),
            })
            .unwrap();
        host.turn(Duration::from_millis(20));
    }
    host.bulk
        .send(End {
            stream: 0,
            size: data.len() as u64,
        })
        .unwrap();
    while !host.bulk.flush().unwrap() {
        host.turn(Duration::from_millis(20));
    }
}

#[test]
fn what_the_guest_copies_the_host_can_paste() {
    let (server, _doors, _agent, mut host) = start();
    let text = "žluťoučký — 1".as_bytes().to_vec();
    let _owner = App::new(&server).copy("UTF8_STRING", text.clone(), 1 << 16);
    host.until("an offer", |model| {
        model
            .offers
            .last()
            .is_some_and(|(_, kinds)| kinds == &[ClipboardKind::Text])
    });
    let sequence = host.model.offers.last().unwrap().0;
    request(&mut host, 3, sequence, ClipboardKind::Text);
    host.until("the bytes", |model| model.ended.contains(&3));
    assert_eq!(verdict(&mut host, 3), Verdict::Yes);
    assert_eq!(host.model.streams[&3], text);
    request(&mut host, 4, sequence, ClipboardKind::Picture);
    assert_eq!(verdict(&mut host, 4), Verdict::Kind);

    // A picture in pieces, copied over the text: requests for the text are out of date.
    let picture: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7) as u8).collect();
    let _owner = App::new(&server).copy("image/png", picture.clone(), 60_000);
    host.until("a newer offer", |model| {
        model
            .offers
            .last()
            .is_some_and(|(_, kinds)| kinds == &[ClipboardKind::Picture])
    });
    request(&mut host, 5, sequence, ClipboardKind::Text);
    assert_eq!(verdict(&mut host, 5), Verdict::Stale);
    let newer = host.model.offers.last().unwrap().0;
    assert_ne!(newer, sequence);
    request(&mut host, 6, newer, ClipboardKind::Picture);
    // More than four chunks: the host must say that it has received some.
    let mut told = 0;
    let end = std::time::Instant::now() + support::PATIENCE;
    while !host.model.ended.contains(&6) {
        assert!(std::time::Instant::now() < end, "the picture never ended");
        host.turn(Duration::from_millis(20));
        let come = host.model.streams.get(&6).map_or(0, |s| s.len() as u64);
        assert!(
            come <= told + 4 * CHUNK_BYTES as u64,
            "further ahead than it may be"
        );
        if come > told
            && let Some(stream) = host.model.stream_of(6)
        {
            told = come;
            let bytes = come;
            host.bulk
                .send(medley_wire::bulk::Received { stream, bytes })
                .unwrap();
        }
    }
    assert!(host.model.streams[&6] == picture);
}

#[test]
fn what_the_host_copies_apps_can_paste() {
    let (server, _doors, _agent, mut host) = start();
    offer(&mut host, 11, &[ClipboardKind::Text]);
    let app = App::new(&server);
    let end = std::time::Instant::now() + support::PATIENCE;
    while app.owner() == 0 {
        assert!(
            std::time::Instant::now() < end,
            "the agent does not own the clipboard"
        );
        host.turn(Duration::from_millis(10));
    }
    app.ask("TARGETS");
    let (_, names) = app.wait().unwrap();
    let names: Vec<u32> = names
        .chunks_exact(4)
        .map(|n| u32::from_ne_bytes(n.try_into().unwrap()))
        .collect();
    assert!(names.contains(&app.atom("UTF8_STRING")) && !names.contains(&app.atom("image/png")));
    assert!(
        host.model.requests.is_empty(),
        "nothing moves before somebody pastes"
    );

    app.ask("UTF8_STRING");
    host.until("a request", |model| model.requests.len() == 1);
    let wanted = host.model.requests[0].clone();
    assert_eq!((wanted.sequence, wanted.kind), (11, ClipboardKind::Text));
    host.order(Answer {
        transfer: wanted.transfer,
        verdict: Verdict::Yes,
    });
    let text = "ü€".repeat(400_000);
    stream(&mut host, wanted.transfer, text.as_bytes());
    let (kind, got) = app.wait().unwrap();
    assert_eq!(kind, app.atom("UTF8_STRING"));
    assert!(
        got == text.as_bytes(),
        "{} bytes of {}",
        got.len(),
        text.len()
    );

    // An app that knows only Latin-1.
    app.ask("STRING");
    host.until("a request", |model| model.requests.len() == 2);
    let transfer = host.model.requests[1].transfer;
    stream(&mut host, transfer, "é€".as_bytes());
    assert_eq!(app.wait().unwrap().1, b"\xe9?");

    // A policy says no; a form that was not offered; an offer that was taken back.
    app.ask("UTF8_STRING");
    host.until("a request", |model| model.requests.len() == 3);
    let transfer = host.model.requests[2].transfer;
    host.order(Answer {
        transfer,
        verdict: Verdict::Policy,
    });
    assert_eq!(app.wait(), None);
    app.ask("image/png");
    assert_eq!(app.wait(), None);
    offer(&mut host, 12, &[]);
    let end = std::time::Instant::now() + support::PATIENCE;
    while app.owner() != 0 {
        assert!(
            std::time::Instant::now() < end,
            "the agent still owns the clipboard"
        );
        host.turn(Duration::from_millis(10));
    }
}

#[test]
fn a_policy_against_it_and_a_host_that_goes() {
    let (server, doors, _agent, mut host) = start();
    host.order(Settings {
        allowed: Allowed::ALL.without(Allowed::CLIPBOARD_OUT),
        dark: false,
        locale: Text::cut("C"),
        workspace: Text::cut("w"),
    });
    host.watch(Duration::from_millis(100));
    let owner = App::new(&server).copy("UTF8_STRING", b"secret".to_vec(), 1 << 16);
    host.watch(Duration::from_millis(300));
    assert!(host.model.offers.is_empty(), "it is not even offered");
    // The host copies, an app begins to paste, and the host goes: the app is told, and does not wait.
    offer(&mut host, 5, &[ClipboardKind::Text]);
    assert_eq!(owner.join().unwrap(), 0, "nobody asked for the secret");
    let app = App::new(&server);
    app.ask("UTF8_STRING");
    host.until("a request", |model| model.requests.len() == 1);
    drop(host);
    assert_eq!(app.wait(), None);
    let _host = Host::accept(&doors, Features::ALL, None);
}
