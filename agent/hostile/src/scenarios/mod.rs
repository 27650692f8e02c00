//! Attacks: what the guest does, and what the host must look like meanwhile. Each file is one kind of harm; each
//! scenario has both sides.

mod clipboard;
mod ended;
mod frames;
mod keyboard;
mod labels;

use anyhow::Result;

use crate::guest::Guest;
use crate::judge::Court;

/// How a scenario ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest could not do what it wanted, and goes on.
    Lives,
    /// It broke a rule with this code: its windows are gone, and it was reported.
    Violation(&'static str),
    /// It broke the protocol itself: its windows are gone, and the presenter was started anew.
    Broken,
}

/// One attack.
pub struct Scenario {
    /// How it is called. Those of the Qubes project's bulletins have their numbers.
    pub name: &'static str,
    /// What is tried.
    pub about: &'static str,
    /// How it ends.
    pub outcome: Outcome,
    /// The guest's side.
    pub play: fn(&mut Guest) -> Result<()>,
    /// The host's side.
    pub judge: fn(&mut Court<'_>) -> Result<()>,
}

/// All of them.
pub const ALL: &[&Scenario] = &[
    &frames::QSB_034,
    &ended::QSB_001,
    &frames::QSB_039,
    &ended::QSB_010,
    &frames::QSB_072,
    &ended::QSB_026,
    &frames::QSB_073,
    &clipboard::QSB_011,
    &keyboard::QSB_104,
    &keyboard::STEALING,
    &ended::BOMB,
    &clipboard::QSB_013,
    &clipboard::TAKING,
    &ended::GARBAGE,
    &labels::QSB_105,
    &frames::TASK_BAR,
    &ended::CROWD,
    &frames::BANNER,
    &frames::NOTES,
    &keyboard::LOCKED,
    &ended::FLOOD,
];

/// The scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name).copied()
}
