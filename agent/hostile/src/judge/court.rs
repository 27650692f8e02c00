//! Plays a scenario: tells the guest when, looks at the desktop at each step, and hears what was reported.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use medley_desktop::Window;
use medley_presenter::frame::Look;

use super::desktop::Desktop;
use super::look::{Shown, ring_of};
use crate::scenarios::{Outcome, Scenario};

/// What is between the judge and the guest: a machine, or nothing.
pub trait Stage {
    /// Gives the guest a line.
    ///
    /// # Errors
    /// The guest is gone.
    fn tell(&mut self, cue: &str) -> Result<()>;

    /// What the guest said since, once it is ready for another line.
    ///
    /// # Errors
    /// The guest is gone, or is not ready in time.
    fn wait(&mut self) -> Result<Vec<String>>;

    /// A presenter begins to be watched: what was reported before does not count.
    ///
    /// # Errors
    /// There is nobody who watches.
    fn begin(&mut self) -> Result<()>;

    /// Waits until it was reported how the guest ended its windows.
    ///
    /// # Errors
    /// It is not reported in time, or otherwise.
    fn reported(&mut self, outcome: Outcome) -> Result<()>;

    /// Takes the guest's windows off the screen, or shows them again.
    ///
    /// # Errors
    /// Nobody obeys.
    fn lock(&mut self, locked: bool) -> Result<()>;

    /// How long to wait for anything.
    fn patience(&self) -> Duration;
}

/// What the guest has heard until now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told(Vec<(String, u64)>);

impl Told {
    fn parse(line: &str) -> Self {
        let pair = |word: &str| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(line.split_whitespace().filter_map(pair).collect())
    }

    /// A count.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn count(&self, name: &str) -> Result<u64> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found
            .map(|(_, value)| *value)
            .with_context(|| format!("the guest does not count {name}: {:?}", self.0))
    }
}

/// One scenario under judgement.
pub struct Court<'c> {
    /// The host's desktop.
    pub desktop: &'c Desktop,
    stage: &'c mut dyn Stage,
    look: Look,
    workspace: &'c str,
    /// Windows that were looked at.
    pub looked_at: usize,
}

impl<'c> Court<'c> {
    /// A court for the windows of a workspace of that name.
    #[must_use]
    pub fn new(desktop: &'c Desktop, stage: &'c mut dyn Stage, workspace: &'c str) -> Self {
        Self {
            desktop,
            stage,
            look: ring_of(workspace),
            workspace,
            looked_at: 0,
        }
    }

    /// Plays one from beginning to end.
    ///
    /// # Errors
    /// The host let the guest do what it wanted, or said nothing of it.
    pub fn try_one(&mut self, scenario: &Scenario) -> Result<()> {
        self.looked_at = 0;
        self.stage.begin()?;
        self.stage.tell(&format!("play {}", scenario.name))?;
        (scenario.judge)(self)?;
        self.end(scenario.outcome)
    }

    /// Waits until the guest stands at a step, and looks at the desktop.
    ///
    /// # Errors
    /// It stands elsewhere; the desktop is not as it should be.
    pub fn at(&mut self, step: &str) -> Result<()> {
        let said = self.stage.wait()?;
        let expected = format!("hold {step}");
        ensure!(
            said.last() == Some(&expected),
            "the guest is not at {step:?}, but said {said:?}"
        );
        self.judge()
    }

    /// Lets the guest go on.
    ///
    /// # Errors
    /// It is gone.
    pub fn go(&mut self) -> Result<()> {
        self.stage.tell("go")
    }

    /// Looks at the desktop.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge(&mut self) -> Result<()> {
        self.looked_at += self.desktop.judge(&self.look, true)?;
        Ok(())
    }

    /// Looks at it while windows come and go.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn moving(&mut self) -> Result<()> {
        self.looked_at += self.desktop.judge(&self.look, false)?;
        Ok(())
    }

    /// What the guest has heard.
    ///
    /// # Errors
    /// It does not say.
    pub fn heard(&mut self) -> Result<Told> {
        self.stage.tell("tell")?;
        let said = self.stage.wait()?;
        let line = said.iter().find_map(|line| line.strip_prefix("heard "));
        Ok(Told::parse(
            line.with_context(|| format!("it says {said:?}"))?,
        ))
    }

    /// Waits until the guest has heard something.
    ///
    /// # Errors
    /// It does not hear it in time.
    pub fn until_heard(&mut self, name: &str, least: u64) -> Result<Told> {
        let begun = std::time::Instant::now();
        loop {
            let told = self.heard()?;
            if told.count(name)? >= least {
                return Ok(told);
            }
            ensure!(
                begun.elapsed() < self.stage.patience(),
                "the guest has not heard {least} {name}: {told:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The guest's window with that title of the guest's.
    ///
    /// # Errors
    /// There is none.
    pub fn window(&self, title: &str) -> Result<Shown> {
        let title = format!("[{}] {title}", self.workspace);
        self.desktop.guest(&title, self.stage.patience())
    }

    /// What every title of the guest's begins with.
    #[must_use]
    pub fn label(&self) -> String {
        format!("[{}] ", self.workspace)
    }

    /// Gives the guest's window with that title the keyboard, and looks at the desktop.
    ///
    /// # Errors
    /// It does not get it.
    pub fn activate(&mut self, title: &str) -> Result<Window> {
        let window = self.window(title)?.window;
        self.desktop.activate(window)?;
        self.judge()?;
        Ok(window)
    }

    /// Waits until the desktop shows what it should of the guest's windows.
    ///
    /// # Errors
    /// It does not in time.
    pub fn until_shown(&self, what: &str, holds: impl Fn(&[Shown]) -> bool) -> Result<Vec<Shown>> {
        let mut last = Vec::new();
        let shown = self.desktop.until(what, self.stage.patience(), || {
            last = self.desktop.guests()?;
            Ok(holds(&last))
        });
        shown.with_context(|| format!("{last:?}"))?;
        Ok(last)
    }

    /// Takes the guest's windows off the screen, or shows them again.
    ///
    /// # Errors
    /// Nobody obeys.
    pub fn lock(&mut self, locked: bool) -> Result<()> {
        self.stage.lock(locked)
    }

    fn end(&mut self, outcome: Outcome) -> Result<()> {
        let said = self.stage.wait()?;
        let last = said.last().map_or("nothing", String::as_str);
        match (outcome, last) {
            (Outcome::Lives, "done") => self.judge(),
            (Outcome::Violation(_) | Outcome::Broken, "cut") => {
                self.stage.reported(outcome)?;
                self.until_shown("the end of all windows", <[Shown]>::is_empty)?;
                // A window manager keeps its own frame, with what was last seen in it, until it has heard of it.
                let patience = self.stage.patience();
                let gone = "the end of the pixels of windows that are gone";
                self.desktop
                    .until(gone, patience, || Ok(self.desktop.marked()? == 0))
            }
            _ => bail!("the guest said {said:?}, and {outcome:?} was to be"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counts_are_found_by_name() {
        let told = Told::parse("keys=3 bytes=0 requests=x");
        assert_eq!(told.count("keys").unwrap(), 3);
        assert_eq!(told.count("bytes").unwrap(), 0);
        assert!(told.count("requests").is_err());
    }
}
