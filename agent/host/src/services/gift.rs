//! A file of the host's for the guest: opened here, since the presenter can open none, and judged as those are
//! that come out.
use super::scan::scan;
use crate::policy::Filter;
use medley_wire::limits::FILE_NAME_BYTES;
use medley_wire::{Text, Untrusted};
use nix::libc;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A file that may go.
#[derive(Debug)]
pub(crate) struct Gift {
    /// What the guest may call it.
    pub name: String,
    /// Its bytes as it was opened.
    pub size: u64,
    /// It, for reading.
    pub file: File,
    /// What was said of it.
    pub verdict: &'static str,
}

/// Opens a file. The last part of its path must be no link.
///
/// # Errors
/// It is none, or may not go: in words.
pub(crate) fn open(path: &Path, filter: &Filter) -> Result<Gift, String> {
    let shown = path.display();
    let name = path.file_name().unwrap_or_default();
    let name = name.to_str().and_then(|name| {
        let claim = Untrusted::claim(Text::<FILE_NAME_BYTES>::whole(name)?);
        claim.file_name()
    });
    let name = name.ok_or_else(|| {
        format!(
            "{shown}: a file cannot be called so in every system; send a copy with another name"
        )
    })?;
    if !filter.takes(name.as_str()) {
        return Err(format!(
            "{shown}: the workspace takes no files of this kind"
        ));
    }
    let failed = |error: std::io::Error| format!("{shown}: cannot be opened: {error}");
    let file = File::options()
        .read(true)
        // Neither a link nor a pipe that would be waited for.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(format!("{shown}: not a file"));
    }
    let (size, most) = (meta.len(), filter.bytes);
    if size > most {
        return Err(format!(
            "{shown}: larger than the {most} bytes that the workspace takes"
        ));
    }
    let verdict = match &filter.scan {
        Some(program) => {
            scan(program, path, filter.patience()).map_err(|why| format!("{shown}: {why}"))?;
            "clean"
        }
        None => "not scanned",
    };
    Ok(Gift {
        name: name.as_str().to_owned(),
        size,
        file,
        verdict,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a.pdf"), "12345").unwrap();
        std::fs::write(path("a.sh"), "1").unwrap();
        std::fs::write(path("a:b"), "1").unwrap();
        symlink(path("a.pdf"), path("link.pdf")).unwrap();
        nix::unistd::mkfifo(&path("pipe.pdf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let filter = Filter::default();
        let gift = open(&path("a.pdf"), &filter).unwrap();
        assert_eq!((gift.name.as_str(), gift.size), ("a.pdf", 5));
        for (bad, why) in [
            ("a.sh", "of this kind"),
            ("a:b", "another name"),
            ("link.pdf", "cannot be opened"),
            ("pipe.pdf", "not a file"),
            ("none.pdf", "cannot be opened"),
            ("..", "another name"),
        ] {
            let error = open(&path(bad), &filter).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
        let small = Filter {
            bytes: 4,
            ..Filter::default()
        };
        assert!(open(&path("a.pdf"), &small).unwrap_err().contains("larger"));
        let strict = Filter {
            scan: Some("/bin/false".into()),
            ..Filter::default()
        };
        let error = open(&path("a.pdf"), &strict).unwrap_err();
        assert!(error.contains("does not call it clean"), "{error}");
    }
}
