//! Certificates and keys, from files to what rustls takes.
//!
//! Files are read as a whole and looked at before anything of them is in force: the key fits, and
//! the certificate is valid where another one is in force already. Nothing of a key is shown in an
//! error.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, HandshakeKind, InconsistentKeys, RootCertStore, ServerConfig,
    ServerConnection,
};
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

use crate::trust::{self, Trust};

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;
const DAY_S: i64 = 86_400;
/// With less than that left an operator is told.
const SOON_DAYS: i64 = 14;

/// Which option is at fault, and why. The text may be shown to anybody who sets options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The option.
    pub option: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "option `{}`: {}", self.option, self.why)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// `why` is what is wrong with `option`.
    pub fn of(option: &'static str, why: impl std::fmt::Display) -> Self {
        Self { option, why: why.to_string() }
    }
}

/// The name of an option, and the file that it names.
pub type Named<'a> = (&'static str, &'a Path);

/// A certificate with what leads to its CA, and its key.
#[derive(Debug)]
pub struct Own {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    validity: Validity,
    /// The option that names the key.
    key_option: &'static str,
    issuer: Trust,
}

/// From when until when a certificate and what leads to its CA are valid.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    option: &'static str,
    begins: ASN1Time,
    ends: ASN1Time,
}

impl Validity {
    fn of(option: &'static str, chain: &[CertificateDer<'_>]) -> Result<Self, Fault> {
        let mut all: Option<Self> = None;
        for certificate in chain {
            let (_, read) = x509_parser::parse_x509_certificate(certificate)
                .map_err(|error| Fault::of(option, format!("it cannot be read: {error}")))?;
            let (begins, ends) = (read.validity().not_before, read.validity().not_after);
            let before = all.unwrap_or(Self { option, begins, ends });
            let (begins, ends) = (before.begins.max(begins), before.ends.min(ends));
            all = Some(Self { option, begins, ends });
        }
        all.ok_or_else(|| Fault::of(option, "there is no certificate"))
    }

    /// Whether it is valid at that Unix time.
    ///
    /// # Errors
    /// It is not any more, or not yet.
    pub fn check(&self, now_s: i64) -> Result<(), Fault> {
        if self.ends.timestamp() < now_s {
            return Err(Fault::of(self.option, format!("it ran out at {}", self.ends)));
        }
        if self.begins.timestamp() > now_s {
            return Err(Fault::of(self.option, format!("it is not valid before {}", self.begins)));
        }
        Ok(())
    }

    /// As [`Self::check`], where there is nothing else to be put in force, as at a start: the fault
    /// is told, and clients see it. What is spoken in clear, and a clock that is not set yet, must
    /// not wait for a certificate.
    pub fn tell(&self, now_s: i64) {
        match self.check(now_s) {
            Ok(()) => tell(self.ends_s(), now_s),
            Err(fault) => tracing::error!(%fault, "others will not believe this certificate"),
        }
    }

    /// The option that names the certificate.
    pub fn option(&self) -> &'static str {
        self.option
    }

    /// When it runs out, Unix seconds.
    pub fn ends_s(&self) -> i64 {
        self.ends.timestamp()
    }
}

impl Own {
    /// Reads both files.
    ///
    /// # Errors
    /// The option to change, and why.
    pub fn read(certificate: Named<'_>, key: Named<'_>) -> Result<Self, Fault> {
        let chain = certificates(certificate)?;
        let validity = Validity::of(certificate.0, &chain)?;
        let issuer = Trust::issued(certificate.0, &chain);
        Ok(Self { chain, key: private_key(key)?, validity, key_option: key.0, issuer })
    }

    /// Which CA it leads to, for people.
    pub fn issuer(&self) -> Trust {
        self.issuer.clone()
    }

    /// How long it is good for.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// What a server or a client shows.
    ///
    /// # Errors
    /// The key is of another certificate, or of a kind that is not known.
    pub fn certified(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Fault> {
        let option = self.key_option;
        let key = provider.key_provider.load_private_key(self.key.clone_key());
        let key = key.map_err(|_| Fault::of(option, "a key of this kind is not known"))?;
        let certified = CertifiedKey::new(self.chain.clone(), key);
        match certified.keys_match() {
            // Some kinds of keys do not tell.
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Ok(Arc::new(certified))
            }
            Err(_) => Err(Fault::of(option, "it is not the key of the certificate")),
        }
    }
}

/// Everybody who may vouch for others.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    /// `None` if there is nobody.
    pub store: Option<Arc<RootCertStore>>,
    /// What is told of them, by the option that names them.
    pub trust: Vec<Trust>,
}

/// Everybody who may vouch for others, by these files.
///
/// # Errors
/// The option to change, and why.
pub fn roots<'a>(files: impl IntoIterator<Item = Named<'a>>) -> Result<Roots, Fault> {
    let mut roots = RootCertStore::empty();
    let mut names: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for (option, path) in files {
        for certificate in certificates((option, path))? {
            names.entry(option).or_default().extend(trust::authority(&certificate));
            let added = roots.add(certificate);
            added.map_err(|error| Fault::of(option, format!("{}: {error}", path.display())))?;
        }
    }
    let store = (!roots.is_empty()).then(|| Arc::new(roots));
    let trust = names.into_iter().map(|(option, names)| Trust::accepts(option, names)).collect();
    Ok(Roots { store, trust })
}

/// The clients that a port takes.
#[derive(Debug, Clone, Copy)]
pub struct Clients<'a> {
    /// Those that show a certificate of these CAs.
    pub file: Named<'a>,
    /// And those that show none.
    pub may_be_unknown: bool,
}

/// What a port greets with, and what is told of the CAs of its clients; `own` is what it shows, and
/// the option that names it.
///
/// # Errors
/// The option to change, and why.
pub fn server(
    provider: &Arc<CryptoProvider>,
    option: &'static str,
    own: &CertifiedKey,
    clients: Option<Clients<'_>>,
) -> Result<(ServerConfig, Vec<Trust>), Fault> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::of(option, error))?;
    let Roots { store, trust } = match &clients {
        None => Roots::default(),
        Some(clients) => roots([clients.file])?,
    };
    let builder = match clients.zip(store) {
        None => builder.with_no_client_auth(),
        Some((clients, roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
            let verifier = match clients.may_be_unknown {
                true => verifier.allow_unauthenticated(),
                false => verifier,
            };
            let verifier = verifier.build().map_err(|error| Fault::of(clients.file.0, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let own = SingleCertAndKey::from(own.clone());
    Ok((builder.with_cert_resolver(Arc::new(own)), trust))
}

/// A client that resumes a session shows no certificate, and is known by the one that it showed
/// before: that one must still be good at that Unix time. In a whole handshake it was looked at
/// just now.
///
/// # Errors
/// It has run out.
pub fn check_resumed(connection: &ServerConnection, now_s: i64) -> io::Result<()> {
    let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    let chain = connection.peer_certificates().filter(|_| is_resumed);
    // Its own alone: what else it sent need not have been looked at when it was believed.
    let Some(own) = chain.and_then(|chain| chain.get(..1)) else { return Ok(()) };
    let validity = Validity::of("certificate of the client", own).map_err(io::Error::other)?;
    let expired = |_| io::Error::other(rustls::Error::from(CertificateError::Expired));
    validity.check(now_s).map_err(expired)
}

/// The common name in a certificate.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, read) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = read.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// All that a certificate says its holder is called: the common name, and the host names, mail
/// addresses and URIs beside it.
pub fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, read)) = x509_parser::parse_x509_certificate(certificate) else {
        return Vec::new();
    };
    let common = read.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let beside = read.subject_alternative_name().ok().flatten();
    let beside = beside.iter().flat_map(|beside| &beside.value.general_names);
    let beside = beside.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some(*name)
        }
        _ => None,
    });
    common.into_iter().chain(beside).map(str::to_owned).collect()
}

/// Until when a certificate is good, Unix seconds; `None` if it cannot be read.
pub fn ends_s(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, read) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(read.validity().not_after.timestamp())
}

/// The time now, Unix seconds.
pub fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn read((option, path): Named<'_>) -> Result<Vec<u8>, Fault> {
    let shown = path.display();
    let failed = |error| Fault::of(option, format!("{shown}: {error}"));
    // A pipe would be waited for, and a device has no end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Fault::of(option, format!("{shown} is no file")));
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::of(option, format!("{shown} is too large to be a certificate or key")));
    }
    Ok(text)
}

fn certificates(file: Named<'_>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let (option, shown) = (file.0, file.1.display());
    // The error could hold a part of the file, and the file could be the key.
    let found = found.map_err(|_| Fault::of(option, format!("{shown} is no PEM file")))?;
    if found.is_empty() {
        return Err(Fault::of(option, format!("there is no certificate in {shown}")));
    }
    Ok(found)
}

fn private_key(file: Named<'_>) -> Result<PrivateKeyDer<'static>, Fault> {
    let text = read(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let why = "there is no key in it that can be read: PEM, not encrypted, of PKCS#8, PKCS#1 \
                   or SEC1";
        Fault::of(file.0, why)
    })
}

/// Says how long a certificate that was read is good for, as a warning if that is not long.
fn tell(ends_s: i64, now_s: i64) {
    let days = ends_s.saturating_sub(now_s) / DAY_S;
    tracing::info!(days, "the certificate is in force");
    if let Some(why) = runs_out(ends_s, now_s) {
        tracing::warn!("{why}");
    }
}

/// What an operator should know of a certificate that is good for less than 14 days.
pub fn runs_out(ends_s: i64, now_s: i64) -> Option<String> {
    let when = ends_soon(ends_s, now_s)?;
    Some(format!("the certificate {when}: {REMEDY}"))
}

/// What to do about a certificate that runs out.
pub const REMEDY: &str = "replace its file, then SIGHUP";

/// `runs out in 3 days`, `has run out`; nothing of one that is good for 14 days or more.
pub fn ends_soon(ends_s: i64, now_s: i64) -> Option<String> {
    match ends_s.saturating_sub(now_s) {
        ..0 => Some("has run out".to_owned()),
        left_s if left_s < SOON_DAYS * DAY_S => {
            Some(format!("runs out in {} days", left_s / DAY_S))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_weeks_before_its_end_a_certificate_is_told_of() {
        let said = |days: i64| runs_out(days * DAY_S + 5, 5);
        assert_eq!(said(14), None);
        let text = |when| Some(format!("the certificate {when}: replace its file, then SIGHUP"));
        assert_eq!(said(13), text("runs out in 13 days"));
        assert_eq!(said(0), text("runs out in 0 days"));
        assert_eq!(said(-1), text("has run out"));
    }

    #[test]
    fn a_certificate_names_its_holder_and_no_address_does() {
        let key = rcgen::KeyPair::generate().unwrap();
        let beside = ["deploy.example", "10.0.0.1"].map(str::to_owned);
        let mut params = rcgen::CertificateParams::new(beside).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "deploy");
        params.not_after = rcgen::date_time_ymd(2200, 1, 1);
        let shown = params.self_signed(&key).unwrap();
        assert_eq!(names(shown.der()), ["deploy", "deploy.example"]);
        assert_eq!(ends_s(shown.der()), Some(7_258_118_400));
    }

    #[test]
    fn a_pipe_a_folder_and_what_is_too_large_are_no_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let why = |path: &Path| certificates(("x", path)).unwrap_err().to_string();
        assert!(why(folder.path()).ends_with(" is no file"));
        assert!(why(Path::new("/dev/zero")).ends_with(" is no file"));
        let path = folder.path().join("large.pem");
        std::fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(why(&path).ends_with(" is too large to be a certificate or key"));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nhush\n").unwrap();
        assert_eq!(why(&path), format!("option `x`: {} is no PEM file", path.display()));
    }
}
