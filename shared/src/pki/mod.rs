//! Certificates: an authority per set, and leaves for its instances and for the operator.
//!
//! Values in, values out; the clock is a parameter. Keys come from the system's random source.
//! Every key is ECDSA over P-256, which engines and rustls both take. The authority's key never
//! leaves the operator's namespace.

mod issue;
mod policies;
mod read;
mod secret;
mod served;
mod tls;

pub use issue::{BACKDATED_HOURS, LeafSpec, Usage, issue_authority, issue_leaf};
pub use policies::{Reason, Verdict, authority_verdict, leaf_verdict, renewal_due};
pub use read::{Facts, PkiError, facts, facts_of_der};
pub use secret::{
    CA_KEY, CERTIFICATE_KEY, PRIVATE_KEY_KEY, PrivateKeyPem, authority_from_secret, from_secret,
    to_secret,
};
pub use served::{Served, ServedError, served};
pub use tls::{ClientAuth, TlsError, client_config, server_config};

/// A certificate with its key and the authority that it is verified against, all as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS #8. Printing the pair does not show it.
    pub key: PrivateKeyPem,
    /// The authority's certificate; for an authority its own.
    pub ca: String,
}
