//! The scripted presenter. A script has one step on each line:
//!
//!     say LINE      says an event
//!     await TEXT    reads lines until one contains the text; its descriptor is at hand then
//!     put TEXT      writes a text into that descriptor
//!     fill N        writes so many bytes into it
//!     close         closes it
//!     read          reads all of it, and writes that down
//!     pause MS      does nothing for a while
//!     exit          ends
//!     deaf          never reads again
//!
//! At the script's end it reads and writes down what it is told, until nobody says anything more.
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

struct Double {
    told: File,
    bytes: Vec<u8>,
    /// A line whose descriptor came with it.
    files: VecDeque<OwnedFd>,
    at_hand: Option<File>,
}

/// Plays the script in the folder that the environment names.
pub fn play() {
    let folder = PathBuf::from(std::env::var_os("MEDLEY_DOUBLE").unwrap());
    let script = std::fs::read_to_string(folder.join("script")).unwrap();
    std::fs::write(folder.join("pid"), std::process::id().to_string()).unwrap();
    let told = File::options()
        .create(true)
        .append(true)
        .open(folder.join("told"));
    let mut double = Double {
        told: told.unwrap(),
        bytes: Vec::new(),
        files: VecDeque::new(),
        at_hand: None,
    };
    // The harness has begun a line.
    println!();
    for step in script.lines().filter(|line| !line.trim().is_empty()) {
        let (verb, rest) = step.trim().split_once(' ').unwrap_or((step.trim(), ""));
        match verb {
            "say" => say(rest),
            "await" => while !double.next().expect(rest).contains(rest) {},
            // A supervisor that has had enough closes its end.
            "put" => drop(double.file().write_all(rest.as_bytes())),
            "fill" => {
                let bytes = vec![b'x'; rest.parse().unwrap()];
                drop(double.file().write_all(&bytes));
            }
            "close" => double.at_hand = None,
            "read" => {
                let mut text = String::new();
                double.file().read_to_string(&mut text).unwrap();
                writeln!(double.told, "read {text}").unwrap();
            }
            "pause" => std::thread::sleep(std::time::Duration::from_millis(rest.parse().unwrap())),
            "exit" => std::process::exit(0),
            "deaf" => loop {
                std::thread::park();
            },
            other => panic!("no step: {other}"),
        }
    }
    while double.next().is_some() {}
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

impl Double {
    fn file(&mut self) -> &mut File {
        self.at_hand.as_mut().expect("no descriptor at hand")
    }

    /// The next line; its descriptor, if it has one, is at hand.
    fn next(&mut self) -> Option<String> {
        let end = loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [0; 4096];
            let mut into = [IoSliceMut::new(&mut bytes)];
            let got = recvmsg(
                std::io::stdin(),
                &mut into,
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            );
            let count = got.unwrap().bytes;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(files) = message {
                    self.files.extend(files);
                }
            }
            if count == 0 {
                return None;
            }
            self.bytes.extend(&bytes[..count]);
        };
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        let line = String::from_utf8(line).unwrap().trim_end().to_owned();
        let order: Option<medley_services::Order> = serde_json::from_str(&line).ok();
        if order.is_some_and(|order| order.has_file()) {
            let file = self.files.pop_front().expect("a descriptor with the line");
            self.at_hand = Some(File::from(file));
        }
        writeln!(self.told, "{line}").unwrap();
        Some(line)
    }
}
