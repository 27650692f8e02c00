//! Copies, each way by its chord.
use super::*;

/// A presenter with all three channels, and a window that has the keyboard.
struct All {
    sway: Sway,
    hands: Hands,
    _sockets: Sockets,
    presenter: Presenter,
    guest: Guest,
    control: Line<control::FromHost<'static>, control::FromGuest<'static>>,
    bulk: Line<bulk::FromHost<'static>, bulk::FromGuest<'static>>,
}

fn with_clipboard() -> Option<All> {
    if !sway::is_installed() {
        return None;
    }
    let (sway, sockets) = (Sway::new(FLOATING), Sockets::new());
    let hands = sway.hands();
    let (control, bulk) = (sockets.listen("control"), sockets.listen("bulk"));
    let path = |name: &str| sockets.dir.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (path("control"), path("bulk"));
    let mut presenter = sway.presenter(
        &sockets,
        &[
            "--control",
            &a,
            "--bulk",
            &b,
            "--clipboard-in",
            "chord",
            "--clipboard-out",
            "chord",
        ],
    );
    let mut guest = sockets.accept();
    let control = Line::accept(&control, Channel::Control);
    let bulk = Line::accept(&bulk, Channel::Bulk);
    guest.begin();
    presenter.event("whole");
    shown(&sway, &mut guest, 1, rect(100, 100, 300, 200));
    focus(&mut guest, 1);
    Some(All {
        sway,
        hands,
        _sockets: sockets,
        presenter,
        guest,
        control,
        bulk,
    })
}

/// Super, Shift and a key.
fn chord(hands: &mut Hands, code: u32) {
    hands.modifiers(0x41, 0);
    hands.key(code);
    hands.modifiers(0, 0);
}

#[test]
fn a_copy_of_the_hosts_reaches_the_guest_by_chord() {
    let Some(mut all) = with_clipboard() else {
        return;
    };
    let mut copy = all.sway.command("wl-copy");
    let copied = copy
        .args(["--type", "text/plain", "from the hóst"])
        .status();
    assert!(copied.unwrap().success());
    std::thread::sleep(Duration::from_millis(100));
    chord(&mut all.hands, 47);
    let offer = |message: &control::FromHost<'_>| match message {
        control::FromHost::ClipboardOffer(offer) => Some(offer.sequence),
        _ => None,
    };
    let sequence = all.control.wait("an offer", offer);
    all.control.say(control::ClipboardRequest {
        transfer: 5,
        sequence,
        kind: ClipboardKind::Text,
    });
    let verdict = all.control.wait("an answer", |message| match message {
        control::FromHost::Answer(answer) if answer.transfer == 5 => Some(answer.verdict),
        _ => None,
    });
    assert_eq!(verdict, Verdict::Yes);
    let text = all.bulk.wait("the text", |message| match message {
        bulk::FromHost::Chunk(chunk) => Some(String::from_utf8(chunk.data.0.to_vec()).unwrap()),
        _ => None,
    });
    assert_eq!(text, "from the hóst");
    let _ = &all.guest;
}

#[test]
fn a_copy_of_the_guests_reaches_the_host_by_chord() {
    let Some(mut all) = with_clipboard() else {
        return;
    };
    let form = ClipboardForm {
        kind: ClipboardKind::Text,
        size: 0,
    };
    all.control.say(ClipboardOffer {
        sequence: 9,
        forms: List::new(vec![form]),
    });
    std::thread::sleep(Duration::from_millis(100));
    chord(&mut all.hands, 46);
    all.presenter.event("chord");
    // Much more than a pipe holds: whoever pastes takes its time.
    let text = "0123456789abcde\n".repeat(4000);
    let types = |sway: &Sway| {
        let out = sway
            .command("wl-paste")
            .arg("--list-types")
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    wait_for("an offer of text", || {
        types(&all.sway).contains("text/plain")
    });
    let mut paste = all.sway.command("wl-paste");
    let paste = paste
        .args(["--no-newline", "--type", "text/plain;charset=utf-8"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let transfer = all.control.wait("a request", |message| match message {
        control::FromHost::ClipboardRequest(r) if r.sequence == 9 => Some(r.transfer),
        _ => None,
    });
    all.control.say(control::Answer {
        transfer,
        verdict: Verdict::Yes,
    });
    let (stream, size) = (1, text.len() as u64);
    all.bulk.say(bulk::Open {
        stream,
        transfer,
        carries: bulk::Carries::Clipboard,
        size: Untrusted::claim(size),
    });
    let mut offset = 0;
    for bytes in text.as_bytes().chunks(32 << 10) {
        all.bulk.say(bulk::Chunk {
            stream,
            offset,
            data: medley_wire::Bytes(bytes),
        });
        offset += bytes.len() as u64;
    }
    all.bulk.say(bulk::End { stream, size });
    let pasted = paste.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(pasted.stdout).unwrap(), text);
    // A lock takes it back.
    all.presenter.command("lock");
    wait_for("an empty clipboard", || {
        !types(&all.sway).contains("text/plain")
    });
}
