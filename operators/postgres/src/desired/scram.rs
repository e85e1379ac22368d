//! SCRAM-SHA-256 verifiers as PostgreSQL keeps them (RFC 5802, RFC 7677): they check a password and
//! do not tell it.
//!
//! The salt is given, so that a verifier can be made again and compared; the library of the wire
//! protocol only makes new ones.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use mainstay_shared::access::Password;
use sha2::{Digest, Sha256};

/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
/// PostgreSQL's own number of iterations.
const ITERATIONS: u32 = 4096;
/// Most iterations that are recomputed: a verifier with more was not made here.
const MOST_ITERATIONS: u32 = 100_000;

/// The verifier of a password.
pub fn verifier(password: &Password, salt: &[u8; SALT_BYTES]) -> String {
    with(password, salt, ITERATIONS)
}

/// Whether `verifier` is one of this password.
pub fn checks(verifier: &str, password: &Password) -> bool {
    parts(verifier).is_some_and(|(iterations, salt)| with(password, &salt, iterations) == verifier)
}

/// Iterations and salt of a verifier.
fn parts(verifier: &str) -> Option<(u32, Vec<u8>)> {
    let rest = verifier.strip_prefix("SCRAM-SHA-256$")?;
    let (iterations, rest) = rest.split_once(':')?;
    let (salt, _) = rest.split_once('$')?;
    let iterations = iterations.parse().ok()?;
    let salt = STANDARD.decode(salt).ok()?;
    (1..=MOST_ITERATIONS)
        .contains(&iterations)
        .then_some((iterations, salt))
}

fn with(password: &Password, salt: &[u8], iterations: u32) -> String {
    // As the server does: a password that cannot be normalised is taken as it is.
    let text = password.expose();
    let text = stringprep::saslprep(text).unwrap_or(text.into());
    let salted = salted(text.as_bytes(), salt, iterations);
    let stored = Sha256::digest(mac(&salted, b"Client Key"));
    let server = mac(&salted, b"Server Key");
    format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored),
        STANDARD.encode(server)
    )
}

/// PBKDF2 with one block of output.
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let keyed = keyed(password);
    let mut first = keyed.clone();
    first.update(salt);
    first.update(&1_u32.to_be_bytes());
    let mut block: [u8; 32] = first.finalize().into_bytes().into();
    let mut sum = block;
    for _ in 1..iterations {
        let mut next = keyed.clone();
        next.update(&block);
        block = next.finalize().into_bytes().into();
        for (s, b) in sum.iter_mut().zip(block) {
            *s ^= b;
        }
    }
    sum
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// A key longer than a block is hashed first, as HMAC says; so every key has a fixed size, and
/// making the state cannot fail.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    let hashed: [u8; 32];
    let key = if key.len() > block.len() {
        hashed = Sha256::digest(key).into();
        &hashed[..]
    } else {
        key
    };
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    Hmac::new(&block)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn verifiers_of_the_wire_protocols_library_are_checked() {
        let long = "x".repeat(100);
        for text in ["app", "pässwörd", "\u{2168}", long.as_str()] {
            let theirs = postgres_protocol::password::scram_sha_256(text.as_bytes());
            assert!(checks(&theirs, &password(text)), "{text}");
            assert!(!checks(&theirs, &password("other")), "{text}");
        }
    }

    #[test]
    fn what_is_no_verifier_checks_nothing() {
        for bad in ["", "md5abc", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:AA==$a:b"] {
            assert!(!checks(bad, &password("app")), "{bad}");
        }
        let made = verifier(&password("app"), &[7; SALT_BYTES]);
        assert!(checks(&made, &password("app")));
        assert!(!checks(
            &made.replace("4096", "4000000000"),
            &password("app")
        ));
    }
}
