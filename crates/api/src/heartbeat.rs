//! The reply of `CLUSTERX HEARTBEAT`, written by nodes and read by controllers.

mod copied;
mod error;
mod moving;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;

use topology::NodeId;

use crate::certificate::{self, Certificate, Trust};
use crate::grant::{Member, Members, parse_id};
use crate::moves::wish::Wished;
use crate::moves::{Copying, Flow, MoveId, OfSlots, Progress, Rate, Said};
use crate::store::Heeds;
use crate::words::words;

mod room;
mod standing;
mod stranger;
mod tls;

pub use room::Room;
pub use standing::Standing;
pub use stranger::Stranger;

pub use copied::Copied;
pub use error::ParseError;

/// What a node does at the moment it answers, whatever a topology says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Accepts writes, as far as its lease allows.
    Master,
    /// Applies another node's stream.
    Slave,
}

/// What a master does without a valid lease (`master-lease-mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LeaseMode {
    /// Leases are ignored; the node behaves as Kvrocks.
    #[default]
    Disabled,
    /// A write without a lease is logged and done.
    LogOnly,
    /// A write without a lease is refused.
    BlockWrite,
    /// A keyed read or write without a lease is refused.
    BlockAll,
}

/// Which connections may run keyed commands (`client-access`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClientAccess {
    /// Any authenticated connection.
    #[default]
    Any,
    /// Only connections that came through a load balancer with a PROXY header.
    BalancerOnly,
}

/// State of a replica's link to its master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LinkStatus {
    /// No link is wanted (masters), or it is being made.
    #[default]
    Connecting,
    /// A full sync is running.
    Sync,
    /// The stream is flowing.
    Up,
}

/// Whether the node's data may be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Resync {
    /// The data belongs to the history of the current master.
    #[default]
    None,
    /// The node was master under an older version: its data is another history until a full sync is
    /// done.
    Required,
    /// That full sync is running.
    Running,
}

words!(Role { Master = "master", Slave = "slave" });
words!(LeaseMode { Disabled = "disabled", LogOnly = "log-only", BlockWrite = "block-write", BlockAll = "block-all" });
words!(ClientAccess { Any = "any", BalancerOnly = "balancer-only" });
words!(LinkStatus { Connecting = "connecting", Sync = "sync", Up = "up" });
words!(Resync { None = "none", Required = "required", Running = "running" });

/// One replica as its master sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaLine {
    /// Address the replica announced with REPLCONF, or its TCP peer address.
    pub ip: String,
    /// Port it listens on.
    pub port: u16,
    /// Newest sequence it acknowledged (sent, for replicas that never acknowledge).
    pub offset: u64,
    /// Which data it is, if it said so.
    pub member: Option<Member>,
}

/// Where data ends: newest epoch, 0 for none, and newest sequence. Of one history, the data with
/// the higher epoch has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct End {
    /// Newest epoch.
    pub epoch: u64,
    /// Newest sequence.
    pub sequence: u64,
}

/// The reply of one heartbeat. Sequence numbers are RocksDB's; times are of the node's
/// CLOCK_BOOTTIME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What the process does now.
    pub role: Role,
    /// Newest sequence number written or applied.
    pub sequence: u64,
    /// Node id, empty before SETNODEID.
    pub myid: String,
    /// Which cluster its folder belongs to, 16 hexadecimal digits; `-` before it was told, empty
    /// from nodes that keep none.
    pub cluster_id: String,
    /// Topology version, -1 when none was ever set.
    pub version: i64,
    /// Hash over the canonical topology text, empty when there is none.
    pub topology_hash: String,
    /// CLOCK_BOOTTIME at the moment of the answer, in ns.
    pub clock_ns: u64,
    /// Random number of this process in hex, never `0`.
    pub nonce: String,
    /// What this node does without a lease; only what is stated here counts as a fence.
    pub lease_mode: LeaseMode,
    /// How much of the lease is left, 0 when none.
    pub lease_remaining_ms: u64,
    /// Which connections may touch keys.
    pub client_access: ClientAccess,
    /// Source networks (CIDR) taken for balancers.
    pub balancer_sources: Vec<String>,
    /// Addresses outside of these that sent a PROXY header, and were refused for it.
    pub strangers: Vec<Stranger>,
    /// State of the link to the master.
    pub link_status: LinkStatus,
    /// Why there is no stream, where an attempt has failed.
    pub link_error: Option<String>,
    /// How far a full sync is, once its files come.
    pub sync: Option<Copied>,
    /// Where a replica replicates from.
    pub master: Option<(String, u16)>,
    /// Whether the data must be replaced first.
    pub resync: Resync,
    /// Writes are paused by CLIENT PAUSE.
    pub paused: bool,
    /// The node is replacing its data and answers clients with LOADING.
    pub loading: bool,
    /// Replicas with a live stream.
    pub replicas: Vec<ReplicaLine>,
    /// For how long the disk has taken nothing of the log that it was given, ms; 0 while nothing
    /// waits for it.
    pub log_wait_ms: u64,
    /// Room on the disk of its data folder, as it was some seconds ago; `None` before the first
    /// look.
    pub room: Option<Room>,
    /// Nodes that this one shows to clients as failed, because a controller said so; `None` from
    /// one that cannot be told.
    pub down: Option<Vec<String>>,
    /// What lies in `db.deposed`: data that a full sync took the place of.
    pub deposed: Option<End>,
    /// Age of the process in ms.
    pub uptime_ms: u64,
    /// How far the copies are that this node takes, for people.
    pub copies: Vec<Progress>,
    /// The machine's wall clock, ms since 1970; 0 from nodes that do not say.
    pub wall_ms: u64,
    /// Its process was told to end, and waits to be rid of what it does.
    pub stopping: bool,
    /// Grants, epochs, sets.
    pub standing: Standing,
    /// Of slot moves that were asked about; `None` from a node that does not know them.
    pub moves: Option<Vec<Said>>,
    /// It takes a rate in an order to pull, and one of a taker that pulls from it.
    pub knows_rates: bool,
    /// It takes ports of TLS in the lines of a topology; others would refuse it.
    pub knows_tls_ports: bool,
    /// Where the copies are that this node takes.
    pub copying: Vec<Copying>,
    /// What the copy of a move from here brings where nothing else is said; `None` from nodes that
    /// do not say.
    pub usual_rate: Option<Rate>,
    /// The streams of moves that run here; `None` from nodes that do not say, which know no order
    /// to rest either.
    pub flows: Option<Vec<Flow>>,
    /// What users asked of it for its slots, and it has not heard the end of.
    pub wishes: Vec<Wished>,
    /// Its certificates, for people; empty from nodes that have none, or do not say.
    pub certificates: Vec<Certificate>,
    /// Which CAs it knows others by, for people; empty from nodes without a certificate, or that do
    /// not say.
    pub trust: Vec<Trust>,
    /// The highest number of a move that its data or its process knows, 0 for none: a lower one is
    /// no new move's. `None` from nodes that do not say.
    pub newest_move: Option<MoveId>,
}

impl Reply {
    /// The text that goes over the wire.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(640);
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name}:{value}\r\n");
        };
        line("role", &self.role);
        line("sequence", &self.sequence);
        line("myid", &self.myid);
        if !self.cluster_id.is_empty() {
            line("cluster_id", &self.cluster_id);
        }
        line("version", &self.version);
        line("topology_hash", &self.topology_hash);
        line("clock_ns", &self.clock_ns);
        line("nonce", &self.nonce);
        line("lease_mode", &self.lease_mode);
        line("lease_remaining_ms", &self.lease_remaining_ms);
        line("client_access", &self.client_access);
        line("balancer_sources", &self.balancer_sources.join(","));
        if !self.strangers.is_empty() {
            line("refused_headers", &Stranger::show_all(&self.strangers));
        }
        line("link_status", &self.link_status);
        if let Some(error) = &self.link_error {
            line("link_error", error);
        }
        if let Some(Copied { done, of }) = self.sync {
            line("sync_done", &done);
            of.iter().for_each(|of| line("sync_of", of));
        }
        if let Some((host, port)) = &self.master {
            line("master_host", host);
            line("master_port", port);
        }
        line("resync", &self.resync);
        line("paused", &u8::from(self.paused));
        line("loading", &u8::from(self.loading));
        line("connected_slaves", &self.replicas.len());
        for (index, replica) in self.replicas.iter().enumerate() {
            let lag = self.sequence.saturating_sub(replica.offset);
            let ReplicaLine { ip, port, offset, member } = replica;
            let member = member.map(|member| format!(",member={member}")).unwrap_or_default();
            line(
                &format!("slave{index}"),
                &format_args!("ip={ip},port={port},offset={offset},lag={lag}{member}"),
            );
        }
        line("log_wait_ms", &self.log_wait_ms);
        if let Some(Room { free, size }) = self.room {
            line("disk_free", &free);
            line("disk_size", &size);
        }
        if let Some(down) = &self.down {
            line("down", &down.join(","));
        }
        if let Some(End { epoch, sequence }) = self.deposed {
            line("deposed_epoch", &epoch);
            line("deposed_sequence", &sequence);
        }
        line("uptime_ms", &self.uptime_ms);
        line("wall_ms", &self.wall_ms);
        self.render_process(&mut line);
        self.standing.render(&mut line);
        self.render_moves(&mut line);
        text
    }

    fn render_process(&self, line: &mut impl FnMut(&str, &dyn std::fmt::Display)) {
        if self.stopping {
            line("stopping", &1);
        }
        tls::render(self, line);
    }

    /// It said which cluster its folder belongs to.
    pub fn has_cluster(&self) -> bool {
        !self.cluster_id.is_empty() && !self.is_nameless()
    }

    /// It can keep the name of its cluster, and has none.
    pub fn is_nameless(&self) -> bool {
        self.cluster_id == "-"
    }

    /// What a set calls this node's data; `None` if it cannot be a member of one.
    pub fn member(&self) -> Option<Member> {
        let node = NodeId::new(self.myid.as_bytes())?;
        Member::new(node, self.standing.incarnation?, self.standing.boot)
    }

    /// Reads a reply; unknown fields are skipped, so that older controllers work with newer nodes.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let fields: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.trim_end_matches('\r').split_once(':')).collect();
        let fields = Fields(fields);
        let master = match (fields.optional("master_host"), fields.optional("master_port")) {
            (Some(host), Some(_)) => Some((host.to_owned(), fields.required("master_port")?)),
            _ => None,
        };
        Ok(Self {
            role: fields.required("role")?,
            sequence: fields.required("sequence")?,
            myid: fields.optional("myid").unwrap_or_default().to_owned(),
            cluster_id: fields.optional("cluster_id").unwrap_or_default().to_owned(),
            version: fields.required("version")?,
            topology_hash: fields.optional("topology_hash").unwrap_or_default().to_owned(),
            clock_ns: fields.or("clock_ns", 0)?,
            nonce: fields.optional("nonce").unwrap_or("0").to_owned(),
            lease_mode: fields.or("lease_mode", LeaseMode::Disabled)?,
            lease_remaining_ms: fields.or("lease_remaining_ms", 0)?,
            client_access: fields.or("client_access", ClientAccess::Any)?,
            balancer_sources: fields
                .optional("balancer_sources")
                .unwrap_or_default()
                .split(',')
                .filter(|source| !source.is_empty())
                .map(str::to_owned)
                .collect(),
            strangers: Stranger::read_all(fields.optional("refused_headers")),
            link_status: fields.or("link_status", LinkStatus::Connecting)?,
            link_error: fields.optional("link_error").map(str::to_owned),
            sync: Copied::read(fields.optional("sync_done"), fields.optional("sync_of")),
            master,
            resync: fields.or("resync", Resync::None)?,
            paused: fields.or("paused", 0_u8)? != 0,
            loading: fields.or("loading", 0_u8)? != 0,
            replicas: fields.replicas(),
            log_wait_ms: fields.or("log_wait_ms", 0)?,
            room: match fields.optional("disk_size") {
                None => None,
                Some(_) => Some(Room {
                    free: fields.required("disk_free")?,
                    size: fields.required("disk_size")?,
                }),
            },
            down: fields
                .optional("down")
                .map(|ids| ids.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect()),
            deposed: match fields.optional("deposed_sequence") {
                None => None,
                Some(_) => Some(End {
                    epoch: fields.or("deposed_epoch", 0)?,
                    sequence: fields.required("deposed_sequence")?,
                }),
            },
            uptime_ms: fields.or("uptime_ms", 0)?,
            copies: fields.numbered("copy"),
            wall_ms: fields.or("wall_ms", 0)?,
            stopping: fields.or("stopping", 0_u8)? != 0,
            standing: fields.standing()?,
            moves: fields.moves(),
            knows_rates: fields.or("move_rate", 0_u8)? != 0,
            knows_tls_ports: fields.or("endpoint_tls", 0_u8)? != 0,
            copying: fields.numbered("copying"),
            usual_rate: fields.optional("usual_rate").and_then(|rate| rate.parse().ok()),
            flows: fields.optional("flows").map(|_| fields.numbered("flow")),
            wishes: fields.numbered("wish"),
            certificates: certificate::read_all(fields.optional("certificates")),
            trust: certificate::read_trust(fields.optional("trust")),
            newest_move: fields.given("move_newest")?.map(MoveId),
        })
    }
}

struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn optional(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied()
    }

    fn required<T: FromStr>(&self, name: &'static str) -> Result<T, ParseError>
    where
        T::Err: std::fmt::Display,
    {
        let value = self.optional(name).ok_or(ParseError::Missing(name))?;
        value.parse().map_err(|error: T::Err| ParseError::Bad { name, why: error.to_string() })
    }

    fn given<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, ParseError>
    where
        T::Err: std::fmt::Display,
    {
        self.optional(name).map(|_| self.required(name)).transpose()
    }

    fn or<T: FromStr>(&self, name: &'static str, default: T) -> Result<T, ParseError>
    where
        T::Err: std::fmt::Display,
    {
        if self.optional(name).is_some() { self.required(name) } else { Ok(default) }
    }

    fn hex(&self, name: &'static str, digits: usize) -> Result<Option<u128>, ParseError> {
        let Some(text) = self.optional(name).filter(|text| *text != "-") else { return Ok(None) };
        let value = Some(text).filter(|text| text.len() <= digits && !text.starts_with('+'));
        let value = value.and_then(|text| u128::from_str_radix(text, 16).ok());
        let why = || "hexadecimal digits expected".to_owned();
        value.map(Some).ok_or_else(|| ParseError::Bad { name, why: why() })
    }

    fn standing(&self) -> Result<Standing, ParseError> {
        let bad = |name| {
            move |error: crate::grant::WordError| ParseError::Bad { name, why: error.to_string() }
        };
        Ok(Standing {
            incarnation: self.hex("incarnation", 16)?.and_then(|value| u64::try_from(value).ok()),
            boot: self.hex("boot", 32)?,
            history_epoch: self.or("history_epoch", 0)?,
            history_id: parse_id(self.optional("history_id").unwrap_or("-"))
                .map_err(bad("history_id"))?,
            granted_epoch: self.or("granted_epoch", 0)?,
            granted_version: match self.optional("granted_version") {
                None => None,
                Some(_) => Some(self.required("granted_version")?),
            },
            committed: self.or("committed", 0)?,
            request: self.or("request", 0)?,
            request_members: self.or("request_members", Members::default())?,
            promised_ms: self.or("promised_ms", 0)?,
            store: Heeds::read(self.optional("store"))
                .map_err(|why| ParseError::Bad { name: "store", why: why.to_owned() })?,
        })
    }

    /// What does not parse is left out, as if nothing were known of that move.
    fn moves(&self) -> Option<Vec<Said>> {
        self.optional("moves").filter(|form| *form == "1")?;
        let mut slots: BTreeMap<MoveId, _> = BTreeMap::new();
        slots.extend(self.numbered("move_slots").into_iter().map(|of: OfSlots| (of.id, of.slots)));
        let said = self.numbered::<Said>("move").into_iter();
        Some(said.map(|said| Said { slots: slots.remove(&said.id), ..said }).collect())
    }

    /// The lines of this name that parse.
    fn numbered<T: std::str::FromStr>(&self, name: &str) -> Vec<T> {
        let lines = (0..).map_while(|index| self.optional(&format!("{name}{index}")));
        lines.filter_map(|text| text.parse().ok()).collect()
    }

    /// Lines that do not parse are left out: they inform, nothing is decided by them alone.
    fn replicas(&self) -> Vec<ReplicaLine> {
        (0..)
            .map_while(|index| self.optional(&format!("slave{index}")))
            .filter_map(|text| {
                let pairs: BTreeMap<&str, &str> =
                    text.split(',').filter_map(|pair| pair.split_once('=')).collect();
                Some(ReplicaLine {
                    ip: (*pairs.get("ip")?).to_owned(),
                    port: pairs.get("port")?.parse().ok()?,
                    offset: pairs.get("offset")?.parse().ok()?,
                    member: pairs.get("member").and_then(|text| text.parse().ok()),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::grant::EpochId;
    use crate::moves::Brake;
    use crate::moves::wish::{PartId, Wish};
    use crate::store::StoreId;

    fn sample() -> Reply {
        Reply {
            flows: Some(vec![Flow {
                id: MoveId(3),
                is_taken: true,
                rate: None,
                bytes_per_s: 9,
                brake: Some(Brake::Room),
                written_per_s: 8,
                taken_per_s: 7,
            }]),
            wishes: vec![Wished {
                id: PartId::of_wish([5; 20]),
                is_heard: true,
                wish: Wish::Cancel(vec![PartId::of_wish([6; 20]).part(1)]),
            }],
            ..without_streams()
        }
    }

    fn without_streams() -> Reply {
        Reply {
            role: Role::Slave,
            sequence: 17,
            myid: "a".repeat(40),
            cluster_id: "00000000000000aa".into(),
            version: -1,
            topology_hash: String::new(),
            clock_ns: 5,
            nonce: "beef".into(),
            lease_mode: LeaseMode::BlockAll,
            lease_remaining_ms: 3,
            client_access: ClientAccess::BalancerOnly,
            balancer_sources: vec!["127.0.0.2/32".into(), "::1/128".into()],
            strangers: vec![
                Stranger { address: "10.0.8.3".parse().unwrap(), connections: 3, age_ms: 200 },
                Stranger { address: "2001:db8::3".parse().unwrap(), connections: 1, age_ms: 0 },
            ],
            link_status: LinkStatus::Sync,
            link_error: Some("master has: no data".into()),
            sync: Some(Copied { done: 4, of: Some(10) }),
            master: Some(("::1".into(), 6666)),
            resync: Resync::Running,
            paused: true,
            loading: false,
            replicas: vec![
                ReplicaLine { ip: "::1".into(), port: 1, offset: 2, member: None },
                ReplicaLine { ip: "::1".into(), port: 2, offset: 2, member: Some(member()) },
            ],
            log_wait_ms: 8,
            room: Some(Room { free: 5, size: 7 }),
            down: Some(vec!["c".repeat(40)]),
            deposed: Some(End { epoch: 3, sequence: 200 }),
            uptime_ms: 9,
            copies: vec![Progress { id: MoveId(3), records: 4, bytes: 5, of_bytes: None }],
            wall_ms: 1_798_761_599_999,
            stopping: true,
            standing: Standing {
                incarnation: Some(0xbeef),
                boot: Some(5),
                history_epoch: 4,
                history_id: Some(EpochId(3)),
                granted_epoch: 4,
                granted_version: Some(7),
                committed: 16,
                request: 2,
                request_members: [member()].into_iter().collect(),
                promised_ms: 1,
                store: Heeds::Store(StoreId { name: 0xab, generation: 2 }),
            },
            moves: Some(vec![
                Said::nothing(MoveId(2)),
                Said { slots: "0-9,12".parse().ok(), ..Said::nothing(MoveId(3)) },
            ]),
            knows_rates: true,
            knows_tls_ports: true,
            copying: vec![Copying {
                id: MoveId(3),
                parts: 6,
                clash: Some("library `a`: of another text".into()),
            }],
            usual_rate: Some(Rate::USUAL),
            flows: None,
            wishes: Vec::new(),
            certificates: vec![
                Certificate { option: "tls-cert-file".into(), ends_s: 7_258_118_400 },
                Certificate { option: "admin".into(), ends_s: -1 },
            ],
            trust: vec![trust()],
            newest_move: Some(MoveId(16)),
        }
    }

    fn trust() -> Trust {
        let accepts = vec!["ab.cd".into(), "ab.-".into()];
        Trust { option: "tls-ca-cert-file".into(), accepts, issued_by: None }
    }

    fn member() -> Member {
        let node = NodeId::new("b".repeat(40).as_bytes()).unwrap();
        Member::new(node, 1, None).unwrap()
    }

    #[test]
    fn an_older_nodes_reply_says_nothing_of_grants() {
        let reply = Reply::parse("role:master\r\nsequence:1\r\nversion:1\r\n").unwrap();
        assert_eq!((&reply.standing, reply.member()), (&Standing::default(), None));
        assert_eq!(reply.standing.store, Heeds::Unsaid, "it would refuse the word");
        assert!(!reply.has_cluster() && !reply.is_nameless() && sample().has_cluster());
        let nameless = Reply { cluster_id: "-".into(), ..sample() };
        assert!(nameless.is_nameless() && !nameless.has_cluster());
        let node = NodeId::new("a".repeat(40).as_bytes()).unwrap();
        assert_eq!(sample().member(), Member::new(node, 0xbeef, Some(5)));
    }

    #[test]
    fn what_is_rendered_is_read_back() {
        assert_eq!(Reply::parse(&sample().render()), Ok(sample()));
    }

    #[test]
    fn unknown_fields_are_skipped_and_missing_ones_named() {
        let text = format!("{}future:1\r\n", sample().render());
        assert_eq!(Reply::parse(&text), Ok(sample()));
        assert_eq!(Reply::parse("sequence:1\r\nversion:1\r\n"), Err(ParseError::Missing("role")));
        let bad = "role:king\r\nsequence:1\r\nversion:1\r\n";
        assert!(matches!(Reply::parse(bad), Err(ParseError::Bad { name: "role", .. })));
    }

    /// Each name between backticks in the first column of the table of §1.
    fn documented() -> Vec<String> {
        let page = include_str!("../../../docs/protocol.md");
        let table = page.split("The reply is a bulk string").nth(1).expect("§1");
        let table = table.split("\n### ").next().expect("up to §1a");
        let columns =
            table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        columns
            .flat_map(|column| column.split('`').step_by(2))
            .map(|name| name.trim_end_matches("<i>").to_owned())
            .filter(|name| !name.is_empty())
            .collect()
    }

    #[test]
    fn the_page_lists_the_fields_of_a_reply_and_no_others() {
        let text = sample().render();
        let is_number = |c: char| c.is_ascii_digit();
        let mut names: Vec<String> = (text.lines())
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| match name.trim_end_matches(is_number) {
                list @ ("slave" | "move" | "move_slots" | "copy" | "copying" | "flow" | "wish") => {
                    list.to_owned()
                }
                _ => name.to_owned(),
            })
            .collect();
        names.sort();
        names.dedup();
        let mut documented = documented();
        documented.sort();
        assert_eq!(documented, names);
    }
}
