//! What runs in a state just now, as the functions of `redis` find it.

#![expect(unsafe_code, reason = "functions of Lua's own kind reach the host of the run")]

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;
use std::rc::Rc;

use resp::Protocol;

use crate::host::{Called, Host};

/// See the module. It stays where it is as long as its state lives.
pub(crate) struct Current {
    host: Cell<Option<NonNull<dyn Host + 'static>>>,
    /// What the script has said with `redis.setresp`.
    pub(crate) protocol: Cell<Protocol>,
    /// The bound of memory was met.
    pub(crate) lacks: Cell<bool>,
    /// Most bytes of the arguments of a call, and of a reply.
    pub(crate) bytes_max: usize,
    /// What the last command answered, or why it was refused.
    answer: UnsafeCell<Vec<u8>>,
    /// What the host panicked with.
    panic: Cell<Option<Box<dyn Any + Send>>>,
}

/// What came of a command; its reply, or why it was refused, is in [`Current::answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Replied,
    Refused,
    /// The script is to end.
    Stop,
}

impl Current {
    pub(crate) fn new(bytes_max: usize) -> Rc<Self> {
        Rc::new(Self {
            host: Cell::new(None),
            protocol: Cell::new(Protocol::V2),
            lacks: Cell::new(false),
            bytes_max,
            answer: UnsafeCell::new(Vec::new()),
            panic: Cell::new(None),
        })
    }

    /// Lends a host to what runs within `run`.
    pub(crate) fn lend<T>(&self, host: &mut dyn Host, run: impl FnOnce() -> T) -> T {
        struct Back<'c>(&'c Current);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.host.set(None);
            }
        }
        let host: NonNull<dyn Host + '_> = NonNull::from(host);
        // SAFETY: of the type only the lifetime changes, and the host is taken back before it ends.
        let host = unsafe {
            std::mem::transmute::<NonNull<dyn Host + '_>, NonNull<dyn Host + 'static>>(host)
        };
        self.host.set(Some(host));
        let _back = Back(self);
        run()
    }

    /// Asks the host something; `None` if it is being asked already, or nothing runs.
    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&mut dyn Host) -> T) -> Option<T> {
        struct Back<'c>(&'c Current, NonNull<dyn Host + 'static>);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.host.set(Some(self.1));
            }
        }
        let mut host = self.host.take()?;
        let _back = Back(self, host);
        // SAFETY: `lend` has borrowed it for itself alone, and it is not lent twice: while it is
        // asked nobody finds it here.
        Some(ask(unsafe { host.as_mut() }))
    }

    /// Runs a command. It does not panic: a panic of the host is kept for [`Self::take_panic`].
    pub(crate) fn call(&self, words: &[&[u8]]) -> Asked {
        let protocol = self.protocol.get();
        let call = || self.ask(|host| host.call(words, protocol));
        let (asked, answer) = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
            Ok(Some(Called::Reply(reply))) => (Asked::Replied, reply),
            Ok(Some(Called::Refused(text))) => (Asked::Refused, text.into_bytes()),
            Ok(Some(Called::Stop)) => (Asked::Stop, Vec::new()),
            Ok(None) => (Asked::Refused, b"ERR a command may not call another one".to_vec()),
            Err(panic) => {
                self.panic.set(Some(panic));
                (Asked::Stop, Vec::new())
            }
        };
        // SAFETY: nobody reads the one before any more: its reader has pushed it, or was ended.
        unsafe { *self.answer.get() = answer };
        asked
    }

    /// What the last command answered. Not to be kept beyond the next [`Self::call`].
    pub(crate) fn answer(&self) -> &[u8] {
        // SAFETY: `call` alone changes it, and no reader calls it.
        unsafe { &*self.answer.get() }
    }

    /// Forgets what the last command answered, if it is large.
    pub(crate) fn forget_large(&self) {
        const LARGE: usize = 64 << 10;
        // SAFETY: nothing runs that could read it.
        let answer = unsafe { &mut *self.answer.get() };
        if answer.capacity() > LARGE {
            *answer = Vec::new();
        }
    }

    /// What the host panicked with.
    pub(crate) fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        self.panic.take()
    }
}
