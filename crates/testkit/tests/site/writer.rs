//! Clients that write without a rest, as the page says it: redis-cli, with a certificate and the
//! password, a connection for each write.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use testkit::process;
use testkit::wait;

use crate::host::{Place, Site};
use crate::links::Marks;

/// Far more than a failover takes.
const PATIENCE: Duration = Duration::from_secs(180);
/// Keys that are read at once.
const CHUNK: usize = 500;
/// redis-cli with what it needs; the place is where certificates are.
pub(crate) const CLI: &str =
    "redis-cli -c -p 6379 --tls --cacert ca.pem --cert client.pem --key client.key";

/// One of them; it ends with its handle.
#[derive(Debug)]
pub(crate) struct Writer {
    /// What its keys and its values begin with; a number is behind it.
    key: String,
    value: String,
    process: std::process::Child,
    /// Numbers whose writes were acknowledged.
    acked: Arc<Mutex<Vec<u64>>>,
}

impl Writer {
    /// Writes numbers under keys of their own, all of them with this tag, by each announced
    /// address in turn.
    pub(crate) fn start(place: &Place, tag: &str, marks: &Marks) -> Result<Self> {
        let (key, value) = (format!("{{{tag}}}:{}", marks.key), marks.value.clone());
        let script = format!(
            "cd /srv/site; export REDISCLI_AUTH=$(cat client.secret); n=0\n\
             while n=$((n + 1)); do\n\
             said=$(timeout 5 {CLI} -h 10.0.9.$((1 + n % 4)) SET \"{key}:$n\" \"{value}:$n\" 2>&1)\n\
             [ \"$said\" = OK ] && echo $n\n\
             done\n"
        );
        let mut command = place.command(&["bash", "-c", &script]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut process = command.spawn().context("start a client")?;
        let said = BufReader::new(process.stdout.take().context("its output")?);
        let acked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&acked);
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                told.lock().extend(line.parse::<u64>().ok());
            }
        });
        Ok(Self { key, value, process, acked })
    }

    /// Waits until so many more writes have been acknowledged.
    pub(crate) fn goes_on(&self, more: usize) -> Result<()> {
        let before = self.acked.lock().len();
        let what = format!("{more} more writes of {}", self.key);
        wait::until(&what, PATIENCE, || {
            let count = self.acked.lock().len();
            if count >= before + more { Ok(()) } else { Err(count - before) }
        })
    }

    /// Ends it, and reads what was acknowledged.
    pub(crate) fn check(self, site: &mut Site) -> Result<usize> {
        let (key, value) = (self.key.clone(), self.value.clone());
        let acked = Arc::clone(&self.acked);
        drop(self);
        let acked = acked.lock().clone();
        ensure!(!acked.is_empty(), "nothing was written under {key}");
        for numbers in acked.chunks(CHUNK) {
            let keys: Vec<String> = numbers.iter().map(|n| format!("'{key}:{n}'")).collect();
            let said = site.operate(&format!(
                "cd site; export REDISCLI_AUTH=$(cat client.secret)\n{CLI} -h 10.0.9.1 MGET {}\n",
                keys.join(" ")
            ))?;
            let wanted: Vec<String> = numbers.iter().map(|n| format!("{value}:{n}")).collect();
            let found: Vec<&str> = said.lines().collect();
            ensure!(found == wanted, "{key}: acknowledged {wanted:?}, found {found:?}");
        }
        Ok(acked.len())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Fails for what is gone.
        let _ = process::signal_group(self.process.id(), libc::SIGKILL);
        let _ = self.process.wait();
    }
}
