//! Points in time at which keys end.

use super::CommandError;
use crate::Scope;

/// How a command states a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// EX: seconds from now.
    Seconds,
    /// PX: milliseconds from now.
    Milliseconds,
    /// EXAT: Unix time in seconds.
    UnixSeconds,
    /// PXAT: Unix time in milliseconds.
    UnixMilliseconds,
}

/// What a write does to the time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// The key lives on without end.
    #[default]
    Never,
    /// As it was (KEEPTTL).
    Keep,
    /// Unix time in milliseconds.
    At(u64),
}

impl Unit {
    fn milliseconds(self, amount: i64, now_ms: u64) -> Option<i64> {
        let now_ms = i64::try_from(now_ms).ok()?;
        match self {
            Self::Seconds => amount.checked_mul(1000)?.checked_add(now_ms),
            Self::Milliseconds => amount.checked_add(now_ms),
            Self::UnixSeconds => amount.checked_mul(1000),
            Self::UnixMilliseconds => Some(amount),
        }
    }

    /// The point in time of an option of SET or GETEX (also SETEX, PSETEX): must be positive. Unix
    /// milliseconds.
    ///
    /// # Errors
    /// [`CommandError::InvalidExpire`].
    pub fn for_value(self, amount: i64, scope: &Scope<'_>) -> Result<u64, CommandError> {
        let at = self.milliseconds(amount, scope.now_ms).filter(|_| amount > 0);
        at.and_then(|at| u64::try_from(at).ok()).ok_or(CommandError::InvalidExpire)
    }

    /// The point in time of EXPIRE and its kin: may be in the past. Unix milliseconds, at least 1,
    /// because 0 is "never".
    ///
    /// # Errors
    /// [`CommandError::InvalidExpire`] if it cannot be represented.
    pub fn for_expire(self, amount: i64, scope: &Scope<'_>) -> Result<u64, CommandError> {
        let at = self.milliseconds(amount, scope.now_ms).ok_or(CommandError::InvalidExpire)?;
        let at = u64::try_from(at).unwrap_or(0);
        // A key lives through the millisecond in which it ends; one that is to end now must be gone
        // for the next command.
        let at = if at <= scope.now_ms { at.min(scope.now_ms.saturating_sub(1)) } else { at };
        Ok(at.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        let scope = Scope { namespace: b"n", cluster: false, now_ms: 1_000_000 };
        assert_eq!(Unit::Seconds.for_value(2, &scope).unwrap(), 1_002_000);
        assert!(Unit::Seconds.for_value(0, &scope).is_err());
        assert!(Unit::Seconds.for_value(i64::MAX, &scope).is_err());
        assert!(Unit::Milliseconds.for_value(i64::MAX, &scope).is_err());
        assert_eq!(Unit::UnixMilliseconds.for_value(5, &scope).unwrap(), 5);
        assert_eq!(Unit::Seconds.for_expire(-1, &scope).unwrap(), 999_000);
        assert_eq!(Unit::Seconds.for_expire(0, &scope).unwrap(), 999_999);
        assert_eq!(Unit::Seconds.for_expire(-5000, &scope).unwrap(), 1);
        assert_eq!(Unit::UnixSeconds.for_expire(0, &scope).unwrap(), 1);
        assert!(Unit::UnixSeconds.for_expire(i64::MIN, &scope).is_err());
    }
}
