//! Archives that a kernel unpacks behind those it was given before: what they hold wins.

/// An archive ("newc") with one file that may be executed.
pub fn archive(path: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry(&mut bytes, path, 0o100_755, data);
    entry(&mut bytes, "TRAILER!!!", 0, &[]);
    bytes
}

fn entry(bytes: &mut Vec<u8>, path: &str, mode: usize, data: &[u8]) {
    // Inode, mode, uid, gid, links, mtime, size, device and special device as major and minor, length of
    // the name with its zero, checksum (unused).
    let (size, name) = (data.len(), path.len() + 1);
    let fields = [1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
    bytes.extend(b"070701");
    for field in fields {
        bytes.extend(format!("{field:08x}").bytes());
    }
    for part in [&[path.as_bytes(), b"\0"].concat(), data] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
}
