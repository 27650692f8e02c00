//! A desk with a scripted presenter: another process, started as the real one is, that speaks the lines of its
//! script and writes down what it is told.
#![allow(clippy::unwrap_used, dead_code)]

pub mod bus;
pub mod double;

use medley_host::{Answer, Ask, Command, Desk, Error, Notice, ServicesPolicy};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

pub const EDITOR: &str = "00000000000000000000000000000001";
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What every guest says first.
pub const HELLO: &str = r#"
say {"event":"ready"}
say {"event":"app","app":"00000000000000000000000000000001","name":"Editor","types":["text/plain"],"schemes":["mailto"],"actions":[{"number":1,"name":"New"}]}
say {"event":"apps","count":1}
"#;

/// A desk, and a folder for all it needs.
pub struct Session {
    pub dir: tempfile::TempDir,
    pub desk: Option<Desk>,
    pub notices: Receiver<Notice>,
    answers: Option<Box<dyn std::any::Any>>,
}

/// How a desk's presenter is started.
pub fn command(dir: &Path, script: &str) -> Command {
    std::fs::write(dir.join("script"), format!("{HELLO}{script}")).unwrap();
    let program = dir.join("presenter");
    let own = std::env::current_exe().unwrap();
    let (own, folder) = (own.display(), dir.display());
    let text = format!(
        "#!/bin/sh\necho \"$*\" >>'{folder}/args'\n\
         MEDLEY_DOUBLE='{folder}' exec '{own}' --exact double --ignored --nocapture --test-threads=1\n"
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    let socket = PathBuf::from("/none");
    Command {
        program,
        workspace: "office".into(),
        gui: socket.clone(),
        control: socket.clone(),
        bulk: socket,
        pool: None,
        options: Vec::new(),
    }
}

impl Session {
    pub fn start(policy: ServicesPolicy, script: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), policy, script)
    }

    pub fn start_in(dir: tempfile::TempDir, policy: ServicesPolicy, script: &str) -> Self {
        let (notify, notices) = sync_channel(256);
        let desk = Desk::open(command(dir.path(), script), policy, notify).unwrap();
        let answers = desk.answer_in(dir.path()).unwrap();
        Self {
            answers: Some(Box::new(answers)),
            desk: Some(desk),
            dir,
            notices,
        }
    }

    /// The next notice of a kind.
    #[track_caller]
    pub fn notice(&self, code: &str) -> Notice {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.notices.recv_timeout(left) {
                Ok(notice) if notice.code == code => return notice,
                Ok(notice) => eprintln!("passed over: {notice:?}"),
                Err(error) => panic!("no notice {code}: {error}; told: {}", self.told()),
            }
        }
    }

    /// What the presenter was told.
    pub fn told(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("told")).unwrap_or_default()
    }

    /// Waits until the presenter has been told something.
    #[track_caller]
    pub fn heard(&self, what: &str) {
        until(what, || self.told().contains(what));
    }

    pub fn ask(&self, ask: &Ask) -> Result<Answer, Error> {
        medley_host::ask(self.dir.path(), ask)
    }

    pub fn end(&mut self) {
        drop(self.answers.take());
        drop(self.desk.take());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A program of one script.
pub fn program(path: &Path, script: &str) -> PathBuf {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o700)).unwrap();
    path.to_owned()
}
