//! The keys by which secrets are sealed in the store, and what is sealed with them.
//!
//! A key file has one key a line. The first line seals, each of them opens: so a key is changed
//! without a moment in which some controller cannot read what another has written. Keys are told
//! apart by ids, which are made of the keys themselves and tell nothing of them.
//!
//! A seal is ChaCha20-Poly1305 under a key of its own, which HKDF-SHA256 makes of the file's key
//! and 192 random bits, so that no nonce comes twice. It is bound to what it is about: that of one
//! cluster opens for no other.
//!
//! One that reads the store, or a copy of it, learns no secret. Against one that writes to the
//! store a seal is no help: a record decides where its secrets are sent.

use std::fmt::{self, Write as _};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use sha2::{Digest as _, Sha256};

/// How every key begins: what looks for secrets that leaked finds it.
const PREFIX: &str = "hfk_";
const KEY_BYTES: usize = 32;
const SALT_BYTES: usize = 24;
/// The form of a seal: `1.<id of its key>.<salt and sealed bytes>`.
const FORM: &str = "1";
const CONTEXT: [&[u8]; 1] = [b"holdfast store seal 1"];
/// In place of the first key: nothing is sealed any more, and the other lines open what is.
const CLEAR: &str = "none";
/// Keys of a file: while one is changed there are two.
const KEYS_MAX: usize = 8;
/// Largest file that is read.
const LENGTH_MAX: u64 = 64 << 10;
/// Its own by its salt: what it seals needs no nonce beside.
const NONCE: [u8; 12] = [0; 12];

/// Why a file gave no keys. It holds nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct BadKeys {
    path: PathBuf,
    why: String,
}

/// Why what is sealed stays so, or what is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Locked {
    /// Its key is not here.
    #[error(
        "sealed with key {id}, and this process has {has} (`store_key_file`): give it the key file of the controllers that sealed it"
    )]
    NoKey {
        /// Of the key that is missing.
        id: String,
        /// What there is, for people.
        has: String,
    },
    /// The key is here, and the seal is not what was made with it.
    #[error(
        "sealed with key {0}, and it does not open: it was changed since, or is another cluster's"
    )]
    Broken(String),
    /// A later version has made it.
    #[error(
        "sealed in a form that this version does not know: start the version that wrote it, or a later one"
    )]
    Unknown,
    /// There is nothing to seal with.
    #[error("there is no key to seal with")]
    Unsealed,
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    id: String,
    bytes: [u8; KEY_BYTES],
}

impl Key {
    fn parse(line: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(line.strip_prefix(PREFIX)?).ok()?;
        let bytes = bytes.try_into().ok()?;
        Some(Self { id: id_of(&bytes), bytes })
    }

    /// What seals or opens under this salt.
    fn under(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let made = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.bytes);
        let made = made.expand(&CONTEXT, &CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(made)))
    }
}

/// 16 hexadecimal digits.
fn id_of(key: &[u8; KEY_BYTES]) -> String {
    let digest =
        Sha256::new().chain_update(b"holdfast store key id\0").chain_update(key).finalize();
    digest.iter().take(8).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The keys of a controller. By default there is none, and nothing is sealed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    all: Vec<Key>,
    /// What is sealed is opened, and written in clear.
    is_clear: bool,
}

/// Without the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.told())
    }
}

impl Keys {
    /// Reads a key file.
    ///
    /// # Errors
    /// It cannot be read, others may read it, or a line of it is no key.
    pub fn read(path: &Path) -> Result<Self, BadKeys> {
        let failed = |why: String| BadKeys { path: path.to_owned(), why };
        let told = |error: std::io::Error| failed(error.to_string());
        // A pipe would be waited for, and a device has no end.
        if !std::fs::metadata(path).map_err(told)?.is_file() {
            return Err(failed("it is no file".to_owned()));
        }
        let file = std::fs::File::open(path).map_err(told)?;
        let mode = file.metadata().map_err(told)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(failed(format!(
                "it has mode {mode:04o}, so others may read it: chmod 0600, and a new key if others could"
            )));
        }
        let mut text = String::new();
        let read = file.take(LENGTH_MAX + 1).read_to_string(&mut text).map_err(told)?;
        if read as u64 > LENGTH_MAX {
            return Err(failed("it is too large to be a key file".to_owned()));
        }
        Self::parse(&text).map_err(failed)
    }

    /// Reads the text of a key file: keys and empty lines, and what begins with `#`.
    ///
    /// # Errors
    /// The first line that is none of these, by its number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line == CLEAR {
                if keys.is_clear || !keys.all.is_empty() {
                    return Err(format!("line {number}: `{CLEAR}` stands before all keys"));
                }
                keys.is_clear = true;
                continue;
            }
            let key = Key::parse(line).ok_or_else(|| {
                format!("line {number} is no key: `holdfast ctl store key FILE` makes one")
            })?;
            if keys.has(&key.id) {
                return Err(format!("line {number}: this key is there twice"));
            }
            keys.all.push(key);
        }
        match keys.all.len() {
            0 if !keys.is_clear => {
                Err("there is no key in it: `holdfast ctl store key FILE` makes one".to_owned())
            }
            KEYS_MAX.. => Err(format!("it has {KEYS_MAX} keys or more, which nobody needs")),
            _ => Ok(keys),
        }
    }

    /// No key file is named.
    pub fn is_none(&self) -> bool {
        self.all.is_empty() && !self.is_clear
    }

    /// Id of the key that seals; `None`: secrets are written in clear.
    pub fn sealing(&self) -> Option<&str> {
        let first = self.all.first().filter(|_| !self.is_clear);
        first.map(|key| key.id.as_str())
    }

    /// Ids of the keys that open.
    pub fn opening(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|key| key.id.as_str())
    }

    /// Whether this key opens here.
    pub fn has(&self, id: &str) -> bool {
        self.opening().any(|known| known == id)
    }

    /// Whether what is sealed with this key can be opened.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self, id: &str) -> Result<(), Locked> {
        match self.has(id) {
            true => Ok(()),
            false => Err(Locked::NoKey { id: id.to_owned(), has: self.told() }),
        }
    }

    /// What there is, for people: ids alone.
    fn told(&self) -> String {
        let ids: Vec<&str> = self.opening().collect();
        match ids.as_slice() {
            [] => "no key".to_owned(),
            [id] => format!("key {id} alone"),
            ids => format!("keys {}", ids.join(", ")),
        }
    }

    /// Seals with the first key what is `about` something.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn seal(&self, secret: &[u8], about: &str) -> Result<String, Locked> {
        let key = self.all.first().filter(|_| !self.is_clear).ok_or(Locked::Unsealed)?;
        let salt: [u8; SALT_BYTES] = rand::random();
        let made = key.under(&salt).ok_or(Locked::Unsealed)?;
        let mut sealed = secret.to_vec();
        let nonce = Nonce::assume_unique_for_key(NONCE);
        made.seal_in_place_append_tag(nonce, Aad::from(about.as_bytes()), &mut sealed)
            .map_err(|_| Locked::Unsealed)?;
        let all = URL_SAFE_NO_PAD.encode([&salt[..], &sealed].concat());
        Ok(format!("{FORM}.{}.{all}", key.id))
    }

    /// Opens what was sealed about the same.
    ///
    /// # Errors
    /// Its key is not here, or it was changed.
    pub(crate) fn open(&self, seal: &str, about: &str) -> Result<Vec<u8>, Locked> {
        let (id, sealed) = parts(seal).ok_or(Locked::Unknown)?;
        self.check(id)?;
        let key = self.all.iter().find(|key| key.id == id);
        let opened = || {
            let all = URL_SAFE_NO_PAD.decode(sealed).ok()?;
            let (salt, sealed) = all.split_at_checked(SALT_BYTES)?;
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(NONCE);
            let aad = Aad::from(about.as_bytes());
            let open = key?.under(salt)?.open_in_place(nonce, aad, &mut sealed).ok()?.to_vec();
            Some(open)
        };
        opened().ok_or_else(|| Locked::Broken(id.to_owned()))
    }
}

/// Id of the key that a seal was made with, and the rest of it.
fn parts(seal: &str) -> Option<(&str, &str)> {
    seal.strip_prefix(FORM)?.strip_prefix('.')?.split_once('.')
}

/// Id of the key that a seal was made with; `None` if it is none that is known.
pub(crate) fn key_of(seal: &str) -> Option<&str> {
    parts(seal).map(|(id, _)| id)
}

/// A line of a key file that was never given.
fn mint() -> String {
    let secret: [u8; KEY_BYTES] = rand::random();
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret))
}

/// The text of a key file with a key more: before all others, so that it seals, or behind them, so
/// that it opens only. And the id of that key.
///
/// # Errors
/// The text is that of no key file.
pub fn grown(text: &str, is_last: bool) -> Result<(String, String), String> {
    let text = text.trim();
    if !text.is_empty() {
        Keys::parse(text)?;
    }
    let key = mint();
    let mut lines: Vec<&str> = text.lines().collect();
    match is_last {
        true => lines.push(&key),
        // From here on there is something to seal with.
        false => {
            lines.retain(|line| line.trim() != CLEAR);
            lines.insert(0, &key);
        }
    }
    let grown = lines.join("\n") + "\n";
    let keys = Keys::parse(&grown)?;
    let mut ids = keys.opening();
    let id = if is_last { ids.last() } else { ids.next() };
    let id = id.unwrap_or_default().to_owned();
    Ok((grown, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(lines: &[&str]) -> Keys {
        Keys::parse(&lines.join("\n")).expect("keys")
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_key_for_what_it_is_about() {
        let (one, other) = (mint(), mint());
        let both = keys(&[&one, &other]);
        let seal = both.seal(b"s3cret", "n/c").expect("a seal");
        assert!(!seal.contains("s3cret"));
        assert_eq!(key_of(&seal), both.sealing());
        assert_ne!(
            seal,
            both.seal(b"s3cret", "n/c").expect("a seal"),
            "the same is not seen twice"
        );
        assert_eq!(both.open(&seal, "n/c").expect("open"), b"s3cret");
        // Whatever the order of the lines.
        let turned = keys(&["# from March on", &other, "", &one]);
        assert_eq!(turned.open(&seal, "n/c").expect("open"), b"s3cret");
        let id = both.sealing().expect("an id").to_owned();
        assert_eq!(both.open(&seal, "n/d"), Err(Locked::Broken(id.clone())));
        let strange = keys(&[&other]).open(&seal, "n/c").expect_err("locked");
        assert!(matches!(&strange, Locked::NoKey { id: of, .. } if *of == id), "{strange}");
        assert!(matches!(Keys::default().open(&seal, "n/c"), Err(Locked::NoKey { .. })));
    }

    #[test]
    fn a_seal_that_was_touched_does_not_open_and_never_panics() {
        let keys = keys(&[&mint()]);
        let seal = keys.seal(b"s3cret", "n/c").expect("a seal");
        let begin = seal.rfind('.').expect("its parts") + 1;
        for at in begin..seal.len() {
            let other = if &seal[at..=at] == "A" { "B" } else { "A" };
            let touched = format!("{}{other}{}", &seal[..at], &seal[at + 1..]);
            assert!(keys.open(&touched, "n/c").is_err(), "{at}");
            assert!(keys.open(&seal[..at], "n/c").is_err(), "{at}");
        }
        for none in ["", "1", "1.", "1..", "2.a.b", &seal.replacen("1.", "2.", 1)] {
            assert!(keys.open(none, "n/c").is_err(), "{none}");
        }
        assert_eq!(keys.open("2.a.b", ""), Err(Locked::Unknown));
    }

    #[test]
    fn a_file_is_keys_and_nothing_else_and_its_errors_hold_no_key() {
        let (one, other) = (mint(), mint());
        assert!(Keys::default().is_none() && Keys::default().sealing().is_none());
        let clear = keys(&[CLEAR, &one]);
        assert!(clear.sealing().is_none() && !clear.is_none() && clear.opening().count() == 1);
        assert_eq!(clear.seal(b"x", ""), Err(Locked::Unsealed));
        let many: Vec<String> = (0..KEYS_MAX).map(|_| mint()).collect();
        for wrong in [
            String::new(),
            "# nothing".to_owned(),
            format!("{one}\n{one}"),
            format!("{one}\n{CLEAR}"),
            format!("{one} {other}"),
            one[1..].to_owned(),
            one[..one.len() - 2].to_owned(),
            many.join("\n"),
        ] {
            let why = Keys::parse(&wrong).expect_err("no keys");
            assert!(!why.contains(&one[PREFIX.len() + 4..]), "{why}");
        }
        let shown = format!("{:?}", keys(&[&one, &other]));
        assert!(!shown.contains(&one) && shown.starts_with("Keys(keys "), "{shown}");
    }

    #[test]
    fn a_key_file_is_for_its_user_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.key");
        let read = |mode: u32| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, mode).expect("a mode");
            Keys::read(&path).map_err(|error| error.to_string())
        };
        std::fs::write(&path, mint()).expect("a file");
        for mode in [0o600, 0o400] {
            assert!(read(mode).expect("keys").sealing().is_some());
        }
        for mode in [0o640, 0o604, 0o620] {
            let why = read(mode).expect_err("a refusal");
            assert!(why.contains(&format!("mode {mode:04o}")) && why.contains("0600"), "{why}");
        }
        let none = Keys::read(folder.path()).expect_err("no file").to_string();
        assert!(none.ends_with("it is no file"), "{none}");
    }

    #[test]
    fn a_file_grows_at_either_end() {
        let (first, id) = grown("", false).expect("a key");
        assert_eq!(Keys::parse(&first).expect("keys").sealing(), Some(id.as_str()));
        let (second, behind) = grown(&first, true).expect("a key");
        let keys = Keys::parse(&second).expect("keys");
        assert_eq!(keys.sealing(), Some(id.as_str()));
        assert_eq!(keys.opening().last(), Some(behind.as_str()));
        let (third, before) = grown(&format!("{CLEAR}\n{second}"), false).expect("a key");
        let keys = Keys::parse(&third).expect("keys");
        assert_eq!((keys.sealing(), keys.opening().count()), (Some(before.as_str()), 3));
        assert!(grown("no key", false).is_err());
    }
}
