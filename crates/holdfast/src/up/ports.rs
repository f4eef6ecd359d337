//! Are the ports free? Asked before anything is started, so that the answer is one message and not
//! a dozen logs.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

use super::layout::Layout;

/// Fails with the first port that something else listens on, and what to do about it.
pub(crate) fn check_free(layout: &Layout) -> Result<()> {
    for (port, purpose) in layout.ports() {
        if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            let range = layout.port_range();
            let why = match error.kind() {
                ErrorKind::AddrInUse => "something else listens there".to_owned(),
                _ => error.to_string(),
            };
            bail!(
                "port {port} is needed for {purpose}: {why}. Ports {} to {} are used; --base-port moves all of them",
                range.start(),
                range.end()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::layout::BalancerKind;
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_purpose() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let layout = Layout {
            shards: 1,
            replicas: 0,
            balancer: BalancerKind::None,
            balancers: 0,
            base_port: port - 100,
            controllers: 1,
            store: super::super::layout::Store::Embedded,
        };
        let error = check_free(&layout).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} is needed for node 0")), "{error}");
    }
}
