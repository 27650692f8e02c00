//! The guest's network as it is typed: the choice, the policy, and what they come to.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use medley_network::{Mode, NetworkPolicy};
use medley_session::{Programs, Uplink, UplinkReport};
use serde::Deserialize;

use crate::exit::{Failure, Result};
use crate::output::Fields;
use crate::policy;

/// Options of the guest's network.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// The guest's network [default: as --network-policy says, or none]
    #[arg(long, value_name = "WHAT", value_enum, help_heading = "Network")]
    network: Option<Choice>,
    /// What the guest may reach and which names it is told: the section [network] of this file, TOML or
    /// (where its name ends in .json) JSON
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    network_policy: Option<PathBuf>,
    /// The host's bridge that the guest joins
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    bridge: Option<String>,
    /// The passt to use instead of the one in PATH
    #[arg(long, value_name = "PATH", hide = true)]
    passt: Option<PathBuf>,
    /// The bridge helper to use instead of the one that is installed
    #[arg(long, value_name = "PATH", hide = true)]
    bridge_helper: Option<PathBuf>,
}

/// How the guest reaches the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// No network card
    None,
    /// Outgoing connections through the hypervisor itself, without a list
    User,
    /// Outgoing connections through passt, held to the policy's list
    Nat,
    /// An address of its own in the host's network
    Bridge,
}

/// What was asked for, and makes sense.
#[derive(Debug)]
pub struct Wanted {
    policy: NetworkPolicy,
    by_hypervisor: bool,
    programs: Programs,
}

/// A file that may hold more than a network.
#[derive(Deserialize)]
struct Document {
    network: NetworkPolicy,
}

/// Reads the network's section of a policy's file.
pub fn read(path: &Path) -> Result<NetworkPolicy> {
    let document: Document = policy::read(path)?;
    let bad = |error| Failure::usage(format!("{}: {error}", path.display()));
    document.network.validate().map_err(bad)?;
    Ok(document.network)
}

impl NetworkArgs {
    /// Reads the policy and compares it with the choice.
    pub fn wanted(&self) -> Result<Wanted> {
        let file = self.network_policy.as_deref();
        let mut policy = file.map(read).transpose()?.unwrap_or(NetworkPolicy {
            mode: Mode::None,
            ..NetworkPolicy::default()
        });
        let chosen = match self.network {
            Some(Choice::None) => Mode::None,
            Some(Choice::User | Choice::Nat) => Mode::Nat,
            Some(Choice::Bridge) => Mode::Bridge,
            None if self.bridge.is_some() && file.is_none() => Mode::Bridge,
            None => policy.mode,
        };
        if let Some(file) = file
            && chosen != policy.mode
            && chosen != Mode::None
        {
            let name = |mode| format!("{mode:?}").to_lowercase();
            let (says, asked) = (name(policy.mode), name(chosen));
            let what = format!(
                "{}: network.mode is \"{says}\", and --network asks for {asked}",
                file.display()
            );
            return Err(Failure::usage(what).remedy("leave out --network, or change the policy"));
        }
        if chosen == Mode::None {
            policy = NetworkPolicy::default();
        }
        policy.mode = chosen;
        if let Some(bridge) = &self.bridge {
            policy.bridge = Some(bridge.clone());
        }
        let by_hypervisor = self.network == Some(Choice::User);
        let bad = |error: medley_network::Error| Failure::usage(error.to_string());
        policy.validate().map_err(bad)?;
        Ok(Wanted {
            policy,
            by_hypervisor,
            programs: Programs {
                passt: self.passt.clone(),
                bridge_helper: self.bridge_helper.clone(),
            },
        })
    }
}

impl Wanted {
    /// Opens it. `run_dir` is a folder that only this user may enter.
    pub fn open(self, run_dir: &Path) -> Result<Uplink> {
        Ok(match self.by_hypervisor {
            true => Uplink::by_hypervisor(self.policy)?,
            false => Uplink::open(self.policy, &self.programs, run_dir)?,
        })
    }
}

/// The network before the guest starts, for people.
pub fn introduce(network: &UplinkReport, fields: &mut Fields) {
    let by = match (network.by, &network.detail) {
        ("nobody", _) => return,
        ("hypervisor", Some(why)) => format!("through the hypervisor: {why}"),
        ("bridge", Some(place)) => format!("as {place}"),
        (by, _) => format!("through {by}"),
    };
    fields.row("network", by);
    network.policy.iter().for_each(|said| fields.more(said));
}

/// What the guest may not have, and asked for, for people.
pub fn refusals(network: &UplinkReport, fields: &mut Fields) {
    const SHOWN: usize = 5;
    let mut refused: Vec<_> = network.refused.iter().collect();
    refused.sort_by(|a, b| b.count.cmp(&a.count).then(a.to.cmp(&b.to)));
    for (index, refusal) in refused.iter().take(SHOWN).enumerate() {
        let what = match (&refusal.name, refusal.port) {
            (Some(name), _) => format!("the name {name}"),
            (None, Some(port)) => format!("{} port {port}", refusal.to),
            (None, None) => format!("{} protocol {}", refusal.to, refusal.protocol),
        };
        let row = format!("{what}, {} x", refusal.count);
        match index {
            0 => fields.row("refused", row),
            _ => fields.more(row),
        }
    }
    if let Some(more @ 1..) = refused.len().checked_sub(SHOWN) {
        fields.more(format!("and {more} more; --json tells all"));
    }
}
