//! What a store answers when it does not do what it is asked, in words that say what to do.

use std::fmt;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

/// Why a store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// There is no such object.
    #[error("there is no such object")]
    NotFound,
    /// There is one already, and it is not overwritten.
    #[error("there is one already")]
    Exists,
    /// The bucket or container does not exist.
    #[error("there is no such bucket: check its name, or make it")]
    NoSuchBucket,
    /// The bucket is in another region.
    #[error("the bucket is in another region{}: set that region", expected.as_ref().map_or(String::new(), |region| format!(", {region}")))]
    WrongRegion {
        /// The right one, if the store says so.
        expected: Option<String>,
    },
    /// The credentials were valid until some time ago.
    #[error("the credentials have expired: renew them in the Secret")]
    ExpiredCredentials,
    /// The store does not know the access key.
    #[error("the store does not know this access key: check the access key id, or make a new pair")]
    UnknownKey,
    /// The secret does not belong to the access key.
    #[error("the secret does not belong to the access key: copy both again into the Secret")]
    WrongSecret,
    /// The credentials are good, the right is missing.
    #[error(
        "the credentials do not allow it ({told}): give them list, read, write and delete below the prefix"
    )]
    Denied {
        /// The store's words.
        told: String,
    },
    /// A folder does not allow it.
    #[error("the volume does not allow it ({told}): let user and group 999 write there")]
    Forbidden {
        /// The system's words.
        told: String,
    },
    /// A volume does not answer as a disk would.
    #[error("the volume is away ({told}): look at its file server, or at the disk")]
    Gone {
        /// The system's words.
        told: String,
    },
    /// A lock or a hold keeps the object.
    #[error("{}", until.map_or_else(
        || "a lock of the bucket keeps it".to_owned(),
        |until| format!("a lock of the bucket keeps it until {until}")
    ))]
    Locked {
        /// Until when, if it is known.
        until: Option<Timestamp>,
    },
    /// The clocks of the store and of this machine differ too much for signatures.
    #[error("{}", skew_words(*skew))]
    ClockSkew {
        /// How far this machine's clock is ahead of the store's, if the store tells its time.
        skew: Option<SignedDuration>,
    },
    /// The store is full, or a quota is.
    #[error("the store has no room left: extend it or its quota, or keep less")]
    Full,
    /// The store asks for fewer requests.
    #[error("the store is busy and asks to come back later")]
    Busy,
    /// Its certificate is not trusted.
    #[error(
        "the store's certificate is not trusted ({why}): name its authority, or the host name that it is issued for"
    )]
    Certificate {
        /// What rustls says.
        why: String,
    },
    /// It cannot be reached.
    #[error("the store is not reached ({why}): check the endpoint, DNS and the network policy")]
    Unreachable {
        /// What the network says.
        why: String,
    },
    /// The connection broke, more often than is tried again.
    #[error("the connection to the store broke again and again ({why})")]
    Interrupted {
        /// What the network says.
        why: String,
    },
    /// What came is not what was stored.
    #[error("it is damaged: {what}")]
    Damaged {
        /// What differs.
        what: String,
    },
    /// The store cannot do it.
    #[error("the store cannot do this: {what}")]
    Unsupported {
        /// What.
        what: String,
    },
    /// The store's settings cannot be.
    #[error("{what}")]
    Settings {
        /// What is wrong with them.
        what: String,
    },
    /// Anything else, in the store's words.
    #[error("{told}")]
    Other {
        /// The words.
        told: String,
    },
}

fn skew_words(skew: Option<SignedDuration>) -> String {
    let told = match skew {
        Some(skew) if skew.is_negative() => {
            format!(" is {} s behind the store's", skew.abs().as_secs())
        }
        Some(skew) => format!(" is {} s ahead of the store's", skew.as_secs()),
        None => " and the store's differ too much".to_owned(),
    };
    format!("this machine's clock{told}: set it right, for example by NTP")
}

impl Reason {
    /// Whether the same again may succeed without anybody doing anything.
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Busy | Self::Unreachable { .. } | Self::Interrupted { .. } | Self::Gone { .. }
        )
    }
}

/// What was asked for, of which object, and why it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    /// For example `writing`.
    pub doing: &'static str,
    /// The object's key or the folder, below the instance's prefix.
    pub key: String,
    /// Why not.
    pub reason: Reason,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { doing, key, reason } = self;
        if key.is_empty() {
            write!(f, "{doing}: {reason}")
        } else {
            write!(f, "{doing} {key}: {reason}")
        }
    }
}

impl std::error::Error for StoreError {}

/// An answer that is no success, as it came. It travels through `object_store` as the source of its error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's number.
    pub status: StatusCode,
    /// The store's word for it; empty where there is none, as after HEAD.
    pub code: String,
    /// The store's sentence.
    pub message: String,
    /// The region that the store names.
    pub region: Option<String>,
    /// How far this machine's clock was ahead of the answer's date.
    pub skew: Option<SignedDuration>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.status.as_u16(), self.code, self.message)
    }
}

impl std::error::Error for Answer {}

/// Beyond this S3 refuses signatures; a clock that is off by more is the likelier cause of a refusal.
const SKEW: SignedDuration = SignedDuration::from_mins(10);

impl Answer {
    /// What an answer means.
    pub fn reason(&self) -> Reason {
        let skewed = self.skew.filter(|skew| skew.abs() > SKEW);
        let told = if self.message.is_empty() {
            self.status.to_string()
        } else {
            self.message.clone()
        };
        match self.code.as_str() {
            "NoSuchBucket" | "ContainerNotFound" | "InvalidBucketName" => Reason::NoSuchBucket,
            "NoSuchKey" | "NoSuchVersion" | "BlobNotFound" | "NotFound" => Reason::NotFound,
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
            | "TemporaryRedirect" => Reason::WrongRegion {
                expected: self.region.clone(),
            },
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
                Reason::ExpiredCredentials
            }
            "RequestTimeTooSkewed" | "RequestExpired" => Reason::ClockSkew { skew: self.skew },
            "InvalidAccessKeyId"
            | "InvalidToken"
            | "InvalidClientTokenId"
            | "XAdminUserNotFound" => Reason::UnknownKey,
            "SignatureDoesNotMatch" | "AuthenticationFailed" if skewed.is_some() => {
                Reason::ClockSkew { skew: skewed }
            }
            "SignatureDoesNotMatch" | "AuthenticationFailed" => Reason::WrongSecret,
            "ObjectLocked"
            | "InvalidObjectState"
            | "BlobImmutableDueToPolicy"
            | "ObjectUnderActiveHold" => Reason::Locked { until: None },
            "AccessDenied" if is_lock(&self.message) => Reason::Locked { until: None },
            "XMinioStorageFull" | "QuotaExceeded" | "InsufficientStorage" => Reason::Full,
            "SlowDown" | "ServiceUnavailable" | "ServerBusy" | "RequestLimitExceeded" => {
                Reason::Busy
            }
            "PreconditionFailed" | "ConditionNotMet" | "BlobAlreadyExists" => Reason::Exists,
            "NotImplemented" => Reason::Unsupported { what: told },
            _ => match self.status.as_u16() {
                403 if skewed.is_some() => Reason::ClockSkew { skew: skewed },
                301 | 307 | 308 => Reason::WrongRegion {
                    expected: self.region.clone(),
                },
                401 => Reason::UnknownKey,
                403 => Reason::Denied { told },
                404 => Reason::NotFound,
                412 => Reason::Exists,
                507 => Reason::Full,
                429 | 500 | 502..=506 => Reason::Busy,
                _ => Reason::Other {
                    told: self.to_string(),
                },
            },
        }
    }
}

/// Some stores say a lock only in the sentence of a refusal.
fn is_lock(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "object lock",
        "object protected",
        "worm",
        "retention",
        "legal hold",
    ]
    .iter()
    .any(|word| message.contains(word))
}

/// What an error of `object_store` means.
pub(super) fn reason(error: &object_store::Error) -> Reason {
    use object_store::Error as E;
    if let Some(answer) = find::<Answer>(error) {
        return answer.reason();
    }
    match error {
        E::NotFound { .. } => return Reason::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } => return Reason::Exists,
        E::NotSupported { .. } | E::NotImplemented { .. } => {
            return Reason::Unsupported {
                what: error.to_string(),
            };
        }
        _ => {}
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return Reason::Certificate {
            why: tls.to_string(),
        };
    }
    if let Some(http) = find::<object_store::client::HttpError>(error) {
        let why = innermost(http);
        return match http.kind() {
            object_store::client::HttpErrorKind::Connect => Reason::Unreachable { why },
            _ => Reason::Interrupted { why },
        };
    }
    if let Some(io) = find::<std::io::Error>(error) {
        return of_io(io);
    }
    Reason::Other {
        told: error.to_string(),
    }
}

/// What an error of a folder means.
pub(super) fn of_io(error: &std::io::Error) -> Reason {
    use std::io::ErrorKind as K;
    let told = error.to_string();
    match error.kind() {
        K::StorageFull | K::QuotaExceeded => Reason::Full,
        // Some file systems have no links, by which a file gets its name if none has it.
        K::Unsupported => Reason::Unsupported { what: told },
        _ if error.raw_os_error() == Some(NOT_PERMITTED) => Reason::Unsupported { what: told },
        K::PermissionDenied | K::ReadOnlyFilesystem => Reason::Forbidden { told },
        K::NotFound => Reason::NotFound,
        // A file server that is away, or has come back.
        K::StaleNetworkFileHandle | K::TimedOut | K::HostUnreachable | K::NetworkUnreachable => {
            Reason::Gone { told }
        }
        _ if error.raw_os_error() == Some(IO) => Reason::Gone { told },
        _ => Reason::Other { told },
    }
}

/// Numbers of errors that have no word: of what is not allowed to anybody, as opposed to us, and of a disk, or of
/// what should be one.
const NOT_PERMITTED: i32 = 1;
const IO: i32 = 5;

/// The first error of a type among an error and its causes; inside an input or output error too.
pub(crate) fn find<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        if let Some(inner) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            && let Some(found) = find::<T>(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str, message: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.into(),
            message: message.into(),
            region: None,
            skew: None,
        }
    }

    #[test]
    fn every_answer_has_a_sentence_that_says_what_to_do() {
        let of =
            |status, code: &str, message: &str| answer(status, code, message).reason().to_string();
        assert!(of(404, "NoSuchBucket", "").contains("make it"));
        assert!(of(400, "ExpiredToken", "").contains("renew"));
        assert!(of(403, "InvalidAccessKeyId", "").contains("access key id"));
        assert!(of(403, "SignatureDoesNotMatch", "").contains("copy both"));
        assert!(
            of(403, "AccessDenied", "no").contains("(no): give them list, read, write and delete")
        );
        assert!(
            of(
                403,
                "AccessDenied",
                "Access Denied because object protected by object lock."
            )
            .contains("lock")
        );
        assert!(of(507, "", "").contains("no room"));
        assert!(of(500, "InternalError", "").contains("come back later"));
        assert!(of(502, "", "").contains("come back later"));
        assert_eq!(
            of(418, "Teapot", "short and stout"),
            "418 Teapot short and stout"
        );
    }

    #[test]
    fn a_region_is_named_where_the_store_names_it() {
        let mut redirect = answer(301, "PermanentRedirect", "");
        assert_eq!(
            redirect.reason().to_string(),
            "the bucket is in another region: set that region"
        );
        redirect.region = Some("eu-north-1".into());
        assert_eq!(
            redirect.reason().to_string(),
            "the bucket is in another region, eu-north-1: set that region"
        );
    }

    #[test]
    fn a_clock_that_is_off_is_the_likelier_cause() {
        let mut refused = answer(403, "SignatureDoesNotMatch", "");
        refused.skew = Some(SignedDuration::from_secs(-3600));
        assert_eq!(
            refused.reason().to_string(),
            "this machine's clock is 3600 s behind the store's: set it right, for example by NTP"
        );
        refused.skew = Some(SignedDuration::from_secs(30));
        assert_eq!(refused.reason(), Reason::WrongSecret);
    }

    #[test]
    fn errors_of_a_volume_say_what_to_do() {
        let of = |number| of_io(&std::io::Error::from_raw_os_error(number)).to_string();
        for (number, words) in [
            (28, "no room left"),
            (122, "no room left"),
            (13, "let user and group 999 write there"),
            (30, "let user and group 999 write there"),
            (1, "cannot do this"),
            (95, "cannot do this"),
            (5, "look at its file server"),
            (116, "look at its file server"),
            (2, "no such object"),
        ] {
            assert!(of(number).contains(words), "{number}: {}", of(number));
        }
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        assert!(Reason::Busy.passes() && Reason::Interrupted { why: String::new() }.passes());
        for lasting in [
            Reason::WrongSecret,
            Reason::Full,
            Reason::NoSuchBucket,
            Reason::Exists,
        ] {
            assert!(!lasting.passes(), "{lasting}");
        }
    }

    #[test]
    fn the_whole_sentence() {
        let error = StoreError {
            doing: "writing",
            key: "owner/00000001.json".into(),
            reason: Reason::ExpiredCredentials,
        };
        assert_eq!(
            error.to_string(),
            "writing owner/00000001.json: the credentials have expired: renew them in the Secret"
        );
    }
}
