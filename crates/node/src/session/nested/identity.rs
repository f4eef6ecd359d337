//! Whose rights the gates have looked at, and what the rest of a transaction may do once one of its
//! commands was AUTH or HELLO.

use std::sync::Arc;

use super::super::{Auth, Command, Session, WriteCx, gates};
use super::NestedCx;
use crate::acl::Account;

/// What a connection was when its transaction began.
pub(super) struct Identity {
    user: Option<Arc<Account>>,
    auth: Auth,
    is_tenant: bool,
}

impl Identity {
    pub(super) fn of(session: &Session) -> Self {
        Self { user: session.user.clone(), auth: session.auth, is_tenant: session.is_tenant }
    }

    /// Whether the connection is still the same one's.
    fn is_of(&self, session: &Session) -> bool {
        let is_user = match (&self.user, &session.user) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        is_user && self.auth == session.auth && self.is_tenant == session.is_tenant
    }
}

impl NestedCx<'_> {
    /// Runs one command of a transaction that began as `whose`. As in Redis, what its connection's
    /// user may not run by now is refused by itself. Without this, a client of a namespace, who
    /// may touch all keys there, would touch all of the default one as a user of a few.
    pub(super) fn call_as(
        &mut self,
        whose: &Identity,
        write: &mut WriteCx<'_>,
        command: &'static Command,
        words: &[&[u8]],
    ) -> bool {
        if !whose.is_of(self.session) {
            let place = (&**self.node, &**self.config);
            if let Err(text) = gates::pass_as_another(place, self.session, (&command.row, words)) {
                let mark = self.mark();
                self.reply().error(&text);
                self.count_error(mark);
                return false;
            }
        }
        self.call(write, command, words)
    }
}
