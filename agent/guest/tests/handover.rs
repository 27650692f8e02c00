//! Files both ways, addresses, the log and updates, with a real agent, its real commands, and a host that is a
//! script.
#![allow(clippy::unwrap_used)]
mod support;

use medley_desktop::{Desktop, Process};
use medley_wire::bulk::{Cancel, Carries, Chunk, End, Open};
use medley_wire::control::{self, Allowed, Answer, FileOffer, Level, Outcome, Update, Verdict};
use medley_wire::limits::CHUNK_BYTES;
use medley_wire::{Bytes, Features, List, Size, Text, Untrusted};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::display;
use support::{AGENT, Doors, Host, PATIENCE, agent, agent_with};

fn start(allowed: Allowed) -> (Desktop, Doors, Process, Host) {
    let server = display::virtual_one();
    let doors = Doors::new();
    let agent = agent(&server, &doors, &[]);
    let host = greet(&doors, allowed);
    (server, doors, agent, host)
}

fn greet(doors: &Doors, allowed: Allowed) -> Host {
    let mut host = Host::accept(doors, Features::ALL, None);
    host.model.acknowledges = true;
    host.allow(allowed);
    host
}

fn downloads(doors: &Doors) -> PathBuf {
    doors.path("home").join("Downloads")
}

/// Names in a folder, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let Ok(files) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Reads what comes until something outside holds.
fn until(host: &mut Host, what: &str, mut holds: impl FnMut(&Host) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds(host) {
        assert!(Instant::now() < end, "waited in vain for {what}");
        assert!(host.turn(Duration::from_millis(20)), "the agent is gone");
    }
}

fn verdict(host: &mut Host, transfer: u32) -> Verdict {
    host.until("an answer", |model| {
        model.answers.iter().any(|(t, _)| *t == transfer)
    });
    let at = host.model.answers.iter().position(|(t, _)| *t == transfer);
    host.model.answers.remove(at.unwrap()).1
}

fn offer(host: &mut Host, transfer: u32, name: &str, size: u64) -> Verdict {
    host.order(FileOffer {
        transfer,
        size: Untrusted::claim(size),
        name: Untrusted::claim(Text::cut(name)),
    });
    verdict(host, transfer)
}

fn begin(host: &mut Host, stream: u8, transfer: u32, carries: Carries, size: usize) {
    let size = Untrusted::claim(size as u64);
    host.bulk
        .send(Open {
            stream,
            transfer,
            carries,
            size,
        })
        .unwrap();
}

/// Sends bytes of a stream, never further ahead than it may be.
fn pieces(host: &mut Host, stream: u8, from: usize, data: &[u8]) {
    for (index, piece) in data.chunks(CHUNK_BYTES).enumerate() {
        let offset = (from + index * CHUNK_BYTES) as u64;
        let data = Bytes(piece);
        host.bulk
            .send(Chunk {
                stream,
                offset,
                data,
            })
            .unwrap();
        until(host, "bytes to be dealt with", |host| {
            let received = host.model.received.get(&stream).copied().unwrap_or(0);
            offset < received + 3 * CHUNK_BYTES as u64
        });
    }
}

fn end(host: &mut Host, stream: u8, size: usize) {
    let size = size as u64;
    host.bulk.send(End { stream, size }).unwrap();
    let _ = host.bulk.flush();
    host.model.received.remove(&stream);
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n / 251 + n) as u8).collect()
}

#[test]
fn the_hosts_files_arrive_whole_and_under_names_of_their_own() {
    let (_server, doors, _agent, mut host) = start(Allowed::FILES_IN);
    let folder = downloads(&doors);
    let large = bytes(3_000_000);
    assert_eq!(offer(&mut host, 5, "big.bin", 3_000_000), Verdict::Yes);
    begin(&mut host, 0, 5, Carries::File, large.len());
    pieces(&mut host, 0, 0, &large[..CHUNK_BYTES]);
    until(&mut host, "the first piece", |host| {
        host.model.received.contains_key(&0)
    });
    let begun = names(&folder);
    assert!(
        begun.len() == 1 && begun[0].starts_with(".medley-"),
        "no name before it is whole: {begun:?}"
    );
    pieces(&mut host, 0, CHUNK_BYTES, &large[CHUNK_BYTES..]);
    end(&mut host, 0, large.len());
    until(&mut host, "the file", |_| names(&folder) == ["big.bin"]);
    assert_eq!(fs::read(folder.join("big.bin")).unwrap(), large);

    // A name that is taken, and a file without bytes.
    assert_eq!(offer(&mut host, 6, "big.bin", 0), Verdict::Yes);
    begin(&mut host, 1, 6, Carries::File, 0);
    end(&mut host, 1, 0);
    until(&mut host, "the second file", |_| {
        names(&folder) == ["big (2).bin", "big.bin"]
    });
    assert_eq!(fs::read(folder.join("big.bin")).unwrap().len(), large.len());

    // What ends early, and what is not as announced, leaves nothing.
    assert_eq!(offer(&mut host, 7, "early.bin", 10), Verdict::Yes);
    begin(&mut host, 0, 7, Carries::File, 10);
    pieces(&mut host, 0, 0, b"12345");
    let cancel = Cancel {
        stream: 0,
        own: true,
    };
    host.bulk.send(cancel).unwrap();
    assert_eq!(offer(&mut host, 8, "longer.bin", 4), Verdict::Yes);
    begin(&mut host, 2, 8, Carries::File, 5);
    until(&mut host, "no", |host| host.model.refused == [2]);
    // A stream that nobody agreed to.
    begin(&mut host, 3, 99, Carries::File, 0);
    until(&mut host, "another no", |host| host.model.refused == [2, 3]);
    until(&mut host, "nothing half to be left", |_| {
        names(&folder) == ["big (2).bin", "big.bin"]
    });
    for (transfer, name) in [(10, "../x"), (11, ".bashrc"), (12, "a/b"), (13, "")] {
        assert_eq!(offer(&mut host, transfer, name, 1), Verdict::Kind, "{name}");
    }
    let more = medley_wire::limits::FILE_BYTES + 1;
    assert_eq!(offer(&mut host, 14, "a", more), Verdict::TooLarge);
    host.allow(Allowed::ALL.without(Allowed::FILES_IN));
    assert_eq!(offer(&mut host, 15, "a", 1), Verdict::Policy);
}

#[test]
fn an_app_is_launched_with_files_once_they_are_there() {
    let server = display::virtual_one();
    let doors = Doors::new();
    let out = doors.path("out");
    let apps = doors.path("data").join("applications");
    fs::create_dir_all(&apps).unwrap();
    for (name, code) in [("paths", "%F"), ("addresses", "%U")] {
        let exec = format!(
            "sh -c \"printf '%%s|' \\\\\"\\\\$@\\\\\" > {}\" x {code}",
            out.display()
        );
        let entry = format!("[Desktop Entry]\nType=Application\nName={name}\nExec={exec}\n");
        fs::write(apps.join(format!("{name}.desktop")), entry).unwrap();
    }
    let _agent = agent(&server, &doors, &[]);
    let mut host = greet(&doors, Allowed::FILES_IN);
    host.order(control::ListApps {
        generation: 1,
        icons: Size::new(32, 32).unwrap(),
    });
    host.until("the list", |model| model.lists.len() == 1);
    let app = |host: &Host, name: &str| {
        let found = host.model.apps.iter().find(|(_, n)| *n == name);
        *found.unwrap().0
    };
    let launch = |host: &mut Host, request, app, addresses: &[&str], files: &[u32]| {
        host.order(control::Launch {
            request,
            app,
            action: 0,
            arguments: List::new(addresses.iter().map(|a| Text::cut(a)).collect()),
            files: List::new(files.to_vec()),
        });
    };
    let name = "Übung 100%.txt";
    assert_eq!(offer(&mut host, 1, name, 3), Verdict::Yes);
    assert_eq!(offer(&mut host, 2, "two", 3), Verdict::Yes);
    begin(&mut host, 0, 1, Carries::File, 3);
    pieces(&mut host, 0, 0, b"one");
    end(&mut host, 0, 3);
    // The word to launch comes before the second file does.
    let paths = app(&host, "paths");
    launch(&mut host, 20, paths, &[], &[1, 2]);
    host.watch(Duration::from_millis(200));
    assert!(host.model.launched.is_empty(), "it waits");
    begin(&mut host, 0, 2, Carries::File, 3);
    pieces(&mut host, 0, 0, b"two");
    end(&mut host, 0, 3);
    host.until("the launch", |model| model.launched.len() == 1);
    assert_eq!(host.model.launched[0].1, Outcome::Started);
    let folder = downloads(&doors);
    let written = |host: &mut Host| {
        until(host, "what was written", |_| {
            fs::read_to_string(&out).is_ok_and(|text| text.ends_with('|'))
        });
        let text = fs::read_to_string(&out).unwrap();
        fs::remove_file(&out).unwrap();
        text
    };
    let first = folder.join(name);
    let expected = format!("{}|{}|", first.display(), folder.join("two").display());
    assert_eq!(written(&mut host), expected);
    let addresses = app(&host, "addresses");
    launch(&mut host, 21, addresses, &["note:x"], &[1]);
    let text = written(&mut host);
    assert!(text.starts_with("note:x|file:///"), "{text}");
    assert!(text.ends_with("/%C3%9Cbung%20100%25.txt|"), "{text}");

    // A file that never came, and one that will not.
    launch(&mut host, 22, paths, &[], &[3]);
    assert_eq!(offer(&mut host, 4, "four", 3), Verdict::Yes);
    launch(&mut host, 23, paths, &[], &[4]);
    begin(&mut host, 0, 4, Carries::File, 3);
    let cancel = Cancel {
        stream: 0,
        own: true,
    };
    host.bulk.send(cancel).unwrap();
    host.until("both answers", |model| model.launched.len() == 4);
    for (request, outcome, words) in &host.model.launched[2..] {
        assert!([22, 23].contains(request), "{request}");
        assert_eq!(*outcome, Outcome::Refused);
        assert_eq!(words, "a file that it should open is not here");
    }
}

/// A command of the guest's, as people and file managers give it.
fn order(doors: &Doors, arguments: &[&str]) -> Child {
    support::surround(&mut Command::new(AGENT), doors)
        .args(arguments)
        .current_dir(doors.path("home"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for a command while the host goes on.
fn finish(host: &mut Host, mut child: Child) -> (bool, String) {
    until(host, "the command to end", |_| {
        child.try_wait().unwrap().is_some()
    });
    said(child.wait_with_output().unwrap())
}

fn said(output: Output) -> (bool, String) {
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn files_go_to_the_host_if_it_wants_them() {
    let (_server, doors, _agent, mut host) = start(Allowed::FILES_OUT);
    let home = doors.path("home");
    let large = bytes(3_000_000);
    fs::write(home.join("large.bin"), &large).unwrap();
    fs::write(home.join("empty"), "").unwrap();
    fs::create_dir(home.join("folder")).unwrap();
    nix::unistd::mkfifo(&home.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();

    let child = order(
        &doors,
        &["send", "large.bin", "folder", "pipe", "gone", "empty"],
    );
    host.until("an offer", |model| model.files.len() == 1);
    let (first, name, size) = host.model.files[0].clone();
    assert_eq!((name.as_str(), size), ("large.bin", 3_000_000));
    let yes = |transfer| Answer {
        transfer,
        verdict: Verdict::Yes,
    };
    host.order(yes(first));
    host.until("the next offer", |model| model.files.len() == 2);
    assert_eq!(host.model.streams[&first], large);
    assert_eq!(host.model.carries[&first], Carries::File);
    let (second, name, size) = host.model.files[1].clone();
    assert_eq!((name.as_str(), size), ("empty", 0));
    host.order(yes(second));
    let (good, words) = finish(&mut host, child);
    assert!(!good);
    for line in [
        "large.bin: the host has it\n",
        "folder: is a folder",
        "pipe: is no file",
        "gone: cannot be opened",
        "empty: the host has it\n",
        "3 of 5 files did not arrive",
    ] {
        assert!(words.contains(line), "{line}: {words}");
    }

    // Each no in its own words.
    for (verdict, line) in [
        (Verdict::Policy, "policy"),
        (Verdict::Declined, "said no"),
        (Verdict::TooLarge, "larger"),
    ] {
        let child = order(&doors, &["send", "empty"]);
        let before = host.model.files.len();
        host.until("an offer", |model| model.files.len() > before);
        let transfer = host.model.files[before].0;
        host.order(Answer { transfer, verdict });
        let (good, words) = finish(&mut host, child);
        assert!(!good && words.contains(line), "{line}: {words}");
    }

    // Whoever gives up while the host thinks about it: the stream ends as soon as it begins.
    let mut child = order(&doors, &["send", "large.bin"]);
    let before = host.model.files.len();
    host.until("an offer", |model| model.files.len() > before);
    child.kill().unwrap();
    child.wait().unwrap();
    host.watch(Duration::from_millis(100));
    let transfer = host.model.files[before].0;
    host.order(yes(transfer));
    host.until("the stream's end", |model| {
        model.cancelled.contains(&transfer)
    });

    // Not allowed, not offered.
    host.allow(Allowed::ALL.without(Allowed::FILES_OUT));
    host.watch(Duration::from_millis(50));
    let child = order(&doors, &["send", "empty"]);
    let (good, words) = finish(&mut host, child);
    assert!(!good && words.contains("policy forbids"), "{words}");
    assert_eq!(host.model.files.len(), before + 1);
}

#[test]
fn a_file_that_shrinks_is_not_sent_to_its_end() {
    let (_server, doors, _agent, mut host) = start(Allowed::FILES_OUT);
    let path = doors.path("home").join("file");
    fs::write(&path, bytes(1_000_000)).unwrap();
    let child = order(&doors, &["send", "file"]);
    host.until("an offer", |model| model.files.len() == 1);
    fs::write(&path, "short").unwrap();
    let transfer = host.model.files[0].0;
    host.order(Answer {
        transfer,
        verdict: Verdict::Yes,
    });
    let (good, words) = finish(&mut host, child);
    assert!(!good && words.contains("not sent to the end"), "{words}");
    host.until("the stream's end", |model| model.cancelled == [transfer]);
    // A warning, which names no file.
    host.until("the log", |model| {
        model.logs.iter().any(|(level, _, part, words)| {
            *level == Level::Warning && part == "guest::transfers" && words.contains("shorter")
        })
    });
}

#[test]
fn a_host_that_goes_is_told_to_those_who_wait() {
    let (_server, doors, _agent, mut host) = start(Allowed::FILES_OUT);
    fs::write(doors.path("home").join("file"), "x").unwrap();
    let child = order(&doors, &["send", "file"]);
    host.until("an offer", |model| model.files.len() == 1);
    drop(host);
    let (good, words) = said(child.wait_with_output().unwrap());
    assert!(!good && words.contains("the host went away"), "{words}");
    let child = order(&doors, &["send", "file"]);
    let (good, words) = said(child.wait_with_output().unwrap());
    assert!(!good && words.contains("no host is connected"), "{words}");
}

#[test]
fn without_an_agent_it_says_so() {
    let doors = Doors::new();
    let child = order(&doors, &["open", "https://example.org/"]);
    let (good, words) = said(child.wait_with_output().unwrap());
    assert!(
        !good && words.contains("agent does not run here"),
        "{words}"
    );
}

#[test]
fn addresses_open_on_the_host() {
    let (_server, doors, _agent, mut host) = start(Allowed::URLS);
    let child = order(&doors, &["open", "https://example.org/?a=b#c"]);
    let (good, words) = finish(&mut host, child);
    assert!(good, "{words}");
    host.until("the address", |model| {
        model.urls == ["https://example.org/?a=b#c"]
    });
    for bad in [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://user@evil.example/",
        "https://x/\u{e4}",
        "x",
    ] {
        let child = order(&doors, &["open", bad]);
        let (good, words) = finish(&mut host, child);
        assert!(!good && words.contains("no address of the web"), "{words}");
    }
    let long = format!("https://x/{}", "y".repeat(9000));
    let child = order(&doors, &["open", &long]);
    assert!(!finish(&mut host, child).0);
    host.allow(Allowed::NONE);
    host.watch(Duration::from_millis(50));
    let child = order(&doors, &["open", "https://example.org/"]);
    let (good, words) = finish(&mut host, child);
    assert!(!good && words.contains("policy forbids"), "{words}");
    assert_eq!(host.model.urls.len(), 1);
}

fn update(host: &mut Host, transfer: u32, size: u64, digest: [u8; 32]) -> Verdict {
    host.order(Update {
        transfer,
        size,
        digest,
    });
    verdict(host, transfer)
}

#[test]
fn a_newer_agent_takes_the_place_of_the_old_one() {
    let server = display::virtual_one();
    let doors = Doors::new();
    let (image, state) = (doors.path("image"), doors.path("state"));
    fs::create_dir_all(&image).unwrap();
    fs::create_dir_all(&state).unwrap();
    let program = image.join("medley-guest");
    // Without what a debugger wants it is as small as an update may be.
    let stripped = Command::new("strip")
        .args([AGENT.as_ref(), "-o".as_ref(), program.as_os_str()])
        .status();
    assert!(stripped.expect("strip (Debian: binutils)").success());
    let environment = [("STATE_DIRECTORY", state.to_str().unwrap())];
    let begin_agent = || {
        let program = program.to_str().unwrap();
        agent_with(program, &server.name, &doors, &[], &environment)
    };
    let agent = begin_agent();
    let running = |agent: &Process| fs::read_link(format!("/proc/{}/exe", agent.0.id())).unwrap();
    let mut host = greet(&doors, Allowed::NONE);
    assert_eq!(running(&agent), program);

    // The same program with something behind it is another one, and runs as well.
    let newer = [fs::read(&program).unwrap(), b"newer".to_vec()].concat();
    let digest: [u8; 32] = Sha256::digest(&newer).into();
    let deliver = |host: &mut Host, transfer: u32, data: &[u8]| {
        begin(host, 0, transfer, Carries::Update, data.len());
        pieces(host, 0, 0, data);
        end(host, 0, data.len());
    };
    let size = |data: &[u8]| data.len() as u64;
    let logged = |host: &mut Host, words: &str| {
        host.until(words, |model| {
            model.logs.iter().any(|l| l.3.contains(words))
        });
    };
    // Wrong bytes of the right length; right bytes that are no program.
    assert_eq!(update(&mut host, 1, 6, digest), Verdict::Yes);
    deliver(&mut host, 1, b"newer!");
    logged(&mut host, "not what the host announced");
    let script = b"#!/nowhere/at/all\n";
    let its: [u8; 32] = Sha256::digest(script).into();
    assert_eq!(update(&mut host, 2, size(script), its), Verdict::Yes);
    deliver(&mut host, 2, script);
    logged(&mut host, "does not run here");
    assert!(names(&state).is_empty(), "nothing is left of them");
    let most = medley_wire::limits::UPDATE_BYTES;
    assert_eq!(update(&mut host, 3, most + 1, digest), Verdict::TooLarge);
    assert_eq!(running(&agent), program);

    assert_eq!(update(&mut host, 4, size(&newer), digest), Verdict::Yes);
    deliver(&mut host, 4, &newer);
    let end = Instant::now() + PATIENCE;
    while host.turn(Duration::from_millis(20)) {
        assert!(Instant::now() < end, "it never ended");
    }
    drop(host);
    // The same process, and the host meets it again.
    let host = greet(&doors, Allowed::NONE);
    let kept = state.join("medley-guest");
    assert_eq!(running(&agent), kept);
    assert_eq!(fs::read(&kept).unwrap(), newer);
    assert_eq!(
        fs::metadata(&kept).unwrap().permissions().mode() & 0o777,
        0o755
    );
    drop((host, agent));

    // After a new start it is the newer one that runs, until the image has one that is newer still.
    let agent = begin_agent();
    let host = greet(&doors, Allowed::NONE);
    assert_eq!(running(&agent), kept);
    drop((host, agent));
    let now = std::time::SystemTime::now() + Duration::from_secs(5);
    let file = fs::File::options().write(true).open(&program).unwrap();
    file.set_modified(now).unwrap();
    drop(file);
    let agent = begin_agent();
    let _host = greet(&doors, Allowed::NONE);
    assert_eq!(running(&agent), program);
}
