//! What is taken away is really gone: tried from a thread that has locked itself in.
#![allow(clippy::unwrap_used)]
use medley_presenter::sandbox;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

#[test]
fn nothing_can_be_opened_or_started_any_more() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let own = std::env::current_exe().unwrap();
    // The same works before.
    assert!(File::open(&own).is_ok() && TcpStream::connect(address).is_ok());
    let locked = std::thread::spawn(move || {
        let (mut left, right) = UnixStream::pair().unwrap();
        sandbox::enter(&[]).unwrap();
        let kinds = [
            File::open(&own).map(drop).unwrap_err().kind(),
            File::create("/tmp/never").map(drop).unwrap_err().kind(),
            std::fs::read_dir("/").map(drop).unwrap_err().kind(),
            TcpStream::connect(address).map(drop).unwrap_err().kind(),
            UnixStream::pair().map(drop).unwrap_err().kind(),
            Command::new(&own).spawn().map(drop).unwrap_err().kind(),
        ];
        // What is open can be used, and memory can be had.
        use std::io::{Read, Write};
        let mut right = right;
        left.write_all(&vec![7; 100_000][..1000]).unwrap();
        let mut got = vec![0; 1000];
        right.read_exact(&mut got).unwrap();
        (kinds, got == vec![7; 1000])
    });
    let (kinds, usable) = locked.join().unwrap();
    assert_eq!(kinds, [ErrorKind::PermissionDenied; 6]);
    assert!(usable);
}
