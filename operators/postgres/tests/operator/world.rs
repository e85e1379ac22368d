//! What the operator is tried in: that of every engine, with backup containers beside PostgreSQL.

use mainstay_postgres::engine::Postgresql;
use mainstay_testkit::world::Beside;

use super::sidecar::Sidecars;
use super::*;

/// The world of PostgreSQL's operator.
pub type World = mainstay_testkit::world::World<Postgresql, Around>;

/// What is there besides agents.
#[derive(Default)]
pub struct Around {
    /// Containers that make backups.
    pub sidecars: Sidecars,
    /// The catalogue's image of poolers.
    pub pooler: Option<&'static str>,
}

impl Beside for Around {
    async fn turn(&mut self, api: &FakeApi, cluster: &FakeCluster) {
        self.sidecars.turn(api, cluster).await;
    }
}

/// What is PostgreSQL's own of it.
pub trait Begin {
    /// Start an operator, as after a crash: nothing is remembered.
    fn start(&mut self);
    /// Start an operator of this version, whose catalogue has this version of PostgreSQL.
    fn start_version(&mut self, operator: &str, postgres: &str);
    /// A user asks for a set.
    fn create(&self, instances: i32);
}

impl Begin for World {
    fn start(&mut self) {
        self.start_version("0.1.0", "17.12");
    }

    fn start_version(&mut self, operator: &str, postgres: &str) {
        let mut catalogue = Catalogue::from_iter([(17, format!("postgres:{postgres}"))]);
        if let Some(image) = self.beside.pooler {
            catalogue = catalogue.with_pooler(image);
        }
        self.start_with(Settings {
            namespace: "mainstay-system".into(),
            image: format!("mainstay/postgres-operator:{operator}"),
            catalogue,
            program: Own::at(Path::new(PROGRAM)).unwrap(),
        });
    }

    fn create(&self, instances: i32) {
        let mut pg = fixtures::postgres("shop", "db", instances);
        pg.metadata.generation = Some(1);
        self.api.put(&pg);
    }
}
