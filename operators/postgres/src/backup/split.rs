//! What `pg_basebackup` writes is one archive, with its manifest in it: this takes it apart, and checks it. Pure.

use super::checked::{Checker, Files, Range};
use super::crc32c::Crc32c;
use super::tar::{BLOCK, Event, Kind, Parser};

/// A backup's file with PostgreSQL's own manifest.
pub const MANIFEST: &str = "backup_manifest";

/// The parts of what was taken.
#[derive(Debug, Default)]
pub struct Parts {
    /// Of the archive.
    pub archive: Vec<u8>,
    /// Of PostgreSQL's manifest.
    pub manifest: Vec<u8>,
}

/// What of a chunk goes into the archive.
#[derive(Debug, Default)]
struct Kept {
    /// The beginning of a header that came with an earlier chunk.
    before: Vec<u8>,
    /// From where to where in the chunk.
    stretches: Vec<(usize, usize)>,
    /// An end of its own.
    end: &'static [u8],
}

impl Kept {
    fn keep(&mut self, from: usize, to: usize) {
        match self.stretches.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ => self.stretches.push((from, to)),
        }
    }

    /// Mostly it is the whole chunk, which is not copied then.
    fn of(mut self, chunk: Vec<u8>) -> Vec<u8> {
        if self.before.is_empty() && self.end.is_empty() && self.stretches[..] == [(0, chunk.len())]
        {
            return chunk;
        }
        for (from, to) in self.stretches {
            self.before.extend_from_slice(&chunk[from..to]);
        }
        self.before.extend_from_slice(self.end);
        self.before
    }
}

/// Splits the archive, and checks files as they pass.
#[derive(Debug, Default)]
pub struct Split {
    parser: Parser,
    files: Files,
    checker: Checker,
    /// The name and size of the file that passes, and its checksum so far.
    file: Option<(String, u64, Crc32c)>,
    /// A header that is not whole yet: it may be the manifest's.
    header: Vec<u8>,
    within_manifest: bool,
    seen_manifest: bool,
    closed: bool,
}

impl Split {
    /// Takes what came.
    ///
    /// # Errors
    /// It is nothing that can be backed up, or not what the manifest says.
    pub fn take(&mut self, chunk: Vec<u8>) -> Result<Parts, String> {
        let (mut kept, mut manifest, mut at) = (Kept::default(), Vec::new(), 0);
        loop {
            let (taken, event) = self.parser.step(&chunk[at..]).map_err(|e| e.to_string())?;
            let (from, to) = (at, at + taken);
            at = to;
            match event {
                Event::More if taken == 0 => break,
                Event::More => self.header.extend_from_slice(&chunk[from..to]),
                Event::Begin(entry) if entry.name == MANIFEST => {
                    self.header.clear();
                    self.within_manifest = true;
                    self.seen_manifest = true;
                }
                Event::Begin(entry) => {
                    if self.seen_manifest {
                        return Err(format!("{} came after the manifest", entry.name));
                    }
                    kept.before.append(&mut self.header);
                    kept.keep(from, to);
                    match entry.kind {
                        Kind::File => self.file = Some((entry.name, entry.size, Crc32c::default())),
                        Kind::Link(to) if entry.name.starts_with("pg_tblspc/") => {
                            return Err(format!(
                                "tablespace {} at {to}: databases with tablespaces cannot be backed up",
                                entry.name
                            ));
                        }
                        _ => {}
                    }
                }
                Event::Content if self.within_manifest => {
                    let bytes = &chunk[from..to];
                    let taken = self.checker.take(bytes, &mut self.files);
                    taken.map_err(|e| e.to_string())?;
                    manifest.extend_from_slice(bytes);
                }
                Event::Content => {
                    if let Some((_, _, crc)) = &mut self.file {
                        crc.update(&chunk[from..to]);
                    }
                    kept.keep(from, to);
                }
                Event::Filling if self.within_manifest => {}
                Event::Filling => kept.keep(from, to),
                Event::End if self.within_manifest => self.within_manifest = false,
                Event::End => {
                    if let Some((name, size, crc)) = self.file.take() {
                        self.files.came(&name, size, crc.finish());
                    }
                }
                Event::Zeros => {
                    self.header.clear();
                    self.close(&mut kept);
                }
            }
        }
        if self.seen_manifest {
            self.close(&mut kept);
        }
        Ok(Parts {
            archive: kept.of(chunk),
            manifest,
        })
    }

    /// Whether nothing more comes into the archive: what is left is the list of its files.
    pub fn is_whole(&self) -> bool {
        self.closed && self.seen_manifest
    }

    /// The archive gets an end of its own.
    fn close(&mut self, kept: &mut Kept) {
        if !self.closed {
            self.closed = true;
            kept.end = &[0; 2 * BLOCK];
        }
    }

    /// Ends: everything came, as it should.
    ///
    /// # Errors
    /// Something is missing, or different.
    pub fn finish(self) -> Result<Vec<Range>, String> {
        if !self.seen_manifest || !self.parser.at_boundary() {
            return Err("what pg_basebackup wrote is not whole".to_owned());
        }
        self.checker.finish(&self.files).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry as PostgreSQL writes it.
    fn entry(name: &str, content: &[u8]) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000600");
        let size = format!("{:011o}", content.len());
        header[124..135].copy_from_slice(size.as_bytes());
        header[156] = b'0';
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header.extend_from_slice(content);
        header.resize(header.len().next_multiple_of(BLOCK), 0);
        header
    }

    fn line(name: &str, content: &[u8]) -> String {
        let mut crc = Crc32c::default();
        crc.update(content);
        let sum = mainstay_shared::hex::hex(&crc.finish().to_ne_bytes());
        format!(
            "{{ \"Path\": \"{name}\", \"Size\": {}, \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{sum}\" }}",
            content.len()
        )
    }

    /// What comes, its archive and its manifest.
    fn backup(files: &[(&str, Vec<u8>)]) -> (Vec<u8>, Vec<u8>, String) {
        let archive: Vec<u8> = files.iter().flat_map(|(n, c)| entry(n, c)).collect();
        let lines: Vec<String> = files.iter().map(|(n, c)| line(n, c)).collect();
        let manifest = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{}\n],\n\"WAL-Ranges\": [\n\
             {{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }}\n],\n\"Manifest-Checksum\": \"00\"}}\n",
            lines.join(",\n")
        );
        let end = [0; 2 * BLOCK];
        let came = [&archive[..], &entry(MANIFEST, manifest.as_bytes()), &end].concat();
        ([&archive[..], &end].concat(), came, manifest)
    }

    fn files() -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("backup_label", vec![b'l'; 230]),
            (
                "base/1/1",
                (0..20_000_u32).map(|n| n.to_le_bytes()[1]).collect(),
            ),
            ("base/1/2", Vec::new()),
            ("global/pg_control", vec![3; 8192]),
        ]
    }

    fn take(came: &[u8], cuts: &[usize]) -> Result<(Parts, Vec<Range>), String> {
        let (mut split, mut all) = (Split::default(), Parts::default());
        let mut rest = came;
        for cut in cuts.iter().cycle() {
            let (chunk, left) = rest.split_at(rest.len().min(*cut));
            let parts = split.take(chunk.to_vec())?;
            all.archive.extend(parts.archive);
            all.manifest.extend(parts.manifest);
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        Ok((all, split.finish()?))
    }

    proptest! {
        #[test]
        fn in_whatever_pieces(cuts in prop::collection::vec(1_usize..3000, 1..12)) {
            let (archive, came, manifest) = backup(&files());
            let (all, ranges) = take(&came, &cuts).unwrap();
            prop_assert!(all.archive == archive);
            prop_assert_eq!(all.manifest, manifest.into_bytes());
            prop_assert_eq!(ranges.len(), 1);
        }
    }

    #[test]
    fn a_chunk_of_content_alone_is_not_copied() {
        let (_, came, _) = backup(&files());
        let mut split = Split::default();
        split.take(came[..2048].to_vec()).unwrap();
        let chunk = came[2048..8192].to_vec();
        let place = chunk.as_ptr();
        assert_eq!(split.take(chunk).unwrap().archive.as_ptr(), place);
    }

    #[test]
    fn another_byte_in_a_file_is_seen() {
        let (_, mut came, _) = backup(&files());
        came[3 * BLOCK] ^= 1;
        let error = take(&came, &[4096]).unwrap_err();
        assert!(error.contains("base/1/1"), "{error}");
    }

    #[test]
    fn what_has_no_end_is_not_whole() {
        let (_, came, _) = backup(&files());
        let error = take(&came[..9000], &[4096]).unwrap_err();
        assert!(error.contains("not whole"), "{error}");
    }
}
