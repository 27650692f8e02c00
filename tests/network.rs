//! Guests in networks, for real: each test has a network namespace of its own, with a world of two addresses.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use medley_tests::{Guest, READY, Workspace, answer, run, typed};
use nix::sys::signal::{Signal, kill};

const TINY: &str = "MEDLEY_GUEST_TINY";
const INSIDE: &str = "MEDLEY_TEST_IN_NAMESPACE";
const LIMIT: Duration = Duration::from_secs(200);
const ON_LIST: &str = "192.0.2.1";
const NAMED: &str = "192.0.2.2";

/// What guests know of networks: how to take a lease, and how to fetch a page.
const SKILLS: &str = "exec > /tmp/net; \
    echo 'lease() { ip link set eth0 up; udhcpc -i eth0 -s /tmp/dhcp -n -q -f -t 10 -T 1 >/dev/null 2>&1; }'; \
    echo 'page() { { echo GET / HTTP/1.0; echo; sleep 3; } | nc -w 15 $1 ${2:-80} 2>&1 | tail -n 1; }'; \
    exec > /tmp/dhcp; echo '#!/bin/sh'; echo '[ -n \"$ip\" ] || exit 0'; \
    echo 'ip addr flush dev $interface; ip addr add $ip/$mask dev $interface'; \
    echo '[ -z \"$router\" ] || ip route replace default via $router'; \
    echo 'for one in $dns; do echo nameserver $one; done > /etc/resolv.conf'; chmod +x /tmp/dhcp";

/// Runs this test again in namespaces of its own, where the world is set up, and says whether we are there.
fn inside(test: &str) -> Result<bool> {
    if std::env::var_os(INSIDE).is_some() {
        sh(
            "ip link set lo up; ip link add w0 type veth peer name w1; ip addr add 192.0.2.1/24 dev w0; \
            ip addr add 192.0.2.2/24 dev w0; ip link set w0 up; ip link set w1 up; \
            ip route add default via 192.0.2.254",
        )?;
        return Ok(true);
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount"])
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .context("these tests need unshare, from the package util-linux")?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    ensure!(output.status.success(), "{test}, in its namespace");
    // A test that is called otherwise would not run there, which is a success, too.
    ensure!(said.contains("1 passed"), "there is no test {test}");
    Ok(false)
}

fn sh(script: &str) -> Result<()> {
    run(Command::new("sh").args(["-ec", script])).map(drop)
}

/// A page at each of these addresses, which says whose it is.
fn serve_pages(addresses: &[(&'static str, u16)]) -> Result<()> {
    for (host, port) in addresses.iter().copied() {
        let listener = TcpListener::bind((host, port))?;
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                thread::spawn(move || {
                    let mut request = [0; 512];
                    let _ = stream.read(&mut request);
                    let _ = stream.write_all(
                        format!("HTTP/1.0 200 OK\r\n\r\npage of {host} port {port}\n").as_bytes(),
                    );
                });
            }
        });
    }
    Ok(())
}

/// A name server that knows every name at one address; the questions it got.
fn serve_names(at: &str) -> Result<Arc<Mutex<Vec<String>>>> {
    let socket = UdpSocket::bind((at, 53))?;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let question = &packet[12..length];
            let Some(end) = question.iter().position(|byte| *byte == 0) else {
                continue;
            };
            heard
                .lock()
                .unwrap()
                .push(String::from_utf8_lossy(&question[1..end]).into_owned());
            let is_ipv4 = question[end + 1..end + 3] == [0, 1];
            let mut answer = packet[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
            answer.extend(&question[..end + 5]);
            if is_ipv4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 2]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    Ok(asked)
}

fn policy(workspace: &Workspace, text: &str) -> Result<PathBuf> {
    let path = workspace.path("policy.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

#[test]
fn guest_network_holds_to_its_list_and_lasts_through_sleep() -> Result<()> {
    if !inside("guest_network_holds_to_its_list_and_lasts_through_sleep")? {
        return Ok(());
    }
    serve_pages(&[(ON_LIST, 80), (ON_LIST, 81), (NAMED, 80), ("127.0.0.1", 80)])?;
    let asked = serve_names(ON_LIST)?;
    let workspace = Workspace::new(TINY)?;
    let file = policy(
        &workspace,
        "[network]\nmode = \"nat\"\nallow = [\"192.0.2.1:80/tcp\", \"named.example:80/tcp\"]\n\
         dns = { mode = \"fixed\", servers = [\"192.0.2.1\"] }\n",
    )?;
    let extra = [
        "--memory",
        "192",
        "--network-policy",
        file.to_str().unwrap(),
    ];
    let timed = |host: &str, port: u16| {
        format!(
            ". /tmp/net; read a _ < /proc/uptime; page {host} {port}; read b _ < /proc/uptime; \
             echo from $a to $b"
        )
    };
    let pages = [
        timed(ON_LIST, 80),
        timed(ON_LIST, 81),
        timed(NAMED, 80),
        // Sent out on the wire, as a guest that wants to break out would.
        format!(
            "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip addr flush dev lo; \
             ip route add 127.0.0.0/8 via 10.0.2.2; {}",
            timed("127.0.0.1", 80)
        ),
        timed("10.0.2.2", 80),
    ];
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    let commands = [
        &[
            SKILLS,
            ". /tmp/net; lease; cat /etc/resolv.conf; ip -4 addr show eth0",
        ],
        &pages[..],
        &[
            "nslookup other.example",
            "nslookup named.example",
            ". /tmp/net; page 192.0.2.2",
        ],
    ]
    .concat();
    let mut steps = vec![format!("wait {READY}")];
    steps.extend(typed(&commands));
    steps.push("suspend".into());
    let (console, report) = workspace.scripted(&extra, &steps)?;

    let lease = answer(&console, 1)?;
    ensure!(
        lease.contains("nameserver 192.0.2.1") && lease.contains("10.0.2.15/24"),
        "{lease}"
    );
    let page = answer(&console, 2)?;
    ensure!(page.contains("page of 192.0.2.1 port 80"), "{page}");
    for refused in [3, 4, 5] {
        let said = answer(&console, refused)?;
        ensure!(!said.contains("page of"), "c{refused}: {said}");
        let time: Vec<f64> = said
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [from, to] = time[time.len() - 2..] else {
            unreachable!("two of them");
        };
        // The pipe's own three seconds, and none of the fifteen that nobody answers.
        ensure!(to - from < 12.0, "c{refused}: nobody refused it: {said}");
    }
    // The router's address leads nowhere.
    ensure!(!answer(&console, 6)?.contains("page of"), "{console}");
    let other = answer(&console, 7)?;
    ensure!(other.contains("REFUSED"), "{other}");
    ensure!(answer(&console, 8)?.contains(NAMED), "{console}");
    let by_name = answer(&console, 9)?;
    ensure!(by_name.contains("page of 192.0.2.2"), "{by_name}");
    let asked = asked.lock().unwrap().clone();
    ensure!(
        !asked.is_empty() && asked.iter().all(|name| name.contains("named")),
        "{asked:?}"
    );
    ensure!(report["exit"] == "suspended", "{report}");
    let network = &report["network"];
    ensure!(network["by"] == "passt", "{network}");
    let refused = network["refused"].as_array().context("none refused")?;
    let one = |to: &str, port: u64| {
        let found = refused.iter().find(|r| r["to"] == to && r["port"] == port);
        found.is_some_and(|refusal| refusal["count"].as_u64() >= Some(1))
    };
    ensure!(one(ON_LIST, 81) && one(NAMED, 80), "{network}");
    ensure!(
        one("127.0.0.1", 80),
        "the loopback was not tried: {network}"
    );
    ensure!(
        refused.iter().any(|r| r["name"] == "other.example"),
        "{network}"
    );

    // Awake, the machine has its address still, and a way to the world.
    let steps = typed(&[
        "sleep 4; cat /sys/class/net/eth0/carrier /sys/class/net/eth0/carrier_down_count",
        ". /tmp/net; page 192.0.2.1",
        ". /tmp/net; page 192.0.2.1 81",
    ]);
    let (console, report) = workspace.scripted(&extra, &steps)?;
    ensure!(report["session"]["began"] == "resumed", "{report}");
    let carrier = answer(&console, 0)?;
    ensure!(
        carrier == "1\n2",
        "the cable was not pulled once: {carrier}"
    );
    let page = answer(&console, 1)?;
    ensure!(page.contains("page of 192.0.2.1 port 80"), "{page}");
    let refused = answer(&console, 2)?;
    ensure!(!refused.contains("page of"), "{refused}");

    // A machine with a card does not go on without.
    let steps = vec!["suspend".to_owned()];
    workspace.scripted(&[&["--boot-anew"], &extra[..]].concat(), &{
        let mut all = vec![format!("wait {READY}")];
        all.extend(steps);
        all
    })?;
    let other = workspace
        .booting(&["--memory", "192", "--network", "none"])
        .output()?;
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    ensure!(
        !other.status.success() && said.contains("its network was"),
        "{said}"
    );
    workspace.assert_nothing_left()
}

/// Kills a guest's machine, and waits until the next one has booted.
fn killed(guest: &mut Guest) -> Result<()> {
    guest.run("sync")?;
    kill(guest.running.qemu()?, Signal::SIGKILL)?;
    guest.running.wait_for("[machine-restarted]", LIMIT)?;
    let end = Instant::now() + LIMIT;
    while guest.running.said().matches(READY).count() < 2 {
        ensure!(Instant::now() < end, "it does not boot again");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn guest_network_follows_its_host_and_outlives_its_machine() -> Result<()> {
    if !inside("guest_network_follows_its_host_and_outlives_its_machine")? {
        return Ok(());
    }
    serve_pages(&[(ON_LIST, 80)])?;
    let workspace = Workspace::new(TINY)?;
    let names = workspace.path("resolv.conf");
    std::fs::write(&names, "nameserver 192.0.2.1\n")?;
    sh(&format!(
        "mount --bind {} /etc/resolv.conf",
        names.display()
    ))?;
    let mut guest = Guest::ready(workspace.booting(&["--memory", "192", "--network", "nat"]))?;
    guest.run(SKILLS)?;
    let lease = ". /tmp/net; lease; cat /etc/resolv.conf";
    ensure!(
        guest.run(lease)?.contains("nameserver 192.0.2.1"),
        "no lease"
    );
    let page = ". /tmp/net; page 192.0.2.1";
    ensure!(guest.run(page)?.contains("page of 192.0.2.1"), "no page");
    // A card has no carrier before its driver is there, and that counts.
    let pulled = "cat /sys/class/net/eth0/carrier_down_count";
    ensure!(guest.run(pulled)? == "1", "pulled already");

    // Somebody else's interface is no change of network.
    sh("ip link add other type veth; ip addr add 198.51.100.1/24 dev other; ip link set other up")?;
    thread::sleep(Duration::from_secs(5));
    ensure!(guest.run(pulled)? == "1", "pulled for nothing");

    // Another network: another router, another address of the host's, another name server.
    std::fs::write(&names, "nameserver 198.51.100.53\n")?;
    sh("ip route replace default via 192.0.2.253 src 192.0.2.2")?;
    guest.running.wait_for("[network-changed]", LIMIT)?;
    guest.until(pulled, "2")?;
    guest.until("cat /sys/class/net/eth0/carrier", "1")?;
    guest.until(lease, "nameserver 198.51.100.53")?;
    guest.until(page, "page of 192.0.2.1")?;

    // The machine is killed; the next one has the same network.
    let passt = guest.running.child_with("passt")?;
    killed(&mut guest)?;
    guest.run(SKILLS)?;
    guest.run(lease)?;
    guest.until(page, "page of 192.0.2.1")?;
    ensure!(guest.running.child_with("passt")? == passt, "another passt");
    guest.end()?;
    workspace.assert_nothing_left()
}

#[test]
fn guest_network_joins_a_bridge() -> Result<()> {
    if !inside("guest_network_joins_a_bridge")? {
        return Ok(());
    }
    if let Err(error) = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
    {
        println!("skipped: no tap device can be made here, /dev/net/tun: {error}");
        return Ok(());
    }
    sh(
        "ip link add br-guests type bridge; ip addr add 198.51.100.1/24 dev br-guests; \
        ip link set br-guests up; mount -t tmpfs none /etc; mkdir /etc/medley; \
        echo 'allow br-guests user root' > /etc/medley/bridges.acl; echo root:x:0:0::/:/bin/sh > /etc/passwd",
    )?;
    serve_pages(&[("198.51.100.1", 80)])?;
    let workspace = Workspace::new(TINY)?;
    let static_address = "ip addr add 198.51.100.2/24 dev eth0; ip link set eth0 up; . /tmp/net; \
                          page 198.51.100.1";
    let mut steps = vec![format!("wait {READY}")];
    steps.extend(typed(&[SKILLS, static_address]));
    steps.push("suspend".into());
    let extra = ["--memory", "192", "--bridge", "br-guests"];
    let (console, report) = workspace.scripted(&extra, &steps)?;
    let page = answer(&console, 1)?;
    ensure!(page.contains("page of 198.51.100.1"), "{page}");
    ensure!(report["network"]["by"] == "bridge", "{report}");
    ensure!(report["exit"] == "suspended", "{report}");
    let steps = typed(&["sleep 4; . /tmp/net; page 198.51.100.1"]);
    let (console, report) = workspace.scripted(&extra, &steps)?;
    ensure!(report["session"]["began"] == "resumed", "{report}");
    let page = answer(&console, 0)?;
    ensure!(page.contains("page of 198.51.100.1"), "{page}");
    let (ports, _) = run(Command::new("ip").args(["-br", "link", "show", "master", "br-guests"]))?;
    ensure!(ports.trim().is_empty(), "left on the bridge: {ports}");

    // A machine that is killed gives its place to the next one.
    let mut guest = Guest::ready(workspace.booting(&extra))?;
    guest.run(SKILLS)?;
    ensure!(guest.run(static_address)?.contains("page of"), "no page");
    killed(&mut guest)?;
    guest.run(SKILLS)?;
    guest.until(static_address, "page of 198.51.100.1")?;
    guest.end()?;

    std::fs::write("/etc/medley/bridges.acl", "deny br-guests everyone\n")?;
    let refused = workspace.booting(&extra).output()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && said.contains("bridges.acl"),
        "{said}"
    );
    workspace.assert_nothing_left()
}
