//! Names of a set's hosts, where there is no DNS of a cluster.

use std::fmt::Write;
use std::fs;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use tokio::sync::oneshot;

use super::pod::{Pod, Set};

/// Names of the set as the cluster's DNS would tell them.
pub fn names(set: &Set, pods: &[Pod]) -> String {
    let mut text = fs::read_to_string("/etc/hosts").unwrap();
    for pod in pods {
        writeln!(
            text,
            "\n{} {} {}",
            pod.address,
            set.host(pod),
            set.sentinel_host()
        )
        .unwrap();
    }
    text
}

/// Does something where these names are known: on a thread of its own, whose `/etc/hosts` is another one, for it and the
/// processes and threads that it starts.
pub async fn where_names_are_known<T: Send + 'static>(
    names: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (tell, done) = oneshot::channel();
    std::thread::spawn(move || {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), names).unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let apart = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", apart).unwrap();
        mount_bind(file.path(), "/etc/hosts").unwrap();
        let _ = tell.send(work());
    });
    done.await.expect("the thread has said why")
}

/// The same of something asynchronous.
pub async fn asking<T: Send + 'static, F: Future<Output = T>>(
    names: String,
    work: impl FnOnce() -> F + Send + 'static,
) -> T {
    where_names_are_known(names, move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(work())
    })
    .await
}
