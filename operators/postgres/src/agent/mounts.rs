//! What is mounted. I/O.

use std::ops::Deref;
use std::path::Path;

use mainstay_shared::agent::mounts;
pub use mainstay_shared::agent::mounts::{
    Fingerprint, fingerprint, place_file, place_identity, read_identity, text,
};
use mainstay_shared::agent::paths;

use super::place::Place;
use crate::settings::{PostgresSettings, TIMELINES_FILE};

/// What is mounted, read as a whole.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    common: mounts::Mounts<PostgresSettings>,
    /// Highest timeline that volumes have which were set aside; 0 where there are none.
    pub timelines: u64,
}

impl Deref for Mounts {
    type Target = mounts::Mounts<PostgresSettings>;

    fn deref(&self) -> &Self::Target {
        &self.common
    }
}

impl Mounts {
    /// Read again if something changed; true then. What can no longer be read keeps its last
    /// readable content: a half-made change must not stop what runs.
    pub fn refresh(&mut self, place: &Place) -> bool {
        let node = place.me.node.as_deref();
        if !self.common.refresh(&place.root, node) {
            return false;
        }
        match read_timelines(&place.mount(paths::CONFIG)) {
            Ok(read) => self.timelines = read,
            Err(why) => self.common.wrong = Some(why),
        }
        true
    }
}

/// Of a set that never went back in place there is no file.
fn read_timelines(folder: &Path) -> Result<u64, String> {
    let file = folder.join(TIMELINES_FILE);
    if !file.exists() {
        return Ok(0);
    }
    let text = text(&file)?;
    text.trim()
        .parse()
        .map_err(|e| format!("{TIMELINES_FILE} cannot be understood: {e}"))
}
