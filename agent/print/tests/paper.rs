//! The host's half against CUPS' own printer, and both halves together.
#![allow(clippy::unwrap_used)]
mod support;

use medley_print::client::{self, JobRequest, Standing};
use medley_print::server::Settings;
use medley_print::{Capabilities, Error, Format, Medium, Sides, Ticket};
use std::time::{Duration, Instant};
use support::{Owned, Physical, pdf};

fn request(format: Format) -> JobRequest {
    JobRequest {
        title: "A letter".into(),
        user: "ann".into(),
        format,
        ticket: Ticket {
            copies: 2,
            sides: Some(Sides::TwoSidedLongEdge),
            media: Some(Medium::a4()),
            ..Ticket::default()
        },
    }
}

#[test]
fn a_file_arrives_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let Some(physical) = Physical::new(folder.path()) else {
        return;
    };
    let mut raster = b"RaS2PwgRaster\0".to_vec();
    // Larger than any buffer on the way.
    raster.extend((0..3_000_000_u32).map(|at| (at % 251) as u8));
    for (format, bytes) in [(Format::Pdf, pdf(3, 595, 842)), (Format::Raster, raster)] {
        let file = folder.path().join("document");
        std::fs::write(&file, &bytes).unwrap();
        let job = client::print(&physical.uri, &request(format), &file).unwrap();
        assert!(physical.printed(bytes.len()) == bytes, "{format:?}");
        let begun = Instant::now();
        // It counts the seconds that a page takes.
        while client::standing(&physical.uri, job).unwrap() != Standing::Completed {
            assert!(begun.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_printer_is_mirrored() {
    let folder = tempfile::tempdir().unwrap();
    let Some(physical) = Physical::new(folder.path()) else {
        return;
    };
    let seen = client::capabilities(&physical.uri).unwrap();
    assert_eq!(seen.make_and_model, "Medley Physical");
    assert!(
        seen.colour
            && seen.sides
                == [
                    Sides::OneSided,
                    Sides::TwoSidedLongEdge,
                    Sides::TwoSidedShortEdge
                ],
        "{seen:?}"
    );
    assert!(
        seen.media.contains(&Medium::a4()) && seen.media.len() > 2,
        "{seen:?}"
    );
    let printer = Owned::new(Settings {
        capabilities: seen.clone(),
        ..Settings::default()
    });
    assert_eq!(client::capabilities(&printer.uri).unwrap(), seen);
}

#[test]
fn an_ordinary_printer_is_seen_as_it_is() {
    let printer = Owned::new(Settings::default());
    let seen = client::capabilities(&printer.uri).unwrap();
    assert_eq!(seen, Capabilities::default());
}

#[test]
fn a_file_of_another_kind_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let printer = Owned::new(Settings::default());
    let file = folder.path().join("script");
    for bytes in [&b"%!PS-Adobe"[..], b"%PDF", b"", b"RaS2"] {
        std::fs::write(&file, bytes).unwrap();
        let refused = client::print(&printer.uri, &request(Format::Pdf), &file);
        assert!(matches!(refused, Err(Error::NotTheFormat { .. })));
    }
    let refused = client::print(&printer.uri, &request(Format::Pdf), folder.path());
    assert!(refused.is_err());
}

#[test]
fn the_client_speaks_with_our_printer() {
    let folder = tempfile::tempdir().unwrap();
    let printer = Owned::new(Settings::default());
    let file = folder.path().join("document");
    let bytes = pdf(2, 595, 842);
    std::fs::write(&file, &bytes).unwrap();
    let id = client::print(&printer.uri, &request(Format::Pdf), &file).unwrap();
    let job = printer.job();
    assert_eq!(
        (job.id, job.title.as_str(), job.user.as_str()),
        (id, "A letter", "ann")
    );
    assert_eq!(job.ticket, request(Format::Pdf).ticket);
    assert!(job.document == bytes);
    assert_eq!(
        client::standing(&printer.uri, id).unwrap(),
        Standing::Completed
    );
    let late = client::cancel(&printer.uri, id, "ann");
    assert!(
        matches!(late, Err(Error::Refused { status: 0x0404, .. })),
        "{late:?}"
    );
    let nobody = client::standing(&format!("{}x", printer.uri), id);
    assert!(
        matches!(nobody, Err(Error::Http { status: 404, .. })),
        "{nobody:?}"
    );
}

#[test]
fn a_document_that_is_too_large_is_refused_before_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let printer = Owned::new(Settings {
        largest: 1000,
        ..Settings::default()
    });
    let file = folder.path().join("document");
    let mut bytes = pdf(1, 595, 842);
    bytes.resize(64 << 20, b' ');
    std::fs::write(&file, &bytes).unwrap();
    let refused = client::print(&printer.uri, &request(Format::Pdf), &file);
    assert!(
        matches!(refused, Err(Error::Http { status: 413, .. })),
        "{refused:?}"
    );
}
