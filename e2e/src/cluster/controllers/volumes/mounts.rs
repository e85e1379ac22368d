//! The mounts of this process's mount namespace, read from the kernel's table.

use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub target: PathBuf,
    /// What is mounted, for example `/dev/loop3`.
    pub source: String,
}

/// Reads `/proc/self/mountinfo`; in the order in which the mounts were made.
pub fn read() -> std::io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
}

/// Parses the text of a `mountinfo` file; lines it does not understand are left out.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            Some(Mount {
                target: PathBuf::from(unescape(mount.split(' ').nth(4)?)),
                source: unescape(source.split(' ').nth(1)?),
            })
        })
        .collect()
}

/// The topmost mount at exactly `target`.
pub fn at<'a>(mounts: &'a [Mount], target: &Path) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.target == target)
}

/// The kernel writes blanks, backslashes and line ends as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let (Some(code), Some(rest)) = (code, part.get(3..)) {
            out.push(char::from(code));
            out.push_str(rest);
        } else {
            out.push('\\');
            out.push_str(part);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_target() {
        let text = "36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext4 /dev/loop3 rw\n\
                    37 35 98:0 / /mnt/c rw - ext4 /dev/loop4 rw\n\
                    38 35 98:0 / /mnt/c rw shared:2 - ext4 /dev/loop5 rw\n\
                    nonsense\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 3);
        assert_eq!(
            at(&mounts, Path::new("/mnt/a b")).unwrap().source,
            "/dev/loop3"
        );
        assert_eq!(
            at(&mounts, Path::new("/mnt/c")).unwrap().source,
            "/dev/loop5"
        );
        assert_eq!(at(&mounts, Path::new("/mnt")), None);
    }
}
