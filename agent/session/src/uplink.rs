//! A machine's way to the world. It outlives the hypervisors that use it, and follows the host from one
//! network to the next.

use crate::cable::Cable;
use crate::{Error, ErrorKind, Notice, Result};
use medley_hypervisor::{Machine, Network, TapDevice};
use medley_network::bridge::{self, Place};
use medley_network::{GuestDns, HostDns, Mode, Nat, NatOptions, NetworkPolicy, Refusal, Way};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, MutexGuard};

/// Where the programs are that carry a guest's frames, if not where they usually are.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// passt.
    pub passt: Option<PathBuf>,
    /// The one that makes places on bridges.
    pub bridge_helper: Option<PathBuf>,
}

/// A machine's way to the world. Dropped after the machine, nothing of it is left.
#[derive(Debug)]
pub struct Uplink {
    // Dropped first: it uses the way.
    cable: Option<Cable>,
    network: Network,
    way: Carrier,
    policy: NetworkPolicy,
}

/// Who carries the frames.
#[derive(Debug)]
enum Carrier {
    Nobody,
    Hypervisor { why: String },
    Passt(Arc<Nat>),
    Bridge { bridge: String, interface: String },
}

/// A machine's way to the world, for people and programs.
#[derive(Clone, Debug, Serialize)]
pub struct UplinkReport {
    /// The policy's mode.
    pub mode: Mode,
    /// Who carries the frames: `nobody`, `hypervisor`, `passt`, or `bridge`.
    pub by: &'static str,
    /// Why by the hypervisor, or over which interfaces.
    pub detail: Option<String>,
    /// What the policy means, in sentences.
    pub policy: Vec<String>,
    /// What the guest asked for and may not have.
    pub refused: Vec<Refusal>,
}

impl Uplink {
    /// Opens the way that the policy says. `run_dir` is an existing folder that only this user may enter.
    ///
    /// Without passt the hypervisor translates addresses, if that does all that the policy says.
    pub fn open(policy: NetworkPolicy, programs: &Programs, run_dir: &Path) -> Result<Self> {
        policy.validate()?;
        let (network, way) = match policy.mode {
            Mode::None => (Network::None, Carrier::Nobody),
            Mode::Nat => translated(&policy, programs, run_dir)?,
            Mode::Bridge => bridged(&policy, programs)?,
        };
        Ok(Self {
            cable: None,
            network,
            way,
            policy,
        })
    }

    /// Address translation by the hypervisor itself, where that does all that the policy says.
    pub fn by_hypervisor(policy: NetworkPolicy) -> Result<Self> {
        policy.validate()?;
        let host = host_dns()?;
        let plain = GuestDns::plan(&NetworkPolicy::default(), &host);
        let lacks = match policy.mode {
            Mode::None | Mode::Bridge => Some("a mode of its own"),
            Mode::Nat if policy.allow.is_some() => Some("a list"),
            Mode::Nat if GuestDns::plan(&policy, &host) != plain => Some("names of its own"),
            Mode::Nat => None,
        };
        if let Some(what) = lacks {
            let what = format!("the policy has {what}, which the hypervisor's network cannot keep");
            return Err(
                Error::new(ErrorKind::Request, what).remedy("leave the choice to the policy")
            );
        }
        let why = "it was asked for".into();
        Ok(Self {
            cable: None,
            network: Network::User,
            way: Carrier::Hypervisor { why },
            policy,
        })
    }

    /// What the machine is given.
    pub fn network(&self) -> Network {
        self.network.clone()
    }

    /// What it is now.
    pub fn report(&self) -> UplinkReport {
        let (by, detail, refused) = match &self.way {
            Carrier::Nobody => ("nobody", None, Vec::new()),
            Carrier::Hypervisor { why } => ("hypervisor", Some(why.clone()), Vec::new()),
            Carrier::Passt(nat) => ("passt", None, nat.refusals()),
            Carrier::Bridge { bridge, interface } => (
                "bridge",
                Some(format!("{interface} on {bridge}")),
                Vec::new(),
            ),
        };
        UplinkReport {
            mode: self.policy.mode,
            by,
            detail,
            policy: self.policy.explain(),
            refused,
        }
    }

    /// From now on the machine's cable is pulled for a moment whenever its host comes into another network,
    /// and names are told anew: what an operating system does then, it does by itself. A machine that `woke`
    /// is in another network from the start.
    pub fn lead_to(&mut self, machine: &Arc<dyn Machine>, woke: bool, notices: Sender<Notice>) {
        let nat = match &self.way {
            Carrier::Nobody => return,
            Carrier::Passt(nat) => Some(Arc::clone(nat)),
            // The hypervisor asks the host's name servers itself, and a bridged guest its own network's.
            Carrier::Hypervisor { .. } | Carrier::Bridge { .. } => None,
        };
        // Another host's network is not what a bridged guest speaks to.
        let follows = !matches!(self.way, Carrier::Bridge { .. });
        let machine = Arc::downgrade(machine);
        self.cable = None;
        match Cable::lead(machine, nat, self.policy.clone(), follows, woke, notices) {
            Ok(cable) => self.cable = Some(cable),
            // A machine runs without it, too.
            Err(error) => tracing::warn!(%error, "the guest does not follow the host's network"),
        }
    }

    /// Leaves the cable alone for as long as this is held.
    pub fn hold_still(&self) -> Option<MutexGuard<'_, ()>> {
        self.cable.as_ref().map(Cable::hold_still)
    }
}

fn translated(
    policy: &NetworkPolicy,
    programs: &Programs,
    run_dir: &Path,
) -> Result<(Network, Carrier)> {
    let host = host_dns()?;
    let options = NatOptions {
        dns: GuestDns::plan(policy, &host),
        allow: policy.allow.clone(),
        passt: programs.passt.clone(),
    };
    let plain = GuestDns::plan(&NetworkPolicy::default(), &host);
    Ok(match Way::open(&options, &plain, run_dir)? {
        Way::Passt(nat) => {
            let socket = nat.socket().to_owned();
            (Network::Stream { socket }, Carrier::Passt(Arc::new(nat)))
        }
        Way::User { why } => (Network::User, Carrier::Hypervisor { why }),
    })
}

fn bridged(policy: &NetworkPolicy, programs: &Programs) -> Result<(Network, Carrier)> {
    let Some(name) = &policy.bridge else {
        let what = "which of the host's bridges is not said";
        return Err(Error::new(ErrorKind::Request, what)
            .remedy("name it with --bridge, or as network.bridge in the policy"));
    };
    let place = bridge::join(name, programs.bridge_helper.as_deref())?;
    let Place {
        device,
        interface,
        bridge,
    } = place;
    Ok((
        Network::TapDevice(TapDevice::new(device)),
        Carrier::Bridge { bridge, interface },
    ))
}

fn host_dns() -> Result<HostDns> {
    let failed = |e| Error::new(ErrorKind::Network, "read the host's name servers").because(e);
    HostDns::read().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> NetworkPolicy {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_hypervisor_keeps_no_list_and_knows_no_names() {
        Uplink::by_hypervisor(NetworkPolicy::default()).unwrap();
        for (text, why) in [
            (r#"{"allow": []}"#, "a list"),
            (r#"{"mode": "bridge"}"#, "a mode"),
            (
                r#"{"dns": {"mode": "fixed", "servers": ["192.0.2.253"]}}"#,
                "names",
            ),
        ] {
            let error = Uplink::by_hypervisor(policy(text)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Request);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn without_passt_a_list_is_never_left_out() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o700))
            .tempdir()
            .unwrap();
        let programs = Programs {
            passt: Some(folder.path().join("passt")),
            ..Programs::default()
        };
        let open = |text| Uplink::open(policy(text), &programs, folder.path());
        let plain = open("{}").unwrap();
        assert_eq!(plain.network(), Network::User);
        let report = plain.report();
        assert_eq!(report.by, "hypervisor");
        assert!(report.detail.unwrap().contains("no such program"));
        for text in [
            r#"{"allow": []}"#,
            r#"{"allow": ["192.0.2.1"]}"#,
            r#"{"search": {"domains": ["corp.example"]}}"#,
        ] {
            assert_eq!(open(text).unwrap_err().kind(), ErrorKind::Missing, "{text}");
        }
        // One that is there and does not work is no reason to do without.
        std::fs::write(folder.path().join("passt"), "#!/bin/sh\nexit 1\n").unwrap();
        assert_eq!(open("{}").unwrap_err().kind(), ErrorKind::Network);
    }

    #[test]
    fn a_bridge_must_be_named_and_a_bad_policy_is_none() {
        let open = |text| {
            let programs = Programs::default();
            Uplink::open(policy(text), &programs, Path::new("/nonexistent"))
        };
        let error = open(r#"{"mode": "bridge"}"#).unwrap_err();
        assert!(error.to_string().contains("--bridge"), "{error}");
        let error = open(r#"{"bridge": "br0"}"#).unwrap_err();
        assert!(error.to_string().contains("network.bridge"), "{error}");
        let none = open(r#"{"mode": "none"}"#).unwrap();
        assert_eq!(
            (none.network(), none.report().by),
            (Network::None, "nobody")
        );
    }
}
