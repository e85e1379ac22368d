//! `kubectl mainstay`. Wiring only.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use kubectl_mainstay::{Arguments, Scene, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(ask(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

async fn ask(arguments: Arguments) -> anyhow::Result<()> {
    let config = match &arguments.context {
        Some(context) => {
            let options = KubeConfigOptions {
                context: Some(context.clone()),
                ..KubeConfigOptions::default()
            };
            Config::from_kubeconfig(&options).await?
        }
        None => Config::infer().await?,
    };
    let own = config.default_namespace.clone();
    let scene = Scene {
        client: Client::try_from(config)?,
        namespace: arguments.namespace.clone().unwrap_or(own),
        // Bars are for eyes: a log gets a line for each change.
        bars: std::io::stderr().is_terminal(),
    };
    let mut out = std::io::stdout().lock();
    run(&arguments, &scene, &mut out).await
}
