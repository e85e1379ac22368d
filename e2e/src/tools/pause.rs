//! The image that holds a pod's namespaces.

use std::path::{Path, PathBuf};

use super::{ToolError, at, cache, go, hex, key, once, source};
use crate::process;

/// The image's name on every node.
pub const PAUSE_IMAGE: &str = "localhost/pause:1";

/// An image archive with a static program that waits for a signal and reaps orphans.
pub async fn pause() -> Result<PathBuf, ToolError> {
    let program = go::build("pause", &source("pause"), "-s -w").await?;
    let bytes = std::fs::read(&program).map_err(at(&program))?;
    let target = cache()
        .join("tools")
        .join(format!("pause-image-{}", key([bytes.as_slice()])))
        .join("pause.tar");
    once(&target, |draft| async move {
        let folder =
            tempfile::tempdir_in(draft.parent().unwrap_or(Path::new("/"))).map_err(at(&draft))?;
        archive(&program, folder.path(), &draft).await
    })
    .await
}

/// Writes a `docker save` archive of one layer with one program.
async fn archive(program: &Path, folder: &Path, target: &Path) -> Result<(), ToolError> {
    use sha2::{Digest, Sha256};
    let copy = folder.join("pause");
    std::fs::copy(program, &copy).map_err(at(&copy))?;
    let layer = folder.join("layer.tar");
    tar(folder, &layer, &["pause"]).await?;
    let diff = hex(&Sha256::digest(std::fs::read(&layer).map_err(at(&layer))?));
    let write = |name: &str, value: serde_json::Value| {
        let path = folder.join(name);
        std::fs::write(&path, value.to_string()).map_err(at(&path))
    };
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    write(
        "config.json",
        serde_json::json!({
            "architecture": architecture, "os": "linux", "created": "1970-01-01T00:00:00Z",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]},
            "history": [{"created": "1970-01-01T00:00:00Z"}],
        }),
    )?;
    write(
        "manifest.json",
        serde_json::json!([
            {"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}
        ]),
    )?;
    tar(
        folder,
        target,
        &["manifest.json", "config.json", "layer.tar"],
    )
    .await
}

async fn tar(folder: &Path, target: &Path, names: &[&str]) -> Result<(), ToolError> {
    process::run(
        process::command("tar")
            .args([
                "--create",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--mtime=@0",
                "--directory",
            ])
            .arg(folder)
            .arg("--file")
            .arg(target)
            .args(names),
    )
    .await?;
    Ok(())
}
