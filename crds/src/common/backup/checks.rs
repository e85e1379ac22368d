//! What may be asked of restored data: the rules that the API server checks (CEL), and the same for an operator, which
//! also sees what was written before them.

use kube::core::Rule;

use super::drill::{Check, KeyCount};
use super::rules;
use crate::common::cel::list;

/// Types of keys in Redis' words.
pub const TYPES: &[&str] = &["hash", "list", "set", "stream", "string", "zset"];
/// Commands of Redis that write nothing, change nothing of the server, do not wait, and have an answer that depends on
/// the data, and on the time where a key has an end. Subcommands are those of `OBJECT` and `XINFO`, all of which read.
pub const READS: &[&str] = &[
    "bitcount",
    "bitfield_ro",
    "bitpos",
    "dbsize",
    "eval_ro",
    "exists",
    "expiretime",
    "fcall_ro",
    "geodist",
    "geohash",
    "geopos",
    "geosearch",
    "get",
    "getbit",
    "getrange",
    "hexists",
    "hget",
    "hgetall",
    "hkeys",
    "hlen",
    "hmget",
    "hstrlen",
    "hvals",
    "lcs",
    "lindex",
    "llen",
    "lpos",
    "lrange",
    "mget",
    "object",
    "pexpiretime",
    "pfcount",
    "pttl",
    "scard",
    "sdiff",
    "sinter",
    "sintercard",
    "sismember",
    "smembers",
    "smismember",
    "strlen",
    "sunion",
    "ttl",
    "type",
    "xinfo",
    "xlen",
    "xpending",
    "xrange",
    "xrevrange",
    "zcard",
    "zcount",
    "zdiff",
    "zinter",
    "zintercard",
    "zlexcount",
    "zmscore",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zrank",
    "zrevrange",
    "zrevrangebylex",
    "zrevrangebyscore",
    "zrevrank",
    "zscore",
    "zunion",
];

/// Of a check that asks nothing, or several things at once.
pub const ONE: &str =
    "write exactly one of sql (of a Postgres), and keys, key and command (of a Redis)";
/// Of `keys`.
pub const COUNT: &str = "write atLeast, atMost or both, as numbers from 0 on with atMost no less than atLeast, for example {atLeast: 1}";
/// Of `key`.
pub const KEY: &str = "write the name of a key, for example orders:1";
/// Of `type`.
pub const TYPE: &str =
    "write hash, list, set, stream, string or zset, or leave it out for a key of any type";
/// Of `type` without `key`.
pub const TYPE_OF_A_KEY: &str = "type is that of a key: write key as well, or leave it out";
/// Of `command`.
pub const COMMAND: &str = "write a command that only reads and does not wait, word by word, for example [HGET, \"orders:1\", state]; one \
     that writes, or has to do with the server or all keys at once, is not run";
/// Of `database`.
pub const DATABASE: &str = "write the number of a database, 0 for the first";
/// Of `database` without keys.
pub const DATABASE_OF_KEYS: &str =
    "database says where keys, key or command look: write one of them, or leave it out";
/// Of `expect` where nothing is answered that could be compared.
pub const EXPECT: &str = "of keys write atLeast and atMost, and of a key that is no string ask what is in it with command: leave \
     expect out";

/// What is wrong with a check: the field in it, and the sentence. Empty where it is good.
pub fn problems(check: &Check) -> Vec<(&'static str, &'static str)> {
    let mut all = Vec::new();
    let mut say = |holds: bool, field, sentence| {
        if !holds {
            all.push((field, sentence));
        }
    };
    let Check {
        sql,
        keys,
        key,
        kind,
        command,
        database,
        expect,
    } = check;
    let there = [
        sql.is_some(),
        keys.is_some(),
        key.is_some(),
        !command.is_empty(),
    ];
    let one = there.iter().filter(|there| **there).count() == 1;
    say(one, "", ONE);
    let says = |sql: &String| sql.bytes().any(|b| !b.is_ascii_whitespace());
    say(sql.as_ref().is_none_or(says), ".sql", rules::SQL);
    say(keys.as_ref().is_none_or(is_count), ".keys", COUNT);
    say(key.as_ref().is_none_or(|key| !key.is_empty()), ".key", KEY);
    let known = |kind: &String| TYPES.contains(&kind.as_str());
    say(kind.as_ref().is_none_or(known), ".type", TYPE);
    let reads = |word: &String| READS.contains(&word.to_ascii_lowercase().as_str());
    say(command.first().is_none_or(reads), ".command", COMMAND);
    say(database.is_none_or(|n| n >= 0), ".database", DATABASE);
    say(kind.is_none() || key.is_some(), ".type", TYPE_OF_A_KEY);
    let of_keys = database.is_none() || sql.is_none();
    say(of_keys, ".database", DATABASE_OF_KEYS);
    let is_text = kind.as_ref().is_none_or(|kind| kind == "string");
    let compared = expect.is_none() || (keys.is_none() && is_text);
    say(compared, ".expect", EXPECT);
    all
}

fn is_count(count: &KeyCount) -> bool {
    match (count.at_least, count.at_most) {
        (None, None) => false,
        (least, most) => least.unwrap_or(0) >= 0 && most.is_none_or(|n| n >= least.unwrap_or(0)),
    }
}

/// Each check of a spec's drills, `c`, is as this engine can be asked.
pub(crate) fn all(holds: &str, sentence: &str) -> Rule {
    Rule::new(format!(
        "!has(self.backup) || !has(self.backup.drill) || !has(self.backup.drill.checks) || \
         self.backup.drill.checks.all(c, {holds})"
    ))
    .message(sentence)
    .field_path(".backup.drill.checks")
}

/// A check asks one thing.
pub fn one() -> Rule {
    Rule::new(
        "[has(self.sql),has(self.keys),has(self.key),has(self.command) && self.command.size() > 0]\
         .filter(there, there).size() == 1",
    )
    .message(ONE)
}

/// Of `type` without `key`.
pub fn type_of_a_key() -> Rule {
    Rule::new("!has(self.type) || has(self.key)")
        .message(TYPE_OF_A_KEY)
        .field_path(".type")
}

/// Of `database` with `sql`.
pub fn database_of_keys() -> Rule {
    Rule::new("!has(self.database) || !has(self.sql)")
        .message(DATABASE_OF_KEYS)
        .field_path(".database")
}

/// Of `expect` with what is not answered as text.
pub fn expect_of_an_answer() -> Rule {
    Rule::new(
        "!has(self.expect) || (!has(self.keys) && (!has(self.type) || self.type == 'string'))",
    )
    .message(EXPECT)
    .field_path(".expect")
}

/// Of `keys`.
pub fn count() -> Rule {
    Rule::new(
        "(has(self.atLeast) || has(self.atMost)) && (!has(self.atLeast) || self.atLeast >= 0) && \
         (!has(self.atMost) || self.atMost >= (has(self.atLeast) ? self.atLeast : 0))",
    )
    .message(COUNT)
}

/// Of `key`.
pub fn key() -> Rule {
    Rule::new("self.size() > 0").message(KEY)
}

/// Of `type`.
pub fn kind() -> Rule {
    Rule::new(format!("self in {}", list(TYPES))).message(TYPE)
}

/// Of `command`. That its other words are right, the drill finds out.
pub fn command() -> Rule {
    Rule::new(format!(
        "self.size() == 0 || self[0].lowerAscii() in {}",
        list(READS)
    ))
    .message(COMMAND)
}

/// Of `database`. Whether there is one of that number, only the operator says.
pub fn database() -> Rule {
    Rule::new("self >= 0").message(DATABASE)
}
