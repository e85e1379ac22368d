//! What a pass, or one step of it, came to: "come back later" is a value here, never an error.

use std::time::Duration;

/// Something that waits, for what, and how long until another look is worth while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The step that waits, for example `restart db-2`.
    pub step: String,
    /// Name of the rule that holds it back, for example `primary_last`. A bounded set: it labels a
    /// metric.
    pub predicate: &'static str,
    /// The rule's reason in a sentence.
    pub reason: String,
    /// Look again after this time, if no watch brings the pass about earlier.
    pub after: Duration,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do.
    Done,
    /// It goes on by itself: something was started and is not finished.
    Progressing(Wait),
    /// A rule holds the next step back.
    Blocked(Wait),
}

impl Outcome {
    /// What it waits for, if it does.
    pub fn wait(&self) -> Option<&Wait> {
        match self {
            Self::Done => None,
            Self::Progressing(wait) | Self::Blocked(wait) => Some(wait),
        }
    }
}

/// The outcomes of all steps of a pass.
///
/// Guarantee: a step that fails hides none of the later ones: each step is recorded, whatever the
/// steps before it came to, and the earliest wish to look again wins.
#[derive(Debug)]
pub struct Outcomes<E> {
    waits: Vec<Wait>,
    blocked: bool,
    errors: Vec<E>,
}

impl<E> Default for Outcomes<E> {
    fn default() -> Self {
        Self {
            waits: Vec::new(),
            blocked: false,
            errors: Vec::new(),
        }
    }
}

impl<E> Outcomes<E> {
    /// Record what a step came to. Returns whether the step is done, for steps that need it.
    pub fn record(&mut self, step: Result<Outcome, E>) -> bool {
        match step {
            Ok(Outcome::Done) => return true,
            Ok(Outcome::Progressing(wait)) => self.waits.push(wait),
            Ok(Outcome::Blocked(wait)) => {
                self.blocked = true;
                self.waits.push(wait);
            }
            Err(error) => self.errors.push(error),
        }
        false
    }

    /// Add everything that another collection holds, after what is here.
    pub fn extend(&mut self, other: Self) {
        self.blocked |= other.blocked;
        self.waits.extend(other.waits);
        self.errors.extend(other.errors);
    }

    /// Whether every step is done.
    pub fn is_done(&self) -> bool {
        self.waits.is_empty() && self.errors.is_empty()
    }

    /// Whether a rule holds a step back.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Everything that waits, in the order of the steps.
    pub fn waits(&self) -> &[Wait] {
        &self.waits
    }

    /// Every failure, in the order of the steps.
    pub fn errors(&self) -> &[E] {
        &self.errors
    }

    /// The earliest time at which a step wants another look; none if no step waits.
    pub fn after(&self) -> Option<Duration> {
        self.waits.iter().map(|wait| wait.after).min()
    }

    /// When to look again, given what the back-off says for failures and how often a settled
    /// object is looked at anyway. The most urgent wish wins.
    pub fn requeue(&self, back_off: Duration, settled: Duration) -> Duration {
        let failed = (!self.errors.is_empty()).then_some(back_off);
        self.after()
            .into_iter()
            .chain(failed)
            .min()
            .map_or(settled, |soonest| soonest.min(settled))
    }

    /// The failures, to hand on.
    pub fn into_errors(self) -> Vec<E> {
        self.errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(step: &str, seconds: u64) -> Wait {
        Wait {
            step: step.into(),
            predicate: "one_at_a_time",
            reason: "another one restarts".into(),
            after: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn later_steps_are_recorded_after_one_failed() {
        let mut all = Outcomes::default();
        assert!(all.record(Ok(Outcome::Done)));
        assert!(!all.record(Err("no route")));
        assert!(!all.record(Ok(Outcome::Progressing(wait("start db-1", 5)))));
        assert!(!all.record(Ok(Outcome::Blocked(wait("restart db-2", 30)))));
        assert!(!all.is_done());
        assert!(all.is_blocked());
        assert_eq!(all.errors(), ["no route"]);
        assert_eq!(all.waits().len(), 2);
    }

    #[test]
    fn the_most_urgent_requeue_wins() {
        let (second, minute, hour) = (
            Duration::from_secs(1),
            Duration::from_mins(1),
            Duration::from_hours(1),
        );
        let mut all = Outcomes::<&str>::default();
        assert_eq!(all.requeue(second, hour), hour);
        all.record(Ok(Outcome::Blocked(wait("a", 60))));
        assert_eq!(all.requeue(second, hour), minute);
        all.record(Err("x"));
        assert_eq!(all.requeue(second, hour), second);
        all.record(Ok(Outcome::Progressing(wait("b", 0))));
        assert_eq!(all.requeue(second, hour), Duration::ZERO);
    }

    #[test]
    fn extending_keeps_everything() {
        let mut first = Outcomes::<&str>::default();
        first.record(Ok(Outcome::Progressing(wait("a", 9))));
        let mut second = Outcomes::default();
        second.record(Ok(Outcome::Blocked(wait("b", 3))));
        second.record(Err("x"));
        first.extend(second);
        assert!(first.is_blocked());
        assert_eq!(first.after(), Some(Duration::from_secs(3)));
        assert_eq!(first.into_errors(), ["x"]);
    }
}
