//! A session bus of a test's own. The address of a bus is in the environment, which a test cannot change for
//! itself: it runs once more, in a process of its own.
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const HERE: &str = "MEDLEY_TEST_ON_BUS";

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the test of this name on a bus of its own.
pub fn on_a_bus(name: &str, test: impl FnOnce()) {
    if std::env::var_os(HERE).is_some() {
        return test();
    }
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bus.conf");
    // Nothing that could start a service of this machine's.
    let text = format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
         <busconfig><type>session</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
         <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
        dir.path().display()
    );
    std::fs::write(&config, text).unwrap();
    let daemon = Command::new("dbus-daemon")
        .arg("--config-file")
        .arg(&config)
        .args(["--print-address=1", "--nofork", "--nopidfile"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut daemon = match daemon {
        Ok(daemon) => Daemon(daemon),
        Err(error) if std::env::var_os("MEDLEY_SKIP_DBUS").is_some() => {
            return eprintln!("skipped: dbus-daemon: {error}");
        }
        Err(error) => panic!("dbus-daemon (or MEDLEY_SKIP_DBUS=1): {error}"),
    };
    let mut address = String::new();
    let output = daemon.0.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut address).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("DBUS_SESSION_BUS_ADDRESS", address.trim())
        .env(HERE, "1")
        .status();
    assert!(status.unwrap().success(), "{name}");
}
