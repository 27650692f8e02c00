//! `medley network`: what a policy means for a guest's network, on this host.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use medley_network::{GuestDns, HostDns, Mode, NetworkPolicy, WayOut};
use serde::Serialize;

use crate::cmd::boot::read_network_policy;
use crate::exit::{Failure, Result};
use crate::output::{Fields, Report, Ui};

/// Verbs of `network`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
EXAMPLES
  medley network explain office.toml
  medley boot office.vhd --network-policy office.toml")]
pub enum Network {
    /// Say what a policy means, and what a guest would be told of names now
    Explain(Explain),
}

/// Options of `network explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
A policy is the section [network] of a TOML file (or JSON, in a file that ends in .json). What it leaves
out is as here:
  [network]
  mode = \"nat\"                       # none, nat, bridge
  dns = { mode = \"host\" }            # unchanged, host, fixed (with servers, append_host)
  search = { domains = [], append_host = false }
and without `allow` everything may be reached but the host's loopback. A list names what else not:
  allow = [\"10.0.0.0/8:443/tcp\", \"*.example.org:443/tcp\", \"[2001:db8::]/32\", \"192.0.2.1/icmp\"]
`bridge` names the host's bridge, with mode = \"bridge\".

EXAMPLES
  medley network explain
  medley network explain office.toml
  medley network explain office.toml --json | jq .names.servers")]
pub struct Explain {
    /// The policy's file [default: the default policy]
    #[arg(value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Runs one.
pub fn run(verb: Network, ui: Ui) -> Result<()> {
    match verb {
        Network::Explain(args) => explain(args, ui),
    }
}

#[derive(Serialize)]
struct Explained {
    policy_file: Option<PathBuf>,
    policy: NetworkPolicy,
    sentences: Vec<String>,
    /// What a guest is told of names; nothing where it has no network of ours.
    names: Option<Names>,
    /// Whether this host is in a network.
    online: bool,
}

#[derive(Serialize)]
struct Names {
    servers: Vec<std::net::IpAddr>,
    search: Vec<String>,
}

impl Report for Explained {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        fields.row(
            "policy",
            match &self.policy_file {
                Some(path) => path.display().to_string(),
                None => "the default".into(),
            },
        );
        for (index, sentence) in self.sentences.iter().enumerate() {
            match index {
                0 => fields.row("means", sentence),
                _ => fields.more(sentence),
            }
        }
        if let Some(names) = &self.names {
            let servers: Vec<_> = names.servers.iter().map(ToString::to_string).collect();
            let none = |list: String| if list.is_empty() { "none".into() } else { list };
            fields.row("servers", none(servers.join(", ")));
            fields.row("search", none(names.search.join(", ")));
        }
        if !self.online {
            fields.row("now", "this host is in no network");
        }
        fields.to_string()
    }
}

fn explain(args: Explain, ui: Ui) -> Result<()> {
    let policy = args
        .policy
        .as_deref()
        .map(read_network_policy)
        .transpose()?;
    let policy = policy.unwrap_or_default();
    let host = HostDns::read().map_err(Failure::io("read the host's name servers"))?;
    let way = WayOut::now().map_err(Failure::io("look at the host's routes"))?;
    let names = (policy.mode == Mode::Nat).then(|| {
        let dns = GuestDns::plan(&policy, &host);
        Names {
            servers: dns.resolvers(),
            search: dns.search,
        }
    });
    ui.show(&Explained {
        policy_file: args.policy,
        sentences: policy.explain(),
        policy,
        names,
        online: way.is_there(),
    })
}
