//! What a node's backup container is asked, and what it tells.

use mainstay_backup::retention::Policy;

use super::*;

/// To make a backup.
pub fn take(order: &str, incremental: bool) -> Order {
    Order::Take {
        order: order.into(),
        incremental,
        chain: None,
    }
}

/// To keep so many backups, and let the others go.
pub fn keep(count: u32) -> Order {
    let policy = Policy {
        window: None,
        count: Some(count),
    };
    Order::Prune { policy }
}

impl World {
    fn ask(&self, node: &Node, path: &str, order: Option<&Order>) -> Result<String, String> {
        let client = self.folder.path().join("operator");
        let at = |name: &str| client.join(name).display().to_string();
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--fail-with-body",
        ])
        .args([
            "--cacert",
            &at("ca.crt"),
            "--cert",
            &at("tls.crt"),
            "--key",
            &at("tls.key"),
        ])
        .args([
            "--connect-to",
            &format!(
                "localhost:{}:{}:{}",
                names::BACKUP_PORT,
                node.address,
                names::BACKUP_PORT
            ),
        ])
        .arg(format!("https://localhost:{}{path}", names::BACKUP_PORT));
        if let Some(order) = order {
            curl.args(["--data", &serde_json::to_string(order).unwrap()]);
        }
        let output = curl.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(text)
        } else {
            Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// Gives a node's backup container an order; what it says to it.
    pub fn order(&self, node: &Node, order: &Order) -> Result<String, String> {
        self.ask(node, ORDERS, Some(order))
    }

    pub fn report(&self, node: &Node) -> Option<Report> {
        let text = self.ask(node, REPORT, None).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// The report as soon as it is another than this one, or after a while: what is being made causes no other.
    fn report_after(&self, node: &Node, last: &Report) -> Option<Report> {
        let path = format!("{REPORT}?after={}&wait=500", last.sequence);
        let text = self.ask(node, &path, None).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// Waits until a node's report is as wanted.
    pub fn until(&self, node: &Node, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let begun = Instant::now();
        let mut last: Option<Report> = None;
        while begun.elapsed() < long() {
            last = match &last {
                Some(last) => self.report_after(node, last),
                None => self.report(node),
            };
            match last.as_ref() {
                Some(report) if wanted(report) => return report.clone(),
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        panic!("{}: not {what}: {last:#?}\n{}", node.name, node.log());
    }

    /// Waits until nothing waits for the store.
    pub fn archived(&self, node: &Node) -> Report {
        let name = node.switch();
        self.until(node, "archived", |r| {
            r.archive.state == ArchiveState::Ok && r.archive.last_piece.as_ref() >= Some(&name)
        })
    }

    /// Makes a backup.
    pub fn back_up(&self, node: &Node, order: &str, incremental: bool) -> BackupEntry {
        match self.try_back_up(node, order, incremental) {
            Outcome::Done { id } => {
                let report = self.until(node, "in the catalogue", |r| {
                    r.catalogue.iter().any(|b| b.id == id)
                });
                report.catalogue.into_iter().find(|b| b.id == id).unwrap()
            }
            other => panic!("{other:?}\n{}", node.log()),
        }
    }

    fn try_back_up(&self, node: &Node, order: &str, incremental: bool) -> Outcome {
        self.until(node, "ours", |r| r.ownership.state == OwnerState::Ours);
        self.order(node, &take(order, incremental)).unwrap();
        let report = self.until(node, "at the end of the order", |r| {
            r.results.iter().any(|r| r.order == order)
        });
        report
            .results
            .into_iter()
            .find(|r| r.order == order)
            .unwrap()
            .outcome
    }
}
