//! Clients that are slow, rude, many, or simply speak all of HTTP/1.1.
#![allow(clippy::unwrap_used)]
mod support;

use medley_print::server::{Notice, Patience, Printer, Progress, Settings};
use medley_print::{Error, JobId, fuzz_request};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};
use support::pdf;

const WAIT: Duration = Duration::from_secs(10);

fn printer() -> Printer {
    listening(Patience::default())
}

fn listening(patience: Patience) -> Printer {
    let settings = Settings {
        patience,
        ..Settings::default()
    };
    Printer::listen((Ipv4Addr::LOCALHOST, 0).into(), settings).unwrap()
}

fn attribute(tag: u8, name: &str, value: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [
        &[tag][..],
        &length(name.as_bytes()),
        name.as_bytes(),
        &length(value),
        value,
    ]
    .concat()
}

/// A message of IPP 2.0, with what else its operation says.
fn message(printer: &Printer, operation: u16, more: &[Vec<u8>]) -> Vec<u8> {
    let [high, low] = operation.to_be_bytes();
    let mut bytes = vec![2, 0, high, low, 0, 0, 0, 9, 1];
    bytes.extend(attribute(0x47, "attributes-charset", b"utf-8"));
    bytes.extend(attribute(0x48, "attributes-natural-language", b"en"));
    bytes.extend(attribute(0x45, "printer-uri", printer.uri().as_bytes()));
    bytes.extend(more.concat());
    bytes.push(3);
    bytes
}

fn title(name: &str) -> Vec<u8> {
    attribute(0x42, "job-name", name.as_bytes())
}

fn id(job: JobId) -> Vec<u8> {
    attribute(0x21, "job-id", &job.0.to_be_bytes())
}

fn head(length: usize, more: &str) -> String {
    format!(
        "POST /ipp/print HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/ipp\r\n\
         Content-Length: {length}\r\n{more}\r\n"
    )
}

fn connect(printer: &Printer) -> TcpStream {
    let stream = TcpStream::connect(printer.address()).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream
}

/// A whole answer: HTTP's status, and the body.
fn answer(stream: &mut TcpStream) -> (u16, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (status, body)
}

/// IPP's status, after HTTP was content.
fn status(stream: &mut TcpStream) -> u16 {
    let (status, body) = answer(stream);
    assert_eq!(status, 200);
    u16::from_be_bytes([body[2], body[3]])
}

fn closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0) | Err(_))
}

fn ask(printer: &Printer, operation: u16, more: &[Vec<u8>], document: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = connect(printer);
    let mut body = message(printer, operation, more);
    body.extend(document);
    stream.write_all(head(body.len(), "").as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let (status, body) = answer(&mut stream);
    assert_eq!(status, 200);
    (u16::from_be_bytes([body[2], body[3]]), body)
}

fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|part| part == what)
}

fn printed(printer: &Printer) -> medley_print::server::Job {
    match printer.wait(WAIT) {
        Some(Notice::Print(job)) => job,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_serves_many_requests_of_all_kinds() {
    let printer = printer();
    let mut stream = connect(&printer);
    let document = pdf(1, 595, 842);
    for round in 0..3 {
        let name = format!("job {round}");
        let mut body = message(&printer, 2, &[title(&name)]);
        body.extend(&document);
        // In pieces that have nothing to do with what is in them.
        let head = "POST http://localhost/ipp/print HTTP/1.1\r\nHost: LOCALHOST\r\n\
                    Content-Type: Application/IPP; x=y\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        for chunk in body.chunks(7) {
            let chunk = [
                format!("{:X};a=b\r\n", chunk.len()).as_bytes(),
                chunk,
                b"\r\n",
            ]
            .concat();
            stream.write_all(&chunk).unwrap();
        }
        stream.write_all(b"0\r\nTrailer: x\r\n\r\n").unwrap();
        assert_eq!(status(&mut stream), 0);
        let mut job = printed(&printer);
        assert_eq!(job.title, name);
        let mut kept = Vec::new();
        job.file.read_to_end(&mut kept).unwrap();
        assert_eq!(kept, document);
    }
    // A refusal whose document nobody has read does not end the connection.
    let mut body = message(
        &printer,
        2,
        &[attribute(0x49, "document-format", b"text/plain")],
    );
    body.resize(100_000, b' ');
    stream.write_all(head(body.len(), "").as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    assert_eq!(status(&mut stream), 0x040a);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let (status, page) = answer(&mut stream);
    assert!(status == 200 && page.starts_with(b"<!DOCTYPE html>"));
    stream
        .write_all(b"GET /icon.png HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let (status, icon) = answer(&mut stream);
    assert!(status == 200 && icon.starts_with(b"\x89PNG"));
    assert!(closed(&mut stream));
}

#[test]
fn leave_to_send_is_given_and_refused() {
    let printer = printer();
    let mut body = message(&printer, 2, &[]);
    body.extend(pdf(1, 595, 842));
    let mut stream = connect(&printer);
    let asking = head(body.len(), "Expect: 100-continue\r\n");
    stream.write_all(asking.as_bytes()).unwrap();
    assert_eq!(answer(&mut stream), (100, Vec::new()));
    stream.write_all(&body).unwrap();
    assert_eq!(status(&mut stream), 0);
    // Too long, and never asked to be sent.
    let mut stream = connect(&printer);
    let asking = head(usize::MAX >> 1, "Expect: 100-continue\r\n");
    stream.write_all(asking.as_bytes()).unwrap();
    assert_eq!(answer(&mut stream).0, 413);
    assert!(closed(&mut stream));
}

#[test]
fn what_is_not_for_a_printer_is_refused() {
    let printer = printer();
    let ipp = "Content-Type: application/ipp\r\n";
    for (request, expected) in [
        (
            "PUT /ipp/print HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            405,
        ),
        ("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 405),
        (
            "GET /etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            404,
        ),
        (
            format!("POST /printers/x HTTP/1.1\r\nHost: localhost\r\n{ipp}\r\n"),
            404,
        ),
        (
            "POST /ipp/print HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\r\n"
                .into(),
            415,
        ),
        // A web page that made its own name this machine's.
        (
            format!("POST /ipp/print HTTP/1.1\r\nHost: evil.example:631\r\n{ipp}\r\n"),
            403,
        ),
        (format!("POST /ipp/print HTTP/1.1\r\n{ipp}\r\n"), 400),
        ("Hello\r\n\r\n".into(), 400),
        (
            format!(
                "POST /ipp/print HTTP/1.1\r\nHost: localhost\r\n{ipp}Content-Length: 4\r\n\r\nrude"
            ),
            400,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
                "x".repeat(20_000)
            ),
            431,
        ),
    ] {
        let mut stream = connect(&printer);
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(answer(&mut stream).0, expected, "{request:.80}");
    }
    assert!(printer.next().is_none());
}

#[test]
fn slow_clients_do_not_stay() {
    let printer = listening(Patience {
        head: Duration::from_millis(300),
        body: Duration::from_millis(300),
        ..Patience::default()
    });
    let mut slow = connect(&printer);
    let begun = Instant::now();
    // A byte now and then keeps no connection open for ever.
    let mut ended = false;
    for byte in head(10, "").bytes() {
        ended = slow.write_all(&[byte]).is_err();
        if ended || begun.elapsed() > Duration::from_secs(5) {
            break;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    assert!(ended || answer(&mut slow).0 == 408);
    assert!(begun.elapsed() < Duration::from_secs(5));
    // A document that does not go on.
    let mut stalled = connect(&printer);
    let mut body = message(&printer, 2, &[title("half")]);
    body.extend(b"%PDF-1.4 half of it");
    stalled
        .write_all(head(body.len() + 9, "").as_bytes())
        .unwrap();
    stalled.write_all(&body).unwrap();
    assert_eq!(status(&mut stalled), 0x0400);
    assert!(closed(&mut stalled));
    assert!(printer.next().is_none());
}

#[test]
fn the_ninth_client_is_told_to_come_again() {
    let printer = printer();
    let mut first: Vec<_> = (0..8).map(|_| connect(&printer)).collect();
    for stream in &mut first {
        stream
            .write_all(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        assert_eq!(answer(stream).0, 200);
    }
    assert_eq!(answer(&mut connect(&printer)).0, 503);
    drop(first.pop());
    let begun = Instant::now();
    loop {
        let mut stream = connect(&printer);
        let _ = stream.write_all(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
        if answer(&mut stream).0 == 200 {
            break;
        }
        assert!(begun.elapsed() < WAIT);
    }
}

#[test]
fn a_printer_stops_at_once_whoever_is_connected() {
    let printer = printer();
    let address = printer.address();
    let mut idle = connect(&printer);
    let mut busy = connect(&printer);
    busy.write_all(head(99, "").as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    drop(printer);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(closed(&mut idle));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn only_this_machine_is_listened_to() {
    let everywhere = Printer::listen((Ipv4Addr::UNSPECIFIED, 0).into(), Settings::default());
    assert!(matches!(everywhere, Err(Error::NotLoopback(_))));
}

#[test]
fn clients_see_what_becomes_of_a_job() {
    let printer = printer();
    let document = pdf(1, 595, 842);
    assert_eq!(ask(&printer, 2, &[], &document).0, 0);
    let job = printed(&printer);
    let about = |job: JobId| ask(&printer, 9, &[id(job)], b"").1;
    let state = |job: JobId, number: u8| {
        let state = attribute(0x23, "job-state", &[0, 0, 0, number]);
        has(&about(job), &state)
    };
    assert!(state(job.id, 3));
    assert!(printer.tell(job.id, Progress::Held("The host asks first".into())));
    assert!(state(job.id, 6) && has(&about(job.id), b"The host asks first"));
    assert!(printer.tell(job.id, Progress::Processing));
    assert!(state(job.id, 5));
    assert!(printer.tell(job.id, Progress::Aborted("Printing is not allowed".into())));
    assert!(state(job.id, 8) && has(&about(job.id), b"Printing is not allowed"));
    assert!(!printer.tell(job.id, Progress::Completed));

    // Taken back.
    assert_eq!(ask(&printer, 2, &[], &document).0, 0);
    let job = printed(&printer);
    assert_eq!(ask(&printer, 8, &[id(job.id)], b"").0, 0);
    assert!(matches!(printer.wait(WAIT), Some(Notice::Canceled(gone)) if gone == job.id));
    assert!(!printer.tell(job.id, Progress::Completed));
    assert!(state(job.id, 7));
    assert_eq!(ask(&printer, 8, &[id(job.id)], b"").0, 0x0404);
    assert_eq!(ask(&printer, 8, &[id(JobId(99))], b"").0, 0x0406);
}

#[test]
fn a_job_may_come_in_steps() {
    let printer = printer();
    let last = |last: u8| attribute(0x22, "last-document", &[last]);
    let first = JobId(1);
    assert_eq!(ask(&printer, 5, &[title("steps")], b"").0, 0);
    assert_eq!(
        ask(&printer, 6, &[id(first), last(0)], &pdf(1, 595, 842)).0,
        0
    );
    assert_eq!(
        ask(&printer, 6, &[id(first), last(0)], &pdf(1, 595, 842)).0,
        0x0509
    );
    assert!(printer.next().is_none(), "it is not closed yet");
    assert_eq!(ask(&printer, 0x3b, &[id(first)], b"").0, 0);
    assert_eq!(printed(&printer).title, "steps");
    // Closed by a last document without bytes; a job that never had one is aborted.
    let second = JobId(2);
    assert_eq!(ask(&printer, 5, &[], b"").0, 0);
    assert_eq!(ask(&printer, 6, &[id(second), last(1)], b"").0, 0);
    assert!(has(
        &ask(&printer, 9, &[id(second)], b"").1,
        b"aborted-by-system"
    ));
    assert!(printer.next().is_none());
}

#[test]
fn jobs_that_nobody_takes_do_not_pile_up() {
    let printer = printer();
    let document = pdf(1, 595, 842);
    let mut answers: Vec<_> = (0..33)
        .map(|_| ask(&printer, 2, &[], &document).0)
        .collect();
    assert_eq!(answers.pop(), Some(0x0507));
    assert!(answers.iter().all(|answer| *answer == 0));
    printer.set_accepting(false);
    assert_eq!(ask(&printer, 2, &[], &document).0, 0x0506);
}

#[test]
fn the_owner_may_sleep_in_poll() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let printer = printer();
    let readable = |limit: u16| {
        let mut watched = [PollFd::new(printer.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::from(limit)).unwrap() > 0
    };
    assert!(!readable(0));
    let document = pdf(1, 595, 842);
    for _ in 0..2 {
        ask(&printer, 2, &[], &document);
    }
    assert!(readable(5000));
    assert!(printer.next().is_some() && printer.next().is_some() && printer.next().is_none());
    assert!(!readable(0));
}

#[test]
fn no_bytes_harm() {
    let printer = printer();
    let document = pdf(1, 595, 842);
    let mut seeds = Vec::new();
    for operation in [2, 4, 5, 6, 8, 9, 0xa, 0xb, 0x39, 0x3b, 0x3c, 0x4001] {
        let mut body = message(
            &printer,
            operation,
            &[
                title("x"),
                id(JobId(1)),
                attribute(0x22, "last-document", &[1]),
            ],
        );
        body.extend(&document);
        seeds.push([head(body.len(), "").as_bytes(), &body].concat());
    }
    let chunked = "POST /ipp/print HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/ipp\r\nTransfer-Encoding: chunked\r\n\r\n";
    seeds.push(
        [
            chunked.as_bytes(),
            b"5\r\n\x02\x00\x00\x0b\x00\r\n",
            b"0\r\n\r\n",
        ]
        .concat(),
    );
    seeds.push(seeds.concat());
    for seed in &seeds {
        fuzz_request(seed);
    }
    // Small changes everywhere, always the same ones.
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |below: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        usize::try_from(dice % below as u64).unwrap()
    };
    for _ in 0..3000 {
        let mut bytes = seeds[roll(seeds.len())].clone();
        for _ in 0..=roll(4) {
            let at = roll(bytes.len().min(700));
            match roll(4) {
                0 => bytes[at] = u8::try_from(roll(256)).unwrap(),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, u8::try_from(roll(256)).unwrap()),
                _ => bytes[at] ^= 1 << roll(8),
            }
        }
        fuzz_request(&bytes);
    }
}
