//! A volume of its own, that can be full and can grow; and folders that take nothing.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

/// It goes when it is dropped.
pub struct Volume(PathBuf);

impl Volume {
    /// Of so many bytes, at a folder that is there.
    pub fn new(path: PathBuf, size: u64) -> Self {
        let size = options(size);
        mount(
            "volume",
            &path,
            "tmpfs",
            MountFlags::empty(),
            size.as_c_str(),
        )
        .expect("a mount, which root may make");
        Self(path)
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let seen = rustix::fs::statvfs(&self.0).unwrap();
        seen.f_bavail * seen.f_frsize
    }

    /// It has so many bytes now.
    #[allow(dead_code, reason = "not every test program needs all of it")]
    pub fn resize(&self, size: u64) {
        mount_remount(&self.0, MountFlags::empty(), options(size)).unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn options(size: u64) -> CString {
    CString::new(format!("size={size}")).unwrap()
}

/// Every folder below one, that one first.
pub fn folders(top: &Path) -> Vec<PathBuf> {
    let mut all = vec![top.to_owned()];
    let mut next = 0;
    while let Some(folder) = all.get(next).cloned() {
        let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        all.extend(entries.filter(|path| path.is_dir()));
        next += 1;
    }
    all
}

/// Whether others than root may write in a folder.
pub fn allow(folder: &Path, writing: bool) {
    let mode = if writing { 0o755 } else { 0o555 };
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
}
