//! Makes recordings for the seeds: `cargo run -p medley-fuzz --example record -- FOLDER APP…`, such as `xterm`. Each
//! app runs on an X server without a screen, whose windows the real agent shows by the real presenter on another
//! one; somebody types a few words, moves the pointer, resizes and minimises. Both programs lie in the folder above
//! this one's: `cargo build -p medley-guest -p medley-presenter`.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Process {
    let started = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
    Process(started.unwrap_or_else(|error| panic!("{command:?}: {error}")))
}

/// An X server without a screen, and what it is called.
fn display() -> (Process, String) {
    let mut server = Command::new("Xvfb");
    server
        .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset"])
        .args(["-screen", "0", "800x600x24"])
        .stdout(Stdio::piped());
    let mut server = start(&mut server);
    let mut number = String::new();
    let out = server.0.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut number).unwrap();
    (server, format!(":{}", number.trim()))
}

/// What a hypervisor is to agent and presenter: both connect to it, and it copies bytes.
fn relay(guest: &UnixListener, host: &UnixListener) {
    let (guest, host) = (guest.accept().unwrap().0, host.accept().unwrap().0);
    let back = (guest.try_clone().unwrap(), host.try_clone().unwrap());
    std::thread::spawn(move || pump(guest, host));
    std::thread::spawn(move || pump(back.1, back.0));
}

fn pump(mut from: UnixStream, mut to: UnixStream) {
    let mut bytes = vec![0; 65536];
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn xdotool(display: &str, words: &str) {
    let mut xdotool = Command::new("xdotool");
    let words = words.split_whitespace();
    let done = xdotool.args(words).env("DISPLAY", display).status();
    assert!(done.is_ok(), "xdotool is not installed");
    std::thread::sleep(Duration::from_millis(150));
}

fn record(programs: &Path, app: &str, to: &Path) {
    let sockets = tempfile::tempdir().unwrap();
    let path = |name: &str| sockets.path().join(name);
    let guest = UnixListener::bind(path("guest")).unwrap();
    let host = UnixListener::bind(path("host")).unwrap();
    let (_inner, inner) = display();
    let (_outer, outer) = display();
    let mut manager = Command::new("openbox");
    manager.env("DISPLAY", &outer).env("HOME", sockets.path());
    let _manager = start(manager.stdout(Stdio::null()));
    std::thread::sleep(Duration::from_secs(1));
    let mut agent = Command::new(programs.join("medley-guest"));
    agent.args(["run", "--display", &inner]);
    for (option, name) in [
        ("--gui", "guest"),
        ("--control", "none"),
        ("--bulk", "none"),
    ] {
        agent.arg(option).arg(path(name));
    }
    let _agent = start(&mut agent);
    let mut presenter = Command::new(programs.join("medley-presenter"));
    presenter
        .args(["--workspace", "fuzz", "--display", &outer, "--gui"])
        .arg(path("host"))
        .arg("--record")
        .arg(to);
    let presenter = start(presenter.stdout(Stdio::null()));
    relay(&guest, &host);
    let mut program = Command::new(app);
    program.env("DISPLAY", &inner).env("HOME", sockets.path());
    let _app = start(program.stdout(Stdio::null()));
    std::thread::sleep(Duration::from_secs(4));
    for words in [
        "mousemove 300 300",
        "click 1",
        "mousemove 310 290",
        "type --delay 40 test",
        "key Return",
        "keydown ctrl mousedown 1",
        "mousemove 330 360",
        "mouseup 1 keyup ctrl",
        "click 3",
        "key Escape",
        "click 4",
        "search --name fuzz windowsize 500 380",
        "search --name fuzz windowmove 40 60",
        "search --name fuzz windowminimize",
        "search --name fuzz windowactivate",
        "type --delay 40 more",
        "key ctrl+d",
    ] {
        xdotool(&outer, words);
    }
    std::thread::sleep(Duration::from_secs(1));
    drop(presenter);
    println!(
        "{}: {} bytes",
        to.display(),
        std::fs::metadata(to).unwrap().len()
    );
}

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().expect("the folder that recordings go to"));
    let own = std::env::current_exe().unwrap();
    let programs = own.parent().and_then(Path::parent).unwrap();
    for app in arguments {
        let app = app.to_str().unwrap();
        record(programs, app, &folder.join(format!("{app}.mdlyrec")));
    }
}
