//! The host's printer in the guest: a real agent, jobs that come over IPP, and a host that is a script.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::{Desktop, Process};
use medley_print::client::{self, JobRequest, Standing};
use medley_print::{Format, JobId, Medium, Ticket};
use medley_wire::Features;
use medley_wire::bulk::Carries;
use medley_wire::control::{Allowed, Answer, PrintFormat, Sides, Verdict};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use support::display;
use support::{Doors, Host, PATIENCE, agent};

fn until(host: &mut Host, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        assert!(host.turn(Duration::from_millis(20)), "the agent is gone");
    }
}

fn print(uri: &str, title: &str, file: &Path) -> JobId {
    let ticket = Ticket {
        copies: 3,
        ..Ticket::default()
    };
    print_as(uri, title, file, ticket)
}

fn print_as(uri: &str, title: &str, file: &Path, ticket: Ticket) -> JobId {
    let request = JobRequest {
        title: title.into(),
        user: "somebody".into(),
        format: Format::Pdf,
        ticket,
    };
    client::print(uri, &request, file).unwrap()
}

fn stands(uri: &str, job: JobId) -> Standing {
    client::standing(uri, job).unwrap()
}

/// An agent whose printer, once there may be one, is at that address. What ends first stands first.
struct Office {
    host: Host,
    _agent: Process,
    doors: Doors,
    _server: Desktop,
    address: SocketAddr,
}

impl Office {
    fn of(features: Features) -> Self {
        let (server, doors) = (display::virtual_one(), Doors::new());
        // A port that is free now.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let port = address.port().to_string();
        Self {
            _agent: agent(&server, &doors, &["--printer-port", &port]),
            host: Host::accept(&doors, features, None),
            doors,
            _server: server,
            address,
        }
    }

    fn uri(&self) -> String {
        format!("ipp://{}/ipp/print", self.address)
    }
}

#[test]
fn what_is_printed_goes_to_the_host_as_far_as_it_wants() {
    let office = Office::of(Features::ALL);
    let (uri, address) = (office.uri(), office.address);
    let (mut host, doors) = (office.host, office.doors);
    host.model.acknowledges = true;
    host.allow(Allowed::ALL.without(Allowed::PRINT));
    host.watch(Duration::from_millis(100));
    assert!(TcpStream::connect(address).is_err(), "there is no printer");
    host.allow(Allowed::PRINT);
    until(&mut host, "the printer", || {
        TcpStream::connect(address).is_ok()
    });

    let file = doors.path("page.pdf");
    let pages = [b"%PDF-1.4\n".to_vec(), b"0123456789".repeat(100_000)].concat();
    std::fs::write(&file, &pages).unwrap();
    let job = print(&uri, "Quarterly \u{e4}", &file);
    host.until("the job", |model| !model.jobs.is_empty());
    let (transfer, size, format, copies, _) = host.model.jobs[0];
    assert_eq!(
        (size, format, copies),
        (pages.len() as u64, PrintFormat::Pdf, 3)
    );
    assert_eq!(host.model.titles, ["Quarterly \u{e4}"]);
    assert_eq!(stands(&uri, job), Standing::Processing);
    host.order(Answer {
        transfer,
        verdict: Verdict::Yes,
    });
    host.until("the pages", |model| model.ended == [transfer]);
    assert_eq!(host.model.streams[&transfer], pages);
    assert_eq!(host.model.carries[&transfer], Carries::Print);

    until(&mut host, "the job's end", || {
        stands(&uri, job) == Standing::Completed
    });
    // How it is to be printed was said before it.
    let usual = (transfer, Sides::Usual, String::new(), Vec::new());
    assert_eq!(host.model.tickets, [usual]);
    host.model.tickets.clear();
    let ticket = Ticket {
        sides: Some(medley_print::Sides::TwoSidedShortEdge),
        media: Some(Medium::a4()),
        ranges: vec![(2, 3), (7, 7)],
        ..Ticket::default()
    };
    let some = print_as(&uri, "some pages", &file, ticket);
    host.until("the job", |model| model.jobs.len() == 2);
    let (transfer, ..) = host.model.jobs[1];
    let said = (
        transfer,
        Sides::ShortEdge,
        "iso_a4_210x297mm".to_owned(),
        vec![(2, 3), (7, 7)],
    );
    assert_eq!(host.model.tickets, [said]);
    client::cancel(&uri, some, "somebody").unwrap();

    let job = print(&uri, "No", &file);
    host.until("the job", |model| model.jobs.len() == 3);
    let (transfer, ..) = host.model.jobs[2];
    host.order(Answer {
        transfer,
        verdict: Verdict::Declined,
    });
    until(
        &mut host,
        "the job's end",
        || matches!(stands(&uri, job), Standing::Aborted(words) if words.contains("said no")),
    );

    // Taken back while the host thinks about it: what it says yes to ends at once.
    let job = print(&uri, "Oh no", &file);
    host.until("the job", |model| model.jobs.len() == 4);
    let (transfer, ..) = host.model.jobs[3];
    client::cancel(&uri, job, "somebody").unwrap();
    host.watch(Duration::from_millis(100));
    host.order(Answer {
        transfer,
        verdict: Verdict::Yes,
    });
    host.until("the stream's end", |model| {
        model.cancelled.contains(&transfer)
    });

    host.allow(Allowed::NONE);
    until(&mut host, "the printer to go", || {
        TcpStream::connect(address).is_err()
    });
}

/// A host that cannot be told which pages gets none: who wants three of thirty shall not get thirty.
#[test]
fn a_host_without_tickets_is_asked_for_whole_documents_alone() {
    let office = Office::of(Features::ALL.without(Features::PRINT_TICKETS));
    let (uri, address) = (office.uri(), office.address);
    let (mut host, doors) = (office.host, office.doors);
    host.allow(Allowed::PRINT);
    until(&mut host, "the printer", || {
        TcpStream::connect(address).is_ok()
    });
    let file = doors.path("page.pdf");
    std::fs::write(&file, "%PDF-1.4 pages").unwrap();
    let sides = client::capabilities(&uri).unwrap().sides;
    assert_eq!(sides, [medley_print::Sides::OneSided]);
    let ticket = Ticket {
        ranges: vec![(2, 3)],
        ..Ticket::default()
    };
    let some = print_as(&uri, "some pages", &file, ticket);
    until(&mut host, "a refusal", || {
        matches!(stands(&uri, some), Standing::Aborted(_))
    });
    print(&uri, "all", &file);
    host.until("the job", |model| model.jobs.len() == 1);
    assert!(host.model.tickets.is_empty());
}
