//! Whether what a base backup sent is what PostgreSQL's `backup_manifest` says. Pure.

use std::collections::HashMap;

use mainstay_backup::crypto::sha256;
use serde::Deserialize;

use super::wal::Lsn;

/// What was seen of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    size: u64,
    crc: u32,
}

/// Files as they came. A name is kept as a digest, so that a million files take no more than some ten
/// megabytes.
#[derive(Debug, Default)]
pub struct Files(HashMap<[u8; 16], Seen>);

/// Why a base backup is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A line of the manifest is not understood.
    #[error("PostgreSQL's manifest is not understood: {0}")]
    Manifest(String),
    /// A file is not as the manifest says.
    #[error(
        "{name} came otherwise than PostgreSQL's manifest says ({what}): it was damaged on the way or is on the disk"
    )]
    File {
        /// Which one.
        name: String,
        /// What differs.
        what: String,
    },
    /// There are files that the manifest does not name.
    #[error("{0} files came that PostgreSQL's manifest does not name")]
    More(usize),
}

/// A stretch of the log that a base backup needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Timeline.
    pub timeline: u32,
    /// From here.
    pub start: Lsn,
    /// To here.
    pub end: Lsn,
}

#[derive(Deserialize)]
struct FileLine {
    #[serde(rename = "Path")]
    path: Option<String>,
    #[serde(rename = "Encoded-Path")]
    encoded: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: Option<String>,
    #[serde(rename = "Checksum")]
    checksum: Option<String>,
}

#[derive(Deserialize)]
struct RangeLine {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: String,
    #[serde(rename = "End-LSN")]
    end: String,
}

fn key(name: &str) -> [u8; 16] {
    let digest = sha256(name.as_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

impl Files {
    /// A file came.
    pub fn came(&mut self, name: &str, size: u64, crc: u32) {
        self.0.insert(key(name), Seen { size, crc });
    }

    /// How many are not accounted for.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether all are.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads a manifest as PostgreSQL writes it, a file in each line, and ticks files off.
#[derive(Debug, Default)]
pub struct Checker {
    line: Vec<u8>,
    ranges: Vec<Range>,
}

/// Longest line: a path of 1024 bytes as digits, and some.
const LONGEST: usize = 16 << 10;

impl Checker {
    /// Takes content.
    ///
    /// # Errors
    /// A file is not as it says.
    pub fn take(&mut self, bytes: &[u8], files: &mut Files) -> Result<(), CheckError> {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() > LONGEST {
                return Err(CheckError::Manifest("a line is too long".to_owned()));
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.line(&line, files)?;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], files: &mut Files) -> Result<(), CheckError> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim().trim_end_matches(',');
        let wrong = |why: String| CheckError::Manifest(why);
        if text.starts_with("{ \"Path\"") || text.starts_with("{ \"Encoded-Path\"") {
            let line: FileLine = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
            return Self::file(line, files);
        }
        if text.starts_with("{ \"Timeline\"") {
            let line: RangeLine = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
            let lsn = |text: String| text.parse::<Lsn>().map_err(|e| wrong(e.to_string()));
            self.ranges.push(Range {
                timeline: line.timeline,
                start: lsn(line.start)?,
                end: lsn(line.end)?,
            });
        }
        Ok(())
    }

    fn file(line: FileLine, files: &mut Files) -> Result<(), CheckError> {
        let name = match (line.path, line.encoded) {
            (Some(path), _) => path,
            (None, Some(_)) => {
                return Err(CheckError::Manifest("a file's name is no text".to_owned()));
            }
            (None, None) => return Err(CheckError::Manifest("a file has no name".to_owned())),
        };
        let differs = |what: String| CheckError::File {
            name: name.clone(),
            what,
        };
        let Some(seen) = files.0.remove(&key(&name)) else {
            return Err(differs("it did not come".to_owned()));
        };
        if seen.size != line.size {
            return Err(differs(format!(
                "{} bytes instead of {}",
                seen.size, line.size
            )));
        }
        // An empty file may be without.
        match (line.algorithm.as_deref(), line.checksum) {
            (Some("CRC32C"), Some(sum)) => {
                // As it lies in the memory of the server, which is this machine's.
                let own = mainstay_shared::hex::hex(&seen.crc.to_ne_bytes());
                if own != sum {
                    return Err(differs(format!("checksum {own} instead of {sum}")));
                }
                Ok(())
            }
            other => Err(CheckError::Manifest(format!(
                "{name} has checksum {other:?}"
            ))),
        }
    }

    /// Ends: every file has come as it should, and no other.
    ///
    /// # Errors
    /// There are files that it does not name, or it names no log.
    pub fn finish(self, files: &Files) -> Result<Vec<Range>, CheckError> {
        if !files.is_empty() {
            return Err(CheckError::More(files.len()));
        }
        if self.ranges.is_empty() {
            return Err(CheckError::Manifest(
                "it does not say which log is needed".to_owned(),
            ));
        }
        Ok(self.ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n\
        { \"Path\": \"backup_label\", \"Size\": 9, \"Last-Modified\": \"2026-01-01 00:00:00 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"839206e3\" },\n\
        { \"Path\": \"PG_VERSION\", \"Size\": 9, \"Last-Modified\": \"2026-01-01 00:00:00 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"839206e3\" }\n\
        ],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }\n],\n\
        \"Manifest-Checksum\": \"00\"}\n";

    fn files(all: &[(&str, u64, u32)]) -> Files {
        let mut files = Files::default();
        for (name, size, crc) in all {
            files.came(name, *size, *crc);
        }
        files
    }

    fn check(mut files: Files) -> Result<Vec<Range>, CheckError> {
        let mut checker = Checker::default();
        for chunk in MANIFEST.as_bytes().chunks(17) {
            checker.take(chunk, &mut files)?;
        }
        checker.finish(&files)
    }

    const CRC: u32 = u32::from_ne_bytes([0x83, 0x92, 0x06, 0xE3]);

    #[test]
    fn what_came_as_it_should_is_good() {
        let ranges = check(files(&[("backup_label", 9, CRC), ("PG_VERSION", 9, CRC)])).unwrap();
        assert_eq!(
            ranges,
            [Range {
                timeline: 1,
                start: Lsn(0x0200_0028),
                end: Lsn(0x0200_0100)
            }]
        );
    }

    #[test]
    fn every_difference_is_seen() {
        let good = ("backup_label", 9, CRC);
        for (all, word) in [
            (vec![good], "did not come"),
            (vec![good, ("PG_VERSION", 8, CRC)], "8 bytes"),
            (vec![good, ("PG_VERSION", 9, 1)], "checksum"),
            (
                vec![good, ("PG_VERSION", 9, CRC), ("more", 1, 1)],
                "does not name",
            ),
        ] {
            let error = check(files(&all)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
