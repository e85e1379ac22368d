//! How an instance comes back whose data has parted from the primary's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of data that holds what the primary's does not, as that of a primary that was lost and
/// succeeded. After a planned hand-over nothing has parted, and nothing is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Rejoin {
    /// What the primary's does not hold is taken back; where that fails the data is copied anew.
    #[default]
    Rewind,
    /// The data is thrown away and copied anew from the primary.
    Reclone,
    /// It is left as it is, stopped, until a person has looked at it; the status says what to do.
    Manual,
}

impl Rejoin {
    /// Whether it is the default, which is not written.
    pub fn is_default(&self) -> bool {
        *self == Self::Rewind
    }
}
