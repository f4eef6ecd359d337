//! When the certificates of a node or a balancer run out, and which CAs it knows others by.
//!
//! Nothing is decided by it: it is told to people, by the controller that watches over all of them.

use serde::{Deserialize, Serialize};

/// A certificate in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The option, or the key of the configuration file, that names its file.
    pub option: String,
    /// When it, or one that leads to its CA, runs out, Unix seconds.
    pub ends_s: i64,
}

impl Certificate {
    /// What `option` names, where there is such a certificate.
    pub fn of(option: &str, ends_s: Option<i64>) -> Option<Self> {
        ends_s.map(|ends_s| Self { option: option.to_owned(), ends_s })
    }
}

/// As a heartbeat's reply has them: `option=seconds`, separated by commas.
pub(crate) fn show_all(all: &[Certificate]) -> String {
    let show = |one: &Certificate| format!("{}={}", one.option, one.ends_s);
    all.iter().map(show).collect::<Vec<_>>().join(",")
}

/// What cannot be read is left out.
pub(crate) fn read_all(text: Option<&str>) -> Vec<Certificate> {
    let read = |text: &str| {
        let (option, ends_s) = text.split_once('=')?;
        Some(Certificate { option: option.to_owned(), ends_s: ends_s.parse().ok()? })
    };
    text.unwrap_or_default().split(',').filter_map(read).collect()
}

/// Which CAs a process knows others by, or which one has issued its own certificate. A CA is named
/// by two hashes, `<name>.<key>`, of which the second may be `-`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// The option, or the key of the configuration file, that names the file.
    pub option: String,
    /// CAs in that file; empty where it holds an own certificate. `more` stands for some that are
    /// not told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepts: Vec<String>,
    /// CAs that have issued the certificate in it and those beside it, parted by `+`; none where it
    /// holds CAs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_by: Option<String>,
}

/// Whether both may be one CA: a certificate need not say the key of its issuer.
pub fn is_one_authority(one: &str, other: &str) -> bool {
    match (one.split_once('.'), other.split_once('.')) {
        (Some((one, key)), Some((other, same))) => {
            one == other && (key == same || key == "-" || same == "-")
        }
        _ => false,
    }
}

/// As a heartbeat's reply has them, separated by commas: `option=ca+ca`, `option<ca`.
pub(crate) fn show_trust(all: &[Trust]) -> String {
    let show = |one: &Trust| match &one.issued_by {
        Some(by) => format!("{}<{by}", one.option),
        None => format!("{}={}", one.option, one.accepts.join("+")),
    };
    all.iter().map(show).collect::<Vec<_>>().join(",")
}

/// What cannot be read is left out.
pub(crate) fn read_trust(text: Option<&str>) -> Vec<Trust> {
    let read = |text: &str| {
        let at = text.find(['=', '<'])?;
        let (option, said) = (text[..at].to_owned(), &text[at + 1..]);
        let is_issuer = text[at..].starts_with('<');
        let accepts = said.split('+').filter(|name| !is_issuer && !name.is_empty());
        let accepts = accepts.map(str::to_owned).collect();
        Some(Trust { option, accepts, issued_by: is_issuer.then(|| said.to_owned()) })
    };
    text.unwrap_or_default().split(',').filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_trusted_and_by_whom_a_certificate_is_goes_over_the_wire() {
        let accepts = |option: &str, all: &[&str]| Trust {
            option: option.to_owned(),
            accepts: all.iter().map(|name| (*name).to_owned()).collect(),
            issued_by: None,
        };
        let issued = Trust { issued_by: Some("ab.-".to_owned()), ..accepts("cert", &[]) };
        let all = [accepts("ca", &["ab.cd", "more"]), issued, accepts("none", &[])];
        assert_eq!(show_trust(&all), "ca=ab.cd+more,cert<ab.-,none=");
        assert_eq!(read_trust(Some(&show_trust(&all))), all);
        assert!(read_trust(Some("x,,y")).is_empty());
        assert_eq!((read_trust(None), read_trust(Some(""))), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_ca_is_known_by_its_name_and_by_its_key_where_both_say_one() {
        for other in ["a.b", "a.-"] {
            assert!(is_one_authority("a.b", other) && is_one_authority(other, "a.b"), "{other}");
        }
        for other in ["a.c", "b.b", "a", "", "more"] {
            assert!(!is_one_authority("a.b", other) && !is_one_authority(other, "a.b"), "{other}");
        }
    }

    #[test]
    fn what_cannot_be_read_of_one_certificate_takes_no_other_along() {
        let read = read_all(Some("a=5,b,c=x,=,d=-7"));
        let one = |option: &str, ends_s| Certificate { option: option.to_owned(), ends_s };
        assert_eq!(read, [one("a", 5), one("d", -7)]);
        assert_eq!(read_all(Some(&show_all(&read))), read);
        assert_eq!((read_all(None), read_all(Some(""))), (Vec::new(), Vec::new()));
    }
}
