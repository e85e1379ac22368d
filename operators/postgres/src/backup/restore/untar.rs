//! Writing an archive's files into a folder, as it comes. I/O.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::runtime::Handle;

use super::super::tar::{Event, Kind, Parser};

/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;

/// Writes everything that `from` brings below `folder`. Blocks: to be run on a thread of its own.
///
/// # Errors
/// It is no archive, or cannot be written.
pub fn untar(
    from: &mut (dyn AsyncRead + Unpin + Send),
    folder: &Path,
    handle: &Handle,
) -> io::Result<()> {
    let (mut parser, mut chunk, mut file) = (Parser::default(), vec![0; CHUNK], None);
    loop {
        let read = handle.block_on(from.read(&mut chunk))?;
        if read == 0 {
            break;
        }
        let mut input = &chunk[..read];
        loop {
            let (taken, event) = parser.step(input).map_err(io::Error::other)?;
            let bytes = &input[..taken];
            input = &input[taken..];
            match event {
                Event::More if taken == 0 => break,
                Event::Begin(entry) => {
                    let path = folder.join(&entry.name);
                    match entry.kind {
                        Kind::Folder => make(&path)?,
                        Kind::File => {
                            if let Some(parent) = path.parent() {
                                make(parent)?;
                            }
                            let mut options = fs::OpenOptions::new();
                            let options = options.write(true).create_new(true);
                            file = Some(options.mode(entry.mode & 0o700).open(&path)?);
                        }
                        // The log's folder may be one where the backup was made, and is one here.
                        Kind::Link(_) if entry.name == "pg_wal" => make(&path)?,
                        Kind::Link(to) => {
                            return Err(io::Error::other(format!(
                                "{} leads to {to}: tablespaces cannot be restored",
                                entry.name
                            )));
                        }
                    }
                }
                Event::Content => {
                    if let Some(file) = &mut file {
                        file.write_all(bytes)?;
                    }
                }
                Event::End => file = None,
                Event::More | Event::Filling | Event::Zeros => {}
            }
        }
    }
    if parser.at_boundary() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the archive is not whole",
        ))
    }
}

fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}
