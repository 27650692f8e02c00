//! A machine's balloon, for whoever follows the host's memory.

use medley_hypervisor::{ErrorKind, Machine};
use medley_memory::{Balloon, BalloonError, GuestRam};
use std::sync::{Arc, Weak};

/// The balloon of a machine that somebody else owns, and ends.
pub struct GuestBalloon(pub Weak<dyn Machine>);

impl GuestBalloon {
    fn machine(&self) -> Result<Arc<dyn Machine>, BalloonError> {
        self.0.upgrade().ok_or(BalloonError::Ended)
    }
}

impl Balloon for GuestBalloon {
    fn target(&self, mib: u32) -> Result<(), BalloonError> {
        self.machine()?.set_balloon(mib).map_err(refused)
    }

    fn statistics(&self) -> Result<GuestRam, BalloonError> {
        let memory = self.machine()?.memory().map_err(refused)?;
        Ok(GuestRam {
            actual_mib: memory.actual_mib,
            total_mib: memory.total_mib,
            available_mib: memory.available_mib,
        })
    }
}

fn refused(error: medley_hypervisor::Error) -> BalloonError {
    match error.kind() {
        ErrorKind::Ended => BalloonError::Ended,
        _ => BalloonError::Failed(error.into()),
    }
}
