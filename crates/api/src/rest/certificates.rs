//! Certificates and CAs of the processes of a site, as they tell themselves.
//!
//! Names, ids and ends alone: no certificate, and no key, is in it.

use serde::{Deserialize, Serialize};

use crate::certificate::{Certificate, Trust};

/// `GET /certificates` of one controller, and each of those of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateHolder {
    /// `node`, `balancer` or `controller`.
    pub kind: String,
    /// Address of a node, name of a balancer, URL of a controller.
    pub name: String,
    /// Whether it answers now. One that is silent has what it told of last.
    pub told: bool,
    /// When its certificates run out.
    pub certificates: Vec<Certificate>,
    /// Which CAs it knows others by, and which ones its certificates lead to. Nothing from earlier
    /// versions.
    pub trust: Vec<Trust>,
}

/// `GET …/certificates`: of all nodes and balancers of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateHolders {
    /// Nodes in the order of the shards, then balancers.
    pub holders: Vec<CertificateHolder>,
}
