//! Names that are minted: of backups, and of the instances that own repositories.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::crypto::sha256;
use crate::hex::{hex, is_hex};

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct NotAnId {
    text: String,
    what: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NotAnId { text: text.to_owned(), what: $what })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAnId;

            fn try_from(text: String) -> Result<Self, NotAnId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

text_id!(
    /// A backup: when it was begun, for people and for order, and eight random bytes, for uniqueness.
    BackupId,
    "a backup's id: a time such as 20260102t030405z, `-`, and 16 hexadecimal digits",
    |text| {
        let Some((time, random)) = text.split_once('-') else {
            return false;
        };
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        time.len() == 16
            && time.is_ascii()
            && digits(&time[..8])
            && &time[8..9] == "t"
            && digits(&time[9..15])
            && time.ends_with('z')
            && random.len() == 16
            && is_hex(random)
    }
);

text_id!(
    /// An instance's data as a whole: minted when it is made or restored, kept with the data.
    OwnerId,
    "an instance's id: 32 hexadecimal digits",
    |text| text.len() == 32 && is_hex(text)
);

impl BackupId {
    /// The id of a backup that is begun now.
    pub fn new(now: Timestamp, random: [u8; 8]) -> Self {
        Self(format!(
            "{}-{}",
            now.strftime("%Y%m%dt%H%M%Sz"),
            hex(&random)
        ))
    }
}

impl OwnerId {
    /// An id of random bytes.
    pub fn new(random: [u8; 16]) -> Self {
        Self(hex(&random))
    }

    /// The id of data that an engine has minted an identifier for, which goes with the data and that of no other data
    /// equals: nobody has to write anything when backups are switched on.
    pub fn of(identifier: &str) -> Self {
        let digest = sha256(format!("mainstay owner {identifier}").as_bytes());
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Self::new(half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn minted_ids_are_ids_and_sort_by_time(
            a in 0_i64..4_000_000_000, b in 0_i64..4_000_000_000, random in any::<[u8; 8]>(), bytes in any::<[u8; 16]>(),
        ) {
            let [first, second] = [a, b].map(|second| BackupId::new(Timestamp::from_second(second).unwrap(), random));
            prop_assert_eq!(first.as_str().parse::<BackupId>().unwrap(), first.clone());
            prop_assert_eq!(a.cmp(&b), first.cmp(&second));
            let owner = OwnerId::new(bytes);
            prop_assert_eq!(owner.as_str().parse::<OwnerId>().unwrap(), owner);
        }
    }

    #[test]
    fn nothing_else_is_an_id() {
        for bad in [
            "",
            "x",
            "20260102t030405z",
            "20260102t030405z-00112233445566zz",
            "../../../../etc-0011223344556677",
        ] {
            assert!(bad.parse::<BackupId>().is_err(), "{bad}");
        }
        let error = "x".parse::<OwnerId>().unwrap_err().to_string();
        assert_eq!(error, "`x` is not an instance's id: 32 hexadecimal digits");
    }
}
