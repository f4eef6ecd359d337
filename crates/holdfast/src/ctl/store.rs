//! `holdfast ctl store`: the controllers' store as a whole. `status` and a plain `export` ask the
//! controller; the rest works on the store itself, by the configuration of its controllers, because
//! nobody may lead from it meanwhile.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use api::rest::{StoreExport, StoreResealed, StoreSealing, StoreStatus};
use clap::Subcommand;
use controller::seal::{self, Keys};
use controller::store::{Has, held_in};
use controller::transfer::{self, Begun, How};
use reqwest::Method;
use serde_json::json;
use web::Settings as _;

use super::Context;
use super::table::{json, text};
use super::words::counted;
use crate::out;

/// Longest wait for all records to be written anew: there may be thousands.
const RESEAL_LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, Subcommand)]
pub(crate) enum StoreVerb {
    /// Show which store the controllers use, its generation and size, and who leads
    Status,
    /// Write all that the store holds to a new file, secrets of nodes and balancers included
    ///
    /// Secrets are sealed as in the store, so that the file is of use with its key alone. Made from
    /// one consistent read, with a checksum, readable by you alone. Asks the controller; with
    /// --config it reads the store itself, whose controller does not run where it is a file.
    Export {
        /// The file, which must not be there
        file: PathBuf,
        /// Secrets in clear, so that no key is needed to import them
        #[arg(long)]
        clear: bool,
        /// Configuration of the controllers whose store it is, in place of asking them
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Give the store up first, for whatever FILE is imported into: no controller ever leads
        /// from it again
        #[arg(long, requires = "config")]
        give_up: bool,
        /// Do it
        #[arg(long, requires = "give_up")]
        yes: bool,
    },
    /// Write each record anew whose secrets are not sealed with the key that seals now
    ///
    /// After the key file of the controllers was changed. Once it says that nothing is left, the
    /// old key is of no use any more but to older exports and backups.
    Reseal,
    /// Add a new key to a key file (`store_key_file`), or make the file
    ///
    /// The first key of a file seals, all of them open. Controllers read it when they start.
    Key {
        /// The file: of mode 0600, and of the controllers' user
        file: PathBuf,
        /// The new key opens only: for a file that goes to all controllers before one of them seals
        /// with it
        #[arg(long)]
        last: bool,
    },
    /// Put an export into the store of a configuration: an empty one, or an older generation of the
    /// same
    ///
    /// Nodes are asked first whether they hear a controller; then nothing is imported. The
    /// generation rises, and the terms with it, so that nodes refuse the old store's controllers.
    Import {
        /// The export
        file: PathBuf,
        /// Configuration of the controllers that are to lead from it; none of them leads yet
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Overwrite an older generation of the same store
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Move from one store to another: gives the first one up, then fills the second
    ///
    /// The controller of a file must be stopped; those of an etcd end by themselves. Without --yes
    /// nothing is changed. Each step is checked before the next, and the command can be made once
    /// more at any time.
    Migrate {
        /// Configuration of the controllers as they are
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Configuration of the controllers as they are to be
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Overwrite an older generation of the same store
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        nodes: Nodes,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
    /// Take a store up again that was given up, or whose controllers are refused by their nodes
    ///
    /// Only once all controllers of the other store are stopped for good. Its generation and terms
    /// rise above those of the other, and nodes that were led from a store of another name obey it
    /// from then on.
    Adopt {
        /// Configuration of its controllers
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        nodes: Nodes,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Nodes {
    /// Do not ask the nodes whether they hear a controller, because most of them are down
    #[arg(long)]
    without_nodes: bool,
}

pub(crate) async fn run(cx: &Context, verb: StoreVerb) -> Result<()> {
    let tell = |line: &str| {
        if !cx.json {
            out::say(line);
        }
    };
    match verb {
        StoreVerb::Status => status(cx).await,
        StoreVerb::Reseal => reseal(cx).await,
        StoreVerb::Key { file, last } => key(cx, &file, last),
        StoreVerb::Export { file, clear, config: None, .. } => {
            let path = if clear { "/store/export?clear=yes" } else { "/store/export" };
            let value = cx.http.call(Method::GET, path, None::<&()>).await?;
            let export: StoreExport = serde_json::from_value(value).context("read the export")?;
            keep(cx, &file, &export.file)
        }
        StoreVerb::Export { file, clear, config: Some(config), give_up, yes } => {
            let config = load(&config)?;
            let place = std::path::absolute(&file).context("find the file")?;
            let to = give_up.then(|| format!("the export {}", place.display()));
            if give_up && !yes {
                bail!(
                    "--give-up ends this store for good: no controller leads from it again; --yes does it. Nothing was changed"
                );
            }
            ensure!(!file.exists(), "{} is there already: say another file", file.display());
            let export = transfer::export_text(&config, to.as_deref(), clear, &tell).await?;
            keep(cx, &file, &export)
        }
        StoreVerb::Import { file, config, replace, nodes } => {
            let export = std::fs::read_to_string(&file)
                .with_context(|| format!("read {}", file.display()))?;
            let how = How { replace, without_nodes: nodes.without_nodes };
            let begun = transfer::import(&export, &load(&config)?, how, &tell).await;
            begins(cx, &begun.with_context(|| format!("import {}", file.display()))?)
        }
        StoreVerb::Migrate { from, to, replace, nodes, yes } => {
            let how = How { replace, without_nodes: nodes.without_nodes };
            let (from, to) = (load(&from)?, load(&to)?);
            if !yes {
                bail!(
                    "migrate ends the store of --from for good: no controller leads from it again; --yes does it. Nothing was changed"
                );
            }
            begins(cx, &transfer::migrate(&from, &to, how, &tell).await?)
        }
        StoreVerb::Adopt { config, nodes, yes } => {
            if !yes {
                bail!(
                    "adopt makes this the store that counts: only once all controllers of the other one are stopped for good; --yes does it. Nothing was changed"
                );
            }
            let how = How { replace: false, without_nodes: nodes.without_nodes };
            begins(cx, &transfer::adopt(&load(&config)?, how, &tell).await?)
        }
    }
}

fn load(file: &Path) -> Result<controller::Config> {
    let read = controller::Config::load(file).map_err(anyhow::Error::new);
    read.with_context(|| format!("configuration {}", file.display()))
}

async fn status(cx: &Context) -> Result<()> {
    let value = cx.http.call(Method::GET, "/store", None::<&()>).await?;
    if cx.json {
        return json(&value);
    }
    text(&told(&serde_json::from_value(value).context("read what the controller says")?))
}

fn told(status: &StoreStatus) -> String {
    let StoreStatus { kind, place, name, generation, format, term, .. } = status;
    let place = place.strip_prefix("etcd ").unwrap_or(place);
    let mut out = format!(
        "store       {kind}: {place}\nname        {name}\ngeneration  {generation}\nformat      {format}\nterm        {term}\n"
    );
    let leader = status.leader.as_deref().unwrap_or("the only controller");
    out.push_str(&format!("leader      {leader}\n"));
    let size = status
        .bytes
        .map_or_else(|| "unknown".to_owned(), |bytes| format!("{} KiB", bytes.div_ceil(1024)));
    out.push_str(&format!("size        {size}\n"));
    let namespaces =
        status.namespaces.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    out.push_str(&format!("namespaces  {namespaces}\nclusters    {}\n", status.clusters));
    if let Some(sealing) = &status.sealing {
        out.push_str(&secrets(sealing));
    }
    for (what, said) in [("origin", &status.origin), ("trouble", &status.trouble)] {
        if let Some(said) = said {
            out.push_str(&format!("{what:<10}  {said}\n"));
        }
    }
    out
}

/// How secrets lie in the store.
fn secrets(sealing: &StoreSealing) -> String {
    let StoreSealing { seals_with, opens_with, used, in_clear, behind } = sealing;
    let key = match seals_with {
        Some(key) => format!("seals with key {key}"),
        None => "in clear".to_owned(),
    };
    let others: Vec<&str> = (opens_with.iter().map(String::as_str))
        .filter(|id| seals_with.as_deref() != Some(*id))
        .collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("; also opens what is sealed with {}", others.join(", ")),
    };
    let mut out = format!("secrets     {key}{others}\n");
    let mut there: Vec<String> =
        used.iter().map(|(id, clusters)| format!("{clusters} sealed with {id}")).collect();
    if *in_clear > 0 {
        there.push(format!("{in_clear} in clear"));
    }
    if !there.is_empty() {
        out.push_str(&format!("            of clusters: {}\n", there.join(", ")));
    }
    if *behind > 0 {
        out.push_str(&format!("            {behind} to be sealed anew: `ctl store reseal`\n"));
    }
    out
}

async fn reseal(cx: &Context) -> Result<()> {
    let path = "/store/reseal";
    let value = cx.http.call_long(Method::POST, path, None::<&()>, RESEAL_LIMIT).await?;
    if cx.json {
        return json(&value);
    }
    let done: StoreResealed = serde_json::from_value(value).context("read what was done")?;
    text(&resealed(&done))
}

fn resealed(StoreResealed { seals_with, resealed, left }: &StoreResealed) -> String {
    let how = match seals_with {
        Some(key) => format!("sealed with key {key}"),
        None => "in clear: no key seals (`store_key_file`)".to_owned(),
    };
    let left = match left.is_empty() {
        true => "Nothing is left".to_owned(),
        false => format!("Left as they were, so make it once more: {}", left.join(", ")),
    };
    let clusters = counted(*resealed, "cluster");
    format!("{clusters} written anew, their secrets {how}. {left}\n")
}

/// Adds a key to a key file, or makes one. The file is as before, or as it is to be.
fn key(cx: &Context, file: &Path, is_last: bool) -> Result<()> {
    let old = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
    };
    let owner = std::fs::metadata(file).ok().map(|file| (file.uid(), file.gid()));
    // A link stays one: what it leads to is written.
    let place = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let (grown, id) = seal::grown(&old, is_last)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("read {}", file.display()))?;
    // The only key of a file is its first one, also where it was to be the last.
    let seals = Keys::parse(&grown).is_ok_and(|keys| keys.sealing() == Some(id.as_str()));
    let writing = || format!("write {}", file.display());
    let new = written(&place, &grown)?;
    if let Some((user, group)) = owner {
        // The controllers' user reads it, and perhaps another one makes keys.
        std::os::unix::fs::fchown(new.as_file(), Some(user), Some(group)).with_context(writing)?;
    }
    new.persist(&place).map_err(|error| error.error).with_context(writing)?;
    synced(&place)?;
    if cx.json {
        return json(&json!({ "file": file, "key": id, "seals": seals }));
    }
    let does = if seals { "seals" } else { "opens what others seal with it" };
    text(&format!(
        "{}: key {id} {does} once controllers are started with it (`store_key_file`). Keep a copy apart from those of the store: without it the store is lost\n",
        file.display()
    ))
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// A file beside this one with that text, on the disk. Its user's alone from the start.
fn written(file: &Path, content: &str) -> Result<tempfile::NamedTempFile> {
    let writing = || format!("write {}", file.display());
    let new = tempfile::Builder::new().prefix(".new-").tempfile_in(folder(file));
    let mut new = new.with_context(writing)?;
    new.write_all(content.as_bytes()).with_context(writing)?;
    new.as_file().sync_all().with_context(writing)?;
    Ok(new)
}

fn synced(file: &Path) -> Result<()> {
    let synced = std::fs::File::open(folder(file)).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("write {}", file.display()))
}

/// Writes an export where no file is, for this user alone, and says what is in it.
fn keep(cx: &Context, file: &Path, export: &str) -> Result<()> {
    let new = written(file, export)?;
    let kept = new.persist_noclobber(file).map_err(|error| error.error);
    kept.with_context(|| format!("write {}", file.display()))?;
    synced(file)?;
    let held = held_in(export).context("read the export")?;
    let sealed: BTreeSet<&str> = (held.iter())
        .filter_map(|one| match &one.has {
            Has::Sealed(key) => Some(key.as_str()),
            Has::None | Has::Clear | Has::Unread => None,
        })
        .collect();
    let is_clear = held.iter().any(|one| one.has == Has::Clear);
    if cx.json {
        let keys: Vec<&str> = sealed.into_iter().collect();
        let said = json!({
            "file": file, "bytes": export.len(), "clusters": held.len(), "sealed_with": keys, "in_clear": is_clear,
        });
        return json(&said);
    }
    text(&format!(
        "{}: {} KiB, {}. {}\n",
        file.display(),
        export.len().div_ceil(1024),
        counted(held.len(), "cluster"),
        holds(&sealed, is_clear)
    ))
}

/// What an export holds that is secret.
fn holds(sealed: &BTreeSet<&str>, is_clear: bool) -> String {
    let keys: Vec<&str> = sealed.iter().copied().collect();
    let keys = keys.join(", ");
    match (keys.is_empty(), is_clear) {
        (_, true) => {
            "It holds passwords of nodes or tokens of balancers in clear: keep it where only operators read".to_owned()
        }
        (false, false) => {
            format!("Passwords of nodes and tokens of balancers are sealed in it with key {keys}: keep that key too, and not beside it")
        }
        (true, false) => "It holds no password and no token".to_owned(),
    }
}

fn begins(cx: &Context, begun: &Begun) -> Result<()> {
    let Begun { place, beginning, clusters } = begun;
    let (identity, term) = (&beginning.identity, beginning.term);
    if cx.json {
        return json(&json!({
            "place": place, "name": identity.name, "generation": identity.generation,
            "term": term, "clusters": clusters,
        }));
    }
    text(&format!(
        "{place} is generation {} of store {}, with {} and terms above {term}: start its controllers\n",
        identity.generation,
        identity.name,
        counted(*clusters, "cluster")
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_there_is_is_told_line_by_line() {
        let status = StoreStatus {
            kind: "etcd".to_owned(),
            place: "etcd http://a:1 /holdfast/".to_owned(),
            name: "00000000000000ab".to_owned(),
            generation: 2,
            format: 1,
            term: 1_000_008,
            leader: Some("http://a:9379".to_owned()),
            bytes: Some(20_481),
            namespaces: None,
            clusters: 3,
            origin: Some("/var/lib/holdfast/controller.redb".to_owned()),
            trouble: None,
            sealing: Some(StoreSealing {
                seals_with: Some("new".to_owned()),
                opens_with: vec!["new".to_owned(), "old".to_owned()],
                used: BTreeMap::from([("old".to_owned(), 2)]),
                in_clear: 1,
                behind: 3,
            }),
        };
        let told = told(&status);
        for line in [
            "store       etcd: http://a:1 /holdfast/\n",
            "generation  2\n",
            "leader      http://a:9379\n",
            "size        21 KiB\n",
            "namespaces  unknown\n",
            "secrets     seals with key new; also opens what is sealed with old\n",
            "of clusters: 2 sealed with old, 1 in clear\n",
            "3 to be sealed anew: `ctl store reseal`\n",
            "origin      /var/lib/holdfast/controller.redb\n",
        ] {
            assert!(told.contains(line), "{told}");
        }
        assert!(!told.contains("trouble"), "{told}");
        let none = StoreSealing {
            seals_with: None,
            opens_with: Vec::new(),
            used: BTreeMap::new(),
            in_clear: 0,
            behind: 0,
        };
        assert_eq!(secrets(&none), "secrets     in clear\n");
    }

    #[test]
    fn an_export_says_what_of_it_is_secret() {
        let keys = BTreeSet::from(["ab", "cd"]);
        assert!(holds(&keys, false).contains("sealed in it with key ab, cd"));
        assert!(holds(&keys, true).contains("in clear"), "one is enough");
        assert_eq!(holds(&BTreeSet::new(), false), "It holds no password and no token");
    }

    #[test]
    fn what_was_resealed_and_what_is_left_is_told() {
        let done =
            StoreResealed { seals_with: Some("ab".to_owned()), resealed: 2, left: Vec::new() };
        let told = resealed(&done);
        assert_eq!(
            told,
            "2 clusters written anew, their secrets sealed with key ab. Nothing is left\n"
        );
        let left = StoreResealed { left: vec!["n/c".to_owned()], ..done };
        assert!(resealed(&left).contains("make it once more: n/c"));
    }
}
