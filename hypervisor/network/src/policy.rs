//! The administrator's word about a workspace's network, and what it means in sentences.

use crate::error::{Error, ErrorKind, Result};
use crate::rule::{Rule, Target, host_name, interface_name};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// As many rules as are looked through for each packet without anybody feeling it.
const MOST_RULES: usize = 256;

/// A workspace's network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkPolicy {
    /// How the guest reaches the world.
    pub mode: Mode,
    /// With [`Mode::Bridge`]: which of the host's bridges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Which name servers it is told.
    pub dns: DnsPolicy,
    /// Which search domains it is told.
    pub search: SearchPolicy,
    /// What it may reach; without this list everything, with an empty one nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<Rule>>,
}

/// How a guest reaches the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Not at all.
    None,
    /// Behind the host's address.
    #[default]
    Nat,
    /// With an address of its own.
    Bridge,
}

/// Which name servers the guest is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsPolicy {
    /// Whose.
    pub mode: DnsMode,
    /// With [`DnsMode::Fixed`]: the primary one, and the secondary one if any.
    pub servers: Vec<IpAddr>,
    /// With [`DnsMode::Fixed`]: the host's as well, after these.
    pub append_host: bool,
}

/// Whose name servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsMode {
    /// Those the image has.
    Unchanged,
    /// The host's, as they change.
    #[default]
    Host,
    /// The policy's.
    Fixed,
}

/// Which search domains the guest is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchPolicy {
    /// These first.
    pub domains: Vec<String>,
    /// Then the host's.
    pub append_host: bool,
}

impl NetworkPolicy {
    /// Refuses what cannot be, naming the field.
    pub fn validate(&self) -> Result<()> {
        let bad = |field: &str, why: String| Err(Error::new(ErrorKind::BadPolicy, field, why));
        match (&self.bridge, self.mode) {
            (Some(_), Mode::None | Mode::Nat) => {
                return bad("network.bridge", "needs mode = \"bridge\"".into());
            }
            (Some(name), Mode::Bridge) => {
                if let Err(why) = interface_name(name) {
                    return bad("network.bridge", why);
                }
            }
            (None, _) => {}
        }
        if self.mode == Mode::Bridge {
            let why = "a bridged guest asks its own network; leave it out, or use mode = \"nat\"";
            if self.dns.mode == DnsMode::Fixed {
                return bad("network.dns.mode", why.into());
            }
            if self.search != SearchPolicy::default() {
                return bad("network.search", why.into());
            }
        }
        let servers = &self.dns.servers;
        match self.dns.mode {
            DnsMode::Fixed if !(1..=2).contains(&servers.len()) => {
                return bad(
                    "network.dns.servers",
                    "wants one or two with mode = \"fixed\"".into(),
                );
            }
            DnsMode::Unchanged | DnsMode::Host if !servers.is_empty() => {
                return bad("network.dns.servers", "needs mode = \"fixed\"".into());
            }
            DnsMode::Unchanged | DnsMode::Host if self.dns.append_host => {
                return bad("network.dns.append_host", "needs mode = \"fixed\"".into());
            }
            _ => {}
        }
        for (index, server) in servers.iter().enumerate() {
            if crate::dns::is_martian(*server) {
                return bad(
                    &format!("network.dns.servers[{index}]"),
                    format!("no guest can reach {server}"),
                );
            }
        }
        if self.search.domains.len() > 16 {
            return bad("network.search.domains", "more than 16".into());
        }
        for (index, domain) in self.search.domains.iter().enumerate() {
            if host_name(domain).is_none() {
                return bad(
                    &format!("network.search.domains[{index}]"),
                    format!("{domain:?} is not a domain"),
                );
            }
        }
        let Some(rules) = &self.allow else {
            return Ok(());
        };
        if self.mode == Mode::Bridge {
            return bad(
                "network.allow",
                "a bridged guest cannot be held to a list; use mode = \"nat\"".into(),
            );
        }
        if rules.len() > MOST_RULES {
            return bad("network.allow", format!("more than {MOST_RULES} rules"));
        }
        let named = |rule: &Rule| matches!(rule.target, Target::Name { .. });
        match rules.iter().position(named) {
            Some(index) if self.dns.mode == DnsMode::Unchanged => bad(
                &format!("network.allow[{index}]"),
                "a host name needs name servers that we know; set network.dns.mode to \"host\" or \"fixed\"".into(),
            ),
            _ => Ok(()),
        }
    }

    /// What it means, a sentence for each thing.
    pub fn explain(&self) -> Vec<String> {
        let mut said = vec![
            match self.mode {
                Mode::None => "The guest has no network.",
                Mode::Nat => "The guest speaks with the host's address; nobody can call it.",
                Mode::Bridge => "The guest has an address of its own in the host's network.",
            }
            .to_owned(),
        ];
        if self.mode == Mode::None {
            return said;
        }
        if self.mode == Mode::Bridge {
            said.push(
                "What it may reach and what it is told about names is up to that network.".into(),
            );
            return said;
        }
        let list = |items: &[String]| items.join(", ");
        let servers: Vec<_> = self.dns.servers.iter().map(IpAddr::to_string).collect();
        said.push(match (self.dns.mode, self.dns.append_host) {
            (DnsMode::Unchanged, _) => "Its name servers are those of its image.".into(),
            (DnsMode::Host, _) => "Its name servers are the host's, as they change.".into(),
            (DnsMode::Fixed, false) => format!("Its name servers are {}.", list(&servers)),
            (DnsMode::Fixed, true) => {
                format!("Its name servers are {}, then the host's.", list(&servers))
            }
        });
        match (self.search.domains.as_slice(), self.search.append_host) {
            ([], false) => {}
            ([], true) => said.push("It searches names in the host's domains.".into()),
            (domains, false) => said.push(format!("It searches names in {}.", list(domains))),
            (domains, true) => said.push(format!(
                "It searches names in {}, then in the host's domains.",
                list(domains)
            )),
        }
        said.push(match self.allow.as_deref() {
            None => "It may reach everything but the host's loopback.".into(),
            Some([]) => "It may reach nothing, and ask for no name.".into(),
            Some(rules) => {
                let rules: Vec<_> = rules.iter().map(Rule::to_string).collect();
                format!("It may reach and ask for nothing but {}.", list(&rules))
            }
        });
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NetworkPolicy, String> {
        let policy: NetworkPolicy = toml::from_str(text).map_err(|error| error.to_string())?;
        policy.validate().map_err(|error| error.to_string())?;
        Ok(policy)
    }

    #[test]
    fn a_whole_policy_is_read_and_explained() {
        let policy = read(
            "mode = \"nat\"\nallow = [\"10.0.0.0/8:443/tcp\", \"*.example.org\"]\n\
             [dns]\nmode = \"fixed\"\nservers = [\"192.0.2.1\"]\nappend_host = true\n\
             [search]\ndomains = [\"a.example\"]\n",
        )
        .unwrap();
        assert_eq!(
            policy.explain(),
            [
                "The guest speaks with the host's address; nobody can call it.",
                "Its name servers are 192.0.2.1, then the host's.",
                "It searches names in a.example.",
                "It may reach and ask for nothing but 10.0.0.0/8:443/tcp, *.example.org.",
            ]
        );
        assert_eq!(read("").unwrap(), NetworkPolicy::default());
        assert_eq!(read(&toml_of(&policy)).unwrap(), policy);
    }

    fn toml_of(policy: &NetworkPolicy) -> String {
        let rules: Vec<_> = policy
            .allow
            .iter()
            .flatten()
            .map(|r| format!("{:?}", r.to_string()))
            .collect();
        format!(
            "allow = [{}]\ndns = {{ mode = \"fixed\", servers = [\"192.0.2.1\"], append_host = true }}\n\
             search = {{ domains = [\"a.example\"] }}",
            rules.join(",")
        )
    }

    #[test]
    fn errors_name_the_field() {
        for (text, field) in [
            ("nat = 1", "nat"),
            ("dns = { servers = [\"192.0.2.1\"] }", "network.dns.servers"),
            ("dns = { mode = \"fixed\" }", "network.dns.servers"),
            ("dns = { append_host = true }", "network.dns.append_host"),
            (
                "dns = { mode = \"fixed\", servers = [\"127.0.0.1\"] }",
                "network.dns.servers[0]",
            ),
            (
                "search = { domains = [\"a\", \"b c\"] }",
                "network.search.domains[1]",
            ),
            ("mode = \"bridge\"\nallow = []", "network.allow"),
            ("bridge = \"br0\"", "network.bridge"),
            ("mode = \"bridge\"\nbridge = \"-x\"", "network.bridge"),
            (
                "mode = \"bridge\"\ndns = { mode = \"fixed\", servers = [\"192.0.2.1\"] }",
                "network.dns.mode",
            ),
            (
                "mode = \"bridge\"\nsearch = { append_host = true }",
                "network.search",
            ),
            (
                "allow = [\"192.0.2.1\", \"a.example\"]\ndns = { mode = \"unchanged\" }",
                "network.allow[1]",
            ),
            ("allow = [\"10.0.0.1/8\"]", "did you mean 10.0.0.0/8"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(field), "{text}: {error}");
        }
    }
}
