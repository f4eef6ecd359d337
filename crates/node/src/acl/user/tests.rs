//! Rules about rules, in the words of ACL SETUSER.

use super::*;

fn user(modifiers: &str) -> User {
    crate::shell::table();
    let mut user = User::new();
    let words: Vec<&str> = modifiers.split(' ').filter(|word| !word.is_empty()).collect();
    for modifier in join_selectors(&words).unwrap() {
        user.change(&modifier).unwrap_or_else(|error| panic!("{modifier}: {error}"));
    }
    user
}

fn check(user: &User, command: &str) -> Result<(), Denied> {
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let (_, command) =
        crate::session::table::find(&crate::command::Renames::default(), &words).unwrap();
    user.check(&command.row, &words)
}

#[track_caller]
fn allows(modifiers: &str, command: &str) {
    assert_eq!(check(&user(modifiers), command), Ok(()), "{modifiers}: {command}");
}

#[track_caller]
fn denies(modifiers: &str, command: &str, expected: Denied) {
    assert_eq!(check(&user(modifiers), command), Err(expected), "{modifiers}: {command}");
}

fn key(key: &str) -> Denied {
    Denied::Key(key.into())
}

fn channel(channel: &str) -> Denied {
    Denied::Channel(channel.into())
}

#[test]
fn commands_are_allowed_by_name_by_category_and_by_subcommand() {
    denies("allkeys", "GET k", Denied::Command("get"));
    allows("allkeys +get", "GET k");
    allows("allkeys +@read", "GET k");
    denies("allkeys +@read -get", "GET k", Denied::Command("get"));
    denies("allkeys +@read", "SET k v", Denied::Command("set"));
    allows("allkeys +@all -@dangerous", "SET k v");
    denies("allkeys +@all -@dangerous", "CONFIG GET x", Denied::Command("config|get"));
    denies("allkeys +@all -@dangerous", "FLUSHALL", Denied::Command("flushall"));
    denies("allkeys +@all -@dangerous", "KEYS *", Denied::Command("keys"));
    allows("+config", "CONFIG GET x");
    allows("+config|get", "CONFIG GET x");
    denies("+config|get", "CONFIG SET a b", Denied::Command("config|set"));
    allows("+config -config|set", "CONFIG GET x");
    denies("+config -config|set", "CONFIG SET a b", Denied::Command("config|set"));
    allows("-config|set +config", "CONFIG SET a b");
    allows("+select|0", "SELECT 0");
    denies("+select|0", "SELECT 1", Denied::Command("select"));
    denies("+select|0 -select", "SELECT 0", Denied::Command("select"));
    // They come before authentication, and are for everybody.
    allows("", "AUTH x");
    allows("", "RESET");
}

#[test]
fn each_key_must_match_a_pattern_with_what_is_done_to_it() {
    allows("+@all ~a* ~b*", "MGET a1 b1");
    denies("+@all ~a* ~b*", "MGET a1 c1", key("c1"));
    allows("+@all %R~a*", "GET a");
    denies("+@all %R~a*", "SET a v", key("a"));
    allows("+@all %W~a*", "SET a v");
    denies("+@all %W~a*", "SET a v GET", key("a"));
    denies("+@all %R~a* %W~b*", "RENAME a b", key("a"));
    allows("+@all %R~a* %W~b*", "COPY a b");
    denies("+@all %R~a* %W~b*", "COPY b a", key("b"));
    allows("+@all %R~a* %W~a*", "INCR a");
    allows("+@all %W~a*", "EXISTS a");
    denies("+@all %W~a*", "TTL a", key("a"));
    denies("+@all ~a*", "ZUNIONSTORE a 2 a b", key("b"));
    denies("+@all ~a*", "SORT a BY w_*", key("w_*"));
    allows("+@all ~a*", "SORT a BY nosort");
    // Another selector that reads everything does not allow this command.
    denies("+sort ~l* (%R~* +exists)", "SORT l BY nosort GET *", Denied::Key(b"*".to_vec()));
    allows("+sort ~l* (%R~* +sort)", "SORT l BY nosort GET *");
    denies("+@all ~a*", "SORT a GET x", key("x"));
    allows("+@all %R~*", "SORT a GET x");
    // Labels lead to series of any key.
    for command in [
        "TS.MGET FILTER a=b",
        "TS.MRANGE - + FILTER a=b",
        "TS.MREVRANGE - + FILTER a=b",
        "TS.QUERYINDEX a=b",
    ] {
        denies("+@all ~a* %W~*", command, key("*"));
        allows("+@all %R~*", command);
    }
}

#[test]
fn channels_match_patterns_and_patterns_only_themselves() {
    allows("+@all &news.*", "PUBLISH news.a x");
    denies("+@all &news.*", "PUBLISH other x", channel("other"));
    denies("+@all &news.*", "SUBSCRIBE news.a other", channel("other"));
    allows("+@all &news.*", "PSUBSCRIBE news.*");
    denies("+@all &news.*", "PSUBSCRIBE news.a*", channel("news.a*"));
    allows("+@all", "UNSUBSCRIBE other");
    allows("+@all &s", "SPUBLISH s x");
}

#[test]
fn one_selector_must_allow_the_whole_call() {
    let two = "on +get ~a* (+set ~b* resetchannels)";
    allows(two, "GET a");
    allows(two, "SET b v");
    denies(two, "SET a v", key("a"));
    denies(two, "GET b", key("b"));
    denies(two, "DEL b", Denied::Command("del"));
}

#[test]
fn passwords_are_kept_as_hashes_and_compared_so() {
    let secret = hash(b"secret");
    assert_eq!(secret, "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b");
    assert!(!user(">secret").accepts(b"secret"), "it is off");
    assert!(user("on >secret").accepts(b"secret") && !user("on >secret").accepts(b"other"));
    assert!(user(&format!("on #{secret}")).accepts(b"secret"));
    assert!(!user("on >a <a").accepts(b"a") && !user("on").accepts(b""));
    assert!(user("on nopass").accepts(b"any") && !user("on nopass >a").accepts(b"any"));
    assert!(!format!("{:?}", user("on >secret")).contains("\"secret\""));
}

#[test]
fn a_description_makes_the_same_user() {
    for text in [
        "on nopass ~* &* +@all",
        "off resetchannels -@all",
        "on #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b ~k* %R~r* resetchannels &c* -@all +@read +config|get -get (~s* resetchannels -@all +set)",
        "off sanitize-payload %W~w resetchannels +@all -@dangerous",
    ] {
        assert_eq!(user(text).describe(), text);
        assert_eq!(user(&user(text).describe()), user(text));
    }
    assert_eq!(user("on +get reset").describe(), "off sanitize-payload resetchannels -@all");
    assert!(user("on nopass ~* &* +@all").is_unrestricted());
}

#[test]
fn what_is_no_modifier_is_said() {
    crate::shell::table();
    let mut all = user("allkeys allchannels");
    for (modifier, error) in [
        ("xx", RuleError::Syntax),
        ("", RuleError::Syntax),
        ("%X~a", RuleError::Syntax),
        ("%R", RuleError::Syntax),
        ("+nosuch", RuleError::Unknown),
        ("+@nosuch", RuleError::Unknown),
        ("+config|nosuch", RuleError::Unknown),
        ("-get|x", RuleError::Unknown),
        ("#abc", RuleError::Hash),
        ("!abc", RuleError::Hash),
        ("<none", RuleError::NoPassword),
        ("~x", RuleError::AfterAllKeys),
        ("&x", RuleError::AfterAllChannels),
        ("(+nosuch)", RuleError::Unknown),
        // What its own file could not bring back.
        ("~my key:*", RuleError::Syntax),
        ("%R~a\tb", RuleError::Syntax),
        ("&a\nuser b on nopass", RuleError::Syntax),
        ("+get|a b", RuleError::Syntax),
    ] {
        assert_eq!(all.change(modifier), Err(error), "{modifier}");
    }
    assert!(join_selectors(&["on", "(+get", "~a"]).is_err());
}
