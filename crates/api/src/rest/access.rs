//! Users of the controller, and what each may ask for. Tokens go out once, when they are made, and
//! never again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// What somebody may do. Each role may do what the one before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    /// Looks, and changes nothing.
    Viewer,
    /// Switchovers, moves of slots, pauses, balancers, nodes.
    Operator,
    /// Clusters that come and go, what they promise, losses, secrets, users.
    Admin,
}

impl UserRole {
    /// All, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for UserRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A word that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("role `{0}` is none of viewer, operator, admin")]
pub struct UnknownRole(String);

impl FromStr for UserRole {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.into_iter().find(|role| role.word() == text);
        found.ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// By whom a change was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Name of the user; in parentheses what is none.
    pub who: String,
    /// What they may do.
    pub role: UserRole,
    /// Address the request came from.
    pub from: String,
}

/// Reads the actor of an event; one that a later version describes is none, and the event is read.
///
/// # Errors
/// It is no value at all.
pub fn if_known<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Actor>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(from)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

/// `POST /users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// 1 to 255 letters, digits, `-`, `_`, `.`, the first a letter or digit; unique.
    pub name: String,
    /// What it may do.
    pub role: UserRole,
    /// For how long the token is good, or the certificate stands for the user, seconds, 1 and up;
    /// for ever without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// Common name, or a host name, mail address or URI beside it, in the certificates by which it
    /// is known in place of a token; unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Namespaces to whose clusters it is limited; empty: all, and what is of none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
}

/// A user, without its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Unique.
    pub name: String,
    /// What it may do.
    pub role: UserRole,
    /// When it was added, ms since 1970.
    pub created_at_ms: u64,
    /// By whom.
    pub created_by: String,
    /// From when on its token is refused, ms since 1970; never without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// It is refused now.
    pub expired: bool,
    /// Name in the certificates by which it is known; none where it has a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Namespaces to which it is limited; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// When it was last seen, ms since 1970. After another controller has taken the lead an hour
    /// may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_ms: Option<u64>,
}

/// `GET /users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// By name.
    pub users: Vec<User>,
}

/// The answer to `POST /users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserAdded {
    /// As it is stored.
    pub user: User,
    /// Told this once: only its hash is kept. None where it is known by certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_the_ones_before_it_and_is_spelled_one_way() {
        assert!(UserRole::ALL.is_sorted());
        for role in UserRole::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            let json = serde_json::to_string(&role).expect("JSON");
            assert_eq!(json, format!("\"{role}\""));
        }
        let error = "root".parse::<UserRole>().expect_err("no role").to_string();
        assert_eq!(error, "role `root` is none of viewer, operator, admin");
    }

    #[test]
    fn a_misspelt_field_makes_no_token_that_lasts_for_ever() {
        let spec = r#"{"name":"a","role":"viewer","expires_in":5}"#;
        assert!(serde_json::from_str::<UserSpec>(spec).is_err());
    }
}
