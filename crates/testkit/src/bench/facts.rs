//! What figures were measured on, as their pages say it.

use std::process::Command;

/// Load averages of the machine.
pub fn machine_load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What a program says, in one line; nothing where it cannot be run.
pub fn said(words: &[&str]) -> String {
    let Some((program, arguments)) = words.split_first() else { return String::new() };
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Commit, day and machine.
pub fn place() -> [(&'static str, String); 3] {
    [
        ("commit", said(&["git", "rev-parse", "--short", "HEAD"])),
        ("day", said(&["date", "+%Y-%m-%d"])),
        ("machine", said(&["sh", "-c", "nproc; grep -m1 'model name' /proc/cpuinfo; uname -sr"])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_one_line() {
        assert_eq!(said(&["printf", "a\\nb  c\\n"]), "a b c");
        assert_eq!(said(&["/nothing/of/that/name"]), "");
        assert_eq!(machine_load().split(' ').count(), 3);
        assert!(place().iter().all(|(name, _)| !name.is_empty()));
    }
}
