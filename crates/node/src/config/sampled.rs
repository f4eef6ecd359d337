//! `profiling-sample-commands`: which commands are sampled for PERFLOG.

use super::kvrocks;
use super::value::{Value, words_of};
use crate::command::Renames;

/// In place of all names.
const ALL: &str = "*";

/// Commands by the names that the table gives them, whatever `rename-command` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sampled {
    is_all: bool,
    names: Vec<String>,
}

impl Sampled {
    /// Whether a command is one of them.
    pub fn has(&self, name: &str) -> bool {
        self.is_all || self.names.iter().any(|sampled| sampled == name)
    }
}

impl Value for Sampled {
    fn parse(text: &str) -> Result<Self, String> {
        let mut sampled = Self::default();
        for word in words_of(text) {
            let name = word.to_ascii_lowercase();
            // A file of Kvrocks' may name what this build does not serve: it never runs.
            let is_command =
                || Renames::default().find(name.as_bytes()).is_some() || kvrocks::is_command(&name);
            if name == ALL {
                sampled.is_all = true;
            } else if is_command() {
                sampled.names.push(name);
            } else {
                return Err(format!(
                    "there is no command `{word}`: names separated by commas, or * for all"
                ));
            }
        }
        Ok(sampled)
    }

    fn render(&self) -> String {
        if self.is_all { ALL.to_owned() } else { self.names.join(",") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_shown_in_their_order() {
        crate::shell::table();
        for (text, shown) in
            [("", ""), ("SET,get", "set,get"), ("set  get, Ft.Search", "set,get,ft.search")]
        {
            let sampled = Sampled::parse(text).unwrap();
            assert_eq!(sampled.render(), shown, "{text}");
            assert_eq!(Sampled::parse(shown).unwrap(), sampled, "{text}");
            assert_eq!(sampled.has("set"), !text.is_empty(), "{text}");
            assert!(!sampled.has("del"), "{text}");
        }
        for text in ["*", "get,*"] {
            let all = Sampled::parse(text).unwrap();
            assert!(all.has("del") && all.render() == "*", "{text}");
        }
    }

    #[test]
    fn what_is_no_command_is_named() {
        crate::shell::table();
        for (text, wrong) in
            [("gett", "gett"), ("get,Nosuch,set", "Nosuch"), ("get|set", "get|set")]
        {
            let error = Sampled::parse(text).unwrap_err();
            assert!(error.starts_with(&format!("there is no command `{wrong}`")), "{error}");
        }
    }
}
