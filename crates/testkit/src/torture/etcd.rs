//! The etcd of a run: how its members are started, and what they say by their JSON gateway.
//!
//! Nothing but the torture's own keys is written in it.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use anyhow::{Context as _, Result, bail};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::http::{Caller, Door, Question};

/// Where controllers reach a member.
pub const PORT: u16 = 2379;
/// Where the other members do.
const PEER_PORT: u16 = 2380;
/// Quota of one that is to be filled, bytes: what a run writes is a fraction of it.
const SMALL_QUOTA: u64 = 32 << 20;
/// `/holdfast/leader`, in base64 as all keys and values here.
const LEADER: &str = "L2hvbGRmYXN0L2xlYWRlcg==";
/// `filling`: no key of a controller.
const FILLING: &str = "ZmlsbGluZw==";
/// A value of a MiB, nearly what one request may have.
const MEGABYTE: usize = 1_398_100;
/// So many of them are more than the quota.
const MEGABYTES_MAX: usize = 64;
/// How etcd says that its quota is used up, by a put that it refuses.
const NO_SPACE: &str = "database space exceeded";

/// The lead, as the store says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claim {
    /// Rises with each claim.
    pub term: u64,
    /// New with each claim; empty: nobody leads.
    #[serde(default)]
    pub claim: String,
    /// URL of the controller.
    #[serde(default)]
    pub address: String,
}

/// Its members.
#[derive(Debug, Clone)]
pub struct Etcd {
    doors: Vec<Door>,
    /// Which one is asked first: the last one that answered.
    first: Arc<AtomicUsize>,
}

impl Etcd {
    /// Of these members.
    pub fn new(doors: Vec<Door>) -> Self {
        Self { doors, first: Arc::default() }
    }

    /// The newest claim to lead the controllers, by a quorum; `None` before there was one.
    ///
    /// # Errors
    /// No member answers with a quorum, or what it says is no claim.
    pub fn claim(&self, caller: &Caller) -> Result<Option<Claim>> {
        read(&self.any(caller, "/v3/kv/range", &json!({ "key": LEADER }))?)
    }

    /// Whether each member answers with a quorum.
    ///
    /// # Errors
    /// One does not.
    pub fn answers(&self, caller: &Caller) -> Result<()> {
        for door in &self.doors {
            self.one(caller, door, "/v3/kv/range", &json!({ "key": LEADER }))?;
        }
        Ok(())
    }

    /// By which names its members know each other, in their order.
    ///
    /// # Errors
    /// One does not say it.
    pub fn ids(&self, caller: &Caller) -> Result<Vec<String>> {
        let id = |door: &Door| {
            let status = self.one(caller, door, "/v3/maintenance/status", &json!({}))?;
            let id = status.pointer("/header/member_id").and_then(Json::as_str);
            id.map(str::to_owned).context("a member says no name")
        };
        self.doors.iter().map(id).collect()
    }

    /// The name of the member that leads the others, as one of them says; `0` if none does.
    ///
    /// # Errors
    /// None answers.
    pub fn raft(&self, caller: &Caller) -> Result<String> {
        let status = self.any(caller, "/v3/maintenance/status", &json!({}))?;
        let leader = status.get("leader").and_then(Json::as_str);
        Ok(leader.unwrap_or("0").to_owned())
    }

    /// Writes until nothing more is taken; how many MiB that were.
    ///
    /// # Errors
    /// It fails for another reason, or takes all the same.
    pub fn use_up(&self, caller: &Caller) -> Result<usize> {
        let put = json!({ "key": FILLING, "value": "A".repeat(MEGABYTE) });
        for count in 0..MEGABYTES_MAX {
            match self.any(caller, "/v3/kv/put", &put) {
                Ok(_) => {}
                Err(error) if format!("{error:#}").contains(NO_SPACE) => return Ok(count),
                Err(error) => return Err(error),
            }
        }
        bail!("etcd takes {MEGABYTES_MAX} MiB, and has a quota of {SMALL_QUOTA} bytes")
    }

    /// Does what an operator does whose etcd is full. May be done again.
    ///
    /// # Errors
    /// A step fails.
    pub fn make_room(&self, caller: &Caller) -> Result<()> {
        self.any(caller, "/v3/kv/deleterange", &json!({ "key": FILLING }))?;
        let range = self.any(caller, "/v3/kv/range", &json!({ "key": FILLING }))?;
        let revision = range.pointer("/header/revision").and_then(Json::as_str);
        let body = json!({ "revision": revision.context("no revision")?, "physical": true });
        match self.any(caller, "/v3/kv/compaction", &body) {
            // An attempt without an answer was made.
            Err(error) if !format!("{error:#}").contains("has been compacted") => {
                return Err(error);
            }
            _ => {}
        }
        for door in &self.doors {
            self.one(caller, door, "/v3/maintenance/defragment", &json!({}))?;
        }
        let alarms = self.any(caller, "/v3/maintenance/alarm", &json!({ "action": "GET" }))?;
        for alarm in alarms.get("alarms").and_then(Json::as_array).into_iter().flatten() {
            let (member, alarm) = (alarm["memberID"].clone(), alarm["alarm"].clone());
            let body = json!({ "action": "DEACTIVATE", "memberID": member, "alarm": alarm });
            self.any(caller, "/v3/maintenance/alarm", &body)?;
        }
        Ok(())
    }

    /// Everything that is asked here may be asked twice.
    fn any(&self, caller: &Caller, path: &str, body: &Json) -> Result<Json> {
        caller.any((self.doors.as_slice(), self.first.as_ref()), &question(path, body))
    }

    fn one(&self, caller: &Caller, door: &Door, path: &str, body: &Json) -> Result<Json> {
        caller.call(door, &question(path, body)).map_err(|failure| failure.why)
    }
}

fn question<'a>(path: &'a str, body: &'a Json) -> Question<'a> {
    Question { method: Method::POST, path, body: Some(body), is_read: true }
}

/// What a member is started with. Its heartbeats are as fast as `up` has them.
pub fn arguments(
    (member, members): (usize, &[Ipv4Addr]),
    dir: &Path,
    may_be_filled: bool,
) -> Vec<OsString> {
    let at = |address: &Ipv4Addr, port: u16| format!("http://{address}:{port}");
    let address = members.get(member).copied().unwrap_or(Ipv4Addr::LOCALHOST);
    let (clients, peers) = (at(&address, PORT), at(&address, PEER_PORT));
    let all = members.iter().enumerate();
    let all: Vec<String> =
        all.map(|(number, address)| format!("etcd{number}={}", at(address, PEER_PORT))).collect();
    let mut options = vec![
        ("--name", format!("etcd{member}")),
        ("--data-dir", dir.join("data").display().to_string()),
        ("--listen-client-urls", clients.clone()),
        ("--advertise-client-urls", clients),
        ("--listen-peer-urls", peers.clone()),
        ("--initial-advertise-peer-urls", peers),
        ("--initial-cluster", all.join(",")),
        ("--heartbeat-interval", "50".to_owned()),
        ("--election-timeout", "500".to_owned()),
        ("--auto-compaction-retention", "1".to_owned()),
    ];
    if may_be_filled {
        options.push(("--quota-backend-bytes", SMALL_QUOTA.to_string()));
    }
    options.into_iter().flat_map(|(name, value)| [name.into(), value.into()]).collect()
}

/// What the answer for the key `leader` says.
fn read(answer: &Json) -> Result<Option<Claim>> {
    let Some(value) = answer.pointer("/kvs/0/value") else { return Ok(None) };
    let value = value.as_str().and_then(decode).context("read base64")?;
    serde_json::from_slice(&value).context("read who leads")
}

/// What is written in base64.
fn decode(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0_u32);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, count) = ((bits << 6) | u32::from(value), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        let of = |text: &str| decode(text).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(of(LEADER).as_deref(), Some("/holdfast/leader"));
        assert_eq!(of(FILLING).as_deref(), Some("filling"));
        for (text, plain) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo")] {
            assert_eq!(of(text).as_deref(), Some(plain));
        }
        assert_eq!(decode("+/8="), Some(vec![0xfb, 0xff]));
        assert_eq!(decode("no base64"), None);
    }

    #[test]
    fn who_leads_is_read_from_an_answer() {
        assert_eq!(read(&json!({ "header": {} })).unwrap(), None);
        // {"term":7,"claim":"ab","address":"http://a"}
        let value = "eyJ0ZXJtIjo3LCJjbGFpbSI6ImFiIiwiYWRkcmVzcyI6Imh0dHA6Ly9hIn0=";
        let claim = read(&json!({ "kvs": [{ "value": value }] })).unwrap().unwrap();
        assert_eq!((claim.term, &*claim.claim, &*claim.address), (7, "ab", "http://a"));
        assert!(read(&json!({ "kvs": [{ "value": "e30=" }] })).is_err(), "no term");
    }

    #[test]
    fn a_member_knows_the_others() {
        let members = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let words: Vec<String> = arguments((1, members.as_slice()), Path::new("d"), true)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        let text = words.join(" ");
        for part in [
            "--name etcd1",
            "--data-dir d/data",
            "--listen-client-urls http://10.0.0.2:2379",
            "--initial-cluster etcd0=http://10.0.0.1:2380,etcd1=http://10.0.0.2:2380",
            "--quota-backend-bytes",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
