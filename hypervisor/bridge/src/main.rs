//! `medley-bridge-helper BRIDGE`: makes a tap device on a bridge of the host's, if the administrator lets
//! this user, and hands it to whoever is at the other end of its standard input.
//!
//! It is installed with CAP_NET_ADMIN (or setuid root) and is started by programs that have no right at all,
//! so whatever it reads is a stranger's: one argument, one socket, and nothing else. It reads no variable of
//! the environment, starts no program, and the only file it opens by name is the administrator's list. The
//! first thing it does is to give up every right but CAP_NET_ADMIN, the last is to give up that one before
//! it answers.
#![cfg_attr(not(target_os = "linux"), allow(unused))]

#[cfg(target_os = "linux")]
mod acl;
#[cfg(target_os = "linux")]
mod caller;
#[cfg(target_os = "linux")]
mod rights;
#[cfg(target_os = "linux")]
mod tap;

use std::process::ExitCode;

/// Where the administrator says who may join which bridge.
#[cfg(target_os = "linux")]
const LIST: &str = "/etc/medley/bridges.acl";

/// Why it is not done: a sentence, with the remedy.
type Refusal = String;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    // The usual hook asks the environment how much to tell.
    std::panic::set_hook(Box::new(|_| {}));
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            use std::io::Write;
            // Nobody may be listening any more.
            let _ = writeln!(std::io::stderr(), "medley-bridge-helper: {refusal}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    ExitCode::FAILURE
}

#[cfg(target_os = "linux")]
fn serve() -> Result<(), Refusal> {
    rights::keep_network_alone()?;
    let bridge = bridge_of(std::env::args_os())?;
    let caller = caller::socket()?;
    acl::List::read(std::path::Path::new(LIST))?.judge(&bridge, &caller::Caller::ourselves()?)?;
    let device = tap::on_bridge(&bridge)?;
    rights::keep_none()?;
    caller::hand_over(caller, &device)
}

/// The only argument: the name of an interface, and no option.
#[cfg(target_os = "linux")]
fn bridge_of(args: impl Iterator<Item = std::ffi::OsString>) -> Result<String, Refusal> {
    let args: Vec<_> = args.take(3).collect();
    let [_, name] = args.as_slice() else {
        return Err("wants one argument, the name of a bridge".into());
    };
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = name.to_str().filter(|name| {
        (1..=15).contains(&name.len())
            && name.chars().all(good)
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
    });
    name.map(str::to_owned).ok_or_else(|| {
        "the bridge's name is not 1 to 15 of A-Z a-z 0-9 - _ . with a letter or digit first".into()
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_argument_is_one_name() {
        let read = |args: &[&str]| bridge_of(args.iter().map(Into::into));
        assert_eq!(read(&["helper", "br-0.1"]).unwrap(), "br-0.1");
        for bad in [
            &["helper"][..],
            &[],
            &["helper", "br0", "br1"],
            &["helper", ""],
            &["helper", "--help"],
            &["helper", "../br0"],
            &["helper", "br%d"],
            &["helper", "sixteencharacter"],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
