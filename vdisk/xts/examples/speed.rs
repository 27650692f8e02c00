//! Prints what each kernel does on one thread: `cargo run --release -p vdisk-xts --example speed`.

use std::time::Duration;

use vdisk_xts::{DataUnit, Error, Kernel, speed};

fn main() -> Result<(), Error> {
    println!(
        "{:<10} {:>6} {:>9} {:>9}",
        "kernel", "unit", "request", "GB/s"
    );
    for kernel in Kernel::all_available() {
        for unit in [DataUnit::B512, DataUnit::B4096] {
            for request in [4 << 10, 64 << 10, 1 << 20] {
                let rate = speed::measure(kernel, unit, request, Duration::from_millis(300))?;
                println!("{kernel:<10} {:>6} {request:>9} {rate:>9.2}", unit.bytes());
            }
        }
    }
    Ok(())
}
