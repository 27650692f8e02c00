//! What a guest sends: files and print jobs.
use super::*;
use crate::event::{self, Ticket};
use medley_wire::List;
use medley_wire::control::{Care, Ink, PageRange, PrintFormat, PrintJob, PrintTicket, Sides};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::OpenOptions;

fn never_block(end: &std::io::PipeWriter) {
    fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
}

fn print_job(transfer: u32, size: u64) -> PrintJob<'static> {
    PrintJob {
        transfer,
        size: Untrusted::claim(size),
        format: PrintFormat::Raster,
        copies: 0,
        pages: 3,
        title: Untrusted::claim(Text::cut("Invoice\u{202e} 1\n2")),
    }
}

fn both() -> Desk {
    Desk::allowing(&[Service::FilesOut, Service::Print])
}

fn broke(transfer: u32) -> Event {
    Event::Broke { transfer }
}

#[test]
fn nothing_is_taken_by_default_and_that_is_said_seldom() {
    let mut desk = Desk::allowing(&[
        Service::FilesIn,
        Service::Urls,
        Service::Notes,
        Service::Tray,
    ]);
    for n in 0..20 {
        desk.say(file_offer(n, "a.txt", 1)).unwrap();
        desk.say(print_job(n + 100, 1)).unwrap();
        desk.now += Duration::from_millis(500);
    }
    let verdicts = desk.verdicts();
    assert_eq!(verdicts.len(), 40);
    assert!(
        verdicts
            .iter()
            .all(|(_, verdict)| *verdict == Verdict::Policy)
    );
    let refused = |what: &str| Event::Refused { what: what.into() };
    let [file, print] = [refused("file"), refused("print")];
    let told = desk.told();
    assert_eq!(told, [file.clone(), print.clone(), file, print], "each 5 s");
}

#[test]
fn a_file_comes_whole() {
    let mut desk = both();
    desk.say(file_offer(7, "Übung 1.odt", 5)).unwrap();
    let name = "Übung 1.odt".to_owned();
    let offered = Event::FileOffered {
        transfer: 1,
        name,
        size: 5,
    };
    assert_eq!(desk.told(), [offered]);
    assert_eq!(desk.said(), [], "nobody has decided yet");
    let file = desk.take(1);
    assert_eq!(desk.verdicts(), [(7, Verdict::Yes)]);
    desk.open(7, Carries::File, 5).unwrap();
    desk.chunk(0, b"abc").unwrap();
    desk.chunk(3, b"de").unwrap();
    assert_eq!(desk.told(), []);
    desk.end(5).unwrap();
    assert_eq!(
        desk.told(),
        [Event::Came {
            transfer: 1,
            size: 5
        }]
    );
    assert_eq!(read(file), b"abcde");
    desk.work();
    assert_eq!(desk.heard.received, [(0, 5)], "one word for both chunks");
    // Its number is free again for the guest, and another one for the supervisor.
    desk.say(file_offer(7, "b.txt", 0)).unwrap();
    assert!(matches!(
        desk.told()[..],
        [Event::FileOffered { transfer: 2, .. }]
    ));
    desk.take(2);
    desk.open(7, Carries::File, 0).unwrap();
    desk.end(0).unwrap();
    assert_eq!(
        desk.told(),
        [Event::Came {
            transfer: 2,
            size: 0
        }]
    );
}

#[test]
fn a_print_job_is_made_fit_for_display() {
    let mut desk = both();
    desk.say(print_job(1, 9)).unwrap();
    let asked = Event::PrintAsked {
        transfer: 1,
        size: 9,
        format: crate::event::Format::Raster,
        copies: 1,
        ticket: Ticket::default(),
        pages: 3,
        title: "Invoice\u{fffd} 1 2".to_owned(),
    };
    assert_eq!(desk.told(), [asked]);
}

#[test]
fn a_ticket_goes_with_the_job_of_its_number_and_no_other() {
    let mut desk = both();
    let ticket = |transfer| PrintTicket {
        transfer,
        sides: Sides::LongEdge,
        ink: Ink::Black,
        care: Care::High,
        paper: Untrusted::claim(Text::cut("iso_a4_210x297mm\u{202e}")),
        ranges: List::new(vec![PageRange { first: 2, last: 9 }]),
    };
    let says = Ticket {
        sides: Some(event::Sides::LongEdge),
        colour: Some(false),
        care: Some(event::Care::High),
        paper: Some("iso_a4_210x297mm\u{fffd}".to_owned()),
        ranges: vec![(2, 9)],
    };
    let mut printed = |said: Option<u32>, job: u32| {
        if let Some(transfer) = said {
            desk.say(ticket(transfer)).unwrap();
        }
        desk.say(print_job(job, 9)).unwrap();
        let told = desk.told().pop();
        let Some(Event::PrintAsked { ticket, .. }) = told else {
            panic!("{told:?}")
        };
        ticket
    };
    assert_eq!(printed(Some(1), 1), says);
    assert_eq!(printed(None, 2), Ticket::default(), "it was for one job");
    assert_eq!(printed(Some(9), 3), Ticket::default(), "it was for another");
    assert_eq!(printed(None, 4), Ticket::default(), "and is forgotten");
    // As with the job itself: a number that something has is no other's.
    assert_eq!(desk.say(ticket(4)), Err(Violation::Taken(4)));
}

#[test]
fn names_and_sizes_are_judged() {
    let mut desk = both();
    desk.gate.policy.file_bytes = 10;
    desk.gate.policy.print_bytes = 20;
    for (transfer, name) in [
        (1, "../x"),
        (2, ".bashrc"),
        (3, ""),
        (4, "a\u{202e}fdp.exe"),
    ] {
        desk.say(file_offer(transfer, name, 1)).unwrap();
    }
    desk.say(file_offer(5, "a", 11)).unwrap();
    desk.say(print_job(6, 21)).unwrap();
    desk.say(print_job(7, u64::MAX)).unwrap();
    let kind = [1, 2, 3, 4].map(|n| (n, Verdict::Kind));
    let large = [5, 6, 7].map(|n| (n, Verdict::TooLarge));
    assert_eq!(desk.verdicts(), [&kind[..], &large[..]].concat());
    assert_eq!(desk.told(), []);
    desk.say(file_offer(5, "a", 10)).unwrap();
    desk.say(print_job(6, 20)).unwrap();
    assert_eq!(desk.told().len(), 2);
}

#[test]
fn few_wait_for_an_answer_at_once() {
    let mut desk = both();
    for n in 0..10 {
        desk.say(file_offer(n, "a", 1)).unwrap();
        desk.say(print_job(100 + n, 1)).unwrap();
    }
    let refused: Vec<_> = desk.verdicts();
    let prints = (104..108).map(|n| (n, Verdict::Failed));
    let rest = [8, 108, 9, 109].map(|n| (n, Verdict::Failed));
    assert_eq!(refused, prints.chain(rest).collect::<Vec<_>>());
    assert_eq!(desk.told().len(), 12);
    // One that is taken waits no longer: but of those there are not many either, for each has a descriptor.
    let verdict = Refusal::Declined;
    for transfer in 1..13 {
        desk.order(Order::Refuse { transfer, verdict }, None);
    }
    let mut count = 0;
    for n in 300..400 {
        desk.say(file_offer(n, "a", 1)).unwrap();
        let Some(Event::FileOffered { transfer, .. }) = desk.told().pop() else {
            break;
        };
        desk.take(transfer);
        count += 1;
    }
    assert_eq!(count, 32);
}

#[test]
fn an_offer_that_nobody_answers_is_refused() {
    let mut desk = both();
    desk.say(file_offer(7, "a", 1)).unwrap();
    desk.say(print_job(8, 1)).unwrap();
    desk.told();
    assert_eq!(desk.gate.deadline(), Some(at(60)));
    desk.pass(59);
    assert_eq!(desk.told(), []);
    desk.pass(1);
    assert_eq!(
        desk.verdicts(),
        [(7, Verdict::Failed), (8, Verdict::Failed)]
    );
    assert_eq!(desk.told(), [broke(1), broke(2)]);
    assert_eq!(desk.gate.deadline(), None);
    // An order that comes too late changes nothing, even if the guest has used its number again since.
    desk.say(file_offer(7, "evil.exe", 1 << 20)).unwrap();
    desk.told();
    desk.take(1);
    assert_eq!((desk.said(), desk.told()), (vec![], vec![]));
    assert_eq!(
        desk.open(7, Carries::File, 1 << 20),
        Err(Violation::Unasked(7))
    );
}

#[test]
fn wrong_orders_are_answered_or_nothing() {
    let mut desk = both();
    desk.say(file_offer(7, "a", 1)).unwrap();
    desk.told();
    // Never offered.
    desk.take(9);
    desk.take(0);
    assert_eq!(desk.told(), [broke(9), broke(0)]);
    // Without its file.
    assert_eq!(desk.order(Order::Take { transfer: 1 }, None), Ordered::Done);
    assert_eq!(desk.told(), [broke(1)]);
    assert_eq!(desk.verdicts(), [(7, Verdict::Failed)]);
    // Twice, or both ways.
    desk.say(file_offer(7, "a", 1)).unwrap();
    desk.told();
    desk.take(2);
    desk.take(2);
    let verdict = Refusal::Declined;
    desk.order(
        Order::Refuse {
            transfer: 2,
            verdict,
        },
        None,
    );
    assert_eq!(desk.verdicts(), [(7, Verdict::Yes)]);
    assert_eq!(desk.told(), []);
}

#[test]
fn refusals_are_told_in_the_wires_words() {
    let mut desk = both();
    for (n, verdict, said) in [
        (1, Refusal::Policy, Verdict::Policy),
        (2, Refusal::TooLarge, Verdict::TooLarge),
        (3, Refusal::Kind, Verdict::Kind),
        (4, Refusal::Declined, Verdict::Declined),
        (5, Refusal::Failed, Verdict::Failed),
    ] {
        desk.say(file_offer(70, "a", 1)).unwrap();
        desk.order(
            Order::Refuse {
                transfer: n,
                verdict,
            },
            None,
        );
        assert_eq!(desk.verdicts(), [(70, said)]);
    }
    desk.told();
    desk.gate.lost();
    assert_eq!(desk.told(), [], "what was refused does not break");
}

#[test]
fn a_number_is_not_used_twice_at_once() {
    let mut desk = both();
    desk.say(file_offer(7, "a", 1)).unwrap();
    desk.told();
    assert_eq!(desk.say(print_job(7, 1)), Err(Violation::Taken(7)));
    assert_eq!(desk.told(), [broke(1)], "and everything is lost");
    // Not even if the second thing is not allowed.
    let mut desk = Desk::allowing(&[Service::Print]);
    desk.say(print_job(7, 1)).unwrap();
    assert_eq!(desk.say(file_offer(7, "a", 1)), Err(Violation::Taken(7)));
}

/// A desk where transfer 7, a file of five bytes, was taken.
fn taken() -> (Desk, File) {
    let mut desk = both();
    desk.say(file_offer(7, "a", 5)).unwrap();
    let file = desk.take(1);
    desk.told();
    desk.said();
    (desk, file)
}

#[test]
fn a_stream_is_what_was_offered() {
    for (carries, size, violation) in [
        (Carries::Print, 5, Violation::Kind(7)),
        (Carries::Update, 5, Violation::Kind(7)),
        (Carries::File, 4, Violation::Size(7)),
        (Carries::File, 6, Violation::Size(7)),
    ] {
        let (mut desk, file) = taken();
        assert_eq!(desk.open(7, carries, size), Err(violation));
        assert_eq!(desk.told(), [broke(1)]);
        assert_eq!(read(file), b"");
    }
    // The clipboard's numbers are others: nobody waits for this one.
    let (mut desk, _) = taken();
    desk.open(7, Carries::Clipboard, 5).unwrap();
    assert_eq!(desk.told(), []);
    desk.work();
    assert_eq!(desk.heard.cancelled, [(0, false)]);
}

#[test]
fn a_stream_has_the_size_it_announced() {
    use medley_wire::bulk::Broken;
    let size = Violation::Stream(Broken::Size);
    let (mut desk, _) = taken();
    desk.open(7, Carries::File, 5).unwrap();
    desk.chunk(0, b"abc").unwrap();
    assert_eq!(desk.chunk(3, b"def"), Err(size), "more");
    assert_eq!(desk.told(), [broke(1)]);
    let (mut desk, _) = taken();
    desk.open(7, Carries::File, 5).unwrap();
    desk.chunk(0, b"abc").unwrap();
    assert_eq!(desk.end(3), Err(size), "less");
    assert_eq!(desk.told(), [broke(1)]);
    let (mut desk, _) = taken();
    desk.open(7, Carries::File, 5).unwrap();
    let place = Violation::Stream(Broken::Place);
    assert_eq!(desk.chunk(1, b"a"), Err(place), "elsewhere");
}

#[test]
fn a_transfer_has_one_stream() {
    let (mut desk, _) = taken();
    desk.open(7, Carries::File, 5).unwrap();
    let open = Open {
        stream: 1,
        transfer: 7,
        carries: Carries::File,
        size: Untrusted::claim(5),
    };
    assert_eq!(desk.bulk(open), Err(Violation::Twice(7)));
}

#[test]
fn a_guest_may_end_a_stream() {
    let (mut desk, _) = taken();
    desk.open(7, Carries::File, 5).unwrap();
    desk.chunk(0, b"abc").unwrap();
    desk.bulk(cancel(true)).unwrap();
    assert_eq!(desk.told(), [broke(1)]);
    desk.gate.lost();
    assert_eq!(desk.told(), [], "told once");
}

#[test]
fn a_full_disk_ends_a_stream_and_nothing_else() {
    let mut desk = both();
    desk.say(file_offer(7, "a", 5)).unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    desk.order(Order::Take { transfer: 1 }, Some(full));
    desk.told();
    desk.open(7, Carries::File, 5).unwrap();
    desk.chunk(0, b"ab").unwrap();
    assert_eq!(desk.told(), [broke(1)]);
    // The guest has not heard yet.
    desk.chunk(2, b"c").unwrap();
    desk.work();
    assert_eq!(desk.heard.cancelled, [(0, false)]);
    assert_eq!(
        desk.heard.received,
        [],
        "nothing is acknowledged that is not kept"
    );
    // It hears, and uses the stream for something else.
    desk.say(file_offer(8, "b", 1)).unwrap();
    let file = desk.take(2);
    desk.open(8, Carries::File, 1).unwrap();
    desk.chunk(0, b"x").unwrap();
    desk.end(1).unwrap();
    assert_eq!(
        desk.told().pop(),
        Some(Event::Came {
            transfer: 2,
            size: 1
        })
    );
    assert_eq!(read(file), b"x");
}

#[test]
fn a_stream_that_nobody_waits_for_goes_nowhere_and_keeps_to_the_rules() {
    let mut desk = both();
    desk.open(99, Carries::File, 1 << 40).unwrap();
    desk.chunk(0, &[0; 1000]).unwrap();
    assert_eq!(desk.gate.held(), 0);
    desk.work();
    assert_eq!(desk.heard.cancelled, [(0, false)]);
    // The guest's own end of it crosses ours.
    desk.bulk(cancel(true)).unwrap();
    assert!(desk.chunk(1000, b"x").is_err(), "it is over");
}

#[test]
fn who_stands_still_is_not_waited_for() {
    // Told to send, and does not begin.
    let (mut desk, _) = taken();
    desk.pass(59);
    assert_eq!(desk.told(), []);
    desk.pass(1);
    assert_eq!(desk.told(), [broke(1)]);
    desk.open(7, Carries::File, 5).unwrap();
    desk.work();
    assert_eq!(desk.heard.cancelled, [(0, false)], "too late");
    // Begins, and does not go on.
    let (mut desk, _) = taken();
    desk.open(7, Carries::File, 5).unwrap();
    desk.pass(50);
    desk.chunk(0, b"a").unwrap();
    desk.pass(59);
    assert_eq!(desk.told(), []);
    assert_eq!(desk.gate.deadline(), Some(at(110)));
    desk.pass(1);
    assert_eq!(desk.told(), [broke(1)]);
    desk.work();
    assert_eq!(desk.heard.cancelled, [(0, false)]);
    // Waits for its turn while something else moves.
    let (mut desk, _) = taken();
    desk.say(file_offer(8, "b", 100)).unwrap();
    desk.take(2);
    desk.told();
    desk.open(8, Carries::File, 100).unwrap();
    for n in 0..4 {
        desk.pass(50);
        desk.chunk(n, b"x").unwrap();
    }
    assert_eq!(desk.told(), []);
}

#[test]
fn a_broken_connection_breaks_all() {
    let mut desk = both();
    for n in 1..4 {
        desk.say(file_offer(n, "a", 5)).unwrap();
    }
    desk.take(1);
    desk.take(2);
    desk.open(2, Carries::File, 5).unwrap();
    desk.told();
    desk.gate.lost();
    assert_eq!(desk.told(), [broke(1), broke(2), broke(3)]);
    assert_eq!(desk.said(), []);
    // The next guest begins where nothing is open.
    desk.say(file_offer(1, "a", 1)).unwrap();
    assert!(matches!(
        desk.told()[..],
        [Event::FileOffered { transfer: 4, .. }]
    ));
}

#[test]
fn a_paste_is_the_clipboards() {
    let mut desk = Desk::allowing(&[]);
    let bytes = Some(b"copied".to_vec());
    desk.open(1, Carries::Clipboard, 6).unwrap();
    desk.chunk(0, b"copied").unwrap();
    assert_eq!(desk.gate.held(), 6);
    assert_eq!(desk.end(6), Ok(Some(Pasted { transfer: 1, bytes })));
    // Larger than it may be.
    assert!(desk.open(1, Carries::Clipboard, 9).is_err());
    // Ended early.
    desk.open(1, Carries::Clipboard, 6).unwrap();
    desk.chunk(0, b"cop").unwrap();
    let bytes = None;
    assert_eq!(
        desk.bulk(cancel(true)),
        Ok(Some(Pasted { transfer: 1, bytes }))
    );
    assert_eq!((desk.gate.held(), desk.told()), (0, vec![]));
    // And its answers are not the gate's.
    let verdict = Verdict::Yes;
    assert_eq!(
        desk.say(Answer {
            transfer: 1,
            verdict
        }),
        Ok(false)
    );
}

#[test]
fn nobody_waits_for_a_file_that_takes_nothing() {
    let mut desk = both();
    let size = 3 * (256 << 10);
    desk.say(file_offer(7, "a.bin", size)).unwrap();
    let (mut reads, writes) = std::io::pipe().unwrap();
    // As the supervisor makes it: nobody reads yet, and it holds less than a chunk.
    never_block(&writes);
    let file = File::from(OwnedFd::from(writes));
    desk.order(Order::Take { transfer: 1 }, Some(file));
    desk.open(7, Carries::File, size).unwrap();
    let piece = [7; 256 << 10];
    for n in 0..3 {
        desk.chunk(n * (256 << 10), &piece).unwrap();
    }
    desk.end(size).unwrap();
    desk.work();
    let (_, acknowledged) = *desk.heard.received.last().unwrap();
    assert!(
        0 < acknowledged && acknowledged < 256 << 10,
        "{acknowledged}"
    );
    assert!(desk.gate.held() as u64 >= size - acknowledged);
    desk.told();
    assert!(desk.gate.deadline().unwrap() <= desk.now + Duration::from_millis(10));
    // Somebody reads: it is whole once all is written.
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reads.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let mut told = Vec::new();
    for _ in 0..2000 {
        desk.now += Duration::from_millis(10);
        desk.gate.tick(desk.now);
        told = desk.told();
        if !told.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(told, [Event::Came { transfer: 1, size }]);
    assert_eq!(desk.gate.held(), 0);
    desk.work();
    let last = *desk.heard.received.last().unwrap();
    assert_eq!(last, (0, size), "the guest hears that it is done");
    assert_eq!(reader.join().unwrap().len() as u64, size);
}

#[test]
fn what_waits_is_no_more_than_may_be_unacknowledged() {
    let mut desk = both();
    desk.say(file_offer(7, "a.bin", 256 << 20)).unwrap();
    let (mut reads, writes) = std::io::pipe().unwrap();
    never_block(&writes);
    let file = File::from(OwnedFd::from(writes));
    desk.order(Order::Take { transfer: 1 }, Some(file));
    desk.open(7, Carries::File, 256 << 20).unwrap();
    // A disk that is slower than the guest, which waits as it should: the backlog is never empty, and does not grow.
    let (piece, mut read) = ([7; 256 << 10], vec![0; 48 << 10]);
    let (mut sent, mut acknowledged) = (0, 0);
    for _ in 0..2000 {
        while sent - acknowledged <= 3 * (256 << 10) {
            desk.chunk(sent, &piece).unwrap();
            sent += 256 << 10;
        }
        reads.read_exact(&mut read).unwrap();
        desk.now += Duration::from_millis(10);
        desk.gate.tick(desk.now);
        desk.work();
        acknowledged = desk.heard.received.last().map_or(0, |last| last.1);
        assert!(desk.gate.held() <= 2 << 20, "{}", desk.gate.held());
    }
    assert!(sent > 32 << 20, "{sent}");
    // One that does not wait ends the connection.
    let all = (0..8).try_for_each(|n| desk.chunk(sent + n * (256 << 10), &piece));
    assert!(matches!(all, Err(Violation::Stream(_))), "{all:?}");
}

#[test]
fn one_that_never_takes_anything_breaks_off() {
    let mut desk = both();
    desk.say(file_offer(7, "a.bin", 256 << 10)).unwrap();
    let (_reads, writes) = std::io::pipe().unwrap();
    never_block(&writes);
    let file = File::from(OwnedFd::from(writes));
    desk.order(Order::Take { transfer: 1 }, Some(file));
    desk.open(7, Carries::File, 256 << 10).unwrap();
    desk.chunk(0, &[7; 256 << 10]).unwrap();
    desk.end(256 << 10).unwrap();
    desk.told();
    desk.pass(30);
    assert_eq!(desk.told(), []);
    desk.pass(31);
    assert_eq!(desk.told(), [broke(1)]);
    assert_eq!(desk.gate.held(), 0);
    desk.work();
    assert_eq!(desk.heard.cancelled, [(0, false)], "the guest hears of it");
}

#[test]
fn files_and_jobs_come_at_their_rate() {
    let mut desk = both();
    let asked = |desk: &mut Desk, n: u32| {
        desk.say(file_offer(n, "a.txt", 0)).unwrap();
        desk.say(print_job(n + 10_000, 0)).unwrap();
        let told = desk.told();
        for event in &told {
            let (Event::FileOffered { transfer, .. } | Event::PrintAsked { transfer, .. }) = event
            else {
                panic!("{event:?}")
            };
            let refusal = Order::Refuse {
                transfer: *transfer,
                verdict: Refusal::Declined,
            };
            desk.order(refusal, None);
        }
        told.len()
    };
    let at_once: usize = (0..200).map(|n| asked(&mut desk, n)).sum();
    assert_eq!(at_once, 64 + 8);
    desk.now += at(5);
    let later: usize = (200..400).map(|n| asked(&mut desk, n)).sum();
    assert_eq!(later, 10 + 1);
}
