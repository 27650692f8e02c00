//! The host's keymap in the guest, by the programs that every X installation has: `setxkbmap` for names,
//! `xkbcomp` for a whole keymap.
use anyhow::{Context, Result, bail};
use medley_wire::control::Keymap;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long one of the programs may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Loads it.
///
/// # Errors
/// A program is missing, or refuses the keymap.
pub fn load(display: &str, keymap: &Keymap<'_>) -> Result<()> {
    let text = keymap.compiled.as_str().unwrap_or_default();
    if !text.is_empty() {
        let mut child = Command::new("xkbcomp")
            .args(["-w0", "-", display])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run xkbcomp; install x11-xkb-utils in the guest")?;
        if let Some(mut input) = child.stdin.take() {
            // One that ends early has said why by its exit.
            let _ = input.write_all(text.as_bytes());
        }
        return wait(child, "xkbcomp");
    }
    let child = Command::new("setxkbmap")
        .args(names(display, keymap)?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run setxkbmap; install x11-xkb-utils in the guest")?;
    wait(child, "setxkbmap")
}

fn names(display: &str, keymap: &Keymap<'_>) -> Result<Vec<String>> {
    let mut arguments = vec!["-display".to_owned(), display.to_owned()];
    let named = [
        ("-model", keymap.model.as_str()),
        ("-layout", keymap.layout.as_str()),
        ("-variant", keymap.variant.as_str()),
    ];
    for (option, name) in named {
        let name = name.unwrap_or_default();
        check(name)?;
        // An empty variant is said, too: it ends the one before.
        if !name.is_empty() || option == "-variant" {
            arguments.extend([option.to_owned(), name.to_owned()]);
        }
    }
    let options = keymap.options.as_str().unwrap_or_default();
    check(options)?;
    // An empty option ends those before; setxkbmap adds to them otherwise.
    arguments.extend(["-option".to_owned(), String::new()]);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        arguments.extend(["-option".to_owned(), option.to_owned()]);
    }
    Ok(arguments)
}

/// Names of rules are plain words; what is none would be read as an option.
fn check(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_,:+().-/".contains(c);
    if name.starts_with('-') || !name.chars().all(plain) {
        bail!("the host's keymap has a name that is none");
    }
    Ok(())
}

fn wait(mut child: Child, name: &str) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{name} does not take the host's keymap ({status})"),
            None if Instant::now() >= until => {
                child.kill()?;
                child.wait()?;
                bail!("{name} did not end in {} seconds", PATIENCE.as_secs());
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medley_wire::Text;

    #[test]
    fn names_become_arguments_and_nothing_else() {
        let keymap = |layout, options| Keymap {
            repeat: [500, 30],
            model: Text::cut("pc105"),
            layout: Text::cut(layout),
            variant: Text::cut(""),
            options: Text::cut(options),
            compiled: Text::cut(""),
        };
        let got = names(":7", &keymap("de,us", "grp:alt_shift_toggle,ctrl:nocaps")).unwrap();
        assert_eq!(
            got,
            [
                "-display",
                ":7",
                "-model",
                "pc105",
                "-layout",
                "de,us",
                "-variant",
                "",
                "-option",
                "",
                "-option",
                "grp:alt_shift_toggle",
                "-option",
                "ctrl:nocaps"
            ]
        );
        for bad in ["-print", "us;x", "us us", "us\n", "$x"] {
            assert!(names(":7", &keymap(bad, "")).is_err(), "{bad}");
            assert!(names(":7", &keymap("us", bad)).is_err(), "{bad}");
        }
    }
}
