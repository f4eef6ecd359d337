//! What a node says of its certificates, of the CAs that it knows, and of ports of TLS.
//!
//! What it says of certificates and CAs is for people; a node that does not know ports of TLS is
//! sent none.

use std::fmt::Display;

use super::Reply;
use crate::certificate;

/// Its lines of a reply.
pub(super) fn render(reply: &Reply, line: &mut impl FnMut(&str, &dyn Display)) {
    if !reply.certificates.is_empty() {
        line("certificates", &certificate::show_all(&reply.certificates));
    }
    if !reply.trust.is_empty() {
        line("trust", &certificate::show_trust(&reply.trust));
    }
    if reply.knows_tls_ports {
        line("endpoint_tls", &1);
    }
}
