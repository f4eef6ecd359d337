//! TLS on the way to controllers and nodes: by what they are known, and what they are shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use web::certs::Fault;
use web::tls::{self, ClientConfig, Files, Tls};

use super::env::variable;

/// Where systems keep the CAs that they trust.
const SYSTEM: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

#[derive(Debug, Default, clap::Args)]
pub(crate) struct TlsArgs {
    /// Certificates of the CAs that https:// controllers are known by, PEM; default: this system's [env: HOLDFAST_CACERT]
    #[arg(long, global = true, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Certificate that is shown to controllers that ask for one, PEM [env: HOLDFAST_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its key, PEM [env: HOLDFAST_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl TlsArgs {
    /// Whether something was said of TLS: then a controller without a scheme is dialled by it, and
    /// no token goes there in clear.
    pub(super) fn is_given(&self) -> bool {
        let flags = [&self.cacert, &self.cert, &self.key];
        let variables = ["HOLDFAST_CACERT", "HOLDFAST_CERT", "HOLDFAST_KEY"];
        flags.iter().any(|flag| flag.is_some()) || variables.iter().any(|name| file(name).is_some())
    }

    /// What `https://` controllers are dialled with.
    ///
    /// # Errors
    /// A file that cannot be used, by its flag.
    pub(super) fn client(&self) -> Result<ClientConfig> {
        Arc::new(self.read(false)?).client().context("prepare TLS")
    }

    /// What nodes are dialled with: over TLS, or in clear.
    ///
    /// # Errors
    /// As [`TlsArgs::client`].
    pub(super) fn nodes(&self, is_over_tls: bool) -> Result<Tls> {
        if is_over_tls { self.read(true) } else { Ok(Tls::default()) }
    }

    fn read(&self, nodes: bool) -> Result<Tls> {
        let said = |given: &Option<PathBuf>, name| given.clone().or_else(|| file(name));
        let system = || SYSTEM.iter().map(PathBuf::from).find(|path| Path::exists(path));
        let files = Files {
            cert_file: said(&self.cert, "HOLDFAST_CERT"),
            key_file: said(&self.key, "HOLDFAST_KEY"),
            client_ca_file: None,
            client_optional: false,
            ca_file: said(&self.cacert, "HOLDFAST_CACERT").or_else(system),
            nodes,
            terminate: None,
        };
        Ok(Tls::read(&files).map_err(by_flag)?)
    }
}

fn file(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// A fault by the name that an operator knows.
fn by_flag(fault: Fault) -> Fault {
    let option = match fault.option {
        tls::CERT => "--cert",
        tls::KEY => "--key",
        _ => "--cacert",
    };
    Fault { option, ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_named_by_its_flag() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pem");
        std::fs::write(&path, "nothing\n").unwrap();
        let cacert = TlsArgs { cacert: Some(path.clone()), ..TlsArgs::default() };
        assert!(cacert.is_given(), "a controller without a scheme is dialled in clear");
        let error = cacert.client().unwrap_err().to_string();
        assert!(error.starts_with("option `--cacert`: there is no certificate in "), "{error}");
        let alone = TlsArgs { cert: Some(path), ..TlsArgs::default() };
        let error = alone.client().unwrap_err().to_string();
        assert!(error.starts_with("option `--key`: "), "{error}");
    }
}
