use super::*;
use proptest::prelude::*;

const NOW: Duration = Duration::ZERO;

fn clipboard(inward: Way, outward: Way) -> Clipboard {
    Clipboard::new(Policy {
        inward,
        outward,
        bytes: 16,
        pictures: 0,
    })
}

fn offer(sequence: u32) -> ClipboardOffer {
    ClipboardOffer {
        sequence,
        forms: List::new(vec![ClipboardForm {
            kind: ClipboardKind::Text,
            size: 4,
        }]),
    }
}

fn granted(clipboard: &mut Clipboard, transfer: u32) {
    let verdict = Verdict::Yes;
    clipboard.guest_answers(&Answer { transfer, verdict }, &mut Vec::new());
}

fn fetch(transfer: u32) -> Act {
    Act::Fetch {
        transfer,
        form: Form::Text,
        most: 16,
    }
}

fn give(ticket: u32, text: Option<&str>) -> Act {
    let content = text.map(|text| Content::Text(text.to_owned()));
    Act::Give { ticket, content }
}

#[test]
fn both_directions_are_denied_by_default() {
    let (mut clipboard, mut out) = (Clipboard::new(Policy::default()), Vec::new());
    clipboard.focus(true, &mut out);
    clipboard.guest_offers(&offer(1), &mut out);
    clipboard.host_copied(Forms::TEXT, &mut out);
    assert!(out.is_empty(), "{out:?}");
    clipboard.copy_chord(&mut out);
    clipboard.paste_chord(&mut out);
    assert!(matches!(out[..], [Act::Refused(_), Act::Refused(_)]));
    let ask = ClipboardRequest {
        transfer: 1,
        sequence: 1,
        kind: ClipboardKind::Text,
    };
    clipboard.guest_pastes(&ask, NOW, &mut out);
    assert_eq!(out.pop(), Some(say_answer(1, Verdict::Policy)));
}

#[test]
fn a_guests_copy_reaches_the_host_when_somebody_pastes() {
    let (mut clipboard, mut out) = (clipboard(Way::Denied, Way::Chord), Vec::new());
    clipboard.guest_offers(&offer(7), &mut out);
    assert!(out.is_empty(), "no data and no ownership without the chord");
    clipboard.copy_chord(&mut out);
    assert_eq!(out.pop(), Some(Act::Own(Forms::TEXT)));
    clipboard.host_pastes(5, Form::Text, NOW, &mut out);
    assert!(matches!(
        out.pop(),
        Some(Act::Say(FromHost::ClipboardRequest(_)))
    ));
    assert_eq!(
        (clipboard.expects(1), clipboard.expects(2)),
        (Some(16), None)
    );
    granted(&mut clipboard, 1);
    clipboard.guest_sent(1, Some(b"a\x1b[31m\nb\t"), &mut out);
    assert_eq!(out, [give(5, Some("a[31m\nb\t"))]);
}

/// Qubes bulletin 13: an answer that comes late overwrote what had been copied since.
#[test]
fn qsb_013_a_late_answer_cannot_overwrite_a_newer_copy() {
    let (mut clipboard, mut out) = (clipboard(Way::Denied, Way::Chord), Vec::new());
    clipboard.guest_offers(&offer(1), &mut out);
    clipboard.copy_chord(&mut out);
    clipboard.host_pastes(5, Form::Text, NOW, &mut out);
    granted(&mut clipboard, 1);
    out.clear();
    // Somebody copies on the host before the guest's bytes come.
    clipboard.host_copied(Forms::TEXT, &mut out);
    assert_eq!(out, [give(5, None)]);
    out.clear();
    clipboard.guest_sent(1, Some(b"late"), &mut out);
    granted(&mut clipboard, 1);
    assert!(out.is_empty(), "{out:?}");
    assert_eq!(clipboard.expects(1), None);
    clipboard.host_pastes(6, Form::Text, NOW, &mut out);
    assert_eq!(out, [give(6, None)], "the host's clipboard is the host's");
}

/// Qubes bulletin 11: the tail of an older, longer copy came along with a shorter one.
#[test]
fn qsb_011_no_tail_of_an_older_copy() {
    let (mut clipboard, mut out) = (clipboard(Way::Denied, Way::Chord), Vec::new());
    for (sequence, text) in [(1, "a long secret"), (2, "short"), (3, "")] {
        clipboard.guest_offers(&offer(sequence), &mut out);
        clipboard.copy_chord(&mut out);
        clipboard.host_pastes(sequence, Form::Text, NOW, &mut out);
        granted(&mut clipboard, sequence);
        out.clear();
        clipboard.guest_sent(sequence, Some(text.as_bytes()), &mut out);
        assert_eq!(out, [give(sequence, Some(text))]);
    }
}

#[test]
fn a_guest_pastes_only_what_was_offered_to_it_while_it_has_the_keyboard() {
    let (mut clipboard, mut out) = (clipboard(Way::Chord, Way::Denied), Vec::new());
    let ask = |transfer, sequence| ClipboardRequest {
        transfer,
        sequence,
        kind: ClipboardKind::Text,
    };
    clipboard.focus(true, &mut out);
    clipboard.host_copied(Forms::TEXT, &mut out);
    assert!(out.is_empty());
    clipboard.guest_pastes(&ask(1, 1), NOW, &mut out);
    assert_eq!(out.pop(), Some(say_answer(1, Verdict::Stale)), "guessed");
    clipboard.paste_chord(&mut out);
    assert!(matches!(
        out.pop(),
        Some(Act::Say(FromHost::ClipboardOffer(_)))
    ));
    clipboard.guest_pastes(&ask(2, 1), NOW, &mut out);
    assert_eq!(out.pop(), Some(fetch(2)));
    clipboard.host_gave(2, Some(Content::Text("x".repeat(17))), &mut out);
    assert_eq!(out.pop(), Some(say_answer(2, Verdict::TooLarge)));
    clipboard.guest_pastes(&ask(3, 1), NOW, &mut out);
    clipboard.host_gave(3, Some(Content::Text("fits".to_owned())), &mut out);
    let content = Content::Text("fits".to_owned());
    assert_eq!(
        out.pop(),
        Some(Act::Send {
            transfer: 3,
            content
        })
    );
    clipboard.focus(false, &mut out);
    clipboard.guest_pastes(&ask(4, 1), NOW, &mut out);
    assert_eq!(out.pop(), Some(say_answer(4, Verdict::Policy)));
}

#[test]
fn a_locked_workspace_gives_nothing_out() {
    let (mut clipboard, mut out) = (clipboard(Way::Chord, Way::Chord), Vec::new());
    clipboard.guest_offers(&offer(1), &mut out);
    clipboard.copy_chord(&mut out);
    clipboard.host_pastes(5, Form::Text, NOW, &mut out);
    out.clear();
    clipboard.lock(&mut out);
    assert_eq!(out, [give(5, None), Act::Disown]);
    out.clear();
    clipboard.lock(&mut out);
    clipboard.host_pastes(6, Form::Text, NOW, &mut out);
    assert_eq!(out, [give(6, None)]);
}

#[test]
fn nobody_waits_for_ever() {
    let (mut clipboard, mut out) = (clipboard(Way::Chord, Way::Chord), Vec::new());
    clipboard.guest_offers(&offer(1), &mut out);
    clipboard.copy_chord(&mut out);
    clipboard.host_pastes(5, Form::Text, NOW, &mut out);
    assert_eq!(clipboard.deadline(), Some(PATIENCE));
    out.clear();
    clipboard.tick(PATIENCE, &mut out);
    assert_eq!(out, [give(5, None)]);
    assert_eq!(clipboard.deadline(), None);
}

proptest! {
    /// Whatever a guest says: nothing is sent to it that it was not offered, every paste gets one
    /// answer, and a paste gets text only while the host's clipboard is the guest's.
    #[test]
    fn every_paste_gets_one_answer(steps in prop::collection::vec((0..10_u8, 0..4_u32), 0..60)) {
        let mut clipboard = clipboard(Way::Focus, Way::Focus);
        let (mut asked, mut answered) = (0_u32, Vec::new());
        let mut owned = false;
        for (what, n) in steps {
            let mut out = Vec::new();
            let verdict = if n == 0 { Verdict::Policy } else { Verdict::Yes };
            match what {
                0 => clipboard.focus(n % 2 == 0, &mut out),
                1 => clipboard.guest_offers(&offer(n), &mut out),
                2 => clipboard.host_copied(if n > 0 { Forms::TEXT } else { Forms::NONE }, &mut out),
                3 => { asked += 1; clipboard.host_pastes(asked, Form::Text, NOW, &mut out); }
                4 => clipboard.guest_answers(&Answer { transfer: n, verdict }, &mut out),
                5 => clipboard.guest_sent(n, Some(b"text"), &mut out),
                6 => {
                    let kind = ClipboardKind::Text;
                    clipboard.guest_pastes(&ClipboardRequest { transfer: n, sequence: n, kind }, NOW, &mut out);
                }
                7 => clipboard.host_gave(n, Some(Content::Text("host".to_owned())), &mut out),
                8 => clipboard.copy_chord(&mut out),
                _ => clipboard.tick(Duration::from_secs(n.into()), &mut out),
            }
            if what == 2 {
                owned = false;
            }
            for act in out {
                match act {
                    Act::Own(_) => owned = true,
                    Act::Disown => owned = false,
                    Act::Give { ticket, content } => {
                        prop_assert!(!answered.contains(&ticket));
                        prop_assert!(content.is_none() || owned);
                        answered.push(ticket);
                    }
                    Act::Send { content, .. } => prop_assert_eq!(content.bytes(), b"host"),
                    _ => {}
                }
            }
        }
        let mut out = Vec::new();
        clipboard.tick(Duration::MAX, &mut out);
        prop_assert_eq!(answered.len() + out.iter().filter(|act| matches!(act, Act::Give { .. })).count(), asked as usize);
    }
}

fn pictures() -> ClipboardOffer {
    let form = |kind| ClipboardForm { kind, size: 0 };
    ClipboardOffer {
        sequence: 1,
        forms: List::new(vec![
            form(ClipboardKind::Picture),
            form(ClipboardKind::Html),
        ]),
    }
}

#[test]
fn a_picture_crosses_only_where_a_policy_has_room_for_it() {
    let (mut without, mut out) = (clipboard(Way::Focus, Way::Focus), Vec::new());
    without.focus(true, &mut out);
    without.guest_offers(&pictures(), &mut out);
    without.copy_chord(&mut out);
    assert!(matches!(out[..], [Act::Refused(_)]), "{out:?}");
    out.clear();
    let picture = Forms {
        text: false,
        picture: true,
    };
    without.host_copied(picture, &mut out);
    assert!(out.is_empty(), "nothing to offer: {out:?}");

    let mut with = Clipboard::new(Policy {
        inward: Way::Focus,
        outward: Way::Focus,
        bytes: 16,
        pictures: 4000,
    });
    with.focus(true, &mut out);
    with.guest_offers(&pictures(), &mut out);
    assert_eq!(out.pop(), Some(Act::Own(picture)));
    with.host_pastes(4, Form::Text, NOW, &mut out);
    assert_eq!(out.pop(), Some(give(4, None)), "it has no text");
    with.host_pastes(5, Form::Picture, NOW, &mut out);
    assert_eq!(with.expects(1), Some(4000));
    out.clear();
    // What is no picture is none of the host's.
    with.guest_sent(1, Some(b"\x89PNG\r\n\x1a\nnonsense"), &mut out);
    assert_eq!(out, [give(5, None)]);
    out.clear();

    with.host_copied(picture, &mut out);
    assert!(matches!(
        out.pop(),
        Some(Act::Say(FromHost::ClipboardOffer(offer)))
            if offer.forms.iter().map(|form| form.kind).eq([ClipboardKind::Picture])
    ));
    let ask = |transfer, kind| ClipboardRequest {
        transfer,
        sequence: 1,
        kind,
    };
    with.guest_pastes(&ask(7, ClipboardKind::Text), NOW, &mut out);
    assert_eq!(out.pop(), Some(say_answer(7, Verdict::Kind)));
    with.guest_pastes(&ask(8, ClipboardKind::Picture), NOW, &mut out);
    assert!(matches!(
        out.pop(),
        Some(Act::Fetch {
            transfer: 8,
            form: Form::Picture,
            most: 4000
        })
    ));
    // Text instead of a picture is none.
    with.host_gave(8, Some(Content::Text("text".into())), &mut out);
    assert_eq!(out.pop(), Some(say_answer(8, Verdict::Failed)));
    with.guest_pastes(&ask(9, ClipboardKind::Picture), NOW, &mut out);
    with.host_gave(9, Some(Content::Picture(vec![0; 4001])), &mut out);
    assert_eq!(out.pop(), Some(say_answer(9, Verdict::TooLarge)));
}
