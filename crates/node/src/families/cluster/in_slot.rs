//! CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT: reads, which leave their worker and the write gate
//! where a slot holds many keys.

use storage::types::keyspace;

use super::CLUSTER_USAGE;
use crate::command::keys::Keys;
use crate::command::row::Access;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::table::ReadHandler;
use crate::session::{Command, ReadCx};

/// A row of the container. For all that do not run it, it is what the others are there: no client's
/// read of data, so it is answered at any node, with a lease or without.
pub(super) const fn read(name: &'static str, arity: i8, handler: ReadHandler) -> Command {
    let mut command = Command::read(name, arity, Keys::None, handler).usage(CLUSTER_USAGE);
    command.row.access = Access::None;
    command.in_cluster().no_script().stale()
}

pub(super) fn count(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.number(keyspace::count_in_slot(cx.txn, &cx.scope, slot(args)?)?))
}

pub(super) fn keys(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (slot, most) = (slot(args)?, args.integer()?);
    let most = usize::try_from(most).map_err(|_| Error::text("ERR Invalid number of keys"))?;
    Ok(reply.bulks(&keyspace::keys_in_slot(cx.txn, &cx.scope, slot, most)?))
}

fn slot(args: &mut Args<'_>) -> Result<u16> {
    let slot = u16::try_from(args.integer()?).ok().filter(|slot| *slot < topology::SLOT_COUNT);
    slot.ok_or_else(|| Error::text("ERR Invalid slot"))
}
