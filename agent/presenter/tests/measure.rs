//! How long a frame takes from the guest's message to its acknowledgement, which comes when the X server has it; how
//! much memory and time the presenter takes. Not a test: `cargo test -p medley-presenter --release --test measure -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::Desktop;
use medley_wire::Untrusted;
use medley_wire::gui;
use medley_wire::pixels::{Buffer, Format};
use std::time::{Duration, Instant};
use support::*;

/// The middle, the hundredth but one, in microseconds.
fn spread(mut all: Vec<Duration>) -> (u128, u128) {
    all.sort();
    let at = |part: usize| all[(all.len() * part / 100).min(all.len() - 1)].as_micros();
    (at(50), at(99))
}

fn status(pid: u32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line[name.len()..].trim().to_owned()
}

/// Ticks of the processor that a process has used.
fn ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = text.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
#[ignore = "a measurement"]
fn frames() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(16 << 20).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let (desk, sockets) = (Desktop::start(1400, 900).unwrap(), Sockets::new());
    let mut presenter = Presenter::start(&desk, &sockets, &["--pool", &path]);
    let mut guest = sockets.accept();
    guest.begin();
    presenter.event("whole");
    let pid = presenter.process.0.id();
    println!("empty: {}", status(pid, "VmRSS:"));
    focused(&desk, &mut guest, 1, rect(20, 40, 1280, 800));
    let pool = medley_link::Pool::guest(file.path()).unwrap();
    pool.write(0, &picture(1280, 800)).unwrap();
    guest.say(gui::Attach {
        window: id(1),
        buffer: Untrusted::claim(Buffer {
            offset: 0,
            stride: 1280 * 4,
            size: rect(0, 0, 1280, 800).size(),
            format: Format::Xrgb,
        }),
    });
    let spot = picture(16, 24);
    let mut small = Vec::new();
    for n in 0..2000 {
        let began = Instant::now();
        let frame = guest.patch(1, rect(n % 1200, n % 700, 16, 24), raw(&spot));
        guest.shown(1, frame);
        small.push(began.elapsed());
    }
    println!("16x24 in the stream, p50 and p99: {:?} us", spread(small));
    let mut large = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        let frame = guest.next_frame(id(1));
        guest.say(gui::Damage {
            window: id(1),
            frame,
            took: [0, 0],
            rects: rects(&[rect(0, 0, 1280, 800)]),
        });
        guest.shown(1, frame);
        large.push(began.elapsed());
    }
    println!(
        "1280x800 in shared memory, p50 and p99: {:?} us",
        spread(large)
    );
    println!("one window of 1280x800: {}", status(pid, "VmRSS:"));
    let before = ticks(pid);
    std::thread::sleep(Duration::from_secs(10));
    println!(
        "ticks (hundredths of a second) in 10 idle seconds: {}",
        ticks(pid) - before
    );
    presenter.command("quit");
    assert_eq!(presenter.ended(), 0);
}
