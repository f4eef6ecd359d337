//! The text of a topology: the argument of `CLUSTERX SETNODES`, the answer of `CLUSTERX NODES`, the
//! node lines of `nodes.conf`.
//!
//! ```text
//! <id> <host> <port> master - [<slot>|<a>-<b>]… [<lb host> <lb port>] [tls=<local>,<announced>]
//! <id> <host> <port> slave <master id> [<lb host> <lb port>] [tls=<local>,<announced>]
//! ```
//!
//! Parsing is total: a text yields a whole topology or an error, never a part, and nothing in it
//! can panic. The two announced fields are found by counting from the end of the line, so a line of
//! Kvrocks means what it always meant. Ports of TLS ([`TlsPorts`]) stand last; the [`Form::Plain`]
//! leaves them out, for nodes and files that are read by versions which do not know them.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use crate::{
    announced,
    model::{Endpoint, Node, NodeId, Role, Slot, SlotRange, SlotSet, Topology},
    parse_error::ParseError,
    slots_arg::{number, slot_number, words},
    tls_ports::{self, TlsPorts},
};

/// Most nodes of one topology: one per slot. A bound on what a description can make a node
/// allocate.
pub const NODES_MAX: usize = 16_384;

/// What of a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All of it.
    Whole,
    /// As versions know it that know no ports of TLS.
    Plain,
}

/// Something in a topology that is allowed but worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Two nodes at one address, at least one of which announces it: clients take them for one
    /// node.
    #[error("nodes {first} and {second} are both at {endpoint} for clients")]
    SharedEndpoint {
        /// The address.
        endpoint: Endpoint,
        /// Whose it was before.
        first: NodeId,
        /// The node that announces it.
        second: NodeId,
    },
}

impl Topology {
    /// Parses a description. Of several lines with one id the last wins, in the place of the first.
    pub fn parse(text: impl AsRef<[u8]>, version: i64) -> Result<Self, ParseError> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut places: HashMap<NodeId, usize> = HashMap::new();
        let mut assigned = SlotSet::default();
        for line in words(text.as_ref(), b'\n') {
            let node = parse_line(line, &mut assigned)?;
            match places.entry(node.id) {
                Entry::Occupied(place) => nodes[*place.get()] = node,
                Entry::Vacant(place) => {
                    place.insert(nodes.len());
                    nodes.push(node);
                }
            }
            if nodes.len() > NODES_MAX {
                return Err(ParseError::NodesInfo);
            }
        }
        if nodes.is_empty() {
            return Err(ParseError::NodesInfo);
        }
        let topology = Self { version, nodes };
        topology.check_announced()?;
        Ok(topology)
    }

    /// The description in canonical form: one line per node in table order, single spaces, no
    /// trailing newline. Parses back to the same topology.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_bytes_in(Form::Whole)
    }

    /// The same in that form; the plain one parses back to a topology without ports of TLS.
    pub fn to_bytes_in(&self, form: Form) -> Vec<u8> {
        let mut text = Vec::new();
        for node in &self.nodes {
            if !text.is_empty() {
                text.push(b'\n');
            }
            write_line(&mut text, node, form);
        }
        text
    }

    /// [`Topology::to_bytes_in`] as text, for ids that are text (those of every known controller).
    pub fn render_in(&self, form: Form) -> String {
        String::from_utf8_lossy(&self.to_bytes_in(form)).into_owned()
    }

    /// All of it as text.
    pub fn render(&self) -> String {
        self.render_in(Form::Whole)
    }

    /// Whether its two forms differ.
    pub fn has_tls_ports(&self) -> bool {
        self.nodes.iter().any(|node| !node.tls.is_none())
    }

    /// The same with these ports of TLS; those of nodes that are not there count for nothing.
    ///
    /// # Errors
    /// `TlsPorts` where they do not fit their node, `DuplicatedLb` as [`Topology::parse`].
    pub fn with_tls_ports(mut self, ports: &[(NodeId, TlsPorts)]) -> Result<Self, ParseError> {
        let ports: HashMap<NodeId, TlsPorts> = ports.iter().copied().collect();
        for node in &mut self.nodes {
            let Some(tls) = ports.get(&node.id) else { continue };
            node.tls = fitting(*tls, &node.local, node.announced.as_ref())?;
        }
        self.check_announced()?;
        Ok(self)
    }

    /// 16 hex digits over the canonical lines sorted by node id, version left out: FNV-1a, 64 bits.
    /// Equal for equal content whatever the order of the nodes. It finds accidents, not forgeries.
    pub fn hash(&self) -> String {
        self.hash_in(Form::Whole)
    }

    /// The same over the lines in that form: what a node computes that was sent it so.
    pub fn hash_in(&self, form: Form) -> String {
        let mut nodes: Vec<&Node> = self.nodes.iter().collect();
        nodes.sort_by_key(|node| node.id);
        let mut text = Vec::new();
        for node in nodes {
            write_line(&mut text, node, form);
            text.push(b'\n');
        }
        format!("{:016x}", fnv1a(&text))
    }

    /// What an operator should know about this topology: a SETNODES with it is taken, as Kvrocks
    /// takes it; a controller makes none.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut taken: HashMap<(String, u16), &Node> = HashMap::new();
        let mut warnings = Vec::new();
        // Local addresses count for whoever announces them, also where their node is shown by
        // another one: a client would reach that node.
        for node in &self.nodes {
            for endpoint in node.local_addresses() {
                taken.entry(announced::address_key(&endpoint)).or_insert(node);
            }
        }
        for node in &self.nodes {
            for endpoint in node.announced_addresses() {
                match taken.insert(announced::address_key(&endpoint), node) {
                    Some(other) if other.id != node.id => warnings.push(Warning::SharedEndpoint {
                        endpoint: endpoint.into_owned(),
                        first: other.id,
                        second: node.id,
                    }),
                    _ => {}
                }
            }
        }
        warnings
    }

    fn check_announced(&self) -> Result<(), ParseError> {
        let mut seen = HashSet::new();
        self.nodes
            .iter()
            .filter(|node| node.is_master())
            .flat_map(Node::announced_addresses)
            .all(|endpoint| seen.insert(announced::address_key(&endpoint)))
            .then_some(())
            .ok_or(ParseError::DuplicatedLb)
    }
}

/// What stands after the master id of a line.
struct Tail {
    slots: SlotSet,
    announced: Option<Endpoint>,
}

fn parse_line(line: &[u8], assigned: &mut SlotSet) -> Result<Node, ParseError> {
    let fields: Vec<&[u8]> = words(line, b' ').collect();
    let [id, host, port, role, master, tail @ ..] = fields.as_slice() else {
        return Err(ParseError::NodesInfo);
    };
    let id = NodeId::new(id).ok_or(ParseError::NodeId)?;
    let local = parse_local(host, port)?;
    let (is_master, failed) = parse_role(role)?;
    let role = match (is_master, NodeId::new(master)) {
        (true, _) if *master == b"-" => Role::Master,
        (false, Some(of)) => Role::Replica { of },
        _ => return Err(ParseError::NodeId),
    };
    // Checked before anything else in the tail: a forgotten newline makes the next line's fields
    // look like announced ones.
    if tail.iter().any(|word| word.len() == 40) {
        return Err(ParseError::MissingNewline);
    }
    let (tail, tls) = split_tls(tail)?;
    let Tail { slots, announced } = match role {
        Role::Master => parse_master_tail(tail, assigned)?,
        Role::Replica { .. } => parse_replica_tail(tail)?,
    };
    let tls = fitting(tls, &local, announced.as_ref())?;
    Ok(Node { id, local, announced, tls, role, failed, slots })
}

/// What stands before the ports of TLS, and these.
fn split_tls<'t, 'w>(tail: &'t [&'w [u8]]) -> Result<(&'t [&'w [u8]], TlsPorts), ParseError> {
    match tail {
        [before @ .., last] if last.starts_with(tls_ports::WORD) => {
            let ports = TlsPorts::parse(&last[tls_ports::WORD.len()..]);
            Ok((before, ports.ok_or(ParseError::TlsPorts)?))
        }
        _ => Ok((tail, TlsPorts::default())),
    }
}

fn fitting(
    tls: TlsPorts,
    local: &Endpoint,
    announced: Option<&Endpoint>,
) -> Result<TlsPorts, ParseError> {
    let fits = tls.fits(local.port, announced.map(|endpoint| endpoint.port));
    fits.then_some(tls).ok_or(ParseError::TlsPorts)
}

fn parse_local(host: &[u8], port: &[u8]) -> Result<Endpoint, ParseError> {
    let port = number(port).ok_or(ParseError::NodePort)?;
    // Any name is good, but it is put into replies: control characters would break them.
    let host = std::str::from_utf8(host).map_err(|_| ParseError::NodesInfo)?;
    if host.chars().any(char::is_control) {
        return Err(ParseError::NodesInfo);
    }
    Ok(Endpoint { host: announced::without_brackets(host).to_owned(), port })
}

/// Whether the role is master, and whether the node is marked as failed.
fn parse_role(word: &[u8]) -> Result<(bool, bool), ParseError> {
    match word.to_ascii_lowercase().as_slice() {
        b"master" => Ok((true, false)),
        b"slave" | b"replica" => Ok((false, false)),
        b"slave,fail" | b"replica,fail" => Ok((false, true)),
        _ => Err(ParseError::NodeRole),
    }
}

fn parse_master_tail(tail: &[&[u8]], assigned: &mut SlotSet) -> Result<Tail, ParseError> {
    let (slot_words, announced) = match tail {
        [slot_words @ .., host, port] if !announced::is_slot_token(host) => {
            (slot_words, Some((host, port)))
        }
        _ => (tail, None),
    };
    let mut slots = SlotSet::default();
    for word in slot_words {
        let range = parse_slot_word(word).ok_or(ParseError::SlotRange)?;
        for slot in range.slots() {
            if !assigned.insert(slot) {
                return Err(ParseError::SlotOverlap);
            }
            slots.insert(slot);
        }
    }
    let announced = announced.map_or(Ok(None), |(host, port)| announced::parse(host, port))?;
    Ok(Tail { slots, announced })
}

fn parse_replica_tail(tail: &[&[u8]]) -> Result<Tail, ParseError> {
    let announced = match tail {
        [] => None,
        // Slots behind a replica: an error of old, told as before.
        [host, port] if !announced::is_slot_token(host) => announced::parse(host, port)?,
        _ => return Err(ParseError::NodesInfo),
    };
    Ok(Tail { slots: SlotSet::default(), announced })
}

/// `n`, or `a-b` with a < b. Outer dashes around a single number are ignored, as Kvrocks does (`-1`
/// is slot 1).
fn parse_slot_word(word: &[u8]) -> Option<SlotRange> {
    let mut numbers = words(word, b'-');
    let first = slot_number(numbers.next()?)?;
    let Some(last) = numbers.next() else { return Some(SlotRange::single(first)) };
    if numbers.next().is_some() || !announced::is_slot_token(word) {
        return None;
    }
    let last: Slot = slot_number(last)?;
    if first < last { SlotRange::new(first, last) } else { None }
}

fn write_line(text: &mut Vec<u8>, node: &Node, form: Form) {
    let mut word = |bytes: &[u8], is_first: bool| {
        if !is_first {
            text.push(b' ');
        }
        text.extend_from_slice(bytes);
    };
    word(node.id.as_bytes(), true);
    word(node.local.host.as_bytes(), false);
    word(node.local.port.to_string().as_bytes(), false);
    match (&node.role, node.failed) {
        (Role::Master, _) => {
            word(b"master", false);
            word(b"-", false);
        }
        (Role::Replica { of }, failed) => {
            word(if failed { b"slave,fail" } else { b"slave" }, false);
            word(of.as_bytes(), false);
        }
    }
    for range in node.slots.ranges() {
        word(range.to_string().as_bytes(), false);
    }
    if let Some(endpoint) = &node.announced {
        word(endpoint.host.as_bytes(), false);
        word(endpoint.port.to_string().as_bytes(), false);
    }
    if form == Form::Whole && !node.tls.is_none() {
        word(&[tls_ports::WORD, node.tls.to_string().as_bytes()].concat(), false);
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
pub(crate) mod tests;
