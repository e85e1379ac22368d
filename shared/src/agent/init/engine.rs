//! Between PID 1 and an engine: the process that PID 1 starts empties its signal mask, then becomes the engine.
//!
//! PID 1 blocks the signals that it waits for, and a child has the mask of its parent: an engine that sets none of its own
//! would never hear `SIGTERM`. The process stays the same, so PID 1 knows the engine by the number that it started.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::SigSet;

/// Exit code of a process that could not become the engine; that of shells.
pub const NOT_FOUND: u8 = 127;

/// Hear every signal, in this thread and in what it starts.
///
/// # Errors
/// The system refuses.
pub fn hear_signals() -> io::Result<()> {
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Become the engine of this command line. Environment, folder, process group and number stay what they are.
///
/// It returns only when that failed: why.
pub fn become_engine(argv: &[String]) -> io::Error {
    let Some((program, arguments)) = argv.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no program was named");
    };
    match hear_signals() {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{SigmaskHow, Signal};

    use super::*;

    #[test]
    fn who_hears_signals_again_blocks_none() {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTERM);
        blocked.thread_block().unwrap();
        hear_signals().unwrap();
        let now = SigSet::empty()
            .thread_swap_mask(SigmaskHow::SIG_BLOCK)
            .unwrap();
        assert_eq!(now, SigSet::empty());
    }

    #[test]
    fn what_is_not_there_is_an_error_and_not_the_end() {
        let error = become_engine(&["/nowhere/engine".to_owned()]);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(become_engine(&[]).kind(), io::ErrorKind::InvalidInput);
    }
}
