//! The repository on real stores: a folder, and an S3 server with and without locks.
//!
//! One server serves every test; each test has a prefix of its own (`cargo test -p mainstay-backup --test
//! repository`). Where a test breaks the server, it starts one for itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by unwrapping it"
)]

mod backups;
mod by_hand;
mod faults;
mod kit;
mod locks;
mod log;
mod ownership;
mod retention;
mod shred;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use mainstay_e2e::object_store::Server;

use kit::{Kit, Where};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(async {
        let server = Server::start().await.expect("an S3 server");
        server.store().make_bucket(kit::PLAIN, false).await.unwrap();
        server.store().make_bucket(kit::LOCKS, true).await.unwrap();
        server
    });
    let server = Arc::new(server);
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&server)));
    if let Some(mut server) = Arc::into_inner(server) {
        runtime.block_on(server.kill()).unwrap();
    }
    conclusion.exit_code()
}

/// A test that is tried on several stores.
macro_rules! on {
    ($server:expr, $places:expr, [$($module:ident :: $test:ident),* $(,)?]) => {
        $places.into_iter().flat_map(|place: Where| vec![$({
            let server = $server.cloned();
            Trial::test(format!("{}::{}::{}", stringify!($module), stringify!($test), place.name()), move || {
                let server = server.expect("a server");
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
                runtime.block_on($module::$test(Kit::new(&server, place)));
                Ok(())
            })
        }),*])
    };
}

fn trials(server: Option<&Arc<Server>>) -> Vec<Trial> {
    let everywhere = [Where::Path, Where::S3, Where::Locks];
    let mut all = Vec::new();
    all.extend(on!(
        server,
        everywhere,
        [
            ownership::a_second_one_is_refused_and_writes_nothing,
            ownership::adoption,
            ownership::of_many_claims_at_once_one_holds,
            ownership::the_store_is_probed,
            backups::stored_and_restored,
            backups::encrypted_and_restored,
            backups::an_engine_that_fails_leaves_no_backup,
            backups::every_damage_is_seen,
            backups::keys_come_back_from_escrow_and_rotate,
            log::pieces,
            log::switching_encryption_on_is_no_divergence,
            retention::a_plan_is_carried_out,
            by_hand::other_programs_restore,
            shred::without_escrow_nobody_opens_them,
            shred::escrow_has_to_be_accepted_and_still_reads_what_is_its_own,
        ]
    ));
    all.extend(on!(
        server,
        [Where::Locks],
        [
            locks::versions_are_recorded_and_what_is_locked_waits,
            locks::a_manifest_that_was_replaced_or_deleted_counts_in_its_older_version,
            locks::a_manifest_whose_newest_version_is_locked_stays_a_backup,
            locks::a_manifest_below_a_mark_is_a_backup_while_its_objects_are_there,
            locks::an_overwritten_piece_is_found_in_its_older_version,
            shred::older_versions_of_copies_go_too_and_what_is_locked_is_told,
        ]
    ));
    all.extend(on!(
        server,
        [Where::S3],
        [
            faults::refusals_say_what_to_do,
            faults::a_server_that_goes_away_while_it_is_written_to,
            faults::a_server_that_goes_away_while_it_is_read,
            faults::limits_hold,
        ]
    ));
    all
}
