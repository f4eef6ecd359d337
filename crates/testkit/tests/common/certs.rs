//! Certificates of tests, made here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

pub(crate) const HERE: &str = "127.0.0.1";
/// The year until which certificates are valid.
pub(crate) const GOOD: i32 = 2200;

/// A certificate authority, in a folder with the certificates that it has signed.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Ca {
    pub(crate) fn new(folder: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("ca.pem"), params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), folder })
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Files `NAME.pem` and `NAME.key` for these addresses, valid until that year.
    pub(crate) fn issue(&self, name: &str, addresses: &[&str], year: i32) -> Result<()> {
        let names: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem())?;
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }

    /// What a node needs to speak TLS.
    pub(crate) fn options(&self, name: &str) -> Vec<(&'static str, String)> {
        vec![
            ("tls-cert-file", self.path(&format!("{name}.pem"))),
            ("tls-key-file", self.path(&format!("{name}.key"))),
            ("tls-ca-cert-file", self.path("ca.pem")),
        ]
    }

    pub(crate) fn lines(&self, name: &str) -> String {
        let options = self.options(name);
        options.iter().map(|(option, value)| format!("{option} {value}\n")).collect()
    }

    /// redis-cli over TLS; with the certificate of that name if there is one.
    pub(crate) fn cli(&self, at: (&str, u16), name: Option<&str>) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["--tls", "--cacert", &self.path("ca.pem")]);
        if let Some(name) = name {
            command.args(["--cert", &self.path(&format!("{name}.pem"))]);
            command.args(["--key", &self.path(&format!("{name}.key"))]);
        }
        command.args(["-h", at.0, "-p", &at.1.to_string()]);
        command.stdin(Stdio::null());
        command
    }
}
