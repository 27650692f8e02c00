//! Progress of anything that takes longer than a blink, on a terminal only.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Ui;
use crate::signals;

/// Work that ends sooner than this shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// Progress in bytes; gone from the screen when dropped.
pub struct Bytes {
    bar: ProgressBar,
    ui: Ui,
    begin: Instant,
}

impl Bytes {
    /// Of `total` bytes.
    pub fn new(ui: Ui, what: &'static str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let style = "{msg} [{bar:30}] {bytes:>10} of {total_bytes}, {bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        Self {
            bar,
            ui,
            begin: Instant::now(),
        }
    }

    /// So many bytes are done. Says stop when a signal asked for it.
    pub fn at(&self, done: u64) -> ControlFlow<()> {
        if self.begin.elapsed() > PATIENCE && done > self.bar.position() {
            if self.bar.position() == 0 {
                self.bar.set_draw_target(target(self.ui));
            }
            self.bar.set_position(done);
        }
        match signals::received() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Does something that tells no progress, with a sign of life.
pub fn busy<T>(ui: Ui, what: &'static str, work: impl FnOnce() -> T) -> T {
    let spinner = ProgressBar::with_draw_target(None, target(ui))
        .with_style(ProgressStyle::default_spinner())
        .with_message(what);
    spinner.enable_steady_tick(Duration::from_millis(120));
    let result = work();
    spinner.finish_and_clear();
    result
}

fn target(ui: Ui) -> ProgressDrawTarget {
    if ui.draws() {
        ProgressDrawTarget::stderr_with_hz(10)
    } else {
        ProgressDrawTarget::hidden()
    }
}
