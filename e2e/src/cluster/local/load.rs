//! Images into nodes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::launch::Launch;
use super::layout::Layout;
use super::records::Record;
use super::{LocalError, Programs, at};
use crate::cluster::context::NodeContext;
use crate::process;
use crate::tools::hex;

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a node's containerd answers.
pub async fn ready(layout: &Layout, node: &NodeContext) -> Result<(), LocalError> {
    let socket = layout.containerd(&node.name);
    let start = Instant::now();
    loop {
        let asked = process::run(
            process::command("ctr")
                .arg("--address")
                .arg(&socket)
                .arg("version"),
        )
        .await;
        match asked {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Waits for a node's containerd, then imports archives.
pub async fn first(
    layout: &Layout,
    programs: &Programs,
    anchor: Record,
    node: &NodeContext,
    archives: &[PathBuf],
) -> Result<(), LocalError> {
    ready(layout, node).await?;
    into_node(layout, programs, anchor, node, archives).await
}

/// Imports archives into one node, except those it already has by content.
pub async fn into_node(
    layout: &Layout,
    programs: &Programs,
    anchor: Record,
    node: &NodeContext,
    archives: &[PathBuf],
) -> Result<(), LocalError> {
    let memory = node.dir.join("images");
    let mut known: BTreeSet<String> = std::fs::read_to_string(&memory)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect();
    for archive in archives {
        let key = content(archive).await?;
        if known.contains(&key) {
            continue;
        }
        let import = Launch::new(layout, "outer", "ctr")
            .inside(layout, anchor, "outer")
            .arg("--address")
            .arg(layout.containerd(&node.name))
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(archive);
        process::run(&mut import.command(&programs.helper)).await?;
        known.insert(key);
        let text: String = known.iter().map(|key| format!("{key}\n")).collect();
        std::fs::write(&memory, text).map_err(at(&memory))?;
    }
    Ok(())
}

/// The SHA-256 of a file.
pub async fn content(path: &Path) -> Result<String, LocalError> {
    let path = path.to_owned();
    let open = path.clone();
    let hash = tokio::task::spawn_blocking(move || {
        let mut hash = Sha256::new();
        let mut file = std::fs::File::open(open)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match std::io::Read::read(&mut file, &mut buffer)? {
                0 => return Ok(hex(&hash.finalize())),
                read => hash.update(&buffer[..read]),
            }
        }
    });
    hash.await
        .map_err(|error| at(&path)(std::io::Error::other(error)))?
        .map_err(at(&path))
}
