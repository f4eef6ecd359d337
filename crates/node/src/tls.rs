//! Certificate, key and what else TLS is spoken with: from options and files to what rustls takes.
//!
//! Files are read as a whole and looked at before anything of them is in force: the key fits, the
//! certificate is valid now, each name is known. What rustls cannot do is refused with the reason.
//! Nothing of a key is shown in an error.

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{
    NoServerSessionStorage, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, InconsistentKeys, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
};
use tokio_rustls::TlsAcceptor;

use crate::clock;
use crate::config::value::AuthClients;
use crate::config::{Config, Values};

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What TLS is spoken with.
#[derive(Debug)]
pub struct Tls {
    server: Arc<ServerConfig>,
    client: Option<Arc<ClientConfig>>,
    ends_s: i64,
}

/// What is in force, and who may change it.
#[derive(Debug, Default)]
pub struct Current {
    tls: ArcSwapOption<Tls>,
    /// One reading at a time: of two the later one has the later options.
    renewing: Mutex<()>,
}

impl Current {
    /// What is in force; nothing where there is no certificate.
    pub fn now(&self) -> Option<Arc<Tls>> {
        self.tls.load_full()
    }

    /// Reads certificate and key again; what was in force stays so until all of it was found to be
    /// good.
    ///
    /// # Errors
    /// The option to change, and why.
    pub fn renew(&self, config: &Config) -> Result<(), Fault> {
        let _one_at_a_time = self.renewing.lock();
        let now_s = clock::unix_s();
        let loaded = Tls::load(&config.now(), now_s)?;
        if let Some(tls) = &loaded {
            let days = tls.ends_s().saturating_sub(now_s) / 86_400;
            tracing::info!(days, "the certificate is in force");
            if days < 14 {
                let todo = "replace its file, then SIGHUP";
                tracing::warn!(days, todo, "the certificate runs out soon");
            }
        }
        self.tls.store(loaded.map(Arc::new));
        Ok(())
    }
}

/// Which option is at fault, and why. The text may be shown to anybody who sets options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option `{option}`: {why}")]
pub struct Fault {
    /// The option.
    pub option: &'static str,
    /// What is wrong with it.
    pub why: String,
}

fn fault(option: &'static str, why: impl std::fmt::Display) -> Fault {
    Fault { option, why: why.to_string() }
}

const CERT: &str = "tls-cert-file";
const KEY: &str = "tls-key-file";
const CA_FILE: &str = "tls-ca-cert-file";
const CA_DIR: &str = "tls-ca-cert-dir";

impl Tls {
    /// Reads the files that the options name; `None` where no certificate is named. `now_s` is Unix
    /// time.
    ///
    /// # Errors
    /// The option to change, and why.
    pub fn load(values: &Values, now_s: i64) -> Result<Option<Self>, Fault> {
        refuse_what_rustls_has_not(values)?;
        if values.tls_cert_file.is_empty() {
            let needing = [
                (values.tls_port > 0, "tls-port"),
                (values.tls_replication, "tls-replication"),
                (!values.tls_key_file.is_empty(), KEY),
            ];
            return match needing.into_iter().find(|(needs, _)| *needs) {
                Some((_, option)) => Err(fault(option, "a certificate is needed (tls-cert-file)")),
                None => Ok(None),
            };
        }
        let provider = Arc::new(provider(&values.tls_ciphersuites)?);
        let versions = versions(&values.tls_protocols)?;
        let chain = certificates(CERT, Path::new(&values.tls_cert_file))?;
        let ends_s = check_validity(&chain, now_s)?;
        let key = private_key(&values.tls_key_file)?;
        let roots = roots(values)?;
        let server = server(values, &provider, &versions, (&chain, &key), roots.clone())?;
        let client = client(values, &provider, &versions, (chain, key), roots)?;
        Ok(Some(Self { server: Arc::new(server), client: client.map(Arc::new), ends_s }))
    }

    /// Greets those who connect.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.server))
    }

    /// For what is dialled.
    ///
    /// # Errors
    /// No CA is named, so nobody could be believed.
    pub fn client(&self) -> io::Result<Arc<ClientConfig>> {
        let none = || io::Error::other("no CA is named (tls-ca-cert-file)");
        self.client.clone().ok_or_else(none)
    }

    /// The same for a socket that is dialled already, and blocks.
    ///
    /// # Errors
    /// No CA is named, or the other side's name cannot be one.
    pub fn over<S: io::Read + io::Write>(
        &self,
        socket: S,
        host: &str,
    ) -> io::Result<StreamOwned<ClientConnection, S>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(self.client()?, name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, socket))
    }

    /// When the certificate runs out, Unix seconds.
    pub fn ends_s(&self) -> i64 {
        self.ends_s
    }
}

fn refuse_what_rustls_has_not(values: &Values) -> Result<(), Fault> {
    if !values.tls_key_file_pass.is_empty() {
        let why = "encrypted keys are not read: keep the key unencrypted in a file that only this node's user may read";
        return Err(fault("tls-key-file-pass", why));
    }
    if !values.tls_ciphers.is_empty() {
        let why = "the ciphers of TLS 1.2 are not chosen by OpenSSL's words: all that are offered have forward secrecy; leave it empty, or set tls-protocols TLSv1.3 and tls-ciphersuites";
        return Err(fault("tls-ciphers", why));
    }
    Ok(())
}

fn provider(suites: &str) -> Result<CryptoProvider, Fault> {
    let mut provider = rustls::crypto::ring::default_provider();
    let wanted: Vec<&str> = suites.split([':', ' ', ',']).filter(|name| !name.is_empty()).collect();
    if wanted.is_empty() {
        return Ok(provider);
    }
    let known = |suite: &rustls::SupportedCipherSuite| {
        // As OpenSSL and the standard write it.
        format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
    };
    // Those of TLS 1.2 stay, as with OpenSSL: this option names those of 1.3.
    let is_old = |suite: &rustls::SupportedCipherSuite| suite.tls13().is_none();
    let all = provider.cipher_suites.iter().filter(|suite| !is_old(suite));
    let all: Vec<String> = all.map(known).collect();
    if let Some(name) = wanted.iter().find(|name| !all.iter().any(|known| known == *name)) {
        let why = format!("`{name}` is none of {}", all.join(", "));
        return Err(fault("tls-ciphersuites", why));
    }
    provider.cipher_suites.retain(|suite| is_old(suite) || wanted.contains(&known(suite).as_str()));
    Ok(provider)
}

fn versions(protocols: &str) -> Result<Vec<&'static SupportedProtocolVersion>, Fault> {
    let names: Vec<&str> = protocols.split_whitespace().collect();
    let version = |name: &&str| match name.to_ascii_lowercase().as_str() {
        "tlsv1.3" => Ok(&rustls::version::TLS13),
        "tlsv1.2" => Ok(&rustls::version::TLS12),
        "tlsv1" | "tlsv1.1" | "sslv3" => Err(fault(
            "tls-protocols",
            format!("{name} is broken and not spoken here: TLSv1.2 and TLSv1.3 are"),
        )),
        _ => Err(fault("tls-protocols", format!("`{name}` is none of TLSv1.2, TLSv1.3"))),
    };
    match names.is_empty() {
        true => Ok(rustls::DEFAULT_VERSIONS.to_vec()),
        false => names.iter().map(version).collect(),
    }
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, Fault> {
    let shown = path.display();
    let failed = |error| fault(option, format!("{shown}: {error}"));
    // A pipe would be waited for, and a device has no end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(fault(option, format!("{shown} is no file")));
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(fault(option, format!("{shown} is too large to be a certificate or key")));
    }
    Ok(text)
}

fn certificates(option: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = read(option, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let shown = path.display();
    let found = found.map_err(|error| fault(option, format!("{shown} is no PEM file: {error}")))?;
    if found.is_empty() {
        return Err(fault(option, format!("there is no certificate in {shown}")));
    }
    Ok(found)
}

fn private_key(path: &str) -> Result<PrivateKeyDer<'static>, Fault> {
    if path.is_empty() {
        return Err(fault(KEY, "the key of tls-cert-file is needed"));
    }
    let text = read(KEY, Path::new(path))?;
    // The error could hold a part of the file.
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let why =
            "there is no key in it that can be read: PEM, not encrypted, of PKCS#8, PKCS#1 or SEC1";
        fault(KEY, why)
    })
}

/// Of every certificate in the file: until when all of them are valid.
fn check_validity(chain: &[CertificateDer<'_>], now_s: i64) -> Result<i64, Fault> {
    let mut ends_s = i64::MAX;
    for certificate in chain {
        let (_, read) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|error| fault(CERT, format!("it cannot be read: {error}")))?;
        let validity = read.validity();
        if validity.not_after.timestamp() < now_s {
            return Err(fault(CERT, format!("it ran out at {}", validity.not_after)));
        }
        if validity.not_before.timestamp() > now_s {
            return Err(fault(CERT, format!("it is not valid before {}", validity.not_before)));
        }
        ends_s = ends_s.min(validity.not_after.timestamp());
    }
    Ok(ends_s)
}

/// Everybody who may vouch for others; `None` where nobody is named.
fn roots(values: &Values) -> Result<Option<Arc<RootCertStore>>, Fault> {
    let mut roots = RootCertStore::empty();
    let mut add = |option, path: &Path| {
        for certificate in certificates(option, path)? {
            let added = roots.add(certificate);
            added.map_err(|error| fault(option, format!("{}: {error}", path.display())))?;
        }
        Ok(())
    };
    if !values.tls_ca_cert_file.is_empty() {
        add(CA_FILE, Path::new(&values.tls_ca_cert_file))?;
    }
    if !values.tls_ca_cert_dir.is_empty() {
        let failed = |error| fault(CA_DIR, format!("{}: {error}", values.tls_ca_cert_dir));
        for entry in std::fs::read_dir(&values.tls_ca_cert_dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_file() {
                add(CA_DIR, &path)?;
            }
        }
    }
    Ok((!roots.is_empty()).then(|| Arc::new(roots)))
}

type Own<'a> = (&'a [CertificateDer<'static>], &'a PrivateKeyDer<'static>);

fn server(
    values: &Values,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    (chain, key): Own<'_>,
    roots: Option<Arc<RootCertStore>>,
) -> Result<ServerConfig, Fault> {
    let loaded = provider.key_provider.load_private_key(key.clone_key());
    let loaded = loaded.map_err(|_| fault(KEY, "a key of this kind is not known"))?;
    let certified = CertifiedKey::new(chain.to_vec(), loaded);
    match certified.keys_match() {
        // Some kinds of keys do not tell.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(_) => return Err(fault(KEY, "it is not the key of the certificate in tls-cert-file")),
    }
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(|error| fault("tls-protocols", error))?;
    let builder = match values.tls_auth_clients {
        AuthClients::No => builder.with_no_client_auth(),
        asked => {
            let none = "a CA is needed to know clients by (tls-ca-cert-file); or set it to no";
            let roots = roots.ok_or_else(|| fault("tls-auth-clients", none))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
            let verifier = match asked {
                AuthClients::Optional => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            builder.with_client_cert_verifier(
                verifier.build().map_err(|error| fault("tls-auth-clients", error))?,
            )
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.ignore_client_order = values.tls_prefer_server_ciphers;
    let sessions: Arc<dyn StoresServerSessions> = match values.tls_session_caching {
        true => {
            let size = usize::try_from(values.tls_session_cache_size).unwrap_or(usize::MAX);
            ServerSessionMemoryCache::new(size)
        }
        false => {
            config.send_tls13_tickets = 0;
            Arc::new(NoServerSessionStorage {})
        }
    };
    config.session_storage = sessions;
    Ok(config)
}

/// For links: the other side must be whom it was dialled as, by a CA that is named.
fn client(
    values: &Values,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    roots: Option<Arc<RootCertStore>>,
) -> Result<Option<ClientConfig>, Fault> {
    let Some(roots) = roots else {
        let why = "a CA is needed to know the master by (tls-ca-cert-file)";
        return if values.tls_replication { Err(fault("tls-replication", why)) } else { Ok(None) };
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|error| fault(CA_FILE, error))?;
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(|error| fault("tls-protocols", error))?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(|_| fault(KEY, "a key of this kind is not known"))?;
    Ok(Some(config))
}
