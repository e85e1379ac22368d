//! The application's Secret, in the form of servicebinding.io.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Password;

/// Key of the password.
pub const PASSWORD_KEY: &str = "password";

/// What an application must know to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The engine as servicebinding.io calls it, for example `postgresql`.
    pub engine: String,
    /// Host that takes reads and writes; the served certificate bears it.
    pub host: String,
    /// Host that takes reads from replicas, when there are any.
    pub replica_host: Option<String>,
    /// Port of both.
    pub port: u16,
    /// Login name.
    pub username: String,
    /// Password of it.
    pub password: Password,
    /// Certificate (PEM) of the authority that servers are verified against.
    pub ca: String,
    /// The engine's own keys, for example `database` and `uri`.
    pub more: BTreeMap<String, String>,
}

impl Binding {
    /// As a Secret of type `servicebinding.io/<engine>`.
    pub fn to_secret(&self, metadata: ObjectMeta) -> Secret {
        let mut text = self.more.clone();
        let mut set = |key: &str, value: &str| text.insert(key.to_owned(), value.to_owned());
        set("type", &self.engine);
        set("provider", "mainstay");
        set("host", &self.host);
        set("port", &self.port.to_string());
        set("username", &self.username);
        set(PASSWORD_KEY, self.password.expose());
        set("ca.crt", &self.ca);
        if let Some(host) = &self.replica_host {
            set("replica-host", host);
        }
        Secret {
            metadata,
            type_: Some(format!("servicebinding.io/{}", self.engine)),
            data: Some(
                text.into_iter()
                    .map(|(key, value)| (key, ByteString(value.into_bytes())))
                    .collect(),
            ),
            ..Secret::default()
        }
    }
}

/// The password that the application's Secret holds, so that it is kept. `None` when a new one must
/// be made.
pub fn existing_password(data: &BTreeMap<String, ByteString>) -> Option<Password> {
    Password::from_bytes(&data.get(PASSWORD_KEY)?.0)
}

/// Percent-encode what may not stand in a URI's user part.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::ENTROPY_BYTES;

    #[test]
    fn a_binding_keeps_its_password_through_its_secret() {
        let binding = Binding {
            engine: "postgresql".into(),
            host: "db-rw.shop.svc".into(),
            replica_host: None,
            port: 5432,
            username: "app".into(),
            password: Password::from_entropy(&[7; ENTROPY_BYTES]),
            ca: "PEM".into(),
            more: BTreeMap::from([("database".into(), "app".into())]),
        };
        let secret = binding.to_secret(ObjectMeta::default());
        assert_eq!(
            secret.type_.as_deref(),
            Some("servicebinding.io/postgresql")
        );
        let mut data = secret.data.unwrap();
        assert_eq!(
            data.keys().map(String::as_str).collect::<Vec<_>>(),
            [
                "ca.crt", "database", "host", "password", "port", "provider", "type", "username"
            ]
        );
        assert_eq!(existing_password(&data), Some(binding.password));
        data.insert(PASSWORD_KEY.into(), ByteString(vec![]));
        assert_eq!(existing_password(&data), None);
    }
}
