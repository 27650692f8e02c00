//! What is sent to the guest: files, and pastes beside them.
use super::*;
use medley_wire::limits::{CHUNK_BYTES, CHUNKS_IN_FLIGHT, LAUNCH_FILES};
use std::os::unix::fs::FileExt;

fn inward() -> Desk {
    Desk::allowing(&[Service::FilesIn])
}

fn give(file: u32, name: &str, size: u64) -> Order {
    let name = name.to_owned();
    Order::Give { file, name, size }
}

fn given(file: u32, refused: Option<Refusal>) -> Event {
    Event::Given { file, refused }
}

/// Offers a file and says yes to it; tells its transfer.
fn welcome(desk: &mut Desk, number: u32, size: u64, file: File) -> u32 {
    desk.order(give(number, "a.txt", size), Some(file));
    let words = desk.said();
    let [Word::Offer { transfer, .. }] = words[..] else {
        panic!("{words:?}");
    };
    let verdict = Verdict::Yes;
    assert_eq!(desk.say(Answer { transfer, verdict }), Ok(true));
    transfer
}

fn launch(files: &[u32]) -> Order {
    Order::Launch {
        app: "0123456789abcdef0123456789abcdef".into(),
        action: 2,
        arguments: vec!["https://example.org/".into()],
        files: files.to_vec(),
    }
}

/// Bytes that are nowhere alike.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32)
        .flat_map(|n| n.to_le_bytes())
        .take(length)
        .collect()
}

#[test]
fn nothing_is_given_by_default() {
    let mut desk = Desk::allowing(&[Service::FilesOut]);
    desk.order(give(1, "a", 1), Some(written(b"x")));
    assert_eq!(desk.told(), [given(1, Some(Refusal::Policy))]);
    assert_eq!(desk.said(), []);
}

#[test]
fn a_file_goes_and_is_launched_with() {
    let mut desk = inward();
    assert_eq!(
        desk.order(launch(&[5]), None),
        Ordered::Wrong("the guest does not have one of the files")
    );
    let bytes = pattern(700_000);
    let mut file = written(&bytes);
    // Wherever it stands.
    file.seek(std::io::SeekFrom::End(0)).unwrap();
    let transfer = welcome(&mut desk, 5, 700_000, file);
    assert!(transfer >= 1 << 31);
    desk.work();
    assert_eq!(desk.heard.bytes[&0], bytes);
    assert_eq!(desk.heard.opened[0].carries, Carries::File);
    assert_eq!(desk.heard.ended, [0]);
    assert_eq!(desk.told(), [], "the guest has not said that it has it");
    assert!(matches!(desk.order(launch(&[5]), None), Ordered::Wrong(_)));
    desk.bulk(received(0, 262_144)).unwrap();
    assert_eq!(desk.told(), []);
    desk.bulk(received(0, 700_000)).unwrap();
    assert_eq!(desk.told(), [given(5, None)]);
    let Ordered::Launch(launched) = desk.order(launch(&[5]), None) else {
        panic!("it has it");
    };
    let message = launched.message(9);
    assert_eq!((message.request, message.action), (9, 2));
    assert_eq!(message.files[..], [transfer]);
    assert_eq!(message.arguments[0].as_str(), Some("https://example.org/"));
    desk.gate.lost();
    assert!(
        matches!(desk.order(launch(&[5]), None), Ordered::Wrong(_)),
        "forgotten"
    );
}

#[test]
fn an_empty_file_is_a_file() {
    let mut desk = inward();
    welcome(&mut desk, 5, 0, written(b""));
    desk.work();
    assert_eq!(desk.told(), [given(5, None)]);
    assert_eq!(
        (desk.heard.opened.len(), &desk.heard.ended[..]),
        (1, &[0][..])
    );
}

#[test]
fn the_guest_is_never_sent_more_than_it_deals_with() {
    let mut desk = inward();
    let window = CHUNKS_IN_FLIGHT as usize * CHUNK_BYTES;
    let bytes = pattern(3 * window);
    welcome(&mut desk, 5, bytes.len() as u64, written(&bytes));
    desk.work();
    assert_eq!(desk.heard.bytes[&0].len(), window);
    desk.work();
    assert_eq!(desk.heard.bytes[&0].len(), window);
    // Of a file only a chunk is in memory.
    assert!(desk.gate.held() <= CHUNK_BYTES, "{}", desk.gate.held());
    desk.bulk(received(0, CHUNK_BYTES as u64)).unwrap();
    // A line that takes nothing is asked again.
    desk.heard.room = 0;
    desk.work();
    assert_eq!(desk.heard.bytes[&0].len(), window);
    desk.heard.room = 100;
    desk.work();
    assert_eq!(desk.heard.bytes[&0].len(), window + CHUNK_BYTES);
    // What was not sent cannot have been received.
    for _ in 0..20 {
        desk.bulk(received(0, u64::MAX)).unwrap();
        desk.work();
    }
    assert_eq!(desk.heard.bytes[&0], bytes);
    assert_eq!(desk.told(), [given(5, None)]);
    desk.work();
    assert_eq!(desk.gate.held(), 0);
}

#[test]
fn a_file_that_changes_is_whole_or_cancelled() {
    let size = 3 * CHUNK_BYTES as u64;
    // Shorter.
    let mut desk = inward();
    let file = written(&pattern(size as usize));
    let ours = file.try_clone().unwrap();
    desk.heard.room = 1;
    welcome(&mut desk, 5, size, file);
    desk.work();
    ours.set_len(size - 1).unwrap();
    desk.heard.room = 100;
    desk.work();
    assert_eq!(desk.heard.cancelled, [(0, true)]);
    assert_eq!(desk.heard.ended, [] as [u8; 0]);
    assert_eq!(desk.told(), [given(5, Some(Refusal::Failed))]);
    // Longer: what was announced, and not a byte more.
    let mut desk = inward();
    let file = written(b"12345");
    file.write_all_at(b"6789", 5).unwrap();
    welcome(&mut desk, 5, 5, file);
    desk.work();
    desk.bulk(received(0, 5)).unwrap();
    assert_eq!(desk.heard.bytes[&0], b"12345");
    assert_eq!(desk.told(), [given(5, None)]);
}

#[test]
fn names_and_sizes_are_judged() {
    let mut desk = inward();
    desk.gate.policy.file_bytes = 10;
    for name in ["../x", ".profile", "a/b", "", &"n".repeat(256)] {
        desk.order(give(1, name, 1), Some(written(b"x")));
        assert_eq!(desk.told(), [given(1, Some(Refusal::Kind))], "{name}");
    }
    desk.order(give(2, "a", 11), Some(written(b"x")));
    desk.order(give(3, "a", 1), None);
    assert_eq!(
        desk.told(),
        [
            given(2, Some(Refusal::TooLarge)),
            given(3, Some(Refusal::Failed))
        ]
    );
    assert_eq!(desk.said(), []);
}

#[test]
fn a_guest_may_refuse_or_end_it() {
    let mut desk = inward();
    for (said, told) in [
        (Verdict::Policy, Refusal::Policy),
        (Verdict::TooLarge, Refusal::TooLarge),
        (Verdict::Kind, Refusal::Kind),
        (Verdict::Declined, Refusal::Declined),
        (Verdict::Failed, Refusal::Failed),
        (Verdict::Stale, Refusal::Failed),
    ] {
        desk.order(give(1, "a", 1), Some(written(b"x")));
        let words = desk.said();
        let [Word::Offer { transfer, .. }] = words[..] else {
            panic!("{words:?}");
        };
        let answer = |verdict| Answer { transfer, verdict };
        desk.say(answer(said)).unwrap();
        assert_eq!(desk.told(), [given(1, Some(told))]);
        desk.say(answer(Verdict::Yes)).unwrap();
        desk.work();
        assert!(desk.heard.opened.is_empty(), "it has said no");
    }
    welcome(&mut desk, 2, 1, written(b"x"));
    desk.work();
    desk.bulk(cancel(false)).unwrap();
    assert_eq!(desk.told(), [given(2, Some(Refusal::Failed))]);
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let mut desk = inward();
    desk.order(give(1, "a", 1), Some(written(b"x")));
    assert_eq!(desk.gate.deadline(), Some(at(60)));
    desk.pass(60);
    assert_eq!(desk.told(), [given(1, Some(Refusal::Failed))]);
    desk.said();
    // Says yes, and takes nothing.
    welcome(&mut desk, 2, 1, written(b"x"));
    desk.work();
    assert_eq!(desk.gate.deadline(), Some(at(120)));
    desk.pass(60);
    assert_eq!(desk.told(), [given(2, Some(Refusal::Failed))]);
    desk.work();
    assert_eq!(desk.heard.cancelled, [(0, true)]);
    assert_eq!(desk.gate.deadline(), None);
}

/// A presenter that has no bulk channel, or whose guest has not greeted on it.
#[test]
fn without_a_channel_nothing_waits_for_ever() {
    let mut desk = inward();
    welcome(&mut desk, 1, 1, written(b"x"));
    desk.pass(30);
    welcome(&mut desk, 2, 1, written(b"x"));
    desk.pass(30);
    assert_eq!(desk.told(), [given(1, Some(Refusal::Failed))]);
    assert_eq!(desk.gate.deadline(), Some(at(90)));
    desk.pass(30);
    assert_eq!(desk.told(), [given(2, Some(Refusal::Failed))]);
    desk.work();
    assert!(desk.heard.opened.is_empty() && desk.heard.cancelled.is_empty());
}

#[test]
fn files_are_counted() {
    let mut desk = inward();
    for n in 0..LAUNCH_FILES as u32 {
        desk.order(give(n, "a", 1), Some(written(b"x")));
    }
    assert_eq!(desk.told(), []);
    desk.order(give(100, "a", 1), Some(written(b"x")));
    desk.order(give(3, "a", 1), Some(written(b"x")));
    let failed = Some(Refusal::Failed);
    assert_eq!(desk.told(), [given(100, failed), given(3, failed)]);
    desk.gate.lost();
    assert_eq!(desk.told().len(), LAUNCH_FILES);
}

#[test]
fn numbers_of_files_go_on_where_they_shall_and_come_round() {
    let mut desk = inward();
    desk.gate = Gate::new(*desk.gate.policy()).numbered_from(u32::MAX);
    for n in 0..3 {
        desk.order(give(n, "a", 1), Some(written(b"x")));
    }
    let numbers: Vec<_> = desk
        .said()
        .iter()
        .map(|word| match word {
            Word::Offer { transfer, .. } => *transfer,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, [u32::MAX, 1 << 31, (1 << 31) + 1]);
}

#[test]
fn streams_take_turns() {
    let mut desk = inward();
    let long = 2 * CHUNKS_IN_FLIGHT as u64 * CHUNK_BYTES as u64;
    for n in 0..10 {
        welcome(&mut desk, n, long, written(&pattern(long as usize)));
    }
    desk.gate.paste(77, b"pasted".to_vec(), NOW);
    desk.heard.room = 16;
    desk.work();
    assert_eq!(desk.heard.opened.len(), 8);
    let two = 2 * CHUNK_BYTES;
    assert!(desk.heard.bytes.values().all(|bytes| bytes.len() == two));
    // Where the line was full, it goes on.
    desk.heard.room = 1;
    desk.work();
    assert_eq!(desk.heard.bytes[&0].len(), 3 * CHUNK_BYTES);
    desk.heard.room = 1;
    desk.work();
    assert_eq!(desk.heard.bytes[&1].len(), 3 * CHUNK_BYTES);
    // A stream that is free is another's, in order.
    desk.bulk(cancel(false)).unwrap();
    desk.heard.room = 1000;
    desk.work();
    assert_eq!(desk.heard.opened.len(), 9);
}

#[test]
fn a_late_word_about_an_old_stream_finds_no_new_one() {
    let mut desk = inward();
    for (file, stream) in [(1, 0), (2, 1), (3, 2)] {
        welcome(&mut desk, file, 1, written(b"x"));
        desk.work();
        if stream > 0 {
            let stream = stream - 1;
            desk.bulk(Cancel { stream, own: false }).unwrap();
        }
        desk.bulk(received(stream, 1)).unwrap();
        assert_eq!(desk.told(), [given(file, None)]);
    }
}

#[test]
fn a_paste_needs_no_leave_to_have_files() {
    let mut desk = Desk::allowing(&[]);
    desk.gate.paste(3, b"pasted".to_vec(), NOW);
    assert_eq!(desk.gate.held(), 6);
    desk.work();
    assert_eq!(desk.heard.bytes[&0], b"pasted");
    assert_eq!(desk.heard.opened[0].carries, Carries::Clipboard);
    desk.bulk(received(0, 6)).unwrap();
    assert_eq!((desk.gate.held(), desk.told()), (0, vec![]));
}

#[test]
fn launches_are_judged() {
    let mut desk = inward();
    let with = |app: &str, arguments: Vec<String>, files: Vec<u32>| Order::Launch {
        app: app.to_owned(),
        action: 0,
        arguments,
        files,
    };
    let app = "0123456789abcdef0123456789abcdef";
    for order in [
        with("", vec![], vec![]),
        with("../x", vec![], vec![]),
        with(&"0".repeat(32), vec![], vec![]),
        with(app, vec!["x".repeat(2049)], vec![]),
        with(app, vec![String::new(); 17], vec![]),
        with(app, vec![], vec![0; 65]),
        with(app, vec![], vec![0]),
    ] {
        let done = desk.order(order, None);
        assert!(matches!(done, Ordered::Wrong(_)), "{done:?}");
    }
    let order = with(app, vec!["x".repeat(2048); 16], vec![]);
    assert!(matches!(desk.order(order, None), Ordered::Launch(_)));
    assert_eq!((desk.told(), desk.said()), (vec![], vec![]));
}

#[test]
fn what_is_withdrawn_is_not_given_and_that_is_said_once() {
    let mut desk = inward();
    // Before the guest has answered.
    desk.order(give(5, "a.txt", 4), Some(written(b"abcd")));
    desk.order(Order::Withdraw { file: 5 }, None);
    assert_eq!(desk.told(), [given(5, Some(Refusal::Declined))]);
    let words = desk.said();
    let [Word::Offer { transfer, .. }] = words[..] else {
        panic!("{words:?}");
    };
    desk.say(Answer {
        transfer,
        verdict: Verdict::Yes,
    })
    .unwrap();
    desk.work();
    assert_eq!((desk.told(), desk.heard.opened.len()), (vec![], 0));
    // On its way.
    let size = (CHUNK_BYTES * (CHUNKS_IN_FLIGHT as usize + 1)) as u64;
    welcome(&mut desk, 6, size, written(&pattern(size as usize)));
    desk.work();
    desk.order(Order::Withdraw { file: 6 }, None);
    assert_eq!(desk.told(), [given(6, Some(Refusal::Failed))]);
    desk.work();
    assert_eq!(desk.heard.cancelled, [(0, true)]);
    desk.bulk(received(0, 4)).unwrap();
    assert_eq!(desk.told(), []);
    // When the guest has it, it has it, though it has not said so yet.
    welcome(&mut desk, 7, 4, written(b"abcd"));
    desk.work();
    desk.order(Order::Withdraw { file: 7 }, None);
    assert_eq!(desk.told(), []);
    let stream = desk.heard.opened.last().unwrap().stream;
    desk.bulk(received(stream, 4)).unwrap();
    assert_eq!(desk.told(), [given(7, None)]);
    desk.order(Order::Withdraw { file: 7 }, None);
    assert_eq!(desk.told(), []);
    assert!(matches!(desk.order(launch(&[7]), None), Ordered::Launch(_)));
}
