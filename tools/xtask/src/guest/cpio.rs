//! Writes the archive that a kernel unpacks as its first file system ("newc"), everything owned by
//! root whoever builds it.

/// An archive under construction.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

impl Archive {
    /// Adds a directory; parents come first.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY, &[]);
    }

    /// Adds a file that may be executed.
    pub fn file(&mut self, path: &str, data: &[u8]) {
        self.entry(path, EXECUTABLE, data);
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.entries += 1;
        let inode = self.entries;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        // Magic, then: inode, mode, uid, gid, links, mtime, size, device and special device as
        // major and minor, length of the name with its terminating zero, checksum (unused).
        let fields = [
            inode,
            mode,
            0,
            0,
            links,
            0,
            len(data.len()),
            0,
            0,
            0,
            0,
            len(path.len() + 1),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

// A kernel module or program of 4 GiB does not exist; the format could not hold it.
fn len(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn headers_and_data_are_aligned() {
        let mut archive = Archive::default();
        archive.directory("bin");
        archive.file("bin/a", b"12345");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..6], b"070701");
        let second = 116; // 110 bytes of header, "bin\0", padded
        assert_eq!(&bytes[second..second + 6], b"070701");
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
    }

    // The oracle: another implementation lists what we wrote.
    #[test]
    fn busybox_reads_it() {
        let mut archive = Archive::default();
        archive.directory("modules");
        archive.file("modules/order", b"x.ko\n");
        let Ok(mut cpio) = Command::new("busybox")
            .args(["cpio", "-t"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            eprintln!("skipped: busybox is not installed");
            return;
        };
        cpio.stdin
            .take()
            .unwrap()
            .write_all(&archive.finish())
            .unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "modules\nmodules/order\n"
        );
    }
}
