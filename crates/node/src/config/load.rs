//! From command line and file to values, with errors that name the place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::options::{SetError, Values};
use super::{file, kvrocks};
use crate::acl::Acl;
use crate::command::Flags;
use crate::command::renames::RenameError;
use crate::tls::Tls;

/// What the command line of `holdfast node` asks for.
#[derive(Debug)]
pub enum Request {
    /// Start a node.
    Start(Box<Loaded>),
    /// Print this and stop.
    Print(String),
}

/// Values ready to start with.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub values: Values,
    /// The file they came from.
    pub file: Option<PathBuf>,
    /// What is odd but no reason to stop.
    pub warnings: Vec<String>,
    /// Where each option was given last, by its name in lower case.
    places: BTreeMap<String, String>,
}

impl Loaded {
    /// Why an option cannot be as it is, with the place where it was given.
    pub fn refuse(&self, name: &str, why: impl Into<String>) -> LoadError {
        let place = self.places.get(&name.to_ascii_lowercase()).cloned();
        let place = place.unwrap_or_else(|| "configuration".to_owned());
        LoadError::Value { place, name: name.to_owned(), why: why.into() }
    }

    /// Looks at the files that a start reads: certificates, and users.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn check_files(&self) -> Result<(), LoadError> {
        let tls = Tls::load(&self.values);
        tls.map_err(|fault| self.refuse(fault.option, fault.why))?;
        if self.values.aclfile.is_empty() {
            return Ok(());
        }
        let path = Path::new(&self.values.dir).join(&self.values.aclfile);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| self.refuse(ACLFILE, format!("read {}: {error}", path.display())))?;
        let taken = Acl::default().replace(&text);
        taken.map(drop).map_err(|why| self.refuse(ACLFILE, format!("{}: {why}", path.display())))
    }

    /// What cannot be together, or says nothing without another option.
    fn check_together(&mut self) -> Result<(), LoadError> {
        self.values.check_together().map_err(|(name, why)| self.refuse(name, why))?;
        check_namespaces(&self.values).map_err(|(name, why)| self.refuse(&name, why))?;
        if !self.values.users.is_empty() && !self.values.aclfile.is_empty() {
            let why = "users stand in this file or in that of `aclfile`, not in both";
            return Err(self.refuse(file::USER, why));
        }
        let (asked_mib, has_mib) = (self.values.maxmemory.0 >> 20, crate::machine::memory_mib());
        if let Some(place) = self.places.get(MAXMEMORY).filter(|_| asked_mib > has_mib) {
            let text = format!(
                "{place}: option `{MAXMEMORY}` allows more than the {has_mib} MiB that there are"
            );
            self.warnings.push(text);
        }
        for (name, needed, is_missing) in NEEDING {
            if let Some(place) = self.places.get(*name).filter(|_| is_missing(&self.values)) {
                let text = format!("{place}: option `{name}` has no effect without `{needed}`");
                self.warnings.push(text);
            }
        }
        Ok(())
    }
}

const ACLFILE: &str = "aclfile";
const MAXMEMORY: &str = "maxmemory";

/// An option, one without which it says nothing, and whether that is missing.
type Needing = (&'static str, &'static str, fn(&Values) -> bool);

const NEEDING: &[Needing] = &[
    ("unixsocketperm", "unixsocket", |values| values.unixsocket.0.is_empty()),
    ("admin-bind", "admin-port", |values| values.admin_port == 0),
    ("admin-allowed-hosts", "admin-port", |values| values.admin_port == 0),
    ("tls-admin", "admin-port", |values| values.admin_port == 0),
    ("tls-admin-auth-clients", "tls-admin", |values| !values.tls_admin),
    // TLS may end at a balancer, which tells the name.
    ("tls-auth-clients-user", "tls-cert-file", |values| {
        values.tls_cert_file.is_empty() && values.balancer_sources.0.is_empty()
    }),
    ("tls-auth-clients", "tls-cert-file", |values| values.tls_cert_file.is_empty()),
    ("tls-ca-cert-file", "tls-cert-file", |values| values.tls_cert_file.is_empty()),
    ("tls-ca-cert-dir", "tls-cert-file", |values| values.tls_cert_file.is_empty()),
    ("tls-protocols", "tls-cert-file", |values| values.tls_cert_file.is_empty()),
    ("tls-ciphersuites", "tls-cert-file", |values| values.tls_cert_file.is_empty()),
];

/// Why the node cannot start with what it was given.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("read configuration file {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A value in quotes does not end as it must.
    #[error("{place}: a quote is not closed, or something other than a comment follows it")]
    Quote {
        /// File and line, or the command line.
        place: String,
    },
    /// A value is not accepted.
    #[error("{place}: option `{name}`: {why}")]
    Value {
        /// File and line, or the command line.
        place: String,
        /// The option.
        name: String,
        /// What would be accepted.
        why: String,
    },
    /// No option has that name, neither here nor in Kvrocks.
    #[error("{place}: unknown option `{name}`{}; `holdfast node --sample` shows all options", meant(.name))]
    Unknown {
        /// File and line, or the command line.
        place: String,
        /// What was written.
        name: String,
    },
    /// The command line itself is wrong.
    #[error("{0}; see `holdfast node --help`")]
    Usage(String),
}

impl LoadError {
    /// Whether the command line is at fault, and not the file.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Usage(_) => true,
            Self::Quote { place } | Self::Value { place, .. } | Self::Unknown { place, .. } => {
                place == COMMAND_LINE
            }
            Self::Read { .. } => false,
        }
    }
}

const COMMAND_LINE: &str = "command line";

/// An argument of `holdfast node` that is no option of the file.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its letter behind one hyphen.
    pub short: Option<char>,
    /// Its name behind two.
    pub long: &'static str,
    /// What follows it, in words for people.
    pub value: Option<&'static str>,
    /// One line for people.
    pub help: &'static str,
}

/// All of them, for help, man page and completions.
pub const FLAGS: &[Flag] = &[
    Flag {
        short: Some('c'),
        long: "config",
        value: Some("FILE"),
        help: "configuration file, Kvrocks' format",
    },
    Flag {
        short: None,
        long: "check",
        value: None,
        help: "read file and options, say what is wrong with them, and end",
    },
    Flag {
        short: None,
        long: "sample",
        value: None,
        help: "print a sample file with every option and its default",
    },
    Flag { short: Some('v'), long: "version", value: None, help: "print the version" },
    Flag { short: Some('h'), long: "help", value: None, help: "print this" },
];

/// Reads the arguments behind `holdfast node`.
pub fn load(arguments: &[String]) -> Result<Request, LoadError> {
    let mut path = None;
    let mut overrides = Vec::new();
    let mut is_check = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = |what: &str| {
            rest.next().cloned().ok_or_else(|| LoadError::Usage(format!("{what} needs a value")))
        };
        match argument.as_str() {
            "-h" | "--help" => return Ok(Request::Print(help())),
            "-v" | "--version" => {
                return Ok(Request::Print(format!("holdfast {}", env!("CARGO_PKG_VERSION"))));
            }
            "--sample" => return Ok(Request::Print(file::sample())),
            "--check" => is_check = true,
            "-c" | "--config" => path = Some(PathBuf::from(value("-c")?)),
            option if option.starts_with("--") => {
                let (name, text) = match option[2..].split_once('=') {
                    Some((name, text)) => (name, Some(text.to_owned())),
                    None => (&option[2..], None),
                };
                if !is_known(name) {
                    let place = COMMAND_LINE.to_owned();
                    return Err(LoadError::Unknown { place, name: name.to_owned() });
                }
                overrides.push((name.to_owned(), text.map_or_else(|| value(option), Ok)?));
            }
            other => return Err(LoadError::Usage(format!("unexpected argument `{other}`"))),
        }
    }
    let mut loaded = Loaded {
        values: Values::default(),
        file: None,
        warnings: Vec::new(),
        places: BTreeMap::new(),
    };
    if let Some(path) = path {
        read_file(&path, &mut loaded)?;
        loaded.file = Some(path.canonicalize().unwrap_or(path));
    }
    for (name, text) in overrides {
        apply(&mut loaded, COMMAND_LINE, &name, &text)?;
    }
    loaded.check_together()?;
    if is_check {
        loaded.check_files()?;
        if let Ok(Some(tls)) = Tls::load(&loaded.values) {
            let valid = tls.validity().check(crate::clock::unix_s());
            valid.map_err(|fault| loaded.refuse(fault.option, fault.why))?;
        }
        Ok(Request::Print(checked(&loaded)))
    } else {
        Ok(Request::Start(Box::new(loaded)))
    }
}

/// Tokens that nobody could use are a mistake, and one that somebody would miss.
fn check_namespaces(values: &Values) -> Result<(), (String, &'static str)> {
    let Some(namespace) = values.namespaces.values().next() else { return Ok(()) };
    let why = if values.cluster_enabled {
        "a cluster has no namespaces"
    } else if values.requirepass.is_empty() {
        "namespaces need requirepass: without a password nobody gives a token"
    } else if values.redis_databases > 0 {
        "there are either namespaces or redis-databases"
    } else {
        return Ok(());
    };
    Err((format!("{}{namespace}", file::NAMESPACE), why))
}

/// What `--check` says of a configuration that a node would start with.
fn checked(loaded: &Loaded) -> String {
    let mut text = String::new();
    for warning in &loaded.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    match &loaded.file {
        Some(file) => text.push_str(&format!("{}: ok", file.display())),
        None => text.push_str("ok"),
    }
    text
}

/// Other names of options.
const ALIASES: [(&str, &str); 2] =
    [("replicaof", "slaveof"), ("busy-reply-threshold", "lua-time-limit")];

const RENAME: &str = "rename-command";

fn alias(name: &str) -> &str {
    let known = ALIASES.iter().find(|(other, _)| name.eq_ignore_ascii_case(other));
    known.map_or(name, |(_, option)| option)
}

/// Whether a file or the command line may name this option.
fn is_known(name: &str) -> bool {
    name.eq_ignore_ascii_case(RENAME)
        || file::namespace(name).is_some()
        || name.eq_ignore_ascii_case(file::USER)
        || super::options::find(alias(name)).is_some()
        || kvrocks::ignored(name).is_some()
}

/// The option whose name is nearest, where one differs by a letter or two.
fn meant(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let names = super::OPTIONS.iter().map(|option| option.name).chain([RENAME]);
    let nearest = names.map(|option| (distance(&lower, option), option)).min();
    match nearest {
        Some((0..=2, option)) => format!(", is `{option}` meant?"),
        _ => String::new(),
    }
}

/// How many letters must be put in, left out or replaced to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn read_file(path: &Path, loaded: &mut Loaded) -> Result<(), LoadError> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| LoadError::Read { path: path.to_owned(), cause })?;
    let place = |line: usize| format!("{}, line {line}", path.display());
    let lines = file::parse(&text).map_err(|line| LoadError::Quote { place: place(line) })?;
    for line in lines {
        apply(loaded, &place(line.number), &line.name, &line.value)?;
    }
    Ok(())
}

fn apply(loaded: &mut Loaded, place: &str, name: &str, text: &str) -> Result<(), LoadError> {
    let name = alias(name);
    loaded.places.insert(name.to_ascii_lowercase(), place.to_owned());
    let refused =
        |why: String| LoadError::Value { place: place.to_owned(), name: name.to_owned(), why };
    if name.eq_ignore_ascii_case(RENAME) {
        let words =
            file::words(text).ok_or_else(|| LoadError::Quote { place: place.to_owned() })?;
        let [from, to] = words.as_slice() else {
            return Err(refused(
                "a command and its new name are needed, as in `rename-command KEYS \"\"`".into(),
            ));
        };
        return rename(loaded, place, from, to).map_err(refused);
    }
    if name.eq_ignore_ascii_case(file::USER) {
        let line = format!("{} {text}", file::USER);
        // Tried out with the others before it: one that is there twice is an error.
        let acl = Acl::default();
        loaded.values.users.push(line);
        return loaded.values.users.iter().try_for_each(|line| acl.add_line(line)).map_err(refused);
    }
    if let Some(namespace) = file::namespace(name) {
        if namespace.is_empty() || namespace.len() > 255 || text.is_empty() {
            return Err(refused("a name of at most 255 bytes and a token are needed".into()));
        }
        if namespace.as_bytes() == storage::DEFAULT_NAMESPACE {
            return Err(refused("the default namespace has no token".into()));
        }
        loaded.values.namespaces.retain(|_, other| other != namespace);
        return match loaded.values.namespaces.insert(text.to_owned(), namespace.to_owned()) {
            Some(other) => Err(refused(format!("`{other}` has the same token"))),
            None => Ok(()),
        };
    }
    match loaded.values.set(name, text) {
        Ok(()) => {
            if let Some(why) = kvrocks::without_effect(name, text) {
                loaded.warnings.push(format!("{place}: option `{name}` is ignored: {why}"));
            }
            Ok(())
        }
        Err(SetError::Unknown) => {
            let why = kvrocks::ignored(name).ok_or_else(|| LoadError::Unknown {
                place: place.to_owned(),
                name: name.to_owned(),
            })?;
            loaded.warnings.push(format!("{place}: option `{name}` is ignored: {why}"));
            Ok(())
        }
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Gives a command another name. A command of Kvrocks that is not served needs none; anything else
/// that cannot be renamed is an error, because somebody counts on its being gone.
fn rename(loaded: &mut Loaded, place: &str, from: &str, to: &str) -> Result<(), String> {
    let command = loaded.values.renames.find(from.as_bytes()).map(|(_, command)| command);
    match loaded.values.renames.add(from, to) {
        Ok(()) => {
            let needed = ["auth", "client", "ping", "info"];
            if let Some(command) = command
                && (command.flags.has(Flags::PEER) || needed.contains(&command.name))
            {
                loaded.warnings.push(format!(
                    "{place}: `{}` is renamed: nodes, controllers and balancers use it by its own name",
                    command.name
                ));
            }
            Ok(())
        }
        Err(RenameError::Unknown(_)) if kvrocks::is_command(from) => {
            loaded
                .warnings
                .push(format!("{place}: `{from}` is not renamed: this build does not serve it"));
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn help() -> String {
    let mut text = String::from(
        "Starts a data node.\n\nUsage: holdfast node [--check] [-c FILE] [--OPTION VALUE]…\n\n",
    );
    for flag in FLAGS {
        let short = flag.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
        let long = format!("--{} {}", flag.long, flag.value.unwrap_or_default());
        text.push_str(&format!("  {short}{long:<16}{}\n", flag.help));
    }
    text.push_str("\nOptions (as in the file):\n");
    let defaults = Values::default();
    for option in super::OPTIONS {
        let first = option.doc.lines().next().unwrap_or_default().trim();
        let default = defaults.get(option.name).unwrap_or_default();
        let name = option.name;
        text.push_str(&format!("  --{name:<44} {first} [{default}]\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Value as _;

    fn arguments(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_bad_value_names_file_line_option_and_what_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.conf");
        std::fs::write(&path, "# c\nworkers 4\nport seven\n").unwrap();
        let error = load(&arguments(&["-c", path.to_str().unwrap()])).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "node.conf, line 3: option `port`: argument must be an integer between 0 and 65535"
            ),
            "{error}"
        );
    }

    #[test]
    fn the_command_line_wins_and_names_of_kvrocks_only_warn() {
        let text = "port 1000\nsupervised no\nReplicaOf\tnode7\t\t7001\n";
        let loaded = loaded(text, &["--port", "2000"]).unwrap();
        assert_eq!((loaded.values.port, loaded.warnings.len()), (2000, 1));
        assert!(
            loaded.warnings[0].contains("line 2: option `supervised` is ignored: Kvrocks has it")
        );
        assert_eq!(loaded.values.slaveof.render(), "node7 7001");
    }

    fn loaded(text: &str, more: &[&str]) -> Result<Loaded, String> {
        crate::shell::table();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.conf");
        std::fs::write(&path, text).unwrap();
        let mut all = vec!["-c", path.to_str().unwrap()];
        all.extend(more);
        match load(&arguments(&all)) {
            Ok(Request::Start(loaded)) => Ok(*loaded),
            Ok(Request::Print(text)) => panic!("printed {text}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn what_cannot_take_effect_stops_the_start_and_names_file_and_line() {
        for (line, why) in [
            ("requirepas secret", "unknown option `requirepas`, is `requirepass` meant?"),
            ("namespace.__namespace t", "the default namespace has no token"),
            ("namespace.a", "a token are needed"),
            ("rename-command", "option `rename-command`: a command and its new name are needed"),
            ("rename-command KEYS", "a command and its new name are needed"),
            ("rename-command KEYS a b", "a command and its new name are needed"),
            ("rename-command KEYZ x", "there is no command `keyz`"),
            ("rename-command KEYS get", "`get` is already the name of a command"),
            ("rename-command KEYS \"x", "a quote is not closed"),
            ("slaveof 10.0.0.1", "option `slaveof`: a host and a port are needed"),
            ("slaveof 10.0.0.1:6666", "option `slaveof`: a host and a port are needed"),
            ("slaveof 10.0.0.1 0", "option `slaveof`: `0` is no port: 1 to 65535"),
            ("slaveof 10.0.0.1 x", "option `slaveof`: `x` is no port: 1 to 65535"),
            ("port 70000", "option `port`"),
            ("bind 127.0.0.1 nonsense", "option `bind`: `nonsense` is no IP address"),
            ("bind example.org", "option `bind`: `example.org` is no IP address"),
            ("admin-bind ::1 ::2", "option `admin-bind`: `::1 ::2` is no IP address"),
            (
                &format!("unixsocket /{}", "x".repeat(107)),
                "option `unixsocket`: a path of at most 107",
            ),
            ("json-max-nesting-depth 1025", "argument must be between 0 and 1024"),
            ("\u{feff}port 7000", "unknown option"),
        ] {
            let error = loaded(&format!("# first\n{line}\n"), &[]).unwrap_err();
            assert!(
                error.contains("node.conf, line 2: ") && error.contains(why),
                "{line}: {error}"
            );
        }
    }

    /// Each name that a release of Kvrocks has had for an option, and those of branches that are
    /// not released.
    const KVROCKS: &str = "auto-resize-block-and-sst backup-dir bgsave-cron bind cloud-storage-access-key \
        cloud-storage-bucket cloud-storage-endpoint cloud-storage-secret-key cloud-storage-type \
        cluster-enabled codis-enabled compact-cron compaction-checker-cron \
        compaction-checker-range daemonize db-name dbsize-scan-cron dir enable-blob-cache \
        force-compact-file-age force-compact-file-min-deleted-percentage \
        fullsync-recv-file-delay hash-encoding-mode hash-length-mode json-max-nesting-depth \
        json-storage-format log-dir log-level log-retention-days master-use-repl-port masterauth \
        max-backup-keep-hours max-backup-to-keep max-bitmap-to-string-mb max-db-size max-io-mb \
        max-replication-mb maxclients migrate-batch-rate-limit-mb migrate-batch-size-kb \
        migrate-pipeline-size migrate-sequence-gap migrate-speed migrate-type \
        persist-cluster-nodes-enabled pidfile port profiling-sample-commands \
        profiling-sample-ratio profiling-sample-record-max-len \
        profiling-sample-record-threshold-ms proto-max-bulk-len purge-backup-on-fullsync \
        redis-cursor-compatible rename-command repl-bind repl-namespace-enabled repl-workers \
        replica-announce-ip replica-announce-port requirepass resp3-enabled \
        rocksdb.avoid_unnecessary_blocking_io rocksdb.blob_file_size \
        rocksdb.blob_garbage_collection_age_cutoff rocksdb.block_cache_size \
        rocksdb.block_cache_type rocksdb.block_size rocksdb.cache_index_and_filter_blocks \
        rocksdb.compaction_readahead_size rocksdb.compression rocksdb.compression_level \
        rocksdb.compression_start_level rocksdb.delayed_write_rate \
        rocksdb.disable_auto_compactions rocksdb.enable_blob_files \
        rocksdb.enable_blob_garbage_collection rocksdb.enable_pipelined_write \
        rocksdb.level0_file_num_compaction_trigger rocksdb.level0_slowdown_writes_trigger \
        rocksdb.level0_stop_writes_trigger rocksdb.level_compaction_dynamic_level_bytes \
        rocksdb.max_background_compactions rocksdb.max_background_flushes \
        rocksdb.max_background_jobs rocksdb.max_bytes_for_level_base \
        rocksdb.max_bytes_for_level_multiplier rocksdb.max_open_files \
        rocksdb.max_sub_compactions rocksdb.max_subcompactions rocksdb.max_total_wal_size \
        rocksdb.max_write_buffer_number rocksdb.metadata_block_cache_size rocksdb.min_blob_size \
        rocksdb.rate_limiter_auto_tuned rocksdb.read_options.async_io rocksdb.row_cache_size \
        rocksdb.share_metadata_and_subkey_block_cache rocksdb.stats_dump_period_sec \
        rocksdb.subkey_block_cache_size rocksdb.target_file_size_base rocksdb.wal_compression \
        rocksdb.wal_size_limit_mb rocksdb.wal_ttl_seconds rocksdb.write_buffer_size \
        rocksdb.write_options.disable_wal rocksdb.write_options.low_pri \
        rocksdb.write_options.memtable_insert_hint_per_batch rocksdb.write_options.no_slowdown \
        rocksdb.write_options.sync rocksdb.write_options.write_batch_max_bytes \
        slave-empty-db-before-fullsync slave-priority slave-read-only slave-serve-stale-data \
        slaveof slowlog-log-slower-than slowlog-max-len socket-fd supervised tcp-backlog timeout \
        tls-auth-clients tls-ca-cert-dir tls-ca-cert-file tls-cert-file tls-ciphers \
        tls-ciphersuites tls-key-file tls-key-file-pass tls-port tls-prefer-server-ciphers \
        tls-protocols tls-replication tls-session-cache-size tls-session-cache-timeout \
        tls-session-caching txn-context-enabled unixsocket unixsocketperm use-rsid-psync workers";

    #[test]
    fn no_name_of_kvrocks_stops_the_start() {
        for name in KVROCKS.split_whitespace() {
            assert!(is_known(name), "{name}");
            // It is served, or told to be ignored, and not both.
            let is_served = name == RENAME || crate::config::options::find(alias(name)).is_some();
            assert_ne!(is_served, kvrocks::ignored(name).is_some(), "{name}");
        }
        let told = loaded("use-rsid-psync yes\n", &[]).unwrap().warnings;
        assert!(told[0].contains("line 1: option `use-rsid-psync` is ignored"), "{told:?}");
    }

    #[test]
    fn what_cannot_be_together_names_file_and_line() {
        for (line, why) in [
            ("bind", "option `bind`: at least one address is needed"),
            ("client-access balancer-only", "option `client-access`: balancer-only needs"),
            ("maxmemory 255mb", "option `maxmemory`: at least 256mb are needed"),
            ("requirepass-also x", "option `requirepass-also`: without requirepass"),
            ("peer-auth-also x", "option `peer-auth-also`: it is a second secret"),
            ("namespace.a t", "option `namespace.a`: namespaces need requirepass"),
            ("redis-databases 4\ncluster-enabled yes", "option `redis-databases`: a cluster has"),
            ("replicaof 10.0.0.1 7\ncluster-enabled yes", "option `slaveof`: in cluster mode"),
            ("user u on\naclfile users", "option `user`: users stand in this file or"),
        ] {
            let error = loaded(&format!("# first\n{line}\n"), &[]).unwrap_err();
            let place = format!("node.conf, line 2: {why}");
            assert!(error.contains(&place), "{line}: {error}");
        }
        let error = load(&arguments(&["--peer-auth-also", "x"])).unwrap_err();
        assert!(error.is_usage() && error.to_string().starts_with("command line: "), "{error}");
    }

    #[test]
    fn more_memory_than_there_is_is_told() {
        let told = |line: &str| loaded(line, &[]).unwrap().warnings;
        let warnings = told("# first\nmaxmemory 1p\n");
        assert!(
            warnings[0].contains("line 2: option `maxmemory` allows more than"),
            "{warnings:?}"
        );
        assert!(told("maxmemory 256mb\n").is_empty() && told("maxmemory 0\n").is_empty());
    }

    #[test]
    fn an_option_that_says_nothing_without_another_is_told() {
        for (line, needed) in [
            ("unixsocketperm 700", "unixsocket x"),
            ("admin-bind 10.0.0.1", "admin-port 7"),
            ("admin-allowed-hosts node1", "admin-port 7"),
            ("tls-admin yes", "admin-port 7"),
            ("tls-admin-auth-clients optional", "tls-admin yes\nadmin-port 7"),
            ("tls-ca-cert-file ca.pem", "tls-cert-file x"),
            ("tls-auth-clients-user CN", "tls-cert-file x"),
        ] {
            let told = loaded(line, &[]).unwrap().warnings;
            let (option, needed_option) =
                (line.split(' ').next().unwrap(), needed.split(' ').next().unwrap());
            let text = format!("line 1: option `{option}` has no effect without `{needed_option}`");
            assert!(told.len() == 1 && told[0].ends_with(&text), "{line}: {told:?}");
            let both = loaded(&format!("{line}\n{needed}\n"), &[]).unwrap();
            assert_eq!(both.warnings, [""; 0], "{line}");
        }
        let told_of = "tls-auth-clients-user CN\nbalancer-sources 10.0.0.1/32\n";
        assert_eq!(loaded(told_of, &[]).unwrap().warnings, [""; 0]);
    }

    #[test]
    fn namespaces_need_a_password_and_no_cluster() {
        let text = "namespace.a t1\nnamespace.b \"t 2\"\nnamespace.a t3\n";
        let why = loaded(text, &[]).unwrap_err();
        assert!(why.contains("namespaces need requirepass"), "{why}");
        let why = loaded(text, &["--requirepass", "s", "--cluster-enabled", "yes"]).unwrap_err();
        assert!(why.contains("a cluster has no namespaces"), "{why}");
        let tokens = loaded(text, &["--requirepass", "s"]).unwrap().values.namespaces;
        let shown: Vec<_> = tokens.iter().map(|(t, n)| format!("{t}={n}")).collect();
        assert_eq!(shown, ["t 2=b", "t3=a"]);
        let why = loaded("namespace.a t\nnamespace.b t\n", &[]).unwrap_err();
        assert!(why.contains("`a` has the same token"), "{why}");
    }

    #[test]
    fn blanks_are_blanks_and_quotes_are_quotes_in_a_renaming() {
        for line in [
            "rename-command\tconfig\tx",
            "rename-command   CONFIG \t  X  # why",
            "\tRENAME-command \"config\" 'x'",
        ] {
            let renames = loaded(line, &[]).unwrap().values.renames;
            let name = |name: &str| renames.find(name.as_bytes()).map(|(_, command)| command.name);
            assert_eq!((name("config"), name("x")), (None, Some("config")), "{line:?}");
        }
        let renames = loaded("rename-command\tKEYS\t\"\"\n", &[]).unwrap().values.renames;
        assert!(renames.find(b"keys").is_none() && renames.find(b"").is_none());
        let both = loaded("rename-command GET tmp", &["--rename-command", "tmp x"]).unwrap();
        assert!(both.values.renames.find(b"x").is_some());
    }

    #[test]
    fn a_renaming_that_others_would_miss_is_told() {
        let told = |line: &str| loaded(line, &[]).unwrap().warnings;
        assert!(told("rename-command clusterx \"\"")[0].contains("use it by its own name"));
        assert!(told("rename-command ft.create x")[0].contains("this build does not serve it"));
        assert_eq!(told("rename-command keys \"\""), [""; 0]);
    }

    #[test]
    fn the_command_line_takes_only_what_it_knows() {
        for (list, is_usage) in [
            (&["--bogus", "1"][..], true),
            (&["--bogus=1"], true),
            (&["--port"], true),
            (&["stray"], true),
            (&["--port", "x"], true),
            (&["-c", "/nowhere/node.conf"], false),
        ] {
            assert_eq!(load(&arguments(list)).unwrap_err().is_usage(), is_usage, "{list:?}");
        }
    }

    #[test]
    fn a_check_says_what_is_odd_and_starts_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.conf");
        let check = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load(&arguments(&["--check", "-c", path.to_str().unwrap()]))
        };
        let Ok(Request::Print(said)) = check("supervised x\n") else { panic!("expected a word") };
        assert!(said.starts_with("warning: ") && said.ends_with("node.conf: ok"), "{said}");
        assert!(check("port x\n").is_err());
        let users = |text: &str| {
            std::fs::write(folder.path().join("users"), text).unwrap();
            check(&format!("dir {}\naclfile users\n", folder.path().display()))
        };
        let refused = |checked: Result<Request, LoadError>| checked.unwrap_err().to_string();
        let why = refused(check("dir /nowhere\naclfile users\n"));
        assert!(why.contains("line 2: option `aclfile`: read /nowhere/users: "), "{why}");
        let why = refused(users("user u on\nuser v nonsense\n"));
        assert!(why.contains("line 2: option `aclfile`: ") && why.contains(": line 2: "), "{why}");
        assert!(users("user u on\n").is_ok());
        let why = refused(check("# first\ntls-cert-file /nowhere/cert\n"));
        assert!(why.contains("option `tls-key-file`: "), "{why}");
        let why = refused(check("# first\ntls-port 7001\n"));
        assert!(why.contains("line 2: option `tls-port`: a certificate is needed"), "{why}");
    }

    #[test]
    fn every_argument_that_the_help_names_is_understood() {
        let Request::Print(help) = load(&arguments(&["--help"])).unwrap() else { panic!() };
        for flag in FLAGS {
            let long = format!("--{}", flag.long);
            let short = flag.short.map(|letter| format!("-{letter}"));
            for name in [Some(long), short].into_iter().flatten() {
                assert!(help.contains(&name), "{name}");
                match load(&arguments(&[&name])) {
                    Ok(_) => assert_eq!(flag.value, None, "{name}"),
                    Err(error) => {
                        assert!(flag.value.is_some(), "{name}: {error}");
                        assert!(error.to_string().contains("needs a value"), "{name}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn balancer_only_without_balancers_is_refused() {
        assert!(load(&arguments(&["--client-access", "balancer-only"])).is_err());
    }
}
