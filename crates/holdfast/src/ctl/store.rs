//! `holdfast ctl store`: the controllers' store as a whole. `status` and a plain `export` ask the controller; the rest works on the
//! store itself, by the configuration of its controllers, because nobody may lead from it meanwhile.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use api::rest::{StoreExport, StoreStatus};
use clap::Subcommand;
use controller::transfer::{self, Begun, How};
use reqwest::Method;
use serde_json::json;
use web::Settings as _;

use super::Context;
use super::table::{json, text};
use crate::out;

#[derive(Debug, Subcommand)]
pub(crate) enum StoreVerb {
    /// Show which store the controllers use, its generation and size, and who leads
    Status,
    /// Write all that the store holds to a new file, secrets of nodes and balancers included
    ///
    /// Made from one consistent read, with a checksum, readable by you alone. Asks the controller; with
    /// --config it reads the store itself, whose controller does not run where it is a file.
    Export {
        /// The file, which must not be there
        file: PathBuf,
        /// Configuration of the controllers whose store it is, in place of asking them
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Give the store up first, for whatever FILE is imported into: no controller ever leads from it again
        #[arg(long, requires = "config")]
        give_up: bool,
        /// Do it
        #[arg(long, requires = "give_up")]
        yes: bool,
    },
    /// Put an export into the store of a configuration: an empty one, or an older generation of the same
    ///
    /// Nodes are asked first whether they hear a controller; then nothing is imported. The generation
    /// rises, and the terms with it, so that nodes refuse the old store's controllers.
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
    /// The controller of a file must be stopped; those of an etcd end by themselves. Without --yes nothing
    /// is changed. Each step is checked before the next, and the command can be made once more at any time.
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
        StoreVerb::Export { file, config: None, .. } => {
            let value = cx.http.call(Method::GET, "/store/export", None::<&()>).await?;
            let export: StoreExport = serde_json::from_value(value).context("read the export")?;
            keep(cx, &file, &export.file)
        }
        StoreVerb::Export { file, config: Some(config), give_up, yes } => {
            let config = load(&config)?;
            let place = std::path::absolute(&file).context("find the file")?;
            let to = give_up.then(|| format!("the export {}", place.display()));
            if give_up && !yes {
                bail!(
                    "--give-up ends this store for good: no controller leads from it again; --yes does it. Nothing was changed"
                );
            }
            ensure!(!file.exists(), "{} is there already: say another file", file.display());
            let export = transfer::export(&config, to.as_deref(), &tell).await?;
            keep(cx, &file, &export.text()?)
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
    for (what, said) in [("origin", &status.origin), ("trouble", &status.trouble)] {
        if let Some(said) = said {
            out.push_str(&format!("{what:<10}  {said}\n"));
        }
    }
    out
}

/// Writes an export where no file is, for this user alone, and says what is in it.
fn keep(cx: &Context, file: &Path, export: &str) -> Result<()> {
    let writing = || format!("write {}", file.display());
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    // Its user's alone from the start.
    let mut new =
        tempfile::Builder::new().prefix(".export-").tempfile_in(folder).with_context(writing)?;
    new.write_all(export.as_bytes()).with_context(writing)?;
    new.as_file().sync_all().with_context(writing)?;
    new.persist_noclobber(file).map_err(|error| error.error).with_context(writing)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(writing)?;
    if cx.json {
        return json(&json!({ "file": file, "bytes": export.len() }));
    }
    text(&format!(
        "{}: {} KiB. It holds the passwords of nodes and balancers: keep it where only operators read\n",
        file.display(),
        export.len().div_ceil(1024)
    ))
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
        "{place} is generation {} of store {}, with {clusters} clusters and terms above {term}: start its controllers\n",
        identity.generation, identity.name
    ))
}

#[cfg(test)]
mod tests {
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
        };
        let told = told(&status);
        for line in [
            "generation  2\n",
            "leader      http://a:9379\n",
            "size        21 KiB\n",
            "namespaces  unknown\n",
            "origin      /var/lib/holdfast/controller.redb\n",
        ] {
            assert!(told.contains(line), "{told}");
        }
        assert!(!told.contains("trouble"), "{told}");
    }
}
