//! Who ends, comes back, or has nothing to do.
use super::*;

#[test]
fn an_agent_that_was_killed_finds_everything_again() {
    let (server, doors, mut first, mut host) = start(&[]);
    let _logo = app(&server, "xlogo", &[]);
    let _xterm = app(&server, "xterm", &["-e", "sleep", "60"]);
    let (logo, _) = (host.window("XLogo"), host.window("XTerm"));
    host.say(gui::State {
        window: logo,
        change: Change::new(States::MAXIMISED_DOWN, States::NONE).unwrap(),
    });
    wait_for("the state", || {
        let logo = display::find(&server, "XLogo").unwrap();
        let states = server.numbers(logo, "_NET_WM_STATE").unwrap();
        states
            .contains(&server.atom("_NET_WM_STATE_MAXIMIZED_VERT").unwrap())
            .then_some(())
    });
    let begun = Instant::now();
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    drop(host);
    let _second = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    let (logo, xterm) = (host.window("XLogo"), host.window("XTerm"));
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert!(host.model.windows[&logo].states.has(States::MAXIMISED_DOWN));
    assert!(!host.model.windows[&xterm].unmanaged);
    host.settle(xterm);
    same_pixels(&server, &host, "XLogo", 0);
    same_pixels(&server, &host, "XTerm", 0);
}

#[test]
fn a_host_that_comes_back_is_told_everything() {
    let (server, doors, _agent, mut host) = start(&[]);
    let _logo = app(&server, "xlogo", &[]);
    let id = host.window("XLogo");
    press(&mut host, id, 42, true, Modifiers::NONE);
    focus(&mut host, id);
    press(&mut host, id, 30, true, Modifiers::NONE);
    let down = |server: &Desktop| {
        let keys = server.conn.query_keymap().unwrap().reply().unwrap().keys;
        keys.iter().map(|byte| byte.count_ones()).sum::<u32>()
    };
    wait_for("a key to be down", || (down(&server) == 1).then_some(()));
    drop(host);
    wait_for("keys to be released", || (down(&server) == 0).then_some(()));
    let mut host = Host::accept(&doors, Features::ALL, None);
    let id = host.window("XLogo");
    host.settle(id);
    same_pixels(&server, &host, "XLogo", 0);
    // The same once more on a connection that stays.
    host.resync(9);
    let id = host.window("XLogo");
    host.settle(id);
    same_pixels(&server, &host, "XLogo", 0);
}

#[test]
fn only_one_window_manager() {
    let server = display::virtual_one();
    let doors = Doors::new();
    let _first = agent(&server, &doors, &[]);
    let mut host = Host::accept(&doors, Features::ALL, None);
    let mut second = agent(&server, &Doors::new(), &[]);
    let status = wait_for("the second agent to give up", || {
        second.0.try_wait().unwrap()
    });
    assert!(!status.success());
    let _logo = app(&server, "xlogo", &[]);
    host.window("XLogo");
}

#[test]
fn an_idle_agent_sleeps() {
    let (server, _doors, agent, mut host) = start(&[]);
    let _logo = app(&server, "xlogo", &[]);
    let id = host.window("XLogo");
    host.settle(id);
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.0.id())).unwrap();
        let line = status
            .lines()
            .find(|l| l.starts_with("voluntary_ctxt_switches"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = switches();
    host.watch(Duration::from_millis(1500));
    assert_eq!(switches(), before, "it woke up with nothing to do");
}
