//! TLS for scrapes, with certificates that are read again when their files change.

use super::HttpError;
use crate::lock::lock;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio_rustls::TlsAcceptor;

/// What tells one state of a file from the next: a secret that is mounted is replaced by a link.
type Fingerprint = [Option<(u64, i64, i64, u64)>; 2];

/// Certificate and key of the HTTP side.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    state: Mutex<(Fingerprint, Arc<ServerConfig>)>,
}

impl Tls {
    /// Reads both files, PEM.
    ///
    /// # Errors
    /// When one cannot be read, or they do not belong together; the sentence names both.
    pub fn new(certificate: &Path, key: &Path) -> Result<Self, HttpError> {
        let config = load(certificate, key).map_err(|source| HttpError::Tls {
            certificate: certificate.into(),
            key: key.into(),
            source,
        })?;
        let state = Mutex::new((fingerprint(certificate, key), config));
        Ok(Self {
            certificate: certificate.into(),
            key: key.into(),
            state,
        })
    }

    /// An acceptor with the certificate as it is now; as it was, while the new one is no good.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let now = fingerprint(&self.certificate, &self.key);
        let mut state = lock(&self.state);
        if state.0 != now {
            state.0 = now;
            match load(&self.certificate, &self.key) {
                Ok(config) => {
                    state.1 = config;
                    tracing::info!(certificate = %self.certificate.display(), "read anew");
                }
                // Both files are seldom written at one moment: the next connection looks again.
                Err(error) => tracing::warn!(
                    certificate = %self.certificate.display(),
                    %error,
                    "changed, and cannot be used; the former one goes on"
                ),
            }
        }
        TlsAcceptor::from(Arc::clone(&state.1))
    }
}

fn fingerprint(certificate: &Path, key: &Path) -> Fingerprint {
    [certificate, key].map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
    })
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Box<dyn Error + Send + Sync>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
