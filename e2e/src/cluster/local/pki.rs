//! The certificates of a local cluster: made anew at each start, thrown away with it.

use std::net::Ipv4Addr;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::LocalError;
use super::layout::{API_SERVICE, Layout, OUTER};
use crate::cluster::context::NodeContext;

/// A file's name and its content.
pub type NamedFile = (String, String);

struct Leaf<'a> {
    file: &'a str,
    user: &'a str,
    group: Option<&'a str>,
    names: Vec<String>,
}

/// The authority, the key of service account tokens, and a certificate for each component.
///
/// # Errors
/// A key or a certificate cannot be made.
pub fn issue(nodes: &[NodeContext]) -> Result<Vec<NamedFile>, LocalError> {
    let ca_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "mainstay-local");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let ca = params.self_signed(&ca_key)?;
    let accounts = KeyPair::generate()?;
    let mut files = vec![
        ("ca.crt".to_owned(), ca.pem()),
        ("ca.key".to_owned(), ca_key.serialize_pem()),
        ("sa.key".to_owned(), accounts.serialize_pem()),
        ("sa.pub".to_owned(), accounts.public_key_pem()),
    ];
    let issuer = Issuer::new(params, ca_key);

    let api = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([Ipv4Addr::LOCALHOST, OUTER, API_SERVICE].map(|address| address.to_string()))
    .collect();
    let client = |file, user, group| Leaf {
        file,
        user,
        group,
        names: Vec::new(),
    };
    let users: Vec<String> = nodes
        .iter()
        .map(|node| format!("system:node:{}", node.name))
        .collect();
    let mut leaves = vec![
        Leaf {
            file: "apiserver",
            user: "kube-apiserver",
            group: None,
            names: api,
        },
        client("admin", "admin", Some("system:masters")),
        client(
            "kubelet-client",
            "apiserver-kubelet-client",
            Some("system:masters"),
        ),
        client("controller-manager", "system:kube-controller-manager", None),
        client("scheduler", "system:kube-scheduler", None),
        client("proxy", "system:kube-proxy", None),
        client("coredns", "system:coredns", None),
    ];
    for (node, user) in nodes.iter().zip(&users) {
        let names = vec![node.name.clone(), node.address.to_string()];
        leaves.push(Leaf {
            file: &node.name,
            user,
            group: Some("system:nodes"),
            names,
        });
    }
    for leaf in leaves {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(leaf.names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, leaf.user);
        if let Some(group) = leaf.group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        files.push((
            format!("{}.crt", leaf.file),
            params.signed_by(&key, &issuer)?.pem(),
        ));
        files.push((format!("{}.key", leaf.file), key.serialize_pem()));
    }
    Ok(files)
}

/// A kubeconfig of one of the users above.
pub fn kubeconfig(layout: &Layout, user: &str, server: &str) -> String {
    let path = |name: String| layout.pki(&name).display().to_string();
    let context = format!("mainstay-{}", layout.name());
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": context,
        "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority": path("ca.crt".into())}}],
        "users": [{"name": context, "user": {
            "client-certificate": path(format!("{user}.crt")), "client-key": path(format!("{user}.key")),
        }}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use x509_parser::prelude::{FromDer, X509Certificate};

    #[test]
    fn a_node_is_who_the_api_server_expects() {
        let layout = Layout::new("x", Path::new("/s")).unwrap();
        let files = issue(&[layout.node(2)]).unwrap();
        let (_, pem) = files.iter().find(|(name, _)| name == "node2.crt").unwrap();
        let der = x509_parser::pem::parse_x509_pem(pem.as_bytes())
            .unwrap()
            .1
            .contents;
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let subject = certificate.subject().to_string();
        assert!(
            subject.contains("O=system:nodes") && subject.contains("CN=system:node:node2"),
            "{subject}"
        );
        let names = format!(
            "{:?}",
            certificate
                .subject_alternative_name()
                .unwrap()
                .unwrap()
                .value
                .general_names
        );
        assert!(names.contains("node2"), "{names}");
    }
}
