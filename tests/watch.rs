//! What is done about a guest while it runs: one that falls silent is started again.
#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result, ensure};
use medley_tests::{READY, Workspace, run, typed};
use serde_json::Value;

const TINY: &str = "MEDLEY_GUEST_TINY";

#[test]
fn guest_that_falls_silent_is_started_again() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    // The heart stops after two seconds, the guest lives on.
    let beat = "cd /sys/class/virtio-ports; port=$(grep -l org.medley.heartbeat */name); \
                for i in 1 2 3 4; do echo > /dev/${port%/name}; usleep 500000; done; \
                echo the heart beat $i times; echo flushed > /note; sync";
    let wait = format!("wait {READY}");
    let steps = [
        vec!["timeout 300".into(), wait.clone()],
        typed(&[beat]),
        // After the restart.
        vec![
            wait,
            "send after cat /note".into(),
            "wait MEDLEY-END after 0".into(),
        ],
    ];
    let script = workspace.path("script");
    std::fs::write(&script, steps.concat().join("\n"))?;
    let mut boot = workspace.on_disk(&["boot", "--memory", "192", "--heartbeat", "3", "--json"]);
    boot.args(["--timeout", "420", "--session"])
        .arg(workspace.path("session"))
        .arg("--script")
        .arg(script);
    let (report, console) = run(&mut boot)?;
    let report: Value = serde_json::from_str(&report)?;
    let notices = report["session"]["notices"].as_array().context("none")?;
    let codes: Vec<_> = notices.iter().map(|notice| &notice["code"]).collect();
    ensure!(
        codes == ["guest-silent", "machine-restarted"] && report["session"]["restarts"] == 1,
        "{report}"
    );
    ensure!(console.contains("the heart beat 4 times"), "{console}");
    ensure!(console.contains("\nflushed"), "{console}");
    workspace.assert_nothing_left()
}
