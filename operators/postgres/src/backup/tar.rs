//! Reading the tar format as PostgreSQL writes it, piece by piece. Pure.

/// Size of a header, and what everything is filled up to.
pub const BLOCK: usize = 512;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, and where it leads.
    Link(String),
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its relative path, without `./` and without `/` at the end.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u64,
    /// Its rights.
    pub mode: u32,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// More is needed.
    More,
    /// An entry begins.
    Begin(Entry),
    /// So many of the bytes that were taken are content.
    Content,
    /// The entry has ended, its filling too.
    End,
    /// Filling was taken.
    Filling,
    /// A block of zeros: the archive ends, or another one follows.
    Zeros,
}

/// An archive that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the archive is not understood: {0}")]
pub struct TarError(String);

/// Reads an archive.
#[derive(Debug)]
pub struct Parser {
    header: Vec<u8>,
    left: u64,
    filling: u64,
    within: bool,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            header: Vec::with_capacity(BLOCK),
            left: 0,
            filling: 0,
            within: false,
        }
    }
}

impl Parser {
    /// Takes from the beginning of `input`; returns how much was taken, and what it was. An event's bytes
    /// are never more than one of: a part of a header, content, filling.
    ///
    /// # Errors
    /// It is no archive, or one that PostgreSQL does not make.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, Event), TarError> {
        if self.within && self.left == 0 && self.filling == 0 {
            self.within = false;
            return Ok((0, Event::End));
        }
        if input.is_empty() {
            return Ok((0, Event::More));
        }
        if self.left > 0 {
            let taken =
                usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
            self.left -= taken as u64;
            return Ok((taken, Event::Content));
        }
        if self.filling > 0 {
            let taken =
                usize::try_from(self.filling).map_or(input.len(), |left| left.min(input.len()));
            self.filling -= taken as u64;
            return Ok((taken, Event::Filling));
        }
        let taken = (BLOCK - self.header.len()).min(input.len());
        self.header.extend_from_slice(&input[..taken]);
        if self.header.len() < BLOCK {
            return Ok((taken, Event::More));
        }
        let header = std::mem::replace(&mut self.header, Vec::with_capacity(BLOCK));
        if header.iter().all(|b| *b == 0) {
            return Ok((taken, Event::Zeros));
        }
        let entry = parse(&header)?;
        if entry.kind == Kind::File {
            self.left = entry.size;
            self.filling = (BLOCK as u64 - entry.size % BLOCK as u64) % BLOCK as u64;
        }
        self.within = true;
        Ok((taken, Event::Begin(entry)))
    }

    /// Whether it may end here.
    pub fn at_boundary(&self) -> bool {
        !self.within && self.header.is_empty()
    }
}

fn parse(header: &[u8]) -> Result<Entry, TarError> {
    let wrong = |what: &str| TarError(what.to_owned());
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(at, b)| {
            if (148..156).contains(&at) {
                32
            } else {
                u64::from(*b)
            }
        })
        .sum();
    if number(&header[148..156]) != Some(sum) {
        return Err(wrong("a header's checksum is another"));
    }
    let name = text(&header[..100])?;
    let size = number(&header[124..136]).ok_or_else(|| wrong("a size is no number"))?;
    let mode = number(&header[100..108]).ok_or_else(|| wrong("rights are no number"))?;
    let kind = match header[156] {
        b'0' | 0 => Kind::File,
        b'5' => Kind::Folder,
        b'2' => Kind::Link(text(&header[157..257])?),
        other => return Err(TarError(format!("an entry has type {other}"))),
    };
    let name = name
        .trim_start_matches("./")
        .trim_end_matches('/')
        .to_owned();
    let outside = name.starts_with('/') || name.split('/').any(|part| part == "..");
    if outside {
        return Err(TarError(format!("`{name}` leads outside")));
    }
    Ok(Entry {
        name,
        kind,
        size,
        mode: u32::try_from(mode & 0o7777).unwrap_or(0o600),
    })
}

fn text(field: &[u8]) -> Result<String, TarError> {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    std::str::from_utf8(&field[..end])
        .map(str::to_owned)
        .map_err(|_| TarError("a name is no text".to_owned()))
}

/// Octal digits, or bytes after a set bit where these do not do.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let mut rest = field[1..].iter();
        return rest.try_fold(u64::from(field[0] & 0x7F), |number, byte| {
            number.checked_mul(256)?.checked_add(u64::from(*byte))
        });
    }
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(|c: char| c == ' ' || c == '\0');
    if text.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    type Found = Vec<(Entry, Vec<u8>)>;

    fn read(archive: &[u8], chunk: usize) -> Result<Found, TarError> {
        let (mut parser, mut found) = (Parser::default(), Found::new());
        for mut input in archive.chunks(chunk.max(1)) {
            loop {
                let (taken, event) = parser.step(input)?;
                match event {
                    Event::More if taken == 0 => break,
                    Event::Begin(entry) => found.push((entry, Vec::new())),
                    Event::Content => found.last_mut().unwrap().1.extend(&input[..taken]),
                    _ => {}
                }
                input = &input[taken..];
            }
        }
        Ok(found)
    }

    fn archive() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("base")).unwrap();
        std::fs::write(at("base/1"), vec![7; 1300]).unwrap();
        std::fs::write(at("empty"), "").unwrap();
        std::fs::write(at("even"), vec![1; 1024]).unwrap();
        std::os::unix::fs::symlink("/elsewhere", at("link")).unwrap();
        let output = Command::new("tar")
            .args(["--format=ustar", "-cf", "-", "-C"])
            .arg(folder.path())
            .args(["./base", "empty", "even", "link"])
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        output.stdout
    }

    #[test]
    fn as_another_program_writes_it_in_whatever_pieces() {
        let archive = archive();
        let whole = read(&archive, archive.len()).unwrap();
        let names: Vec<&str> = whole.iter().map(|(e, _)| e.name.as_str()).collect();
        assert_eq!(names, ["base", "base/1", "empty", "even", "link"]);
        assert_eq!(whole[1].1, vec![7; 1300]);
        assert_eq!(whole[4].0.kind, Kind::Link("/elsewhere".into()));
        for chunk in [1, 7, 511, 512, 513, 4096] {
            assert_eq!(read(&archive, chunk).unwrap(), whole, "{chunk}");
        }
    }

    #[test]
    fn what_leads_outside_is_refused() {
        let mut header = vec![0; BLOCK];
        (&mut header[..]).write_all(b"../x").unwrap();
        header[124..135].copy_from_slice(b"00000000000");
        header[156] = b'0';
        let sum: u64 = header.iter().map(|b| u64::from(*b)).sum::<u64>() + 8 * 32;
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let error = read(&header, BLOCK).unwrap_err().to_string();
        assert!(error.contains("outside"), "{error}");
    }

    #[test]
    fn large_sizes() {
        let mut field = [0_u8; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&(9_u64 << 30).to_be_bytes());
        assert_eq!(number(&field), Some(9 << 30));
        assert_eq!(number(b"00000001750 "), Some(1000));
        assert_eq!(number(b"0000000175x "), None);
    }

    proptest! {
        #[test]
        fn what_was_damaged_is_an_error_or_another_content(at in 0_usize..5000, to in any::<u8>()) {
            let mut archive = archive();
            let at = at % archive.len();
            archive[at] = to;
            let _ = read(&archive, 512);
        }
    }
}
