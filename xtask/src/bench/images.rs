//! `cargo xtask bench images`: how large the images are.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use mainstay_e2e::cluster::Steps;
use mainstay_e2e::images::{self, Image};

/// Build what is missing, and print.
pub async fn measure() -> anyhow::Result<()> {
    let wanted = [
        Image::PostgresOperator { revision: 1 },
        Image::Postgres { revision: 1 },
        Image::Workload,
        Image::PgBouncer,
    ];
    let built = images::build(&wanted, &Steps::shown()).await?;
    println!("image, MB as loaded, MB compressed (gzip, as registries keep layers):");
    for image in built {
        let compressed = compressed(&image.archive)?;
        println!(
            "  {}: {:.1}, {:.1}",
            image.name,
            megabytes(image.size),
            megabytes(compressed)
        );
    }
    Ok(())
}

/// Bytes of a file once compressed.
fn compressed(file: &Path) -> anyhow::Result<u64> {
    let mut gzip = Command::new("gzip")
        .arg("--stdout")
        .arg(file)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting gzip")?;
    let mut out = gzip.stdout.take().context("gzip's output")?;
    let bytes = std::io::copy(&mut out, &mut std::io::sink())?;
    let ended = gzip.wait()?;
    ensure!(
        ended.success(),
        "gzip failed on {}: {ended}",
        file.display()
    );
    Ok(bytes)
}

#[allow(clippy::cast_precision_loss)] // Far below 2^52.
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
