//! `cargo xtask bench backups`, `backup-size`, `redis` and `cluster`: ignored tests, with the program as its image gets it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use mainstay_e2e::cluster::Steps;
use mainstay_e2e::images;

/// Memory that is a folder: disks are not what is measured.
pub const MEMORY: &str = "/dev/shm";
/// Seconds that anything may take with a database that is small, and MiB of a larger one for each more.
const PATIENCE: (u64, u64) = (90, 16);

/// What measures: a test of a test program, and the program that it runs.
pub struct Measure {
    /// The operator's program, if it runs.
    pub program: Option<&'static str>,
    /// The test program.
    pub suite: &'static str,
    /// The test.
    pub name: &'static str,
}

/// Measure and print, with everything that it makes in a folder.
pub async fn measure(what: &Measure, mib: u64, runs: usize, within: &Path) -> anyhow::Result<()> {
    beside(what, None, mib, runs, within).await
}

/// The same, in turn with another build of the program.
pub async fn beside(
    what: &Measure,
    other: Option<&Path>,
    mib: u64,
    runs: usize,
    within: &Path,
) -> anyhow::Result<()> {
    // An engine's user runs what is there, who may not look into everybody's cache.
    let folder = tempfile::tempdir_in(within)?;
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let mut measuring = mainstay_e2e::cargo::command();
    if let Some(name) = what.program {
        let built = images::program(name, &Steps::shown()).await?;
        let program = folder.path().join(name);
        std::fs::copy(&built, &program).with_context(|| format!("copying {}", built.display()))?;
        measuring.env("MAINSTAY_TEST_PROGRAM", &program);
    }
    if let Some(built) = other {
        let copy = folder.path().join("other");
        std::fs::copy(built, &copy).with_context(|| format!("copying {}", built.display()))?;
        measuring.env("MAINSTAY_FIGURES_OTHER", copy);
    }
    let status = measuring
        .args(["test", "--quiet", "--workspace", "--test", what.suite, "--"])
        .args(["--exact", what.name, "--ignored", "--nocapture"])
        .env("MAINSTAY_FIGURES_MIB", mib.to_string())
        .env("MAINSTAY_FIGURES_ROUNDS", runs.to_string())
        .env(
            "MAINSTAY_TEST_PATIENCE",
            (PATIENCE.0 + mib / PATIENCE.1).to_string(),
        )
        .env("MAINSTAY_TEST_FOLDER", folder.path())
        .env("TMPDIR", folder.path())
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "the figures could not be measured");
    Ok(())
}
