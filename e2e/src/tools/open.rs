//! Programs that tests start as other users.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Enter, for everybody.
const ENTER: u32 = 0o001;

/// The program where every user may run it: in its place or, where a folder on the way is closed to others as root's home is, a
/// copy. Another copy of the same name is replaced by the newest.
///
/// # Errors
/// It cannot be read or copied.
pub fn for_all(program: &Path) -> io::Result<PathBuf> {
    let is_open = |folder: &Path| {
        let found = fs::metadata(folder);
        found.is_ok_and(|f| f.permissions().mode() & ENTER != 0)
    };
    let program = fs::canonicalize(program)?;
    if program.ancestors().skip(1).all(is_open) {
        return Ok(program);
    }
    let Some(name) = program.file_name() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = std::env::temp_dir().join("mainstay-programs");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let draft = tempfile::NamedTempFile::new_in(&folder)?;
    fs::copy(&program, draft.path())?;
    fs::set_permissions(draft.path(), fs::Permissions::from_mode(0o755))?;
    // Who runs the one before keeps it.
    let copy = folder.join(name);
    draft.into_temp_path().persist(&copy).map_err(|e| e.error)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_closed_folder_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("a-program-of-a-test");
        fs::write(&program, "new").unwrap();
        let open = |mode| {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        };
        open(0o755);
        assert_eq!(
            for_all(&program).unwrap(),
            fs::canonicalize(&program).unwrap()
        );
        open(0o700);
        let copy = for_all(&program).unwrap();
        assert_ne!(copy, program);
        assert_eq!(fs::read_to_string(&copy).unwrap(), "new");
        let mode = fs::metadata(&copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(for_all(&copy).unwrap(), copy, "it is where all may run it");
        fs::remove_file(copy).unwrap();
    }
}
