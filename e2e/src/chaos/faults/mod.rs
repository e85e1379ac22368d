//! The faults, a family in each file.

pub mod api_server;
pub mod changes;
pub mod clocks;
pub mod credentials;
mod identities;
pub mod lossy;
pub mod network;
pub mod nodes;
pub mod operators;
pub mod pods;
pub mod processes;
pub mod sessions;
pub mod shards;
pub mod volumes;

use std::collections::BTreeSet;

use anyhow::Result;
use kube::ResourceExt as _;

use super::fault::{Fault, Ground};
use crate::faults::Undo;
use crate::scenarios::kit::{Look, READY};
use crate::scenarios::set::Kind;

/// All families.
const FAMILIES: [&[Fault]; 13] = [
    pods::FAULTS,
    processes::FAULTS,
    network::FAULTS,
    nodes::FAULTS,
    api_server::FAULTS,
    operators::FAULTS,
    changes::FAULTS,
    credentials::FAULTS,
    sessions::FAULTS,
    shards::FAULTS,
    volumes::FAULTS,
    clocks::FAULTS,
    lossy::FAULTS,
];

/// Every fault.
pub fn all() -> impl Iterator<Item = &'static Fault> {
    FAMILIES.into_iter().flatten()
}

/// Those that are done to sets of a kind.
pub fn of(kind: Kind) -> impl Iterator<Item = &'static Fault> {
    all().filter(move |fault| fault.kinds.contains(&kind))
}

/// The fault of that name.
pub fn called(name: &str) -> Option<&'static Fault> {
    all().find(|fault| fault.name == name)
}

/// Wait until other pods bear these names.
async fn renamed(g: &Ground<'_>, instances: &[&str], before: &BTreeSet<String>) -> Result<()> {
    for instance in instances {
        g.sandbox
            .until(&format!("another pod {instance}"), READY, || async {
                let pods = g.sandbox.api::<k8s_openapi::api::core::v1::Pod>();
                let now = pods.get_opt(instance).await?;
                Ok(match now.and_then(|p| p.uid()) {
                    Some(uid) if !before.contains(&uid) => Look::Done(()),
                    other => Look::seen(&other),
                })
            })
            .await?;
    }
    Ok(())
}

/// The primary is away until another one has taken writes.
async fn succeeded(g: &Ground<'_>, away: Undo<'_>) -> Result<()> {
    g.succeeded().await?;
    g.writer.more(200).await?;
    Ok(away.undo().await?)
}

#[cfg(test)]
mod tests {
    use super::super::fault::Worth;
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_that_fits_into_a_namespace() {
        let mut names = BTreeSet::new();
        for fault in all() {
            assert!(names.insert(fault.name), "{} is there twice", fault.name);
            assert!(fault.name.len() < 45, "{}", fault.name);
            assert_eq!(called(fault.name).map(|f| f.what), Some(fault.what));
            // What commits wait for is a `Postgres`' own, and so is a session that repeats in any case.
            let own = fault.worth != Worth::Quorum || fault.sure;
            assert!(!own || fault.kinds == [Kind::Postgres], "{}", fault.name);
        }
    }
}
