//! An eye on a window that sleeps until something is painted there.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use x11rb::NONE;
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::damage::ConnectionExt as _;

use super::{Area, LIMIT, Screen};
use crate::interrupt;

/// What was seen on a display.
#[derive(Debug, Clone, Copy)]
pub enum Sight {
    /// Something was painted there.
    Painted(Area),
    /// A window was made, the watched one's child: see [`Screen::tell_of_windows`].
    Made,
}

/// Hears when something is painted. The server says it whenever what was painted since it was last told to forget has
/// grown; what it forgets has been said, and is looked at only after.
pub struct Watch<'a> {
    pub(super) screen: &'a Screen,
    pub(super) damage: u32,
}

impl Watch<'_> {
    /// Sleeps until something was painted since it was last asked, and tells where; nothing, if there is nothing
    /// until then.
    ///
    /// # Errors
    /// The display is gone, or a signal asked us to stop.
    pub fn painted(&self, until: Instant) -> Result<Option<Area>> {
        loop {
            match self.next(until)? {
                Some(Sight::Painted(area)) => return Ok(Some(area)),
                Some(Sight::Made) => {}
                None => return Ok(None),
            }
        }
    }

    /// As [`Watch::painted`], and tells of windows that are made too, where that was asked for.
    ///
    /// # Errors
    /// See [`Watch::painted`].
    pub fn next(&self, until: Instant) -> Result<Option<Sight>> {
        let x = &self.screen.conn;
        loop {
            while let Some(event) = x.poll_for_event()? {
                match event {
                    Event::DamageNotify(event) if event.damage == self.damage => {
                        x.damage_subtract(self.damage, NONE, NONE)?;
                        let area = event.area;
                        return Ok(Some(Sight::Painted(Area {
                            x: area.x,
                            y: area.y,
                            width: area.width,
                            height: area.height,
                        })));
                    }
                    Event::CreateNotify(_) => return Ok(Some(Sight::Made)),
                    _ => {}
                }
            }
            x.flush()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let stream = x.stream().as_fd();
            let mut asked = [PollFd::new(stream, PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left.as_micros().div_ceil(1000));
            match poll(&mut asked, timeout.unwrap_or(PollTimeout::MAX)) {
                Ok(_) => {}
                Err(Errno::EINTR) => interrupt::go_on()?,
                Err(errno) => return Err(errno).context("cannot wait for the display"),
            }
        }
    }

    /// Waits until nothing was painted for a while.
    ///
    /// # Errors
    /// It does not get calm within 20 s.
    pub fn calm(&self, while_: Duration) -> Result<()> {
        let begun = Instant::now();
        while self.painted(Instant::now() + while_)?.is_some() {
            interrupt::go_on()?;
            if begun.elapsed() > LIMIT {
                bail!("it is painted without end");
            }
        }
        Ok(())
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // The display may be gone, and the watch with it.
        let _ = self.screen.conn.damage_destroy(self.damage);
        let _ = self.screen.conn.flush();
    }
}
