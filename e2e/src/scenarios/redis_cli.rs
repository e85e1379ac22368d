//! `redis-cli` in a pod, as an application connects.

use anyhow::Result;

use super::kit::Sandbox;

/// The container of a client.
const CLI: &str = "redis-cli";

/// A pod in which `redis-cli` connects to a set as an application does.
pub struct Client<'a> {
    s: &'a Sandbox<'a>,
    pod: String,
}

impl<'a> Client<'a> {
    /// With what the set's own Secret says.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn of(s: &'a Sandbox<'a>, set: &str) -> Result<Self> {
        Self::by(s, set, &format!("{set}-app")).await
    }

    /// With what another Secret says.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn by(s: &'a Sandbox<'a>, set: &str, secret: &str) -> Result<Self> {
        Self::named(s, &format!("client-by-{secret}"), set, secret).await
    }

    /// The same, in a pod of that name.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn named(s: &'a Sandbox<'a>, pod: &str, set: &str, secret: &str) -> Result<Self> {
        let pod = pod.to_owned();
        let image = &s.ctx.images.redis;
        s.client_pod(&pod, (set, secret), true, (image, CLI))
            .await?;
        Ok(Self { s, pod })
    }

    /// What it prints for these words: a command, or an option of its own.
    ///
    /// # Errors
    /// When it cannot connect, or is refused: then with what it said.
    pub async fn ask(&self, words: &[&str]) -> Result<String> {
        let script = "cd /binding; REDISCLI_AUTH=$(cat password) exec redis-cli -e --tls --cacert ca.crt \
             -h $(cat host) -p $(cat port) --user $(cat username) \"$@\"";
        let mut all = vec!["sh", "-c", script, "sh"];
        all.extend(words);
        self.s.exec(&self.pod, CLI, &all).await
    }
}
