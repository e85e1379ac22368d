//! Following an object until it is over. I/O.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watch_object};
use serde::de::DeserializeOwned;

/// What is told of something that goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// In a sentence.
    pub message: String,
    /// How much is done, of how much, in bytes.
    pub bytes: Option<(u64, u64)>,
}

/// What is seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It goes on.
    On(Progress),
    /// It is over, and good.
    Done(String),
    /// It is over, and not good.
    Failed(String),
}

/// Shows progress: a bar, or a line for each change.
struct Teller {
    bar: ProgressBar,
    bars: bool,
    last: String,
}

impl Teller {
    fn new(bars: bool) -> Result<Self> {
        let target = if bars {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template(
            "{spinner} {elapsed_precise} {wide_msg}",
        )?);
        bar.enable_steady_tick(Duration::from_millis(200));
        Ok(Self {
            bar,
            bars,
            last: String::new(),
        })
    }

    fn tell(&mut self, progress: &Progress) -> Result<()> {
        if let Some((done, total)) = progress.bytes.filter(|(_, total)| *total > 0) {
            if self.bar.length() != Some(total) {
                let style = "{spinner} {elapsed_precise} {bar:24} {binary_bytes}/{binary_total_bytes} \
                             {binary_bytes_per_sec} {wide_msg}";
                self.bar.set_style(ProgressStyle::with_template(style)?);
                self.bar.set_length(total);
            }
            self.bar.set_position(done);
        }
        self.bar.set_message(progress.message.clone());
        if !self.bars && self.last != progress.message && !progress.message.is_empty() {
            eprintln!("{}", progress.message);
        }
        self.last.clone_from(&progress.message);
        Ok(())
    }
}

/// Whether asking again is of no use.
fn is_refused(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(cause)
    | watcher::Error::WatchStartFailed(cause)
    | watcher::Error::WatchFailed(cause)) = error
    else {
        return false;
    };
    matches!(cause, kube::Error::Api(status) if [401, 403].contains(&status.code))
}

/// Follow an object until it is over; it comes back as seen last, with what was said of it.
///
/// # Errors
/// It came to nothing, is gone, or the cluster cannot be asked.
pub async fn follow<K>(
    api: Api<K>,
    name: &str,
    bars: bool,
    look: impl Fn(&K) -> Look,
) -> Result<(K, String)>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut teller = Teller::new(bars)?;
    let mut changes = pin!(watch_object(api, name).default_backoff());
    while let Some(change) = changes.next().await {
        let object = match change {
            Ok(Some(object)) => object,
            Ok(None) => bail!("{name} was deleted"),
            Err(error) if is_refused(&error) => {
                return Err(error)
                    .context(format!("{name} may not be watched; it goes on by itself"));
            }
            // It is asked again, at longer and longer intervals.
            Err(error) => {
                let message = format!("the cluster does not answer: {error}");
                teller.tell(&Progress {
                    message,
                    bytes: None,
                })?;
                continue;
            }
        };
        match look(&object) {
            Look::On(progress) => teller.tell(&progress)?,
            Look::Done(message) => {
                teller.bar.finish_and_clear();
                return Ok((object, message));
            }
            Look::Failed(why) => {
                teller.bar.finish_and_clear();
                bail!(why);
            }
        }
    }
    Err(anyhow::anyhow!("the watch ended")).with_context(|| name.to_owned())
}
