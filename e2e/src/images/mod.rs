//! Images without a registry: built from the Dockerfiles in `images/`, kept as archives by content.
//!
//! An archive lives in the cache, outside the checkout, and is named after a hash of everything it
//! is made of: Dockerfile, base, arguments and binary. What is there is not built again, and a name
//! never means two contents, so no cluster ever pulls or mixes up one.
//!
//! Two builders are known: `buildah` with a base made by `mmdebstrap` (Debian, root, no registry),
//! and a Docker engine, which takes `debian:trixie-slim` from its registry.

mod base;
mod binary;
mod builder;
mod cache;
mod command;
pub(crate) mod recipe;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use self::recipe::Version;
use crate::cluster::Steps;
use crate::tools::{self, ToolError};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use self::builder::Builder;
pub use self::command::Error as CommandError;
pub use self::recipe::Image;

/// An image that is in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Which one.
    pub image: Image,
    /// Its full name, for example `localhost/mainstay/postgres:17.12-0a1b2c3d`.
    pub name: String,
    /// A docker-archive that holds it under that name.
    pub archive: PathBuf,
    /// Size of the archive in bytes. Layers are not compressed in it.
    pub size: u64,
    /// Whether it was built now; false when the cache had it.
    pub fresh: bool,
}

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither builder is there, and none could be installed.
    #[error("images are built with buildah and mmdebstrap, or by a Docker engine: {0}")]
    NoBuilder(#[from] ToolError),
    /// A step's program failed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// The cache cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The task that builds ended early.
    #[error("building images was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    /// Fewer images came out than went in.
    #[error("an image was not built")]
    Unbuilt,
    /// A program's answer could not be understood.
    #[error("the built image says its version is {0:?}, which is none like `17.12`")]
    Version(String),
}

/// What the cache remembers of an archive.
#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
}

/// Builds what is not in the cache, tells what it does, and answers in order.
///
/// Guarantee: an archive that is listed in the cache is complete, also after an interruption.
/// Two runs at the same time wait for each other.
///
/// # Errors
/// When a program that is needed is missing or fails; the error carries its last lines.
pub async fn build<const N: usize>(
    images: &[Image; N],
    steps: &Steps,
) -> Result<[Built; N], Error> {
    let cache = tools::cache();
    let builder = if let Some(builder) = Builder::find(&cache) {
        builder
    } else {
        tools::require(tools::IMAGES).await?;
        Builder::buildah(&cache)
    };
    let images = images.to_vec();
    let (tell, mut told) = mpsc::unbounded_channel::<String>();
    let work = tokio::task::spawn_blocking(move || {
        // Nobody listens any more only when the build is no longer wanted.
        all(&images, &builder, &cache, &|step| {
            drop(tell.send(step.to_owned()));
        })
    });
    while let Some(step) = told.recv().await {
        steps.done(&step);
    }
    work.await??.try_into().map_err(|_| Error::Unbuilt)
}

/// Builds a binary of this workspace as its image gets it, without an image around it.
///
/// # Errors
/// When it does not compile.
pub async fn program(name: &'static str, steps: &Steps) -> Result<PathBuf, Error> {
    steps.done(&format!("compiling {name}"));
    let cache = tools::cache();
    tokio::task::spawn_blocking(move || binary::build(name, &cache, &|_| ())).await?
}

fn all(
    images: &[Image],
    builder: &Builder,
    cache: &Path,
    progress: &dyn Fn(&str),
) -> Result<Vec<Built>, Error> {
    let archives = cache.join("images");
    fs::create_dir_all(&archives).map_err(at(&archives))?;
    let lock_path = archives.join(".lock");
    let lock = File::create(&lock_path).map_err(at(&lock_path))?;
    if lock.try_lock().is_err() {
        progress("waiting for another run that builds images");
        lock.lock().map_err(at(&lock_path))?;
    }
    images
        .iter()
        .map(|image| one(image, builder, cache, &archives, progress))
        .collect()
}

fn one(
    image: &Image,
    builder: &Builder,
    cache: &Path,
    archives: &Path,
    progress: &dyn Fn(&str),
) -> Result<Built, Error> {
    let recipe = image.recipe();
    let dockerfile = cache::repository().join(recipe.dockerfile);
    let text = fs::read(&dockerfile).map_err(at(&dockerfile))?;

    let context = tempfile::tempdir_in(archives).map_err(at(archives))?;
    let mut parts = vec![builder.kind().as_bytes().to_vec(), text];
    let mut args = recipe.args.clone();
    if recipe.needs_base {
        let base = builder.base(cache, progress)?;
        parts.push(base.digest.into_bytes());
        args.push(("BASE".to_owned(), base.name));
    }
    for (key, value) in &recipe.args {
        parts.push(format!("{key}={value}").into_bytes());
    }
    if let Some(binary) = recipe.binary {
        let file = binary::build(binary, cache, progress)?;
        let mut program = fs::read(&file).map_err(at(&file))?;
        program.extend(recipe.mark.iter().flat_map(|mark| mark.bytes()));
        let target = context.path().join(binary);
        fs::copy(&file, &target).map_err(at(&target))?;
        fs::write(&target, &program).map_err(at(&target))?;
        parts.push(program);
    }
    let hash = recipe::hash(&parts);
    let archive = archives.join(format!("{}-{hash}.tar", recipe.repository));
    let index = archives.join(format!("{}-{hash}.json", recipe.repository));
    if let Some(entry) = cache::entry::<Entry>(&index)
        && let Ok(size) = fs::metadata(&archive).map(|m| m.len())
    {
        return Ok(Built {
            image: image.clone(),
            name: entry.name,
            archive,
            size,
            fresh: false,
        });
    }

    progress(&format!("building image {}", recipe.repository));
    let id = builder.build(&dockerfile, &args, context.path())?;
    let version = match recipe.version {
        Version::Asked(program) => recipe::full_version(&builder.run(&id, program)?)?,
        Version::Known(version) => version.to_owned(),
    };
    let name = recipe::name(recipe.repository, &version, recipe.suffix.as_deref(), &hash);
    let partial = archives.join(format!(".{}-{hash}.part", recipe.repository));
    if partial.exists() {
        fs::remove_file(&partial).map_err(at(&partial))?;
    }
    builder.save(&id, &name, &partial)?;
    fs::rename(&partial, &archive).map_err(at(&archive))?;
    cache::put(&index, &Entry { name: name.clone() })?;
    let size = fs::metadata(&archive).map_err(at(&archive))?.len();
    Ok(Built {
        image: image.clone(),
        name,
        archive,
        size,
        fresh: true,
    })
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}
