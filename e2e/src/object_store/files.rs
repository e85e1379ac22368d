//! What the server needs to start, in a folder: data, certificates, credentials.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{ObjectStore, ObjectStoreError, REGION, at};
use crate::tools;

/// The folder of a server.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    /// In a folder that is made if it is missing.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes the folders, and credentials and certificates for an address, unless they are there.
    pub(crate) fn prepare(&self, address: &str) -> Result<(), ObjectStoreError> {
        for name in ["data", "versions"] {
            let folder = self.file(name);
            std::fs::create_dir_all(&folder).map_err(at(&folder))?;
        }
        // Written last: with it, all are there.
        if self.file("curl.conf").exists() {
            return Ok(());
        }
        for (name, text) in certificates(address)? {
            self.write(name, &text)?;
        }
        let (id, secret) = (random()?, random()?);
        self.write(
            "credentials",
            &format!("ROOT_ACCESS_KEY_ID={id}\nROOT_SECRET_ACCESS_KEY={secret}\n"),
        )?;
        let authority = self.file("ca.crt");
        // This curl signs what it is told of the body's digest, and tells none by itself without a body.
        let curl = format!(
            "user = \"{id}:{secret}\"\naws-sigv4 = \"aws:amz:{REGION}:s3\"\n\
             header = \"x-amz-content-sha256: UNSIGNED-PAYLOAD\"\ncacert = \"{}\"\n",
            authority.display()
        );
        self.write("curl.conf", &curl)
    }

    /// Only the owner may read it.
    fn write(&self, name: &str, text: &str) -> Result<(), ObjectStoreError> {
        let path = self.file(name);
        let _ = std::fs::remove_file(&path);
        let mut file = std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(at(&path))?;
        file.write_all(text.as_bytes()).map_err(at(&path))
    }

    /// A shell's script that becomes the server. Credentials come from their file, so that no list of
    /// processes shows them.
    pub(crate) fn script(&self, program: &Path, address: &str, port: u16) -> String {
        let path = |name: &str| self.file(name).display().to_string();
        format!(
            "set -ae; . '{}'; exec '{}' --port {address}:{port} --region {REGION} --cert '{}' --key '{}' \
             --health /health --keep-alive --quiet posix --versioning-dir '{}' '{}'",
            path("credentials"),
            program.display(),
            path("server.crt"),
            path("server.key"),
            path("versions"),
            path("data"),
        )
    }

    /// The way to it.
    pub(crate) fn open(&self, address: &str, port: u16) -> Result<ObjectStore, ObjectStoreError> {
        let path = self.file("credentials");
        let text = std::fs::read_to_string(&path).map_err(at(&path))?;
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_default()
                .to_owned()
        };
        Ok(ObjectStore {
            endpoint: format!("https://{address}:{port}"),
            authority: self.file("ca.crt"),
            access_key_id: value("ROOT_ACCESS_KEY_ID"),
            secret_access_key: value("ROOT_SECRET_ACCESS_KEY"),
            curl: self.file("curl.conf"),
            data: self.file("data"),
        })
    }
}

fn random() -> Result<String, ObjectStoreError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(at(path))?;
    Ok(tools::hex(&bytes))
}

/// An authority, and a certificate of it for an address.
fn certificates(address: &str) -> Result<Vec<(&'static str, String)>, ObjectStoreError> {
    let named = |names: Vec<String>, name: &str| {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        Ok::<_, rcgen::Error>(params)
    };
    let ca_key = KeyPair::generate()?;
    let mut ca = named(Vec::new(), "mainstay-local-store")?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = ca.self_signed(&ca_key)?.pem();
    // The authority's key is not kept: nothing else is signed with it.
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate()?;
    let mut leaf = named(vec![address.to_owned()], "object-store")?;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let server = leaf.signed_by(&key, &issuer)?.pem();
    Ok(vec![
        ("ca.crt", certificate),
        ("server.crt", server),
        ("server.key", key.serialize_pem()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn prepared_once_and_readable_by_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path());
        files.prepare("127.0.0.1").unwrap();
        let first = files.open("127.0.0.1", 1).unwrap();
        files.prepare("127.0.0.1").unwrap();
        let second = files.open("127.0.0.1", 1).unwrap();
        assert_eq!(first.secret_access_key, second.secret_access_key);
        assert_eq!(first.secret_access_key.len(), 32);
        for name in ["credentials", "curl.conf", "server.key"] {
            let mode = std::fs::metadata(folder.path().join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let script = files.script(Path::new("/p"), "127.0.0.1", 1);
        assert!(
            !script.contains(&first.secret_access_key),
            "no secret in arguments"
        );
    }
}
