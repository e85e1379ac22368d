//! What a person who waits is told.

use std::time::Instant;

/// Prints each step that is done with the time since the start.
#[derive(Debug)]
pub struct Steps {
    start: Instant,
    quiet: bool,
}

impl Steps {
    /// Steps that are printed.
    pub fn shown() -> Self {
        Self {
            start: Instant::now(),
            quiet: false,
        }
    }

    /// Steps that are not printed, as in tests.
    pub fn quiet() -> Self {
        Self {
            start: Instant::now(),
            quiet: true,
        }
    }

    /// Something is done.
    pub fn done(&self, what: &str) {
        if !self.quiet {
            println!("{:>6.1} s  {what}", self.start.elapsed().as_secs_f64());
        }
    }
}
