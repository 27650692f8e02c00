//! Peers of the printer and of the client, each in a folder of its own and ended with the test.
#![allow(dead_code, clippy::unwrap_used)]
use medley_print::server::{Notice, Printer, Progress, Settings};
use medley_print::{Format, JobId, Ticket};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where a program is, if it is installed.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':')
        .map(|folder| Path::new(folder).join(name))
        .find(|file| file.is_file())
}

/// All of these programs, or a word about the one that is missing.
pub fn tools<const N: usize>(names: [&str; N]) -> Option<[PathBuf; N]> {
    let found = names.map(tool);
    for (name, file) in names.iter().zip(&found) {
        if file.is_none() {
            println!(
                "skipped: {name} is not installed; `cargo xtask setup` says from which package"
            );
            return None;
        }
    }
    Some(found.map(Option::unwrap))
}

/// A PDF document of so many empty pages of this size, with its table in order.
pub fn pdf(pages: usize, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"%PDF-1.4\n".to_vec();
    let kids: Vec<_> = (0..pages)
        .map(|page| format!("{} 0 R", 4 + 2 * page))
        .collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!(
            "<< /Type /Pages /Kids [{}] /Count {pages} >>",
            kids.join(" ")
        ),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    for page in 0..pages {
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents {} 0 R \
             /Resources << /Font << /F 3 0 R >> >> >>",
            5 + 2 * page
        ));
        let drawing = format!("BT /F 24 Tf 72 72 Td (Page {page}) Tj ET");
        objects.push(format!(
            "<< /Length {} >>\nstream\n{drawing}\nendstream",
            drawing.len()
        ));
    }
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (number, object) in objects.iter().enumerate() {
        table += &format!("{:010} 00000 n \n", bytes.len());
        bytes.extend(format!("{} 0 obj\n{object}\nendobj\n", number + 1).bytes());
    }
    let at = bytes.len();
    let count = objects.len() + 1;
    bytes.extend(
        format!("{table}trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{at}\n%%EOF\n")
            .bytes(),
    );
    bytes
}

/// A job as its owner got it.
#[derive(Clone, Debug)]
pub struct Got {
    pub id: JobId,
    pub title: String,
    pub user: String,
    pub ticket: Ticket,
    pub format: Format,
    pub pages: u32,
    pub document: Vec<u8>,
}

/// A printer whose owner takes every job, says that it is printed, and tells the test.
pub struct Owned {
    pub uri: String,
    pub address: std::net::SocketAddr,
    pub jobs: Receiver<Got>,
    end: Sender<()>,
    owner: Option<JoinHandle<()>>,
}

impl Owned {
    pub fn new(settings: Settings) -> Self {
        let printer = Printer::listen((Ipv4Addr::LOCALHOST, 0).into(), settings).unwrap();
        let (uri, address) = (printer.uri(), printer.address());
        let (end, ended) = channel();
        let (tell, jobs) = channel();
        let owner = std::thread::spawn(move || {
            while ended.try_recv().is_err() {
                let Some(notice) = printer.wait(Duration::from_millis(20)) else {
                    continue;
                };
                let Notice::Print(mut job) = notice else {
                    continue;
                };
                printer.tell(job.id, Progress::Processing);
                let mut document = Vec::new();
                job.file.read_to_end(&mut document).unwrap();
                assert_eq!(document.len() as u64, job.size);
                let got = Got {
                    id: job.id,
                    title: job.title,
                    user: job.user,
                    ticket: job.ticket,
                    format: job.format,
                    pages: job.pages,
                    document,
                };
                printer.tell(got.id, Progress::Completed);
                // The test may be over.
                let _ = tell.send(got);
            }
        });
        Self {
            uri,
            address,
            jobs,
            end,
            owner: Some(owner),
        }
    }

    /// The next job.
    pub fn job(&self) -> Got {
        (self.jobs.recv_timeout(Duration::from_secs(60))).expect("no job came")
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.end.send(());
        let ended = self.owner.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// A process that ends with the test.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub fn new(command: &mut Command, log: &Path) -> Self {
        let file = std::fs::File::create(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self {
            child,
            log: log.to_owned(),
        }
    }

    /// Waits until something holds.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < Duration::from_secs(30),
                "{what}: {ended:?}\n{}",
                std::fs::read_to_string(&self.log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let pid = self.child.id().to_string();
        // Those that have children are asked, so that they end them.
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        for _ in 0..100 {
            if self.child.try_wait().unwrap().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody has at the moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// CUPS' own printer, as the physical one. It wants a D-Bus to announce itself on: one of its own.
pub struct Physical {
    pub uri: String,
    pub folder: PathBuf,
    _printer: Running,
    _bus: Running,
}

impl Physical {
    pub fn new(folder: &Path) -> Option<Self> {
        let [printer, bus] = tools(["ippeveprinter", "dbus-daemon"])?;
        let socket = folder.join("bus");
        let address = format!("unix:path={}", socket.display());
        let config = folder.join("bus.conf");
        let text = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\
             <busconfig><type>session</type><listen>{address}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\"/><allow eavesdrop=\"true\"/>\
             <allow own=\"*\"/></policy></busconfig>"
        );
        std::fs::write(&config, text).unwrap();
        let config = format!("--config-file={}", config.display());
        let mut bus = Running::new(
            Command::new(bus).args([&config, "--nofork", "--nopidfile"]),
            &folder.join("bus.log"),
        );
        bus.until("no D-Bus", || socket.exists());
        let out = folder.join("paper");
        std::fs::create_dir(&out).unwrap();
        let port = free_port();
        let mut printer = Running::new(
            Command::new(printer)
                .env("DBUS_SYSTEM_BUS_ADDRESS", &address)
                .args([
                    "-2",
                    "-k",
                    "-r",
                    "off",
                    "-n",
                    "localhost",
                    // A command that does nothing: without one it sleeps as long as paper takes.
                    "-c",
                    "/bin/true",
                    // It prints in colour if it is said how fast.
                    "-s",
                    "10,10",
                    "-M",
                    "Medley",
                ])
                .args([
                    "-m",
                    "Physical",
                    "-f",
                    "application/pdf,image/pwg-raster",
                    "-d",
                ])
                .arg(&out)
                .args(["-p", &port.to_string(), "Physical"]),
            &folder.join("printer.log"),
        );
        printer.until("no printer", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(Self {
            uri: format!("ipp://127.0.0.1:{port}/ipp/print"),
            folder: out,
            _printer: printer,
            _bus: bus,
        })
    }

    /// What it printed, once it is as long as it should be.
    pub fn printed(&self, length: usize) -> Vec<u8> {
        let begun = Instant::now();
        loop {
            for entry in std::fs::read_dir(&self.folder).unwrap() {
                let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
                if bytes.len() == length {
                    return bytes;
                }
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "nothing was printed"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What a command says, which must succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

pub fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}
