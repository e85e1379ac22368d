//! Redis as the container beside it has to know it: whose the data is, how a backup of it is made, and which moments
//! can be recovered. I/O.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use mainstay_backup::api::{Outcome, Report};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::ids::OwnerId;
use mainstay_backup::manifest::Manifest;
use mainstay_shared::backups::container::{self, Ground, Job, Repo, Shared, Wish, orders};

use super::engine::{Access, facts};
use super::receive::Receiver;
use super::shards::Dataset;

/// Redis, beside which backups are made.
#[derive(Debug)]
pub struct Beside {
    /// Where this runs.
    pub ground: Ground,
}

impl container::Engine for Beside {
    type Data = ();

    const NAME: &'static str = "Redis";

    fn ground(&self) -> &Ground {
        &self.ground
    }

    async fn owner(&self) -> Result<(OwnerId, ()), String> {
        let mut connection = Access::read(&self.ground)?.connect().await?;
        let facts = facts(&mut connection).await?;
        Ok((OwnerId::of(&facts.mark.set), ()))
    }

    async fn make(
        shared: &Arc<Shared<Self>>,
        repo: &Arc<Repo<()>>,
        job: &Arc<Job>,
        _: Wish,
    ) -> Outcome {
        let source = Receiver {
            ground: shared.engine.ground.clone(),
            owner: repo.owner.clone(),
            job: Arc::clone(job),
            name: Arc::new(OnceLock::new()),
        };
        orders::store(repo, &source, job, None).await
    }

    fn tell(&self, repo: Option<&Repo<()>>, _: Timestamp, report: &mut Report) {
        let Some(repo) = repo else { return };
        // There is no log: what can be recovered are the backups themselves.
        let catalogue = repo.catalogue();
        let good = |m: &&Manifest| Dataset::of(m).is_ok();
        let moments = catalogue.backups.iter().filter(good);
        let moments = moments.map(|m| m.consistent_at);
        report.earliest = moments.clone().min();
        report.latest = moments.max();
    }

    fn broken(_: &Catalogue, manifest: &Manifest) -> Option<String> {
        Dataset::of(manifest).err()
    }
}
