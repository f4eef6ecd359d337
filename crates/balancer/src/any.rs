//! The kinds of load balancers, behind one type.

use api::balancer::Desired;

use crate::builtin::Builtin;
use crate::driver::{Applied, Driver, Error};
use crate::haproxy::Haproxy;

/// An instance of any kind.
#[derive(Debug)]
pub enum AnyDriver {
    /// Ours.
    Builtin(Builtin),
    /// HAProxy 2.6 and later.
    Haproxy(Haproxy),
}

impl AnyDriver {
    /// The configured name.
    pub fn name(&self) -> &str {
        match self {
            Self::Builtin(driver) => driver.name(),
            Self::Haproxy(driver) => driver.name(),
        }
    }
}

impl Driver for AnyDriver {
    async fn apply_while(
        &self,
        desired: &Desired,
        may: impl Fn() -> bool + Send + Sync,
    ) -> Result<Applied, Error> {
        match self {
            Self::Builtin(driver) => driver.apply_while(desired, may).await,
            Self::Haproxy(driver) => driver.apply_while(desired, may).await,
        }
    }

    async fn observe(&self) -> Result<Applied, Error> {
        match self {
            Self::Builtin(driver) => driver.observe().await,
            Self::Haproxy(driver) => driver.observe().await,
        }
    }
}
