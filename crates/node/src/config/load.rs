//! From command line and file to values, with errors that name the place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::options::{self, SetError, Values};
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
        let apart = values.check_tokens(&values.namespaces);
        return apart.map_err(|(name, why)| (name.to_owned(), why));
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

/// Options that keep strangers out. A line that names one and no value is what is left where a
/// variable was not set, or where a password begins with `#`.
const KEEP_OUT: [&str; 3] = ["requirepass", "peer-auth", "aclfile"];

fn alias(name: &str) -> &str {
    let known = ALIASES.iter().find(|(other, _)| name.eq_ignore_ascii_case(other));
    known.map_or(name, |(_, option)| option)
}

/// Whether each line of that name says something of its own.
fn is_repeated(name: &str) -> bool {
    [RENAME, file::USER, "client-output-buffer-limit"]
        .iter()
        .any(|repeated| name.eq_ignore_ascii_case(repeated))
        || file::namespace(name).is_some()
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
        if line.is_bare && KEEP_OUT.iter().any(|name| line.name.eq_ignore_ascii_case(name)) {
            let why = format!(
                "a value is needed, `{} \"\"` for none; one that begins with # goes in quotes, as a comment begins so",
                line.name
            );
            return Err(LoadError::Value { place: place(line.number), name: line.name, why });
        }
        apply(loaded, &place(line.number), &line.name, &line.value)?;
        let is_secret = options::find(&line.name).is_some_and(|option| option.is_secret);
        if line.is_cut && (is_secret || file::namespace(&line.name).is_some()) {
            loaded.warnings.push(format!(
                "{}: option `{}` ends before the #, where a comment begins: one that belongs to it goes in quotes",
                place(line.number),
                line.name
            ));
        }
    }
    Ok(())
}

fn apply(loaded: &mut Loaded, place: &str, name: &str, text: &str) -> Result<(), LoadError> {
    let name = alias(name);
    let before = loaded.places.insert(name.to_ascii_lowercase(), place.to_owned());
    if let Some(before) = before.filter(|_| place != COMMAND_LINE && !is_repeated(name)) {
        loaded
            .warnings
            .push(format!("{place}: option `{name}` stands in {before} too: the last one counts"));
    }
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
    text.push_str("\nOptions, as in the file (--sample says more of each):\n");
    let defaults = Values::default();
    for option in super::OPTIONS {
        let doc: Vec<&str> = option.doc.lines().map(str::trim).collect();
        let doc = doc.join(" ");
        let first = doc.split_once(". ").map_or(doc.as_str(), |(first, _)| first);
        let first = first.trim_end_matches('.');
        let default = defaults.get(option.name).unwrap_or_default();
        let name = option.name;
        text.push_str(&format!("  --{name:<44} {first}. [{default}]\n"));
    }
    text
}

#[cfg(test)]
mod tests;
