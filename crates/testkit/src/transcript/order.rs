//! Which replies may differ in their order, and yet be the same answer. Pure.
//!
//! Order is compared unless it is said to be open: by a mark of the step, or by the table here, for
//! commands whose order Redis itself leaves open. Maps and sets of RESP3 need neither: their type
//! says it.

use crate::wire::Reply;

/// Of which elements of a reply the order is open. It concerns the elements of one level; what is
/// inside them is compared in order again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Order {
    /// Of none.
    #[default]
    Exact,
    /// Elements, or the lines of a text, come in any order.
    Any,
    /// Pairs of a flat map come in any order.
    Pairs,
    /// A cursor, and elements in any order.
    Page,
    /// A cursor, and pairs in any order.
    PagePairs,
    /// A time, which passes between two questions: positive numbers are at most this far apart.
    Near(u64),
    /// What XINFO GROUPS says, but not how many consumers each group has: as in Redis 7.2 who asks
    /// is one, in Redis 7.0 who gets something.
    Groups,
    /// Each element has its own: the reply of EXEC.
    Each(Vec<Order>),
}

/// So much later than the other one a server may be asked, s: a busy machine stands still for half
/// of one at times.
const LATE_S: u64 = 3;

/// Commands whose order is open, in lower case: the name, the subcommand (`*` any, an empty one
/// none), the order.
#[rustfmt::skip]
const OPEN: &[(&str, &str, Order)] = &[
    ("command",     "",              Order::Any),
    ("command",     "docs",          Order::Pairs),
    ("command",     "list",          Order::Any),
    ("config",      "get",           Order::Pairs),
    ("expiretime",  "*",             Order::Near(LATE_S)),
    ("function",    "list",          Order::Any),
    ("hexpiretime", "*",             Order::Near(LATE_S)),
    ("hgetall",     "*",             Order::Pairs),
    ("hkeys",       "*",             Order::Any),
    ("hpexpiretime", "*",            Order::Near(LATE_S * 1_000)),
    ("hpttl",       "*",             Order::Near(LATE_S * 1_000)),
    ("hscan",       "*",             Order::PagePairs),
    ("httl",        "*",             Order::Near(LATE_S)),
    ("hvals",       "*",             Order::Any),
    ("keys",        "*",             Order::Any),
    ("pexpiretime", "*",             Order::Near(LATE_S * 1_000)),
    ("pttl",        "*",             Order::Near(LATE_S * 1_000)),
    ("pubsub",      "channels",      Order::Any),
    ("pubsub",      "shardchannels", Order::Any),
    ("scan",        "*",             Order::Page),
    ("sdiff",       "*",             Order::Any),
    ("sinter",      "*",             Order::Any),
    ("smembers",    "*",             Order::Any),
    ("spop",        "*",             Order::Any),
    ("srandmember", "*",             Order::Any),
    ("sscan",       "*",             Order::Page),
    ("sunion",      "*",             Order::Any),
    ("ttl",         "*",             Order::Near(LATE_S)),
    ("xinfo",       "groups",        Order::Groups),
    ("zscan",       "*",             Order::PagePairs),
];

/// What the table says of a command.
fn open<W: AsRef<[u8]>>(words: &[W]) -> Order {
    let word = |at: usize| words.get(at).map_or(&[][..], AsRef::as_ref);
    let row = OPEN.iter().find(|(name, subcommand, _)| {
        word(0).eq_ignore_ascii_case(name.as_bytes())
            && (*subcommand == "*" || word(1).eq_ignore_ascii_case(subcommand.as_bytes()))
    });
    row.map(|(_, _, order)| order.clone()).unwrap_or_default()
}

/// The orders of one connection's replies: those of queued commands are wanted when EXEC answers.
#[derive(Debug, Default)]
pub struct Orders {
    queued: Vec<Order>,
}

impl Orders {
    /// The order of a command's reply: the table's, which knows where the listing is, or else that
    /// of the step's mark. `reply` is what one of the servers said.
    pub fn of<W: AsRef<[u8]>>(
        &mut self,
        words: &[W],
        marked: &Order,
        reply: Option<&Reply>,
    ) -> Order {
        let order = match open(words) {
            Order::Exact => marked.clone(),
            order => order,
        };
        if matches!(reply, Some(Reply::Simple(text)) if text == b"QUEUED") {
            self.queued.push(order);
            return Order::Exact;
        }
        let is = |name: &str| words.first().is_some_and(|word| is_word(word.as_ref(), name));
        // Refused, they leave the queue as it is.
        let is_done = !matches!(reply, Some(Reply::Error(text)) if !text.starts_with(b"EXECABORT"));
        if !is_done || !["multi", "exec", "discard", "reset"].iter().any(|name| is(name)) {
            return order;
        }
        let queued = std::mem::take(&mut self.queued);
        if is("exec") && order == Order::Exact { Order::Each(queued) } else { order }
    }
}

fn is_word(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_more_than_a_mark() {
        let mut orders = Orders::default();
        let mut of = |words: &[&str], marked: Order| orders.of(words, &marked, None);
        assert_eq!(of(&["LRANGE", "l", "0", "-1"], Order::Exact), Order::Exact);
        assert_eq!(of(&["CLUSTER", "NODES"], Order::Any), Order::Any);
        assert_eq!(of(&["Scan", "0"], Order::Any), Order::Page);
        assert_eq!(of(&["COMMAND"], Order::Exact), Order::Any);
        assert_eq!(of(&["COMMAND", "GETKEYS"], Order::Exact), Order::Exact);
        assert_eq!(of(&["CONFIG", "get", "*"], Order::Exact), Order::Pairs);
    }

    #[test]
    fn what_was_queued_is_compared_in_its_order_when_exec_answers() {
        let mut orders = Orders::default();
        let queued = Reply::Simple(b"QUEUED".to_vec());
        let mut of = |word: &str, reply: &Reply| orders.of(&[word], &Order::Exact, Some(reply));
        let refused = Reply::Error(b"ERR MULTI calls can not be nested".to_vec());
        of("MULTI", &Reply::Simple(b"OK".to_vec()));
        assert_eq!(of("KEYS", &queued), Order::Exact);
        of("multi", &refused);
        of("GET", &queued);
        let answers = Reply::NilArray;
        assert_eq!(of("exec", &answers), Order::Each(vec![Order::Any, Order::Exact]));
        assert_eq!(of("exec", &answers), Order::Each(vec![]));
    }
}
