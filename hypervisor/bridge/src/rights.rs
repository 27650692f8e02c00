//! The rights of this process: what it is installed with, less whatever it does not need.

use crate::Refusal;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{getgid, getuid, setresgid, setresuid};

/// Gives up every right but CAP_NET_ADMIN, and is the user that started us, for good.
pub fn keep_network_alone() -> Result<(), Refusal> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what}: {error}");
    // Nobody may look into us or steer us, though we are theirs by name.
    prctl::set_dumpable(false).map_err(|error| failed("hide", &error))?;
    prctl::set_keepcaps(true).map_err(|error| failed("keep a right", &error))?;
    let (user, group) = (getuid(), getgid());
    setresgid(group, group, group).map_err(|error| failed("leave root's group", &error))?;
    setresuid(user, user, user).map_err(|error| failed("be you", &error))?;
    prctl::set_keepcaps(false).map_err(|error| failed("keep no more rights", &error))?;
    prctl::set_no_new_privs().map_err(|error| failed("renounce other programs' rights", &error))?;
    let permitted = caps::read(None, CapSet::Permitted)
        .map_err(|error| failed("ask for our rights", &error))?;
    if !permitted.contains(&Capability::CAP_NET_ADMIN) {
        return Err(
            "it may not change networks; as root, setcap cap_net_admin+ep this program, or use nat"
                .into(),
        );
    }
    set(&CapsHashSet::from([Capability::CAP_NET_ADMIN]))
}

/// Gives up the last one, too.
pub fn keep_none() -> Result<(), Refusal> {
    set(&CapsHashSet::new())
}

fn set(rights: &CapsHashSet) -> Result<(), Refusal> {
    let none = CapsHashSet::new();
    // What is used may never be more than what is had, so it goes first.
    for (set, rights) in [
        (CapSet::Effective, rights),
        (CapSet::Inheritable, &none),
        (CapSet::Permitted, rights),
    ] {
        caps::set(None, set, rights).map_err(|error| format!("cannot give up rights: {error}"))?;
        let now =
            caps::read(None, set).map_err(|error| format!("cannot ask for our rights: {error}"))?;
        if now != *rights {
            return Err("the kernel did not take our rights".into());
        }
    }
    Ok(())
}
