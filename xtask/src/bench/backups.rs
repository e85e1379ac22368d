//! `cargo xtask bench backups` and `backup-size`: ignored tests of the backup tests, with the program as its image gets it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, ensure};
use mainstay_e2e::cluster::Steps;
use mainstay_e2e::images;

/// Memory that is a folder: disks are not what is measured.
const MEMORY: &str = "/dev/shm";

/// Measure and print what the test `name` measures.
pub async fn measure(name: &str, mib: u64, runs: usize) -> anyhow::Result<()> {
    let built = images::program("mainstay-postgres", &Steps::shown()).await?;
    // PostgreSQL's user runs it, who may not look into everybody's cache.
    let folder = tempfile::tempdir_in(MEMORY)?;
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let program = folder.path().join("mainstay-postgres");
    std::fs::copy(&built, &program).with_context(|| format!("copying {}", built.display()))?;
    let status = mainstay_e2e::cargo::command()
        .args(["test", "--quiet", "--workspace", "--test", "backup", "--"])
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("MAINSTAY_TEST_PROGRAM", &program)
        .env("MAINSTAY_FIGURES_MIB", mib.to_string())
        .env("MAINSTAY_FIGURES_ROUNDS", runs.to_string())
        .env("TMPDIR", MEMORY)
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "the figures could not be measured");
    Ok(())
}
