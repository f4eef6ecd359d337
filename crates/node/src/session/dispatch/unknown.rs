//! What is said of a command that nobody knows.

/// As Redis 7: the name cut at 128 bytes, then arguments while they fit into 128 bytes.
pub(super) fn unknown_command(words: &[&[u8]]) -> String {
    let text = |word: &[u8]| String::from_utf8_lossy(&word[..word.len().min(128)]).into_owned();
    let name = words.first().map(|word| text(word)).unwrap_or_default();
    let mut arguments = String::new();
    for word in words.iter().skip(1) {
        if arguments.len() >= 128 {
            break;
        }
        let room = 128 - arguments.len();
        let word = String::from_utf8_lossy(&word[..word.len().min(room)]).into_owned();
        arguments.push_str(&format!("'{word}' "));
    }
    format!("ERR unknown command '{name}', with args beginning with: {arguments}")
}

/// Whether this is the beginning of an HTTP request, as Redis tells it: a browser sends one to any
/// address that a page names, and what follows it would run as commands.
pub(super) fn is_http(words: &[&[u8]]) -> bool {
    words.first().is_some_and(|name| {
        [&b"post"[..], b"host:"].iter().any(|word| name.eq_ignore_ascii_case(word))
    })
}
