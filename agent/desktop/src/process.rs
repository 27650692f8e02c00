//! A process that ends with its owner.

use std::process::{Child, Command};

use anyhow::{Context, Result};

/// It. Whoever needs more of it takes the child.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    /// Starts one.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn();
        child.map(Self).with_context(|| {
            let program = command.get_program().display();
            format!("cannot start {program}; is it installed?")
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
