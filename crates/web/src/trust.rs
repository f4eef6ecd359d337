//! Which CAs a process knows others by, and which one has issued its own certificate: told to those
//! who replace a CA.
//!
//! A CA is named by what links a certificate to its issuer: hashes of its name, and of the id of
//! its key where it says one. So one that was made anew with the same key is the same. Nobody is
//! believed by it.

use std::fmt::Write as _;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

/// CAs that are told of one option: bundles of systems have hundreds, and this goes with every
/// heartbeat.
const MOST: usize = 16;
/// In place of those that are left out.
pub const MORE: &str = "more";

/// What is told of one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The option, or the key of the configuration file.
    pub option: &'static str,
    /// CAs in the file that it names; empty where that holds an own certificate. The last one is
    /// [`MORE`] where there are too many.
    pub accepts: Vec<String>,
    /// CAs that have issued the certificate and those that lead from it to its CA, each parted from
    /// the next by `+`: any of them may be the one that others know.
    pub issued_by: Option<String>,
}

impl Trust {
    /// That these are accepted.
    pub(crate) fn accepts(option: &'static str, mut accepts: Vec<String>) -> Self {
        accepts.sort_unstable();
        accepts.dedup();
        if accepts.len() > MOST {
            accepts.truncate(MOST);
            accepts.push(MORE.to_owned());
        }
        Self { option, accepts, issued_by: None }
    }

    /// Where the certificate leads to, by those beside it.
    pub(crate) fn issued(option: &'static str, chain: &[CertificateDer<'_>]) -> Self {
        let own = chain.iter().take(1);
        // A CA that is beside it has issued itself, which says nothing.
        let beside = chain.iter().skip(1).filter(|one| !is_own_issuer(one));
        let mut by: Vec<String> = own.chain(beside).filter_map(issuer).collect();
        by.dedup();
        let issued_by = (!by.is_empty()).then(|| by.join("+"));
        Self { option, accepts: Vec::new(), issued_by }
    }
}

/// What a CA is called; `None` if the certificate cannot be read.
pub fn authority(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, read) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let key = |extension: &ParsedExtension<'_>| match extension {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    };
    Some(named(read.subject().as_raw(), id_of(&read, key)))
}

/// What the issuer of a certificate is called; `None` if it cannot be read.
pub fn issuer(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, read) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let key = |extension: &ParsedExtension<'_>| match extension {
        ParsedExtension::AuthorityKeyIdentifier(of) => {
            of.key_identifier.as_ref().map(|id| id.0.to_vec())
        }
        _ => None,
    };
    Some(named(read.issuer().as_raw(), id_of(&read, key)))
}

fn is_own_issuer(certificate: &CertificateDer<'_>) -> bool {
    let read = x509_parser::parse_x509_certificate(certificate);
    read.is_ok_and(|(_, read)| read.issuer().as_raw() == read.subject().as_raw())
}

fn id_of(
    certificate: &X509Certificate<'_>,
    key: impl Fn(&ParsedExtension<'_>) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    certificate.extensions().iter().find_map(|one| key(one.parsed_extension()))
}

fn named(name: &[u8], key: Option<Vec<u8>>) -> String {
    let key = key.map_or_else(|| "-".to_owned(), |key| short(&key));
    format!("{}.{key}", short(name))
}

/// 12 hexadecimal digits.
fn short(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(6).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    #[test]
    fn a_certificate_and_its_ca_are_linked_by_what_is_told_and_another_ca_is_not() {
        let ca = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let mut params = params(name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).unwrap();
            (certificate.der().clone(), Issuer::new(params, key))
        };
        let ((first, by_one), (other, _)) = (ca("A"), ca("A"));
        let mut leaf = params("node");
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let signed = leaf.signed_by(&key, &by_one).unwrap();
        let (one, other) = (authority(&first).unwrap(), authority(&other).unwrap());
        assert_eq!(issuer(signed.der()).unwrap(), one);
        assert_ne!(one, other, "of one name, by another key");
        let told = Trust::issued("x", &[signed.der().clone(), signed.der().clone()]);
        assert_eq!(told.issued_by, Some(one.clone()));
        // Without the id of the key the name alone is told.
        leaf.use_authority_key_identifier_extension = false;
        let signed = leaf.signed_by(&key, &by_one).unwrap();
        let (name, _) = one.split_once('.').unwrap();
        assert_eq!(issuer(signed.der()).unwrap(), format!("{name}.-"));
    }

    #[test]
    fn what_is_beside_a_certificate_leads_on_and_a_ca_leads_to_nobody() {
        let authority = |params: &CertificateParams| {
            let mut params = params.clone();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let (root_key, middle_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (root, middle) = (authority(&params("root")), authority(&params("middle")));
        let first = root.self_signed(&root_key).unwrap();
        let by_root = Issuer::new(root, root_key);
        let between = middle.signed_by(&middle_key, &by_root).unwrap();
        let by_middle = Issuer::new(middle, middle_key);
        let key = KeyPair::generate().unwrap();
        let leaf = params("node").signed_by(&key, &by_middle).unwrap();
        let chain = [leaf.der().clone(), between.der().clone(), first.der().clone()];
        let [to_middle, to_root] = [&leaf, &between].map(|one| issuer(one.der()).unwrap());
        assert_ne!(to_middle, to_root);
        let told = |chain: &[CertificateDer<'_>]| Trust::issued("x", chain).issued_by;
        assert_eq!(told(&chain), Some(format!("{to_middle}+{to_root}")));
        assert_eq!(told(&chain[..1]), Some(to_middle));
        // One that has issued itself and stands alone is its own CA.
        assert_eq!(told(&chain[2..]), Some(to_root));
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn of_a_bundle_few_are_told_and_that_there_are_more() {
        let names = |count: usize| (0..count).map(|n| format!("{n:02}")).collect::<Vec<_>>();
        assert_eq!(Trust::accepts("x", names(MOST)).accepts, names(MOST));
        let told = Trust::accepts("x", names(MOST + 1)).accepts;
        assert_eq!((told.len(), told.last().map(String::as_str)), (MOST + 1, Some(MORE)));
        let twice = vec!["b".to_owned(), "a".to_owned(), "b".to_owned()];
        assert_eq!(Trust::accepts("x", twice).accepts, ["a", "b"]);
    }
}
