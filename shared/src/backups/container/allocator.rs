//! An allocator that gives back what it got. I/O.
//!
//! Buffers of several MiB come and go in many threads. By itself glibc keeps what was freed, for each thread apart, and
//! learns from the first large one that is freed to keep the next ones too: a backup of a GB left 200 MiB behind.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// What glibc reads once, when a program starts: one heap for all threads, and what has a MiB or more is the system's. The
/// end of the heap is given back when it has 4 MiB: with less it comes and goes all the time.
const WISHES: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "1048576"),
    ("MALLOC_TRIM_THRESHOLD_", "4194304"),
];

/// Becomes this program anew, as the same process, with these wishes; does nothing where it has them. It goes on without
/// them where that fails.
pub fn sparing() {
    if WISHES
        .iter()
        .all(|(name, _)| std::env::var_os(name).is_some())
    {
        return;
    }
    let failed = match std::env::current_exe() {
        Ok(program) => {
            let mut anew = Command::new(program);
            anew.args(std::env::args_os().skip(1)).envs(WISHES).exec()
        }
        Err(error) => error,
    };
    eprintln!(
        "{}",
        serde_json::json!({
            "level": "WARN",
            "message": format!("more memory than needed is kept: {failed}"),
        })
    );
}
