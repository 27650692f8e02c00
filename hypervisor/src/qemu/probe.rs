//! Does KVM work here? Measured with a guest of our own, because a device node promises nothing:
//! it may refuse to make a machine, make one that never runs, or, where the hypervisor below us
//! offers no virtualisation of its own, run one by emulating every single instruction.
//!
//! The guest is a firmware of 177 bytes. It enters 64-bit mode through page tables of its own, as
//! every system does, runs twenty million rounds of a small loop, and reports each step as a byte
//! on QEMU's debug console. It takes a moment where KVM works, and never ends where it does not.

use super::argv;
use super::process::Process;
use crate::{Acceleration, Accelerator};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long QEMU may take to start and the guest to its first report, on a busy machine with cold files.
const START_WITHIN: Duration = Duration::from_secs(5);
/// How long KVM may take from there on: twenty times what it takes where it works.
const KVM_WITHIN: Duration = Duration::from_millis(1200);
/// How long TCG may take for the comparison.
const TCG_WITHIN: Duration = Duration::from_millis(700);

/// The laps the guest reports, of 50,000 rounds each.
const LAPS: u32 = 400;

/// The guest's program, at the bottom of the firmware's segment, `F000:0000`.
#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    // -- 16 bits --
    0xfa,                                                 // cli
    0xfc,                                                 // cld
    0xb0, b'R', 0xe6, 0xe9,                               // report 'R'
    // Page tables at 0x1000: one page of 2 MiB, mapped to itself.
    0x66, 0x31, 0xc0,                                     // xor eax, eax
    0x8e, 0xc0,                                           // mov es, ax
    0x66, 0xbf, 0x00, 0x10, 0x00, 0x00,                   // mov edi, 0x1000
    0x66, 0xb9, 0x00, 0x0c, 0x00, 0x00,                   // mov ecx, 0xc00
    0xf3, 0x66, 0x67, 0xab,                               // rep stosd
    0x26, 0x66, 0xc7, 0x06, 0x00, 0x10, 0x03, 0x20, 0, 0, // mov dword [es:0x1000], 0x2003
    0x26, 0x66, 0xc7, 0x06, 0x00, 0x20, 0x03, 0x30, 0, 0, // mov dword [es:0x2000], 0x3003
    0x26, 0x66, 0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, 0, 0, // mov dword [es:0x3000], 0x83
    0x66, 0xb8, 0x20, 0x00, 0x00, 0x00,                   // mov eax, 0x20 (physical address extension)
    0x0f, 0x22, 0xe0,                                     // mov cr4, eax
    0x66, 0xb8, 0x00, 0x10, 0x00, 0x00,                   // mov eax, 0x1000
    0x0f, 0x22, 0xd8,                                     // mov cr3, eax
    0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0,                   // mov ecx, 0xc0000080 (EFER)
    0x0f, 0x32,                                           // rdmsr
    0x0d, 0x00, 0x01,                                     // or ax, 0x100 (long mode)
    0x0f, 0x30,                                           // wrmsr
    0x2e, 0x66, 0x0f, 0x01, 0x16, 0x70, 0x00,             // lgdt [cs:0x70]
    0x66, 0xb8, 0x01, 0x00, 0x00, 0x80,                   // mov eax, 0x80000001 (paging, protection)
    0x0f, 0x22, 0xc0,                                     // mov cr0, eax
    0x66, 0xea, 0x88, 0x00, 0x0f, 0x00, 0x08, 0x00,       // jmp 8:0xf0088
    // 0x70: the segment table's size and address, padding, the null segment, 64-bit code.
    0x0f, 0x00, 0x78, 0x00, 0x0f, 0x00, 0x90, 0x90,
    0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0x9b, 0x20, 0,
    // -- 0x88: 64 bits --
    0xb0, b'L', 0xe6, 0xe9,                               // report 'L'
    0xbb, 0x90, 0x01, 0x00, 0x00,                         // mov ebx, 400
    0xb9, 0x50, 0xc3, 0x00, 0x00,                         // lap: mov ecx, 50000
    0x48, 0x8d, 0x04, 0x08,                               // round: lea rax, [rax + rcx]
    0xff, 0xc9,                                           // dec ecx
    0x75, 0xf8,                                           // jnz round
    0xb0, b'.', 0xe6, 0xe9,                               // report '.'
    0xff, 0xcb,                                           // dec ebx
    0x75, 0xeb,                                           // jnz lap
    0xb0, b'D', 0xe6, 0xe9,                               // report 'D'
    0xb0, 0x2a, 0xe6, 0xf4,                               // end QEMU
    0xf4,                                                 // hlt
    0xeb, 0xfd,                                           // jmp -3
];

/// The processor's first instruction, 16 bytes below the firmware's end: `jmp F000:0000`.
const RESET: &[u8] = &[0xea, 0x00, 0x00, 0x00, 0xf0];

/// How far the guest came.
#[derive(Clone, Debug, PartialEq)]
enum Run {
    /// To its end, in this time from its first report.
    Done(Duration),
    /// So many laps, then the time was over.
    Stuck { reached_64_bits: bool, laps: u32 },
    /// QEMU gave up, with these words.
    Refused(String),
}

/// Measures, within two seconds once QEMU runs, and never fails: TCG is the answer when in doubt.
pub(super) fn measure(qemu: &Path) -> Acceleration {
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        let reason = format!("/dev/kvm cannot be opened: {error}");
        return Acceleration {
            accelerator: Accelerator::Tcg,
            reason,
        };
    }
    let kvm = run(qemu, Accelerator::Kvm, KVM_WITHIN);
    // Only a KVM that works is worth comparing.
    let tcg = matches!(kvm, Run::Done(_)).then(|| run(qemu, Accelerator::Tcg, TCG_WITHIN));
    judge(&kvm, tcg.as_ref())
}

fn judge(kvm: &Run, tcg: Option<&Run>) -> Acceleration {
    let (accelerator, reason) = match (kvm, tcg) {
        (Run::Done(kvm), Some(Run::Done(tcg))) if kvm > tcg => (
            Accelerator::Tcg,
            format!("KVM runs a test guest in {kvm:.0?}, slower than TCG's {tcg:.0?}"),
        ),
        (Run::Done(kvm), Some(Run::Done(tcg))) => (
            Accelerator::Kvm,
            format!("KVM runs a test guest in {kvm:.0?}, TCG in {tcg:.0?}"),
        ),
        (Run::Done(kvm), _) => (
            Accelerator::Kvm,
            format!("KVM runs a test guest in {kvm:.0?}"),
        ),
        (Run::Refused(words), _) => (
            Accelerator::Tcg,
            format!("/dev/kvm opens but makes no machine: {words}"),
        ),
        (
            Run::Stuck {
                reached_64_bits: true,
                laps,
            },
            _,
        ) => (
            Accelerator::Tcg,
            format!(
                "/dev/kvm opens but does not run guests at a useful speed: {:.1} % of a test \
                 guest's work in {KVM_WITHIN:.1?}",
                f64::from(*laps) * 100.0 / f64::from(LAPS)
            ),
        ),
        (Run::Stuck { .. }, _) => (
            Accelerator::Tcg,
            "/dev/kvm opens but a guest does not run: it never reached 64-bit mode".into(),
        ),
    };
    Acceleration {
        accelerator,
        reason,
    }
}

fn run(qemu: &Path, accelerator: Accelerator, within: Duration) -> Run {
    try_run(qemu, accelerator, within).unwrap_or_else(|error| Run::Refused(error.to_string()))
}

fn try_run(qemu: &Path, accelerator: Accelerator, within: Duration) -> io::Result<Run> {
    let mut deadline = Instant::now() + START_WITHIN;
    let firmware = firmware()?;
    let (mut console, theirs) = UnixStream::pair()?;
    let mut command = Command::new(qemu);
    command
        .args(argv::confined())
        .args(argv::accelerated(accelerator))
        .args(["-m", "16M", "-no-reboot"])
        .arg("-bios")
        .arg(format!("/proc/self/fd/{}", firmware.as_raw_fd()))
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .arg("-chardev")
        .arg(format!("socket,id=console,fd={}", theirs.as_raw_fd()))
        .args(["-device", "isa-debugcon,iobase=0xe9,chardev=console"]);
    let qemu = Process::spawn(command, vec![firmware, theirs.into()], |_| {})?;

    let mut began = None;
    let mut reports = Vec::new();
    let mut buffer = [0; 512];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        console.set_read_timeout(Some(left))?;
        match console.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let began = *began.get_or_insert_with(|| {
                    deadline = Instant::now() + within;
                    Instant::now()
                });
                reports.extend_from_slice(&buffer[..count]);
                if reports.last() == Some(&b'D') {
                    return Ok(Run::Done(began.elapsed()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    let grace = deadline.saturating_duration_since(Instant::now());
    Ok(match qemu.wait(grace) {
        Some(ended) => Run::Refused(ended.stderr),
        None => Run::Stuck {
            reached_64_bits: reports.contains(&b'L'),
            laps: LAPS.min(reports.iter().filter(|report| **report == b'.').count() as u32),
        },
    })
}

/// The firmware in a nameless file: nothing to clean up, whatever happens.
fn firmware() -> io::Result<OwnedFd> {
    let mut image = vec![0; 64 << 10];
    image[..PROGRAM.len()].copy_from_slice(PROGRAM);
    let reset = image.len() - 16;
    image[reset..reset + RESET.len()].copy_from_slice(RESET);
    let mut file = File::from(memfd_create(c"medley-probe", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&image)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn kvm_is_taken_when_it_is_faster() {
        let verdict = judge(&Run::Done(9 * MS), Some(&Run::Done(70 * MS)));
        assert_eq!(verdict.accelerator, Accelerator::Kvm);
        assert!(verdict.reason.contains("9ms"), "{}", verdict.reason);
        let alone = judge(&Run::Done(9 * MS), Some(&Run::Refused("no tcg".into())));
        assert_eq!(alone.accelerator, Accelerator::Kvm);
    }

    #[test]
    fn every_other_outcome_is_tcg_with_its_reason() {
        let reason = |run: &Run, tcg: Option<&Run>| {
            let verdict = judge(run, tcg);
            assert_eq!(verdict.accelerator, Accelerator::Tcg);
            verdict.reason
        };
        let slow = reason(&Run::Done(900 * MS), Some(&Run::Done(70 * MS)));
        assert!(slow.contains("slower"), "{slow}");
        let emulated = reason(
            &Run::Stuck {
                reached_64_bits: true,
                laps: 2,
            },
            None,
        );
        assert!(emulated.contains("0.5 %"), "{emulated}");
        let stuck = reason(
            &Run::Stuck {
                reached_64_bits: false,
                laps: 0,
            },
            None,
        );
        assert!(stuck.contains("does not run"), "{stuck}");
        let refused = reason(&Run::Refused("no VMX".into()), None);
        assert!(refused.contains("no VMX"), "{refused}");
    }

    #[test]
    fn a_qemu_that_hangs_or_fails_is_bounded() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let program = |script: &str| {
            let program = folder.path().join(script.replace([' ', '/'], "-"));
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
            program
        };
        let began = Instant::now();
        let hung = run(&program("exec sleep 60"), Accelerator::Tcg, 300 * MS);
        assert_eq!(
            hung,
            Run::Stuck {
                reached_64_bits: false,
                laps: 0
            }
        );
        let failed = run(
            &program("echo broken >&2"),
            Accelerator::Tcg,
            Duration::from_secs(10),
        );
        assert_eq!(failed, Run::Refused("broken".into()));
        let absent = run(Path::new("/nonexistent"), Accelerator::Tcg, 300 * MS);
        assert!(matches!(absent, Run::Refused(_)));
        assert!(began.elapsed() < START_WITHIN + Duration::from_secs(5));
    }
}
