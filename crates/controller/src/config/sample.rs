//! The configuration file in which nothing is set.

use super::Config;

impl Config {
    /// Every key with its unit, range and default, as a file in which nothing is set.
    #[expect(clippy::too_many_lines, reason = "one text, a paragraph per key")]
    pub fn sample() -> String {
        // A key that is added and not shown here does not compile.
        let Self {
            listen,
            token: _,
            token_file: _,
            allowed_hosts,
            log_file: _,
            log_level,
            store: _,
            data,
            store_key_file: _,
            store_keys: _,
            etcd_endpoints,
            etcd_prefix,
            etcd_user: _,
            etcd_password_file: _,
            etcd_limit_ms,
            etcd_max_request_bytes,
            advertise: _,
            heartbeat_ms,
            misses,
            lease_ms,
            drift_permille,
            min_term,
            tls: _,
            take_over: _,
        } = Self::default();
        format!(
            "\
# Configuration of `holdfast controller`. What is commented out is the default. SIGHUP has this file read again: `token`,
# `allowed_hosts`, `log_file`, `log_level` and `tls` are then in force, the rest after a restart.

# Where the REST interface listens, address:port. Loopback only, unless `token` is set.
# listen = \"{listen}\"

# Secret that every request but /healthz must carry as `Authorization: Bearer`; users have others (`ctl user add`), with a
# role each, while this one may do everything. Default: none, and everybody may.
# token = \"…\"

# File whose only line is that secret; in place of `token`. Read again at SIGHUP.
# token_file = \"/etc/holdfast/controller.token\"

# Names under which the REST interface is reached, beside `localhost` and the address it listens on: `name` or
# `name:port`. Requests to others are refused, because a web page may have sent them.
# allowed_hosts = {allowed_hosts:?}

# File of the log, opened again at SIGUSR1 and at SIGHUP. Default: standard error, where errors go in any case.
# log_file = \"/var/log/holdfast/controller.log\"

# Least severe message that is logged: error, warn, info, debug or trace, also per module, such as
# \"info,controller=debug\". RUST_LOG wins.
# log_level = {log_level:?}

# Where clusters, terms and the log of events are kept: \"embedded\" in a file of this one controller, or \"etcd\",
# which several controllers share: one leads, the others stand by.
# store = \"embedded\"

# Members of that etcd, of which all are needed here: version 3.4 or later, not 3.5.0 to 3.5.2, with its JSON gateway on,
# as it is by default. Each is `http://host:port`, or `https://host:port` with `ca_file` below.
# etcd_endpoints = {etcd_endpoints:?}

# What all keys in it begin with; ends in `/`. Controllers with the same one are one group.
# etcd_prefix = {etcd_prefix:?}

# Name and password, where etcd asks for them. Default: none.
# etcd_user = \"holdfast\"
# etcd_password_file = \"/etc/holdfast/etcd.password\"

# Limit of a call to it, ms, 100 to 10000. By a read that takes more than 250 nobody leads: these have no more.
# etcd_limit_ms = {etcd_limit_ms}

# Largest request that its members take, bytes, 1024 to 1073741824: as their `--max-request-bytes`, which they do not
# tell. `status` has an alarm once the record of a cluster takes half of it. A cluster of a thousand shards with three
# nodes each needs about as much as the default.
# etcd_max_request_bytes = {etcd_max_request_bytes}

# URL under which the other controllers reach this one. Default: `listen`, which must be an address of this host then,
# as `https://` where there is a `cert_file`.
# advertise = \"http://10.0.0.1:9379\"

# File of the embedded store: clusters, terms, the log of events. One controller at a time opens it. Back it up.
# A relative path counts from where the process is started.
# data = {data:?}

# File of the keys by which secrets are sealed in the store (passwords of nodes, tokens of balancers), one a line, of mode
# 0600: the first seals, all of them open. `holdfast ctl store key FILE` makes it. Controllers that share a store have the
# same. Default: none, and secrets lie there in clear.
# store_key_file = \"/etc/holdfast/store.key\"

# Pause between two heartbeats to a node, ms, 10 to 60000.
# heartbeat_ms = {heartbeat_ms}

# Heartbeats without an answer before a node counts as down, 1 to 1000. So a node is down after
# heartbeat_ms × misses.
# misses = {misses}

# How long a master may serve after a heartbeat, ms, four times heartbeat_ms to 60000.
# lease_ms = {lease_ms}

# How much the clocks of hosts may differ in speed, parts per thousand, 0 to 500.
# drift_permille = {drift_permille}

# Least term to start with, 0 and up. Only for a store that was lost or restored from a backup: set it above
# the term that `holdfast ctl status` showed last.
# min_term = {min_term}

# [tls]
# Certificate, then those that lead to its CA, PEM: the REST interface speaks HTTPS only then. It is also shown to
# balancers, nodes, etcd and other controllers that ask for one. All four files are read again at SIGHUP; with a fault
# in one of them the old ones stay in force. Default: none.
# cert_file = \"/etc/holdfast/controller.pem\"

# Its key, PEM, not encrypted.
# key_file = \"/etc/holdfast/controller.key\"

# Certificates of the CAs of which clients must show one, PEM: beside a token, or in place of one (`ctl user add NAME
# --certificate …`). Default: none is asked for.
# client_ca_file = \"/etc/holdfast/ca.pem\"

# Whether a client may show none; one that is shown must be of these CAs all the same.
# client_optional = false

# Certificates of the CAs by which balancers, etcd and other controllers are known where they are `https://`, and
# nodes with `nodes`, PEM. Default: none is known.
# ca_file = \"/etc/holdfast/ca.pem\"

# Whether nodes are dialled over TLS, true or false. Each of them needs a certificate that names its address first.
# nodes = false
"
        )
    }
}
