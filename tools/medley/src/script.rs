//! What a script says to a guest's console: wait for this, send that.

use std::time::{Duration, Instant};

use crate::exit::{Failure, Result};

/// How long a `wait` waits unless the script says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Console output that is kept for a `wait` to find something in, in bytes.
const WINDOW: usize = 1 << 20;

/// A script, understood.
#[derive(Debug, Default)]
pub struct Script {
    steps: Vec<(usize, Step)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Wait(String),
    Send(Vec<u8>),
    Pause(Duration),
    Timeout(Duration),
    PowerOff,
    Suspend,
    Stop,
}

impl Script {
    /// Understands a script; what is wrong is named with its line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut steps = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_end_matches('\r');
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let step = step(line.trim_start())
                .map_err(|what| Failure::usage(format!("script, line {number}: {what}")))?;
            steps.push((number, step));
        }
        Ok(Self { steps })
    }
}

fn step(line: &str) -> Result<Step, String> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let seconds = || match rest.trim().parse::<f64>() {
        Ok(seconds) if (0.0..=86400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("`{verb}` wants seconds, from 0 to 86400")),
    };
    match (verb, rest.trim().is_empty()) {
        ("wait", false) => Ok(Step::Wait(
            String::from_utf8(unescape(rest)?).map_err(|e| e.to_string())?,
        )),
        ("wait", true) => Err("`wait` wants a text".into()),
        ("send", _) => Ok(Step::Send([unescape(rest)?, vec![b'\r']].concat())),
        ("type", false) => Ok(Step::Send(unescape(rest)?)),
        ("type", true) => Err("`type` wants a text".into()),
        ("sleep", _) => seconds().map(Step::Pause),
        ("timeout", _) => seconds().map(Step::Timeout),
        ("poweroff", true) => Ok(Step::PowerOff),
        ("suspend", true) => Ok(Step::Suspend),
        ("stop", true) => Ok(Step::Stop),
        _ => Err(format!(
            "`{line}` is none of wait, send, type, sleep, timeout, suspend, poweroff, stop"
        )),
    }
}

/// Resolves `\r`, `\n`, `\t`, `\e`, `\\` and `\xNN`.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend(c.to_string().bytes());
            continue;
        }
        bytes.push(match chars.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('e') => 0x1b,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).map_err(|_| format!("`\\x{digits}` is no byte"))?
            }
            other => {
                return Err(format!(
                    "`\\{}` means nothing here",
                    other.map_or(String::new(), String::from)
                ));
            }
        });
    }
    Ok(bytes)
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Nothing until more output comes or time goes by.
    Wait,
    /// Send these bytes to the guest.
    Send(Vec<u8>),
    /// Put the machine to sleep.
    Sleep,
    /// Press the power button: the script waits for the guest to end.
    PowerOff,
    /// End the machine.
    Stop,
    /// The script is through.
    Done,
}

/// A script on its way.
pub struct Player {
    steps: std::collections::VecDeque<(usize, Step)>,
    timeout: Duration,
    /// Since when the present step has been waited for.
    since: Option<Instant>,
    /// Output since the last match.
    window: Vec<u8>,
    /// Bytes of the window in which the present text is known not to begin.
    searched: usize,
}

impl Player {
    /// Begins.
    pub fn new(script: Script) -> Self {
        Self {
            steps: script.steps.into(),
            timeout: TIMEOUT,
            since: None,
            window: Vec::new(),
            searched: 0,
        }
    }

    /// The guest said something.
    pub fn heard(&mut self, bytes: &[u8]) {
        self.window.extend_from_slice(bytes);
        if self.window.len() > 2 * WINDOW {
            let surplus = self.window.len() - WINDOW;
            self.window.drain(..surplus);
            self.searched = self.searched.saturating_sub(surplus);
        }
    }

    /// What to do now; to be asked until it says [`Next::Wait`] or the end. Fails when a text did not come
    /// in time.
    pub fn next(&mut self, now: Instant) -> Result<Next> {
        loop {
            let Some((line, step)) = self.steps.front().cloned() else {
                return Ok(Next::Done);
            };
            let waited = now.saturating_duration_since(*self.since.get_or_insert(now));
            let next = match step {
                Step::Wait(text) => {
                    if !self.find(text.as_bytes()) {
                        return if waited < self.timeout {
                            Ok(Next::Wait)
                        } else {
                            Err(self.late(line, &text))
                        };
                    }
                    None
                }
                Step::Pause(time) if waited < time => return Ok(Next::Wait),
                Step::Pause(_) => None,
                Step::Timeout(time) => {
                    self.timeout = time;
                    None
                }
                Step::Send(bytes) => Some(Next::Send(bytes)),
                Step::Suspend => Some(Next::Sleep),
                Step::PowerOff => Some(Next::PowerOff),
                Step::Stop => Some(Next::Stop),
            };
            self.steps.pop_front();
            self.since = None;
            if let Some(next) = next {
                return Ok(next);
            }
        }
    }

    /// What the script still waits for, when the machine has ended before it.
    pub fn missed(&self) -> Option<Failure> {
        let (line, text) = self.steps.iter().find_map(|(line, step)| match step {
            Step::Wait(text) => Some((line, text)),
            _ => None,
        })?;
        let tail = self.tail();
        Some(Failure::failed(format!(
            "script, line {line}: the machine ended before `{text}` came{tail}"
        )))
    }

    fn find(&mut self, text: &[u8]) -> bool {
        let from = self.searched.min(self.window.len());
        match self.window[from..]
            .windows(text.len())
            .position(|window| window == text)
        {
            Some(at) => {
                self.window.drain(..from + at + text.len());
                self.searched = 0;
                true
            }
            None => {
                self.searched = (self.window.len() + 1).saturating_sub(text.len()).max(from);
                false
            }
        }
    }

    fn late(&self, line: usize, text: &str) -> Failure {
        let seconds = self.timeout.as_secs_f64();
        Failure::failed(format!(
            "script, line {line}: `{text}` did not come within {seconds} s{}",
            self.tail()
        ))
    }

    /// The last of what the guest said.
    fn tail(&self) -> String {
        let from = self.window.len().saturating_sub(300);
        let text = String::from_utf8_lossy(&self.window[from..]);
        match text.trim() {
            "" => "; the guest said nothing meanwhile".into(),
            text => format!("; the last the guest said: {text:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_played() {
        let text =
            "# log in\nwait login:\nsend root\n\ntimeout 5\nwait # \ntype \\x03\\e\npoweroff\n";
        let mut player = Player::new(Script::parse(text).unwrap());
        let begin = Instant::now();
        assert_eq!(player.next(begin).unwrap(), Next::Wait);
        player.heard(b"Debian\r\nlog");
        assert_eq!(player.next(begin).unwrap(), Next::Wait);
        player.heard(b"in: ");
        assert_eq!(player.next(begin).unwrap(), Next::Send(b"root\r".into()));
        assert_eq!(player.next(begin).unwrap(), Next::Wait);
        player.heard(b"root\r\n# ");
        assert_eq!(player.next(begin).unwrap(), Next::Send(b"\x03\x1b".into()));
        assert_eq!(player.next(begin).unwrap(), Next::PowerOff);
        assert_eq!(player.next(begin).unwrap(), Next::Done);
    }

    #[test]
    fn what_does_not_come_is_an_error_with_the_line_and_the_last_words() {
        let mut player = Player::new(Script::parse("timeout 2\nwait never").unwrap());
        let begin = Instant::now();
        player.heard(b"something else");
        assert_eq!(player.next(begin).unwrap(), Next::Wait);
        let error = player
            .next(begin + Duration::from_secs(3))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 2") && error.contains("something else"),
            "{error}"
        );
        assert!(player.missed().unwrap().to_string().contains("never"));
    }

    #[test]
    fn a_text_is_found_across_any_split_and_only_once() {
        for split in 0..=10 {
            let mut player = Player::new(Script::parse("wait abab\nwait ab").unwrap());
            let now = Instant::now();
            let text = b"xxabxababx";
            player.heard(&text[..split]);
            player.next(now).unwrap();
            player.heard(&text[split..]);
            assert_eq!(
                player.next(now).unwrap(),
                Next::Wait,
                "the second text was found in the first"
            );
            player.heard(b"ab");
            assert_eq!(player.next(now).unwrap(), Next::Done);
        }
    }

    #[test]
    fn an_endless_guest_fills_no_memory() {
        let mut player = Player::new(Script::parse("wait never").unwrap());
        for _ in 0..100 {
            player.heard(&[b'x'; 100_000]);
            player.next(Instant::now()).unwrap();
        }
        assert!(player.window.len() <= 2 * WINDOW + 100_000);
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for text in [
            "wait",
            "wat x",
            "timeout soon",
            "sleep -1",
            "send \\q",
            "type \\xZZ",
            "poweroff now",
        ] {
            let error = Script::parse(&format!("# fine\n{text}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains("line 2"), "{error}");
        }
    }
}
