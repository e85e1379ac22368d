//! What the endpoint says, and how it reads what it is asked; values only.
//!
//! Answers of Redis' protocol in both versions. The client's half is in [`crate::resp`]; the crates that write answers come
//! with a server around them.

use std::fmt::Write;

use crate::resp::{RespError, Value, Words, decode};

/// Longest command that is read, in bytes.
pub const LONGEST: usize = 16 << 10;

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, as long as a client asks for no other.
    Two,
    /// RESP3.
    Three,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A word, such as `OK`.
    Word(&'static str),
    /// It is refused: a word in capitals, and a sentence.
    Refused(String),
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
    /// Several.
    List(Vec<Reply>),
    /// Fields and their values.
    Fields(Vec<(&'static str, Reply)>),
    /// What nobody has asked for just now.
    Push(Vec<Reply>),
    /// No text.
    Nothing,
    /// No list.
    NoList,
}

impl Reply {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Write it at the end of `out`.
    pub fn write(&self, protocol: Protocol, out: &mut String) {
        let three = protocol == Protocol::Three;
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Word(word) => write!(out, "+{word}\r\n"),
            Self::Refused(why) => write!(out, "-{}\r\n", line(why)),
            Self::Number(number) => write!(out, ":{number}\r\n"),
            Self::Text(text) => write!(out, "${}\r\n{text}\r\n", text.len()),
            Self::List(items) => return several('*', items, protocol, out),
            Self::Push(items) => {
                let sign = if three { '>' } else { '*' };
                return several(sign, items, protocol, out);
            }
            Self::Fields(fields) => {
                let (sign, length) = if three {
                    ('%', fields.len())
                } else {
                    ('*', fields.len() * 2)
                };
                let _ = write!(out, "{sign}{length}\r\n");
                for (name, value) in fields {
                    Self::text(*name).write(protocol, out);
                    value.write(protocol, out);
                }
                return;
            }
            Self::Nothing | Self::NoList if three => write!(out, "_\r\n"),
            Self::Nothing => write!(out, "$-1\r\n"),
            Self::NoList => write!(out, "*-1\r\n"),
        };
    }
}

fn several(sign: char, items: &[Reply], protocol: Protocol, out: &mut String) {
    let _ = write!(out, "{sign}{}\r\n", items.len());
    for item in items {
        item.write(protocol, out);
    }
}

/// A sentence on one line, whatever a client has put into it.
fn line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// What came is no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ERR Protocol error: {0}")]
pub struct Unreadable(&'static str);

/// The first command in `bytes`, and how many bytes it takes; none while some are missing.
///
/// # Errors
/// It is none by the protocol, or too long. Nothing that comes after it can be read.
pub fn command(bytes: &[u8]) -> Result<Option<(Words, usize)>, Unreadable> {
    const LIST: Unreadable = Unreadable("a command is a list of texts");
    if bytes.first().is_some_and(|first| *first != b'*') {
        return Err(LIST);
    }
    let read = decode(bytes).map_err(|error| match error {
        RespError::Protocol(why) => Unreadable(why),
        RespError::Io(_) | RespError::Refused(_) => LIST,
    })?;
    let Some((value, length)) = read else {
        return if bytes.len() < LONGEST {
            Ok(None)
        } else {
            Err(Unreadable("the command is too long"))
        };
    };
    let word = |value: &Value| match value {
        Value::Bulk(bytes) => {
            String::from_utf8(bytes.clone()).map_err(|_| Unreadable("a text is not UTF-8"))
        }
        _ => Err(LIST),
    };
    let words: Result<Words, Unreadable> = value.items().iter().map(word).collect();
    Ok(Some((words?, length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resp::{encode, words};

    fn written(reply: &Reply, protocol: Protocol) -> String {
        let mut out = String::new();
        reply.write(protocol, &mut out);
        out
    }

    #[test]
    fn each_version_has_its_own_forms() {
        let fields = Reply::Fields(vec![("a", Reply::Number(1)), ("b", Reply::Nothing)]);
        let of = |reply: &Reply| [Protocol::Two, Protocol::Three].map(|p| written(reply, p));
        assert_eq!(
            of(&fields),
            [
                "*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n$-1\r\n",
                "%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n_\r\n"
            ]
        );
        assert_eq!(of(&Reply::NoList), ["*-1\r\n", "_\r\n"]);
        let push = Reply::Push(vec![Reply::text("é")]);
        assert_eq!(of(&push), ["*1\r\n$2\r\né\r\n", ">1\r\n$2\r\né\r\n"]);
    }

    #[test]
    fn what_a_client_says_adds_no_line_to_an_answer() {
        let refused = Reply::Refused("ERR unknown 'a\r\n+OK'".into());
        assert_eq!(
            written(&refused, Protocol::Two),
            "-ERR unknown 'a  +OK'\r\n"
        );
    }

    #[test]
    fn only_lists_of_texts_are_commands() {
        assert_eq!(command(b""), Ok(None));
        assert_eq!(command(b"*0\r\n"), Ok(Some((vec![], 4))));
        for wrong in [
            "PING\r\n",
            "+PING\r\n",
            "*1\r\n:1\r\n",
            "*1\r\n*1\r\n$1\r\na\r\n",
            "*1\r\n$x\r\n",
        ] {
            assert!(command(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(command(b"*1\r\n$2\r\n\xff\xff\r\n").is_err());
    }

    #[test]
    fn nothing_is_waited_for_without_an_end() {
        let mut long = b"*2\r\n$4000000\r\n".to_vec();
        assert_eq!(command(&long), Ok(None));
        long.resize(LONGEST, b'a');
        assert!(command(&long).is_err());
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            ".{0,12}".prop_map(Reply::Text),
            any::<u32>().prop_map(|n| Reply::Number(n.into())),
            Just(Reply::Nothing),
            Just(Reply::NoList),
            Just(Reply::Word("OK")),
            ".{0,12}".prop_map(|why| Reply::Refused(format!("ERR {why}"))),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Reply::List),
                prop::collection::vec(inner, 0..4)
                    .prop_map(|all| Reply::Fields(all.into_iter().map(|r| ("field", r)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_answer_is_read_as_one_value_with_nothing_left(reply in any_reply()) {
            let out = written(&reply, Protocol::Two);
            let (_, length) = decode(out.as_bytes()).unwrap().unwrap();
            prop_assert_eq!(length, out.len());
        }

        #[test]
        fn commands_are_read_one_after_the_other(all in prop::collection::vec(prop::collection::vec(".{0,9}", 1..4), 1..4)) {
            let bytes = encode(&all);
            let mut at = 0;
            for one in &all {
                for end in at..at + 3 {
                    prop_assert!(!matches!(command(&bytes[at..end]), Ok(Some(_))));
                }
                let (words, length) = command(&bytes[at..]).unwrap().unwrap();
                prop_assert_eq!(&words, one);
                at += length;
            }
            prop_assert_eq!(at, bytes.len());
        }

        #[test]
        fn no_bytes_make_it_panic_or_wait_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = command(&bytes);
            let mut long = bytes;
            long.resize(LONGEST, b'x');
            prop_assert!(!matches!(command(&long), Ok(None)));
        }
    }

    #[test]
    fn a_command_of_its_own_words() {
        let bytes = encode(&[words(["SENTINEL", "masters"])]);
        let (words, _) = command(&bytes).unwrap().unwrap();
        assert_eq!(words, ["SENTINEL", "masters"]);
    }
}
