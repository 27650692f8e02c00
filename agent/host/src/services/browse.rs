//! Addresses of the web that a guest wants opened here. A program gets the address as its only argument; there
//! is no shell, and nothing but `http` and `https`.
use super::pace::Pace;
use crate::notice::{Notice, Teller};
use crate::policy::Urls;
use medley_wire::limits::URL_BYTES;
use medley_wire::{Text, Untrusted};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One in this time.
const EACH: Duration = Duration::from_secs(2);
/// Programs that were started and run still: some start a browser and stay with it.
const AT_ONCE: usize = 16;

/// Opens addresses.
#[derive(Debug)]
pub(crate) struct Browse {
    policy: Urls,
    teller: Teller,
    pace: Pace,
    /// One clone for each program that runs.
    busy: Arc<()>,
}

impl Browse {
    pub fn new(policy: Urls, teller: Teller) -> Self {
        Self {
            policy,
            teller,
            pace: Pace::new(1, EACH),
            busy: Arc::new(()),
        }
    }

    /// Opens one, or tells why not.
    pub fn open(&mut self, url: &str) {
        let shown = crate::clean::line(url);
        if let Err(why) = self.start(url) {
            let words = format!("the guest's address {shown:?} was not opened: {why}");
            let notice = Notice::new("url-refused", words);
            self.teller
                .say(notice.with("url", shown).with("verdict", why));
        }
    }

    fn start(&mut self, url: &str) -> Result<(), String> {
        let claim = Text::<URL_BYTES>::whole(url).map(Untrusted::claim);
        let judged = claim.and_then(|claim| claim.web_url());
        let url = judged.ok_or("it is none of the web's")?;
        if !self.pace.take(Instant::now()) {
            return Err(format!("only one is opened in {EACH:?}"));
        }
        if Arc::strong_count(&self.busy) > AT_ONCE {
            return Err("too many programs that open addresses are running".into());
        }
        let program = self.policy.with.display().to_string();
        let mut child = Command::new(&self.policy.with)
            .arg(url.as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // The browser is the user's: what is typed at our terminal does not end it.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{program} cannot be started: {error}"))?;
        let (busy, teller) = (self.busy.clone(), self.teller.clone());
        let words = format!("{url} was opened for the guest");
        let notice = Notice::new("url-opened", words).with("url", &url);
        let wait = move || {
            teller.record(notice);
            match child.wait() {
                Ok(status) if status.success() => {}
                Ok(status) => tracing::warn!("{program} failed to open an address ({status})"),
                Err(error) => tracing::warn!(%error, "cannot wait for {program}"),
            }
            drop(busy);
        };
        // Without the thread nobody would wait for the program: it would stay in the table of processes.
        if let Err(error) = std::thread::Builder::new()
            .name("browse".into())
            .spawn(wait)
        {
            return Err(format!("nobody can wait for the program: {error}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn one_argument_and_not_too_often() {
        let dir = tempfile::tempdir().unwrap();
        let (program, log) = (dir.path().join("open"), dir.path().join("log"));
        let script = format!(
            "#!/bin/sh\nprintf '%s|%s\\n' $# \"$1\" >>{}\n",
            log.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        let (to, notices) = sync_channel(64);
        let mut browse = Browse::new(Urls { with: program }, Teller::new(to));
        for bad in [
            "file:///etc/passwd",
            "https://a b",
            "--help",
            "javascript:alert(1)",
            "https://good.example@evil.example/",
        ] {
            browse.open(bad);
        }
        let url = "https://example.org/?a=$(touch+x);b&c='";
        browse.open(url);
        browse.open("https://example.org/2");
        let codes = || notices.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(codes().code, "url-refused");
        let opened = codes();
        assert_eq!(
            (opened.code, opened.details["url"].as_str()),
            ("url-opened", url)
        );
        let begun = Instant::now();
        let expected = format!("1|{url}\n");
        while std::fs::read_to_string(&log).unwrap_or_default() != expected {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(5));
        }
        while Arc::strong_count(&browse.busy) > 1 {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "it is waited for"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(std::fs::read_to_string(&log).unwrap(), expected);
    }
}
