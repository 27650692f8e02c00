//! Serves a disk in memory until standard input ends: `memory nbd|vhost SOCKET MIB`
//! or `memory fuse MOUNTPOINT MIB [THREADS]`. For trying out clients and measuring frontends.

use std::io::Read;

use vdisk::{Disk, memory::MemoryDisk};
use vdisk_frontends::fuse::{FuseMount, FuseOptions};
use vdisk_frontends::nbd::{NbdOptions, NbdServer};
use vdisk_frontends::vhost_user::{VhostUserOptions, VhostUserServer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kind, path, mebibytes, rest @ ..] = &args[..] else {
        return Err("usage: memory nbd|vhost|fuse PATH MIB [THREADS]".into());
    };
    let len = mebibytes.parse::<usize>()? << 20;
    // Not zeros: clients treat holes differently.
    let bytes = (0..len).map(|at| (at >> 9) as u8 | 1).collect();
    let disk = Disk::new(MemoryDisk::with(bytes, false));
    let wait = || std::io::stdin().read_to_end(&mut Vec::new());
    match kind.as_str() {
        "nbd" => {
            let server = NbdServer::bind(path, disk, NbdOptions::default())?;
            println!("{}", server.uri());
            wait()?;
            println!("{:#?}", server.stats());
            server.shutdown()?;
        }
        "vhost" => {
            let server = VhostUserServer::bind(path, disk, VhostUserOptions::default())?;
            println!("{}", server.path().display());
            wait()?;
            println!("{:#?}", server.stats());
            server.shutdown()?;
        }
        "fuse" => {
            let mut options = FuseOptions::new([0; 512]);
            options.threads = rest.first().map_or(Ok(0), |threads| threads.parse())?;
            let mount = FuseMount::mount(path, disk, options)?;
            println!("{}", mount.raw().display());
            wait()?;
            println!("{:#?}", mount.stats());
            println!("{:?}", mount.unmount()?);
        }
        other => return Err(format!("{other}: none of nbd, vhost, fuse").into()),
    }
    Ok(())
}
