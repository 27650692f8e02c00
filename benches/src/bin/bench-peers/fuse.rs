//! Disks as files, over FUSE, under fio.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use medley_benches::rows::{Goal, Row};
use medley_benches::server::{run, text};

use crate::disks::{Disk, Disks};

/// One fio run: what it does and how much of it.
struct Work {
    pattern: &'static str,
    block: &'static str,
    jobs: u32,
    /// Whether the file is opened with `O_DIRECT`.
    direct: bool,
    /// Passes over the whole disk; `None` runs for a time.
    passes: Option<u32>,
}

impl Work {
    fn timed(pattern: &'static str, block: &'static str) -> Self {
        Self {
            pattern,
            block,
            jobs: 1,
            direct: true,
            passes: None,
        }
    }
}

/// Bytes and operations a second.
fn fio(disks: &Disks, file: &Path, work: &Work) -> Result<(f64, f64)> {
    let mut command = Command::new("fio");
    command.args(["--name=job", "--ioengine=psync", "--thread"]);
    command.args(["--output-format=json", "--group_reporting"]);
    command.args([
        format!("--filename={}", text(file)),
        format!("--rw={}", work.pattern),
        format!("--bs={}", work.block),
        format!("--size={}M", disks.args.size),
        format!("--numjobs={}", work.jobs),
        format!("--direct={}", u8::from(work.direct)),
    ]);
    match work.passes {
        Some(passes) => command.arg(format!("--loops={passes}")),
        None => command.args([
            "--time_based".into(),
            format!("--runtime={}", disks.args.seconds),
        ]),
    };
    let report = run(&mut command)?;
    let report: serde_json::Value = serde_json::from_str(&report[report.find('{').unwrap_or(0)..])?;
    let kind = if work.pattern.ends_with("read") {
        "read"
    } else {
        "write"
    };
    let job = &report["jobs"][0][kind];
    match (job["bw_bytes"].as_f64(), job["iops"].as_f64()) {
        (Some(bytes), Some(ops)) if ops > 0.0 => Ok((bytes, ops)),
        _ => bail!("fio reported no figure for {} {}", work.pattern, work.block),
    }
}

/// The best of all rounds for each of two files: bytes and operations a second.
fn best_of(disks: &Disks, files: [&Path; 2], work: &Work) -> Result<[(f64, f64); 2]> {
    let mut best = [(0.0f64, 0.0f64); 2];
    for _ in 0..disks.args.rounds {
        for (best, file) in best.iter_mut().zip(files) {
            let (bytes, ops) = fio(disks, file, work)?;
            *best = (best.0.max(bytes), best.1.max(ops));
        }
    }
    Ok(best)
}

/// All figures over FUSE.
pub fn rows(disks: &Disks) -> Result<Vec<Row>> {
    let all = [Disk::Ours, Disk::OursPlain, Disk::QemuLuks, Disk::QemuRaw];
    let served = all
        .into_iter()
        .map(|disk| disks.fuse(disk))
        .collect::<Result<Vec<_>>>()?;
    let fill = Work {
        passes: Some(1),
        ..Work::timed("write", "1M")
    };
    for (_, file) in &served {
        fio(disks, file, &fill).context("filling the disks")?;
    }
    let mut rows = Vec::new();
    for (pattern, block, what, over_luks) in [
        ("read", "1M", "sequential reads, 1 MiB", 5.0),
        ("write", "1M", "sequential writes, 1 MiB", 4.0),
        ("randread", "4k", "random reads, 4 KiB", 1.6),
        ("randwrite", "4k", "random writes, 4 KiB", 1.6),
    ] {
        let mut best = [0.0f64; 4];
        for _ in 0..disks.args.rounds {
            for (i, (_, file)) in served.iter().enumerate() {
                let (bytes, ops) = fio(disks, file, &Work::timed(pattern, block))?;
                best[i] = best[i].max(if block == "1M" { bytes / 1e6 } else { ops });
            }
        }
        let unit = if block == "1M" { "MB/s" } else { "ops/s" };
        let row = |peer: usize| {
            Row::new(format!("FUSE {what}"), best[0], unit).against(all[peer].name(), best[peer])
        };
        rows.push(row(1));
        rows.push(row(2).goal(Goal::RatioAtLeast(over_luks)));
        rows.push(row(3).goal(Goal::RatioAtLeast(1.0)));
    }

    let buffered = Work {
        direct: false,
        ..Work::timed("write", "1M")
    };
    let best = best_of(disks, [&served[0].1, &served[3].1], &buffered)?;
    rows.push(
        Row::new(
            "FUSE sequential writes, 1 MiB, without O_DIRECT",
            best[0].0 / 1e6,
            "MB/s",
        )
        .against(Disk::QemuRaw.name(), best[1].0 / 1e6),
    );

    let pair = Work {
        jobs: 2,
        ..Work::timed("randread", "4k")
    };
    let best = best_of(disks, [&served[0].1, &served[1].1], &pair)?.map(|(_, ops)| ops);
    rows.push(
        Row::new("FUSE random reads, 4 KiB, 2 jobs", best[0], "ops/s")
            .against(Disk::OursPlain.name(), best[1])
            .goal(Goal::RatioAtLeast(0.8)),
    );

    // A fixed amount of work, so that processor time can be compared: the same number of bytes for all.
    for (pattern, block, passes, what) in [
        ("read", "1M", 4, "1 MiB reads"),
        ("write", "1M", 4, "1 MiB writes"),
        ("randread", "4k", 1, "4 KiB reads"),
        ("randwrite", "4k", 1, "4 KiB writes"),
    ] {
        let work = Work {
            passes: Some(passes),
            ..Work::timed(pattern, block)
        };
        let mut cpu = [f64::MAX; 2];
        for _ in 0..disks.args.rounds {
            for (cpu, (server, file)) in cpu.iter_mut().zip(&served) {
                let before = server.cpu()?;
                fio(disks, file, &work)?;
                *cpu = cpu.min((server.cpu()? - before).as_secs_f64() * 1e3);
            }
        }
        let size = disks.args.size * u64::from(passes);
        let row = Row::new(
            format!("FUSE {what}, {size} MiB in all, server CPU"),
            cpu[0],
            "ms",
        )
        .against(Disk::OursPlain.name(), cpu[1]);
        rows.push(row.goal(Goal::RatioAtMost(1.15)));
    }
    Ok(rows)
}
