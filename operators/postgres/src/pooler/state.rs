//! Whether clients are held back, and what ends that: values only.

use std::time::Duration;

/// How long beyond the limit of its transactions a hand-over may take before clients go on without a
/// word from anybody, if somebody takes writes: who paused may be gone.
pub const MARGIN: Duration = Duration::from_secs(10);
/// Clients are held back for no longer than this, whether anybody serves or not: they would give up, and
/// are told so instead. It is below the time that `PgBouncer` gives them to log in.
pub const LONGEST: Duration = Duration::from_secs(55);

/// What clients see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// They are served.
    #[default]
    Open,
    /// New transactions wait; some that began before run.
    Closing,
    /// All wait, and no connection to a server is left.
    Closed,
}

/// The state of a pause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    phase: Phase,
    /// When clients go on by themselves if somebody serves, as time since boot.
    until: Duration,
    /// When they do in any case.
    last: Duration,
    /// Somebody said that they may go on.
    told: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing before something happens.
    Rest,
    /// Nothing before this time.
    RestUntil(Duration),
    /// Find out whether servers can be reached, and let clients go on when they can, but not after this
    /// time.
    Try(Duration),
    /// Let clients go on.
    Resume,
}

impl Pause {
    /// What clients see.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Somebody asks to hold clients back. True when that is to be begun; else it goes on, for longer.
    pub fn ask(&mut self, now: Duration, limit: Duration) -> bool {
        self.until = now + limit + MARGIN;
        self.last = now + LONGEST.max(limit + MARGIN);
        self.told = false;
        let begins = self.phase == Phase::Open;
        if begins {
            self.phase = Phase::Closing;
        }
        begins
    }

    /// Every transaction has ended.
    pub fn closed(&mut self) {
        if self.phase == Phase::Closing {
            self.phase = Phase::Closed;
        }
    }

    /// Somebody leads: clients may go on once they can.
    pub fn tell(&mut self) {
        self.told = self.phase != Phase::Open;
    }

    /// Clients are served, for whatever reason.
    pub fn opened(&mut self) {
        *self = Self::default();
    }

    /// What to do.
    pub fn next(&self, now: Duration) -> Next {
        match self.phase {
            Phase::Open => Next::Rest,
            _ if now >= self.last => Next::Resume,
            _ if self.told || now >= self.until => Next::Try(self.last),
            _ => Next::RestUntil(self.until),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_hand_over_holds_clients_back_until_somebody_leads() {
        let mut pause = Pause::default();
        assert_eq!(pause.next(Duration::ZERO), Next::Rest);
        assert!(pause.ask(S, 5 * S));
        assert_eq!(pause.next(2 * S), Next::RestUntil(16 * S));
        pause.closed();
        assert_eq!(pause.phase(), Phase::Closed);
        pause.tell();
        assert_eq!(pause.next(2 * S), Next::Try(56 * S));
        pause.opened();
        assert_eq!(pause.next(2 * S), Next::Rest);
    }

    #[test]
    fn without_a_word_clients_go_on_with_whoever_serves_and_at_last_with_nobody() {
        let mut pause = Pause::default();
        pause.ask(S, 5 * S);
        assert_eq!(pause.next(15 * S), Next::RestUntil(16 * S));
        assert_eq!(pause.next(16 * S), Next::Try(56 * S));
        assert_eq!(pause.next(56 * S), Next::Resume);
    }

    #[test]
    fn a_word_from_before_does_not_end_the_next_pause() {
        let mut pause = Pause::default();
        pause.tell();
        assert!(pause.ask(S, S));
        assert_eq!(pause.next(S), Next::RestUntil(12 * S));
        pause.tell();
        assert!(!pause.ask(2 * S, S), "it is begun once");
        assert_eq!(pause.next(2 * S), Next::RestUntil(13 * S));
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Ask(u8),
        Closed,
        Tell,
        Opened,
    }

    fn events() -> impl Strategy<Value = Vec<(u8, Event)>> {
        let event = prop_oneof![
            (0..31_u8).prop_map(Event::Ask),
            Just(Event::Closed),
            Just(Event::Tell),
            Just(Event::Opened),
        ];
        prop::collection::vec((0..5_u8, event), 0..40)
    }

    proptest! {
        /// Whatever happens, clients are never held back for longer than so after the last wish.
        #[test]
        fn clients_always_go_on(events in events()) {
            let (mut pause, mut now, mut latest) = (Pause::default(), Duration::ZERO, Duration::ZERO);
            for (later, event) in events {
                now += u32::from(later) * S;
                match event {
                    Event::Ask(limit) => {
                        let limit = u32::from(limit) * S;
                        pause.ask(now, limit);
                        latest = now + LONGEST;
                    }
                    Event::Closed => pause.closed(),
                    Event::Tell => pause.tell(),
                    Event::Opened => pause.opened(),
                }
                let open = pause.phase() == Phase::Open;
                prop_assert_eq!(open, pause.next(now) == Next::Rest);
                prop_assert!(open || pause.next(latest) == Next::Resume);
            }
        }
    }
}
