//! TLS: whom every program trusts besides the machine's own certificate authorities, and how one serves.
//!
//! `PERITO_CA_FILE` names a PEM file of certificate authorities. All connections trust them: to Postgres, RabbitMQ, the object store and
//! the API. It is no option, so that no program can forget to pass it on to one of its connections.

use std::path::{Path, PathBuf};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// The variable that names the file of certificate authorities.
pub const CA_FILE: &str = "PERITO_CA_FILE";

/// A file of certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("read {what} in {path}: {problem}")]
pub struct TlsError {
    what: &'static str,
    path: PathBuf,
    problem: String,
}

/// The path of the certificate authorities, if there are any of the installation's own.
pub fn ca_file() -> Option<PathBuf> {
    std::env::var_os(CA_FILE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The certificate authorities themselves, in PEM, checked.
///
/// # Errors
/// When the file cannot be read, or holds anything but certificates.
pub fn ca_bundle() -> Result<Option<String>, TlsError> {
    let Some(path) = ca_file() else { return Ok(None) };
    let error = |problem: String| TlsError {
        what: "the certificate authorities (PERITO_CA_FILE)",
        path: path.clone(),
        problem,
    };
    let pem = std::fs::read_to_string(&path).map_err(|problem| error(problem.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|problem| error(format!("{problem:?}")))?;
        roots.add(certificate).map_err(|problem| error(problem.to_string()))?;
    }
    if roots.is_empty() {
        return Err(error("it holds no certificate: expected PEM, -----BEGIN CERTIFICATE-----".to_owned()));
    }
    Ok(Some(pem))
}

/// How a server proves who it is: its chain of certificates and its key, both PEM files.
///
/// # Errors
/// When a file cannot be read, or the two do not belong together.
pub fn server_config(certificates: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let error = |what, path: &Path, problem: String| TlsError { what, path: path.to_owned(), problem };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|problem| error("the server's certificates", certificates, format!("{problem:?}")))?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|problem| error("the server's key", key, format!("{problem:?}")))?;
    ServerConfig::builder().with_no_client_auth().with_single_cert(chain, private).map_err(|problem| {
        error("the server's certificates", certificates, format!("{problem} (key: {})", key.display()))
    })
}

/// Where a database is, with the certificate authorities of the installation's own: then the server has to prove who it is, unless the
/// URL says otherwise.
pub(crate) fn trusting(url: &str) -> String {
    let Some(path) = ca_file() else { return url.to_owned() };
    let Ok(mut url) = url::Url::parse(url) else { return url.to_owned() };
    let has = |url: &url::Url, name: &str| url.query_pairs().any(|(key, _)| key.eq_ignore_ascii_case(name));
    if !has(&url, "sslrootcert") {
        url.query_pairs_mut().append_pair("sslrootcert", &path.to_string_lossy());
    }
    if !has(&url, "sslmode") {
        url.query_pairs_mut().append_pair("sslmode", "verify-full");
    }
    url.to_string()
}
