//! Images into nodes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::launch::Launch;
use super::layout::Layout;
use super::records::Record;
use super::{LocalError, Programs, at};
use crate::cluster::context::NodeContext;
use crate::process;
use crate::tools;

const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until a containerd answers.
pub async fn answers(socket: &Path) -> Result<(), LocalError> {
    let start = Instant::now();
    loop {
        match ctr(socket, &["version"]).await {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Asks a containerd something short.
pub async fn ctr(socket: &Path, args: &[&str]) -> Result<String, LocalError> {
    let mut command = process::command("ctr");
    command
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io"])
        .args(args);
    Ok(process::run(&mut command).await?)
}

/// An archive and the SHA-256 of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The file.
    pub path: PathBuf,
    /// Lowercase hexadecimal.
    pub hash: String,
    /// Bytes.
    pub size: u64,
}

/// Reads what archives hold.
pub async fn archives(paths: &[PathBuf]) -> Result<Vec<Archive>, LocalError> {
    let mut archives = Vec::new();
    for path in paths {
        archives.push(Archive {
            path: path.clone(),
            hash: content(path).await?,
            size: std::fs::metadata(path).map_err(at(path))?.len(),
        });
    }
    Ok(archives)
}

/// Waits for a node's containerd, then imports archives.
pub async fn first(
    layout: &Layout,
    programs: &Programs,
    anchor: Record,
    node: &NodeContext,
    archives: &[Archive],
) -> Result<(), LocalError> {
    answers(&layout.containerd(&node.name)).await?;
    into_node(layout, programs, anchor, node, archives).await
}

/// Imports archives into one node, except those it already has by content.
pub async fn into_node(
    layout: &Layout,
    programs: &Programs,
    anchor: Record,
    node: &NodeContext,
    archives: &[Archive],
) -> Result<(), LocalError> {
    let mut known = known(node);
    for archive in archives {
        if !known.contains(&archive.hash) {
            import(
                layout,
                programs,
                anchor,
                &layout.containerd(&node.name),
                archive,
            )
            .await?;
            known.insert(archive.hash.clone());
            remember(node, &known)?;
        }
    }
    Ok(())
}

/// Imports an archive into the containerd of a socket.
pub async fn import(
    layout: &Layout,
    programs: &Programs,
    anchor: Record,
    socket: &Path,
    archive: &Archive,
) -> Result<(), LocalError> {
    let import = Launch::new(layout, "outer", "ctr")
        .inside(layout, anchor, "outer")
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(&archive.path);
    process::run(&mut import.command(&programs.helper)).await?;
    Ok(())
}

/// The contents that a node has.
pub fn known(node: &NodeContext) -> BTreeSet<String> {
    let text = std::fs::read_to_string(node.dir.join("images")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Writes down the contents that a node has.
pub fn remember(node: &NodeContext, known: &BTreeSet<String>) -> Result<(), LocalError> {
    let path = node.dir.join("images");
    let draft = path.with_extension("draft");
    let text = known
        .iter()
        .fold(String::new(), |text, hash| text + hash + "\n");
    std::fs::write(&draft, text).map_err(at(&draft))?;
    std::fs::rename(&draft, &path).map_err(at(&path))
}

/// The SHA-256 of a file, remembered for as long as the file's size and time stay the same.
pub async fn content(path: &Path) -> Result<String, LocalError> {
    use std::os::unix::fs::MetadataExt as _;
    let path = std::fs::canonicalize(path).map_err(at(path))?;
    let meta = std::fs::metadata(&path).map_err(at(&path))?;
    let identity = format!(
        "{} {} {} {}.{}",
        path.display(),
        meta.ino(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec()
    );
    let folder = tools::cache().join("hashes");
    let memory = folder.join(tools::key([identity.as_bytes()]));
    if let Ok(known) = std::fs::read_to_string(&memory) {
        return Ok(known);
    }
    // Not our own code: without optimisation it takes twenty times as long.
    let text = process::run(process::command("sha256sum").arg(&path)).await?;
    let hash = text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .trim_start_matches('\\')
        .to_owned();
    std::fs::create_dir_all(&folder).map_err(at(&folder))?;
    let draft = memory.with_extension(format!("draft-{}", std::process::id()));
    std::fs::write(&draft, &hash).map_err(at(&draft))?;
    std::fs::rename(&draft, &memory).map_err(at(&memory))?;
    Ok(hash)
}
