//! From the wish for an app to its first pixels on the host.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use medley_benches::screen::{Screen, Sight};
use x11rb::protocol::xproto::Window;

/// An emulated guest may be slow, and a first start slower.
const LIMIT: Duration = Duration::from_secs(90);

/// A window that came, and how long it took.
pub struct Launched {
    pub window: Window,
    /// From the wish to the first pixels.
    pub took: Duration,
    /// Of it, what goes by while the app starts: from the end of `ask` until a window is made for it on the host. What
    /// lies before and after is what whoever shows it adds.
    pub own: Duration,
}

/// Asks for an app by `ask` and waits for a new window of this class that shows something: more than one colour inside
/// of its frame. What `ask` waits for is a part of it.
pub fn launched(
    screen: &Screen,
    class: &str,
    border: u16,
    ask: impl FnOnce() -> Result<()>,
) -> Result<Launched> {
    let known = screen.apps(class, &[])?;
    let watch = screen.watch(screen.root)?;
    watch.calm(Duration::from_millis(300))?;
    screen.tell_of_windows(true)?;
    let begun = Instant::now();
    ask()?;
    let started = Instant::now();
    let mut own = None;
    loop {
        let seen = watch.next(begun + LIMIT)?;
        match seen.with_context(|| format!("no window within {LIMIT:?}"))? {
            Sight::Made => {
                own.get_or_insert_with(|| started.elapsed());
                continue;
            }
            Sight::Painted(_) => {}
        }
        for window in screen.apps(class, &known)? {
            if shows_something(screen, window, border) {
                let took = begun.elapsed();
                screen.tell_of_windows(false)?;
                screen.put_in_sight(window)?;
                let own = own.context("it was seen before it was made")?;
                return Ok(Launched { window, took, own });
            }
        }
    }
}

/// A window that is being moved or was taken back shows nothing: it will be looked at again.
fn shows_something(screen: &Screen, window: Window, border: u16) -> bool {
    let whole = screen.whole(window);
    let pixels = whole.and_then(|whole| screen.pixels(window, whole.without(border)));
    pixels.is_ok_and(|pixels| pixels.iter().any(|pixel| *pixel != pixels[0]))
}
