//! What an administrator says about a guest's size.

use crate::{Error, ErrorKind, Result, Rule};
use serde::{Deserialize, Serialize};

/// How to size a guest. Every part may be left out of a policy's file; what is not there is as in
/// [`Policy::default`]. As TOML, the default is
///
/// ```toml
/// [memory]                   # all in MiB
/// guest = { table = [[1024, 378], [2048, 512], [4096, 1024], [8192, 1536], [16384, 2048]] }
/// minimum = 128              # less is not worth starting
/// reserve = { percent = 10, min = 128, max = 512 }   # of the host's RAM, stays free for the host
/// overhead = 128             # what the hypervisor takes beside the guest's RAM
/// floor = { percent = 25, min = 128 }                # of the guest's RAM, never taken from it
///
/// [cpus]
/// guest = { percent = 50, min = 1, max = 4 }         # of the host's processors
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Its RAM.
    pub memory: MemoryPolicy,
    /// Its processors.
    pub cpus: CpuPolicy,
}

/// How much RAM. All figures in MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryPolicy {
    /// The guest's RAM, by the RAM of the host or of the control group that limits it.
    pub guest: Rule,
    /// Less than this is not worth starting.
    pub minimum: u64,
    /// What stays free for the host when the guest uses all of its RAM, by the host's RAM. Less than
    /// this free is what a running guest answers to.
    pub reserve: Rule,
    /// What the hypervisor's process takes beside the guest's RAM.
    pub overhead: u64,
    /// What the balloon never takes from the guest, by the guest's RAM.
    pub floor: Rule,
    /// The most the guest's RAM may grow to while it runs, by the host's RAM; without a rule, all
    /// but the reserve and the overhead, which is the limit in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Rule>,
}

/// How many processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CpuPolicy {
    /// The guest's processors, by those that this process may use.
    pub guest: Rule,
}

impl Default for MemoryPolicy {
    /// MED-V's table; room for a host that is idle to give what the table says.
    fn default() -> MemoryPolicy {
        MemoryPolicy {
            guest: Rule::Table {
                table: vec![
                    (1024, 378),
                    (2048, 512),
                    (4096, 1024),
                    (8192, 1536),
                    (16384, 2048),
                ],
            },
            minimum: 128,
            reserve: Rule::Share {
                percent: 10,
                min: 128,
                max: Some(512),
            },
            overhead: 128,
            floor: Rule::Share {
                percent: 25,
                min: 128,
                max: None,
            },
            ceiling: None,
        }
    }
}

impl Default for CpuPolicy {
    /// Half of them, at most 4: a guest that is busy leaves the host's own programs room.
    fn default() -> CpuPolicy {
        CpuPolicy {
            guest: Rule::Share {
                percent: 50,
                min: 1,
                max: Some(4),
            },
        }
    }
}

impl Policy {
    /// Whether every rule can be followed; fails with [`ErrorKind::BadPolicy`] and the field's path.
    /// A policy that was read from a file has been checked but for this call's last lines.
    pub fn check(&self) -> Result<()> {
        let memory = &self.memory;
        let rules = [
            ("memory.guest", Some(&memory.guest)),
            ("memory.reserve", Some(&memory.reserve)),
            ("memory.floor", Some(&memory.floor)),
            ("memory.ceiling", memory.ceiling.as_ref()),
            ("cpus.guest", Some(&self.cpus.guest)),
        ];
        let bad = |field: &str, why: String| {
            Error::new(ErrorKind::BadPolicy, format!("policy, {field}"), why)
        };
        for (field, rule) in rules {
            let checked = rule.map_or(Ok(()), Rule::check);
            checked.map_err(|why| bad(field, why))?;
        }
        match memory.minimum {
            0 => Err(bad("memory.minimum", "0 is too little".into())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_its_documentation_says() {
        let lines = include_str!("policy.rs").lines();
        let documented: Vec<&str> = lines
            .skip_while(|line| *line != "/// ```toml")
            .skip(1)
            .take_while(|line| *line != "/// ```")
            .map(|line| line.trim_start_matches("///"))
            .collect();
        assert!(documented.len() > 8);
        let policy: Policy = toml::from_str(&documented.join("\n")).unwrap();
        assert_eq!(policy, Policy::default());
        assert_eq!(toml::from_str::<Policy>("").unwrap(), Policy::default());
        policy.check().unwrap();
    }

    #[test]
    fn a_part_of_a_policy_leaves_the_rest_as_it_is() {
        let policy: Policy = toml::from_str("[memory]\nguest = 3712\n").unwrap();
        let mut expected = Policy::default();
        expected.memory.guest = Rule::Fixed(3712);
        assert_eq!(policy, expected);
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
    }

    #[test]
    fn a_bad_policy_is_refused_with_its_field() {
        let mut policy = Policy::default();
        policy.memory.guest = Rule::Table { table: vec![] };
        let error = policy.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadPolicy);
        assert!(error.to_string().contains("memory.guest"), "{error}");
        for text in [
            "[memory]\nguset = 4",
            "[cpu]\nguest = 4",
            "[memory]\nminimum = -1",
        ] {
            assert!(toml::from_str::<Policy>(text).is_err(), "{text}");
        }
        let zero: Policy = toml::from_str("[memory]\nminimum = 0").unwrap();
        assert!(zero.check().is_err());
    }
}
