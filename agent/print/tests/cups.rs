//! A whole way: `lp` in the guest, its CUPS, the guest's printer, the host's client, a printer.
#![allow(clippy::unwrap_used)]
mod support;

use medley_print::client::{self, JobRequest, Service};
use medley_print::server::{Notice, Printer, Progress, Settings};
use medley_print::{Format, Sides};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Owned, Physical, Running, pdf, run, said, tools};

/// A CUPS of the test's own.
struct Cups {
    socket: PathBuf,
    folder: PathBuf,
    daemon: Running,
}

impl Cups {
    fn new(folder: &Path) -> Option<Self> {
        let [daemon, _, _] = tools(["cupsd", "lp", "lpadmin"])?;
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: CUPS starts its way to IPP printers only as root");
            return None;
        }
        if !Path::new("/usr/lib/cups/filter/pdftopdf").exists() {
            println!("skipped: cups-filters is not installed; CUPS cannot make a job of a PDF");
            return None;
        }
        // Filters run as another user.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder, open).unwrap();
        let root = folder.join("cups");
        for name in ["", "ppd", "cache", "state", "spool", "spool/tmp"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        let (at, socket) = (root.display(), root.join("sock"));
        let files = format!(
            "ServerRoot {at}\nCacheDir {at}/cache\nStateDir {at}/state\nRequestRoot {at}/spool\n\
             TempDir {at}/spool/tmp\nServerBin /usr/lib/cups\nDataDir /usr/share/cups\n\
             DocumentRoot /usr/share/cups/doc-root\nAccessLog {at}/access.log\nErrorLog {at}/error.log\n\
             PageLog {at}/page.log\nSystemGroup root\nUser lp\nGroup lp\nServerKeychain {at}/ssl\n\
             CreateSelfSignedCerts no\nPrintcap {at}/printcap\n"
        );
        let daemon_file = format!(
            "LogLevel debug\nListen {}\nBrowsing No\nWebInterface No\nDefaultAuthType None\nMaxLogSize 0\n\
             <Location />\nOrder allow,deny\nAllow all\n</Location>\n\
             <Policy default>\n<Limit All>\nOrder deny,allow\n</Limit>\n</Policy>\n",
            socket.display()
        );
        std::fs::write(root.join("cups-files.conf"), files).unwrap();
        std::fs::write(root.join("cupsd.conf"), daemon_file).unwrap();
        let mut daemon = Running::new(
            Command::new(daemon)
                .arg("-f")
                .arg("-c")
                .arg(root.join("cupsd.conf"))
                .arg("-s")
                .arg(root.join("cups-files.conf")),
            &root.join("daemon.log"),
        );
        daemon.until("no CUPS", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        Some(Self {
            socket,
            folder: root,
            daemon,
        })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(support::tool(name).unwrap());
        // Its own settings, and nobody's of the machine's.
        command
            .env("CUPS_SERVER", &self.socket)
            .env("HOME", &self.folder)
            .env_remove("PRINTER")
            .env_remove("LPDEST");
        command
    }

    /// A queue for a printer without a driver.
    fn add(&mut self, name: &str, uri: &str) {
        let mut add = self.command("lpadmin");
        run(add.args(["-p", name, "-E", "-v", uri, "-m", "everywhere"]));
        let ppd = self.folder.join(format!("ppd/{name}.ppd"));
        self.daemon.until("no queue", || ppd.exists());
        run(self.command("lpadmin").args(["-d", name]));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("error.log")).unwrap_or_default()
    }
}

fn pages(document: &[u8]) -> usize {
    let text = String::from_utf8_lossy(document);
    text.matches("/Type /Page\n").count()
        + text.matches("/Type /Page ").count()
        + text.matches("/Type/Page/").count()
}

#[test]
fn lp_prints_on_paper() {
    let folder = tempfile::tempdir().unwrap();
    let Some(physical) = Physical::new(folder.path()) else {
        return;
    };
    let Some(mut cups) = Cups::new(folder.path()) else {
        return;
    };
    let seen = client::capabilities(&physical.uri).unwrap();
    let printer = Owned::new(Settings {
        capabilities: seen,
        ..Settings::default()
    });
    cups.add("guest", &printer.uri);

    // What the guest's programs see.
    let ppd = std::fs::read_to_string(cups.folder.join("ppd/guest.ppd")).unwrap();
    for known in [
        "*PageSize A4",
        "*Duplex DuplexTumble",
        "*ColorModel RGB",
        "application/pdf",
    ] {
        assert!(ppd.contains(known), "no {known} in {ppd}");
    }
    let found = Service::Socket(cups.socket.clone()).printers().unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        found[0].name == "guest" && found[0].default && found[0].accepting,
        "{found:?}"
    );

    let file = folder.path().join("letter.pdf");
    std::fs::write(&file, pdf(3, 595, 842)).unwrap();
    let mut print = cups.command("lp");
    run(print
        .args([
            "-d",
            "guest",
            "-n",
            "2",
            "-o",
            "media=A4",
            "-o",
            "sides=two-sided-long-edge",
        ])
        .args(["-t", "A letter"])
        .arg(&file));
    let Ok(job) = printer.jobs.recv_timeout(Duration::from_secs(60)) else {
        panic!("nothing came: {}", cups.log());
    };
    assert_eq!(
        (job.title.as_str(), job.user.as_str()),
        ("A letter", "root")
    );
    assert_eq!((job.format, job.ticket.copies), (Format::Pdf, 2));
    assert_eq!(job.ticket.sides, Some(Sides::TwoSidedLongEdge));
    let media = job.ticket.media.as_ref().map(|medium| medium.name());
    assert_eq!(media, Some("iso_a4_210x297mm"));
    assert_eq!(pages(&job.document), 3);

    // CUPS hears that it was printed.
    let begun = Instant::now();
    loop {
        let done = said(
            &cups
                .command("lpstat")
                .args(["-W", "completed", "-o"])
                .output()
                .unwrap(),
        );
        if done.contains("guest-1") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", cups.log());
        std::thread::sleep(Duration::from_millis(100));
    }

    // The host's half.
    let file = folder.path().join("from-guest");
    std::fs::write(&file, &job.document).unwrap();
    let request = JobRequest {
        title: job.title,
        user: "ann".into(),
        format: job.format,
        ticket: job.ticket,
    };
    client::print(&physical.uri, &request, &file).unwrap();
    assert!(physical.printed(job.document.len()) == job.document);
}

#[test]
fn the_hosts_cups_prints() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut cups) = Cups::new(folder.path()) else {
        return;
    };
    let service = Service::Socket(cups.socket.clone());
    assert_eq!(service.printers().unwrap(), []);
    // The "physical" printer is ours, which can be asked what it got.
    let printer = Owned::new(Settings::default());
    cups.add("office", &printer.uri);
    let found = service.printers().unwrap();
    let seen = service.capabilities(&found[0].uri).unwrap();
    assert!(
        seen.colour && seen.media.len() >= 2 && seen.sides.len() == 3,
        "{seen:?}"
    );

    let file = folder.path().join("document");
    std::fs::write(&file, pdf(2, 595, 842)).unwrap();
    let request = JobRequest {
        title: "Report".into(),
        user: "ann".into(),
        format: Format::Pdf,
        ticket: medley_print::Ticket {
            copies: 3,
            sides: Some(Sides::TwoSidedShortEdge),
            ..Default::default()
        },
    };
    service.print(&found[0].uri, &request, &file).unwrap();
    let Ok(job) = printer.jobs.recv_timeout(Duration::from_secs(60)) else {
        panic!("nothing came: {}", cups.log());
    };
    assert_eq!((job.title.as_str(), job.user.as_str()), ("Report", "ann"));
    assert_eq!(
        (job.ticket.copies, job.ticket.sides),
        (3, Some(Sides::TwoSidedShortEdge))
    );
    assert_eq!(pages(&job.document), 2);
}

#[test]
fn cups_waits_for_a_job_that_the_host_holds() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut cups) = Cups::new(folder.path()) else {
        return;
    };
    let printer = Printer::listen((Ipv4Addr::LOCALHOST, 0).into(), Settings::default()).unwrap();
    cups.add("guest", &printer.uri());
    let file = folder.path().join("letter.pdf");
    std::fs::write(&file, pdf(1, 595, 842)).unwrap();
    run(cups.command("lp").arg(&file));
    let Some(Notice::Print(job)) = printer.wait(Duration::from_secs(30)) else {
        panic!("nothing came: {}", cups.log());
    };
    assert!(printer.tell(job.id, Progress::Held("The host asks first".into())));
    let jobs = |which: &str| {
        let output = cups
            .command("lpstat")
            .args(["-W", which, "-o"])
            .output()
            .unwrap();
        said(&output).contains("guest-1")
    };
    // CUPS asks every second at first.
    std::thread::sleep(Duration::from_secs(3));
    assert!(
        jobs("not-completed") && !jobs("completed"),
        "{}",
        cups.log()
    );
    assert!(printer.tell(job.id, Progress::Completed));
    let begun = Instant::now();
    while !jobs("completed") {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", cups.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}
