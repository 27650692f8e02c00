//! Zeros that take their space, for clients that will not run out of it later.

use vdisk::Disk;

static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// Writes zeros like any other data.
pub fn write_solid(disk: &Disk, offset: u64, len: u64) -> vdisk::Result<()> {
    let mut done = 0;
    while done < len {
        let piece = (len - done).min(ZEROS.len() as u64);
        disk.write_at(offset + done, &ZEROS[..piece as usize])?;
        done += piece;
    }
    Ok(())
}
