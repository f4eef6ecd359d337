//! Namespaces through the table: each token sees its own keys, and wakes its own clients.

use super::Shell;
use crate::scripts::Running;
use crate::waiters::Told;

fn shell() -> Shell {
    let mut shell = Shell::with(|values| {
        values.requirepass = "secret".into();
        values.repl_namespace_enabled = true;
    });
    assert_eq!(shell.run("AUTH secret"), "+OK");
    assert_eq!(shell.run("NAMESPACE ADD ns1 tok1"), "+OK");
    assert_eq!(shell.run("NAMESPACE ADD ns2 tok2"), "+OK");
    shell
}

fn tenant(shell: &mut Shell, token: &str) -> usize {
    let client = shell.client();
    assert_eq!(shell.run_as(client, &format!("AUTH {token}")), "+OK");
    client
}

#[test]
fn each_token_finds_its_own_series() {
    let mut shell = shell();
    let (a, b) = (tenant(&mut shell, "tok1"), tenant(&mut shell, "tok2"));
    assert_eq!(shell.run("TS.CREATE s LABELS room 1"), "+OK");
    assert_eq!(shell.run_as(a, "TS.CREATE t LABELS room 1"), "+OK");
    assert_eq!(shell.run("TS.QUERYINDEX room=1"), "*1 $1 s");
    assert_eq!(shell.run_as(a, "TS.QUERYINDEX room=1"), "*1 $1 t");
    assert_eq!(shell.run_as(b, "TS.QUERYINDEX room=1"), "*0");
    // The way goes with its series.
    assert_eq!(shell.run_as(a, "MOVEX t tok2"), ":1");
    assert_eq!(shell.run_as(a, "TS.QUERYINDEX room=1"), "*0");
    assert_eq!(shell.run_as(b, "TS.QUERYINDEX room=1"), "*1 $1 t");
}

#[test]
fn each_token_sees_its_own_keys() {
    let mut shell = shell();
    shell.follow();
    let (a, b) = (tenant(&mut shell, "tok1"), tenant(&mut shell, "tok2"));
    assert_eq!(shell.run("SET k 0"), "+OK");
    assert_eq!(shell.run_as(a, "SET k 1"), "+OK");
    assert_eq!(shell.run_as(a, "RPUSH l x"), ":1");
    assert_eq!(shell.run_as(b, "EXISTS k l"), ":0");
    assert_eq!(shell.run_as(a, "KEYS *"), "*2 $1 k $1 l");
    assert_eq!(shell.run_as(a, "SCAN 0"), "*2 $1 0 *2 $1 k $1 l");
    assert_eq!(shell.run_as(b, "RANDOMKEY"), "$-1");
    assert_eq!(shell.run_as(a, "NAMESPACE CURRENT"), "$3 ns1");
    assert_eq!(shell.run("NAMESPACE CURRENT"), "$11 __namespace");
    for refused in [
        "FLUSHALL",
        "CONFIG GET *",
        "NAMESPACE GET *",
        "MONITOR",
        "CLIENT PAUSE 1",
        "CLIENT UNPAUSE",
        "LASTSAVE",
    ] {
        let answer = shell.run_as(a, refused);
        assert_eq!(answer, "-ERR admin permission required to perform the command", "{refused}");
    }
    assert_eq!(shell.run_as(b, "FLUSHDB"), "+OK");
    assert_eq!(shell.run_as(a, "MOVEX k tok2"), ":1");
    assert_eq!(shell.run_as(a, "MOVEX l nobody's"), "-ERR Invalid password");
    assert_eq!(shell.run_as(a, "MOVEX l secret"), ":1");
    assert_eq!(shell.run_as(b, "GET k"), "$1 1");
    assert_eq!(shell.run("LRANGE l 0 -1"), "*1 $1 x");
    assert_eq!(shell.run("MOVEX k tok2"), ":0");
    assert_eq!(shell.run("GET k"), "$1 0");
    shell.assert_replica_is_equal();
    assert_eq!(shell.run_as(a, "RESET"), "+RESET");
    assert_eq!(shell.run_as(a, "GET k"), "-NOAUTH Authentication required.");
}

#[test]
fn tokens_are_in_the_database_as_kvrocks_writes_them_and_outlive_a_restart() {
    let mut shell = shell();
    let before = shell.sequence();
    assert_eq!(shell.run("NAMESPACE DEL ns1"), "+OK");
    let batches = shell.batches_since(before);
    let records = b"\x05\x04\x12__namespace_keys__\x0e{\"tok2\":\"ns2\"}";
    assert_eq!((batches.len(), &batches[0][12..]), (1, &records[..]));
    shell.restart();
    assert_eq!(shell.run("AUTH tok1"), WRONG);
    assert_eq!(shell.run("AUTH tok2"), "+OK");
    assert_eq!(shell.run("NAMESPACE CURRENT"), "$3 ns2");
    let off = "CONFIG SET repl-namespace-enabled no";
    assert_eq!(shell.run("AUTH secret"), "+OK");
    assert!(shell.run(off).contains("cannot switch off"));
    // All of a change or none of it.
    assert!(shell.run(&format!("{off} timeout 77")).contains("cannot switch off"));
    assert_eq!(shell.run("CONFIG GET timeout"), "*2 $7 timeout $1 0");
    assert_eq!(shell.run("NAMESPACE DEL ns2"), "+OK");
    assert_eq!(shell.run(off), "+OK");
    assert!(shell.run("NAMESPACE ADD ns3 tok3").contains("only where there is"));
}

/// Clients of that namespace would be administrators, or peers.
#[test]
fn no_password_is_the_token_of_a_namespace() {
    let mut shell = shell();
    for option in ["requirepass", "requirepass-also", "peer-auth", "masterauth"] {
        let said = shell.run(&format!("CONFIG SET timeout 9 {option} tok1"));
        assert!(said.contains(&format!("'{option}') - it is the token of a namespace")), "{said}");
    }
    assert_eq!(shell.run("CONFIG GET timeout"), "*2 $7 timeout $1 0");
    let node = shell.node();
    let changing = node.namespaces.change();
    assert!(shell.run("CONFIG SET requirepass other").ends_with("try again"));
    drop(changing);
    assert_eq!(shell.run("CONFIG SET requirepass other"), "+OK");
    assert!(shell.run("NAMESPACE ADD ns3 other").contains("duplicated with requirepass"));
    assert_eq!(shell.run("NAMESPACE DEL ns1"), "+OK");
    assert_eq!(shell.run("CONFIG SET requirepass tok1"), "+OK", "it is none any more");
}

/// All keys of a namespace are its client's; of the default one a user has those of its patterns.
#[test]
fn who_logs_in_inside_of_a_transaction_goes_on_as_that_user() {
    let mut shell = shell();
    assert_eq!(shell.run("SET a 1"), "+OK");
    assert_eq!(shell.run("SET hidden 2"), "+OK");
    assert_eq!(shell.run("ACL SETUSER u on >pass ~a +get +exec +multi"), "+OK");
    for login in ["AUTH u pass", "HELLO 2 AUTH u pass"] {
        let client = tenant(&mut shell, "tok1");
        for command in ["MULTI", login, "GET a", "GET hidden", "SET hidden 3"] {
            shell.run_as(client, command);
        }
        let told = shell.run_as(client, "EXEC");
        assert!(told.starts_with("*4 ") && told.contains(" $1 1 -NOPERM "), "{login}: {told}");
        let no_set = " has no permissions to run the 'set' command";
        assert!(told.ends_with(no_set), "{login}: {told}");
        assert_eq!(told.matches("-NOPERM ").count(), 2, "{login}: {told}");
    }
    assert_eq!(shell.run("GET hidden"), "$1 2");
    // Nor does an administrator stay one with a token.
    let admin = shell.client();
    assert_eq!(shell.run_as(admin, "AUTH secret"), "+OK");
    for command in ["MULTI", "AUTH tok1", "FLUSHALL"] {
        shell.run_as(admin, command);
    }
    let refused = "-ERR admin permission required to perform the command";
    assert_eq!(shell.run_as(admin, "EXEC"), format!("*2 +OK {refused}"));
    assert_eq!(shell.run("GET a"), "$1 1");
}

const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.";

#[test]
fn a_replica_takes_up_the_tokens_of_its_master() {
    let mut master = shell();
    let before = master.sequence();
    assert_eq!(master.run("NAMESPACE SET ns1 new"), "+OK");
    let mut replica = Shell::with(|values| {
        values.requirepass = "secret".into();
        values.repl_namespace_enabled = true;
    });
    for batch in master.batches_since(before) {
        replica.node.namespaces.take_up(&replica.node.config.now(), &batch);
    }
    assert_eq!(replica.run("AUTH new"), "+OK");
    assert_eq!(replica.run("NAMESPACE CURRENT"), "$3 ns1");
}

#[test]
fn a_change_concerns_those_who_watch_and_wait_in_its_namespace() {
    let mut shell = shell();
    let (a, b) = (tenant(&mut shell, "tok1"), tenant(&mut shell, "tok2"));
    for command in ["SET k 1", "WATCH k", "MULTI", "GET k"] {
        shell.run_as(a, command);
    }
    assert_eq!(shell.run_as(b, "SET k 2"), "+OK");
    assert_eq!(shell.run_as(b, "FLUSHDB"), "+OK");
    assert_eq!(shell.run_as(a, "EXEC"), "*1 $1 1");
    for command in ["WATCH k", "MULTI", "GET k"] {
        shell.run_as(a, command);
    }
    assert_eq!(shell.run("FLUSHALL"), "+OK");
    assert_eq!(shell.run_as(a, "EXEC"), "*-1");
    let mut waiting = shell.wait_as(a, "BLPOP l 0");
    assert_eq!(shell.run_as(b, "RPUSH l b"), ":1");
    assert_eq!(waiting.now(), None);
    let other = tenant(&mut shell, "tok1");
    assert_eq!(shell.run_as(other, "RPUSH l a"), ":1");
    let answer = b"*2\r\n$1\r\nl\r\n$1\r\na\r\n".to_vec();
    assert_eq!(waiting.now(), Some(Told::Answer(answer)));
    assert_eq!(shell.run_as(b, "LRANGE l 0 -1"), "*1 $1 b");
}

#[test]
fn a_tenant_sees_and_ends_clients_of_its_namespace_alone() {
    let mut shell = shell();
    let (a, b) = (tenant(&mut shell, "tok1"), tenant(&mut shell, "tok2"));
    let other = tenant(&mut shell, "tok1");
    let id = |shell: &mut Shell, client| {
        let said = shell.run_as(client, "CLIENT ID");
        said.trim_start_matches(':').to_owned()
    };
    let [first, of_b, of_other] = [0, b, other].map(|client| id(&mut shell, client));
    let seen = shell.run_as(a, "CLIENT LIST");
    assert_eq!(seen.matches("id=").count(), 2, "{seen}");
    assert_eq!(seen.matches(" namespace=ns1").count(), 2, "{seen}");
    assert_eq!(shell.run_as(a, &format!("CLIENT LIST ID {first} {of_b}")), "$0");
    assert_eq!(shell.run("CLIENT LIST").matches("id=").count(), 4);
    for (target, is_theirs) in [(&of_b, false), (&first, false), (&of_other, true)] {
        let answer = shell.run_as(a, &format!("CLIENT TRACKING ON REDIRECT {target}"));
        assert_eq!(answer == "+OK", is_theirs, "{answer}");
    }
    assert_eq!(shell.run_as(a, "CLIENT TRACKING OFF"), "+OK");
    let mut waiting = shell.wait_as(b, "BLPOP l 0");
    for command in [
        format!("CLIENT UNBLOCK {of_b}"),
        format!("CLIENT KILL ID {of_b}"),
        format!("CLIENT KILL ID {first}"),
        "CLIENT KILL TYPE REPLICA".to_owned(),
    ] {
        assert_eq!(shell.run_as(a, &command), ":0", "{command}");
    }
    assert_eq!(waiting.now(), None);
    assert_eq!(shell.run(&format!("CLIENT UNBLOCK {of_b}")), ":1");
    assert_eq!(shell.run_as(a, &format!("CLIENT KILL ID {of_other}")), ":1");
    assert_eq!(shell.run_as(a, "CLIENT KILL SKIPME yes"), ":1", "the same one");
}

/// What a tenant put into a function would run with the rights of whoever calls it.
#[test]
fn a_tenant_changes_no_functions_and_sees_and_ends_scripts_of_its_namespace_alone() {
    let mut shell = shell();
    let (a, b) = (tenant(&mut shell, "tok1"), tenant(&mut shell, "tok2"));
    for command in ["LOAD x", "LOAD REPLACE x", "DELETE x", "FLUSH", "RESTORE x"] {
        let said = shell.run_as(a, &format!("FUNCTION {command}"));
        assert!(said.starts_with("-ERR admin permission required "), "{command}: {said}");
    }
    assert_eq!(shell.run("FUNCTION DELETE x"), "-ERR Library not found");
    assert_eq!(shell.run_as(a, "FUNCTION LIST"), "*0");
    let node = shell.node();
    let begin = |is_function| {
        let running = Running::new("f".to_owned(), vec![b"hidden".to_vec()], is_function);
        node.scripts.begin(running.within(b"ns2".as_slice().into()))
    };
    let (script, function) = (begin(false), begin(true));
    let seen = |shell: &mut Shell, client| {
        let said = shell.run_as(client, "FUNCTION STATS");
        assert!(said.starts_with("*4 $14 running_script "), "{said}");
        said.contains(" $7 command *1 $6 hidden ")
    };
    assert_eq!([0, a, b].map(|client| seen(&mut shell, client)), [true, false, true]);
    for command in ["SCRIPT KILL", "FUNCTION KILL"] {
        assert!(shell.run_as(a, command).starts_with("-NOTBUSY "), "{command}");
    }
    let ended = || [&script, &function].map(|one| one.running.control.stopped().is_some());
    assert_eq!(ended(), [false, false]);
    assert_eq!(shell.run_as(b, "SCRIPT KILL"), "+OK");
    assert_eq!(ended(), [true, false]);
    assert_eq!(shell.run("FUNCTION KILL"), "+OK");
    assert_eq!(ended(), [true, true]);
}

#[test]
fn databases_are_namespaces_of_their_numbers() {
    let mut shell = Shell::with(|values| values.redis_databases = 3);
    assert_eq!(shell.run("SET k 0"), "+OK");
    let shown = |shell: &mut Shell, database: &str| {
        let line = shell.run("CLIENT INFO");
        assert!(line.contains(&format!(" db={database} ")), "{line}");
    };
    shown(&mut shell, "0");
    assert_eq!(shell.run("SELECT 2"), "+OK");
    assert_eq!(shell.run("EXISTS k"), ":0");
    shown(&mut shell, "2");
    assert_eq!(shell.run("SELECT 3"), "-ERR DB index is out of range");
    assert_eq!(shell.run("SELECT 0"), "+OK");
    assert_eq!(shell.run("MOVE k 2"), ":1");
    assert_eq!(shell.run("MOVE k 2"), ":0");
    assert_eq!(shell.run("MOVE k 0"), "-ERR source and destination objects are the same");
    assert_eq!(shell.run("MOVE k 9"), "-ERR DB index is out of range");
    assert_eq!(shell.run("SET k 1"), "+OK");
    assert_eq!(shell.run("COPY k k DB 1"), ":1");
    assert_eq!(shell.run("SELECT 2"), "+OK");
    assert_eq!(shell.run("GET k"), "$1 0");
    assert_eq!(shell.run("CONFIG GET redis-databases"), "*2 $15 redis-databases $1 3");
    assert_eq!(shell.run("FLUSHDB"), "+OK");
    assert_eq!(shell.run("SELECT 1"), "+OK");
    assert_eq!(shell.run("GET k"), "$1 1");
    shown(&mut shell, "1");
    // What follows a SELECT in a transaction is of that database; a script stays in its caller's.
    let calls = ["MULTI", "SELECT 2", "SET t 2", "GET k", "SELECT 1", "GET k", "EXEC"];
    let told: Vec<String> = calls.iter().map(|call| shell.run(call)).collect();
    assert_eq!(told.last().map(String::as_str), Some("*5 +OK +OK $-1 +OK $1 1"));
    assert_eq!(shell.run("EXISTS t"), ":0");
    let refused = shell.run("EVAL return(redis.call('SELECT',2)) 0");
    assert!(refused.contains("a script stays in the database of its caller"), "{refused}");
    shown(&mut shell, "1");
    assert_eq!(shell.run("SELECT 2"), "+OK");
    assert_eq!(shell.run("GET t"), "$1 2");
    assert_eq!(shell.run("RESET"), "+RESET");
    shown(&mut shell, "0");
    assert!(shell.pairs().iter().any(|(_, key, _)| key == b"\x011k"));
}
