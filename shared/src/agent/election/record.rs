//! The record that a set keeps in the annotations of its Lease.
//!
//! The operator creates the Lease once (create-only) with the seat; afterwards only the holder
//! writes it, in the same replace-with-resourceVersion that renews.

use std::collections::BTreeMap;

use super::lease::{ADDRESS, CHARTER, EPOCH, SEAT, SYSTEM_IDENTIFIER};
use crate::election::charter::Charter;

/// What the Lease of a set says besides who holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Instance that may be primary.
    pub seat: String,
    /// Epoch of the last acquisition; 0 before the first. It never goes back.
    pub epoch: u64,
    /// Identifier of the set's data. Once present, the set is never initialised again.
    pub system_identifier: Option<String>,
    /// Address of the holder's pod, from which replicas stream.
    pub address: Option<String>,
}

/// The annotations of a Lease could not be read as a record.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    /// An annotation is missing.
    #[error(
        "the Lease has no annotation {0}; delete the Lease and the operator writes it anew from the volume claims"
    )]
    Missing(&'static str),
    /// The charter cannot be read.
    #[error("annotation {CHARTER} of the Lease cannot be read: {0}")]
    NotACharter(String),
    /// An annotation is not a number.
    #[error("annotation {0} of the Lease is {1:?}, not a number")]
    NotANumber(&'static str, String),
}

impl Record {
    /// Read it from a Lease's annotations.
    ///
    /// # Errors
    /// When the seat is missing or the epoch is not a number: such a record decides nothing.
    pub fn from_annotations(a: &BTreeMap<String, String>) -> Result<Self, RecordError> {
        if let Some(text) = a.get(CHARTER) {
            let charter: Charter =
                serde_json::from_str(text).map_err(|e| RecordError::NotACharter(e.to_string()))?;
            let holder = &charter.ballot.holder;
            return Ok(Self {
                seat: holder.member.name.to_string(),
                epoch: charter.ballot.epoch.0,
                system_identifier: charter
                    .identifier
                    .map(String::from)
                    .or_else(|| a.get(SYSTEM_IDENTIFIER).cloned()),
                address: a.get(ADDRESS).cloned(),
            });
        }
        let epoch = match a.get(EPOCH) {
            None => 0,
            Some(text) => text
                .parse()
                .map_err(|_| RecordError::NotANumber(EPOCH, text.clone()))?,
        };
        Ok(Self {
            seat: a.get(SEAT).ok_or(RecordError::Missing(SEAT))?.clone(),
            epoch,
            system_identifier: a.get(SYSTEM_IDENTIFIER).cloned(),
            address: a.get(ADDRESS).cloned(),
        })
    }

    /// Write it as a Lease's annotations.
    pub fn to_annotations(&self) -> BTreeMap<String, String> {
        let mut a = BTreeMap::from([
            (SEAT.to_owned(), self.seat.clone()),
            (EPOCH.to_owned(), self.epoch.to_string()),
        ]);
        if let Some(id) = &self.system_identifier {
            a.insert(SYSTEM_IDENTIFIER.to_owned(), id.clone());
        }
        if let Some(address) = &self.address {
            a.insert(ADDRESS.to_owned(), address.clone());
        }
        a
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_annotations() {
        let record = Record {
            seat: "db-1".into(),
            epoch: 7,
            system_identifier: Some("7311".into()),
            address: Some("10.244.1.9".into()),
        };
        assert_eq!(
            Record::from_annotations(&record.to_annotations()),
            Ok(record)
        );
    }

    #[test]
    fn a_record_without_a_seat_decides_nothing() {
        assert_eq!(
            Record::from_annotations(&BTreeMap::new()),
            Err(RecordError::Missing(SEAT))
        );
    }
}
