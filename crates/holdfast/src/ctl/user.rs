//! Verbs about users: who may ask the controller, and by what they are known.

use std::time::Duration;

use anyhow::{Context as _, Result};
use api::rest::{User, UserAdded, UserRole, UserSpec, Users};
use api::time::utc;
use clap::Subcommand;
use reqwest::Method;

use super::Context;
use super::table::{json, render, text};
use super::words::in_path;

#[derive(Debug, Subcommand)]
pub(crate) enum UserVerb {
    /// Add a user, and print its token, this once
    ///
    /// The store keeps only a hash of the token: one that was lost is replaced by `user remove` and
    /// `user add`. Give it to `ctl` by --token-file or HOLDFAST_TOKEN_FILE. With --certificate
    /// there is no token: whoever shows a certificate of that name (`ctl --cert`, `--key`) is the
    /// user. The token of the controller's configuration stays an admin, whatever users there are.
    /// Only an admin adds users.
    Add {
        /// Its name, for `events --audit`: letters, digits, `-`, `_`, `.`
        name: String,
        /// `viewer` looks; `operator` also fails over, moves slots, pauses, and changes nodes and
        /// balancers; `admin` does everything
        #[arg(long)]
        role: UserRole,
        /// For how long the token is good: a number and s, m, h, d or w, as 90d; without, for ever
        #[arg(long, value_name = "TIME", value_parser = lifetime)]
        expires: Option<Duration>,
        /// Common name of its certificates, or a host name, mail address or URI beside it; of a CA
        /// in the controller's `tls.client_ca_file`
        #[arg(long, value_name = "NAME")]
        certificate: Option<String>,
        /// Namespaces to whose clusters it is limited, separated by commas; without, it may look
        /// and act everywhere
        #[arg(long, value_name = "NAMESPACES", value_delimiter = ',')]
        within: Vec<String>,
    },
    /// List users, their roles, until when they are good, and when each was last seen
    List,
    /// Remove a user: its token is refused from then on
    Remove {
        /// Its name
        name: String,
    },
}

/// `90d` and the like.
fn lifetime(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: a number, 1 and up, and s, m, h, d or w, as 90d");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let count = text.strip_suffix(unit).and_then(|count| count.parse::<u64>().ok());
    let all = count.filter(|count| *count > 0).and_then(|count| count.checked_mul(seconds));
    all.map(Duration::from_secs).ok_or_else(wrong)
}

pub(crate) async fn run(cx: &Context, verb: UserVerb) -> Result<()> {
    match verb {
        UserVerb::Add { name, role, expires, certificate, within } => {
            let expires_in_s = expires.map(|time| time.as_secs());
            let body = UserSpec { name, role, expires_in_s, certificate, namespaces: within };
            let value = cx.http.call(Method::POST, "/users", Some(&body)).await?;
            if cx.json {
                return json(&value);
            }
            text(&added(&serde_json::from_value(value).context("read the user")?))
        }
        UserVerb::List => {
            let value = cx.http.call(Method::GET, "/users", None::<&()>).await?;
            if cx.json {
                return json(&value);
            }
            text(&list(cx.width, &serde_json::from_value(value).context("read the users")?))
        }
        UserVerb::Remove { name } => {
            let path = format!("/users/{}", in_path("user", &name, "user list")?);
            let value = cx.http.call(Method::DELETE, &path, None::<&()>).await?;
            if cx.json { json(&value) } else { text(&format!("user {name} removed\n")) }
        }
    }
}

fn added(UserAdded { user, token }: &UserAdded) -> String {
    let mut words = format!("user {} added: {}, {}\n", user.name, role(user), end(user));
    words.push_str(&match (token, &user.certificate) {
        (Some(token), _) => format!("token: {token}\nIt is shown this once.\n"),
        (None, certificate) => format!(
            "It is whoever shows a certificate of {}.\n",
            certificate.as_deref().unwrap_or("its name")
        ),
    });
    words
}

/// `operator in a, b`.
fn role(user: &User) -> String {
    match user.namespaces.is_empty() {
        true => user.role.to_string(),
        false => format!("{} in {}", user.role, user.namespaces.join(", ")),
    }
}

fn end(user: &User) -> String {
    match user.expires_at_ms {
        None => "for ever".to_owned(),
        Some(at_ms) => format!("until {} UTC", whole_seconds(at_ms)),
    }
}

/// A time without its thousandths.
fn whole_seconds(at_ms: u64) -> String {
    let text = utc(at_ms);
    text.split_once('.').map_or(text.clone(), |(whole, _)| whole.to_owned())
}

fn list(width: usize, Users { users }: &Users) -> String {
    if users.is_empty() {
        return "there are no users: the token of the controller's configuration is an admin\n"
            .to_owned();
    }
    let rows: Vec<_> = (users.iter())
        .map(|user| {
            let is_over = if user.expired { ", expired" } else { "" };
            let by = user.certificate.as_ref().map(|name| format!("certificate {name}"));
            vec![
                user.name.clone(),
                role(user),
                by.unwrap_or_else(|| "token".to_owned()),
                format!("{}{is_over}", end(user)),
                user.last_used_ms.map_or_else(|| "never".to_owned(), whole_seconds),
                whole_seconds(user.created_at_ms),
                user.created_by.clone(),
            ]
        })
        .collect();
    render(
        width,
        &["USER", "ROLE", "KNOWN BY", "GOOD", "LAST SEEN (UTC)", "ADDED (UTC)", "BY"],
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(expires_at_ms: Option<u64>) -> User {
        User {
            name: "deploy".to_owned(),
            role: UserRole::Operator,
            created_at_ms: 951_782_400_123,
            created_by: "(configured token)".to_owned(),
            expires_at_ms,
            expired: expires_at_ms.is_some(),
            certificate: None,
            namespaces: Vec::new(),
            last_used_ms: expires_at_ms,
        }
    }

    #[test]
    fn times_are_read_and_what_is_none_is_refused() {
        for (text, seconds) in [("90d", 7_776_000), ("12h", 43_200), ("1s", 1), ("2w", 1_209_600)] {
            assert_eq!(lifetime(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "d", "0d", "-1d", "90", "90D", "1.5h", "99999999999999999999d", "1µ"] {
            assert!(lifetime(text).is_err_and(|error| error.contains("90d")), "{text}");
        }
    }

    #[test]
    fn a_token_is_told_with_what_it_is_good_for() {
        let told = added(&UserAdded { user: user(None), token: Some("hft_x".to_owned()) });
        assert_eq!(
            told,
            "user deploy added: operator, for ever\ntoken: hft_x\nIt is shown this once.\n"
        );
        let told = added(&UserAdded { user: user(Some(1_000)), token: Some("hft_x".to_owned()) });
        assert!(told.contains("operator, until 1970-01-01 00:00:01 UTC\n"), "{told}");
        let certified = User {
            certificate: Some("duty.example".to_owned()),
            namespaces: vec!["a".to_owned(), "b".to_owned()],
            ..user(None)
        };
        let told = added(&UserAdded { user: certified.clone(), token: None });
        assert_eq!(
            told,
            "user deploy added: operator in a, b, for ever\nIt is whoever shows a certificate of duty.example.\n"
        );
        let told = list(usize::MAX, &Users { users: vec![certified] });
        assert!(told.contains("operator in a, b  certificate duty.example  for ever"), "{told}");
        assert!(told.contains("never"), "{told}");
    }

    #[test]
    fn a_token_that_has_ended_is_shown_as_such() {
        let told = list(usize::MAX, &Users { users: vec![user(Some(1_000)), user(None)] });
        assert!(told.contains("until 1970-01-01 00:00:01 UTC, expired"), "{told}");
        assert!(told.contains("for ever  2000-02-29 00:00:00") || told.contains("for ever "));
        assert!(list(100, &Users { users: Vec::new() }).starts_with("there are no users"));
    }
}
