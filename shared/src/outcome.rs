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
    /// Look again after this time; none when a watch tells that the wait is over.
    pub after: Option<Duration>,
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
    unfinished: Vec<Outcome>,
    errors: Vec<E>,
    look: Option<Duration>,
}

impl<E> Default for Outcomes<E> {
    fn default() -> Self {
        Self {
            unfinished: Vec::new(),
            errors: Vec::new(),
            look: None,
        }
    }
}

impl<E> Outcomes<E> {
    /// Record what a step came to. Returns whether the step is done, for steps that need it.
    pub fn record(&mut self, step: Result<Outcome, E>) -> bool {
        match step {
            Ok(Outcome::Done) => return true,
            Ok(unfinished) => self.unfinished.push(unfinished),
            Err(error) => self.errors.push(error),
        }
        false
    }

    /// Record a request that is done when it succeeds, whatever it yields.
    pub fn request<T>(&mut self, step: Result<T, E>) -> bool {
        self.record(step.map(|_| Outcome::Done))
    }

    /// Look again after this time although nothing waits: something becomes due then.
    pub fn look_after(&mut self, time: Duration) {
        self.look = Some(self.look.map_or(time, |look| look.min(time)));
    }

    /// Add everything that another collection holds, after what is here.
    pub fn extend<F: Into<E>>(&mut self, other: Outcomes<F>) {
        self.unfinished.extend(other.unfinished);
        self.errors.extend(other.errors.into_iter().map(Into::into));
        if let Some(time) = other.look {
            self.look_after(time);
        }
    }

    /// Everything that waits, in the order of the steps.
    pub fn waits(&self) -> impl Iterator<Item = &Wait> {
        self.unfinished.iter().filter_map(Outcome::wait)
    }

    /// What a rule holds back, in the order of the steps.
    pub fn blocked(&self) -> impl Iterator<Item = &Wait> {
        self.unfinished.iter().filter_map(|step| match step {
            Outcome::Blocked(wait) => Some(wait),
            Outcome::Done | Outcome::Progressing(_) => None,
        })
    }

    /// Every failure, in the order of the steps.
    pub fn errors(&self) -> &[E] {
        &self.errors
    }

    /// When to look again, given what the back-off says if a step failed. The most urgent wish
    /// wins; none when a watch tells of everything that is waited for.
    pub fn requeue(&self, back_off: Option<Duration>) -> Option<Duration> {
        let waits = self.waits().filter_map(|wait| wait.after);
        waits.chain(self.look).chain(back_off).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(step: &str, seconds: Option<u64>) -> Wait {
        Wait {
            step: step.into(),
            predicate: "one_at_a_time",
            reason: "another one restarts".into(),
            after: seconds.map(Duration::from_secs),
        }
    }

    #[test]
    fn later_steps_are_recorded_after_one_failed() {
        let mut all = Outcomes::default();
        assert!(all.record(Ok(Outcome::Done)));
        assert!(all.request(Ok(7)));
        assert!(!all.record(Err("no route")));
        assert!(!all.record(Ok(Outcome::Progressing(wait("start db-1", None)))));
        assert!(!all.record(Ok(Outcome::Blocked(wait("restart db-2", None)))));
        assert_eq!(all.errors(), ["no route"]);
        let steps = |waits: Vec<&Wait>| -> Vec<String> {
            waits.into_iter().map(|wait| wait.step.clone()).collect()
        };
        assert_eq!(steps(all.waits().collect()), ["start db-1", "restart db-2"]);
        assert_eq!(steps(all.blocked().collect()), ["restart db-2"]);
    }

    #[test]
    fn the_most_urgent_requeue_wins() {
        let seconds = |n| Some(Duration::from_secs(n));
        let mut all = Outcomes::<&str>::default();
        assert_eq!(all.requeue(None), None);
        assert_eq!(all.requeue(seconds(1)), seconds(1));
        all.record(Ok(Outcome::Blocked(wait("a", None))));
        assert_eq!(all.requeue(None), None);
        all.record(Ok(Outcome::Blocked(wait("b", Some(60)))));
        assert_eq!(all.requeue(None), seconds(60));
        assert_eq!(all.requeue(seconds(1)), seconds(1));
        all.look_after(Duration::from_secs(90));
        all.look_after(Duration::from_secs(30));
        all.look_after(Duration::from_secs(40));
        assert_eq!(all.requeue(None), seconds(30));
        all.record(Ok(Outcome::Progressing(wait("c", Some(0)))));
        assert_eq!(all.requeue(seconds(1)), seconds(0));
    }

    #[test]
    fn extending_keeps_everything() {
        let mut first = Outcomes::<String>::default();
        first.record(Ok(Outcome::Progressing(wait("a", Some(9)))));
        let mut second = Outcomes::<&str>::default();
        second.record(Ok(Outcome::Blocked(wait("b", None))));
        second.record(Err("x"));
        second.look_after(Duration::from_secs(3));
        first.extend(second);
        assert_eq!((first.waits().count(), first.blocked().count()), (2, 1));
        assert_eq!(first.requeue(None), Some(Duration::from_secs(3)));
        assert_eq!(first.errors(), ["x"]);
    }
}
