//! When the certificates of a node or a balancer run out.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_of_one_certificate_takes_no_other_along() {
        let read = read_all(Some("a=5,b,c=x,=,d=-7"));
        let one = |option: &str, ends_s| Certificate { option: option.to_owned(), ends_s };
        assert_eq!(read, [one("a", 5), one("d", -7)]);
        assert_eq!(read_all(Some(&show_all(&read))), read);
        assert_eq!((read_all(None), read_all(Some(""))), (Vec::new(), Vec::new()));
    }
}
