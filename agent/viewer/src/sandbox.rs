//! What the process may not do once it looks at a guest's screen: open a file or a connection. Its window, its
//! memory and the connection that it has stay; pictures of the host's own cursors may be read.
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use std::path::PathBuf;

/// Locks the calling thread in for good, and all that it starts. Returns how much of it the kernel enforces:
/// all, some or none; a kernel without landlock is no reason to show nothing, for what is decoded here is
/// decoded by safe code.
///
/// # Errors
/// The kernel refused rules that it should know.
pub fn enter() -> Result<&'static str, RulesetError> {
    let abi = ABI::V5;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()?;
    // Wayland's cursors are loaded when they are first needed.
    let icons = ["/usr/share/icons".into(), "/usr/share/pixmaps".into()];
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let own = home.map(|home| [home.join(".icons"), home.join(".local/share/icons")]);
    for folder in icons.into_iter().chain(own.into_iter().flatten()) {
        if let Ok(folder) = PathFd::new(folder) {
            rules = rules.add_rule(PathBeneath::new(folder, AccessFs::from_read(abi)))?;
        }
    }
    let status = rules.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "all",
        RulesetStatus::PartiallyEnforced => "some",
        RulesetStatus::NotEnforced => "none",
    })
}
