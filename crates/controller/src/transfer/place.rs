//! Whether two texts name one place: a mark says where the content went as it was said then, and an
//! operator may say it in other words.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What a text means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spot {
    File(PathBuf),
    /// Members, and what its keys begin with.
    Etcd(BTreeSet<String>, String),
    /// E.g. an export, which is no store.
    Other(String),
}

impl Spot {
    fn of(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        if let ["etcd", members, prefix] = *words {
            let members = members.split(',').map(|at| at.trim_end_matches('/').to_lowercase());
            return Self::Etcd(members.collect(), prefix.trim_end_matches('/').to_owned());
        }
        match Path::new(text).is_absolute() {
            true => Self::File(resolved(Path::new(text))),
            false => Self::Other(text.to_owned()),
        }
    }
}

/// By whatever links the path leads there; a file may not be there yet, or no more.
fn resolved(path: &Path) -> PathBuf {
    let beside = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(beside).unwrap_or_else(|| path.to_owned())
}

/// Whether both are one file, or one prefix of one etcd: of its members one that is in both will
/// do, since others come and go. Looks at links on the disk.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    match (Spot::of(one), Spot::of(other)) {
        (Spot::Etcd(some, prefix), Spot::Etcd(others, same)) => {
            prefix == same && !some.is_disjoint(&others)
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_in_other_words() {
        let here = "etcd http://a:1,http://b:1 /holdfast/";
        for same in [
            here,
            "etcd http://b:1,http://a:1 /holdfast/",
            "etcd http://b:1/,http://A:1/ /holdfast",
            "etcd http://c:1,http://b:1 /holdfast/",
        ] {
            assert!(is_same(here, same) && is_same(same, here), "{same}");
        }
        for other in [
            "etcd http://a:1,http://b:1 /other/",
            "etcd http://c:1 /holdfast/",
            "/holdfast/",
            "the export /holdfast/",
        ] {
            assert!(!is_same(here, other) && !is_same(other, here), "{other}");
        }
        assert!(is_same("the export /a b", "the export /a b"));
        assert!(!is_same("the export /a", "the export /b"));
    }

    #[test]
    fn a_file_is_the_same_by_another_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let (there, link) = (folder.path().join("there"), folder.path().join("link"));
        std::fs::create_dir(&there).expect("a folder");
        std::os::unix::fs::symlink(&there, &link).expect("a link");
        let text = |folder: &Path, name: &str| folder.join(name).display().to_string();
        // Also before there is such a file.
        assert!(is_same(&text(&there, "store"), &text(&link, "store")));
        assert!(is_same(&text(&there, "store"), &text(&there, "../link/store")));
        assert!(!is_same(&text(&there, "store"), &text(&link, "other")));
        std::fs::write(there.join("store"), "").expect("a file");
        std::os::unix::fs::symlink(there.join("store"), there.join("alias")).expect("a link");
        assert!(is_same(&text(&there, "alias"), &text(&link, "store")));
    }
}
