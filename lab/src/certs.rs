//! The mesh's certificate authority and one leaf a pod, with its SPIFFE identity.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

use crate::spawn::SIDECAR_USER;
use crate::topology::{NAMESPACE, Pod};

/// Where a pod's certificate files are.
#[derive(Clone, Debug)]
pub(crate) struct CertFiles {
    pub(crate) authority: PathBuf,
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

impl CertFiles {
    pub(crate) fn of(dir: &Path, pod: Pod) -> Self {
        Self {
            authority: dir.join("ca.crt"),
            chain: dir.join(format!("{}.crt", pod.short())),
            key: dir.join(format!("{}.key", pod.short())),
        }
    }
}

/// Writes a new authority's certificate and leaves for all pods.
///
/// # Errors
/// A key cannot be made or a file not be written.
pub(crate) fn create(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "cluster.local");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    for pod in Pod::ALL {
        let files = CertFiles::of(dir, pod);
        let key = KeyPair::generate()?;
        let leaf = leaf(pod)?.signed_by(&key, &authority)?;
        write(&files.authority, &authority.pem(), 0o644)?;
        write(&files.chain, &leaf.pem(), 0o644)?;
        write(&files.key, &key.serialize_pem(), 0o600)?;
        chown(&files.key, Some(SIDECAR_USER), Some(SIDECAR_USER))
            .with_context(|| format!("cannot give {} to Envoy", files.key.display()))?;
    }
    Ok(())
}

fn leaf(pod: Pod) -> Result<CertificateParams> {
    let identity = pod.spiffe(NAMESPACE);
    let name = identity.as_str().try_into().context("SPIFFE identity")?;
    Ok(leaf_params(
        DistinguishedName::new(),
        vec![SanType::URI(name)],
    ))
}

/// Of a certificate for both ends of mutual TLS.
#[must_use]
pub fn leaf_params(subject: DistinguishedName, names: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.subject_alt_names = names;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

fn write(path: &Path, pem: &str, mode: u32) -> Result<()> {
    let writing = || format!("cannot write {}", path.display());
    fs::write(path, pem).with_context(writing)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(writing)
}
