//! Credentials: passwords, and the two Secrets that carry them.
//!
//! The application's Secret is the only object with a password; who edits it rotates the password.
//! The agents' Secret carries verifiers only, and follows it. What checks a password is the
//! engine's matter, so its verifier is made in the operator.

mod binding;
mod password;
mod roles;

pub use binding::{Binding, PASSWORD_KEY, encoded, existing_password};
pub use password::{ENTROPY_BYTES, Password, entropy};
pub use roles::{existing_roles, roles_object};
