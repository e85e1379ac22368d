//! Subcommand `install`: the init container puts the binary where the engine's image finds it. I/O.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Copy the running executable to `folder`/`name`: written, synced, renamed, so that nobody ever
/// runs half of it. Returns the path.
pub fn install(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let path = folder.join(name);
    let temporary = folder.join(format!(".{name}.new"));
    fs::create_dir_all(folder)?;
    fs::copy(std::env::current_exe()?, &temporary)?;
    let file = File::open(&temporary)?;
    file.set_permissions(Permissions::from_mode(0o555))?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    File::open(folder)?.sync_all()?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_whole_and_executable_and_can_be_replaced() {
        let folder = std::env::temp_dir().join(format!("mainstay-install-{}", std::process::id()));
        for _ in 0..2 {
            let path = install(&folder, "agent").unwrap();
            let own = fs::metadata(std::env::current_exe().unwrap()).unwrap();
            let copy = fs::metadata(&path).unwrap();
            assert_eq!(copy.len(), own.len());
            assert_eq!(copy.permissions().mode() & 0o777, 0o555);
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
