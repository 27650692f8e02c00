//! What the program says about itself.

use crate::common::*;

const COMMANDS: [&str; 42] = [
    "disk",
    "disk create",
    "disk info",
    "disk convert",
    "disk encrypt",
    "disk decrypt",
    "disk check",
    "disk mount",
    "disk unmount",
    "disk serve",
    "disk speed",
    "disk key",
    "disk key add",
    "disk key remove",
    "disk key change",
    "disk key list",
    "disk key export-luks1",
    "disk key token",
    "disk key token list",
    "disk key token add",
    "disk key token remove",
    "disk resize",
    "disk compact",
    "disk commit",
    "disk rebase",
    "disk overlay",
    "disk overlay info",
    "disk overlay check",
    "disk overlay commit",
    "disk overlay revert",
    "boot",
    "machine",
    "machine plan",
    "network",
    "network explain",
    "run",
    "open",
    "send",
    "apps",
    "lock",
    "unlock",
    "completions",
];

#[test]
fn every_command_explains_itself_by_example() {
    let folder = Folder::new();
    for command in COMMANDS {
        let help = folder.ok(&format!("{command} --help"));
        let example = help
            .split("EXAMPLES")
            .nth(1)
            .unwrap_or_else(|| panic!("{command}: {help}"));
        assert!(
            example.contains(&format!("medley {command}")),
            "{command}: {help}"
        );
    }
}

#[test]
fn exit_codes_are_listed() {
    let folder = Folder::new();
    for text in [folder.ok("help exit-codes"), folder.ok("exit-codes")] {
        for code in [
            "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "129", "130", "143",
        ] {
            assert!(
                text.lines()
                    .any(|line| line.trim().starts_with(&format!("{code}  "))),
                "{code}: {text}"
            );
        }
    }
    assert_eq!(
        folder.json("exit-codes")["exit_codes"][5]["kind"],
        "damaged"
    );
}

#[test]
fn every_shell_gets_completions() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            folder
                .ok(&format!("completions {shell}"))
                .contains("export-luks1"),
            "{shell}"
        );
        assert_eq!(folder.json(&format!("completions {shell}"))["shell"], shell);
    }
}

#[test]
fn a_bad_command_line_is_an_error_of_its_own() {
    let folder = Folder::new();
    for args in [
        "",
        "disk",
        "dusk",
        "disk create",
        "disk create a.vhd --size",
        "boot",
        "disk info --what",
    ] {
        assert_eq!(folder.run(args).code, 2, "{args}");
    }
    let ran = folder.run("disk create a.vhd --size nonsense --json");
    let error: serde_json::Value = serde_json::from_str(ran.err.trim()).unwrap();
    assert_eq!((ran.code, &error["error"]["kind"]), (2, &"usage".into()));
    let error = folder.fails(1, "disk info nowhere.vhd");
    assert!(error.contains("nowhere.vhd"), "{error}");
}

#[test]
fn speed_measures_every_kernel() {
    let folder = Folder::new();
    let measured = folder.json("disk speed --seconds 0.01");
    let rows = measured["rows"].as_array().unwrap();
    assert!(!measured["machine"]["cpu"].as_str().unwrap().is_empty());
    assert!(rows.len() >= 4 && rows.len().is_multiple_of(4), "{rows:?}");
    assert!(
        rows.iter()
            .all(|row| row["gb_per_s"].as_f64().unwrap() > 0.0)
    );
    assert!(
        rows.iter().any(|row| row["kernel"] == "portable"
            && row["unit"] == 512
            && row["request"] == 65536)
    );
    assert!(folder.ok("disk speed --seconds 0").contains("GB/s"));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let folder = Folder::new();
    let mut child = folder
        .command("completions bash")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let folder = Folder::new();
    for args in ["exit-codes --json", "exit-codes"] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let status = folder
            .command(args)
            .stdout(full.unwrap())
            .stderr(std::process::Stdio::null())
            .status();
        assert_eq!(status.unwrap().code(), Some(7), "{args}");
    }
}

#[test]
fn the_error_of_a_boot_is_on_standard_output_for_programs() {
    let folder = Folder::new();
    let ran = folder.run("boot nowhere.vhd --script nowhere --json");
    let error: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &error["error"]["kind"]), (1, &"failed".into()));
    assert_eq!(folder.run("boot nowhere.vhd --script nowhere").out, "");
}
