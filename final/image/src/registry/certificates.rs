//! Whom to believe: the machine's authorities, and for one registry those of a folder.
//!
//! `certs.d/HOST[:PORT]/` holds, as with Docker, `*.crt`: authorities to believe besides the machine's; and pairs `NAME.cert`
//! and `NAME.key`: who we are, where the registry asks for a certificate.
//!
//! See the documentation of Docker, "Verify repository client with certificates".

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::{Error, Settings};

/// How to speak TLS with a registry.
pub(super) fn config(settings: &Settings, domain: &str, verify: bool) -> Result<TlsConfig, Error> {
    let (mut roots, mut own) = (Vec::new(), None);
    for folder in &settings.certificates {
        read(&folder.join(domain), &mut roots, &mut own)?;
    }
    if verify {
        // One that cannot be read must not keep the others from being believed.
        let found = rustls_native_certs::load_native_certs();
        roots.extend(found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .client_cert(own)
        .disable_verification(!verify)
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

fn read(
    folder: &Path,
    roots: &mut Vec<Certificate<'static>>,
    own: &mut Option<ClientCert>,
) -> Result<(), Error> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in &paths {
        match path.extension().and_then(OsStr::to_str) {
            Some("crt") => roots.extend(certificates(path)?),
            Some("cert") => {
                let (key_path, own_certificates) = (path.with_extension("key"), certificates(path)?);
                let key = private_key(&key_path)?;
                check(&own_certificates, &key_path).map_err(|reason| Error::settings(path, reason))?;
                *own = Some(ClientCert::new_with_certs(&own_certificates, key));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a certificate and its key fit each other and can be used: who takes them later on cannot say that they do not.
fn check(certificates: &[Certificate<'_>], key: &Path) -> Result<(), String> {
    let chain =
        certificates.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| error.to_string())?;
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder.with_root_certificates(RootCertStore::empty()).with_client_auth_cert(chain, key)
        })
        .map(drop)
        .map_err(|error| format!("it cannot say who we are: {error}"))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let bytes = fs::read(path).map_err(|error| Error::settings(path, error))?;
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| Error::settings(path, error))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(Error::settings(path, "there is no certificate in it")) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>, Error> {
    let bytes = fs::read(path).map_err(|error| Error::settings(path, error))?;
    PrivateKey::from_pem(&bytes).map_err(|error| Error::settings(path, error))
}
