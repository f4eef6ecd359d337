//! Certificate, key and what else TLS is spoken with: from options and files to what rustls takes.
//!
//! Files are read as a whole and looked at before anything of them is in force: the key fits, each
//! name is known, and a certificate that is not in force yet is valid now. What rustls cannot do is
//! refused with the reason. Nothing of a key is shown in an error.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::certificate::{Certificate, Trust};
use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, MutexGuard};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoServerSessionStorage, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
};
use tokio_rustls::TlsAcceptor;
use web::certs::{self, Fault, Own, Roots, Validity};

use crate::clock;
use crate::config::value::AuthClients;
use crate::config::{Config, Values};

/// What TLS is spoken with.
#[derive(Debug)]
pub struct Tls {
    server: Arc<ServerConfig>,
    /// For the HTTP port.
    admin: Option<Arc<ServerConfig>>,
    client: Option<Arc<ClientConfig>>,
    /// What is shown.
    chain: Vec<CertificateDer<'static>>,
    validity: Validity,
    trust: Vec<Trust>,
}

/// The configuration of TLS that is in force, and the lock for changing it.
#[derive(Debug, Default)]
pub struct Current {
    tls: ArcSwapOption<Tls>,
    /// One reading at a time: of two the later one has the later options.
    renewing: Mutex<()>,
}

/// What was read and found to be good, and is not in force yet. Nobody else reads meanwhile.
pub struct Ready<'c> {
    current: &'c Current,
    loaded: Option<Tls>,
    _one_at_a_time: MutexGuard<'c, ()>,
}

impl Ready<'_> {
    /// What connections to come are greeted with.
    pub fn put_in_force(self) {
        self.current.tls.store(self.loaded.map(Arc::new));
    }
}

impl Current {
    /// What is in force; nothing where there is no certificate.
    pub fn now(&self) -> Option<Arc<Tls>> {
        self.tls.load_full()
    }

    /// What is told of the certificate in a heartbeat.
    pub fn certificates(&self) -> Vec<Certificate> {
        let ends_s = self.tls.load().as_ref().map(|tls| tls.validity.ends_s());
        Certificate::of(CERT, ends_s).into_iter().collect()
    }

    /// What is told of CAs in a heartbeat.
    pub fn trust(&self) -> Vec<Trust> {
        self.tls.load().as_ref().map(|tls| tls.trust.clone()).unwrap_or_default()
    }

    /// Reads certificate and key at the start. A certificate that is not valid now is in force all
    /// the same, and told: there is no other one, and clients in clear need none.
    ///
    /// # Errors
    /// The option to change, and why.
    pub fn start(&self, config: &Config) -> Result<(), Fault> {
        let _one_at_a_time = self.renewing.lock();
        let loaded = Tls::load(&config.now())?;
        if let Some(tls) = &loaded {
            tls.validity.tell(clock::unix_s());
        }
        self.tls.store(loaded.map(Arc::new));
        Ok(())
    }

    /// Reads certificate and key again; what was in force stays so until all of it was found to be
    /// good.
    ///
    /// # Errors
    /// The option to change, and why.
    pub fn renew(&self, config: &Config) -> Result<(), Fault> {
        let renewing = self.renewing.lock();
        self.checked(renewing, &config.now()).map(Ready::put_in_force)
    }

    /// The same for options that are not in force yet.
    ///
    /// # Errors
    /// The option to change, and why.
    pub fn prepare(&self, values: &Values) -> Result<Ready<'_>, Fault> {
        self.checked(self.renewing.lock(), values)
    }

    fn checked<'c>(
        &'c self,
        renewing: MutexGuard<'c, ()>,
        values: &Values,
    ) -> Result<Ready<'c>, Fault> {
        let loaded = Tls::load(values)?;
        if let Some(tls) = &loaded {
            let now_s = clock::unix_s();
            // One that is in force already stays so, whatever the day: what else is set need not
            // wait for another.
            let is_new = self.tls.load().as_ref().is_none_or(|before| before.chain != tls.chain);
            if is_new {
                tls.validity.check(now_s)?;
            }
            tls.validity.tell(now_s);
        }
        Ok(Ready { current: self, loaded, _one_at_a_time: renewing })
    }
}

const CERT: &str = "tls-cert-file";
const KEY: &str = "tls-key-file";
const CA_FILE: &str = "tls-ca-cert-file";
const CA_DIR: &str = "tls-ca-cert-dir";
const ADMIN: &str = "tls-admin";

fn fault(option: &'static str, why: impl std::fmt::Display) -> Fault {
    Fault::of(option, why)
}

impl Tls {
    /// Reads the files that the options name; `None` where no certificate is named.
    ///
    /// # Errors
    /// The option to change, and why.
    pub fn load(values: &Values) -> Result<Option<Self>, Fault> {
        refuse_what_rustls_has_not(values)?;
        if values.tls_cert_file.is_empty() {
            let needing = [
                (values.tls_port > 0, "tls-port"),
                (values.tls_only, "tls-only"),
                (values.tls_replication, "tls-replication"),
                (values.tls_admin, ADMIN),
                (!values.tls_key_file.is_empty(), KEY),
            ];
            return match needing.into_iter().find(|(needs, _)| *needs) {
                Some((_, option)) => Err(fault(option, "a certificate is needed (tls-cert-file)")),
                None => Ok(None),
            };
        }
        let provider = Arc::new(provider(&values.tls_ciphersuites)?);
        let versions = versions(&values.tls_protocols)?;
        if values.tls_key_file.is_empty() {
            return Err(fault(KEY, "the key of tls-cert-file is needed"));
        }
        let (certificate, key) =
            (Path::new(&values.tls_cert_file), Path::new(&values.tls_key_file));
        let own = Own::read((CERT, certificate), (KEY, key))?;
        let (validity, issuer) = (own.validity(), own.issuer());
        let own = own.certified(&provider)?;
        let Roots { store: roots, mut trust } = roots(values)?;
        trust.push(issuer);
        let server = server(values, &provider, &versions, &own, roots.as_ref())?;
        let admin = match values.tls_admin {
            true => Some(Arc::new(admin(values, &provider, &versions, &own, roots.as_ref())?)),
            false => None,
        };
        let client = client(values, &provider, &versions, &own, roots)?;
        let chain = own.cert.clone();
        let client = client.map(Arc::new);
        let trust = trust.into_iter().map(told).collect();
        Ok(Some(Self { server: Arc::new(server), admin, client, chain, validity, trust }))
    }

    /// Greets those who connect.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.server))
    }

    /// Greets those who ask at the HTTP port; `None` where it speaks in clear.
    pub fn admin_acceptor(&self) -> Option<TlsAcceptor> {
        self.admin.clone().map(TlsAcceptor::from)
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

    /// How long the certificate is good for.
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

fn told(trust: web::trust::Trust) -> Trust {
    let web::trust::Trust { option, accepts, issued_by } = trust;
    Trust { option: option.to_owned(), accepts, issued_by }
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

/// Whether a file of a folder of CAs counts: others may keep there what they like. Beside
/// certificates by name these are OpenSSL's, `<hash>.<number>`.
fn is_of_a_ca(path: &Path) -> bool {
    let part =
        |part: Option<&std::ffi::OsStr>| part.and_then(|part| part.to_str().map(str::to_owned));
    let (Some(name), Some(kind)) = (part(path.file_stem()), part(path.extension())) else {
        return false;
    };
    let is_named = ["pem", "crt", "cer"].iter().any(|known| kind.eq_ignore_ascii_case(known));
    let is_hash = name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_digit());
    let is_hidden = name.starts_with('.');
    !is_hidden && (is_named || (is_hash && is_number))
}

/// All CAs that may vouch for others.
fn roots(values: &Values) -> Result<Roots, Fault> {
    let mut files: Vec<(&'static str, PathBuf)> = Vec::new();
    if !values.tls_ca_cert_file.is_empty() {
        files.push((CA_FILE, PathBuf::from(&values.tls_ca_cert_file)));
    }
    if !values.tls_ca_cert_dir.is_empty() {
        let failed = |error| fault(CA_DIR, format!("{}: {error}", values.tls_ca_cert_dir));
        for entry in std::fs::read_dir(&values.tls_ca_cert_dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_file() && is_of_a_ca(&path) {
                files.push((CA_DIR, path));
            }
        }
        if !files.iter().any(|(option, _)| *option == CA_DIR) {
            let why = format!(
                "there is no certificate in {}: its files are named .pem, .crt or .cer, or as by `openssl rehash`",
                values.tls_ca_cert_dir
            );
            return Err(fault(CA_DIR, why));
        }
    }
    certs::roots(files.iter().map(|(option, path)| (*option, path.as_path())))
}

fn server(
    values: &Values,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    own: &CertifiedKey,
    roots: Option<&Arc<RootCertStore>>,
) -> Result<ServerConfig, Fault> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(|error| fault("tls-protocols", error))?;
    let verifier = verifier("tls-auth-clients", values.tls_auth_clients, provider, roots)?;
    let builder = builder.with_client_cert_verifier(verifier);
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own.clone())));
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

/// What `option` asks of a client that connects.
fn verifier(
    option: &'static str,
    asked: AuthClients,
    provider: &Arc<CryptoProvider>,
    roots: Option<&Arc<RootCertStore>>,
) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    if asked == AuthClients::No {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    let none = "a CA is needed to know clients by (tls-ca-cert-file); or set it to no";
    let roots = Arc::clone(roots.ok_or_else(|| fault(option, none))?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let verifier = match asked {
        AuthClients::Optional => verifier.allow_unauthenticated(),
        _ => verifier,
    };
    verifier.build().map_err(|error| fault(option, error))
}

/// For the HTTP port.
fn admin(
    values: &Values,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    own: &CertifiedKey,
    roots: Option<&Arc<RootCertStore>>,
) -> Result<ServerConfig, Fault> {
    let asked = values.tls_admin_auth_clients;
    let verifier = verifier("tls-admin-auth-clients", asked, provider, roots)?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(|error| fault("tls-protocols", error))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.clone())));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// For links: the other side must be whom it was dialled as, by a CA that is named.
fn client(
    values: &Values,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    own: &CertifiedKey,
    roots: Option<Arc<RootCertStore>>,
) -> Result<Option<ClientConfig>, Fault> {
    let Some(roots) = roots else {
        let why = "a CA is needed to know the master by (tls-ca-cert-file)";
        return if values.tls_replication { Err(fault("tls-replication", why)) } else { Ok(None) };
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|error| fault(CA_FILE, error))?;
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(|error| fault("tls-protocols", error))?
        .with_webpki_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.clone())));
    // A session that is resumed is not verified again.
    config.resumption = Resumption::disabled();
    Ok(Some(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options that name a certificate which was valid until that year.
    fn values(folder: &Path, name: &str, until: i32) -> Values {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let path = |kind| folder.join(format!("{name}.{kind}")).display().to_string();
        let (pem, key_pem) = (path("pem"), path("key"));
        std::fs::write(&pem, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&key_pem, key.serialize_pem()).unwrap();
        Values {
            tls_cert_file: pem,
            tls_key_file: key_pem,
            tls_auth_clients: AuthClients::No,
            ..Values::default()
        }
    }

    #[test]
    fn files_of_a_folder_of_cas_are_known_by_their_names() {
        for (name, is_known) in [
            ("ca.pem", true),
            ("ca.CRT", true),
            ("abcdef12.0", true),
            ("abcdef12.", false),
            ("abcdef12.r0", false),
            ("abcdef1.0", false),
            (".ca.pem", false),
            ("ca", false),
        ] {
            assert_eq!(is_of_a_ca(Path::new(name)), is_known, "{name}");
        }
    }

    #[test]
    fn a_certificate_that_has_run_out_in_force_holds_up_no_other_option() {
        let folder = tempfile::tempdir().unwrap();
        let (old, other) =
            (values(folder.path(), "old", 2021), values(folder.path(), "other", 2022));
        let good = values(folder.path(), "good", 2200);
        let current = Current::default();
        let why = current.prepare(&old).err().unwrap().why;
        assert!(why.contains("it ran out"), "nothing is in force: {why}");
        current.start(&Config::new(old.clone(), None)).unwrap();
        let uncached = Values { tls_session_caching: false, ..old.clone() };
        current.renew(&Config::new(uncached, None)).unwrap();
        assert!(!current.now().unwrap().server.session_storage.can_cache());
        assert!(current.renew(&Config::new(other, None)).is_err(), "another that is no better");
        current.prepare(&good).unwrap().put_in_force();
        assert!(current.renew(&Config::new(old, None)).is_err(), "and never back");
    }
}
