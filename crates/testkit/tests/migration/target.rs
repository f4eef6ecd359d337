//! A target that takes slots as a Kvrocks does, and keeps what it is sent.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// What it does at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// All is well.
    Takes,
    /// `import … 1` is refused.
    Refuses,
    /// `import … 1` has no answer; who asks then is told this state.
    Forgets(&'static str),
    /// It dies after so many requests.
    Dies(usize),
}

/// See the module documentation.
pub(crate) struct Target {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Vec<Vec<u8>>>>>,
}

impl Target {
    /// One that knows APPLYBATCH or not.
    pub(crate) fn start(conduct: Conduct, takes_batches: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
        let (port, requests) = (listener.local_addr()?.port(), Arc::<Mutex<_>>::default());
        let kept = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serve(stream, conduct, takes_batches, &kept).is_ok_and(|goes_on| !goes_on) {
                    return;
                }
            }
        });
        Ok(Self { port, requests })
    }

    /// What it was sent, one request after the other.
    pub(crate) fn requests(&self) -> Vec<Vec<Vec<u8>>> {
        self.requests.lock().map(|requests| requests.clone()).unwrap_or_default()
    }
}

/// False: it is dead.
fn serve(
    stream: TcpStream,
    conduct: Conduct,
    takes_batches: bool,
    kept: &Mutex<Vec<Vec<Vec<u8>>>>,
) -> Result<bool> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(words) = request(&mut reader)? {
        let count = kept.lock().map(|mut kept| {
            kept.push(words.clone());
            kept.len()
        });
        if let (Conduct::Dies(after), Ok(count)) = (conduct, count)
            && count > after
        {
            return Ok(false);
        }
        let word = |at: usize| {
            words
                .get(at)
                .map(|word| String::from_utf8_lossy(word).to_lowercase())
                .unwrap_or_default()
        };
        let is_end = word(1) == "import" && word(3) == "1";
        let answer = match (word(0).as_str(), conduct) {
            ("cluster", Conduct::Forgets(_)) if is_end => return Ok(true),
            ("cluster", Conduct::Refuses) if is_end => "-ERR not today\r\n".to_owned(),
            ("cluster", Conduct::Forgets(state)) if word(1) == "info" => {
                let info = format!(
                    "cluster_state:ok\r\nimporting_slot(s): 6769\r\nimport_state: {state}\r\n"
                );
                format!("${}\r\n{info}\r\n", info.len())
            }
            ("command", _) if takes_batches => {
                "*1\r\n*6\r\n$10\r\napplybatch\r\n:-2\r\n*1\r\n$5\r\nwrite\r\n:0\r\n:0\r\n:0\r\n"
                    .into()
            }
            ("command", _) => "*1\r\n*-1\r\n".into(),
            ("applybatch", _) => format!(":{}\r\n", words.get(1).map_or(0, Vec::len)),
            _ => "+OK\r\n".into(),
        };
        writer.write_all(answer.as_bytes())?;
    }
    Ok(true)
}

fn request(reader: &mut BufReader<TcpStream>) -> Result<Option<Vec<Vec<u8>>>> {
    let number = |sign: char, reader: &mut BufReader<TcpStream>| -> Result<Option<usize>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let digits = line.trim_end().strip_prefix(sign).context("a line of a request")?;
        Ok(Some(digits.parse()?))
    };
    let Some(count) = number('*', reader)? else { return Ok(None) };
    let mut words = Vec::new();
    for _ in 0..count {
        let length = number('$', reader)?.context("a request is cut")?;
        let mut word = vec![0; length + 2];
        reader.read_exact(&mut word)?;
        ensure!(word.ends_with(b"\r\n"), "a word does not end where it says");
        word.truncate(length);
        words.push(word);
    }
    Ok(Some(words))
}
