//! CLIENT TRACKING through the table.

use super::Shell;

fn pushed(shell: &Shell, client: usize) -> String {
    let mut out = Vec::new();
    shell.clients[client].client.inbox.take(&mut out);
    String::from_utf8_lossy(&out).replace("\r\n", " ").trim_end().to_owned()
}

fn shell() -> (Shell, usize) {
    let mut shell = Shell::new();
    let reader = shell.client();
    assert!(shell.run_as(reader, "HELLO 3").starts_with('%'));
    (shell, reader)
}

fn invalid(key: &str) -> String {
    format!(">2 $10 invalidate *1 ${} {key}", key.len())
}

#[test]
fn what_was_read_is_told_when_it_changes() {
    let (mut shell, reader) = shell();
    assert_eq!(shell.run_as(reader, "CLIENT TRACKING ON"), "+OK");
    assert_eq!(shell.run_as(reader, "GET k"), "_");
    assert_eq!(shell.run_as(reader, "HGET h f"), "_");
    assert_eq!(shell.run("SET other v"), "+OK");
    assert_eq!(pushed(&shell, reader), "");
    assert_eq!(shell.run("SET k v"), "+OK");
    assert_eq!(pushed(&shell, reader), invalid("k"));
    assert_eq!(shell.run("SET k w"), "+OK");
    assert_eq!(pushed(&shell, reader), "", "it was not read again");
    assert_eq!(shell.run("HSET h f v"), ":1");
    assert_eq!(pushed(&shell, reader), invalid("h"));
    for command in ["MULTI", "GET k", "EXEC"] {
        shell.run_as(reader, command);
    }
    for command in ["MULTI", "DEL k", "SET k 1", "EXEC"] {
        shell.run(command);
    }
    assert_eq!(pushed(&shell, reader), invalid("k"), "once");
    assert_eq!(shell.run_as(reader, "GET k"), "$1 1");
    assert_eq!(shell.run("FLUSHALL"), "+OK");
    assert_eq!(pushed(&shell, reader), ">2 $10 invalidate _");
    assert_eq!(shell.run_as(reader, "GET k"), "_");
    shell.run_as(reader, "CLIENT TRACKING OFF");
    assert_eq!(shell.run("SET k v"), "+OK");
    assert_eq!(pushed(&shell, reader), "");
    assert!(!shell.node.tracking.any());
}

/// As in Redis 7.2.
#[test]
fn of_a_script_what_it_reads_is_tracked_and_not_what_it_declares() {
    let (mut shell, reader) = shell();
    assert_eq!(shell.run_as(reader, "CLIENT TRACKING ON"), "+OK");
    for script in ["EVAL return(redis.call('GET',KEYS[2])) 2 a b", "EVAL_RO return(1) 1 c"] {
        shell.run_as(reader, script);
    }
    shell.run("MSET a 1 b 1 c 1");
    assert_eq!(pushed(&shell, reader), invalid("b"));
}

#[test]
fn a_client_chooses_what_it_is_told_of() {
    let (mut shell, reader) = shell();
    let run = |shell: &mut Shell, command: &str| shell.run_as(reader, command);
    run(&mut shell, "CLIENT TRACKING ON OPTIN");
    for command in ["GET a", "CLIENT CACHING YES", "GET b", "GET c"] {
        run(&mut shell, command);
    }
    shell.run("MSET a 1 b 1 c 1");
    assert_eq!(pushed(&shell, reader), invalid("b"));
    for command in ["CLIENT CACHING YES", "MULTI", "GET a", "GET b", "EXEC", "GET c"] {
        run(&mut shell, command);
    }
    shell.run("MSET a 2 b 2 c 2");
    assert_eq!(pushed(&shell, reader), format!("{} {}", invalid("a"), invalid("b")));
    assert!(run(&mut shell, "CLIENT CACHING NO").contains("only valid when"));
    assert!(run(&mut shell, "CLIENT TRACKING ON OPTOUT").contains("can't switch OPTIN/OPTOUT"));
    run(&mut shell, "CLIENT TRACKING OFF");
    run(&mut shell, "CLIENT TRACKING ON OPTOUT NOLOOP");
    for command in ["CLIENT CACHING NO", "GET a", "GET b", "GET c", "SET b 3"] {
        run(&mut shell, command);
    }
    shell.run("MSET a 3 c 3");
    assert_eq!(pushed(&shell, reader), invalid("c"));
    // One that is refused was the next command, too: what comes behind it is tracked.
    for refused in ["GET", "NOSUCH"] {
        for command in ["CLIENT CACHING NO", refused, "GET d"] {
            run(&mut shell, command);
        }
        shell.run("SET d 1");
        assert_eq!(pushed(&shell, reader), invalid("d"), "{refused}");
    }
    let info = run(&mut shell, "CLIENT TRACKINGINFO");
    assert_eq!(info, "%3 $5 flags ~3 $2 on $6 optout $6 noloop $8 redirect :0 $8 prefixes *0");
    run(&mut shell, "RESET");
    assert_eq!(run(&mut shell, "CLIENT GETREDIR"), ":-1");
}

#[test]
fn a_broadcast_needs_no_reading() {
    let (mut shell, reader) = shell();
    let run = |shell: &mut Shell, command: &str| shell.run_as(reader, command);
    for (command, why) in [
        ("CLIENT TRACKING ON PREFIX a", "requires BCAST"),
        ("CLIENT TRACKING ON BCAST OPTIN", "not compatible with BCAST"),
        ("CLIENT TRACKING ON BCAST PREFIX a PREFIX ab", "another provided prefix"),
        ("CLIENT TRACKING ON REDIRECT 999", "does not exist"),
        ("CLIENT TRACKING MAYBE", "syntax error"),
    ] {
        assert!(run(&mut shell, command).contains(why), "{command}");
    }
    assert_eq!(run(&mut shell, "CLIENT TRACKING ON BCAST PREFIX user: PREFIX x"), "+OK");
    shell.run("MSET user:1 a other b user:2 c");
    assert_eq!(pushed(&shell, reader), ">2 $10 invalidate *2 $6 user:1 $6 user:2");
    assert!(run(&mut shell, "CLIENT TRACKING ON BCAST PREFIX us").contains("existing prefix"));
    assert!(run(&mut shell, "CLIENT TRACKING ON").contains("can't switch BCAST"));
    // All keys are those of the empty prefix, whatever other prefixes there are.
    assert_eq!(run(&mut shell, "CLIENT TRACKING ON BCAST"), "+OK");
    assert!(run(&mut shell, "CLIENT TRACKING ON BCAST PREFIX z").contains("prefix ''"));
    shell.run("MSET user:1 a other b");
    assert_eq!(pushed(&shell, reader), ">2 $10 invalidate *2 $5 other $6 user:1");
}

/// Compared each with each other they would keep their worker for minutes.
#[test]
fn any_number_of_prefixes_is_looked_at_soon() {
    let (mut shell, reader) = shell();
    let of = |numbers: std::ops::Range<u32>| {
        numbers.map(|number| format!(" PREFIX {number:07}")).collect::<String>()
    };
    let began = std::time::Instant::now();
    let many = format!("CLIENT TRACKING ON BCAST{}", of(0..400_000));
    assert!(shell.run_as(reader, &many).ends_with("+OK"));
    let late = of(500_000..900_000) + " PREFIX 05";
    for more in [" PREFIX 0399999x", " PREFIX 03", late.as_str()] {
        let reply = shell.run_as(reader, &format!("CLIENT TRACKING ON BCAST{more}"));
        assert!(reply.contains("must not overlap"), "{}", reply.len());
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(90), "{:?}", began.elapsed());
    shell.run("MSET 0399999:k v 0400000:k v");
    assert_eq!(pushed(&shell, reader), ">2 $10 invalidate *1 $9 0399999:k");
}

/// Redis' letters: `t` tracks, `B` is told without reading, `R` was to be told by way of a
/// connection that is gone. Behind them by way of which connection.
#[test]
fn the_list_of_clients_shows_who_tracks_and_how() {
    let (mut shell, reader) = shell();
    let target = shell.client();
    let id = shell.clients[target].client.id;
    let to_other = format!("CLIENT TRACKING ON REDIRECT {id}");
    let shown_after = |shell: &mut Shell, command: &str| {
        shell.run_as(reader, command);
        let line = shell.run_as(reader, "CLIENT INFO");
        let field = |name: &'static str| line.split(' ').find_map(|field| field.strip_prefix(name));
        format!("{} {}", field("flags=").unwrap(), field("redir=").unwrap())
    };
    let redirected = |flags: &str| format!("{flags} {id}");
    for (command, shown) in [
        ("PING", "N -1"),
        ("CLIENT TRACKING ON", "t 0"),
        ("CLIENT TRACKING OFF", "N -1"),
        ("CLIENT TRACKING ON BCAST", "tB 0"),
        ("CLIENT TRACKING OFF", "N -1"),
        (to_other.as_str(), redirected("t").as_str()),
    ] {
        assert_eq!(shown_after(&mut shell, command), shown, "{command}");
    }
    shell.run_as(reader, "GET k");
    shell.clients[target].client.kill();
    let shown = shown_after(&mut shell, "PING");
    assert_eq!(shown, redirected("t"), "nobody was to be told yet");
    shell.run("SET k v");
    assert_eq!(shown_after(&mut shell, "PING"), redirected("tR"));
    assert_eq!(shown_after(&mut shell, "CLIENT TRACKING ON"), "t 0", "it is told itself");
    assert_eq!(shown_after(&mut shell, "RESET"), "N -1");
}

#[test]
fn a_replica_tells_what_its_master_changed() {
    let (mut replica, reader) = shell();
    let mut master = Shell::new();
    assert_eq!(replica.run_as(reader, "CLIENT TRACKING ON BCAST"), "+OK");
    master.run("SET k v");
    let node = std::sync::Arc::clone(&replica.node);
    let sending = crate::tracking::Sending { limit: crate::inbox::Limit::default(), now_ms: 1 };
    for batch in master.batches_since(0) {
        node.tracking.tell(&batch, false, None, sending);
    }
    assert_eq!(pushed(&replica, reader), invalid("k"));
    node.touch_all();
    assert_eq!(pushed(&replica, reader), ">2 $10 invalidate _");
}
