//! `medley machine plan`: how large a guest would be, on this host or on an imagined one, and why.

use std::path::PathBuf;

use clap::Args;
use medley_memory::{Group, Host, Limit, Policy, Quota};
use serde::Serialize;

use crate::exit::{Failure, Result};
use crate::output::{Fields, Report, Ui};
use crate::{policy, size};

/// Options of `machine plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without options that imagine another host, this one is read as it is now.

A policy is TOML (or JSON, in a file that ends in .json); what it leaves out is as in the default:
  [memory]        # all in MiB
  guest = { table = [[1024, 378], [2048, 512], [4096, 1024], [8192, 1536], [16384, 2048]] }
  minimum = 128   # less is not worth starting
  reserve = { percent = 10, min = 128, max = 512 }   # of the host's RAM, stays free for the host
  overhead = 128  # what the hypervisor takes beside the guest's RAM
  floor = { percent = 25, min = 128 }                # of the guest's RAM, never taken from it
  [cpus]
  guest = { percent = 50, min = 1, max = 4 }         # of the host's processors
Every rule may be a number, a share with `percent`, `min` and `max`, or a `table` of [host, guest].
`ceiling` in [memory] is one that bounds how far a guest's RAM may grow.

EXAMPLES
  medley machine plan
  medley machine plan --host-memory 8G --free 1.5G --cpus 8
  medley machine plan --cgroup-limit 2G --cpu-limit 1.5
  medley machine plan --policy office.toml --json | jq .guest_mib")]
pub struct Plan {
    /// Imagine a host with so much RAM, idle and in no control group
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "Another host")]
    host_memory: Option<u64>,
    /// Imagine so much memory to be available now
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "Another host")]
    free: Option<u64>,
    /// Imagine so much swap space
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "Another host")]
    swap: Option<u64>,
    /// Imagine a control group that is limited to so much memory
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "Another host")]
    cgroup_limit: Option<u64>,
    /// Imagine that the control group uses so much already
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "Another host",
          requires = "cgroup_limit")]
    cgroup_used: Option<u64>,
    /// Imagine so many processors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536),
          help_heading = "Another host")]
    cpus: Option<u32>,
    /// Imagine a control group that is limited to the time of so many processors
    #[arg(long, value_name = "N", value_parser = milli_cpus, help_heading = "Another host")]
    cpu_limit: Option<u64>,
    /// Plan by this policy instead of the default
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// `2` or `1.5`, in thousandths.
fn milli_cpus(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(cpus) if (0.001..=65536.0).contains(&cpus) => Ok((cpus * 1000.0).round() as u64),
        _ => Err("not a number of processors".into()),
    }
}

#[derive(Serialize)]
struct Planned {
    #[serde(flatten)]
    plan: medley_memory::Plan,
    host: Host,
    /// Whether the host is imagined, if only in part.
    simulated: bool,
    policy_file: Option<PathBuf>,
    policy: Policy,
}

impl Report for Planned {
    fn human(&self) -> String {
        let plan = &self.plan;
        let many = |n: u32| if n == 1 { "" } else { "s" };
        let mut fields = Fields::default();
        fields.row(
            "guest",
            format!(
                "{} MiB of RAM, {} processor{}",
                plan.guest_mib,
                plan.cpus,
                many(plan.cpus.into())
            ),
        );
        let host = &self.host;
        let ram = host.installed_mib.unwrap_or(host.total_mib);
        fields.row(
            "host",
            format!(
                "{} of RAM, {} available, {} processor{}{}",
                size::human(ram.saturating_mul(1 << 20)),
                size::human(host.available_mib.saturating_mul(1 << 20)),
                host.cpus,
                many(host.cpus),
                if self.simulated { "; imagined" } else { "" }
            ),
        );
        fields.row(
            "policy",
            match &self.policy_file {
                Some(path) => path.display().to_string(),
                None => "the default".into(),
            },
        );
        let why = &plan.why;
        for (name, sentences) in [
            ("memory", &why.memory),
            ("bounds", &why.bounds),
            ("processors", &why.cpus),
            ("pressure", &why.pressure),
        ] {
            for (index, sentence) in sentences.iter().enumerate() {
                match index {
                    0 => fields.row(name, sentence),
                    _ => fields.more(sentence),
                }
            }
        }
        fields.to_string()
    }
}

/// Runs it.
pub fn run(args: Plan, ui: Ui) -> Result<()> {
    let policy = match &args.policy {
        Some(path) => policy::read(path)?,
        None => Policy::default(),
    };
    let host = args.imagine(Host::read()?)?;
    let plan = policy.plan(&host)?;
    ui.show(&Planned {
        plan,
        simulated: args.imagines(),
        host,
        policy_file: args.policy,
        policy,
    })
}

impl Plan {
    fn imagines(&self) -> bool {
        let sizes = [
            self.host_memory,
            self.free,
            self.swap,
            self.cgroup_limit,
            self.cpu_limit,
        ];
        sizes.iter().any(Option::is_some) || self.cpus.is_some()
    }

    /// The host that the options describe; what they leave open is as here.
    fn imagine(&self, here: Host) -> Result<Host> {
        let mut host = here;
        if let Some(bytes) = self.host_memory {
            host = Host {
                cpus_allowed: host.cpus_allowed,
                quotas: host.quotas,
                pressure: host.pressure,
                ..Host::idle(bytes >> 20, host.cpus)
            };
        }
        if let Some(bytes) = self.free {
            host.available_mib = bytes >> 20;
            let ram = host.installed_mib.unwrap_or(host.total_mib);
            if host.available_mib > ram {
                return Err(Failure::usage(format!(
                    "--free {}: the host has only {ram} MiB; --host-memory imagines another",
                    size::human(bytes)
                )));
            }
        }
        if let Some(bytes) = self.swap {
            host.swap_mib = bytes >> 20;
        }
        let path = String::from("/imagined");
        if let Some(bytes) = self.cgroup_limit {
            host.groups = vec![Group {
                path: path.clone(),
                limit_mib: bytes >> 20,
                limit: Limit::Max,
                used_mib: self.cgroup_used.unwrap_or(0) >> 20,
            }];
        }
        if let Some(cpus) = self.cpus {
            (host.cpus, host.cpus_allowed) = (cpus, cpus);
            host.quotas.clear();
        }
        if let Some(milli_cpus) = self.cpu_limit {
            host.quotas = vec![Quota { path, milli_cpus }];
        }
        Ok(host)
    }
}
