//! `medley disk speed`: how fast this machine encrypts, on one thread.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use vdisk::xts::{DataUnit, Kernel, speed};

use crate::exit::{Failure, Result};
use crate::output::{Report, Ui, table};
use crate::{progress, signals, size};

/// Requests that are measured, in bytes.
const REQUESTS: [usize; 2] = [64 << 10, 4 << 10];

/// Processor features that decide which kernels run and how fast.
const FEATURES: [&str; 8] = [
    "aes",
    "pclmulqdq",
    "avx2",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "vaes",
    "vpclmulqdq",
];

/// Options of `speed`.
#[derive(Debug, Args)]
#[command(after_help = "\
Disks are encrypted in units of 512 bytes; 4096-byte units show what the cipher itself can do.

EXAMPLES
  medley disk speed
  medley disk speed --seconds 2 --json | jq '.rows[] | select(.unit == 512)'")]
pub struct Speed {
    /// Processor time for each row
    #[arg(long, value_name = "S", default_value_t = 0.3, value_parser = seconds)]
    seconds: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("not a number from 0 to 60".into()),
    }
}

#[derive(Serialize)]
struct Measured {
    machine: Machine,
    cipher: &'static str,
    threads: u32,
    best: &'static str,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Machine {
    cpu: String,
    flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct Row {
    kernel: &'static str,
    unit: usize,
    request: usize,
    gb_per_s: f64,
}

impl Report for Measured {
    fn human(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                vec![
                    row.kernel.into(),
                    format!("{} B", row.unit),
                    size::human(row.request as u64),
                    format!("{:.2}", row.gb_per_s),
                ]
            })
            .collect();
        let Machine { cpu, flags } = &self.machine;
        let table = table(&["kernel", ">unit", ">request", ">GB/s"], &rows);
        let flags = flags.join(" ");
        format!(
            "{cpu} ({flags})\n{}, one thread; disks use {}\n\n{table}",
            self.cipher, self.best
        )
    }
}

/// Runs it.
pub fn run(args: Speed, ui: Ui) -> Result<()> {
    let _watch = signals::Watch::start()?;
    let time = Duration::from_secs_f64(args.seconds);
    let rows = progress::busy(ui, "measuring", || measure(time))?;
    let machine = Machine {
        cpu: cpu(),
        flags: flags(),
    };
    let best = Kernel::best().name();
    ui.show(&Measured {
        machine,
        cipher: "AES-256-XTS",
        threads: 1,
        best,
        rows,
    })?;
    Ok(())
}

fn measure(time: Duration) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kernel in Kernel::all_available() {
        for unit in [DataUnit::B512, DataUnit::B4096] {
            for request in REQUESTS {
                signals::check()?;
                let gb_per_s = speed::measure(kernel, unit, request, time)
                    .map_err(|e| Failure::failed(format!("cannot measure {kernel}: {e}")))?;
                rows.push(Row {
                    kernel: kernel.name(),
                    unit: unit.bytes(),
                    request,
                    gb_per_s,
                });
            }
        }
    }
    Ok(rows)
}

fn cpuinfo(field: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| {
        line.split(':')
            .next()
            .is_some_and(|name| name.trim() == field)
    })?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn cpu() -> String {
    cpuinfo("model name")
        .unwrap_or_else(|| format!("a processor of kind {}", std::env::consts::ARCH))
}

fn flags() -> Vec<&'static str> {
    let all = cpuinfo("flags").unwrap_or_default();
    FEATURES
        .into_iter()
        .filter(|flag| all.split_ascii_whitespace().any(|word| word == *flag))
        .collect()
}
