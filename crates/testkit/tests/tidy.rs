//! The rules of the source tree that a compiler does not know: who may depend on whom, and what no
//! file may contain.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

#[path = "tidy/comments.rs"]
mod comments;
#[path = "tidy/contents.rs"]
mod contents;

/// What each crate may name of ours, outside its tests. What is missing here must not be depended
/// on.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("resp", &[]),
    ("rdb", &[]),
    ("json", &[]),
    ("topology", &[]),
    ("replication", &["api"]),
    ("api", &["topology"]),
    ("grant", &["api", "topology"]),
    ("planner", &["api", "grant", "topology"]),
    ("model", &["api", "grant", "planner", "replication", "topology"]),
    ("limits", &[]),
    ("metrics", &[]),
    ("web", &["limits"]),
    ("storage", &["json", "limits", "rdb", "replication", "topology"]),
    ("balancer", &["api", "limits", "metrics", "topology", "web"]),
    ("controller", &["api", "balancer", "limits", "metrics", "planner", "resp", "topology", "web"]),
    ("script", &["resp"]),
    (
        "node",
        &[
            "api",
            "grant",
            "json",
            "limits",
            "metrics",
            "rdb",
            "replication",
            "resp",
            "script",
            "storage",
            "topology",
            "web",
        ],
    ),
    (
        "holdfast",
        &["api", "balancer", "controller", "limits", "node", "rdb", "resp", "topology", "web"],
    ),
    // It sees the binary and nothing behind it; `resp` is the protocol, not the server.
    ("testkit", &["resp"]),
];

/// Values and state machines: none of them, and nothing they depend on, may be able to open a
/// socket or wait.
const PURE: &[&str] =
    &["rdb", "resp", "json", "topology", "api", "grant", "replication", "planner"];
const IMPURE: &[&str] = &["tokio", "mio", "socket2", "reqwest", "axum"];

/// What all threads of a node share: everything else stands above it.
const SHARED: &[&str] = &[
    "acl",
    "backup::state",
    "clients",
    "config",
    "descriptors",
    "down_nodes",
    "gate",
    "grants::commit",
    "grants::heard",
    "grants::identity",
    "grants::state",
    "latency",
    "locks",
    "memory::held",
    "memory::parts",
    "namespaces",
    "node",
    "perflog",
    "proxy_refused",
    "replication::aside",
    "replication::feeders",
    "replication::lineage",
    "replication::state",
    "slowlog",
    "stats",
    "tracking",
    "watch",
];

/// What acts on that state.
const DRIVERS: &[&str] = &[
    "backup::tail",
    "connection",
    "cron",
    "families",
    "grants::drive",
    "grants::leader",
    "grants::owner",
    "grants::relay",
    "memory::watch",
    "replication::deposed",
    "replication::exchange",
    "replication::feeder",
    "replication::files",
    "replication::link",
    "replication::rewind",
    "replication::service",
    "role",
    "session",
    "worker",
];

/// Modules of the node, and those that they never import, each with its parts.
const NEVER: &[(&[&str], &[&str])] = &[
    (&["command", "session::table"], &["families"]),
    (SHARED, &["command::table", "session::table"]),
    (SHARED, DRIVERS),
    (&["grants", "replication"], &["families", "role"]),
    (&["role"], &["connection", "families", "session"]),
    (&["session"], &["connection", "families"]),
];

const ROCKSDB: &str = "rust-rocksdb";

/// Longest source file, the tests at its end left out, and longest file of tests.
const LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 700;

/// Names of what only the authors had at hand: they tell a reader nothing. Each in two pieces, or
/// this file would be its own first finding.
const UNKNOWN_HERE: &[(&str, &str)] = &[
    ("hazard", " F"),
    ("hazards", " F"),
    ("design", ".md"),
    ("encoding", ".md"),
    ("hazards", ".md"),
    ("_of_the", "_request"),
    ("request's", " example"),
];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// Names of what every package depends on, its tests and build scripts left out.
struct Graph {
    ours: BTreeSet<String>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read() -> Result<Self> {
        let rustc = Command::new("rustc").arg("-vV").output().context("run rustc")?;
        let rustc = String::from_utf8(rustc.stdout).context("read rustc's version")?;
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            .args(["--filter-platform", host.context("find the host's name")?])
            .current_dir(root())
            .output()
            .context("run cargo metadata")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
        let names: BTreeMap<&str, &str> = metadata
            .packages
            .iter()
            .map(|package| (package.id.as_str(), package.name.as_str()))
            .collect();
        let name = |id: &str| names.get(id).copied().unwrap_or(id).to_owned();
        let ours = metadata.workspace_members.iter().map(|id| name(id)).collect();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in &metadata.resolve.nodes {
            let is_linked =
                |dependency: &&Dependency| dependency.dep_kinds.iter().any(|k| k.kind.is_none());
            let linked = node.deps.iter().filter(is_linked).map(|dependency| name(&dependency.pkg));
            // Two versions of one crate are one name here: a rule about it concerns both.
            edges.entry(name(&node.id)).or_default().extend(linked);
        }
        Ok(Self { ours, edges })
    }

    fn direct(&self, name: &str) -> impl Iterator<Item = &str> {
        self.edges.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Everything that is linked with a crate.
    fn closure(&self, name: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut next: Vec<&str> = self.direct(name).collect();
        while let Some(name) = next.pop() {
            if found.insert(name) {
                next.extend(self.direct(name));
            }
        }
        found
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let graph = Graph::read()?;
    let table: BTreeMap<&str, &[&str]> = MAY_NAME.iter().copied().collect();
    let known: BTreeSet<&str> = table.keys().copied().collect();
    let ours: BTreeSet<&str> = graph.ours.iter().map(String::as_str).collect();
    ensure!(ours == known, "crates of the workspace: {ours:?}; in the table: {known:?}");
    for (name, allowed) in table {
        for other in graph.direct(name).filter(|other| ours.contains(other)) {
            ensure!(allowed.contains(&other), "`{name}` must not depend on `{other}`");
        }
    }
    Ok(())
}

#[test]
fn only_storage_names_rocksdb_and_the_controller_does_not_link_it() -> Result<()> {
    let graph = Graph::read()?;
    for name in &graph.ours {
        let names_it = graph.direct(name).any(|other| other == ROCKSDB);
        ensure!(names_it == (name == "storage"), "`{name}` and {ROCKSDB}");
        let links_it = graph.closure(name).contains(ROCKSDB);
        let may_link = ["storage", "node", "holdfast"].contains(&name.as_str());
        ensure!(links_it == may_link, "`{name}` links {ROCKSDB}: {links_it}");
    }
    for forbidden in ["storage", "node"] {
        ensure!(!graph.closure("controller").contains(forbidden), "controller links {forbidden}");
    }
    Ok(())
}

#[test]
fn pure_crates_cannot_do_input_or_output() -> Result<()> {
    let graph = Graph::read()?;
    for name in PURE {
        let closure = graph.closure(name);
        let found: Vec<_> = IMPURE.iter().filter(|impure| closure.contains(*impure)).collect();
        ensure!(found.is_empty(), "`{name}` is to be pure and links {found:?}");
    }
    Ok(())
}

/// All files that belong to the project, without those that only lie about.
fn files() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .context("run git")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).context("read git's list")?;
    let paths = names.split_terminator('\0').map(|name| root().join(name));
    // A file that was removed and not committed yet is still listed.
    Ok(paths.filter(|path| path.is_file()).collect())
}

/// The text of a file; None for a binary one.
fn text(path: &Path) -> Result<Option<String>> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(String::from_utf8(bytes).ok())
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() -> Result<()> {
    // Written in two pieces, or this file would be its own first finding.
    let forbidden: Vec<String> =
        ["work/", "root/", "home/"].iter().map(|folder| format!("/{folder}")).collect();
    // Only where a path can begin: `https://host/home/` is none.
    let begins = |line: &str, at: usize| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| c.is_whitespace() || "\"'`=(:[".contains(c))
    };
    let mut found = Vec::new();
    for path in files()? {
        let Some(text) = text(&path)? else { continue };
        for (number, line) in text.lines().enumerate() {
            let is_bad = forbidden
                .iter()
                .any(|folder| line.match_indices(folder).any(|(at, _)| begins(line, at)));
            if is_bad {
                found.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

/// Where the modules are that a file declares for tests only, without their extension.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let folder = match stem {
        "lib" | "main" | "mod" => path.with_file_name(""),
        _ => path.with_extension(""),
    };
    let lines: Vec<&str> = text.lines().collect();
    let declared = lines.windows(2).filter_map(|pair| match pair {
        ["#[cfg(test)]", module] => module.strip_suffix(';')?.split("mod ").nth(1),
        _ => None,
    });
    declared.map(|name| folder.join(name)).collect()
}

/// Lines of a source file, without the module of tests at its end.
fn length(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        matches!(pair, ["#[cfg(test)]", module] if module.contains("mod ") && module.ends_with('{'))
    });
    tests.unwrap_or(lines.len())
}

#[test]
fn tests_are_told_from_code() {
    let text = "fn f() {}\n\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!((length(text), test_modules(Path::new("a/b.rs"), text)), (2, vec![]));
    let text = "#[cfg(test)]\npub(crate) mod bench;\nmod code;\n";
    assert_eq!(length(text), 3);
    for (path, module) in [("a/b.rs", "a/b/bench"), ("a/lib.rs", "a/bench")] {
        assert_eq!(test_modules(Path::new(path), text), [Path::new(module)], "{path}");
    }
}

#[test]
fn no_file_names_what_only_its_authors_know() -> Result<()> {
    let words: Vec<String> =
        UNKNOWN_HERE.iter().map(|(begin, end)| format!("{begin}{end}")).collect();
    let mut found = Vec::new();
    for path in files()? {
        let Some(text) = text(&path)? else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                found.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

/// Others on a host see the command lines of its processes, and shells keep them.
#[test]
fn no_page_says_a_secret_on_a_command_line() -> Result<()> {
    let mut read = 0;
    for path in files()?.iter().filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let Some(text) = text(path)? else { continue };
        read += 1;
        for (number, line) in text.lines().enumerate() {
            let is_command =
                ["redis-cli ", "ctl ", "--balancer "].iter().any(|word| line.contains(word));
            let word =
                [" -a ", "--password \"", "--password $", "--token \"", "--token $", ",token="];
            let said = word.iter().find(|word| is_command && line.contains(**word));
            let place = path.display();
            ensure!(said.is_none(), "{place}:{}: {said:?}: a file does it, too", number + 1);
        }
    }
    ensure!(read > 10, "{read} pages");
    Ok(())
}

#[test]
fn source_files_are_finished_and_of_a_readable_length() -> Result<()> {
    let unfinished: Vec<String> =
        ["todo", "unimplemented"].iter().map(|name| format!("{name}!(")).collect();
    let mut sources = Vec::new();
    for path in files()?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        sources.extend(text(&path)?.map(|text| (path, text)));
    }
    let of_tests: Vec<PathBuf> =
        sources.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let is_test = |path: &Path| {
        let inside = path.strip_prefix(root().join("crates")).unwrap_or(path);
        let is_target = inside.components().nth(1).is_some_and(|part| part.as_os_str() == "tests");
        is_target || of_tests.iter().any(|module| path.with_extension("").starts_with(module))
    };
    let mut found = Vec::new();
    for (path, text) in sources {
        let max = if is_test(&path) { TEST_LINES_MAX } else { LINES_MAX };
        let count = length(&text);
        if count > max {
            found.push(format!("{}: {count} lines, {max} at most", path.display()));
        }
        if let Some(word) = unfinished.iter().find(|word| text.contains(word.as_str())) {
            found.push(format!("{}: {word}…)", path.display()));
        }
    }
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

/// Paths that a text names from `crate` or `super` on, or in a `use`; groups in braces are taken
/// apart. The module of tests at its end is left out.
fn paths(text: &str) -> Vec<String> {
    let lines = text.lines().take(length(text)).map(str::trim_start);
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with("//")).collect();
    let code = lines.join(" ");
    let mut found = Vec::new();
    for (start, skipped) in [("crate::", 0), ("super::", 0), ("use ", 4)] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|c| is_word(c) || c == ':') {
                take_apart(&code[at + skipped..], "", &mut found);
            }
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Finds the paths that `code` begins with, each after `prefix`, and returns the code behind them.
fn take_apart<'a>(mut code: &'a str, prefix: &str, found: &mut Vec<String>) -> &'a str {
    let mut path = prefix.to_owned();
    loop {
        code = code.trim_start();
        if let Some(mut group) = code.strip_prefix('{') {
            loop {
                // A name that follows `as` tells nothing.
                group =
                    take_apart(group, &path, found).trim_start_matches(|c| c != ',' && c != '}');
                match group.strip_prefix(',') {
                    Some(rest) => group = rest,
                    None => return group.strip_prefix('}').unwrap_or(group),
                }
            }
        }
        let end = code.find(|c| !is_word(c)).unwrap_or(code.len());
        path.push_str(&code[..end]);
        code = &code[end..];
        let Some(rest) = code.strip_prefix("::") else { break };
        path.push_str("::");
        code = rest;
    }
    found.push(path);
    code
}

/// The module that a path in module `own` leads to; `None`: a name of the root, or another crate's.
fn module_of<'a>(
    path: &str,
    own: &str,
    modules: &'a BTreeMap<String, String>,
    shown: &BTreeMap<String, &'a str>,
) -> Option<&'a str> {
    let parent = |module: &str| module.rsplit_once("::").map_or("", |(up, _)| up).to_owned();
    let (mut base, mut rest) = (own.to_owned(), path);
    if let Some(inside) = rest.strip_prefix("crate::") {
        (base, rest) = (String::new(), inside);
    }
    while let Some(above) = rest.strip_prefix("super::") {
        (base, rest) = (parent(&base), above);
    }
    rest = rest.strip_prefix("self::").unwrap_or(rest);
    let is_relative = !path.starts_with("crate::") && !path.starts_with("super::");
    let mut name = if base.is_empty() { rest.to_owned() } else { format!("{base}::{rest}") };
    while !name.is_empty() && (name != base || !is_relative) {
        if let Some((module, _)) = modules.get_key_value(&name) {
            return Some(module);
        }
        name = parent(&name);
    }
    let first = rest.split("::").next().unwrap_or_default();
    shown.get(first).copied().filter(|_| base.is_empty() && !is_relative)
}

/// By module of a crate: the others that its file names. A name that the root re-exports leads to
/// the module that has it. What a module takes from one that it is a part of is left out: parts
/// know the whole.
fn imports(modules: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let nothing = BTreeMap::new();
    let mut shown = BTreeMap::new();
    for path in modules.get("").map(|text| paths(text)).unwrap_or_default() {
        let name = path.rsplit("::").next().unwrap_or_default().to_owned();
        shown.extend(module_of(&path, "", modules, &nothing).map(|module| (name, module)));
    }
    let mut imports = BTreeMap::new();
    for (own, text) in modules.iter().filter(|(own, _)| !own.is_empty()) {
        let is_part = |module: &str| *own == module || own.starts_with(&format!("{module}::"));
        let named = paths(text);
        let named = named.iter().filter_map(|path| module_of(path, own, modules, &shown));
        imports.insert(own.as_str(), named.filter(|module| !is_part(module)).collect());
    }
    imports
}

/// The shortest circle, its first module also at its end.
fn circle<'a>(imports: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    let way_back = |start: &&'a str| {
        let mut seen = BTreeSet::new();
        let mut ways = VecDeque::from([vec![*start]]);
        while let Some(way) = ways.pop_front() {
            for to in way.last().and_then(|at| imports.get(at)).into_iter().flatten() {
                let longer = [way.as_slice(), &[*to]].concat();
                if to == start {
                    return Some(longer);
                }
                if seen.insert(*to) {
                    ways.push_back(longer);
                }
            }
        }
        None
    };
    imports.keys().filter_map(way_back).min_by_key(Vec::len)
}

#[test]
fn circles_of_imports_are_found() {
    let found = |sources: &[(&str, &str)]| {
        let own = |(module, text): &(&str, &str)| ((*module).to_owned(), (*text).to_owned());
        let modules = sources.iter().map(own).collect();
        circle(&imports(&modules)).unwrap_or_default().join(" → ")
    };
    let root = ("", "mod a;\npub use c::{Named as Shown, Other};\nuse std::fmt;\n");
    let a = ("a", "use crate::{\n    d::{self, D},\n    Other,\n};\n");
    let calls = "// As crate::d.\nfn f() -> u8 { crate::a::g() }\n";
    let c = ("c", "use super::b;\n");
    let d = ("d", "use crate::Unknown;\n");
    assert_eq!(found(&[root, a, ("b", calls), c, d]), "a → c → b → a");
    let tests = format!("#[cfg(test)]\nmod tests {{\n{calls}}}\n");
    assert_eq!(found(&[root, a, ("b", &tests), c, d]), "");
    // A part may know the whole, but not lead back to it by way of others.
    let whole = ("a", "mod part;\nuse part::P;\n");
    let part = |text| ("a::part", text);
    assert_eq!(found(&[root, whole, part("use super::W;\nuse crate::a::V;\n"), c]), "");
    let b = ("b", "use crate::a;\n");
    assert_eq!(found(&[root, whole, part("use crate::b;\n"), b]), "a → a::part → b → a");
}

/// The module of each source file of a crate, and its text, without files of tests.
fn modules(name: &str) -> Result<BTreeMap<String, String>> {
    let folder = root().join("crates").join(name).join("src");
    let mut sources = Vec::new();
    for path in files()?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        if path.starts_with(&folder) {
            sources.extend(text(&path)?.map(|text| (path, text)));
        }
    }
    let of_tests: Vec<PathBuf> =
        sources.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let is_test = |path: &Path| of_tests.iter().any(|module| path.starts_with(module));
    let mut modules = BTreeMap::new();
    for (path, text) in sources {
        let path = path.with_extension("");
        if !is_test(&path) {
            let inside = path.strip_prefix(&folder)?.iter().filter_map(|part| part.to_str());
            let parts: Vec<&str> = inside.collect();
            let is_named = |part: &&&str| !["lib", "main", "mod"].contains(*part);
            let parts: Vec<&str> = parts.iter().filter(is_named).copied().collect();
            modules.insert(parts.join("::"), text);
        }
    }
    Ok(modules)
}

#[test]
fn files_of_a_crate_import_each_other_in_one_direction() -> Result<()> {
    for (name, _) in MAY_NAME {
        let modules = modules(name)?;
        ensure!(!modules.is_empty(), "no files of `{name}` are found");
        if let Some(circle) = circle(&imports(&modules)) {
            bail!("files of `{name}` import each other in a circle: {}", circle.join(" → "));
        }
    }
    Ok(())
}

#[test]
fn lower_floors_of_the_node_do_not_import_higher_ones() -> Result<()> {
    let modules = modules("node")?;
    let is_in = |module: &str, whole: &&str| {
        module == *whole || module.strip_prefix(*whole).is_some_and(|part| part.starts_with("::"))
    };
    let mut found = Vec::new();
    for (low, high) in NEVER {
        for name in low.iter().chain(*high) {
            ensure!(modules.contains_key(*name), "there is no module `{name}` any more");
        }
        for (own, imported) in imports(&modules) {
            let is_meant = low.iter().any(|name| is_in(own, name));
            let imported = imported.iter().filter(|to| high.iter().any(|name| is_in(to, name)));
            found.extend(imported.filter(|_| is_meant).map(|to| format!("{own} → {to}")));
        }
    }
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

/// Names of tests between backticks, and the files they are said to be in: what docs/safety.md
/// promises is held by something that exists.
#[test]
fn each_test_that_the_page_of_promises_names_exists() -> Result<()> {
    let page = std::fs::read_to_string(root().join("docs/safety.md"))?;
    let mut sources = String::new();
    let mut paths = Vec::new();
    for path in files()?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        sources.push_str(&text(&path)?.unwrap_or_default());
        paths.push(path.display().to_string());
    }
    let mut missing = Vec::new();
    let mut count = 0;
    for name in page.split('`').skip(1).step_by(2) {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let exists = if name.contains('/') && name.ends_with(".rs") {
            let (krate, rest) = name.split_once('/').context("split it")?;
            paths.iter().any(|path| path.contains(krate) && path.ends_with(rest))
        } else if name.matches('_').count() >= 3
            && name.chars().all(is_word)
            && !name.starts_with("holdfast_")
        {
            sources.contains(&format!("fn {name}("))
        } else {
            continue;
        };
        count += 1;
        if !exists {
            missing.push(name);
        }
    }
    ensure!(missing.is_empty(), "docs/safety.md names {missing:#?}");
    ensure!(count > 40, "only {count} names were found: is the page still written so?");
    Ok(())
}

/// The index of decisions has a line for each page, and no other.
#[test]
fn the_index_of_decisions_names_each_page() -> Result<()> {
    let folder = root().join("docs/adr");
    let index = std::fs::read_to_string(folder.join("README.md"))?;
    let links = index.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let named: BTreeSet<String> = links.map(str::to_owned).collect();
    let pages: BTreeSet<String> = files()?
        .iter()
        .filter_map(|path| Some(path.strip_prefix(&folder).ok()?.to_str()?.to_owned()))
        .filter(|name| name != "README.md")
        .collect();
    ensure!(named == pages, "in the index: {named:#?}; pages: {pages:#?}");
    Ok(())
}
