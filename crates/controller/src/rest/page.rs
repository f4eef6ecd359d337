//! The web page: a few files that the binary carries, for anybody who reaches the port.
//!
//! They tell nothing of a cluster. What they show they ask of the interface, as any program does,
//! with the token of the person who looks; so no role stands before them, and the door does, which
//! wants to be asked by its own name. No file names another origin or has a script or a style
//! within the page, and browsers are told to take neither: a name that somebody gave a node stays
//! a text, whatever is in it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::error::ApiError;
use super::tag;
use crate::registry::Registry;

/// What a browser may load for the page, and do with it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; \
    form-action 'none'";

/// What `/` answers.
const FIRST: &str = "index.html";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, type and text of each file.
const FILES: [(&str, &str, &str); 8] = [
    (FIRST, HTML, include_str!("page/index.html")),
    ("page.css", CSS, include_str!("page/page.css")),
    ("page.js", SCRIPT, include_str!("page/page.js")),
    ("acts.js", SCRIPT, include_str!("page/acts.js")),
    ("ask.js", SCRIPT, include_str!("page/ask.js")),
    ("parts.js", SCRIPT, include_str!("page/parts.js")),
    ("remedies.js", SCRIPT, include_str!("page/remedies.js")),
    ("views.js", SCRIPT, include_str!("page/views.js")),
];

static BY_NAME: LazyLock<BTreeMap<&'static str, File>> = LazyLock::new(|| {
    let tagged = |text: &str| tag::of(text.as_bytes());
    FILES.map(|(name, kind, text)| (name, File { kind, text, tag: tagged(text) })).into()
});

#[derive(Debug)]
struct File {
    kind: &'static str,
    text: &'static str,
    tag: String,
}

impl File {
    fn answer(&'static self, headers: &HeaderMap) -> Response {
        let heads: [(HeaderName, &'static str); 6] = [
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            // To itself the page says where it is: else its own requests came from nowhere.
            (REFERRER_POLICY, "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            // Kept, and asked about each time: the next version may come with the next restart.
            (CACHE_CONTROL, "no-cache"),
            (ETAG, self.tag.as_str()),
        ];
        if tag::is_known(headers, &self.tag) {
            return (StatusCode::NOT_MODIFIED, heads).into_response();
        }
        (heads, [(CONTENT_TYPE, self.kind)], self.text).into_response()
    }
}

/// `/`, and the files by their names under `/ui/`.
pub(super) fn routes() -> Router<Arc<Registry>> {
    Router::new().route("/", get(first)).route("/ui/{name}", get(by_name))
}

async fn first(headers: HeaderMap) -> Response {
    answer(FIRST, &headers)
}

async fn by_name(Path(name): Path<String>, headers: HeaderMap) -> Response {
    answer(&name, &headers)
}

fn answer(name: &str, headers: &HeaderMap) -> Response {
    match BY_NAME.get(name) {
        Some(file) => file.answer(headers),
        None => ApiError::not_found("not found; the page is at `/`").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path as Place, PathBuf};

    use super::*;

    fn folder() -> PathBuf {
        Place::new(env!("CARGO_MANIFEST_DIR")).join("src/rest/page")
    }

    /// Everything that a browser could take for a script or a style within the page, for a text
    /// that is HTML, or for another origin. The CSSOM by texts is refused by some browsers.
    const NEVER: [&str; 18] = [
        "http://",
        "https://",
        "src=\"//",
        "href=\"//",
        "url(",
        "@import",
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "srcdoc",
        "eval(",
        "new Function",
        "javascript:",
        "<style",
        " style=",
        "cssText",
    ];

    #[test]
    fn no_file_names_another_origin_or_makes_html_of_a_text() {
        for (name, _, text) in FILES {
            for word in NEVER {
                assert!(!text.contains(word), "{name} has {word}");
            }
        }
    }

    /// Attributes of HTML whose names begin with `on`, and scripts that are not files.
    fn is_inline(html: &str) -> bool {
        let mut tags = html.split('<').skip(1).filter_map(|rest| rest.split('>').next());
        tags.any(|tag| {
            let handles = |word: &str| {
                let name = word.split('=').next().unwrap_or_default();
                word.contains('=') && name.to_ascii_lowercase().starts_with("on")
            };
            let is_script = tag == "script" || tag.starts_with("script ");
            tag.split_whitespace().any(handles) || (is_script && !tag.contains(" src=\"/ui/"))
        })
    }

    #[test]
    fn the_page_has_no_script_and_no_handler_within() {
        let html = BY_NAME[FIRST].text;
        assert!(html.contains("<script type=\"module\" src=\"/ui/page.js\">"), "{html}");
        assert!(!is_inline(html));
        for bad in ["<a onclick=\"x()\">", "<b ONLOAD=x>", "<script>x()</script>"] {
            assert!(is_inline(bad), "{bad}");
        }
    }

    /// What one file takes of another one is there, and nothing is carried that no file takes.
    #[test]
    fn the_files_name_each_other_and_are_those_of_the_folder() {
        let all: String = FILES.iter().map(|(_, _, text)| *text).collect();
        for (name, _, text) in FILES {
            let ways = [format!("/ui/{name}\""), format!("\"./{name}\"")];
            assert!(name == FIRST || ways.iter().any(|way| all.contains(way)), "{name}");
            for taken in text.split("from \"./").skip(1) {
                let taken = taken.split('"').next().unwrap_or_default();
                assert!(BY_NAME.contains_key(taken), "{name} takes {taken}");
            }
        }
        let there = std::fs::read_dir(folder()).expect("the folder");
        let there = there.map(|entry| entry.expect("an entry").file_name().into_string());
        let mut there: Vec<String> = there.map(|name| name.expect("a name")).collect();
        there.sort();
        let carried: Vec<String> = BY_NAME.keys().map(|name| (*name).to_owned()).collect();
        assert_eq!(there, carried);
    }

    #[test]
    fn the_page_is_small() {
        let bytes: usize = FILES.iter().map(|(_, _, text)| text.len()).sum();
        assert!(bytes < 100_000, "{bytes} bytes");
    }

    /// All code of the crates that tell alarms, lines that go on joined.
    fn code(folder: &Place, into: &mut String) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                code(&path, into);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).expect("a file");
                let mut lines = text.split("\\\n");
                into.push_str(lines.next().unwrap_or_default());
                lines.for_each(|line| into.push_str(line.trim_start()));
            }
        }
    }

    /// A remedy is shown beside the alarms that have its words. Where those are said otherwise,
    /// nobody would notice that it is shown no more.
    #[test]
    fn remedies_are_for_alarms_that_are_told() {
        let crates = Place::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut told = String::new();
        for name in ["controller/src", "planner/src"] {
            code(&crates.join(name), &mut told);
        }
        let lines = BY_NAME["remedies.js"].text.lines().map(str::trim);
        let words = lines.filter_map(|line| line.strip_prefix("alarm: \"")?.strip_suffix("\","));
        let words: Vec<&str> = words.collect();
        assert!(words.len() > 10, "{words:?}");
        for words in words {
            assert!(told.contains(words), "no alarm says `{words}`");
        }
    }
}
