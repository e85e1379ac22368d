//! Since when the API server answers; values only.

use crate::election::member::Moment;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Reach {
    since: Option<Moment>,
    last: Moment,
}

impl Reach {
    /// It has answered.
    pub(super) fn heard(&mut self, now: Moment) {
        self.since.get_or_insert(now);
        self.last = now;
    }

    /// It has not.
    pub(super) fn missed(&mut self, now: Moment) {
        self.since = None;
        self.last = now;
    }

    /// Since when it has answered all that was asked of it.
    pub(super) fn since(&self) -> Option<Moment> {
        self.since
    }

    /// Whether nothing has been known of it for so long.
    pub(super) fn is_old(&self, now: Moment, every: Moment) -> bool {
        now >= self.last + every
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_question_without_an_answer_begins_it_anew() {
        let second = Duration::from_secs;
        let mut reach = Reach::default();
        assert_eq!(reach.since(), None);
        reach.heard(second(10));
        reach.heard(second(12));
        assert_eq!(reach.since(), Some(second(10)));
        assert!(!reach.is_old(second(13), second(2)) && reach.is_old(second(14), second(2)));
        reach.missed(second(15));
        assert_eq!(reach.since(), None);
        assert!(
            !reach.is_old(second(16), second(2)),
            "it is asked no oftener"
        );
        reach.heard(second(40));
        assert_eq!(reach.since(), Some(second(40)));
    }
}
