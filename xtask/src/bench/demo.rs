//! `cargo xtask bench demo`: the demo as a user runs it, with everything built before.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use mainstay_e2e::figures::Spread;

/// Measure and print. The demo's own output is not shown.
pub fn measure(name: &str, runs: usize) -> anyhow::Result<()> {
    let name = format!("{name}-demo");
    let program = std::env::current_exe()?;
    // Whatever is missing is built now, and not in the first run.
    demo(&program, &name, &[])?;
    let measured = times(&program, &name, runs);
    let down = demo(&program, &name, &["--down"]);
    let (warm, again) = measured?;
    down?;
    for (what, values) in [("no cluster runs", warm), ("it runs already", again)] {
        if let Some(spread) = Spread::of(&values) {
            println!("demo, everything built, {what}, seconds (min / median / max): {spread}");
        }
    }
    Ok(())
}

fn times(program: &Path, name: &str, runs: usize) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let (mut warm, mut again) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        demo(program, name, &["--down"])?;
        warm.push(demo(program, name, &[])?);
        again.push(demo(program, name, &[])?);
        println!("run {run} of {runs}");
    }
    Ok((warm, again))
}

/// Runs the demo to its end and returns the seconds it took.
///
/// # Errors
/// It failed: with its whole output.
pub fn demo(program: &Path, name: &str, more: &[&str]) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let output = Command::new(program)
        .args(["demo", "--name", name])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .context("starting the demo")?;
    let took = begin.elapsed().as_secs_f64();
    ensure!(
        output.status.success(),
        "the demo failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(took)
}
