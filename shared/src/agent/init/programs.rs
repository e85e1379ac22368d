//! Which program the agent is started from: the container's own, or one that came later.
//!
//! A new one is on trial: it must say soon that it works, and must not end for a while. One that
//! does is given up, and the one before goes on. Values only.

use std::time::Duration;

use super::protocol::GivenUp;

/// A new program that ends within this time is given up.
pub const TRIAL: Duration = Duration::from_mins(1);

/// The agent's programs.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// None: the one that the container began with.
    current: Option<String>,
    trial: Option<Trial>,
    given_up: Option<GivenUp>,
}

#[derive(Clone, Debug)]
struct Trial {
    before: Option<String>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The one before has to end first.
    Leaving,
    /// It was started, and has not said anything yet.
    Started(Duration),
    /// It said that it works.
    Works(Duration),
}

impl Programs {
    /// The one to start; none for the container's own.
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// The one that was given up last.
    pub fn given_up(&self) -> Option<&GivenUp> {
        self.given_up.as_ref()
    }

    /// Go on with another one, once the agent has ended. While one is on trial it is not taken; says
    /// whether it is.
    pub fn try_out(&mut self, program: String) -> bool {
        if self.trial.is_some() || self.current.as_ref() == Some(&program) {
            return false;
        }
        self.trial = Some(Trial {
            before: self.current.replace(program),
            stage: Stage::Leaving,
        });
        self.given_up = None;
        true
    }

    /// The agent is being started.
    pub fn starts(&mut self, now: Duration) {
        if let Some(trial) = &mut self.trial {
            trial.stage = Stage::Started(now);
        }
    }

    /// The agent says that it works.
    pub fn works(&mut self) {
        if let Some(trial) = &mut self.trial
            && let Stage::Started(since) = trial.stage
        {
            trial.stage = Stage::Works(since);
        }
    }

    /// The agent has ended, or could not be started. Says whether the one before goes on.
    pub fn ended(&mut self, how: &str) -> bool {
        match &self.trial {
            Some(trial) if trial.stage != Stage::Leaving => {
                self.give_up(format!("it ended: {how}"));
                true
            }
            _ => false,
        }
    }

    /// Time has passed. Says whether the agent that runs has to end, since it was given up: it says
    /// nothing, and soon that would be for so long that `watchdog` costs the engine.
    pub fn tick(&mut self, now: Duration, watchdog: Duration) -> bool {
        let patience = watchdog * 4 / 5;
        match self.trial.as_ref().map(|t| t.stage) {
            Some(Stage::Started(since)) if now.saturating_sub(since) > patience => {
                self.give_up(format!(
                    "it did not say within {} seconds that it works",
                    patience.as_secs()
                ));
                true
            }
            Some(Stage::Works(since)) if now.saturating_sub(since) > TRIAL => {
                self.trial = None;
                false
            }
            _ => false,
        }
    }

    fn give_up(&mut self, why: String) {
        let Some(trial) = self.trial.take() else {
            return;
        };
        if let Some(program) = std::mem::replace(&mut self.current, trial.before) {
            self.given_up = Some(GivenUp { program, why });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCHDOG: Duration = at(10);

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A new program, started at second 0.
    fn on_trial() -> Programs {
        let mut programs = Programs::default();
        assert!(programs.try_out("new".into()));
        assert!(!programs.ended("signal 9"), "the one before makes room");
        programs.starts(at(0));
        programs
    }

    #[test]
    fn one_that_works_stays_and_is_no_longer_on_trial_after_a_while() {
        let mut programs = on_trial();
        assert!(!programs.try_out("newer".into()), "one at a time");
        assert!(!programs.tick(at(4), WATCHDOG));
        programs.works();
        assert!(!programs.tick(at(61), WATCHDOG));
        assert!(!programs.ended("signal 9"), "as any agent that dies");
        assert_eq!(programs.current(), Some("new"));
        assert!(!programs.try_out("new".into()), "it is that already");
        assert!(programs.try_out("newer".into()));
    }

    #[test]
    fn one_that_says_nothing_is_given_up() {
        let mut programs = on_trial();
        assert!(!programs.tick(at(8), WATCHDOG));
        assert!(programs.tick(at(9), WATCHDOG));
        assert_eq!(programs.current(), None);
        assert!(!programs.ended("signal 9"), "that was the one given up");
        assert_eq!(programs.given_up().map(|g| g.program.as_str()), Some("new"));
    }

    #[test]
    fn one_that_ends_while_on_trial_is_given_up() {
        for works in [false, true] {
            let mut programs = on_trial();
            if works {
                programs.works();
            }
            assert!(programs.ended("exit code 1"));
            assert_eq!(programs.current(), None);
            let given_up = programs.given_up().unwrap();
            assert_eq!(given_up.why, "it ended: exit code 1");
        }
    }

    #[test]
    fn the_one_before_is_the_one_that_worked_last() {
        let mut programs = on_trial();
        programs.works();
        programs.tick(at(61), WATCHDOG);
        programs.try_out("newer".into());
        programs.starts(at(70));
        assert!(programs.ended("signal 11"));
        assert_eq!(programs.current(), Some("new"));
    }
}
