//! The rule of the fixed seat, as a function of values.

use super::record::Record;

/// What a member found on its own volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnData {
    /// No data directory, or an unfinished one that may be thrown away.
    None,
    /// A data directory with this identifier.
    Present(String),
}

/// What a member may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Make the set's first data directory. Only before the record has an identifier.
    Initialise,
    /// Acquire the Lease and run as primary.
    Lead,
    /// Follow the seat's holder with the data it has.
    Follow,
    /// Copy the primary's data, then follow.
    Clone,
    /// Do nothing; a person is needed, for this reason.
    Refuse(String),
}

/// What member `me` may do, given the record and its own data.
///
/// Guarantees: only the seat ever initialises or leads, initialisation never happens in a set that
/// has an identifier, and foreign data is neither started nor overwritten.
pub fn decide(me: &str, record: &Record, data: &OwnData) -> Decision {
    let mine = record.seat == me;
    match (mine, &record.system_identifier, data) {
        (true, None, OwnData::None) => Decision::Initialise,
        // The data was made and the agent died before it could record so.
        (true, None, OwnData::Present(_)) => Decision::Lead,
        (true, Some(set), OwnData::Present(own)) if set == own => Decision::Lead,
        (false, Some(set), OwnData::Present(own)) if set == own => Decision::Follow,
        (false, _, OwnData::None) => Decision::Clone,
        (true, Some(set), OwnData::None) => Decision::Refuse(format!(
            "the volume of the primary {me} is empty, but the set has data {set}: it is not initialised again. Restore a backup, or give the volume back"
        )),
        (false, None, OwnData::Present(own)) => Decision::Refuse(format!(
            "the volume holds data {own}, but the set has none yet: delete the volume claim of {me} if that data is not wanted"
        )),
        (_, Some(set), OwnData::Present(own)) => Decision::Refuse(format!(
            "the volume holds data {own} of another set, not {set}: delete the volume claim of {me} if that data is not wanted"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: Option<&str>) -> Record {
        Record {
            seat: "db-1".into(),
            epoch: 1,
            system_identifier: id.map(str::to_owned),
            address: None,
        }
    }

    #[test]
    fn only_the_seat_of_a_new_set_initialises() {
        assert_eq!(
            decide("db-1", &record(None), &OwnData::None),
            Decision::Initialise
        );
        assert_eq!(
            decide("db-2", &record(None), &OwnData::None),
            Decision::Clone
        );
        assert!(matches!(
            decide("db-1", &record(Some("7")), &OwnData::None),
            Decision::Refuse(_)
        ));
    }

    #[test]
    fn foreign_data_is_neither_started_nor_overwritten() {
        for me in ["db-1", "db-2"] {
            let foreign = OwnData::Present("8".into());
            assert!(matches!(
                decide(me, &record(Some("7")), &foreign),
                Decision::Refuse(_)
            ));
        }
    }

    #[test]
    fn own_data_leads_or_follows_by_seat() {
        let own = OwnData::Present("7".into());
        assert_eq!(decide("db-1", &record(Some("7")), &own), Decision::Lead);
        assert_eq!(decide("db-2", &record(Some("7")), &own), Decision::Follow);
    }
}
