//! What stops a running script from outside.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Why a script ends before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SCRIPT KILL or FUNCTION KILL.
    Killed,
    /// Its host cannot go on with it.
    Aborted,
    /// It ran longer than it may.
    TooLong,
}

/// Asked from time to time while Lua runs: a reason to stop.
pub type Tick = Box<dyn Fn() -> Option<Stop>>;

/// State of one run that others look at.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicU8,
    has_written: AtomicBool,
}

impl Control {
    /// The script is to end. The first reason stays.
    pub fn stop(&self, why: Stop) {
        let code = match why {
            Stop::Killed => 1,
            Stop::Aborted => 2,
            Stop::TooLong => 3,
        };
        // Another reason may be there already: it ends either way.
        let _ = self.stop.compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Why it is to end.
    pub fn stopped(&self) -> Option<Stop> {
        match self.stop.load(Ordering::SeqCst) {
            1 => Some(Stop::Killed),
            2 => Some(Stop::Aborted),
            3 => Some(Stop::TooLong),
            _ => None,
        }
    }

    /// A command that writes has run.
    pub fn note_write(&self) {
        self.has_written.store(true, Ordering::SeqCst);
    }

    /// Whether one has.
    pub fn has_written(&self) -> bool {
        self.has_written.load(Ordering::SeqCst)
    }
}
