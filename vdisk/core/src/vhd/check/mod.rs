//! Checking an image without opening it, and mending what can be mended.
//!
//! A check reads the structures of one file (and, of a differencing disk, finds its parent) and tells
//! what is wrong, where, how many sectors it concerns and whether it can be repaired. A repair never
//! deletes payload and never changes what a sector that could be read reads as; every one is a plan of
//! writes that a power cut may interrupt anywhere. What needs a guess is refused with the reason.

mod blocks;
mod ground;
mod inspect;
mod report;

use std::path::Path;

pub(super) use blocks::is_zero;
pub use report::{Damage, Finding, Repair, Repaired, Report};

use super::edit::Plan;
use crate::error::Result;
use crate::store::{FileStore, Sharing, Store};

/// How far a repair may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// Also mends what can be mended only by giving up sectors that the file no longer has: they read as
    /// zeros (or as the parent's) afterwards instead of failing.
    pub accept_loss: bool,
}

/// Checks the image in `path`, under a shared lock.
pub fn check(path: &Path) -> Result<Report> {
    let store = FileStore::open(path, Sharing::ReadOnly)?;
    inspect::inspect(&store, Some(path)).map_err(|e| e.at_path(path))
}

/// Checks an image that is no file, or apart from its parents.
pub fn check_store(store: &dyn Store) -> Result<Report> {
    inspect::inspect(store, None)
}

/// Mends the image in `path`, under an exclusive lock.
pub fn repair(path: &Path, options: RepairOptions) -> Result<Repaired> {
    let store = FileStore::open(path, Sharing::Exclusive)?;
    mend(&store, Some(path), options).map_err(|e| e.at_path(path))
}

/// Mends an image that is no file, or apart from its parents.
pub fn repair_store(store: &dyn Store, options: RepairOptions) -> Result<Repaired> {
    mend(store, None, options)
}

/// Classes that one repair mends, one after the other: more only a hostile image has.
const ROUNDS: usize = 64;

/// One class of damage after the other, looking anew after each: a repair may bring other damage to
/// light, of a class that was mended already too, and must not rely on what was seen before it.
fn mend(store: &dyn Store, path: Option<&Path>, options: RepairOptions) -> Result<Repaired> {
    let before = inspect::inspect(store, path)?;
    let mut repaired: Vec<Damage> = Vec::new();
    // What was carried out and found again would be found for ever.
    let mut done: Vec<Plan> = Vec::new();
    let mut now = before.clone();
    let mendable =
        |f: &&Finding| f.repair == Repair::Safe || f.repair == Repair::Loses && options.accept_loss;
    for _ in 0..ROUNDS {
        let mut open = now.findings.iter().filter(mendable);
        let Some(first) = open.find(|f| !done.contains(&f.plan)) else {
            break;
        };
        for finding in now.findings.iter().filter(mendable) {
            if finding.damage == first.damage {
                finding.plan.carry_out(store)?;
            }
        }
        // Plans of one write each leave that to us: there may be many.
        store.sync()?;
        done.push(first.plan.clone());
        if !repaired.contains(&first.damage) {
            repaired.push(first.damage);
        }
        now = inspect::inspect(store, path)?;
    }
    Ok(Repaired {
        repaired,
        before: before.findings,
        after: now,
    })
}
