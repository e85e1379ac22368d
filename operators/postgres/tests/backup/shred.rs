//! Keys that are destroyed: what is left opens nothing.

use mainstay_postgres::backup::api::RestoreStep;
use mainstay_postgres::backup::settings::Target;

use crate::kit::{Where, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_encrypted_to_destroyed_keys_is_restored_by_nobody() {
    let mut world = World::new(Where::S3, true).await;
    let mut one = world.node("db-1");
    one.begin();
    one.write(100);
    world.back_up(&one, "order", false);
    one.switch();
    world.archived(&one);
    one.stop_sidecar();
    one.stop(true);
    let own = world.recipient();

    // Whose they are not finds nothing to destroy.
    let pod = world.node("pod-1");
    let refused = world.destroy_keys(&pod, vec!["age1other".to_owned()]);
    assert!(
        refused.message.contains("prefix") && !refused.passes,
        "{refused:?}"
    );
    let two = world.node("db-2");
    let report = world.restore(&two, Target::Latest);
    assert_eq!(report.step, RestoreStep::Done, "{report:?}");

    let report = world.destroy_keys(&pod, vec![own]);
    assert!(report.done && report.backups == 1, "{report:?}");
    // The Secret is deleted, and with it the keys are gone.
    world.other_keys();
    let three = world.node("db-3");
    let report = world.restore(&three, Target::Latest);
    assert_eq!(report.step, RestoreStep::Failed, "{report:?}");
    assert!(
        report.message.contains("another instance's key"),
        "{report:?}"
    );
    assert!(!report.retryable);
}
