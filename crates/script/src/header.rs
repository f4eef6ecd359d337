//! The first line of a script or library: `#!lua name=… flags=…`.

/// What a script says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScriptFlags {
    /// It writes nothing.
    pub no_writes: bool,
    /// It runs where memory or space is short.
    pub allow_oom: bool,
    /// It runs on a replica that lost its master.
    pub allow_stale: bool,
    /// It does not run in a cluster.
    pub no_cluster: bool,
    /// Its keys may be of many slots.
    pub allow_cross_slot_keys: bool,
}

/// The words, and what each sets.
type Setter = fn(&mut ScriptFlags) -> &mut bool;
const WORDS: [(&str, Setter); 5] = [
    ("no-writes", |flags| &mut flags.no_writes),
    ("allow-oom", |flags| &mut flags.allow_oom),
    ("allow-stale", |flags| &mut flags.allow_stale),
    ("no-cluster", |flags| &mut flags.no_cluster),
    ("allow-cross-slot-keys", |flags| &mut flags.allow_cross_slot_keys),
];

impl ScriptFlags {
    /// Sets the flag of that name; false if there is none.
    pub fn set(&mut self, word: &str) -> bool {
        let found = WORDS.iter().find(|(name, _)| *name == word);
        if let Some((_, field)) = found {
            *field(self) = true;
        }
        found.is_some()
    }

    /// The names of those that are set.
    pub fn words(mut self) -> impl Iterator<Item = &'static str> {
        WORDS.into_iter().filter_map(move |(name, field)| field(&mut self).then_some(name))
    }
}

/// What the first line says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Flags; `None` for a script without such a line, which is held to older rules.
    pub flags: Option<ScriptFlags>,
    /// Name of the library.
    pub name: Option<String>,
    /// Bytes of the line without its end, so that lines count as they stand.
    pub length: usize,
}

/// Why the line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The line does not end.
    #[error("Invalid script shebang")]
    Endless,
    /// Another language.
    #[error("Unexpected engine in script shebang: {0}")]
    Engine(String),
    /// No such option.
    #[error("Unknown lua shebang option: {0}")]
    Option(String),
    /// No such flag.
    #[error("Unexpected flag in script shebang: {0}")]
    Flag(String),
}

/// Reads the first line. A library has a name and no flags, a script flags and no name.
///
/// # Errors
/// See [`HeaderError`].
pub fn parse(text: &[u8], is_library: bool) -> Result<Header, HeaderError> {
    if !text.starts_with(b"#!") {
        return Ok(Header::default());
    }
    let length = text.iter().position(|byte| *byte == b'\n').ok_or(HeaderError::Endless)?;
    let line = String::from_utf8_lossy(&text[..length]).into_owned();
    let mut words = line.split_ascii_whitespace();
    let engine = words.next().unwrap_or_default();
    if engine != "#!lua" {
        return Err(HeaderError::Engine(engine.to_owned()));
    }
    let mut header = Header { flags: Some(ScriptFlags::default()), name: None, length };
    for word in words {
        if let (Some(flags), false) = (word.strip_prefix("flags="), is_library) {
            for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
                if !header.flags.get_or_insert_default().set(flag) {
                    return Err(HeaderError::Flag(flag.to_owned()));
                }
            }
        } else if let (Some(name), true) = (word.strip_prefix("name="), is_library) {
            header.name = Some(name.to_owned());
        } else {
            return Err(HeaderError::Option(word.to_owned()));
        }
    }
    Ok(header)
}

/// Whether a library or a function may be called so.
pub fn is_library_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_names_flags_or_a_library() {
        assert_eq!(parse(b"return 1", false), Ok(Header::default()));
        let header = parse(b"#!lua flags=no-writes,allow-stale\nreturn 1", false).unwrap();
        let flags = header.flags.unwrap();
        assert_eq!(flags.words().collect::<Vec<_>>(), ["no-writes", "allow-stale"]);
        assert_eq!(header.length, 33);
        let library = parse(b"#!lua name=lib_1\n", true).unwrap();
        assert_eq!(library.name.as_deref(), Some("lib_1"));
        assert_eq!(parse(b"#!lua", false), Err(HeaderError::Endless));
        assert_eq!(
            parse(b"#!lua flags=x\n", false).unwrap_err().to_string(),
            "Unexpected flag in script shebang: x"
        );
        assert_eq!(
            parse(b"#!python\n", false).unwrap_err().to_string(),
            "Unexpected engine in script shebang: #!python"
        );
        assert_eq!(parse(b"#!lua a=b\n", true), Err(HeaderError::Option("a=b".into())));
        assert!(is_library_name("a_1") && !is_library_name("a-b") && !is_library_name(""));
    }
}
