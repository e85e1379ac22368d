//! `cargo xtask crds`: writes the definitions into the chart that installs them.

use std::path::{Path, PathBuf};
use std::{fs, io};

use mainstay_crds::definitions::definitions;

/// What precedes each definition.
const HEADER: &str = "# Made by `cargo xtask crds` from the types in crds/. Do not edit.\n";

#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail when a file is not what would be written.
    #[arg(long)]
    check: bool,
}

/// Writes the definitions, or checks them.
pub fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let folder = folder();
    for (path, text) in render(&folder)? {
        if fs::read_to_string(&path).ok().as_deref() == Some(&text) {
            continue;
        }
        if args.check {
            return Err(
                format!("{} is not up to date: run cargo xtask crds", path.display()).into(),
            );
        }
        fs::create_dir_all(&folder)?;
        fs::write(&path, text)?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// Where the chart keeps them.
fn folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    workspace
        .unwrap_or(Path::new("."))
        .join("helm/mainstay-crds/files")
}

/// Each definition's file and its text.
fn render(folder: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    definitions()?
        .iter()
        .map(|crd| {
            let yaml = serde_saphyr::to_string(crd).map_err(io::Error::other)?;
            let path = folder.join(format!("{}.yaml", crd.spec.names.plural));
            Ok((path, format!("{HEADER}{yaml}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_holds_the_definitions_as_the_types_have_them() {
        for (path, text) in render(&folder()).unwrap() {
            let found = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(found, text, "{}: run cargo xtask crds", path.display());
        }
    }

    #[test]
    fn the_text_reads_back_as_what_was_written() {
        for (crd, (_, text)) in definitions()
            .unwrap()
            .iter()
            .zip(render(&folder()).unwrap())
        {
            let back: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(back, serde_json::to_value(crd).unwrap());
        }
    }
}
