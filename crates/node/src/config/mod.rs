//! Configuration: Kvrocks' file format and option names.
//!
//! One declaration (`options`) yields the struct, the defaults, the parser, CONFIG GET/SET/REWRITE
//! and the sample file. What cannot take effect stops the start and names file, line, option and
//! what would be accepted; names that only Kvrocks knows (`kvrocks`) warn.

mod declared;
mod derived;
pub mod engine;
pub mod file;
mod kvrocks;
pub mod load;
pub mod options;
mod output;
pub mod sampled;
pub mod schedule;
pub mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use topology::Endpoint;

pub(crate) use kvrocks::without_effect;
pub use options::{OPTIONS, SetError, Values};

/// Namespaces by their tokens.
pub type Tokens = BTreeMap<String, String>;

type SetLogLevel = Box<dyn Fn(&str) + Send + Sync>;

/// Values before and after a change, or the option that is in its way, and why.
pub type Changed = Result<(Arc<Values>, Arc<Values>), (String, SetError)>;

/// The right to change live options: one change at a time.
#[must_use = "it ends with this value"]
pub struct Changing<'c> {
    config: &'c Config,
    _one_at_a_time: MutexGuard<'c, ()>,
}

impl Changing<'_> {
    /// Changes live options, all or none, if `is_good` finds nothing against the new values: nobody
    /// has seen them before, and no others are set meanwhile. What it writes down of them is
    /// therefore never taken back for others. Returns the values before and after.
    ///
    /// # Errors
    /// The option, and what is wrong with it.
    pub fn set_if(
        self,
        pairs: &[(&str, &str)],
        is_good: impl FnOnce(&Values) -> Result<(), (String, SetError)>,
    ) -> Changed {
        self.config.put_in_force(pairs, is_good)
    }
}

/// The live configuration of a node.
pub struct Config {
    values: ArcSwap<Values>,
    changing: Mutex<()>,
    set_log_level: SetLogLevel,
    /// The file the node was started with; CONFIG REWRITE needs one.
    pub file: Option<PathBuf>,
}

impl Config {
    /// A configuration that starts with `values`.
    pub fn new(values: Values, file: Option<PathBuf>) -> Self {
        Self {
            values: ArcSwap::from_pointee(values),
            changing: Mutex::new(()),
            set_log_level: Box::new(|_| {}),
            file,
        }
    }

    /// Has `set_log_level` told each new value of `log-level`, in the order of the changes. It must
    /// not change options.
    #[must_use]
    pub fn with_log(self, set_log_level: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { set_log_level: Box::new(set_log_level), ..self }
    }

    /// The current values. A command keeps one view from start to end.
    pub fn now(&self) -> Arc<Values> {
        self.values.load_full()
    }

    /// The right to change options; its holder may wait for a disk.
    pub fn change(&self) -> Changing<'_> {
        Changing { config: self, _one_at_a_time: self.changing.lock() }
    }

    /// The same where nobody may wait: `None` if somebody changes options just now.
    pub fn try_change(&self) -> Option<Changing<'_>> {
        let one_at_a_time = self.changing.try_lock()?;
        Some(Changing { config: self, _one_at_a_time: one_at_a_time })
    }

    /// Changes live options: all or none. Returns the values before and after.
    ///
    /// # Errors
    /// The option, and what is wrong with it.
    pub fn set(&self, pairs: &[(&str, &str)]) -> Changed {
        self.set_if(pairs, |_| Ok(()))
    }

    /// See [`Changing::set_if`].
    ///
    /// # Errors
    /// The option, and what is wrong with it.
    pub fn set_if(
        &self,
        pairs: &[(&str, &str)],
        is_good: impl FnOnce(&Values) -> Result<(), (String, SetError)>,
    ) -> Changed {
        self.change().set_if(pairs, is_good)
    }

    fn put_in_force(
        &self,
        pairs: &[(&str, &str)],
        is_good: impl FnOnce(&Values) -> Result<(), (String, SetError)>,
    ) -> Changed {
        let before = self.now();
        let mut after = Values::clone(&before);
        for (name, value) in pairs {
            let option = options::find(name).ok_or(((*name).to_owned(), SetError::Unknown))?;
            if !option.is_live {
                return Err(((*name).to_owned(), SetError::Restart));
            }
            after.set(name, value).map_err(|error| ((*name).to_owned(), error))?;
        }
        after
            .check_together()
            .map_err(|(name, why)| (name.to_owned(), SetError::Value(why.to_owned())))?;
        is_good(&after)?;
        // What a SLAVEOF has noted meanwhile stays.
        self.values.rcu(|now| Values { slaveof: now.slaveof.clone(), ..after.clone() });
        let after = self.now();
        if after.log_level != before.log_level {
            (self.set_log_level)(after.log_level.as_str());
        }
        Ok((before, after))
    }
}

impl Config {
    /// SLAVEOF has made the node a replica of another one, or a master: from here on that is what
    /// is shown, and what CONFIG REWRITE writes. It waits for nobody, as no other change touches
    /// that option: one that reads certificates may last.
    pub fn note_master(&self, master: Option<Endpoint>) {
        let slaveof = value::Master(master);
        self.values.rcu(|now| Values { slaveof: slaveof.clone(), ..Values::clone(now) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_found_to_be_bad_were_never_shown() {
        let config = Config::new(Values::default(), None);
        let before = config.now().timeout;
        let refused = config.set_if(&[("timeout", "77")], |after| {
            assert_eq!((after.timeout, config.now().timeout), (77, before));
            Err(("timeout".into(), SetError::Value("no".into())))
        });
        assert_eq!(refused.unwrap_err().0, "timeout");
        assert_eq!(config.now().timeout, before);
    }

    #[test]
    fn a_master_is_noted_while_others_change_options_and_stays_so() {
        let config = Config::new(Values::default(), None);
        let master = Some(Endpoint { host: "10.0.0.1".into(), port: 7 });
        let set = config.set_if(&[("timeout", "77")], |_| {
            config.note_master(master.clone());
            Ok(())
        });
        let (_, after) = set.unwrap();
        assert_eq!((after.timeout, &after.slaveof.0), (77, &master));
        assert_eq!(config.now().slaveof.0, master);
        config.note_master(None);
        assert_eq!((config.now().timeout, &config.now().slaveof.0), (77, &None));
    }

    #[test]
    fn the_log_is_told_new_levels_only() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&told);
        let config = Config::new(Values::default(), None)
            .with_log(move |level| ear.lock().push(level.to_owned()));
        config.set(&[("log-level", "debug")]).unwrap();
        config.set(&[("maxclients", "7")]).unwrap();
        config.set(&[("log-level", "debug")]).unwrap();
        config.set(&[("log-level", "nonsense")]).unwrap_err();
        config.set(&[("log-level", "warning")]).unwrap();
        assert_eq!(*told.lock(), ["debug", "warning"]);
    }
}
