//! What a controller and a built-in balancer say to each other (`docs/protocol.md` §4).

use serde::{Deserialize, Serialize};
pub use topology::Endpoint;

use crate::certificate::{Certificate, Trust};

/// The node behind a frontend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Backend {
    /// Node id, 40 characters.
    pub node: String,
    /// Local host of the node.
    pub host: String,
    /// Local port of the node.
    pub port: u16,
}

/// One announced endpoint and who answers there; without a backend it is closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Frontend {
    /// Where clients connect.
    pub listen: Endpoint,
    /// The node that answers; `None`: there is none.
    pub backend: Option<Backend>,
    /// With no backend: another one is about to follow. Sessions are taken back from their node and
    /// kept, and so are new connections, until the next demand or for [`HOLD_MAX_MS`]. A balancer
    /// that does not know this field cuts them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
}

/// How long a controller has balancers keep connections without a backend, ms.
pub const HOLD_MS: u64 = 3_000;

/// The same for those of a replica that is back and opens its database, ms; and how long a balancer
/// keeps them by itself, whatever becomes of the controller. Earlier ones do for [`HOLD_MS`].
pub const HOLD_MAX_MS: u64 = 15_000;

/// How long a node may take to give a session back, ms; then it is reset on both sides.
pub const GIVE_BACK_MS: u64 = 500;

/// Everything a balancer is to do, replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Term of the controller that says so.
    pub term: u64,
    /// Rises within a term each time the content changes.
    pub version: u64,
    /// All frontends; one that is not listed is closed.
    pub frontends: Vec<Frontend>,
}

/// Sessions of one frontend that lead to one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Node id.
    pub node: String,
    /// Established or being set up.
    pub count: u64,
}

/// What is in force at one frontend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontendState {
    /// Where clients connect.
    pub listen: Endpoint,
    /// The node that answers.
    pub backend: Option<Backend>,
    /// Live sessions by node; nodes without one are left out.
    pub sessions: Vec<Sessions>,
    /// Connections are kept for the backend to come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// How many are.
    #[serde(default)]
    pub held: u64,
    /// Sessions that their node gave back since start, to go on at another one.
    #[serde(default)]
    pub moved: u64,
    /// Sessions that were reset because their node is no longer the backend, since start.
    #[serde(default)]
    pub cut: u64,
    /// Connections accepted since start.
    pub accepted: u64,
    /// Connections closed at once because no backend was set or it refused.
    pub refused: u64,
    /// Whether the last connection attempt to the backend succeeded; `None` before the first.
    pub backend_up: Option<bool>,
    /// Why it did not; or, if it did, why TLS with the backend failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_error: Option<String>,
    /// The address the backend was last dialled from, as this host sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dials_from: Option<String>,
    /// Why this frontend is not served as wished, for instance a port in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a balancer instance has in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Random per process: a new one means that everything must be applied again.
    pub start_id: String,
    /// Highest term applied.
    pub term: u64,
    /// Version applied within it.
    pub version: u64,
    /// The address it dials nodes from, where one is configured; to be inside the nodes'
    /// `balancer-sources`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_source: Option<String>,
    /// Whether nodes get a PROXY header; older balancers do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_proxy: Option<bool>,
    /// Its certificates; older balancers do not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
    /// Which CAs it knows others by; older balancers do not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<Trust>,
    /// Every frontend known.
    pub frontends: Vec<FrontendState>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(value: &serde_json::Value) -> Vec<&str> {
        value.as_object().expect("an object").keys().map(String::as_str).collect()
    }

    /// The names in `State { … }` of docs/protocol.md §4, those within the brackets included.
    fn documented() -> Vec<String> {
        let page = include_str!("../../../docs/protocol.md");
        let text =
            page.split("`State { ").nth(1).expect("the form").split(" }`").next().expect("its end");
        let names = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn the_page_lists_what_a_balancer_says_and_nothing_else() {
        let text = || Some("x".to_owned());
        let listen = Endpoint { host: "h".into(), port: 1 };
        let state = State {
            start_id: "1".into(),
            term: 1,
            version: 1,
            bind_source: text(),
            send_proxy: Some(true),
            certificates: vec![Certificate { option: "tls.cert_file".into(), ends_s: 1 }],
            trust: vec![Trust {
                option: "tls.cert_file".into(),
                accepts: vec!["ab.cd".into()],
                issued_by: text(),
            }],
            frontends: vec![FrontendState {
                listen,
                backend: Some(Backend { node: "n".into(), host: "h".into(), port: 1 }),
                sessions: vec![Sessions { node: "n".into(), count: 1 }],
                hold: true,
                held: 1,
                moved: 1,
                cut: 1,
                accepted: 1,
                refused: 1,
                backend_up: Some(true),
                backend_error: text(),
                dials_from: text(),
                error: text(),
            }],
        };
        let value = serde_json::to_value(&state).expect("JSON");
        let frontend = &value["frontends"][0];
        let mut said: Vec<&str> = keys(&value);
        said.extend(keys(frontend));
        said.extend(keys(&frontend["sessions"][0]));
        said.extend(keys(&value["certificates"][0]));
        said.extend(keys(&value["trust"][0]));
        said.sort_unstable();
        let mut documented = documented();
        documented.sort();
        assert_eq!(documented, said);
        assert_eq!(serde_json::from_value::<State>(value).expect("a state"), state);
    }
}
