//! Files both ways, print jobs and addresses: a desk and a scripted presenter that is another process.
#![allow(clippy::unwrap_used)]

mod support;

use medley_host::policy::{FilesIn, FilesOut, Filter, Print, Urls};
use medley_host::{Answer, Ask, ServicesPolicy};
use std::path::Path;
use support::{EDITOR, PATIENCE, Session, program, until};

#[test]
#[ignore = "plays the presenter for the other tests"]
fn double() {
    support::double::play();
}

/// Names in a folder, the hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn files_out(inbox: &Path, filter: Filter) -> ServicesPolicy {
    ServicesPolicy {
        files_out: Some(FilesOut::new(inbox, filter)),
        ..ServicesPolicy::default()
    }
}

#[test]
fn files_come_into_the_inbox_whole_and_clean_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = dir.path().join("inbox");
    // The scanner is asked while the file has a hidden name of the same kind.
    let log = dir.path().join("scanned");
    let script = format!(
        "echo \"$1\" >>{}; case \"$1\" in */.medley-partial-*.txt) ;; *) exit 3;; esac; ! grep -q VIRUS \"$1\"",
        log.display()
    );
    let filter = Filter {
        types: vec!["txt".into()],
        bytes: 1 << 20,
        scan: Some(program(&dir.path().join("scan"), &script)),
        ..Filter::default()
    };
    let policy = files_out(&inbox, filter);
    let mut session = Session::start_in(
        dir,
        policy,
        r#"
say {"event":"file-offered","transfer":1,"name":"a.txt","size":5}
await "take","transfer":1
put hello
close
say {"event":"came","transfer":1,"size":5}
say {"event":"file-offered","transfer":2,"name":"a.txt","size":600000}
await "take","transfer":2
fill 600000
close
say {"event":"came","transfer":2,"size":600000}
say {"event":"file-offered","transfer":3,"name":"bad.txt","size":9}
await "take","transfer":3
put VIRUS 123
close
say {"event":"came","transfer":3,"size":9}
say {"event":"file-offered","transfer":4,"name":"a.desktop","size":5}
await "refuse","transfer":4,"verdict":"kind"
say {"event":"file-offered","transfer":5,"name":"../../a.txt","size":5}
await "refuse","transfer":5,"verdict":"kind"
say {"event":"file-offered","transfer":6,"name":"large.txt","size":1048577}
await "refuse","transfer":6,"verdict":"too-large"
say {"event":"file-offered","transfer":7,"name":"short.txt","size":5}
await "take","transfer":7
put he
close
say {"event":"came","transfer":7,"size":5}
say {"event":"file-offered","transfer":8,"name":"long.txt","size":5}
await "take","transfer":8
put hello, world
say {"event":"came","transfer":8,"size":5}
close
say {"event":"file-offered","transfer":9,"name":"broken.txt","size":5}
await "take","transfer":9
put hell
close
say {"event":"broke","transfer":9}
say {"event":"file-offered","transfer":10,"name":"half.txt","size":5}
await "take","transfer":10
put hell
say {"event":"window"}
await never
"#,
    );
    let mut came: Vec<_> = (0..2)
        .map(|_| session.notice("file-came").details)
        .map(|details| {
            (
                details["name"].clone(),
                details["size"].clone(),
                details["verdict"].clone(),
            )
        })
        .collect();
    came.sort();
    let line = |size: &str| ("a.txt".to_owned(), size.to_owned(), "clean".to_owned());
    assert_eq!(came, [line("5"), line("600000")]);
    session.heard("\"take\",\"transfer\":10");
    until("the scanner has seen the bad one", || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .count()
            == 3
    });
    until("only the last is on its way", || names(&inbox).len() == 3);
    session.end();
    // Its pipe ended with the presenter, and nobody said that it was whole.
    until("nothing half written", || {
        names(&inbox) == ["a (2).txt", "a.txt"]
    });
    let mut texts: Vec<_> = names(&inbox)
        .iter()
        .map(|name| std::fs::read_to_string(inbox.join(name)).unwrap())
        .collect();
    texts.sort();
    assert_eq!(texts, ["hello".to_owned(), "x".repeat(600_000)]);
    let args = std::fs::read_to_string(session.dir.path().join("args")).unwrap();
    assert!(args.contains("--allow files-out"), "{args}");
}

#[test]
fn the_audit_says_what_came() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = dir.path().join("inbox");
    let session = Session::start(
        files_out(&inbox, Filter::default()),
        r#"
say {"event":"file-offered","transfer":1,"name":"a.txt","size":5}
await take
put hello
close
say {"event":"came","transfer":1,"size":5}
"#,
    );
    let notice = session.notice("file-came");
    // As a report has it.
    let text = serde_json::to_value(&notice).unwrap();
    assert_eq!(
        (&text["code"], &text["details"]["name"]),
        (&"file-came".into(), &"a.txt".into())
    );
    assert!(text["text"].is_string());
    let details = notice.details;
    let sha = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(details["sha256"], sha);
    assert_eq!(details["verdict"], "not scanned");
    assert_eq!(details["path"], inbox.join("a.txt").display().to_string());
}

/// A presenter that a guest has taken over asks for what it was not started with.
#[test]
fn nothing_goes_without_a_policy() {
    let session = Session::start(
        ServicesPolicy::default(),
        r#"
say {"event":"file-offered","transfer":1,"name":"a.txt","size":5}
await "refuse","transfer":1,"verdict":"policy"
say {"event":"print-asked","transfer":2,"size":5,"format":"pdf","copies":1,"pages":1,"title":"x"}
await "refuse","transfer":2,"verdict":"policy"
say {"event":"url","url":"https://example.org/"}
say {"event":"note","note":1,"app":"","urgency":"normal","summary":"x","body":"","buttons":[]}
say {"event":"tray","item":1,"app":"","look":"active","title":"x"}
say {"event":"unlock-asked"}
"#,
    );
    session.heard("\"transfer\":2");
    assert_eq!(
        session.notice("windows-refused").words.split(": ").last(),
        Some("file")
    );
    session.notice("unlock-asked");
    let send = Ask::Send {
        files: vec!["/etc/hostname".into()],
        seconds: 20,
    };
    let error = session.ask(&send).unwrap_err().to_string();
    assert!(error.contains("--files-in"), "{error}");
    let args = std::fs::read_to_string(session.dir.path().join("args")).unwrap();
    assert!(!args.contains("--allow"), "{args}");
}

#[test]
fn files_are_given_and_opened_with_an_app() {
    let policy = ServicesPolicy {
        files_in: Some(FilesIn::default()),
        ..ServicesPolicy::default()
    };
    let session = Session::start(
        policy,
        r#"
await "give","file":1
read
close
say {"event":"given","file":1,"refused":null}
await "give","file":2
say {"event":"given","file":2,"refused":"declined"}
await "give","file":3
say {"event":"given","file":3,"refused":null}
await "give","file":4
say {"event":"given","file":4,"refused":null}
await "launch"
say {"event":"launching","request":7}
say {"event":"launched","request":7,"started":true}
say {"event":"opened","window":1,"launch":7}
await "launch"
say {"event":"launching","request":9}
say {"event":"launched","request":9,"started":true}
"#,
    );
    let path = |name: &str| session.dir.path().join(name);
    for (name, text) in [("a.txt", "one"), ("b.txt", "two")] {
        std::fs::write(path(name), text).unwrap();
    }
    let send = |name: &str| {
        session.ask(&Ask::Send {
            files: vec![path(name)],
            seconds: 20,
        })
    };
    assert_eq!(send("a.txt").unwrap(), Answer::Done);
    session.heard("read one");
    let give = r#"{"order":"give","file":1,"name":"a.txt","size":3}"#;
    assert!(session.told().contains(give), "{}", session.told());
    let details = session.notice("file-given").details;
    assert_eq!(
        (details["name"].as_str(), details["size"].as_str()),
        ("a.txt", "3")
    );
    let error = send("b.txt").unwrap_err().to_string();
    assert!(error.contains("said no"), "{error}");
    session.notice("file-not-given");
    let error = send("none.txt").unwrap_err().to_string();
    assert!(error.contains("none.txt"), "{error}");

    let run = Ask::Run {
        app: "edit".into(),
        action: 1,
        arguments: vec!["mailto:a@b".into()],
        files: vec![path("a.txt"), path("b.txt")],
        window: true,
        seconds: 20,
    };
    assert!(matches!(session.ask(&run).unwrap(), Answer::Running { app } if app.id == EDITOR));
    let launch = format!(
        r#"{{"order":"launch","app":"{EDITOR}","action":1,"arguments":["mailto:a@b"],"files":[3,4]}}"#
    );
    assert!(session.told().contains(&launch), "{}", session.told());

    let open = |arguments: &[&str], files| Ask::Open {
        arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        files,
        window: false,
        seconds: 20,
    };
    let opened = session.ask(&open(&["mailto:c@d"], vec![])).unwrap();
    assert!(matches!(opened, Answer::Running { app } if app.name == "Editor"));
    let error = session.ask(&open(&["gopher://x"], vec![])).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no app of the guest's opens gopher"),
        "{error}"
    );
    let wrong = Ask::Run {
        app: EDITOR.into(),
        action: 2,
        arguments: vec![],
        files: vec![],
        window: false,
        seconds: 20,
    };
    assert!(
        session
            .ask(&wrong)
            .unwrap_err()
            .to_string()
            .contains("no action 2")
    );
}

#[test]
fn a_print_job_that_cannot_be_printed_is_told() {
    let policy = ServicesPolicy {
        print: Some(Print {
            printer: Some("ipp://127.0.0.1:9/none".into()),
            bytes: 100,
        }),
        ..ServicesPolicy::default()
    };
    let session = Session::start(
        policy,
        r#"
say {"event":"print-asked","transfer":1,"size":101,"format":"pdf","copies":1,"pages":1,"title":"x"}
await "refuse","transfer":1,"verdict":"too-large"
say {"event":"print-asked","transfer":3,"size":9,"format":"pdf","copies":1,"pages":1,"title":"y","ticket":{"paper":"../a4"}}
await "refuse","transfer":3,"verdict":"kind"
say {"event":"print-asked","transfer":4,"size":9,"format":"pdf","copies":1,"pages":1,"title":"z","ticket":{"ranges":[[3,2]]}}
await "refuse","transfer":4,"verdict":"kind"
say {"event":"print-asked","transfer":2,"size":9,"format":"pdf","copies":0,"pages":1,"title":"A \u001b[2J letter"}
await "take","transfer":2
put %PDF-1.4x
close
say {"event":"came","transfer":2,"size":9}
"#,
    );
    assert!(session.notice("print-refused").words.contains("larger"));
    let notice = session.notice("print-refused");
    assert_eq!(notice.details["name"], "[office] A \u{fffd}[2J letter");
    assert_eq!(
        (
            notice.details["size"].as_str(),
            notice.details["copies"].as_str()
        ),
        ("9", "1")
    );
}

/// Over IPP, to a printer that is the guest's half of the same crate.
#[test]
fn a_print_job_arrives_at_the_printer_byte_for_byte() {
    use medley_print::server::{Notice, Printer, Settings};
    use medley_print::{Medium, Quality, Sides, Ticket};
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let printer = Printer::listen(local, Settings::default()).unwrap();
    let policy = ServicesPolicy {
        print: Some(Print {
            printer: Some(printer.uri()),
            ..Print::default()
        }),
        ..ServicesPolicy::default()
    };
    let session = Session::start(
        policy,
        r#"
say {"event":"print-asked","transfer":1,"size":14,"format":"pdf","copies":2,"pages":1,"title":"Letter","ticket":{"sides":"long-edge","colour":false,"care":"high","paper":"na_letter_8.5x11in","ranges":[[2,3]]}}
await "take","transfer":1
put %PDF-1.4 hello
close
say {"event":"came","transfer":1,"size":14}
say {"event":"print-asked","transfer":2,"size":5,"format":"pdf","copies":1,"pages":1,"title":"Program"}
await "take","transfer":2
put #!/sh
close
say {"event":"came","transfer":2,"size":5}
"#,
    );
    let notice = printer.wait(PATIENCE).unwrap();
    let Notice::Print(mut job) = notice else {
        panic!("{notice:?}");
    };
    let mut document = String::new();
    std::io::Read::read_to_string(&mut job.file, &mut document).unwrap();
    assert_eq!(document, "%PDF-1.4 hello");
    let ticket = Ticket {
        copies: 2,
        sides: Some(Sides::TwoSidedLongEdge),
        media: Some(Medium::letter()),
        colour: Some(false),
        quality: Some(Quality::High),
        ranges: vec![(2, 3)],
    };
    assert_eq!(
        (job.title.as_str(), job.ticket),
        ("[office] Letter", ticket)
    );
    // Each job has its thread, and the second has less to do.
    let notices: Vec<_> = session
        .notices
        .iter()
        .filter(|notice| notice.code.starts_with("print-"))
        .take(2)
        .collect();
    let of = |code| {
        let found = notices.iter().find(|notice| notice.code == code);
        &found.unwrap().details
    };
    assert_eq!(of("print-sent")["printer"], printer.uri());
    assert_eq!(of("print-refused")["name"], "[office] Program");
    assert!(of("print-refused")["verdict"].starts_with("the document: "));
    assert!(printer.next().is_none(), "a program is no PDF");
}

#[test]
fn an_address_is_opened_by_the_policys_program() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let script = format!("echo \"$# $1\" >>{}", log.display());
    let with = program(&dir.path().join("browse"), &script);
    let policy = ServicesPolicy {
        urls: Some(Urls { with }),
        ..ServicesPolicy::default()
    };
    let session = Session::start(
        policy,
        r#"
say {"event":"url","url":"https://example.org/;touch%20x"}
say {"event":"url","url":"https://example.org/again"}
say {"event":"url","url":"file:///etc/passwd"}
"#,
    );
    let opened = session.notice("url-opened");
    assert_eq!(opened.details["url"], "https://example.org/;touch%20x");
    until("it was opened", || {
        std::fs::read_to_string(&log).unwrap_or_default() == "1 https://example.org/;touch%20x\n"
    });
}

/// Whoever starts presenters may be killed: they end with it, though they do not listen.
#[test]
fn a_presenter_dies_with_its_supervisor() {
    const DIR: &str = "MEDLEY_TEST_SUPERVISOR";
    if let Some(dir) = std::env::var_os(DIR) {
        let (notify, _notices) = std::sync::mpsc::sync_channel(64);
        let command = support::command(Path::new(&dir), "deaf");
        let desk = medley_host::Desk::open(command, ServicesPolicy::default(), notify);
        std::thread::sleep(PATIENCE * 3);
        return drop(desk);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut supervisor = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_presenter_dies_with_its_supervisor"])
        .env(DIR, dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid = dir.path().join("pid");
    let number = || {
        std::fs::read_to_string(&pid)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
    };
    until("the presenter runs", || number().is_some());
    let stat = format!("/proc/{}/stat", number().unwrap());
    assert!(std::fs::read_to_string(&stat).is_ok());
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    until("the presenter is gone", || {
        std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
    });
}
