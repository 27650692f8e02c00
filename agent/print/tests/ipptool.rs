//! CUPS' conformance suites against the guest's printer. Debian ships them without their documents, which are
//! made here.
#![allow(clippy::unwrap_used)]
mod support;

use medley_print::Medium;
use medley_print::server::Settings;
use std::path::Path;
use std::process::Command;
use support::{Owned, pdf, said, tools};

/// The smallest photographs there can be: a frame and no picture.
fn jpeg(components: u8) -> Vec<u8> {
    let mut bytes = vec![
        0xff,
        0xd8,
        0xff,
        0xc0,
        0,
        8 + 3 * components,
        8,
        0,
        8,
        0,
        16,
        components,
    ];
    for component in 1..=components {
        bytes.extend([component, 0x11, 0]);
    }
    bytes.extend([0xff, 0xda, 0, 2, 0xff, 0xd9]);
    bytes
}

/// A document of this name. The printer does not look into the samples of rasters, so one stands for all.
fn made(name: &str) -> Vec<u8> {
    let name = name.rsplit('/').next().unwrap();
    match name.rsplit_once('.') {
        Some(("gray", "jpg")) => jpeg(1),
        Some((_, "jpg")) => jpeg(3),
        Some(("document-letter", "pdf")) => pdf(1, 612, 792),
        Some((_, "pdf")) => pdf(1, 595, 842),
        Some((_, "pwg")) => {
            let mut raster = b"RaS2PwgRaster\0".to_vec();
            raster.resize(4 + 1796 + 100, 0);
            raster
        }
        // PostScript, which the printer does not take.
        _ => b"%!PS".to_vec(),
    }
}

fn suite(name: &str, version: &str, file: &str, least: usize) {
    let Some([ipptool]) = tools(["ipptool"]) else {
        return;
    };
    let shipped = Path::new("/usr/share/cups/ipptool");
    let folder = tempfile::tempdir().unwrap();
    for test in ["ipp-1.1.test", "ipp-2.0.test", "ipp-everywhere.test"] {
        let text = std::fs::read_to_string(shipped.join(test)).unwrap();
        std::fs::write(folder.path().join(test), &text).unwrap();
        // A suite ends where a document is missing, also that of a test that would be left out.
        for document in text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("FILE "))
        {
            let path = folder.path().join(document);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, made(document)).unwrap();
        }
    }
    std::fs::write(folder.path().join(file), made(file)).unwrap();

    let mut settings = Settings::default();
    // A card, so that the tests for it run.
    let card = Medium::new("na_index-4x6_4x6in").unwrap();
    settings.capabilities.media.push(card);
    let printer = Owned::new(settings);
    let output = Command::new(ipptool)
        .current_dir(folder.path())
        .args(["-V", version, "-t", "-T", "20", "-f", file, &printer.uri])
        .arg(folder.path().join(name))
        .output()
        .unwrap();
    let said = said(&output);
    let count = |word: &str| said.matches(word).count();
    println!(
        "{name} with {file}: {} pass, {} skip, {} fail",
        count("[PASS]"),
        count("[SKIP]"),
        count("[FAIL]")
    );
    assert!(output.status.success() && count("[FAIL]") == 0, "{said}");
    assert!(count("cannot be read") == 0, "{said}");
    assert!(count("[PASS]") >= least, "{said}");
}

#[test]
fn ipp_1_1() {
    suite("ipp-1.1.test", "1.1", "document-a4.pdf", 40);
}

#[test]
fn ipp_2_0() {
    suite("ipp-2.0.test", "2.0", "page.pwg", 40);
}

#[test]
fn ipp_everywhere() {
    suite("ipp-everywhere.test", "2.0", "document-letter.pdf", 70);
}
