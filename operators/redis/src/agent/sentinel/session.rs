//! One client's conversation, as a function of what it says and of what is known; no I/O.

use std::collections::BTreeSet;

use mainstay_shared::agent::config::Role;

use super::pattern::matches;
use super::reply::{Protocol, Reply};
use super::view::{Event, Lead, View};
use crate::agent::render::check;
use crate::settings::{PORT, RULES, SENTINEL_PORT};

/// Log-ins that may be refused on one connection.
const TRIES: u32 = 3;
/// Most channels and patterns that a client listens to.
const CHANNELS: usize = 32;
/// Longest name of a channel, a pattern or a client.
const NAME: usize = 128;
/// So much of what a client said is repeated in a refusal.
const REPEATED: usize = 32;

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It goes on.
    Go,
    /// It ends once the answers are sent.
    End,
}

/// Who may log in: users of applications. The set's own are for its own data port.
#[derive(Clone, Copy, Debug)]
pub struct Users<'a>(pub &'a [Role]);

impl Users<'_> {
    fn find(&self, name: &str) -> Option<&Role> {
        let own = name.starts_with("mainstay_");
        let role = self.0.iter().find(|role| role.name == name && !own)?;
        let rules = role.attributes.get(RULES).map_or("", String::as_str);
        (!rules.split_whitespace().any(|word| word == "off")).then_some(role)
    }

    /// Whether that is a password of the user, by the check values that Redis has as well.
    fn admits(&self, name: &str, password: &str) -> bool {
        let given = check(password);
        self.find(name).is_some_and(|role| {
            let mut values = role.verifier.split_whitespace();
            values.any(|value| value.trim_start_matches('#') == given)
        })
    }
}

/// A client's state.
#[derive(Clone, Debug)]
pub struct Session {
    id: u64,
    protocol: Protocol,
    user: Option<String>,
    name: String,
    refused: u32,
    channels: BTreeSet<String>,
    patterns: BTreeSet<String>,
}

impl Session {
    /// Of a client that has just come.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            protocol: Protocol::Two,
            user: None,
            name: String::new(),
            refused: 0,
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
        }
    }

    /// In which version of the protocol it is answered.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether it has logged in.
    pub fn is_known(&self) -> bool {
        self.user.is_some()
    }

    /// Whether it listens.
    pub fn listens(&self) -> bool {
        !self.channels.is_empty() || !self.patterns.is_empty()
    }

    /// Whether its user is there still. With a user end its connections, as on the data port.
    pub fn may_stay(&self, users: Users<'_>) -> bool {
        let user = self.user.as_deref();
        user.is_none_or(|user| users.find(user).is_some())
    }

    /// What it hears of an event: once for each channel and pattern.
    pub fn hears(&self, event: &Event) -> Vec<Reply> {
        let mut all = Vec::new();
        let said = [event.channel, &event.text].map(Reply::text);
        if self.channels.contains(event.channel) {
            let mut message = vec![Reply::text("message")];
            message.extend(said.clone());
            all.push(Reply::Push(message));
        }
        for pattern in self.patterns.iter().filter(|p| matches(p, event.channel)) {
            let mut message = vec![Reply::text("pmessage"), Reply::text(pattern.as_str())];
            message.extend(said.clone());
            all.push(Reply::Push(message));
        }
        all
    }

    /// The answers to a command.
    pub fn answer(
        &mut self,
        words: &[String],
        view: &View,
        users: Users<'_>,
    ) -> (Vec<Reply>, Then) {
        let Some((first, rest)) = words.split_first() else {
            // As Redis: nothing is answered to nothing.
            return (vec![], Then::Go);
        };
        let command = first.to_ascii_uppercase();
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let always = matches!(command.as_str(), "AUTH" | "HELLO" | "PING" | "QUIT");
        if !self.is_known() && !always {
            return one(refused("NOAUTH Authentication required."));
        }
        let while_listening = matches!(
            command.as_str(),
            "PING" | "QUIT" | "SUBSCRIBE" | "PSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE"
        );
        if self.protocol == Protocol::Two && self.listens() && !while_listening {
            return one(refused(format!(
                "ERR Can't execute '{}': only (P)SUBSCRIBE, (P)UNSUBSCRIBE, PING and QUIT while it listens",
                some_of(first)
            )));
        }
        match (command.as_str(), rest.as_slice()) {
            ("PING", []) => one(self.pong("")),
            ("PING", [text]) if text.len() <= NAME => one(self.pong(text)),
            ("QUIT", _) => (vec![Reply::Word("OK")], Then::End),
            ("AUTH", [user, password]) => self.log_in(user, password, users),
            ("AUTH", [_]) => self.turned_away(
                "WRONGPASS there is no user default: AUTH wants a user and a password, as on the data port",
            ),
            ("HELLO", options) => self.hello(options, view, users),
            ("CLIENT", [sub, rest @ ..]) => one(self.client(sub, rest)),
            ("ROLE", []) => one(role(view)),
            ("INFO", _) => one(Reply::Text(info(view))),
            ("SENTINEL", [sub, rest @ ..]) => one(sentinel(sub, rest, view)),
            ("SUBSCRIBE", names @ [_, ..]) => (self.listen(Kind::Channel, names), Then::Go),
            ("PSUBSCRIBE", names @ [_, ..]) => (self.listen(Kind::Pattern, names), Then::Go),
            ("UNSUBSCRIBE", names) => (self.leave(Kind::Channel, names), Then::Go),
            ("PUNSUBSCRIBE", names) => (self.leave(Kind::Pattern, names), Then::Go),
            (
                "PING" | "AUTH" | "CLIENT" | "ROLE" | "SENTINEL" | "SUBSCRIBE" | "PSUBSCRIBE",
                _,
            ) => one(wrong_number(first)),
            _ => one(refused(format!(
                "ERR unknown command '{}': here clients of a Sentinel are told where the primary is; data is on port {PORT}",
                some_of(first)
            ))),
        }
    }

    fn pong(&self, text: &str) -> Reply {
        if self.protocol == Protocol::Two && self.listens() {
            Reply::List(vec![Reply::text("pong"), Reply::text(text)])
        } else if text.is_empty() {
            Reply::Word("PONG")
        } else {
            Reply::text(text)
        }
    }

    fn log_in(&mut self, user: &str, password: &str, users: Users<'_>) -> (Vec<Reply>, Then) {
        if users.admits(user, password) {
            self.user = Some(user.to_owned());
            return one(Reply::Word("OK"));
        }
        self.turned_away("WRONGPASS invalid username-password pair or user is disabled.")
    }

    /// A log-in that is refused; who tries too often has to come again.
    fn turned_away(&mut self, why: &'static str) -> (Vec<Reply>, Then) {
        self.refused += 1;
        let then = if self.refused < TRIES {
            Then::Go
        } else {
            Then::End
        };
        (vec![refused(why)], then)
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`
    fn hello(&mut self, options: &[&str], view: &View, users: Users<'_>) -> (Vec<Reply>, Then) {
        let (protocol, mut rest) = match options {
            [] => (self.protocol, options),
            ["2", rest @ ..] => (Protocol::Two, rest),
            ["3", rest @ ..] => (Protocol::Three, rest),
            _ => return one(refused("NOPROTO unsupported protocol version")),
        };
        let mut name = None;
        while let [option, more @ ..] = rest {
            rest = match (option.to_ascii_uppercase().as_str(), more) {
                ("AUTH", [user, password, more @ ..]) => {
                    let (said, then) = self.log_in(user, password, users);
                    if said != [Reply::Word("OK")] {
                        return (said, then);
                    }
                    more
                }
                ("SETNAME", [wanted, more @ ..]) => {
                    name = Some(*wanted);
                    more
                }
                _ => return one(refused("ERR Syntax error in HELLO")),
            };
        }
        if !self.is_known() {
            return one(refused(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                 <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                 the same time",
            ));
        }
        if let Some(name) = name
            && let Err(why) = self.call_it(name)
        {
            return one(why);
        }
        self.protocol = protocol;
        let version = if protocol == Protocol::Two { 2 } else { 3 };
        one(Reply::Fields(vec![
            ("server", Reply::text("redis")),
            ("version", Reply::text(view.set.version.as_str())),
            ("proto", Reply::Number(version)),
            ("id", Reply::Number(self.id)),
            ("mode", Reply::text("sentinel")),
            ("modules", Reply::List(vec![])),
        ]))
    }

    fn call_it(&mut self, name: &str) -> Result<(), Reply> {
        let good = name.len() <= NAME && name.bytes().all(|b| (b'!'..=b'~').contains(&b));
        if !good {
            return Err(refused(
                "ERR Client names cannot contain spaces, newlines or special characters, and have at most 128 of them.",
            ));
        }
        name.clone_into(&mut self.name);
        Ok(())
    }

    fn client(&mut self, sub: &str, rest: &[&str]) -> Reply {
        match (sub.to_ascii_uppercase().as_str(), rest) {
            ("ID", []) => Reply::Number(self.id),
            ("SETNAME", [name]) => match self.call_it(name) {
                Ok(()) => Reply::Word("OK"),
                Err(why) => why,
            },
            ("GETNAME", []) if self.name.is_empty() => Reply::Nothing,
            ("GETNAME", []) => Reply::text(self.name.as_str()),
            // What library it is matters to nobody here.
            ("SETINFO", [_, _]) => Reply::Word("OK"),
            ("ID" | "SETNAME" | "GETNAME" | "SETINFO", _) => wrong_number("client"),
            _ => unknown_part("CLIENT", sub, "ID, SETNAME, GETNAME and SETINFO"),
        }
    }

    fn of(&mut self, kind: Kind) -> &mut BTreeSet<String> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
        }
    }

    fn count(&self) -> Reply {
        Reply::Number((self.channels.len() + self.patterns.len()) as u64)
    }

    fn listen(&mut self, kind: Kind, names: &[&str]) -> Vec<Reply> {
        let mut all = Vec::new();
        for name in names {
            let there = self.channels.len() + self.patterns.len();
            let new = !self.of(kind).contains(*name);
            if name.len() > NAME || (new && there >= CHANNELS) {
                all.push(refused(format!(
                    "ERR at most {CHANNELS} channels and patterns, of at most {NAME} bytes each"
                )));
                break;
            }
            self.of(kind).insert((*name).to_owned());
            let word = kind.word("subscribe");
            all.push(Reply::Push(vec![word, Reply::text(*name), self.count()]));
        }
        all
    }

    fn leave(&mut self, kind: Kind, names: &[&str]) -> Vec<Reply> {
        let names: Vec<String> = if names.is_empty() {
            self.of(kind).iter().cloned().collect()
        } else {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let word = || kind.word("unsubscribe");
        if names.is_empty() {
            return vec![Reply::Push(vec![word(), Reply::Nothing, self.count()])];
        }
        let mut all = Vec::new();
        for name in names {
            self.of(kind).remove(&name);
            all.push(Reply::Push(vec![word(), Reply::Text(name), self.count()]));
        }
        all
    }
}

/// What is listened to.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Channel,
    Pattern,
}

impl Kind {
    fn word(self, of: &str) -> Reply {
        match self {
            Self::Channel => Reply::text(of),
            Self::Pattern => Reply::text(format!("p{of}")),
        }
    }
}

fn one(reply: Reply) -> (Vec<Reply>, Then) {
    (vec![reply], Then::Go)
}

fn refused(why: impl Into<String>) -> Reply {
    Reply::Refused(why.into())
}

/// The beginning of what a client said.
fn some_of(text: &str) -> String {
    text.chars().take(REPEATED).collect()
}

fn wrong_number(command: &str) -> Reply {
    refused(format!(
        "ERR wrong number of arguments for '{}' command",
        some_of(command).to_ascii_lowercase()
    ))
}

fn unknown_part(command: &str, sub: &str, known: &str) -> Reply {
    refused(format!(
        "ERR unknown subcommand '{}' of {command}: {known} are answered here",
        some_of(sub)
    ))
}

fn sentinel(sub: &str, rest: &[&str], view: &View) -> Reply {
    let lower = sub.to_ascii_lowercase();
    let named = |name: &str| name == view.set.name;
    let unknown = || refused("ERR No such master with that name");
    match (lower.as_str(), rest) {
        ("get-master-addr-by-name", [name]) => match &view.now {
            Some(lead) if named(name) => Reply::List(vec![
                Reply::Text(view.set.host(&lead.instance)),
                Reply::Text(PORT.to_string()),
            ]),
            _ => Reply::NoList,
        },
        ("masters", []) => Reply::List(view.now.iter().map(|lead| master(view, lead)).collect()),
        ("master", [name]) => match &view.now {
            Some(lead) if named(name) => master(view, lead),
            None if named(name) => refused(
                "ERR No such master with that name: no primary is known just now, ask again",
            ),
            _ => unknown(),
        },
        // Nobody is known to follow a primary that is not known. It is no error: clients listen for the next one.
        ("replicas" | "slaves", [name]) if named(name) => {
            let all = view
                .now
                .iter()
                .flat_map(|lead| lead.replicas.iter().map(move |r| (lead, r)));
            Reply::List(all.map(|(lead, name)| replica(view, lead, name)).collect())
        }
        ("sentinels", [name]) if named(name) => {
            Reply::List(view.set.others().map(|name| other(view, name)).collect())
        }
        ("replicas" | "slaves" | "sentinels", [_]) => unknown(),
        (
            "get-master-addr-by-name" | "masters" | "master" | "replicas" | "slaves" | "sentinels",
            _,
        ) => wrong_number("sentinel"),
        (
            "failover"
            | "monitor"
            | "remove"
            | "set"
            | "reset"
            | "is-master-down-by-addr"
            | "ckquorum",
            _,
        ) => refused(
            "ERR this is no Sentinel and has no vote: the instances' agents elect the primary. For a switchover make an \
             Operation",
        ),
        _ => unknown_part(
            "SENTINEL",
            sub,
            "get-master-addr-by-name, masters, master, replicas, slaves and sentinels",
        ),
    }
}

/// As Sentinel tells it, numbers as texts too.
fn address(host: &str, port: u16) -> [(&'static str, Reply); 2] {
    [
        ("ip", Reply::text(host)),
        ("port", Reply::Text(port.to_string())),
    ]
}

fn master(view: &View, lead: &Lead) -> Reply {
    let mut all = vec![("name", Reply::text(view.set.name.as_str()))];
    all.extend(address(&view.set.host(&lead.instance), PORT));
    let count = |n: usize| Reply::Text(n.to_string());
    all.extend([
        ("flags", Reply::text("master")),
        ("config-epoch", Reply::Text(lead.epoch.to_string())),
        ("num-slaves", count(lead.replicas.len())),
        ("num-other-sentinels", count(view.set.others().count())),
    ]);
    Reply::Fields(all)
}

fn replica(view: &View, lead: &Lead, name: &str) -> Reply {
    let host = view.set.host(name);
    let mut all = vec![("name", Reply::Text(format!("{host}:{PORT}")))];
    all.extend(address(&host, PORT));
    all.extend([
        ("flags", Reply::text("slave")),
        ("master-link-status", Reply::text("ok")),
        ("master-host", Reply::Text(view.set.host(&lead.instance))),
        ("master-port", Reply::Text(PORT.to_string())),
    ]);
    Reply::Fields(all)
}

fn other(view: &View, name: &str) -> Reply {
    let mut all = vec![("name", Reply::text(name))];
    all.extend(address(&view.set.host(name), SENTINEL_PORT));
    all.push(("flags", Reply::text("sentinel")));
    Reply::Fields(all)
}

fn role(view: &View) -> Reply {
    let known = view.now.iter().map(|_| Reply::text(view.set.name.as_str()));
    Reply::List(vec![Reply::text("sentinel"), Reply::List(known.collect())])
}

fn info(view: &View) -> String {
    let set = &view.set;
    let mut lines = vec![
        "# Server".to_owned(),
        format!("redis_version:{}", set.version),
        "redis_mode:sentinel".to_owned(),
        format!("tcp_port:{SENTINEL_PORT}"),
        String::new(),
        "# Sentinel".to_owned(),
        format!("sentinel_masters:{}", u8::from(view.now.is_some())),
    ];
    lines.extend(view.now.as_ref().map(|lead| {
        format!(
            "master0:name={},status=ok,address={}:{PORT},slaves={},sentinels={}",
            set.name,
            set.host(&lead.instance),
            lead.replicas.len(),
            set.members.len()
        )
    }));
    lines.push(String::new());
    lines.join("\r\n")
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
