//! Data that is brought back, and whether it is what was.

use mainstay_backup::ids::BackupId;

use super::*;

/// The rows of a ledger that were committed up to a moment.
pub fn upto(ledger: &[(u32, i64)], moment: i64) -> Vec<u32> {
    let before = ledger.iter().filter(|(_, at)| *at <= moment);
    before.map(|(n, _)| *n).collect()
}

impl World {
    /// Runs a restore into a new node; what it told, and whether there is data.
    pub fn restore(&self, node: &Node, target: Target) -> RestoreReport {
        self.restore_from(node, target, None)
    }

    pub fn restore_from(
        &self,
        node: &Node,
        target: Target,
        backup: Option<BackupId>,
    ) -> RestoreReport {
        let restore = self.begin_restore(node, target, backup);
        Self::end_restore(node, restore)
    }

    /// The process of a restore that goes on.
    pub fn begin_restore(&self, node: &Node, target: Target, backup: Option<BackupId>) -> Child {
        let settings = RestoreSettings {
            resource: node.resource.clone(),
            repository: self.repository(),
            major: major(),
            backup,
            target,
            owner: None,
        };
        let file = node.path(paths::CONFIG).join(RESTORE_FILE);
        fs::write(file, serde_json::to_string(&settings).unwrap()).unwrap();
        self.secrets(&node.path(RESTORE_SECRETS));
        give(&node.root);
        node.run("restore").spawn().unwrap()
    }

    /// Waits until a restore has ended; as [`Self::restore`].
    pub fn end_restore(node: &Node, mut restore: Child) -> RestoreReport {
        let status = restore.wait().unwrap();
        let text = fs::read_to_string(node.path(RESTORE_STATUS))
            .unwrap_or_else(|_| panic!("{}", node.log()));
        let report: RestoreReport = serde_json::from_str(&text).unwrap();
        assert_eq!(
            status.success(),
            node.data().exists(),
            "{report:?}\n{}",
            node.log()
        );
        let leftover = node.path("/var/lib/postgresql/data/pgdata.restore");
        assert!(!leftover.exists(), "what is left of a restore");
        report
    }

    /// Brings data for a replica back from the set's own repository, as an instance's pod does before everything else.
    pub fn seed(&self, node: &Node, identifier: &str, major: u32) -> RestoreReport {
        self.secrets(&node.path(RESTORE_SECRETS));
        give(&node.root);
        let mut run = node.run("seed");
        let major = major.to_string();
        run.args(["--identifier", identifier, "--major", &major]);
        assert!(run.status().unwrap().success(), "{}", node.log());
        let text = fs::read_to_string(node.path(RESTORE_STATUS)).unwrap_or_else(|_| "{}".into());
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// A new node with what was restored, which runs; and what the restore said.
    pub fn restored(&self, name: &str, target: &Target) -> (Node, RestoreReport) {
        self.restored_from(name, target, None)
    }

    /// As [`Self::restored`], from this backup.
    pub fn restored_from(
        &self,
        name: &str,
        target: &Target,
        backup: Option<BackupId>,
    ) -> (Node, RestoreReport) {
        let mut node = self.node(name);
        let report = self.restore_from(&node, target.clone(), backup);
        assert_eq!(
            report.step,
            RestoreStep::Done,
            "{target:?} {report:?}\n{}",
            node.log()
        );
        node.start(None);
        (node, report)
    }

    /// What is said of a target that cannot be reached, for which there is no data.
    pub fn refused(&self, name: &str, target: &Target) -> String {
        let node = self.node(name);
        let report = self.restore(&node, target.clone());
        assert_eq!(report.step, RestoreStep::Failed, "{target:?} {report:?}");
        assert!(!node.data().exists());
        report.message
    }
}
