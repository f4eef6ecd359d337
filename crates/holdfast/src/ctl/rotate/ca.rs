//! `ctl rotate ca`: one CA takes the place of another, without a connection that is refused.
//!
//! Files of certificates lie on hosts, and `ctl` copies none: it says which file is to be changed
//! next, by what each process has in force, or has a command of the operator's do it and waits
//! until the process says so. What is to be done is made anew from what is seen, so a run may end
//! anywhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use api::rest::{CertificateHolder, CertificateHolders, Clusters, Namespaces};
use serde_json::json;
use web::trust::MORE;

use super::super::table::json as print_json;
use super::super::{Context, well};
use super::authorities::{Both, Progress, Task, What, name, progress};

/// Longest wait for a process that was told of another file, unless --timeout is said.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// For how long each cluster must be well before the next file is changed.
const STEADY: Duration = Duration::from_secs(2);
/// Longest wait until it is.
const WELL: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(crate) struct Ca {
    /// Certificates of the CA that goes, PEM
    #[arg(long, value_name = "FILE")]
    old: PathBuf,
    /// Certificates of the CA that comes, PEM
    #[arg(long, value_name = "FILE")]
    new: PathBuf,
    /// Whatever connects from elsewhere, or is connected to, knows the new CA: certificates are
    /// replaced
    #[arg(long)]
    replace: bool,
    /// It also shows certificates of the new CA: the old one is removed
    #[arg(long)]
    finish: bool,
    /// Command that changes one file and has its process read it again, run by `sh -c`:
    /// HOLDFAST_STEP is accept, replace or forget, HOLDFAST_KIND node, balancer or controller,
    /// HOLDFAST_NAME its address, URL, or NAMESPACE/CLUSTER/NAME of a balancer, HOLDFAST_OPTION the
    /// option that names the file
    #[arg(long, value_name = "COMMAND")]
    hook: Option<String>,
    /// Do it; without, it says what is to be done
    #[arg(long, requires = "hook")]
    run: bool,
}

/// A rotation of all that the controllers know.
struct Rotation<'a> {
    cx: &'a Context,
    old: Vec<String>,
    new: Vec<String>,
    /// Nothing is done that comes after.
    last: What,
    /// All of them: `namespace/name`, and the path.
    clusters: Vec<(String, String)>,
}

pub(crate) async fn run(cx: &Context, ca: Ca) -> Result<()> {
    let (old, new) = (authorities("--old", &ca.old)?, authorities("--new", &ca.new)?);
    if let Some(why) = (Both { old: &old, new: &new }).trouble() {
        bail!("{} and {}: {why}", ca.old.display(), ca.new.display());
    }
    let last = match (ca.finish, ca.replace) {
        (true, _) => What::Forget,
        (false, true) => What::Replace,
        (false, false) => What::Accept,
    };
    let rotation = Rotation { cx, old, new, last, clusters: all_clusters(cx).await? };
    let Some(hook) = ca.hook.filter(|_| ca.run) else {
        let holders = rotation.holders().await?;
        return rotation.show(&holders, &rotation.progress(&holders));
    };
    let limit = cx.http.limit_or(PATIENCE);
    loop {
        rotation.are_well(Duration::ZERO).await.context("nothing more is changed")?;
        let (holders, seen) = rotation.look().await?;
        let Some(task) = seen.tasks.first() else { return rotation.show(&holders, &seen) };
        let of = holders.get(task.at).context("a process that is gone")?;
        let status = command(&hook, task, of, cx.json).status().context("run the hook")?;
        ensure!(status.success(), "the hook for {} ends with {status}", line(task, of));
        rotation.is_done(task, of, limit).await?;
        if !cx.json {
            cx.say(&format!("done: {}", line(task, of)))?;
        }
        rotation.are_well(STEADY).await.context("nothing more is changed")?;
    }
}

/// What the CAs in a file are called.
fn authorities(flag: &'static str, file: &Path) -> Result<Vec<String>> {
    let roots = web::certs::roots([(flag, file)])?;
    let names: Vec<String> = roots.trust.into_iter().flat_map(|of| of.accepts).collect();
    ensure!(
        !names.iter().any(|name| name == MORE),
        "{flag} {}: more than 16 CAs: give those alone that go, or come",
        file.display()
    );
    Ok(names)
}

async fn all_clusters(cx: &Context) -> Result<Vec<(String, String)>> {
    let known: Namespaces = cx.http.get("/namespaces").await?;
    let mut all = Vec::new();
    for namespace in known.namespaces {
        let base = format!("/namespaces/{namespace}/clusters");
        let clusters: Clusters = cx.http.get(&base).await?;
        let of = |name: &String| (format!("{namespace}/{name}"), format!("{base}/{name}"));
        all.extend(clusters.clusters.iter().map(of));
    }
    Ok(all)
}

/// A name that no other process has: balancers of two clusters may be called alike.
fn named(cluster: &str, holder: CertificateHolder) -> CertificateHolder {
    match holder.kind.as_str() {
        "balancer" => CertificateHolder { name: format!("{cluster}/{}", holder.name), ..holder },
        _ => holder,
    }
}

fn line(task: &Task, of: &CertificateHolder) -> String {
    format!("{}: {} `{}`", name(of), task.what.about(), task.option)
}

/// The hook, for one file. Where standard output has JSON, what it says goes elsewhere.
fn command(hook: &str, task: &Task, of: &CertificateHolder, is_json: bool) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", hook]).stdin(Stdio::null());
    if is_json {
        command.stdout(std::io::stderr());
    }
    for (name, value) in [
        ("HOLDFAST_STEP", task.what.word()),
        ("HOLDFAST_KIND", of.kind.as_str()),
        ("HOLDFAST_NAME", of.name.as_str()),
        ("HOLDFAST_OPTION", task.option.as_str()),
    ] {
        command.env(name, value);
    }
    command
}

impl Rotation<'_> {
    /// All processes: nodes and balancers by what the controller knows of them, controllers by
    /// themselves.
    async fn holders(&self) -> Result<Vec<CertificateHolder>> {
        let mut all = Vec::new();
        for (cluster, path) in &self.clusters {
            let of: CertificateHolders = self.cx.http.get(&format!("{path}/certificates")).await?;
            all.extend(of.holders.into_iter().map(|holder| named(cluster, holder)));
        }
        for (url, own) in self.cx.http.each("/certificates").await {
            let told = own.ok().and_then(|value| serde_json::from_value(value).ok());
            let told: Option<CertificateHolder> = told;
            let silent = || CertificateHolder {
                kind: "controller".to_owned(),
                name: String::new(),
                told: false,
                certificates: Vec::new(),
                trust: Vec::new(),
            };
            // As it is reached from here.
            all.push(CertificateHolder { name: url, ..told.unwrap_or_else(silent) });
        }
        Ok(all)
    }

    fn progress(&self, holders: &[CertificateHolder]) -> Progress {
        progress(holders, Both { old: &self.old, new: &self.new }, self.last)
    }

    /// What there is, and what is next. A process that is silent for a moment ends no run.
    async fn look(&self) -> Result<(Vec<CertificateHolder>, Progress)> {
        let end = Instant::now() + STEADY;
        loop {
            let holders = self.holders().await?;
            let seen = self.progress(&holders);
            if seen.unknown.is_empty() || Instant::now() >= end {
                return Ok((holders, seen));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the process says that it has the file as it is to be.
    async fn is_done(&self, task: &Task, of: &CertificateHolder, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let holders = self.holders().await?;
            let at = holders.iter().position(|one| (&one.kind, &one.name) == (&of.kind, &of.name));
            let is_left = |left: &Task| Some(left.at) == at && left.option == task.option;
            let seen = self.progress(&holders);
            if seen.unknown.is_empty()
                && !seen.tasks.iter().any(|left| left.what == task.what && is_left(left))
            {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "after the hook nothing has changed: {}. Has the process read its files again (SIGHUP)? Its log says why not",
                line(task, of)
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn are_well(&self, steady: Duration) -> Result<()> {
        for (_, path) in &self.clusters {
            well::wait(self.cx, path, well::obeys, (steady, WELL)).await?;
        }
        Ok(())
    }

    fn show(&self, holders: &[CertificateHolder], seen: &Progress) -> Result<()> {
        if self.cx.json {
            let task = |task: &Task| {
                let of = holders.get(task.at)?;
                Some(json!({
                    "step": task.what.word(), "kind": of.kind, "name": of.name, "option": task.option,
                }))
            };
            let tasks: Vec<_> = seen.tasks.iter().filter_map(task).collect();
            return print_json(&json!({
                "accepting": seen.accepting, "replaced": seen.replaced,
                "remembering": seen.remembering, "others": seen.others, "tasks": tasks,
                "unknown": seen.unknown,
                "warnings": seen.warnings, "done": seen.is_done(),
            }));
        }
        self.cx.say(&told(holders, seen, self.last))
    }
}

/// How far it is, and what is to be done now.
fn told(holders: &[CertificateHolder], seen: &Progress, last: What) -> String {
    if seen.is_nothing() && seen.unknown.is_empty() {
        return "Nothing here knows either CA, and no certificate is of one: are these the right files?"
            .to_owned();
    }
    let ((accepting, files), (replaced, certificates)) = (seen.accepting, seen.replaced);
    let mut words = format!(
        "{accepting} of {files} files know the new CA, {replaced} of {certificates} certificates are of it, {} files know the old one.",
        seen.remembering
    );
    if let Some(first) = seen.others.first() {
        words.push_str(&format!(
            "\n{} certificates are of neither CA, the first is {first}: see that others know theirs.",
            seen.others.len()
        ));
    }
    for warning in &seen.warnings {
        words.push_str(&format!("\nWARNING: {warning}."));
    }
    for unknown in &seen.unknown {
        words.push_str(&format!("\nNot known: {unknown}."));
    }
    let lines: Vec<String> =
        (seen.tasks.iter()).filter_map(|task| Some(line(task, holders.get(task.at)?))).collect();
    let next = match seen.tasks.first().map(|task| task.what) {
        _ if !seen.unknown.is_empty() => "Nothing is to be changed until all is known.".to_owned(),
        Some(What::Accept | What::Replace) => format!(
            "Now, and then SIGHUP each (`systemctl reload`); give this command again for what comes next:\n{}",
            lines.join("\n")
        ),
        Some(What::Forget) => format!("Now, and then SIGHUP each, and it is done:\n{}", lines.join("\n")),
        None if seen.is_done() => "Done: nothing here knows the old CA any more.".to_owned(),
        None if last < What::Replace && replaced < certificates => "All files here know the new CA. Clients, scrapes, etcd, HAProxy and ctl itself are not seen from here, and must know the new CA now: once they do, give the command again with --replace.".to_owned(),
        None if last < What::Forget => "All certificates here are of the new CA. Clients, scrapes, etcd, HAProxy and ctl itself are not seen from here: once they know the new CA, and show certificates of it, give the command again with --finish.".to_owned(),
        None => "Nothing is to be done.".to_owned(),
    };
    words.push('\n');
    words.push_str(&next);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_next_is_said_with_the_file_and_the_process() {
        let node = CertificateHolder {
            kind: "node".to_owned(),
            name: "10.0.0.1:6666".to_owned(),
            told: true,
            certificates: Vec::new(),
            trust: Vec::new(),
        };
        let task = Task { what: What::Accept, at: 0, option: "tls-ca-cert-file".to_owned() };
        let seen = Progress {
            tasks: vec![task],
            accepting: (1, 2),
            replaced: (0, 2),
            remembering: 2,
            ..Progress::default()
        };
        let words = told(std::slice::from_ref(&node), &seen, What::Accept);
        assert!(words.starts_with("1 of 2 files know the new CA, 0 of 2 certificates"), "{words}");
        let line = "node 10.0.0.1:6666: add the new CA to the file of `tls-ca-cert-file`";
        assert!(words.ends_with(line), "{words}");
        let waits = Progress { tasks: Vec::new(), accepting: (2, 2), ..seen };
        let words = told(&[], &waits, What::Accept);
        assert!(words.contains("must know the new CA now") && words.contains("--replace"));
        let waits = Progress { replaced: (2, 2), ..waits };
        assert!(told(&[], &waits, What::Replace).contains("--finish"));
        let unknown = Progress { unknown: vec!["node x does not answer".to_owned()], ..waits };
        let words = told(&[], &unknown, What::Forget);
        assert!(words.contains("Not known: node x") && words.contains("until all is known"));
        assert!(told(&[], &Progress::default(), What::Forget).contains("the right files"));
    }

    #[test]
    fn balancers_of_two_clusters_that_are_called_alike_are_two() {
        let holder = |kind: &str| CertificateHolder {
            kind: kind.to_owned(),
            name: "lb1".to_owned(),
            told: true,
            certificates: Vec::new(),
            trust: Vec::new(),
        };
        assert_eq!(named("prod/a", holder("balancer")).name, "prod/a/lb1");
        assert_eq!(named("prod/b", holder("balancer")).name, "prod/b/lb1");
        assert_eq!(named("prod/a", holder("node")).name, "lb1");
    }
}
