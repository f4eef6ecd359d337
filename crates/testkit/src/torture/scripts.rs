//! Compare-and-set by scripts: one text, called as EVAL, EVALSHA and FCALL.
//!
//! It writes a value to two strings and to every field of a hash, and refuses to go on where these
//! do not agree: a script of which only a part took effect is seen by the next one, and by every
//! read.

use anyhow::{Context as _, Result, ensure};

use super::history::{Answer, Way};
use super::keys::Key;
use crate::wire::{Connection, Reply, encode};

/// What a script answers that found its keys at odds.
const TORN: &str = "TORN";
/// What FCALL answers where the library is missing, which was acknowledged before the first fault.
const NO_LIBRARY: &str = "ERR Function not found";
/// Of the text: EVALSHA.
const SHA: &str = "4fb4178d24cd18cd61f27c331f64587d289b4e6c";

macro_rules! body {
    () => {
        "local seen, copy = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
local held = redis.call('HVALS', KEYS[3])
local torn = copy ~= seen or #held ~= (seen and 16 or 0)
for _, value in ipairs(held) do torn = torn or value ~= seen end
if torn then
  return redis.error_reply('TORN ' .. tostring(seen) .. ' ' .. tostring(copy) .. ' ' .. table.concat(held, ' '))
end
if (seen or '') == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
  for field = 1, 16 do redis.call('HSET', KEYS[3], field, ARGV[2]) end
  redis.call('SET', KEYS[2], ARGV[2])
end
return seen"
    };
}

const TEXT: &str = body!();
const FUNCTION: &str = "torture_compare";
const LIBRARY: &str = concat!(
    "#!lua name=torture\nredis.register_function('torture_compare', function(KEYS, ARGV)\n",
    body!(),
    "\nend)"
);

/// Loads the script and the library at a master.
pub(super) fn load(connection: &mut Connection) -> Result<()> {
    let sha = connection.call(&["SCRIPT", "LOAD", TEXT]).context("load the script")?.text();
    ensure!(sha == SHA, "SCRIPT LOAD: {sha}, not {SHA}");
    let name = connection.call(&["FUNCTION", "LOAD", "REPLACE", LIBRARY]);
    let name = name.context("load the library")?.text();
    ensure!(name == "torture", "FUNCTION LOAD: {name}");
    Ok(())
}

/// As it is sent.
pub(super) fn compare(key: &Key, way: Way, old: Option<u64>, new: u64) -> Vec<u8> {
    let (call, script) = match way {
        Way::Text => ("EVAL", TEXT),
        Way::Sha => ("EVALSHA", SHA),
        Way::Function => ("FCALL", FUNCTION),
    };
    let [copy, hash] = key.copies();
    let old = old.map(|old| old.to_string()).unwrap_or_default();
    encode(&[call, script, "3", &key.name, &copy, &hash, &old, &new.to_string()])
}

/// Both strings.
pub(super) fn read(key: &Key) -> Vec<u8> {
    let [copy, _] = key.copies();
    encode(&["MGET", &key.name, &copy])
}

/// An error that is a finding by itself.
pub(super) fn garbage(error: &str) -> bool {
    error.starts_with(TORN) || error.starts_with(NO_LIBRARY)
}

/// `None` where the two strings differ.
pub(super) fn both(reply: &Reply, value: impl Fn(&Reply) -> Option<Option<u64>>) -> Option<Answer> {
    let [one, other] = reply.elements() else { return None };
    let (one, other) = (value(one)?, value(other)?);
    (one == other).then_some(Answer::Value(one))
}
