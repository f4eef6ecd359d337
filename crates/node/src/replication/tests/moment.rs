//! What several commands read at a replica while its master's batches are applied.

use super::*;

/// Reads one key again and again for 300 ms, and says which values there were. To a script TIME
/// always tells the same.
const LOOKS: &str = "local function us() \
        local told = redis.call('INFO', 'server') \
        return tonumber(string.match(told, 'server_time_usec:(%d+)')) \
    end \
    local first, till = redis.call('GET', KEYS[1]), us() + 300000 \
    repeat \
        local now = redis.call('GET', KEYS[1]) \
        if now ~= first then return first .. ' and ' .. now end \
    until us() > till \
    return first";

const MULTI: &[&str] = &["MULTI"];
const GET: &[&str] = &["GET", "k"];
const EXEC: &[&str] = &["EXEC"];

#[test]
fn what_a_script_or_a_transaction_reads_at_a_replica_is_of_one_moment() {
    let (master, replica) = (Running::start(), Running::start());
    assert_eq!(master.ask(&["SET", "k", "0"]), "+OK");
    replica.follow(master.port);
    replica.await_up_with(&master);
    let is_over = AtomicBool::new(false);
    let counted = |answer: &str| answer.parse::<u64>().map_err(|_| answer.to_owned());
    let (by_script, by_exec) = std::thread::scope(|scope| {
        let writes = scope.spawn(|| {
            let mut stream = master.connect();
            for _ in 0..1_000_000 {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                talk(&mut stream, &[&["INCR", "k"]]);
            }
        });
        let by_script = replica.ask(&["EVAL_RO", LOOKS, "1", "k"]);
        let requests = [&[MULTI][..], &[GET; 2_000], &[EXEC]].concat();
        let by_exec = talk(&mut replica.connect(), &requests).pop();
        // Where it answers no number, that is told below.
        if let Ok(first) = counted(&by_script) {
            wait_until(|| match counted(&replica.ask(&["GET", "k"])) {
                Ok(now) if now > first => Ok(()),
                now => Err(format!("{now:?} after {first}")),
            });
        }
        is_over.store(true, Ordering::SeqCst);
        writes.join().unwrap();
        (by_script, by_exec.unwrap())
    });
    let first = counted(&by_script).unwrap();
    assert!(counted(&replica.ask(&["GET", "k"])).unwrap() > first, "it has changed meanwhile");
    let values: std::collections::BTreeSet<&str> = by_exec.split(' ').collect();
    assert_eq!(values.len(), 1, "{values:?}");
    // The next one sees what is there then.
    replica.await_up_with(&master);
    let now = replica.ask(&["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "k"]);
    assert_eq!(now, master.ask(&["GET", "k"]));
}
