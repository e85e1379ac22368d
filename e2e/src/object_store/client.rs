//! Asking an object store by curl: a client that has nothing of ours.

use std::path::{Path, PathBuf};

use super::ObjectStoreError;
use crate::process;

/// The way to an object store. It goes with the cluster or the [`super::Server`] that it is of.
#[derive(Clone)]
pub struct ObjectStore {
    /// `https://…`.
    pub endpoint: String,
    /// The file with the certificate of its authority.
    pub authority: PathBuf,
    /// Access key id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// Configuration of curl with the credentials and the authority; only its owner reads it.
    pub curl: PathBuf,
    /// The folder of buckets: a bucket is a folder, an object a file.
    pub data: PathBuf,
}

impl std::fmt::Debug for ObjectStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectStore({})", self.endpoint)
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's number.
    pub status: u16,
    /// The header.
    pub headers: String,
    /// The rest.
    pub body: String,
}

impl Answer {
    /// The value of a header; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Between the header and the body in what curl prints.
const END_OF_HEADER: &str = "\r\n\r\n";

impl ObjectStore {
    /// Arguments of curl for a signed request of `path`, which begins with `/` and may have a query.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&Path>,
    ) -> Vec<String> {
        let mut args: Vec<String> = [
            "--silent",
            "--show-error",
            "--include",
            "--max-time",
            "60",
            "--config",
        ]
        .map(str::to_owned)
        .into();
        args.push(self.curl.display().to_string());
        // Not `--request HEAD`, with which curl waits for a body.
        match method {
            "HEAD" => args.push("--head".into()),
            _ => args.extend(["--request".into(), method.into()]),
        }
        for header in headers {
            args.extend(["--header".into(), (*header).into()]);
        }
        if let Some(file) = body {
            args.extend(["--data-binary".into(), format!("@{}", file.display())]);
            args.extend([
                "--header".into(),
                "Content-Type: application/octet-stream".into(),
            ]);
        }
        args.push(format!("{}{path}", self.endpoint));
        args
    }

    /// What curl printed for [`Self::request`].
    pub fn answer(printed: &str) -> Answer {
        let mut rest = printed;
        loop {
            let (headers, body) = rest.split_once(END_OF_HEADER).unwrap_or((rest, ""));
            let status = headers
                .split(' ')
                .nth(1)
                .and_then(|code| code.parse().ok())
                .unwrap_or(0);
            // It is told first that it may go on.
            if status == 100 {
                rest = body;
                continue;
            }
            return Answer {
                status,
                headers: headers.to_owned(),
                body: body.to_owned(),
            };
        }
    }

    /// Asks from where this process runs.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&Path>,
    ) -> Result<Answer, ObjectStoreError> {
        let args = self.request(method, path, headers, body);
        Ok(Self::answer(
            &process::run(process::command("curl").args(args)).await?,
        ))
    }

    /// Makes a bucket; with `locks`, one that keeps versions and can lock them.
    ///
    /// # Errors
    /// There is no answer, or a refusal.
    pub async fn make_bucket(&self, name: &str, locks: bool) -> Result<(), ObjectStoreError> {
        let headers: &[&str] = if locks {
            &["x-amz-bucket-object-lock-enabled: true"]
        } else {
            &[]
        };
        let answer = self.ask("PUT", &format!("/{name}"), headers, None).await?;
        if answer.status == 200 {
            return Ok(());
        }
        Err(ObjectStoreError::Refused {
            what: format!("making bucket {name}"),
            status: answer.status,
            body: answer.body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let printed = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 412 Precondition Failed\r\nETag: \"a\"\r\n\r\n<Error/>";
        let answer = ObjectStore::answer(printed);
        assert_eq!(
            (answer.status, answer.header("etag"), answer.body.as_str()),
            (412, Some("\"a\""), "<Error/>")
        );
        assert_eq!(ObjectStore::answer("").status, 0);
    }
}
