//! Errors as one line, for people: in the log, in events and alarms, on a terminal.

use std::error::Error;

/// An error with its causes.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some name their cause in their own text.
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Said(&'static str, Option<Box<Said>>);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Said {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &(dyn Error + 'static))
        }
    }

    #[test]
    fn every_cause_is_told_and_none_twice() {
        let because = |words, cause| Said(words, Some(Box::new(cause)));
        let error = because("start", because("read a.toml", Said("no such file", None)));
        assert_eq!(chain(&error), "start: read a.toml: no such file");
        let names_it = because("read a.toml: no such file", Said("no such file", None));
        assert_eq!(chain(&because("start", names_it)), "start: read a.toml: no such file");
    }
}
