//! What goes wrong.

use std::time::Duration;

use super::request::{Parsed, Verb};
use super::status::Refusal;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 409 without effect, as if someone else had written.
    Conflict,
    /// This HTTP status (500, 503, 403, …) without effect.
    Code(u16),
    /// 403 with this sentence, without effect: a quota or another admission plugin says no.
    Forbid(&'static str),
    /// It has effect, and no answer comes: the connection breaks.
    LostAnswer,
    /// It never arrives: the connection breaks.
    Unreachable,
    /// It never arrives, and the connection does not break either.
    Hang,
    /// It is served after this time.
    Late(Duration),
    /// It has effect at once, and the answer comes after this time.
    LateAnswer(Duration),
}

/// Which requests suffer.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    client: Option<String>,
    verb: Option<Verb>,
    resource: Option<String>,
    name: Option<String>,
    skip: usize,
    left: Option<usize>,
}

impl Rule {
    /// Every request suffers this, until narrowed.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            client: None,
            verb: None,
            resource: None,
            name: None,
            skip: 0,
            left: None,
        }
    }

    /// Only those of this client.
    #[must_use]
    pub fn client(mut self, client: &str) -> Self {
        self.client = Some(client.to_owned());
        self
    }

    /// Only those with this verb.
    #[must_use]
    pub fn verb(mut self, verb: Verb) -> Self {
        self.verb = Some(verb);
        self
    }

    /// Only those for this resource, by its plural name.
    #[must_use]
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// Only those for an object of this name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Not the first `n` of them.
    #[must_use]
    pub fn after(mut self, n: usize) -> Self {
        self.skip = n;
        self
    }

    /// Only `n` of them.
    #[must_use]
    pub fn times(mut self, n: usize) -> Self {
        self.left = Some(n);
        self
    }

    fn concerns(&self, client: &str, parsed: &Parsed) -> bool {
        let target = &parsed.target;
        self.client.as_deref().is_none_or(|c| c == client)
            && self.verb.is_none_or(|verb| verb == parsed.verb())
            && self
                .resource
                .as_ref()
                .is_none_or(|resource| *resource == target.resource)
            && self
                .name
                .as_ref()
                .is_none_or(|name| Some(name) == target.name.as_ref())
    }

    /// Count this request; whether it suffers.
    fn strikes(&mut self, client: &str, parsed: &Parsed) -> bool {
        if !self.concerns(client, parsed) || self.left == Some(0) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.left = self.left.map(|left| left - 1);
        true
    }
}

/// Chance from a reproducible source (xorshift).
#[derive(Debug)]
pub struct Chaos {
    state: u64,
    odds: u64,
}

impl Chaos {
    pub fn new(seed: u64, odds: u64) -> Self {
        Self {
            state: seed | 1,
            odds: odds.max(1),
        }
    }

    fn draw(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % bound
    }

    fn fault(&mut self, verb: Verb) -> Option<Fault> {
        if self.draw(self.odds) != 0 {
            return None;
        }
        Some(match self.draw(5) {
            0 if verb.is_write() => Fault::Conflict,
            0 | 1 => Fault::Code(500),
            2 => Fault::Code(429),
            3 => Fault::Unreachable,
            _ => Fault::LostAnswer,
        })
    }
}

/// Everything that goes wrong at present.
#[derive(Debug, Default)]
pub struct Faults {
    pub rules: Vec<Rule>,
    pub chaos: Option<Chaos>,
    pub lag: usize,
    pub crash_in: Option<usize>,
    pub crashed: bool,
}

/// What becomes of one request.
#[derive(Clone, Debug)]
pub enum Verdict {
    Serve,
    Refuse(Refusal),
    LoseAnswer,
    Unreachable,
    Hang,
    Late(Duration),
    LateAnswer(Duration),
}

impl Faults {
    pub fn judge(&mut self, client: &str, parsed: &Parsed) -> Verdict {
        if self.crashed {
            return Verdict::Unreachable;
        }
        if let (Some(left), true) = (self.crash_in, parsed.verb().is_write()) {
            if left <= 1 {
                (self.crashed, self.crash_in) = (true, None);
                return Verdict::LoseAnswer;
            }
            self.crash_in = Some(left - 1);
        }
        let ruled = self
            .rules
            .iter_mut()
            .find_map(|rule| rule.strikes(client, parsed).then_some(rule.fault));
        let fault = ruled.or_else(|| self.chaos.as_mut()?.fault(parsed.verb()));
        match fault {
            None => Verdict::Serve,
            Some(Fault::Conflict) => Verdict::Refuse(Refusal::new(
                409,
                "Conflict",
                "the object has been modified; please apply your changes to the latest version and try again",
            )),
            Some(Fault::Code(code)) => Verdict::Refuse(refusal(code)),
            Some(Fault::Forbid(why)) => Verdict::Refuse(Refusal::new(403, "Forbidden", why)),
            Some(Fault::LostAnswer) => Verdict::LoseAnswer,
            Some(Fault::Unreachable) => Verdict::Unreachable,
            Some(Fault::Hang) => Verdict::Hang,
            Some(Fault::Late(time)) => Verdict::Late(time),
            Some(Fault::LateAnswer(time)) => Verdict::LateAnswer(time),
        }
    }
}

fn refusal(code: u16) -> Refusal {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    Refusal::new(
        code,
        reason,
        format!("refused with {code} by a rule of the test"),
    )
}
