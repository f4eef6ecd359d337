//! What a master says of its data when a replica asks with `replconf history`.
//!
//! `<position>` alone is the form of earlier versions; masters that were asked for more add
//! `granted <epoch|->` and `lineage <entries|->`, and those that know which cluster they are of
//! `cluster <name>`. Names that are not known are passed over.

use std::fmt;

use crate::history::{Entry, History, Malformed, Position, TEXT_BYTES_MAX, is_grant_shown};
use crate::number::decimal;

/// Longest answer: two histories and the words between them.
pub const ANSWER_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX + 128;
/// Digits of a cluster's name, hexadecimal ones.
const CLUSTER_BYTES: usize = 16;

/// Whether the master's process holds a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// It does not tell: an earlier version.
    Untold,
    /// It holds none.
    None,
    /// Of this epoch.
    Epoch(u64),
}

/// A master's data, and what it may do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its epochs and its end.
    pub position: Position,
    /// Its grant.
    pub granted: Granted,
    /// Which nodes wrote it; `None` from a version that keeps no lineage.
    pub lineage: Option<History>,
    /// Name of the cluster that it is of, if it knows.
    pub cluster: Option<String>,
}

impl Answer {
    /// Reads what [`Answer::to_string`] writes.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        if text.len() > ANSWER_BYTES_MAX {
            return Err(Malformed);
        }
        let mut words = text.split(|byte| *byte == b' ');
        let position = Position::parse(words.next().ok_or(Malformed)?)?;
        let mut answer = Self { position, granted: Granted::Untold, lineage: None, cluster: None };
        while let Some(name) = words.next() {
            let value = words.next().ok_or(Malformed)?;
            match name {
                b"granted" if value == b"-" => answer.granted = Granted::None,
                b"granted" => answer.granted = Granted::Epoch(decimal(value).ok_or(Malformed)?),
                b"lineage" => answer.lineage = Some(History::parse(value)?),
                b"cluster" => answer.cluster = cluster_name(value),
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Whether data of the epoch `newest` may be given up for this master's. One that does not tell
    /// its grants is taken at its history's word: an epoch in there was granted to somebody once.
    pub fn shows(&self, newest: &Entry) -> bool {
        let history = &self.position.history;
        let granted = match self.granted {
            Granted::Untold => history.newest().map(|entry| entry.epoch),
            Granted::None => None,
            Granted::Epoch(epoch) => Some(epoch),
        };
        is_grant_shown(newest, history, granted)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.position)?;
        match self.granted {
            Granted::Untold => {}
            Granted::None => f.write_str(" granted -")?,
            Granted::Epoch(epoch) => write!(f, " granted {epoch}")?,
        }
        self.lineage.as_ref().map_or(Ok(()), |lineage| write!(f, " lineage {lineage}"))?;
        self.cluster.as_ref().map_or(Ok(()), |cluster| write!(f, " cluster {cluster}"))
    }
}

/// Names of another form are those of later versions: nothing is known by them.
fn cluster_name(text: &[u8]) -> Option<String> {
    let is_name = text.len() == CLUSTER_BYTES && text.iter().all(u8::is_ascii_hexdigit);
    is_name.then(|| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCHS: &str = "9;3:0000000000000003:1:0";

    fn answer(text: &str) -> Answer {
        Answer::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn it_has_one_form_and_an_older_one() {
        for text in ["7;-", EPOCHS] {
            let cluster = " granted 7 lineage - cluster 00000000000000c1";
            for rest in ["", " granted -", " granted 7", " granted 7 lineage -", cluster] {
                let text = format!("{text}{rest}");
                assert_eq!(answer(&text).to_string(), text);
            }
        }
        let lineage = " granted - lineage 1:0000000000000001:1:0,2:0000000000000002:10:0";
        assert_eq!(answer(&format!("9;-{lineage}")).to_string(), format!("9;-{lineage}"));
        assert_eq!(answer("7;- what 1 granted 3").granted, Granted::Epoch(3), "an unknown name");
        assert_eq!(answer("7;- cluster later").cluster, None);
        for bad in ["", "7;- granted", "7;- granted x", "7;- lineage x", "7;- "] {
            assert_eq!(Answer::parse(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn absence_of_history_is_not_another_history() {
        let mine = Position::parse(EPOCHS.as_bytes()).unwrap();
        let newest = mine.history.newest().unwrap();
        let other = "9;4:000000000000000b:1:0";
        for (text, is_shown) in [
            // Empty: an older version, one without a grant, one that was granted an older epoch,
            // and a later one.
            ("0;-", false),
            ("0;- granted -", false),
            ("0;- granted 2", false),
            ("0;- granted 3", false),
            ("0;- granted 4", true),
            // It has the epoch.
            (EPOCHS, true),
            ("9;3:0000000000000003:1:0 granted -", true),
            // The same number, given twice.
            ("9;3:000000000000000b:1:0 granted 3", false),
            // A later epoch in a copy that nobody has granted anything to by now.
            (&format!("{other} granted -"), false),
            (&format!("{other} granted 4"), true),
            (other, true),
        ] {
            assert_eq!(answer(text).shows(newest), is_shown, "{text}");
        }
    }
}
