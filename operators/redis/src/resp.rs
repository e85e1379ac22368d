//! Redis' protocol as a client, over a Unix socket or TLS. I/O, but for the parts that read and write bytes.
//!
//! RESP2: what agent and probe ask for needs no more. The `redis` crate would bring a pool, routing, three runtimes and
//! a reconnection that hides which start of the engine answers, which an agent has to know.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// Longest answer that is read, in bytes.
const LIMIT: usize = 4 << 20;
/// Most levels of arrays in arrays.
const DEPTH: u32 = 8;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word, such as `OK`.
    Simple(String),
    /// It was refused: a word in capitals, and a sentence.
    Error(String),
    /// A number.
    Integer(i64),
    /// A text.
    Bulk(Vec<u8>),
    /// Several.
    Array(Vec<Value>),
    /// Nothing.
    Null,
}

/// Something could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum RespError {
    /// No connection, or it broke.
    #[error("the connection to Redis: {0}")]
    Io(#[from] io::Error),
    /// What came is no answer by the protocol.
    #[error("what Redis answered cannot be read: {0}")]
    Protocol(&'static str),
    /// It was refused, as Redis says it.
    #[error("Redis refused: {0}")]
    Refused(String),
}

impl RespError {
    /// The first word of a refusal, for example `NOREPLICAS`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(why) => why.split_whitespace().next(),
            _ => None,
        }
    }
}

impl Value {
    /// Whatever it is, unless it is a refusal.
    ///
    /// # Errors
    /// The refusal.
    pub fn accepted(self) -> Result<Self, RespError> {
        match self {
            Self::Error(why) => Err(RespError::Refused(why)),
            value => Ok(value),
        }
    }

    /// A text or a word.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Simple(text) => Some(text.clone()),
            Self::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Self::Integer(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A number.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => self.text()?.parse().ok(),
        }
    }

    /// What is in it.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }
}

/// A command: its words.
pub type Words = Vec<String>;

/// A command of words.
pub fn words<const N: usize>(words: [&str; N]) -> Words {
    words.iter().map(|w| (*w).to_owned()).collect()
}

/// Commands as bytes. Words are texts, or bytes as keys may be.
pub fn encode<W: AsRef<[u8]>>(commands: &[Vec<W>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for command in commands {
        bytes.extend(format!("*{}\r\n", command.len()).into_bytes());
        for word in command {
            let word = word.as_ref();
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend(word);
            bytes.extend(b"\r\n");
        }
    }
    bytes
}

/// The first answer in `bytes`, and how many bytes it takes; none while some are missing.
///
/// # Errors
/// It is none by the protocol.
pub fn decode(bytes: &[u8]) -> Result<Option<(Value, usize)>, RespError> {
    let mut at = 0;
    Ok(value(bytes, &mut at, DEPTH)?.map(|value| (value, at)))
}

fn value(bytes: &[u8], at: &mut usize, depth: u32) -> Result<Option<Value>, RespError> {
    let Some(line) = line(bytes, at) else {
        return Ok(None);
    };
    let line = String::from_utf8_lossy(line);
    let mut rest = line.chars();
    let kind = rest.next();
    let rest = rest.as_str();
    let number = || {
        let number = rest.parse::<i64>();
        number.map_err(|_| RespError::Protocol("a number was expected"))
    };
    let length =
        || usize::try_from(number()?).map_err(|_| RespError::Protocol("a length is too large"));
    Ok(Some(match kind {
        Some('+') => Value::Simple(rest.to_owned()),
        Some('-') => Value::Error(rest.to_owned()),
        Some(':') => Value::Integer(number()?),
        Some('$' | '*') if number()? == -1 => Value::Null,
        Some('$') => {
            let length = length()?;
            if length > LIMIT {
                return Err(RespError::Protocol("a text is too long"));
            }
            let end = *at + length;
            if bytes.len() < end + 2 {
                return Ok(None);
            }
            let text = bytes.get(*at..end).unwrap_or_default().to_vec();
            *at = end + 2;
            Value::Bulk(text)
        }
        Some('*') => {
            let length = length()?;
            let Some(depth) = depth.checked_sub(1) else {
                return Err(RespError::Protocol("arrays are too deep"));
            };
            let mut items = Vec::new();
            for _ in 0..length {
                match value(bytes, at, depth)? {
                    Some(item) => items.push(item),
                    None => return Ok(None),
                }
            }
            Value::Array(items)
        }
        _ => return Err(RespError::Protocol("it begins with no known type")),
    }))
}

/// The line at `at`, without its end; `at` is after it then.
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = bytes.get(*at..)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    *at += end + 2;
    rest.get(..end)
}

/// A stream of bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One connection. The caller bounds each call, and drops the connection after one that was given up or failed.
pub struct Connection {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// To the Unix socket at `path`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn unix(path: &Path) -> Result<Self, RespError> {
        Ok(Self::over(Box::new(UnixStream::connect(path).await?)))
    }

    /// Over TLS, where the server is verified as `host`.
    ///
    /// # Errors
    /// No connection, or a certificate that is not trusted.
    pub async fn tls(
        address: SocketAddr,
        host: ServerName<'static>,
        config: Arc<ClientConfig>,
    ) -> Result<Self, RespError> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let stream = TlsConnector::from(config).connect(host, tcp).await?;
        Ok(Self::over(Box::new(stream)))
    }

    /// Over a stream that is connected already.
    pub fn over(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// Log in.
    ///
    /// # Errors
    /// The connection, or the refusal.
    pub async fn login(&mut self, user: &str, password: &str) -> Result<(), RespError> {
        self.call(words(["AUTH", user, password])).await.map(drop)
    }

    /// One command and its answer.
    ///
    /// # Errors
    /// The connection, or the refusal.
    pub async fn call<W: AsRef<[u8]>>(&mut self, command: Vec<W>) -> Result<Value, RespError> {
        let answers = self.pipeline(&[command]).await?;
        let first = answers.into_iter().next();
        first.ok_or(RespError::Protocol("no answer"))?.accepted()
    }

    /// Sends a last command, what comes after which is no answer by the protocol. Gives the stream, and what was read of
    /// it already.
    ///
    /// # Errors
    /// The connection.
    pub async fn end_with(
        mut self,
        command: Words,
    ) -> Result<(Box<dyn Stream>, Vec<u8>), RespError> {
        self.stream.write_all(&encode(&[command])).await?;
        self.stream.flush().await?;
        Ok((self.stream, self.read))
    }

    /// Commands that are sent at once, and their answers, refusals among them. Redis carries out what it has read of
    /// one connection before it turns to another, so a few short commands have nobody between them.
    ///
    /// # Errors
    /// The connection.
    pub async fn pipeline<W: AsRef<[u8]>>(
        &mut self,
        commands: &[Vec<W>],
    ) -> Result<Vec<Value>, RespError> {
        self.stream.write_all(&encode(commands)).await?;
        self.stream.flush().await?;
        let mut answers = Vec::new();
        while answers.len() < commands.len() {
            match decode(&self.read)? {
                Some((value, length)) => {
                    self.read.drain(..length);
                    answers.push(value);
                }
                None if self.read.len() > LIMIT => {
                    return Err(RespError::Protocol("the answer is too long"));
                }
                None => {
                    if self.stream.read_buf(&mut self.read).await? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                }
            }
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_are_read_as_redis_writes_them() {
        let read = |text: &str| decode(text.as_bytes()).unwrap().map(|(value, _)| value);
        assert_eq!(read("+OK\r\n"), Some(Value::Simple("OK".into())));
        assert_eq!(read("-ERR no\r\n"), Some(Value::Error("ERR no".into())));
        assert_eq!(read(":-7\r\n"), Some(Value::Integer(-7)));
        assert_eq!(read("$-1\r\n"), Some(Value::Null));
        assert_eq!(
            read("$3\r\na\r\n\r\n"),
            Some(Value::Bulk(b"a\r\n".to_vec()))
        );
        let array = read("*2\r\n$1\r\na\r\n*0\r\n").unwrap();
        assert_eq!(
            array.items(),
            [Value::Bulk(b"a".to_vec()), Value::Array(vec![])]
        );
        assert!(decode(b"?\r\n").is_err());
        assert!(decode(b"$99999999999\r\n").is_err(), "it is not waited for");
        let deep = "*1\r\n".repeat(9);
        assert!(decode(deep.as_bytes()).is_err());
    }

    #[test]
    fn the_first_word_of_a_refusal_says_what_it_is() {
        let refused = Value::Error("NOREPLICAS Not enough good replicas".into());
        assert_eq!(refused.accepted().unwrap_err().code(), Some("NOREPLICAS"));
    }

    proptest! {
        #[test]
        fn what_is_cut_anywhere_is_not_an_answer_yet(texts in prop::collection::vec(".{0,20}", 1..5)) {
            // A command has the form of an array of texts.
            let bytes = encode(std::slice::from_ref(&texts));
            for end in 0..bytes.len() {
                prop_assert!(decode(&bytes[..end]).unwrap().is_none());
            }
            let (whole, length) = decode(&bytes).unwrap().unwrap();
            prop_assert_eq!(length, bytes.len());
            let read: Vec<_> = whole.items().iter().filter_map(Value::text).collect();
            prop_assert_eq!(read, texts);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
