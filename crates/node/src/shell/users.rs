//! Users through the table: a command that its user may not run is refused at the gate, alone, in
//! MULTI and at EXEC.

use super::Shell;
use super::waiting::told;

const NO_KEY: &str = "-NOPERM No permissions to access a key";

fn no_command(name: &str) -> String {
    format!("-NOPERM User u has no permissions to run the '{name}' command")
}

fn shell() -> (Shell, usize) {
    let mut shell = Shell::new();
    let set = "ACL SETUSER u on >secret ~k* &news* +@all -@dangerous +acl|whoami";
    assert_eq!(shell.run(set), "+OK");
    let user = shell.client();
    assert_eq!(shell.run_as(user, "AUTH u secret"), "+OK");
    (shell, user)
}

#[test]
fn a_user_does_what_it_may_and_nothing_else() {
    let (mut shell, user) = shell();
    assert_eq!(shell.run_as(user, "ACL WHOAMI"), "$1 u");
    assert_eq!(shell.run("ACL WHOAMI"), "$7 default");
    assert_eq!(shell.run_as(user, "SET k v"), "+OK");
    assert_eq!(shell.run_as(user, "SET other v"), NO_KEY);
    assert_eq!(shell.run_as(user, "FLUSHALL"), no_command("flushall"));
    assert_eq!(shell.run_as(user, "CONFIG GET *"), no_command("config|get"));
    let no_channel = "-NOPERM No permissions to access a channel";
    assert_eq!(shell.run_as(user, "PUBLISH x y"), no_channel);
    let in_script = "-NOPERM ACL failure in script: ";
    for (script, why) in [
        ("EVAL return(redis.call('FLUSHALL')) 0", &no_command("flushall")[8..]),
        ("EVAL return(redis.call('GET','other')) 0", &NO_KEY[8..]),
    ] {
        let said = shell.run_as(user, script);
        assert!(said.starts_with(&format!("{in_script}{why}")), "{said}");
    }
    for (command, why) in [
        ("get other", "access the 'other' key"),
        ("flushall", "run the 'flushall' command"),
        ("publish x y", "access the 'x' channel"),
    ] {
        let said = shell.run(&format!("ACL DRYRUN u {command}"));
        assert!(said.ends_with(&format!(" User u has no permissions to {why}")), "{said}");
    }
    assert_eq!(shell.run_as(user, "MULTI"), "+OK");
    assert_eq!(shell.run_as(user, "GET other"), NO_KEY);
    assert!(shell.run_as(user, "EXEC").starts_with("-EXECABORT"));
    let log = shell.run("ACL LOG 1");
    for part in ["$6 reason $3 key", "$7 context $5 multi", "$6 object $5 other", "$1 u"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(shell.run("ACL LOG RESET"), "+OK");
    assert_eq!(shell.run("ACL LOG"), "*0");
    let other = shell.client();
    assert!(shell.run_as(other, "AUTH u wrong").starts_with("-WRONGPASS "));
    // A script that is tried twice is refused twice.
    let (once, not_at_all) = (["auth:1", "channel:1"], ["cmd:0", "key:0"]);
    let has = |info: &str, count: &str| info.contains(&format!(" acl_access_denied_{count} "));
    let info = shell.run("INFO stats");
    assert!(once.iter().all(|count| has(&info, count)), "{info}");
    assert!(!not_at_all.iter().any(|count| has(&info, count)), "{info}");
    assert_eq!(shell.run("CONFIG RESETSTAT"), "+OK");
    let info = shell.run("INFO stats");
    assert!(not_at_all.iter().all(|count| has(&info, count)), "{info}");
}

#[test]
fn a_user_that_is_removed_while_somebody_logs_in_is_nobodys() {
    let (mut shell, _) = shell();
    let (node, other) = (std::sync::Arc::clone(&shell.node), shell.client());
    let account = node.acl.find("u").unwrap();
    assert!(shell.clients[other].belong_to_found(&node, &account));
    assert!(node.acl.remove("u"));
    assert_eq!(shell.run_as(other, "RESET"), "+RESET");
    // As if it had been found before.
    assert!(!shell.clients[other].belong_to_found(&node, &account));
    assert_eq!(shell.clients[other].user_name(), "default");
}

#[test]
fn rules_that_change_count_for_what_is_queued() {
    let (mut shell, user) = shell();
    for command in ["MULTI", "SET k 1", "SET kk 2"] {
        shell.run_as(user, command);
    }
    assert_eq!(shell.run("ACL SETUSER u resetkeys ~k"), "+OK");
    assert!(shell.run_as(user, "EXEC").starts_with("-EXECABORT"));
    assert_eq!(shell.run("EXISTS k kk"), ":0");
    assert_eq!(shell.run_as(user, "SET k 1"), "+OK");
}

#[test]
fn who_gives_the_wrong_password_stays_who_it_is_and_is_noted() {
    let (mut shell, user) = shell();
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    for command in ["AUTH u other", "AUTH nobody secret", "HELLO 2 AUTH u other"] {
        assert_eq!(shell.run_as(user, command), wrong, "{command}");
    }
    assert_eq!(shell.run_as(user, "ACL WHOAMI"), "$1 u");
    assert!(shell.run("ACL LOG").contains("$4 auth"));
    assert_eq!(shell.run("ACL SETUSER u off"), "+OK");
    // A client that is in stays in, as in Redis.
    assert_eq!(shell.run_as(user, "GET k"), "$-1");
    assert_eq!(shell.run_as(user, "AUTH u secret"), wrong);
    assert_eq!(shell.run_as(user, "RESET"), "+RESET");
    assert_eq!(shell.run_as(user, "ACL WHOAMI"), "$7 default");
}

#[test]
fn a_default_user_with_a_password_asks_everybody_for_it() {
    let mut shell = Shell::new();
    assert_eq!(shell.run("ACL SETUSER default >secret"), "+OK");
    let other = shell.client();
    assert_eq!(shell.run_as(other, "GET k"), "-NOAUTH Authentication required.");
    assert!(shell.run_as(other, "AUTH wrong").starts_with("-WRONGPASS"));
    assert_eq!(shell.run_as(other, "AUTH secret"), "+OK");
    assert_eq!(shell.run_as(other, "GET k"), "$-1");
    assert_eq!(shell.run_as(other, "RESET"), "+RESET");
    assert_eq!(shell.run_as(other, "GET k"), "-NOAUTH Authentication required.");
    assert_eq!(shell.run_as(other, "AUTH default secret"), "+OK");
    assert_eq!(shell.run("ACL SETUSER default off"), "+OK");
    assert!(shell.run_as(other, "AUTH default secret").starts_with("-WRONGPASS"));
}

/// As in Redis: what takes all passwords from the default user takes that one from it, too.
#[test]
fn requirepass_is_no_password_of_a_default_user_that_has_lost_all_of_them() {
    let mut shell = Shell::with(|values| values.requirepass = "old".into());
    assert_eq!(shell.run("AUTH old"), "+OK");
    let opens = |shell: &mut Shell| {
        let other = shell.client();
        ["old", "new"].map(|password| shell.run_as(other, &format!("AUTH {password}")) == "+OK")
    };
    assert_eq!(shell.run("ACL SETUSER default >new"), "+OK");
    assert_eq!(opens(&mut shell), [true, true], "one beside the other");
    for change in ["resetpass >new", "reset on >new ~* &* +@all"] {
        assert_eq!(shell.run(&format!("ACL SETUSER default {change}")), "+OK");
        assert_eq!(opens(&mut shell), [false, true], "{change}");
        // As ACL SAVE and CONFIG REWRITE keep it.
        let lines = shell.node.acl.lines();
        assert!(lines[0].starts_with("user default resetpass on "), "{}", lines[0]);
        assert_eq!(shell.node.acl.replace(&lines[0]), Ok(Vec::new()));
        assert_eq!(shell.run("CONFIG SET requirepass old"), "+OK");
        assert_eq!(opens(&mut shell), [true, true], "{change}");
        assert_eq!(shell.node.acl.replace(&lines[0]), Ok(vec!["default".to_owned()]));
        assert_eq!(opens(&mut shell), [false, true], "{change}");
    }
    assert_eq!(shell.run("ACL SETUSER default off"), "+OK");
    assert_eq!(opens(&mut shell), [false, false]);
    // It is of no other user.
    assert_eq!(shell.run("ACL SETUSER u resetpass on"), "+OK");
    assert!(shell.run("ACL LIST").ends_with("user u on resetchannels -@all"));
}

#[test]
fn users_that_are_gone_have_no_connections() {
    let (mut shell, user) = shell();
    assert!(shell.run("CLIENT LIST").contains(" user=u "));
    assert_eq!(shell.run("ACL DELUSER u nobody"), ":1");
    assert!(shell.clients[user].client.is_killed());
    assert!(shell.run("ACL DELUSER default").contains("cannot be removed"));
    assert_eq!(shell.run("ACL USERS"), "*1 $7 default");
}

#[test]
fn a_name_is_one_word() {
    let mut shell = Shell::new();
    for name in ["a\x0con", "a\ton", "a\0", "a\x0b"] {
        let said = shell.run(&format!("ACL SETUSER {name} nopass"));
        assert_eq!(said, "-ERR Usernames can't contain spaces or null characters", "{name:?}");
    }
    assert_eq!(shell.run("ACL USERS"), "*1 $7 default");
}

#[test]
fn users_are_kept_in_their_file() {
    let mut shell = Shell::with(|values| values.aclfile = "users.acl".into());
    assert_eq!(shell.run("ACL SETUSER u on nopass +get ~k"), "+OK");
    assert_eq!(shell.run("ACL SAVE"), "+OK");
    let path = shell.node.path("users.acl");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        "user default on nopass ~* &* +@all\nuser u on nopass ~k resetchannels -@all +get\n"
    );
    assert_eq!(shell.run("ACL SETUSER u +set"), "+OK");
    assert_eq!(shell.run("ACL SETUSER w on"), "+OK");
    assert_eq!(shell.run("ACL LOAD"), "+OK");
    assert_eq!(shell.run("ACL USERS"), "*2 $7 default $1 u");
    assert!(shell.run("ACL LIST").ends_with("user u on nopass ~k resetchannels -@all +get"));
    std::fs::write(&path, "user u +nosuch\n").unwrap();
    assert!(shell.run("ACL LOAD").contains("line 1: Error in ACL SETUSER modifier '+nosuch'"));
    assert_eq!(shell.run("ACL USERS"), "*2 $7 default $1 u");
}

#[test]
fn what_a_user_may_is_asked_again_when_a_waiting_command_is_served() {
    let (mut shell, user) = shell();
    let (reader, other) = (shell.client(), shell.client());
    assert_eq!(shell.run_as(reader, "AUTH u secret"), "+OK");
    let mut popping = shell.wait_as(user, "BLPOP k1 0");
    let mut reading = shell.wait_as(reader, "XREAD BLOCK 0 STREAMS k2 $");
    let mut behind = shell.wait_as(other, "BLPOP k1 0");
    assert_eq!(shell.run("ACL SETUSER u resetkeys ~x*"), "+OK");
    assert_eq!((told(&mut popping), told(&mut reading)), (None, None), "not before it is served");
    assert_eq!(shell.run("RPUSH k1 a"), ":1");
    assert_eq!(told(&mut popping).as_deref(), Some(NO_KEY));
    assert_eq!(told(&mut behind).as_deref(), Some("*2 $2 k1 $1 a"), "it is the next one's");
    assert_eq!(shell.run("XADD k2 1-1 f v"), "$3 1-1");
    assert_eq!(told(&mut reading).as_deref(), Some(NO_KEY));
    let log = shell.run("ACL LOG");
    for part in ["*2 ", "$7 context $8 toplevel", "$6 object $2 k1", "$6 object $2 k2", "$1 u"] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

#[test]
fn what_a_script_is_refused_is_noted_as_the_scripts_and_a_question_is_not() {
    let (mut shell, user) = shell();
    let asks = "EVAL return(tostring(redis.acl_check_cmd('get','other'))) 0";
    assert_eq!(shell.run_as(user, asks), "$5 false");
    assert_eq!(shell.run("ACL LOG"), "*0");
    let said = shell.run_as(user, "EVAL return(redis.call('get','other')) 0");
    assert!(said.starts_with('-') && said.contains("NOPERM"), "{said}");
    shell.advance(5);
    shell.run_as(user, "GET other");
    let log = shell.run("ACL LOG");
    assert!(log.contains("$7 context $3 lua"), "{log}");
    for part in ["$8 entry-id :0", "$8 entry-id :1", "$17 timestamp-created :"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(log.contains("$22 timestamp-last-updated :"), "{log}");
}
