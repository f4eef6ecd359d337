//! HAProxy's answers, read strictly: a line that is not as documented is an error that carries the
//! line, never a guess.
//!
//! Pure. Checked against answers recorded from HAProxy 2.6.12.

use std::net::SocketAddr;

/// An answer that makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nonsense {
    pub(super) expected: &'static str,
    pub(super) line: String,
}

fn nonsense<T>(expected: &'static str, line: &str) -> Result<T, Nonsense> {
    Err(Nonsense { expected, line: line.chars().take(200).collect() })
}

/// `show info`: which process answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) pid: u32,
    pub(super) start_time: u64,
}

/// Reads `Pid` and `Start_time_sec`.
pub(super) fn info(text: &str) -> Result<Info, Nonsense> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok())
    };
    let pid = field("Pid").and_then(|pid: u64| u32::try_from(pid).ok());
    match (pid, field("Start_time_sec")) {
        (Some(pid), Some(start_time)) => Ok(Info { pid, start_time }),
        _ => nonsense("Pid and Start_time_sec in `show info`", first(text)),
    }
}

/// `show backend`: names in the configuration that runs.
pub(super) fn backends(text: &str) -> Result<Vec<String>, Nonsense> {
    let mut lines = text.lines();
    match lines.next() {
        Some("# name") => {}
        _ => return nonsense("the header `# name` of `show backend`", first(text)),
    }
    Ok(lines.map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// One line of `show servers state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) backend: String,
    pub(super) name: String,
    /// `-` when HAProxy has none.
    pub(super) address: String,
    pub(super) port: u16,
    /// Bit 0 of the administrative state: maintenance by command.
    pub(super) maintenance: bool,
    /// In service, and gets no new session: drained, without weight, or called down by somebody.
    pub(super) idle: bool,
}

impl Server {
    /// Where it leads; `None` when HAProxy has no address for it.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address.parse().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// Maintenance by command, in the administrative state.
const MAINTENANCE: u32 = 1;
/// Drained by command, or because another one is.
const DRAINED: u32 = 8 | 16;
/// Operational states in which a server gets no new session: down, and on its way there.
const DOWN: [u32; 2] = [0, 3];

/// `show servers state`, format version 1; columns are found by their names.
pub(super) fn servers(text: &str) -> Result<Vec<Server>, Nonsense> {
    let mut lines = text.lines();
    if lines.next().map(str::trim) != Some("1") {
        return nonsense("format version 1 of `show servers state`", first(text));
    }
    let header = lines.next().unwrap_or("");
    let Some(columns) = header.strip_prefix("# ") else {
        return nonsense("the header of `show servers state`", header);
    };
    let columns: Vec<&str> = columns.split_whitespace().collect();
    let place = |name: &str| columns.iter().position(|column| *column == name);
    let texts = ["be_name", "srv_name", "srv_addr"].map(place);
    let numbers = ["srv_admin_state", "srv_op_state", "srv_uweight"].map(place);
    let (
        [Some(backend), Some(name), Some(address)],
        Some(port),
        [Some(admin), Some(operation), Some(weight)],
    ) = (texts, place("srv_port"), numbers)
    else {
        return nonsense("the known columns of `show servers state`", header);
    };
    let mut servers = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let field = |place: usize| fields.get(place).copied().unwrap_or("");
        let numbers = [admin, operation, weight].map(|place| field(place).parse::<u32>());
        let (Ok(port), [Ok(admin), Ok(operation), Ok(weight)]) = (field(port).parse(), numbers)
        else {
            return nonsense("a server in `show servers state`", line);
        };
        let maintenance = admin & MAINTENANCE != 0;
        let is_served = admin & DRAINED == 0 && !DOWN.contains(&operation) && weight > 0;
        servers.push(Server {
            backend: field(backend).to_owned(),
            name: field(name).to_owned(),
            address: field(address).to_owned(),
            port,
            maintenance,
            idle: !maintenance && !is_served,
        });
    }
    Ok(servers)
}

/// One line of `show sess`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// As `shutdown session` takes it.
    pub(super) id: String,
    /// The client, `address:port`. With the id it names one session: ids are used again.
    pub(super) source: String,
    pub(super) frontend: String,
    pub(super) backend: String,
    pub(super) server: String,
}

/// `show sess`. The Runtime API's own sessions (frontends `GLOBAL` and `MASTER`) are left out.
pub(super) fn sessions(text: &str) -> Result<Vec<Session>, Nonsense> {
    let mut sessions = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (id, rest) = line.split_once(": ").unwrap_or(("", line));
        if !id.starts_with("0x") {
            return nonsense("a session in `show sess`", line);
        }
        let value =
            |key: &str| rest.split(' ').find_map(|word| word.strip_prefix(key)).map(str::to_owned);
        let fields = [value("src="), value("fe="), value("be="), value("srv=")];
        let [Some(source), Some(frontend), Some(backend), Some(server)] = fields else {
            return nonsense("src=, fe=, be= and srv= in `show sess`", line);
        };
        if !matches!(frontend.as_str(), "GLOBAL" | "MASTER") {
            sessions.push(Session { id: id.to_owned(), source, frontend, backend, server });
        }
    }
    Ok(sessions)
}

/// `show proc` on the master socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Processes {
    pub(super) workers: Vec<u32>,
    pub(super) old_workers: Vec<u32>,
}

/// Reads both lists of workers.
pub(super) fn processes(text: &str) -> Result<Processes, Nonsense> {
    let mut found = Processes { workers: Vec::new(), old_workers: Vec::new() };
    let mut section = None;
    let mut seen = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(title) = line.strip_prefix('#') {
            section = Some(title.trim());
            seen |= section == Some("workers");
            continue;
        }
        let list = match section {
            Some("workers") => &mut found.workers,
            Some("old workers") => &mut found.old_workers,
            _ => continue,
        };
        let Some(pid) = line.split_whitespace().next().and_then(|pid| pid.parse().ok()) else {
            return nonsense("a process in `show proc`", line);
        };
        list.push(pid);
    }
    if seen { Ok(found) } else { nonsense("`# workers` in `show proc`", first(text)) }
}

/// Answers of `del server`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Deleted {
    /// It is gone: no connection is attached to it. A session waiting for a retry does not count
    /// here.
    Yes,
    /// Connections are still attached.
    Busy,
}

/// `del server`; a server that is not there any more is deleted.
pub(super) fn deleted(text: &str) -> Result<Deleted, Nonsense> {
    match text.trim() {
        "Server deleted." | "No such server." => Ok(Deleted::Yes),
        busy if busy.starts_with("Server still has connections") => Ok(Deleted::Busy),
        other => nonsense("`Server deleted.`", other),
    }
}

/// The first line, for messages.
pub(super) fn first(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
        srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id \
        srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n\
        3 hf_127_0_0_1_17001 1 t17.1-a 127.0.0.1 2 0 1 1 1 1 0 0 0 0 0 0 - 6400 - 0 0 - - 0\n\
        3 hf_127_0_0_1_17001 3 t17 - 0 1 1 1 624 1 0 0 0 0 0 0 localhost 1 - 0 0 - - 0\n\n";

    #[test]
    fn info_identifies_the_process() {
        let text = "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nPid: 19507\nUptime_sec: 1\nStart_time_sec: 1795352311\n\n";
        assert_eq!(info(text), Ok(Info { pid: 19507, start_time: 1_795_352_311 }));
        assert_eq!(info("Pid: x\n").unwrap_err().line, "Pid: x");
        assert!(info("").is_err());
    }

    #[test]
    fn servers_are_read_by_column_name() {
        let servers = servers(STATE).unwrap();
        assert_eq!(servers.len(), 2);
        assert_eq!(
            servers[0],
            Server {
                backend: "hf_127_0_0_1_17001".to_owned(),
                name: "t17.1-a".to_owned(),
                address: "127.0.0.1".to_owned(),
                port: 6400,
                maintenance: false,
                idle: false,
            }
        );
        assert!(servers[1].maintenance && !servers[1].idle);
    }

    #[test]
    fn a_server_that_gets_no_sessions_is_told_from_one_that_does() {
        for (says, idle) in [
            ("2 0 1 1", false),
            ("1 0 1 1", false),
            ("2 8 1 1", true),
            ("2 16 1 1", true),
            ("2 0 0 1", true),
            ("0 0 1 1", true),
            ("3 0 1 1", true),
        ] {
            let found = servers(&STATE.replace("2 0 1 1", says)).unwrap();
            assert_eq!((found[0].idle, found[0].maintenance), (idle, false), "{says}");
        }
        assert!(servers(&STATE.replace("2 0 1 1", "2 0 x 1")).is_err());
    }

    #[test]
    fn other_formats_are_refused_with_the_line() {
        assert_eq!(servers("2\n").unwrap_err().line, "2");
        assert_eq!(servers("1\n# a b\n").unwrap_err().line, "# a b");
        assert!(servers("1\n").is_err());
        let broken = STATE.replace("6400", "many");
        assert!(servers(&broken).unwrap_err().line.contains("many"));
    }

    #[test]
    fn sessions_leave_out_the_runtime_api() {
        let text = "0x556481211a60: proto=tcpv4 src=127.0.0.1:36504 fe=f be=hf_1 srv=t17.1-a ts=00 epoch=0 age=2s calls=3\n\
            0x55648133e5b0: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s\n\n";
        let found = sessions(text).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].id.as_str(), found[0].server.as_str()), ("0x556481211a60", "t17.1-a"));
        assert_eq!(sessions("what?\n").unwrap_err().line, "what?");
        assert!(sessions("0x1: proto=tcpv4 fe=f\n").is_err());
        assert_eq!(sessions("\n"), Ok(Vec::new()));
    }

    #[test]
    fn old_workers_are_told_apart() {
        let text = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
            19504           master          2 [failed: 0]   0d00h15m43s     2.6.12-1+deb12u4\n# workers\n\
            30007           worker          0               0d00h00m01s     2.6.12-1+deb12u4\n# old workers\n\
            27108           worker          1               0d00h01m39s     2.6.12-1+deb12u4\n# programs\n\n";
        let expected = Processes { workers: vec![30007], old_workers: vec![27108] };
        assert_eq!(processes(text), Ok(expected));
        assert!(processes("").is_err());
        assert!(processes("# workers\nx\n").is_err());
    }

    #[test]
    fn deletion_is_believed_only_in_haproxys_words() {
        assert_eq!(deleted("Server deleted.\n"), Ok(Deleted::Yes));
        assert_eq!(deleted("No such server.\n\n"), Ok(Deleted::Yes));
        let busy = "Server still has connections attached to it, cannot remove it.\n";
        assert_eq!(deleted(busy), Ok(Deleted::Busy));
        assert!(deleted("Only servers in maintenance mode can be deleted.\n").is_err());
        assert!(deleted("").is_err());
    }

    #[test]
    fn backends_have_a_header() {
        assert_eq!(backends("# name\nhf_1\n\n"), Ok(vec!["hf_1".to_owned()]));
        assert!(backends("hf_1\n").is_err());
    }
}
