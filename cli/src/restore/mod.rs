//! `kubectl mainstay restore`: into a new set, or in place with the way back.

mod anew;
mod in_place;

use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};
use clap::{ArgGroup, Args};
use jiff::Timestamp;
use mainstay_crds::common::RecoveryStatus;
use mainstay_crds::common::backup::RecoveryTarget;
use serde::Serialize;

use crate::Asked;
use crate::words::moment;
use in_place::Last;

#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command"
)]
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["new", "in_place", "confirm", "revert"]))]
pub struct Options {
    /// Name of the set whose backups are restored.
    set: String,
    /// To which moment: `latest`, a time with its offset (`2026-01-02T03:04:05Z`), `lsn:1/A0000028`, `xid:1234`,
    /// or `name:` and the name of a restore point.
    #[arg(long = "to", required_unless_present_any = ["confirm", "revert"], conflicts_with_all = ["confirm", "revert"])]
    to: Option<Point>,
    /// Name of the new set.
    #[arg(long = "as")]
    new: Option<String>,
    /// The set itself goes back: all of it is stopped, and its volumes from before are kept.
    #[arg(long)]
    in_place: bool,
    /// What came of the restore in place is good: the volumes that are kept are deleted.
    #[arg(long)]
    confirm: bool,
    /// The restore in place is taken back: all of the set is stopped, and its volumes from before are used again.
    #[arg(long)]
    revert: bool,
    /// Name of the restore in place; for a new one with the present time unless said.
    #[arg(long, conflicts_with = "new")]
    name: Option<String>,
    /// Id of the backup to begin with; the newest from before the moment unless said.
    #[arg(long, conflicts_with_all = ["confirm", "revert"])]
    backup: Option<String>,
    /// Instances of the new set; as many as the other one has unless said.
    #[arg(long, requires = "new")]
    instances: Option<i32>,
    /// Seconds after which a restore in place is given up if it has not begun; 600 unless said.
    #[arg(long, requires = "in_place")]
    timeout: Option<i32>,
    /// Only print the resource, as YAML: to be committed where Argo CD applies it.
    #[arg(long, conflicts_with_all = ["confirm", "revert"])]
    dry_run: bool,
    /// Only ask for it.
    #[arg(long)]
    no_wait: bool,
}

/// A moment, as it is written in a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// The latest that there is.
    Latest,
    /// A time.
    Time(Timestamp),
    /// A position in the log.
    Lsn(String),
    /// A transaction.
    Xid(String),
    /// A restore point.
    Name(String),
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        match text.split_once(':') {
            Some(("lsn", lsn)) => Ok(Self::Lsn(lsn.to_owned())),
            Some(("xid", xid)) => Ok(Self::Xid(xid.to_owned())),
            Some(("name", name)) => Ok(Self::Name(name.to_owned())),
            _ => text.parse().map(Self::Time).map_err(|_| {
                "write `latest`, a time with its offset such as 2026-01-02T03:04:05Z, `lsn:…`, `xid:…` or `name:…`"
                    .to_owned()
            }),
        }
    }
}

impl Point {
    fn target(&self) -> Option<RecoveryTarget> {
        let none = RecoveryTarget::default();
        match self.clone() {
            Self::Latest => None,
            Self::Time(time) => Some(RecoveryTarget {
                time: Some(time.to_string()),
                ..none
            }),
            Self::Lsn(lsn) => Some(RecoveryTarget {
                lsn: Some(lsn),
                ..none
            }),
            Self::Xid(xid) => Some(RecoveryTarget {
                xid: Some(xid),
                ..none
            }),
            Self::Name(name) => Some(RecoveryTarget {
                name: Some(name),
                ..none
            }),
        }
    }

    /// Whether it can be there, as far as the status tells. What is stored meanwhile is not in it yet, and nothing
    /// is lost by trying; what is before the earliest is gone.
    fn check(&self, recovery: &RecoveryStatus, now: Timestamp) -> Result<()> {
        let Self::Time(time) = self else {
            return Ok(());
        };
        ensure!(*time <= now, "{time} has not come yet");
        if let Some(earliest) = &recovery.earliest {
            ensure!(
                *time >= earliest.0,
                "{time} is before the earliest moment that can be recovered, {}",
                moment(earliest)
            );
        }
        Ok(())
    }
}

/// Without what a server adds: what people commit.
fn yaml(object: &impl Serialize) -> Result<String> {
    let mut value = serde_json::to_value(object)?;
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, v| !v.is_null());
    }
    Ok(serde_saphyr::to_string(&value)?)
}

pub async fn run(options: &Options, asked: Asked<'_>) -> Result<()> {
    if options.confirm || options.revert {
        let last = if options.confirm {
            Last::Confirm
        } else {
            Last::Revert
        };
        return in_place::end(options, last, asked).await;
    }
    // Both are there where clap lets it pass.
    let to = options.to.as_ref().context("say `--to` which moment")?;
    match &options.new {
        // It holds whole sets.
        Some(new) => Box::pin(anew::run(options, to, new, asked)).await,
        None => in_place::run(options, to, asked).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read() {
        for (text, point) in [
            ("latest", Point::Latest),
            ("lsn:1/A0", Point::Lsn("1/A0".into())),
            ("xid:77", Point::Xid("77".into())),
            ("name:before:it", Point::Name("before:it".into())),
        ] {
            assert_eq!(text.parse(), Ok(point));
        }
        assert!(
            "yesterday"
                .parse::<Point>()
                .unwrap_err()
                .contains("write `latest`")
        );
    }
}
