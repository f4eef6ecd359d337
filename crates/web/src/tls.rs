//! HTTPS: what a port shows and asks for, and by whom those who are dialled are known.
//!
//! Files may be read again at any time. They are in force for the connections that begin then, in
//! both directions; with a fault in one of them all of the old ones stay.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
pub use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certs::{self, Clients, Fault, Named, Own, Validity, now_s};
use crate::terminate::{self, Terminate, Terminator};
use crate::trust::Trust;

/// The table `tls` of a configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// Certificate of this process, then those that lead to its CA, PEM. The port speaks HTTPS only
    /// then, and the certificate is shown to those who are dialled and ask for one.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM, not encrypted.
    pub key_file: Option<PathBuf>,
    /// Certificates of the CAs of which clients must show one, PEM.
    pub client_ca_file: Option<PathBuf>,
    /// A client may show none; one that is shown must be of these CAs all the same.
    pub client_optional: bool,
    /// Certificates of the CAs by which those who are dialled are known, PEM.
    pub ca_file: Option<PathBuf>,
    /// Nodes are dialled over TLS; by a balancer, for clients whose TLS ends there.
    pub nodes: bool,
    /// TLS of a balancer's clients ends here.
    pub terminate: Option<Terminate>,
}

/// The key of a configuration file, as faults name it.
pub const CERT: &str = "tls.cert_file";
/// The key of a configuration file, as faults name it.
pub const KEY: &str = "tls.key_file";
const CLIENT_CA: &str = "tls.client_ca_file";
const CA: &str = "tls.ca_file";
const OPTIONAL: &str = "tls.client_optional";

/// What these files hold.
#[derive(Debug, Default)]
struct Loaded {
    server: Option<Arc<ServerConfig>>,
    own: Option<Arc<CertifiedKey>>,
    known: Option<Arc<WebPkiServerVerifier>>,
    validity: Option<Validity>,
    trust: Vec<Trust>,
    dials_nodes: bool,
    /// Clients of the port show certificates, or may.
    asks_clients: bool,
    terminate: Option<terminate::Loaded>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn named<'a>(option: &'static str, path: Option<&'a PathBuf>) -> Option<Named<'a>> {
    path.map(|path| (option, Path::new(path)))
}

impl Loaded {
    fn read(files: &Files) -> Result<Self, Fault> {
        let provider = provider();
        let mut loaded = Self { dials_nodes: files.nodes, ..Self::default() };
        if files.client_optional && files.client_ca_file.is_none() {
            let why = "there is nothing to be left out: set tls.client_ca_file too";
            return Err(Fault::of(OPTIONAL, why));
        }
        if files.nodes && files.ca_file.is_none() {
            return Err(Fault::of(CA, "a CA is needed to know the nodes by (tls.nodes)"));
        }
        match (&files.cert_file, &files.key_file) {
            (None, None) => {}
            (None, Some(_)) => return Err(Fault::of(CERT, "the certificate of the key is needed")),
            (Some(_), None) => return Err(Fault::of(KEY, "the key of the certificate is needed")),
            (Some(certificate), Some(key)) => {
                let own = Own::read((CERT, certificate), (KEY, key))?;
                loaded.validity = Some(own.validity());
                loaded.trust.push(own.issuer());
                loaded.own = Some(own.certified(&provider)?);
            }
        }
        let roots = certs::roots(named(CA, files.ca_file.as_ref()))?;
        loaded.trust.extend(roots.trust);
        if let Some(roots) = roots.store {
            let known = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            loaded.known = Some(known.build().map_err(|error| Fault::of(CA, error))?);
        }
        let clients = named(CLIENT_CA, files.client_ca_file.as_ref());
        loaded.asks_clients = clients.is_some();
        match &loaded.own {
            Some(own) => {
                let may_be_unknown = files.client_optional;
                let clients = clients.map(|file| Clients { file, may_be_unknown });
                let (mut server, trust) = certs::server(&provider, CERT, own, clients)?;
                loaded.trust.extend(trust);
                server.alpn_protocols = vec![b"http/1.1".to_vec()];
                loaded.server = Some(Arc::new(server));
            }
            None if clients.is_some() => {
                let why = "clients show certificates over TLS only: set tls.cert_file too";
                return Err(Fault::of(CLIENT_CA, why));
            }
            None => {}
        }
        let terminate = files.terminate.as_ref();
        loaded.terminate =
            terminate.map(|table| terminate::Loaded::read(table, &provider)).transpose()?;
        let of_clients = loaded.terminate.as_ref().map(|table| table.trust().to_vec());
        loaded.trust.extend(of_clients.into_iter().flatten());
        Ok(loaded)
    }

    /// What is shown by each certificate, and how long it is good for.
    fn shown(&self) -> impl Iterator<Item = (&[CertificateDer<'static>], Validity)> {
        let own = self.own.as_ref().map(|own| &own.cert[..]).zip(self.validity);
        let of_clients = self.terminate.as_ref().map(|table| (table.chain(), table.validity()));
        own.into_iter().chain(of_clients)
    }
}

/// What is in force.
#[derive(Debug, Default)]
pub struct Tls {
    loaded: Arc<ArcSwap<Loaded>>,
    /// Of [`Tls::connect`]; it looks at what is loaded, as every one does.
    dialler: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// What these files hold. A certificate that is not valid now is in force all the same, and
    /// told.
    ///
    /// # Errors
    /// The option to change, and why.
    pub fn read(files: &Files) -> Result<Self, Fault> {
        let loaded = Loaded::read(files)?;
        for (_, validity) in loaded.shown() {
            validity.tell(now_s());
        }
        let loaded = Arc::new(ArcSwap::from_pointee(loaded));
        Ok(Self { loaded, dialler: OnceLock::new() })
    }

    /// Reads files that are to be in force from now on; after an error the old ones are.
    ///
    /// # Errors
    /// The option to change, and why; a new certificate that is not valid now too.
    pub fn renew(&self, files: &Files) -> Result<(), Fault> {
        let loaded = Loaded::read(files)?;
        let before = self.loaded.load();
        for (chain, validity) in loaded.shown() {
            // One that is in force already stays so: what else is read need not wait for another.
            if !before.shown().any(|(shown, _)| shown == chain) {
                validity.check(now_s())?;
            }
        }
        for (_, validity) in loaded.shown() {
            validity.tell(now_s());
        }
        self.loaded.store(Arc::new(loaded));
        Ok(())
    }

    /// Whether the certificates are valid now, as far as there are any.
    ///
    /// # Errors
    /// One is not.
    pub fn check(&self) -> Result<(), Fault> {
        self.loaded.load().shown().try_for_each(|(_, validity)| validity.check(now_s()))
    }

    /// What the clients of a balancer's frontend are greeted with; `None`: what they send is passed
    /// on as it is.
    pub fn terminator(&self, frontend: &str) -> Option<Terminator> {
        self.loaded.load().terminate.as_ref()?.at(frontend)
    }

    /// The keys that name certificates, and when these run out, Unix seconds.
    pub fn ends(&self) -> Vec<(&'static str, i64)> {
        let loaded = self.loaded.load();
        loaded.shown().map(|(_, validity)| (validity.option(), validity.ends_s())).collect()
    }

    /// Which CAs it knows others by, and which ones its certificates lead to, by the keys that name
    /// their files.
    pub fn trust(&self) -> Vec<Trust> {
        self.loaded.load().trust.clone()
    }

    /// Greets those who connect; `None`: they are answered in clear.
    pub fn acceptor(&self) -> Option<TlsAcceptor> {
        self.loaded.load().server.clone().map(TlsAcceptor::from)
    }

    /// When the first certificate runs out, Unix seconds; `None` where there is none.
    pub fn ends_s(&self) -> Option<i64> {
        self.loaded.load().shown().map(|(_, validity)| validity.ends_s()).min()
    }

    /// What an operator should know of a certificate that runs out soon.
    pub fn runs_out(&self) -> Option<String> {
        certs::runs_out(self.ends_s()?, now_s())
    }

    /// Whether clients are asked for certificates.
    pub fn asks_clients(&self) -> bool {
        self.loaded.load().asks_clients
    }

    /// Whether nodes are dialled over TLS.
    pub fn dials_nodes(&self) -> bool {
        self.loaded.load().dials_nodes
    }

    /// What others are dialled with. It looks here for each connection, so it need not be made
    /// again when files are read again.
    ///
    /// # Errors
    /// Those of rustls.
    pub fn client(&self) -> Result<ClientConfig, Error> {
        let provider = provider();
        let loaded = Arc::clone(&self.loaded);
        let live = Arc::new(Live { loaded, provider: Arc::clone(&provider) });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&live) as Arc<dyn ServerCertVerifier>);
        let mut config = builder.with_client_cert_resolver(live);
        // A resumed session would not be verified again.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// Greets the other side of a connection that was made to `host`, and has it prove to be that
    /// host.
    ///
    /// # Errors
    /// Those of the connection; the other side does not prove it.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        socket: S,
    ) -> io::Result<TlsStream<S>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let config = if let Some(config) = self.dialler.get() {
            config
        } else {
            let config = Arc::new(self.client().map_err(io::Error::other)?);
            self.dialler.get_or_init(|| config)
        };
        TlsConnector::from(Arc::clone(config)).connect(name, socket).await
    }
}

/// The host of `host:port`, IPv6 with brackets or without.
pub fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Knows others, and shows this process' certificate, by what is in force at that moment.
#[derive(Debug)]
struct Live {
    loaded: Arc<ArcSwap<Loaded>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Live {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.loaded.load().known {
            Some(known) => known.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Live {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.loaded.load().own.clone()
    }

    fn has_certs(&self) -> bool {
        self.loaded.load().own.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address_is_what_a_certificate_names() {
        assert_eq!(host("10.0.0.1:9379"), "10.0.0.1");
        assert_eq!(host("[::1]:9379"), "::1");
        assert_eq!(host("c1.example"), "c1.example");
    }

    #[test]
    fn files_that_do_not_go_together_are_refused_by_the_key_to_change() {
        let fault = |files: &Files| Tls::read(files).unwrap_err().option;
        let file = || Some(PathBuf::from("/none.pem"));
        assert_eq!(fault(&Files { key_file: file(), ..Files::default() }), CERT);
        assert_eq!(fault(&Files { cert_file: file(), ..Files::default() }), KEY);
        assert_eq!(fault(&Files { client_ca_file: file(), ..Files::default() }), CLIENT_CA);
        assert_eq!(fault(&Files { ca_file: file(), ..Files::default() }), CA);
        assert_eq!(fault(&Files { nodes: true, ..Files::default() }), CA);
        assert_eq!(fault(&Files { client_optional: true, ..Files::default() }), OPTIONAL);
        let fault = |table: Terminate| {
            Tls::read(&Files { terminate: Some(table), ..Files::default() }).unwrap_err()
        };
        assert_eq!(fault(Terminate::default()).option, terminate::CERT);
        let with_certificate = || Terminate { cert_file: file(), ..Terminate::default() };
        assert_eq!(fault(with_certificate()).option, terminate::KEY);
        let unnamed = Terminate { key_file: file(), client_optional: true, ..with_certificate() };
        assert_eq!(fault(unnamed).option, "tls.terminate.client_optional");
        let missing = Terminate { key_file: file(), ..with_certificate() };
        assert!(fault(missing).why.contains("none.pem"));
        assert!(Tls::read(&Files::default()).unwrap().acceptor().is_none());
    }
}
