//! `cargo xtask images`: builds them, and loads them onto a cluster.

use std::error::Error;

use clap::Subcommand;
use mainstay_e2e::cluster::{self, Steps};
use mainstay_e2e::images::{self, Built, Image};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds what the cache lacks, and lists names, sizes and archives.
    Build,
    /// Builds what the cache lacks and puts all of them into every node of the project's own cluster.
    Load {
        /// The cluster's name.
        #[arg(long, default_value = "mainstay")]
        name: String,
    },
}

/// Every image that the demo and the tests use.
pub const ALL: [Image; 9] = [
    Image::PostgresOperator { revision: 1 },
    Image::PostgresOperator { revision: 2 },
    Image::Postgres { revision: 1 },
    Image::Postgres { revision: 2 },
    Image::PgBouncer,
    Image::RedisOperator { revision: 1 },
    Image::Redis { revision: 1 },
    Image::Redis7,
    Image::Valkey,
];

/// Runs one of the commands.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    crate::runtime()?.block_on(async {
        let steps = Steps::shown();
        let built = images::build(&ALL, &steps).await?;
        if let Command::Load { name } = &args.command {
            let cluster = cluster::choose(name, None).await?;
            if !cluster.runs().await {
                return Err(crate::install::no_cluster(cluster.as_ref(), false).into());
            }
            let archives: Vec<_> = built.iter().map(|b| b.archive.clone()).collect();
            cluster.load(&archives).await?;
            steps.done(&format!("every node of cluster {name} holds the images"));
        }
        print(&built);
        Ok(())
    })
}

fn print(built: &[Built]) {
    for image in built {
        let megabytes = image.size.div_ceil(1_000_000);
        let state = if image.fresh { "built" } else { "cached" };
        println!(
            "{}\t{megabytes} MB\t{state}\t{}",
            image.name,
            image.archive.display()
        );
    }
}
