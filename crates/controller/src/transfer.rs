//! Moving all that a store holds to another one, for tools: export, import, migration, adoption
//! (rule O7).
//!
//! Invariant: after any step, of two stores of one name at most one is led from. The old one is
//! marked durably before the new one gets its first byte, the new one can be led from only with its
//! last one, and every command can be repeated. A store that begins has terms above all that its
//! nodes have seen, so that nodes refuse whoever still leads by a copy.
//!
//! Each step is checked before the next: a failure leaves what the words of its error say. Whether
//! the new place can take all of it is tried before anything is changed. What was done is an event
//! in the store that begins.

mod content;
mod decide;
mod nodes;
mod place;
mod told;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use web::tls::Tls;

use self::decide::Next;
use self::nodes::Heard;
pub(crate) use self::nodes::newest;
use crate::Live;
use crate::config::{Config, Kind};
use crate::events::now_ms;
use crate::store::{At, Beginning, Export, Found, GivenUp, Idle, Place};

/// Limit of a call to an etcd: nobody waits for these, and they read and write much.
const LIMIT: Duration = Duration::from_secs(10);

/// Tells an operator how far it is.
pub type Say<'a> = &'a dyn Fn(&str);

/// What an operator says beside.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// An older generation of the same store at the target may be overwritten.
    pub replace: bool,
    /// Nodes are not asked whether they hear a controller.
    pub without_nodes: bool,
}

/// What there is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Where.
    pub place: String,
    /// What it is called, and its terms.
    pub beginning: Beginning,
    /// How many clusters it has.
    pub clusters: usize,
}

/// A store that is worked on, and by what its nodes are asked.
struct Side {
    idle: Idle,
    is_file: bool,
    tls: Arc<Tls>,
    heartbeat_ms: u64,
}

impl Side {
    async fn open(config: &Config) -> Result<Self> {
        let tls = Arc::clone(Live::new(config.clone())?.tls());
        let is_file = config.store == Kind::Embedded;
        let at = if is_file {
            // A mark is read later, perhaps from another folder.
            let data = std::path::absolute(&config.data).context("find the `data` file")?;
            At::File(data, Arc::clone(&config.store_keys))
        } else {
            let place = config.place(&tls)?;
            At::Etcd(Place { limit: LIMIT.max(place.limit), ..place })
        };
        let idle = Idle::open(at).await?;
        Ok(Self { idle, is_file, tls, heartbeat_ms: config.heartbeat_ms })
    }

    fn place(&self) -> String {
        self.idle.place().to_owned()
    }

    async fn found(&mut self) -> Result<Found> {
        self.idle.found().await.with_context(|| format!("look at {}", self.idle.place()))
    }

    async fn export(&self) -> Result<Export> {
        self.idle.export().await.with_context(|| format!("read {}", self.idle.place()))
    }

    /// Marks it, if it is not marked so already; that a mark is for this very place was looked at.
    async fn give_up(&mut self, found: &Found, mark: GivenUp) -> Result<()> {
        let is_marked = |old: &GivenUp| old.generation == mark.generation && old.term >= mark.term;
        if found.given_up.as_ref().is_some_and(is_marked) {
            return Ok(());
        }
        let done = self.idle.give_up(found, &mark).await;
        done.with_context(|| {
            format!(
                "mark {} as given up: whether it is, is not certain; make this command once more, or `holdfast ctl store adopt`",
                self.idle.place()
            )
        })
    }

    /// Whether all of that could be led from, and be put here.
    async fn can_take(&self, export: &Export) -> Result<()> {
        let refused = "nothing was changed: no controller could lead from what is to be moved";
        content::check(export).map_err(anyhow::Error::msg).context(refused)?;
        self.idle.try_out(export).await.with_context(|| format!("try out {}", self.idle.place()))
    }

    /// Puts the content there, with an event that says so, and looks whether it is.
    async fn fill(
        &mut self,
        found: &Found,
        export: &Export,
        beginning: Beginning,
    ) -> Result<Begun> {
        let place = self.place();
        let unfinished = || format!("import into {place}: it has not ended, make it once more");
        let export = told::imported(export, &beginning);
        self.idle.fill(found, &export, &beginning).await.with_context(unfinished)?;
        let read = self.export().await?;
        // Controllers that waited for it may have begun already, and changed something.
        let is_led = read.term > beginning.term;
        ensure!(
            read.identity == beginning.identity && (is_led || read.has_the_content_of(&export)),
            "{place} does not hold what was put there: do others write to it?"
        );
        Ok(Begun { place, beginning, clusters: export.clusters.len() })
    }
}

/// All that the store of this configuration holds, secrets opened; no controller runs on its file.
/// With `give_up_for` the store is given up first, for what it says: from then on nobody leads from
/// it.
///
/// # Errors
/// It cannot be read, or not be given up.
pub async fn export(config: &Config, give_up_for: Option<&str>, say: Say<'_>) -> Result<Export> {
    let mut side = Side::open(config).await?;
    let (found, place) = (side.found().await?, side.place());
    if let Some(to) = give_up_for {
        // What cannot be opened is not given up.
        side.export().await?;
        let identity =
            decide::source(&found, &place, goes_on(&found, to)).map_err(anyhow::Error::msg)?;
        let generation = decide::after(identity.generation);
        let (to, term) = (to.to_owned(), decide::most(found.term));
        side.give_up(&found, GivenUp { to, generation, term, at_ms: now_ms() }).await?;
        say(&format!("{place} is given up: no controller leads from it any more"));
    }
    ensure!(!decide::is_empty(&found), "{place} holds no cluster and no namespace");
    side.export().await
}

/// The same as a text, with its secrets sealed as in the store. With `may_be_clear` they are in
/// clear.
///
/// # Errors
/// As [`export`]; or no key seals there, and nobody has said that secrets may be in clear: then
/// nothing was changed.
pub async fn export_text(
    config: &Config,
    give_up_for: Option<&str>,
    may_be_clear: bool,
    say: Say<'_>,
) -> Result<String> {
    let keys = if may_be_clear { Arc::default() } else { Arc::clone(&config.store_keys) };
    if !may_be_clear && keys.sealing().is_none() {
        let side = Side::open(config).await?;
        ensure!(
            !side.export().await?.has_secrets(),
            "no key seals the secrets of {} (`store_key_file`), so passwords of nodes and tokens of balancers would be written in clear: --clear asks for that. Nothing was changed",
            side.place()
        );
    }
    Ok(export(config, give_up_for, say).await?.text_with(&keys)?)
}

/// Puts an export into the store of this configuration, from which no controller leads. What is
/// sealed in it must open with the keys of the configuration, by which it is sealed there.
///
/// # Errors
/// The text is no export, the store is not to be overwritten, nodes hear a controller.
pub async fn import(text: &str, config: &Config, how: How, say: Say<'_>) -> Result<Begun> {
    let export = Export::parse_with(text, &config.store_keys)?;
    let mut side = Side::open(config).await?;
    let (found, place) = (side.found().await?, side.place());
    let next = decide::target(&export.identity, None, &found, &place, how.replace);
    let Next::Fill(generation) = next.map_err(anyhow::Error::msg)? else {
        anyhow::bail!("{place} has that content already");
    };
    side.can_take(&export).await?;
    let heard = heard(&export, &side, how, say).await?;
    let known = export.term.max(known_by(&found)).max(heard.term);
    let term = decide::term(known, rand::random());
    let generation = decide::generation(generation, &export.identity.name, &heard.stores);
    let origin = format!("an export of {}", export.from);
    let beginning = beginning(&export, (generation, term), origin, &heard, say);
    let begun = side.fill(&found, &export, beginning).await?;
    say(&format!("{place} holds it"));
    Ok(begun)
}

/// Gives the store of `from` up for that of `to`, and moves its content there.
///
/// # Errors
/// One of the two is not what it must be, nodes hear another controller, a disk or an etcd fails.
/// Made once more, it goes on where it was.
pub async fn migrate(from: &Config, to: &Config, how: How, say: Say<'_>) -> Result<Begun> {
    let (one, other) = (said(from)?, said(to)?);
    ensure!(!place::is_same(&one, &other), "both configurations say the same place: {one}");
    ensure!(
        from.store_keys.sealing().is_none() || !to.store_keys.is_none(),
        "secrets are sealed in {one}, and would lie in clear in {other}: name a `store_key_file` there, too. Nothing was changed"
    );
    let mut source = Side::open(from).await?;
    let mut target = Side::open(to).await?;
    let (from, to) = (source.place(), target.place());
    let found = source.found().await?;
    let identity =
        decide::source(&found, &from, goes_on(&found, &to)).map_err(anyhow::Error::msg)?;
    let mark = found.given_up.as_ref().map(|mark| mark.generation);
    let there = target.found().await?;
    let next = decide::target(&identity, mark, &there, &to, how.replace);
    let before = source.export().await?;
    let generation = match next.map_err(anyhow::Error::msg)? {
        Next::Fill(generation) => generation,
        Next::Done => {
            say(&format!("{to} holds it already"));
            let origin = from;
            let identity = there.identity.unwrap_or(identity);
            let beginning = Beginning { identity, term: there.term, origin, takes: Vec::new() };
            return Ok(Begun { place: to, beginning, clusters: there.clusters });
        }
    };
    target.can_take(&before).await?;
    say(&format!("{from} has {} clusters, {to} can take them", before.clusters.len()));
    let heard = heard_before_a_mark(&source, (&before, &found), how, say).await?;
    let known = before.term.max(known_by(&there)).max(found.term).max(heard.term);
    let term = decide::begins_with(&found, known, rand::random());
    let generation = decide::generation(generation, &identity.name, &heard.stores);
    source.give_up(&found, GivenUp { to: to.clone(), generation, term, at_ms: now_ms() }).await?;
    say(&format!("{from} is given up: no controller leads from it any more"));
    // From here on nothing changes in it.
    let export = source.export().await?;
    // A controller that leads at the other place may have gone on meanwhile.
    let there = target.found().await?;
    let next = decide::target(&identity, Some(generation), &there, &to, how.replace);
    let is_as_before = next.map_err(anyhow::Error::msg)? == Next::Fill(generation);
    ensure!(
        is_as_before && known_by(&there).max(export.term) <= term,
        "{to} has changed meanwhile: make this command once more"
    );
    let beginning = beginning(&export, (generation, term), from, &heard, say);
    let begun = target.fill(&there, &export, beginning).await?;
    say(&format!("{to} holds it"));
    Ok(begun)
}

/// Takes the store of this configuration up again, whether it was given up or its nodes refuse its
/// controllers: its generation and terms are above those of any other with its name.
///
/// # Errors
/// It is empty, or not whole; nodes hear a controller.
pub async fn adopt(config: &Config, how: How, say: Say<'_>) -> Result<Begun> {
    let mut side = Side::open(config).await?;
    let (found, place) = (side.found().await?, side.place());
    // Whatever it was given up for.
    let identity = decide::source(&found, &place, true).map_err(anyhow::Error::msg)?;
    let export = side.export().await?;
    let heard = heard(&export, &side, how, say).await?;
    let others = found.given_up.as_ref().map_or(0, |mark| mark.generation);
    let generation = decide::after(identity.generation.max(others));
    let origin = format!("generation {} of {place}", identity.generation);
    let term = decide::term(known_by(&found).max(heard.term), rand::random());
    let generation = decide::generation(generation, &identity.name, &heard.stores);
    let beginning = beginning(&export, (generation, term), origin, &heard, say);
    let done = side.idle.adopt(&beginning, &told::adopted(&beginning)).await;
    done.with_context(|| format!("adopt {place}: make this command once more"))?;
    Ok(Begun { place, beginning, clusters: export.clusters.len() })
}

/// Whether what it was given up for is `to`.
fn goes_on(found: &Found, to: &str) -> bool {
    found.given_up.as_ref().is_some_and(|mark| place::is_same(&mark.to, to))
}

/// The highest term that this store has seen, or one that was made of it began with.
fn known_by(found: &Found) -> u64 {
    found.term.max(decide::begun_elsewhere(found))
}

/// A place as a store there says it.
fn said(config: &Config) -> Result<String> {
    Ok(match config.store {
        Kind::Embedded => {
            let path = std::path::absolute(&config.data).context("find the `data` file")?;
            path.display().to_string()
        }
        Kind::Etcd => format!("etcd {} {}", config.etcd_endpoints.join(","), config.etcd_prefix),
    })
}

/// An etcd's controllers may run: the mark ends them. A file's do not; who is heard all the same
/// leads by another store.
async fn heard_before_a_mark(
    source: &Side,
    (export, found): (&Export, &Found),
    how: How,
    say: Say<'_>,
) -> Result<Heard> {
    if source.is_file || how.without_nodes {
        return heard(export, source, how, say).await;
    }
    let heard = nodes::ask_once(&export.clusters, &source.tls).await;
    say(&format!("{} of {} nodes say what they have obeyed", heard.terms.len(), heard.nodes));
    if let Some(told) = heard.beyond(found.term) {
        say(&told);
    }
    Ok(heard)
}

async fn heard(export: &Export, side: &Side, how: How, say: Say<'_>) -> Result<Heard> {
    if how.without_nodes {
        return Ok(Heard::default());
    }
    let heard = nodes::ask(&export.clusters, &side.tls, side.heartbeat_ms).await;
    heard.check().map_err(anyhow::Error::msg)?;
    let (nodes, silent) = (heard.nodes, heard.silent.len());
    say(&format!("{} of {nodes} nodes say that they hear no controller", nodes - silent));
    Ok(heard)
}

/// What begins, and whose place it takes.
fn beginning(
    export: &Export,
    (generation, term): (u64, u64),
    origin: String,
    heard: &Heard,
    say: Say<'_>,
) -> Beginning {
    let identity = crate::store::Identity { generation, ..export.identity.clone() };
    let takes = decide::takes(&identity.name, &heard.stores);
    for taken in &takes {
        say(&format!("nodes were led from {}: it takes the place of that one", taken.told()));
    }
    Beginning { identity, term, origin, takes }
}
