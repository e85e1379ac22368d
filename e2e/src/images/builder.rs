//! The two programs that build images, behind one face. I/O; what they are told is pure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Error, at, base, cache, command};

/// Base of engine images where a registry is at hand.
const DOCKER_BASE: &str = "debian:trixie-slim";

/// A program that builds images from Dockerfiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Builder {
    /// `buildah` with its own storage in the cache, so that the machine's stays as it is.
    Buildah {
        /// Folder of that storage.
        storage: PathBuf,
    },
    /// A Docker engine.
    Docker,
}

/// A base image that a build may start from.
pub struct Base {
    /// Its name.
    pub name: String,
    /// What tells its content.
    pub digest: String,
}

impl Builder {
    /// Picks a builder: the one that needs no registry when it is installed, else a Docker engine.
    pub fn find(cache: &Path) -> Option<Self> {
        if answers("buildah", &["--version"]) && answers("mmdebstrap", &["--version"]) {
            return Some(Self::buildah(cache));
        }
        answers("docker", &["info"]).then_some(Self::Docker)
    }

    /// `buildah` with its storage in `cache`.
    pub fn buildah(cache: &Path) -> Self {
        Self::Buildah {
            storage: cache.join("buildah"),
        }
    }

    /// Its name, which is part of what an image is made of.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Buildah { .. } => "buildah",
            Self::Docker => "docker",
        }
    }

    /// The base of engine images, made if need be.
    pub fn base(&self, cache: &Path, progress: &dyn Fn(&str)) -> Result<Base, Error> {
        match self {
            Self::Docker => Ok(Base {
                name: DOCKER_BASE.to_owned(),
                digest: DOCKER_BASE.to_owned(),
            }),
            Self::Buildah { .. } => {
                let root = base::make(cache, progress)?;
                let name = format!("localhost/mainstay/debian:trixie-{}", root.digest);
                if !succeeds(self.command(&["inspect", "--type", "image", &name])) {
                    progress("unpacking the Debian root file system into an image");
                    self.import(&root.archive, &name)?;
                }
                Ok(Base {
                    name,
                    digest: root.digest,
                })
            }
        }
    }

    fn import(&self, archive: &Path, name: &str) -> Result<(), Error> {
        let context =
            tempfile::tempdir_in(archive.parent().unwrap_or(archive)).map_err(at(archive))?;
        let linked = context.path().join("rootfs.tar");
        std::fs::hard_link(archive, &linked).map_err(at(&linked))?;
        let dockerfile = cache::repository().join("images/debian/Dockerfile");
        let id = self.build(&dockerfile, &[], context.path())?;
        command::output(&mut self.command(&["tag", &id, name]))?;
        Ok(())
    }

    /// Builds a Dockerfile and returns the image's id.
    pub fn build(
        &self,
        dockerfile: &Path,
        args: &[(String, String)],
        context: &Path,
    ) -> Result<String, Error> {
        let mut build = self.command(self.build_words());
        for (key, value) in args {
            build.arg("--build-arg").arg(format!("{key}={value}"));
        }
        build.arg("--file").arg(dockerfile).arg(context);
        let said = command::output(&mut build)?;
        Ok(said.lines().last().unwrap_or_default().trim().to_owned())
    }

    fn build_words(&self) -> &'static [&'static str] {
        match self {
            // Layers: revisions of one image share all but the last. No pull: there is no registry.
            Self::Buildah { .. } => &[
                "bud",
                "--isolation",
                "chroot",
                "--layers",
                "--pull-never",
                "--quiet",
            ],
            Self::Docker => &["build", "--quiet"],
        }
    }

    /// Runs a program of an image and returns what it wrote.
    pub fn run(&self, id: &str, program: &[&str]) -> Result<String, Error> {
        match self {
            Self::Docker => {
                let (first, rest) = program.split_first().unwrap_or((&"true", &[]));
                let mut run = self.command(&["run", "--rm", "--entrypoint", first, id]);
                Ok(command::output(run.args(rest))?)
            }
            Self::Buildah { .. } => {
                let container = command::output(&mut self.command(&["from", "--pull-never", id]))?;
                let container = container.trim();
                let mut run = self.command(&["run", "--isolation", "chroot", container, "--"]);
                let said = command::output(run.args(program));
                command::output(&mut self.command(&["rm", container]))?;
                Ok(said?)
            }
        }
    }

    /// Writes an image to a docker-archive under `name`.
    pub fn save(&self, id: &str, name: &str, archive: &Path) -> Result<(), Error> {
        match self {
            Self::Docker => {
                command::output(&mut self.command(&["tag", id, name]))?;
                let mut save = self.command(&["save", "--output"]);
                command::output(save.arg(archive).arg(name))?;
            }
            Self::Buildah { .. } => {
                let target = format!("docker-archive:{}:{name}", archive.display());
                command::output(&mut self.command(&["push", "--quiet", id, &target]))?;
            }
        }
        Ok(())
    }

    fn command(&self, words: &[&str]) -> Command {
        match self {
            Self::Docker => {
                let mut command = Command::new("docker");
                command.args(words);
                command
            }
            Self::Buildah { storage } => {
                let mut command = Command::new("buildah");
                command
                    .arg("--root")
                    .arg(storage.join("root"))
                    .arg("--runroot")
                    .arg(storage.join("run"))
                    .args(words);
                command
            }
        }
    }
}

fn answers(program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words);
    succeeds(command)
}

fn succeeds(mut command: Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> String {
        let mut words = vec![command.get_program().to_string_lossy()];
        words.extend(command.get_args().map(|a| a.to_string_lossy()));
        words.join(" ")
    }

    #[test]
    fn buildah_keeps_to_its_own_storage() {
        let builder = Builder::Buildah {
            storage: PathBuf::from("/cache/buildah"),
        };
        assert_eq!(
            words(&builder.command(&["rm", "x"])),
            "buildah --root /cache/buildah/root --runroot /cache/buildah/run rm x"
        );
    }

    #[test]
    fn a_docker_engine_builds_the_same_dockerfiles() {
        assert_eq!(
            words(&Builder::Docker.command(Builder::Docker.build_words())),
            "docker build --quiet"
        );
    }
}
