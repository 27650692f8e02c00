//! What the process may do once it listens to a guest: read and write what is open, take memory, look at the
//! clock. It cannot open a file, start a program, or make a socket. What stays open is the way to the display:
//! X trusts every client, so that whoever took the process over could see and steer this desktop. Wayland's
//! compositors tell a client nothing of others, unless they offer it as an extension of theirs.
use crate::error::{Error, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;

/// How much of it the kernel enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforced {
    /// Landlock: all, some, or nothing of it. Without it, system calls are filtered all the same.
    pub landlock: &'static str,
}

/// Calls that are needed, whatever their arguments.
const NEEDED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_uname,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// Locks the calling thread in for good; there must be no other. Calls in `more` are allowed besides
/// [those](self) that every presenter needs: what the display's back end cannot do without.
///
/// # Errors
/// The kernel does not filter system calls. Nothing of the guest's may be read then.
pub fn enter(more: &[libc::c_long]) -> Result<Enforced> {
    let failed = |what: String| Error::Sandbox { what };
    // Also sets that no program started from here gains rights.
    let landlock = files().map_err(|error| failed(error.to_string()))?;
    let program = filter(more).map_err(|error| failed(error.to_string()))?;
    seccompiler::apply_filter(&program).map_err(|error| failed(error.to_string()))?;
    Ok(Enforced { landlock })
}

/// No file, no network: rules without a single exception.
fn files() -> Result<&'static str, landlock::RulesetError> {
    let abi = ABI::V5;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "all",
        RulesetStatus::PartiallyEnforced => "some",
        RulesetStatus::NotEnforced => "none",
    })
}

fn filter(more: &[libc::c_long]) -> Result<BpfProgram, seccompiler::BackendError> {
    let needed = NEEDED.iter().chain(more);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        needed.map(|call| (*call, Vec::new())).collect();
    // Memory, but none that can be executed.
    let plain = SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64),
        0,
    )?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![SeccompRule::new(vec![plain.clone()])?]);
    }
    // Not whom a descriptor signals, and how.
    let of = |command: libc::c_int| {
        let equal = SeccompCmpOp::Eq;
        let command = u64::from(command.unsigned_abs());
        let condition = SeccompCondition::new(1, SeccompCmpArgLen::Dword, equal, command)?;
        SeccompRule::new(vec![condition])
    };
    let harmless = [libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC];
    let harmless: Result<Vec<_>, _> = harmless.into_iter().map(of).collect();
    rules.insert(libc::SYS_fcntl, harmless?);
    // Abort, which is a signal to itself.
    let own = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::from(std::process::id()),
    )?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![own])?]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    filter.try_into()
}
