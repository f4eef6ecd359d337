//! Commands that wait for a key: which client is served, by what, and when.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::Shell;
use crate::locks::Locks;
use crate::waiters::{Told, Waiting};

/// What a waiting command was told, in one line; `None` while it waits.
pub(super) fn told(waiting: &mut Waiting) -> Option<String> {
    match waiting.now()? {
        Told::Answer(bytes) => {
            let text = String::from_utf8(bytes).unwrap();
            Some(text.replace("\r\n", " ").trim_end().to_owned())
        }
        Told::Left { .. } => panic!("it was lent no line"),
        Told::Again => Some("again".to_owned()),
    }
}

fn popped(key: &str, value: &str) -> Option<String> {
    Some(format!("*2 ${} {key} ${} {value}", key.len(), value.len()))
}

#[test]
fn those_who_wait_are_served_in_order_of_arrival() {
    let mut shell = Shell::new();
    let (first, second, third) = (shell.client(), shell.client(), shell.client());
    let mut first = shell.wait_as(first, "BLPOP other q 0");
    let mut second = shell.wait_as(second, "BRPOP q 0");
    let mut third = shell.wait_as(third, "BLMPOP 0 1 q LEFT COUNT 5");
    assert_eq!(told(&mut first), None);
    assert_eq!(shell.run("RPUSH q a"), ":1");
    assert_eq!((told(&mut first), told(&mut second)), (popped("q", "a"), None));
    // Both are served by one push, and what is left is what LLEN counts.
    assert_eq!(shell.run("RPUSH q b c d"), ":3");
    assert_eq!(told(&mut second), popped("q", "d"));
    assert_eq!(told(&mut third).as_deref(), Some("*2 $1 q *2 $1 b $1 c"));
    assert_eq!((shell.run("LLEN q"), shell.run("EXISTS q")), (":0".into(), ":0".into()));
    // The first one waits for its other key no more.
    assert_eq!((shell.run("RPUSH other x"), shell.run("LLEN other")), (":1".into(), ":1".into()));
}

#[test]
fn what_is_there_is_taken_at_once_and_inside_exec_nothing_waits() {
    let mut shell = Shell::new();
    shell.run("RPUSH q a b");
    assert_eq!(shell.run("BLPOP none q 0"), "*2 $1 q $1 a");
    assert_eq!(shell.run("BLMOVE q r LEFT RIGHT 0"), "$1 b");
    assert_eq!(shell.run("BRPOPLPUSH r q 0"), "$1 b");
    for command in ["MULTI", "BLPOP none 0", "BLMOVE none r LEFT LEFT 0", "BLPOP q 0"] {
        shell.run(command);
    }
    assert_eq!(shell.run("EXEC"), "*3 *-1 $-1 *2 $1 q $1 b");
    for (command, error) in [
        ("BLPOP q -1", "-ERR timeout is negative"),
        ("BLPOP q x", "-ERR timeout is not a float or out of range"),
        ("BLPOP q 9223372036854775807", "-ERR timeout is out of range"),
        // As Redis 7.2; 7.0 waits for ever, as nothing can wait so long.
        ("XREAD BLOCK 9223372036854775807 STREAMS x $", "-ERR timeout is out of range"),
        (
            "XREADGROUP GROUP g c BLOCK 9223372036854775807 STREAMS x >",
            "-ERR timeout is out of range",
        ),
        ("CLIENT PAUSE 9223372036854775807", "-ERR timeout is out of range"),
        ("BLMOVE q r UP LEFT 0", "-ERR syntax error"),
        ("BLMPOP 0 0 q LEFT", "-ERR numkeys should be greater than 0"),
    ] {
        assert_eq!(shell.run(command), error, "{command}");
    }
    shell.run("SET text x");
    assert!(shell.run("BLPOP text 0").starts_with("-WRONGTYPE "));
}

#[test]
fn exec_rename_and_another_command_that_waited_serve_too() {
    let mut shell = Shell::new();
    let (one, other) = (shell.client(), shell.client());
    let mut waiting = shell.wait_as(one, "BLPOP q 0");
    for command in ["MULTI", "RPUSH q a", "LLEN q", "DEL q", "RPUSH q b"] {
        shell.run(command);
    }
    assert_eq!(told(&mut waiting), None, "queued");
    // After the whole of it, as in Redis: `a` was never there.
    assert_eq!(shell.run("EXEC"), "*4 :1 :1 :1 :1");
    assert_eq!(told(&mut waiting), popped("q", "b"));

    let mut waiting = shell.wait_as(one, "BLPOP q 0");
    shell.run("RPUSH source a");
    assert_eq!(shell.run("RENAME source q"), "+OK");
    assert_eq!(told(&mut waiting), popped("q", "a"));

    let mut chain = shell.wait_as(one, "BLMOVE q r LEFT RIGHT 0");
    let mut end = shell.wait_as(other, "BLPOP r 0");
    shell.run("RPUSH q a");
    assert_eq!(told(&mut chain).as_deref(), Some("$1 a"));
    assert_eq!(told(&mut end), popped("r", "a"));
    assert_eq!(shell.run("EXISTS q r"), ":0");
}

#[test]
fn a_key_of_another_type_ends_no_wait_and_a_bad_destination_does() {
    let mut shell = Shell::new();
    let (one, other) = (shell.client(), shell.client());
    let mut waiting = shell.wait_as(one, "BLPOP q r 0");
    let mut moving = shell.wait_as(other, "BLMOVE s q LEFT LEFT 0");
    shell.run("SET q text");
    shell.run("HSET s f v");
    assert_eq!((told(&mut waiting), told(&mut moving)), (None, None));
    shell.run("RPUSH r a");
    assert_eq!(told(&mut waiting), popped("r", "a"));
    shell.run("DEL s");
    shell.run("RPUSH s a");
    assert!(told(&mut moving).is_some_and(|told| told.starts_with("-WRONGTYPE ")));
    assert_eq!(shell.run("LRANGE s 0 -1"), "*1 $1 a", "nothing was taken");
}

#[test]
fn one_that_was_unblocked_or_has_gone_takes_nothing() {
    let mut shell = Shell::new();
    let (one, other) = (shell.client(), shell.client());
    let mut waiting = shell.wait_as(one, "BLPOP q 0");
    let id = shell.run_as(other, "CLIENT LIST");
    let id = id.split("id=").nth(2).unwrap().split(' ').next().unwrap().to_owned();
    assert_eq!(shell.run_as(other, &format!("CLIENT UNBLOCK {id} ERROR")), ":1");
    let error = "-UNBLOCKED client unblocked via CLIENT UNBLOCK";
    assert_eq!(told(&mut waiting).as_deref(), Some(error));
    assert_eq!(shell.run_as(other, &format!("CLIENT UNBLOCK {id}")), ":0");
    let mut waiting = shell.wait_as(one, "BLMOVE q r LEFT LEFT 0");
    assert_eq!(shell.run_as(other, &format!("CLIENT UNBLOCK {id} TIMEOUT")), ":1");
    assert_eq!(told(&mut waiting).as_deref(), Some("*-1"));
    drop(shell.wait_as(one, "BLPOP q 0"));
    assert_eq!((shell.run("RPUSH q a"), shell.run("LLEN q")), (":1".into(), ":1".into()));
}

#[test]
fn one_that_was_killed_takes_nothing_though_it_has_not_noticed() {
    let mut shell = Shell::new();
    let (one, other) = (shell.client(), shell.client());
    let waiting = shell.wait_as(one, "BLPOP q 0");
    let list = shell.run_as(other, "CLIENT LIST");
    let id = list.split("id=").nth(2).unwrap().split(' ').next().unwrap().to_owned();
    assert_eq!(shell.run_as(other, &format!("CLIENT KILL ID {id}")), ":1");
    assert_eq!((shell.run("RPUSH q a"), shell.run("LLEN q")), (":1".into(), ":1".into()));
    drop(waiting);
}

/// A script may hold a key for as long as it likes.
#[test]
fn a_push_does_not_wait_for_another_key_of_one_that_waits() {
    let mut shell = Shell::new();
    let (one, other) = (shell.client(), shell.client());
    let (mut both, mut alone) =
        (shell.wait_as(one, "BLPOP q r 0"), shell.wait_as(other, "BLPOP q 0"));
    let (node, mut pusher) = (shell.node(), shell.beside());
    let held = node.locks.lock(&Locks::stripes([b"r".as_slice()].into_iter()));
    let (done, pushed) = mpsc::channel();
    let pushing = std::thread::spawn(move || done.send(pusher.run("RPUSH q a b")));
    let reply = pushed.recv_timeout(Duration::from_secs(20));
    drop(held);
    pushing.join().unwrap().unwrap();
    assert_eq!(reply.as_deref(), Ok(":2"), "it waited for the end of the script");
    assert_eq!(told(&mut both).as_deref(), Some("again"));
    assert_eq!(told(&mut alone), popped("q", "a"), "others are served");
    assert_eq!(Some(shell.run_as(one, "BLPOP q r 0")), popped("q", "b"));
}

/// Several workers push while several wait: each element goes to one of them, and none is lost.
#[test]
fn between_workers_each_element_is_given_once() {
    const EACH: usize = 200;
    let mut shell = Shell::new();
    let waiting: Vec<Waiting> = (0..3 * EACH)
        .map(|number| {
            let client = shell.client();
            let keys = if number % 2 == 0 { "q r" } else { "r q" };
            shell.wait_as(client, &format!("BLPOP {keys} 0"))
        })
        .collect();
    let pushed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (mut client, pushed) = (shell.beside(), &pushed);
            scope.spawn(move || {
                for number in 0..EACH {
                    let key = if (worker + number) % 2 == 0 { "q" } else { "r" };
                    client.run(&format!("RPUSH {key} {worker}-{number}"));
                    pushed.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    let mut given: Vec<String> = waiting
        .into_iter()
        .map(|mut waiting| told(&mut waiting).expect("all are told something"))
        // Of one whose other key somebody else had just then: it looks for itself, and what it
        // would have got is still there.
        .filter(|reply| reply != "again")
        .map(|reply| reply.rsplit(' ').next().unwrap().to_owned())
        .collect();
    for key in ["q", "r"] {
        let left = shell.run(&format!("LRANGE {key} 0 -1"));
        given.extend(left.split(' ').filter(|word| word.contains('-')).map(str::to_owned));
    }
    assert_eq!(given.len(), pushed.load(Ordering::SeqCst));
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 4 * EACH, "one was given twice");
}
