//! The way of pixels, and who is waited for.
use super::*;

/// An agent and a host that share memory.
fn start_with_pool() -> (Desktop, Doors, Process, Host) {
    let server = display::virtual_one();
    let doors = Doors::new();
    let path = doors.path("pool");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    file.set_len(8 << 20).unwrap();
    let agent = agent(&server, &doors, &["--pool", path.to_str().unwrap()]);
    let host = Host::accept(&doors, Features::ALL, Some(Pool::of_host(&file).unwrap()));
    (server, doors, agent, host)
}

#[test]
fn pixels_go_through_shared_memory() {
    let (server, _doors, _agent, mut host) = start_with_pool();
    let _xterm = app(
        &server,
        "xterm",
        &[
            "-e",
            "sh",
            "-c",
            "for i in $(seq 50); do echo $i $i; sleep 0.01; done; sleep 60",
        ],
    );
    let _logo = app(&server, "xlogo", &[]);
    let xterm = host.window("XTerm");
    let logo = host.window("XLogo");
    host.settle(xterm);
    assert!(host.model.windows[&xterm].buffer.is_some());
    assert_eq!(
        host.model.windows[&xterm].buffer.unwrap().format(),
        Format::Xrgb
    );
    same_pixels(&server, &host, "XTerm", 0);
    same_pixels(&server, &host, "XLogo", 0);
    // A window that does not fit any more goes through the stream.
    host.say(gui::Configure {
        window: logo,
        rect: rect(0, 0, 1600, 1400),
        serial: 3,
    });
    host.until("the answer", |model| model.windows[&logo].answers == [3]);
    let before = host.model.windows[&logo].frames;
    host.until("a frame", |model| model.windows[&logo].frames > before);
    host.settle(logo);
    same_pixels(&server, &host, "XLogo", 0);
}

#[test]
fn frames_wait_for_the_host_and_hidden_windows_cost_nothing() {
    let (server, _doors, _agent, mut host) = start(&[]);
    let _xterm = app(
        &server,
        "xterm",
        &[
            "-e",
            "sh",
            "-c",
            "while true; do date +%N; sleep 0.01; done",
        ],
    );
    let id = host.window("XTerm");
    host.watch(Duration::from_millis(300));
    assert!(host.model.windows[&id].frames > 5);
    host.model.silent = true;
    host.watch(Duration::from_millis(100));
    let before = host.model.windows[&id].frames;
    host.watch(Duration::from_millis(300));
    assert!(
        host.model.windows[&id].frames - before <= 2,
        "two unacknowledged frames"
    );
    host.resync(2);
    host.watch(Duration::from_millis(300));
    assert_eq!(
        host.model.windows[&id].frames, 2,
        "as before, after everything was said anew"
    );
    host.model.silent = false;
    let show = |host: &mut Host, seen, frames| {
        host.say(gui::Visibility {
            window: id,
            seen,
            frames,
        });
    };
    host.resync(3);
    show(&mut host, Seen::Hidden, 0);
    host.watch(Duration::from_millis(100));
    let before = host.model.windows[&id].frames;
    host.watch(Duration::from_millis(300));
    assert_eq!(host.model.windows[&id].frames, before, "hidden");
    show(&mut host, Seen::Visible, 10);
    host.watch(Duration::from_millis(1000));
    let shown = host.model.windows[&id].frames - before;
    assert!((3..=12).contains(&shown), "ten frames a second: {shown}");
}

#[test]
fn of_a_small_box_everything_is_sent_and_of_a_large_one_what_changed() {
    use x11rb::protocol::xproto::{CreateGCAux, Rectangle};
    let (server, _doors, _agent, mut host) = start_with_pool();
    let own = own::Own::new(&server, "Painter", None);
    let id = host.window("Painter");
    host.settle(id);
    let x = &server.conn;
    let gc = x.generate_id().unwrap();
    let ink = CreateGCAux::new().foreground(0x00ff_ee11);
    x.create_gc(gc, own.window, &ink).unwrap();
    let at = |x, y| Rectangle {
        x,
        y,
        width: 8,
        height: 8,
    };
    for (spots, patches) in [
        ([at(10, 10), at(30, 10)], 1),
        ([at(50, 50), at(190, 90)], 2),
        // Beyond its edge, as of a window that has become smaller.
        ([at(-4, 40), at(2, 44)], 1),
    ] {
        let before = host.model.windows[&id].patches;
        // The server takes what one request paints for one box.
        for spot in spots.chunks(if patches == 1 { 2 } else { 1 }) {
            x.poly_fill_rectangle(own.window, gc, spot).unwrap();
        }
        x.flush().unwrap();
        host.until("a frame", |model| model.windows[&id].patches > before);
        host.settle(id);
        let sent = host.model.windows[&id].patches - before;
        assert_eq!(sent, patches, "{spots:?}");
        same_pixels(&server, &host, "Painter", 0);
    }
    // A box that grows while its frame is on its way, again and again.
    for n in 0..200_i16 {
        let spots = [at(n % 20, n % 90), at((n * 7) % 190, (n * 3) % 90)];
        x.poly_fill_rectangle(own.window, gc, &spots[..1]).unwrap();
        x.flush().unwrap();
        x.poly_fill_rectangle(own.window, gc, &spots[1..]).unwrap();
        x.flush().unwrap();
        if n % 3 == 0 {
            host.watch(Duration::from_millis(1));
        }
    }
    host.settle(id);
    same_pixels(&server, &host, "Painter", 0);
}
