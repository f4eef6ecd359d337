//! Recorded migrations of a real Kvrocks (`testdata/kvrocks`): what its source sent, and what its
//! destination answered.

use anyhow::{Context as _, Result, bail, ensure};

/// Requests that were sent together, and all that was answered to them.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) requests: Vec<Vec<u8>>,
    pub(crate) answer: Vec<u8>,
}

/// The exchanges of a recording, in their order.
pub(crate) fn read(text: &str) -> Result<Vec<Exchange>> {
    let mut exchanges: Vec<Exchange> = Vec::new();
    for line in text.lines() {
        if let Some(sent) = line.strip_prefix("S> ") {
            if exchanges.last().is_none_or(|last| !last.answer.is_empty()) {
                exchanges.push(Exchange::default());
            }
            exchanges.last_mut().context("an exchange")?.requests.push(bytes(sent)?);
        } else if let Some(answered) = line.strip_prefix("D> ") {
            exchanges.last_mut().context("an answer to nothing")?.answer.extend(bytes(answered)?);
        }
    }
    ensure!(exchanges.len() > 3, "a recording without requests");
    Ok(exchanges)
}

fn hex(text: &str) -> Result<u8> {
    u8::from_str_radix(text, 16).with_context(|| format!("read {text:?} as a byte"))
}

/// Bytes as recordings write them.
fn bytes(line: &str) -> Result<Vec<u8>> {
    if let Some((_, digits)) = line.strip_prefix("hex(").and_then(|rest| rest.split_once(") ")) {
        let digits = digits.as_bytes().chunks(2);
        return digits.map(|pair| hex(std::str::from_utf8(pair)?)).collect();
    }
    let (mut out, mut rest) = (Vec::new(), line);
    while let Some(sign) = rest.chars().next() {
        if sign != '\\' {
            out.push(u8::try_from(sign).context("a sign that is no byte")?);
            rest = &rest[1..];
            continue;
        }
        let (byte, length) = match rest.as_bytes().get(1) {
            Some(b'r') => (b'\r', 2),
            Some(b'n') => (b'\n', 2),
            Some(b'\\') => (b'\\', 2),
            Some(b'x') => (hex(rest.get(2..4).context("two digits")?)?, 4),
            Some(b'{') => {
                let (run, behind) = rest[2..].split_once('}').context("the end of a run")?;
                let (byte, times) = run.split_once('*').context("how often")?;
                out.extend(std::iter::repeat_n(hex(byte)?, times.parse()?));
                rest = behind;
                continue;
            }
            _ => bail!("an escape in {rest:.20}"),
        };
        out.push(byte);
        rest = &rest[length..];
    }
    Ok(out)
}

/// The words of a request.
pub(crate) fn words(request: &[u8]) -> Result<Vec<Vec<u8>>> {
    let line = |from: usize| -> Result<(usize, usize)> {
        let length = request[from..].windows(2).position(|two| two == b"\r\n").context("a line")?;
        let number = std::str::from_utf8(&request[from + 1..from + length])?.parse()?;
        Ok((number, from + length + 2))
    };
    let (count, mut at) = line(0)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (length, begin) = line(at)?;
        words.push(request.get(begin..begin + length).context("a word is cut")?.to_vec());
        at = begin + length + 2;
    }
    Ok(words)
}

/// A put or delete: its family's number, the key, the value of a put.
pub(crate) type Record = (u8, Vec<u8>, Option<Vec<u8>>);

/// The records of a write batch, log data left out.
pub(crate) fn records(batch: &[u8]) -> Result<Vec<Record>> {
    let mut reader = Reader { rest: batch.get(12..).context("a batch without its head")? };
    let mut records = Vec::new();
    while let Some(tag) = reader.byte() {
        match tag {
            0x0 => records.push((0, reader.string()?, None)),
            0x1 => records.push((0, reader.string()?, Some(reader.string()?))),
            0x3 => drop(reader.string()?),
            0x4 => records.push((reader.byte().context("a family")?, reader.string()?, None)),
            0x5 => {
                let family = reader.byte().context("a family")?;
                records.push((family, reader.string()?, Some(reader.string()?)));
            }
            other => bail!("a record of kind {other}"),
        }
    }
    Ok(records)
}

struct Reader<'b> {
    rest: &'b [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn string(&mut self) -> Result<Vec<u8>> {
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.byte().context("a length")?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (string, rest) = self.rest.split_at_checked(length).context("a string is cut")?;
        self.rest = rest;
        Ok(string.to_vec())
    }
}
