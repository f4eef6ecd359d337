//! What may be said: one line for each form of a command, as Redis' documentation writes it. Pure.
//!
//! Words in capitals stand for themselves, words in small letters for something of that
//! [`Kind`](super::kind::Kind); `[A|B x]` is one of these or nothing, `(A|B)` one of these, `…`
//! means that what stands before it comes up to three times. What is optional comes in any order. A
//! new family is a list here, and its lines in [`LOOKS`].

/// Forms of a family, each with its weight.
type Family = &'static [(u32, &'static str)];

/// All of them.
#[rustfmt::skip]
pub const FAMILIES: &[Family] = &[
    STRINGS, HASHES, LISTS, SETS, SORTED_SETS, PLACES, BITS, SKETCHES, STREAMS, KEYS, TRANSACTIONS,
    CONNECTION, SERVER,
];

#[rustfmt::skip]
const STRINGS: Family = &[
    (8, "SET key value"),
    (8, "SET key value [NX|XX] [GET] [EX seconds|PX milliseconds|EXAT at|PXAT at_ms|KEEPTTL]"),
    (4, "GET key"),
    (4, "GETEX key [EX seconds|PX milliseconds|EXAT at|PXAT at_ms|PERSIST]"),
    (2, "GETDEL key"),
    (2, "GETSET key value"),
    (2, "SETNX key value"),
    (2, "SETEX key seconds value"),
    (2, "PSETEX key milliseconds value"),
    (2, "STRLEN key"),
    (4, "APPEND key value"),
    (4, "GETRANGE key index index"),
    (1, "SUBSTR key index index"),
    (4, "SETRANGE key offset value"),
    (3, "MGET key…"),
    (3, "MSET (key value)…"),
    (3, "MSETNX (key value)…"),
    (3, "INCR key"),
    (3, "DECR key"),
    (4, "INCRBY key integer"),
    (4, "DECRBY key integer"),
    (4, "INCRBYFLOAT key float"),
    (4, "LCS key key [LEN] [IDX] [MINMATCHLEN integer] [WITHMATCHLEN]"),
];

#[rustfmt::skip]
const HASHES: Family = &[
    (8, "HSET key (field value)…"),
    (2, "HMSET key (field value)…"),
    (3, "HSETNX key field value"),
    (4, "HGET key field"),
    (4, "HMGET key field…"),
    (3, "HGETALL key"),
    (2, "HKEYS key"),
    (2, "HVALS key"),
    (3, "HLEN key"),
    (2, "HSTRLEN key field"),
    (2, "HEXISTS key field"),
    (6, "HDEL key field…"),
    (4, "HINCRBY key field integer"),
    (4, "HINCRBYFLOAT key field float"),
    (2, "HSCAN key cursor COUNT count [MATCH pattern]"),
];

// SPOP and SRANDMEMBER are not here: short of a word, they answer by chance.
#[rustfmt::skip]
const SETS: Family = &[
    (8, "SADD key field…"),
    (5, "SREM key field…"),
    (2, "SCARD key"),
    (3, "SMEMBERS key"),
    (2, "SISMEMBER key field"),
    (2, "SMISMEMBER key field…"),
    (4, "SMOVE key key field"),
    (2, "SDIFF key…"),
    (2, "SUNION key…"),
    (2, "SINTER key…"),
    (2, "SINTERCARD 2 key key [LIMIT integer]"),
    (3, "SDIFFSTORE key key…"),
    (3, "SUNIONSTORE key key…"),
    (3, "SINTERSTORE key key…"),
    (2, "SSCAN key cursor COUNT count [MATCH pattern]"),
];

#[rustfmt::skip]
const LISTS: Family = &[
    (4, "LPUSH key value…"),
    (6, "RPUSH key value…"),
    (6, "RPUSH key field… field…"),
    (2, "LPUSHX key field…"),
    (2, "RPUSHX key field…"),
    (3, "LPOP key [index]"),
    (3, "RPOP key [index]"),
    (2, "LMPOP (1 key|2 key key) (LEFT|RIGHT) [COUNT integer]"),
    (2, "LLEN key"),
    (3, "LINDEX key index"),
    (4, "LRANGE key index index"),
    (4, "LSET key index value"),
    (4, "LINSERT key (BEFORE|AFTER) field field"),
    (4, "LREM key index field"),
    (3, "LTRIM key index index"),
    (4, "LPOS key field [RANK index] [COUNT index] [MAXLEN index]"),
    (4, "LMOVE key key (LEFT|RIGHT) (LEFT|RIGHT)"),
    (3, "RPOPLPUSH key key"),
];

#[rustfmt::skip]
const SORTED_SETS: Family = &[
    (8, "ZADD key (score field)…"),
    (4, "ZADD key [NX|XX] [GT|LT] [CH] (score field)…"),
    (3, "ZADD key [NX|XX] [GT|LT] INCR score field"),
    (3, "ZINCRBY key score field"),
    (4, "ZREM key field…"),
    (2, "ZCARD key"),
    (2, "ZSCORE key field"),
    (2, "ZMSCORE key field…"),
    (2, "ZRANK key field"),
    (2, "ZREVRANK key field"),
    (2, "ZCOUNT key bound bound"),
    (4, "ZRANGE key index index [REV] [WITHSCORES]"),
    (4, "ZRANGE key bound bound BYSCORE [REV] [LIMIT index index] [WITHSCORES]"),
    (3, "ZRANGEBYSCORE key bound bound [LIMIT index index] [WITHSCORES]"),
    (3, "ZREVRANGEBYSCORE key bound bound [LIMIT index index] [WITHSCORES]"),
    (2, "ZREVRANGE key index index [WITHSCORES]"),
    (3, "ZRANGESTORE key key bound bound BYSCORE [REV] [LIMIT index index]"),
    (2, "ZRANGESTORE key key index index [REV]"),
    (3, "ZREMRANGEBYRANK key index index"),
    (3, "ZREMRANGEBYSCORE key bound bound"),
    (3, "ZPOPMIN key [index]"),
    (3, "ZPOPMAX key [index]"),
    (2, "ZMPOP 2 key key (MIN|MAX) [COUNT count]"),
    (3, "ZUNION 2 key key [WEIGHTS score score] [AGGREGATE (SUM|MIN|MAX)] [WITHSCORES]"),
    (3, "ZINTER 2 key key [WEIGHTS score score] [AGGREGATE (SUM|MIN|MAX)] [WITHSCORES]"),
    (2, "ZINTERCARD 2 key key [LIMIT count]"),
    (2, "ZDIFF 2 key key [WITHSCORES]"),
    (3, "ZUNIONSTORE key 2 key key [WEIGHTS score score] [AGGREGATE (SUM|MIN|MAX)]"),
    (3, "ZINTERSTORE key 2 key key [WEIGHTS score score] [AGGREGATE (SUM|MIN|MAX)]"),
    (2, "ZDIFFSTORE key 2 key key"),
    (2, "ZSCAN key cursor COUNT count [MATCH pattern]"),
];

// Fewer than all are never asked for: of places that are equally far, Redis then gives any.
#[rustfmt::skip]
const PLACES: Family = &[
    (6, "GEOADD key [NX|XX] [CH] (longitude latitude field)…"),
    (2, "GEODIST key field field [unit]"),
    (2, "GEOPOS key field…"),
    (2, "GEOHASH key field…"),
    (3, "GEORADIUS key longitude latitude length unit [WITHDIST] [WITHHASH] [WITHCOORD] [ASC|DESC] [COUNT count [ANY]] [STORE key|STOREDIST key]"),
    (2, "GEORADIUSBYMEMBER key field length unit [WITHDIST] [WITHHASH] [ASC|DESC] [COUNT count] [STORE key]"),
    (2, "GEORADIUS_RO key longitude latitude length unit [WITHDIST] [WITHCOORD] [ASC|DESC]"),
    (2, "GEORADIUSBYMEMBER_RO key field length unit [WITHDIST] [ASC|DESC] [COUNT count]"),
    (4, "GEOSEARCH key [FROMMEMBER field|FROMLONLAT longitude latitude] [BYRADIUS length unit|BYBOX length length unit] [WITHDIST] [WITHHASH] [WITHCOORD] [ASC|DESC] [COUNT count]"),
    (6, "GEOSEARCH key FROMLONLAT longitude latitude BYBOX length length unit [WITHDIST] [ASC|DESC]"),
    (3, "GEOSEARCHSTORE key key FROMLONLAT longitude latitude BYRADIUS length unit [ASC|DESC] [STOREDIST]"),
];

#[rustfmt::skip]
const BITS: Family = &[
    (6, "SETBIT key bit (0|1)"),
    (3, "GETBIT key bit"),
    (2, "BITCOUNT key"),
    (3, "BITCOUNT key index index [BYTE|BIT]"),
    (2, "BITPOS key (0|1) [index]"),
    (3, "BITPOS key (0|1) index index [BYTE|BIT]"),
    (4, "BITOP (AND|OR|XOR) key key…"),
    (2, "BITOP NOT key key"),
    (6, "BITFIELD key (GET width bit|SET width bit integer|INCRBY width bit integer|OVERFLOW (WRAP|SAT|FAIL))…"),
    (2, "BITFIELD_RO key (GET width bit)…"),
];

// In Redis a sketch is a string with a head of its own, so these keys are for nothing else.
#[rustfmt::skip]
const SKETCHES: Family = &[
    (6, "PFADD sketch value…"),
    (1, "PFADD sketch"),
    (4, "PFCOUNT sketch…"),
    (3, "PFMERGE sketch sketch…"),
    (1, "PFMERGE sketch"),
    (1, "DEL sketch"),
    (1, "RENAME sketch sketch"),
    (1, "COPY sketch sketch [REPLACE]"),
    (1, "EXISTS sketch"),
];

// What tells times (XPENDING one by one, XINFO CONSUMERS) is not here, nor XINFO STREAM: what was
// trimmed counts as deleted.
#[rustfmt::skip]
const STREAMS: Family = &[
    (6, "XADD key id (field value)…"),
    (4, "XADD key [NOMKSTREAM] [MAXLEN index|MINID id] id (field value)…"),
    (3, "XADD key [MAXLEN (=|~) index [LIMIT index]|MINID (=|~) id] id field value"),
    (2, "XLEN key"),
    (4, "XRANGE key place place [COUNT index]"),
    (3, "XREVRANGE key place place [COUNT index]"),
    (3, "XDEL key id…"),
    (2, "XTRIM key (MAXLEN index|MAXLEN (=|~) index|MINID id) [LIMIT index]"),
    (1, "XSETID key id [ENTRIESADDED index] [MAXDELETEDID id]"),
    (3, "XREAD [COUNT index] STREAMS key key id id"),
    (3, "XGROUP CREATE key field (id|$) [MKSTREAM] [ENTRIESREAD index]"),
    (2, "XGROUP CREATE key field 0 MKSTREAM"),
    (1, "XGROUP SETID key field (id|$) [ENTRIESREAD index]"),
    (1, "XGROUP DESTROY key field"),
    (1, "XGROUP CREATECONSUMER key field field"),
    (1, "XGROUP DELCONSUMER key field field"),
    (6, "XREADGROUP GROUP field field [COUNT index] [NOACK] STREAMS key >"),
    (2, "XREADGROUP GROUP field field [COUNT index] STREAMS key key (>|id) id"),
    (3, "XACK key field id…"),
    (2, "XPENDING key field"),
    (3, "XCLAIM key field field 0 id… [FORCE] [JUSTID] [RETRYCOUNT index] [LASTID id]"),
    (3, "XAUTOCLAIM key field field 0 place [COUNT index] [JUSTID]"),
    (2, "XINFO GROUPS key"),
];

#[rustfmt::skip]
const KEYS: Family = &[
    (3, "DEL key…"),
    (1, "UNLINK key…"),
    (2, "EXISTS key…"),
    (1, "TOUCH key…"),
    (2, "TYPE key"),
    (2, "TTL key"),
    (2, "PTTL key"),
    (1, "EXPIRETIME key"),
    (1, "PEXPIRETIME key"),
    (2, "PERSIST key"),
    (2, "EXPIRE key seconds [NX|XX|GT|LT]"),
    (2, "PEXPIRE key milliseconds [NX|XX|GT|LT]"),
    (2, "EXPIREAT key at [NX|XX|GT|LT]"),
    (2, "PEXPIREAT key at_ms [NX|XX|GT|LT]"),
    (3, "RENAME key key"),
    (3, "RENAMENX key key"),
    (4, "COPY key key [DB database] [REPLACE]"),
    (2, "KEYS pattern"),
    (3, "SCAN cursor COUNT count [MATCH pattern] [TYPE type]"),
];

#[rustfmt::skip]
const TRANSACTIONS: Family = &[
    (5, "MULTI"),
    (8, "EXEC"),
    (1, "DISCARD"),
    (4, "WATCH key…"),
    (1, "UNWATCH"),
];

#[rustfmt::skip]
const CONNECTION: Family = &[
    (1, "PING [value]"),
    (1, "ECHO value"),
    (1, "SELECT database"),
    (1, "RESET"),
    (1, "CLIENT SETNAME value"),
    (1, "CLIENT GETNAME"),
];

#[rustfmt::skip]
const SERVER: Family = &[
    (1, "FLUSHALL [ASYNC|SYNC]"),
    (1, "FLUSHDB [ASYNC|SYNC]"),
    (1, "COMMAND GETKEYS (GET key|MSET (key value)…|COPY key key [REPLACE]|EXISTS key…)"),
    (1, "WAIT 0 1"),
];

/// Asked at the end of a sequence on a connection of its own, `key` once for each key: what
/// commands left behind must be alike, whatever they answered.
#[rustfmt::skip]
pub const LOOKS: &[&str] = &[
    "KEYS *", "TYPE key", "PEXPIRETIME key", "GET key", "HGETALL key", "LRANGE key 0 -1",
    "SMEMBERS key",
    "ZRANGE key 0 -1 WITHSCORES", "XRANGE key - +", "XINFO GROUPS key",
];
