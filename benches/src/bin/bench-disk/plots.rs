//! Pictures of how fast the stack is: throughput by the size of requests, by threads, and by how many
//! overlays lie above the base. Disks lie in memory; the axis of sizes is logarithmic.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use medley_benches::interrupt;
use medley_benches::stacks::{SIZE, above, dynamic, fill, folder, overlay, places, stack};
use plotters::prelude::*;
use vdisk::BlockDevice;
use vdisk::stack::Stack;

/// One line of a picture.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Measures, and writes the pictures into `dir`.
pub fn write(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let at = |name: &str| dir.join(name);
    draw(
        &at("size.svg"),
        "One thread: throughput by request size",
        ("request", "GB/s"),
        size,
        &by_size()?,
    )?;
    draw(
        &at("threads.svg"),
        "4 KiB requests, encrypted: by threads",
        ("threads", "thousand requests/s"),
        count,
        &by_threads()?,
    )?;
    draw(
        &at("depth.svg"),
        "4 KiB reads of the base, encrypted: by overlays above it",
        ("overlays", "thousand requests/s"),
        count,
        &by_depth()?,
    )
}

/// Runs `request` for a while; how often it ran, a second. The best of three, since machines are shared.
fn rate(mut request: impl FnMut()) -> Result<f64> {
    let mut best = 0.0f64;
    for _ in 0..3 {
        interrupt::go_on()?;
        let (start, mut count) = (Instant::now(), 0u32);
        while start.elapsed() < Duration::from_millis(100) {
            request();
            count += 1;
        }
        best = best.max(f64::from(count) / start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn by_size() -> Result<Vec<Line>> {
    let dir = folder();
    let disks = [
        ("plain", stack(vec![dynamic(dir.path())], false)),
        ("encrypted", stack(vec![dynamic(dir.path())], true)),
        (
            "encrypted, overlay",
            stack(vec![overlay(dir.path()), dynamic(dir.path())], true),
        ),
    ];
    let mut lines = Vec::new();
    for (name, disk) in &disks {
        fill(disk);
        for write in [false, true] {
            let mut points = Vec::new();
            for power in 9..=22 {
                let len = 1u64 << power;
                let (mut place, mut buf) = (places(len), vec![7; len as usize]);
                let rate = rate(|| request(disk, write, place(), &mut buf))?;
                points.push((f64::from(power), rate * len as f64 / 1e9));
            }
            let verb = if write { "writes" } else { "reads" };
            lines.push(Line {
                name: format!("{name}, {verb}"),
                points,
            });
        }
    }
    Ok(lines)
}

fn request(disk: &Stack, write: bool, at: u64, buf: &mut [u8]) {
    let done = if write {
        disk.write_at(at, buf)
    } else {
        disk.read_at(at, buf)
    };
    done.expect("a disk in memory does not fail");
}

fn by_threads() -> Result<Vec<Line>> {
    let dir = folder();
    let disk = stack(vec![overlay(dir.path()), dynamic(dir.path())], true);
    fill(&disk);
    let mut lines = Vec::new();
    for write in [false, true] {
        let mut points = Vec::new();
        for threads in 1..=8u64 {
            let rate = together(&disk, threads, write)?;
            points.push((threads as f64, rate / 1e3));
        }
        let name = if write { "writes" } else { "reads" };
        lines.push(Line {
            name: name.into(),
            points,
        });
    }
    Ok(lines)
}

/// Requests a second of several threads at once, each all over the disk; the best of three runs.
fn together(disk: &Stack, threads: u64, write: bool) -> Result<f64> {
    let mut best = 0.0f64;
    for _ in 0..3 {
        interrupt::go_on()?;
        let (start, count) = (Instant::now(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for n in 0..threads {
                let count = &count;
                scope.spawn(move || {
                    let (mut place, mut buf) = (places(4096), vec![7; 4096]);
                    let mut own = 0;
                    while start.elapsed() < Duration::from_millis(200) {
                        request(disk, write, (place() + n * SIZE / 8) % SIZE, &mut buf);
                        own += 1;
                    }
                    count.fetch_add(own, Ordering::Relaxed);
                });
            }
        });
        let rate = count.into_inner() as f64 / start.elapsed().as_secs_f64();
        best = best.max(rate);
    }
    Ok(best)
}

fn by_depth() -> Result<Vec<Line>> {
    let dir = folder();
    let mut points = Vec::new();
    for overlays in [0, 1, 2, 4, 8, 16, 32] {
        let disk = above(dir.path(), overlays);
        let (mut place, mut buf) = (places(4096), vec![0; 4096]);
        let rate = rate(|| request(&disk, false, place(), &mut buf))?;
        points.push((overlays as f64, rate / 1e3));
    }
    Ok(vec![Line {
        name: "reads".into(),
        points,
    }])
}

/// A number on the axis of counts.
fn count(x: f64) -> String {
    format!("{x:.0}")
}

/// A size on the axis of powers of two.
fn size(x: f64) -> String {
    match x.round() as u32 {
        n @ 0..10 => format!("{} B", 1 << n),
        n @ 10..20 => format!("{} KiB", 1 << (n - 10)),
        n => format!("{} MiB", 1 << (n - 20)),
    }
}

fn draw(
    path: &Path,
    title: &str,
    axes: (&str, &str),
    label: fn(f64) -> String,
    lines: &[Line],
) -> Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let most = |part: fn(&(f64, f64)) -> f64| points().map(part).fold(0.0, f64::max);
    let least = points().map(|p| p.0).fold(f64::MAX, f64::min);
    let area = SVGBackend::new(path, (880, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(least..most(|p| p.0), 0.0..most(|p| p.1) * 1.1)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(axes.0)
        .y_desc(axes.1)
        .x_label_formatter(&|x| label(*x))
        .y_label_formatter(&|y| {
            if *y < 10.0 {
                format!("{y:.1}")
            } else {
                count(*y)
            }
        })
        .draw()?;
    for (n, line) in lines.iter().enumerate() {
        let style = Palette99::pick(n).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    if lines.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .draw()?;
    }
    area.present()
        .with_context(|| format!("cannot write {}", path.display()))
}
