//! Certificates: one authority, one leaf for each who talks to the API server, and theirs as
//! kubeconfigs.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use hoptrace_lab::leaf_params;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

use crate::layout::{API_PORT, API_SERVICE, NODE_ADDRESS};

/// Who has a kubeconfig: file name, user, group.
const USERS: [(&str, &str, Option<&str>); 5] = [
    ("admin", "admin", Some("system:masters")),
    (
        "kube-controller-manager",
        "system:kube-controller-manager",
        None,
    ),
    ("kube-scheduler", "system:kube-scheduler", None),
    ("kube-proxy", "system:kube-proxy", None),
    ("kubelet", "system:node:hoptrace-node", Some("system:nodes")),
];

/// Signs certificates. Its key is never written down.
#[derive(Debug)]
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
#[derive(Clone, Debug)]
struct Leaf {
    certificate: String,
    /// PKCS #8.
    key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random numbers.
    fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Its certificate, PEM.
    fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A leaf for who has a name, perhaps a group, and is reached by these names.
    fn named(&self, user: &str, group: Option<&str>, names: Vec<SanType>) -> Result<Leaf> {
        let mut subject = DistinguishedName::new();
        if let Some(group) = group {
            subject.push(DnType::OrganizationName, group);
        }
        subject.push(DnType::CommonName, user);
        self.leaf(subject, names)
    }

    fn leaf(&self, subject: DistinguishedName, names: Vec<SanType>) -> Result<Leaf> {
        let key = KeyPair::generate()?;
        let params = leaf_params(subject, names);
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let key = key.serialize_pem();
        Ok(Leaf { certificate, key })
    }
}

/// Writes everything the control plane and the node need into a directory.
///
/// # Errors
/// A key cannot be made or a file not be written.
pub(crate) fn create(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let authority = Authority::new("hoptrace-cluster")?;
    write(dir, "ca.crt", &authority.certificate())?;
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let mut server = Vec::new();
    for name in names {
        server.push(SanType::DnsName(name.try_into()?));
    }
    server.extend([API_SERVICE, NODE_ADDRESS].map(|ip| SanType::IpAddress(ip.into())));
    let apiserver = authority.named("kube-apiserver", None, server)?;
    save(dir, "apiserver", &apiserver)?;
    // Tokens of service accounts are signed with this one.
    let signing = KeyPair::generate()?;
    write(dir, "service-accounts.key", &signing.serialize_pem())?;
    write(dir, "service-accounts.pub", &signing.public_key_pem())?;
    for (name, user, group) in USERS {
        save(dir, name, &authority.named(user, group, Vec::new())?)?;
        write(
            dir,
            &format!("{name}.kubeconfig"),
            &format!("{:#}\n", kubeconfig(name)),
        )?;
    }
    Ok(())
}

fn save(dir: &Path, name: &str, leaf: &Leaf) -> Result<()> {
    write(dir, &format!("{name}.crt"), &leaf.certificate)?;
    write(dir, &format!("{name}.key"), &leaf.key)
}

fn write(dir: &Path, name: &str, text: &str) -> Result<()> {
    use std::io::Write;
    let path = dir.join(name);
    let writing = || format!("cannot write {}", path.display());
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .with_context(writing)?;
    file.write_all(text.as_bytes()).with_context(writing)
}

/// Paths in a kubeconfig are relative to the file: it is right in the node and outside.
fn kubeconfig(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "hoptrace", "cluster": {
            "server": format!("https://{NODE_ADDRESS}:{API_PORT}"),
            "certificate-authority": "ca.crt",
        }}],
        "users": [{"name": name, "user": {
            "client-certificate": format!("{name}.crt"),
            "client-key": format!("{name}.key"),
        }}],
        "contexts": [{"name": "hoptrace", "context": {"cluster": "hoptrace", "user": name}}],
        "current-context": "hoptrace",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::NODE_NAME;

    #[test]
    fn the_kubelets_user_is_its_nodes() {
        let (_, user, _) = USERS
            .into_iter()
            .find(|(name, ..)| *name == "kubelet")
            .unwrap();
        assert_eq!(user, format!("system:node:{NODE_NAME}"));
    }
}
