//! From command line and file to values, with errors that name the place.

use std::path::{Path, PathBuf};

use super::file;
use super::options::{SetError, Values, find};

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
}

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
    #[error(
        "{path}, line {line}: a quote is not closed, or something other than a comment follows it"
    )]
    Quote {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        line: usize,
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
    /// The command line itself is wrong.
    #[error("{0}; see `holdfast node --help`")]
    Usage(String),
}

/// Reads the arguments behind `holdfast node`.
pub fn load(arguments: &[String]) -> Result<Request, LoadError> {
    let mut path = None;
    let mut overrides = Vec::new();
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
            "-c" | "--config" => path = Some(PathBuf::from(value("-c")?)),
            option if option.starts_with("--") => match option[2..].split_once('=') {
                Some((name, text)) => overrides.push((name.to_owned(), text.to_owned())),
                None => overrides.push((option[2..].to_owned(), value(option)?)),
            },
            other => return Err(LoadError::Usage(format!("unexpected argument `{other}`"))),
        }
    }
    let mut loaded = Loaded { values: Values::default(), file: None, warnings: Vec::new() };
    if let Some(path) = path {
        read_file(&path, &mut loaded)?;
        loaded.file = Some(path.canonicalize().unwrap_or(path));
    }
    for (name, text) in overrides {
        apply(&mut loaded, "command line", &name, &text)?;
    }
    consistent(&loaded.values)?;
    Ok(Request::Start(Box::new(loaded)))
}

/// Accepted because Kvrocks' files have them.
const WITHOUT_EFFECT: [&str; 2] = ["replication-group-sync", "slave-empty-db-before-fullsync"];

fn read_file(path: &Path, loaded: &mut Loaded) -> Result<(), LoadError> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| LoadError::Read { path: path.to_owned(), cause })?;
    let lines =
        file::parse(&text).map_err(|line| LoadError::Quote { path: path.to_owned(), line })?;
    for line in lines {
        let place = format!("{}, line {}", path.display(), line.number);
        apply(loaded, &place, &line.name, &line.value)?;
    }
    Ok(())
}

fn apply(loaded: &mut Loaded, place: &str, name: &str, text: &str) -> Result<(), LoadError> {
    let value_error =
        |why: String| LoadError::Value { place: place.to_owned(), name: name.to_owned(), why };
    let alias = match name {
        "replicaof" => "slaveof",
        other => other,
    };
    if alias.eq_ignore_ascii_case("rename-command") {
        let (from, to) = text.split_once(' ').unwrap_or((text, ""));
        // As in Kvrocks two quotes are the empty name here, which switches the command off.
        let to = to.trim().trim_matches('"');
        loaded.values.renamed_commands.push((from.to_ascii_lowercase(), to.to_ascii_lowercase()));
        return Ok(());
    }
    match loaded.values.set(alias, text) {
        Ok(()) => {
            if WITHOUT_EFFECT.contains(&alias) && loaded.values.get(alias).as_deref() == Some("yes")
            {
                loaded.warnings.push(format!("{place}: option `{name}` has no effect"));
            }
            Ok(())
        }
        Err(SetError::Unknown) => {
            loaded.warnings.push(format!("{place}: unknown option `{name}` is ignored"));
            Ok(())
        }
        Err(error) => Err(value_error(error.to_string())),
    }
}

/// Combinations that cannot work.
fn consistent(values: &Values) -> Result<(), LoadError> {
    let refuse = |name: &str, why: &str| {
        Err(LoadError::Value { place: "configuration".into(), name: name.into(), why: why.into() })
    };
    if values.bind.0.is_empty() {
        return refuse("bind", "at least one address is needed");
    }
    if values.client_access == api::heartbeat::ClientAccess::BalancerOnly {
        if values.balancer_sources.0.is_empty() {
            return refuse(
                "client-access",
                "balancer-only needs balancer-sources, or no client could ever come",
            );
        }
        if values.peer_auth.is_empty() {
            return refuse(
                "client-access",
                "balancer-only needs peer-auth, or no peer or controller could ever come",
            );
        }
    }
    if values.cluster_enabled && !values.slaveof.is_empty() {
        return refuse("slaveof", "in cluster mode the topology decides who replicates from whom");
    }
    Ok(())
}

fn help() -> String {
    let mut text = String::from(
        "Starts a data node.\n\n\
         Usage: holdfast node [-c FILE] [--OPTION VALUE]…\n\n\
         \x20 -c, --config FILE   configuration file, Kvrocks' format\n\
         \x20     --sample        print a sample file with every option and its default\n\
         \x20 -v, --version       print the version\n\
         \x20 -h, --help          print this\n\n\
         Options (as in the file):\n",
    );
    let defaults = Values::default();
    for option in super::OPTIONS {
        let first = option.doc.lines().next().unwrap_or_default().trim();
        let default = defaults.get(option.name).unwrap_or_default();
        let name = option.name;
        text.push_str(&format!("  --{name:<44} {first} [{default}]\n"));
    }
    text
}

/// True for names that `find` knows; for callers that only want to ask.
pub fn is_known(name: &str) -> bool {
    find(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_command_line_wins_and_unknown_names_only_warn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.conf");
        std::fs::write(&path, "port 1000\nlater-option x\n").unwrap();
        let request = load(&arguments(&["-c", path.to_str().unwrap(), "--port", "2000"])).unwrap();
        let Request::Start(loaded) = request else { panic!("expected a start") };
        assert_eq!((loaded.values.port, loaded.warnings.len()), (2000, 1));
        assert!(loaded.warnings[0].ends_with("line 2: unknown option `later-option` is ignored"));
    }

    #[test]
    fn balancer_only_without_balancers_is_refused() {
        assert!(load(&arguments(&["--client-access", "balancer-only"])).is_err());
    }
}
