//! What users ask of a node for its slots, and what they are answered once a controller has said a
//! word.

use api::moves::wish::{Fate, Part, PartId, Stage, Told, Wish, Wished};

use super::*;

impl Master {
    /// A user waits so much longer for a word of the controller, which this test is.
    fn gives_more_time(&self, ms: u64) {
        self.node().node.moves.wishes.more_ms.store(ms, Ordering::SeqCst);
    }

    /// A command whose answer comes later.
    fn asks(&self, words: &[&str]) -> TcpStream {
        let mut stream = self.node().connect();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        stream.write_all(&wire::request(&words)).unwrap();
        stream
    }

    /// The wish that the controller hears of next.
    fn wished(&self) -> Wished {
        let mut found = None;
        wait_until(|| {
            let wishes = self.heartbeat(&[]).wishes;
            found = wishes.into_iter().find(|wished| !wished.is_heard);
            if found.is_some() { Ok(()) } else { Err("no wish".into()) }
        });
        found.unwrap()
    }

    fn hears(&self, id: PartId, fate: Fate) -> Vec<Wished> {
        self.heartbeat(&[Asked::Told(Told { id, fate })]).wishes
    }
}

fn part(slots: &str, to: &Master) -> Part {
    Part { slots: slots.parse().unwrap(), to: to.id.clone() }
}

#[test]
fn slots_that_are_to_go_are_answered_for_once_they_are_in_the_queue() {
    let Cluster { s, d, .. } = Cluster::new();
    s.gives_more_time(15_000);
    let words = ["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", "20", "29", "0", "9", "NODE", &d.id];
    let mut client = s.asks(&[&words[..], &["SLOTSRANGE", "40", "40", "NODE", &d.id]].concat());
    let wished = s.wished();
    let parts = vec![part("0-9,20-29", &d), part("40", &d)];
    assert_eq!((&wished.wish, wished.is_heard), (&Wish::Move(parts), false));
    let (id, queued) = (wished.id, Fate::Taken(Stage::Queued));
    assert_eq!(s.hears(id, queued.clone()).len(), 1);
    let shown = s.ask(&["CLUSTER", "GETSLOTMIGRATIONS"]);
    let job = format!("name {id} operation EXPORT slot_ranges 0-9 20-29 target_node {} ", d.id);
    assert!(shown.starts_with(&job) && shown.contains(" state waiting"), "{shown}");
    assert!(s.hears(id.part(1), queued)[0].is_heard);
    assert_eq!(answer(&mut client), "+OK");
    assert_eq!(s.hears(id, Fate::Done).len(), 1);
    assert_eq!(s.hears(id.part(1), Fate::Failed("the log is gone".into())), []);
    let shown = s.ask(&["CLUSTER", "GETSLOTMIGRATIONS"]);
    assert!(
        shown.contains("state success") && shown.contains("message the log is gone"),
        "{shown}"
    );

    let unknown = "f".repeat(40);
    for (words, why) in [
        (&["0", "x", "NODE", &d.id][..], "-ERR Invalid or out of range slot"),
        (&["5", "4", "NODE", &d.id][..], "-ERR slots `5-4`"),
        (&["0", "9", "5", "6", "NODE", &d.id][..], "-ERR slots must rise and not overlap"),
        (&["8190", "8192", "NODE", &d.id][..], "-ERR Slots are not served by this node."),
        (&["0", "9", "NODE", &unknown][..], "-ERR Unknown node name: ffff"),
        (&["0", "9", "FOR", &d.id][..], "-ERR Invalid or out of range slot"),
    ] {
        let said = s.ask(&[&["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE"][..], words].concat());
        assert!(said.starts_with(why), "{words:?}: {said}");
    }
    assert_eq!(s.heartbeat(&[]).wishes, [], "nothing of that is a wish");
}

#[test]
fn slots_that_are_to_come_have_a_task_that_is_shown_refused_and_cancelled() {
    let Cluster { s, d, .. } = Cluster::new();
    d.gives_more_time(15_000);
    let import = ["CLUSTER", "MIGRATION", "IMPORT", "0", "9"];
    let mut client = d.asks(&import);
    let id = d.wished().id;
    d.hears(id, Fate::Refused("slots 0-9 are in move 7 already".into()));
    assert_eq!(answer(&mut client), "-ERR slots 0-9 are in move 7 already");
    let mut client = d.asks(&import);
    let wished = d.wished();
    assert_eq!(wished.wish, Wish::Move(vec![part("0-9", &d)]));
    let (task, name) = (wished.id, wished.id.to_string());
    d.hears(task, Fate::Taken(Stage::Copy));
    assert_eq!(answer(&mut client), name);
    let status = d.ask(&["CLUSTER", "MIGRATION", "STATUS", "ID", &name]);
    let told = format!("id {name} slots 0-9 source {} dest {} operation import ", s.id, d.id);
    assert!(status.starts_with(&told) && status.contains("state in_progress"), "{status}");
    let all = d.ask(&["CLUSTER", "MIGRATION", "STATUS", "ALL"]);
    assert!(all.contains("last_error slots 0-9 are in move 7 already"), "{all}");
    assert_eq!(all, d.ask(&["CLUSTER", "MIGRATION", "STATUS"]));
    let mut client = d.asks(&["CLUSTER", "MIGRATION", "CANCEL", "ALL"]);
    let cancel = d.wished();
    assert_eq!(cancel.wish, Wish::Cancel(vec![task]));
    d.hears(task, Fate::Failed("cancelled".into()));
    d.hears(cancel.id, Fate::Done);
    assert_eq!(answer(&mut client), ":1");
    let status = d.ask(&["CLUSTER", "MIGRATION", "STATUS", "ID", &name]);
    assert!(status.contains("state canceled"), "{status}");
    // Nothing is left that could be.
    assert_eq!(d.ask(&["CLUSTER", "MIGRATION", "CANCEL", "ID", &name]), ":0");
    assert_eq!(s.ask(&["CLUSTER", "CANCELSLOTMIGRATIONS"]), "+OK");
    assert_eq!(s.ask(&["CLUSTER", "GETSLOTMIGRATIONS"]), "");
    for words in [&["STATUS", "ID"][..], &["CANCEL", "ID", "x"], &["IMPORT", "1"], &["LIST"]] {
        let said = d.ask(&[&["CLUSTER", "MIGRATION"][..], words].concat());
        assert!(said.starts_with("-ERR "), "{words:?}: {said}");
    }
}

#[test]
fn kvrocks_own_word_is_a_wish_under_a_grant_and_waits_for_its_end_if_it_is_told_to() {
    let Cluster { s, d, .. } = Cluster::new();
    s.gives_more_time(15_000);
    let mut client = s.asks(&["CLUSTERX", "MIGRATE", "5-9", &d.id, "SYNC"]);
    let wished = s.wished();
    assert_eq!(wished.wish, Wish::Move(vec![part("5-9", &d)]));
    s.hears(wished.id, Fate::Taken(Stage::Queued));
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(std::io::Read::read(&mut client, &mut [0]).is_err(), "it is not over");
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    s.hears(wished.id, Fate::Done);
    assert_eq!(answer(&mut client), "+OK");
    // One that is too long is not given up.
    let mut client = s.asks(&["CLUSTERX", "MIGRATE", "5-9", &d.id, "SYNC", "1"]);
    s.hears(s.wished().id, Fate::Taken(Stage::Queued));
    assert_eq!(answer(&mut client), "nil");
    assert_eq!(s.heartbeat(&[]).wishes.len(), 1);
    // No controller that knows wishes.
    s.gives_more_time(0);
    let said = s.ask(&["CLUSTERX", "MIGRATE", "20", &d.id]);
    assert!(said.starts_with("-ERR no word of the controller within 2 s"), "{said}");
    assert_eq!(s.heartbeat(&[]).wishes.len(), 1, "it is not to be taken later");
}

#[test]
fn without_a_controller_nobody_would_carry_wishes_out() {
    let master = Master::new('a');
    master.set_nodes(&format!("{} 127.0.0.1 1 master - 0-8191", master.id), 1);
    let migrate = ["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", "0", "9", "NODE", &master.id];
    for words in [
        &migrate[..],
        &["CLUSTER", "CANCELSLOTMIGRATIONS"],
        &["CLUSTER", "MIGRATION", "IMPORT", "9000", "9001"],
        &["CLUSTER", "MIGRATION", "CANCEL", "ALL"],
    ] {
        let said = master.ask(words);
        assert!(said.starts_with("-ERR no controller leads this node"), "{words:?}: {said}");
    }
    assert_eq!(master.ask(&["CLUSTER", "GETSLOTMIGRATIONS"]), "");
    assert_eq!(master.ask(&["CLUSTER", "MIGRATION", "STATUS", "ALL"]), "");
}
