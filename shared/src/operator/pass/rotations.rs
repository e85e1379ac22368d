//! Passwords that are changed (I/O): what is said of the operations that ask for it.

use super::Pass;
use super::objects::Wishes;
use super::report::Report;
use crate::operator::engine::Engine;
use crate::operator::rotations::{self, Setting};

impl<E: Engine> Pass<'_, E> {
    /// Write down how far they are. What is written down here is done in the next pass.
    pub(super) async fn tell_of_rotations(&self, report: &mut Report<E>, wishes: &Wishes) {
        let (says, due) = {
            let observed = &report.observed;
            let setting = Setting {
                now: self.now,
                set: &self.id,
                refusal: E::ONE_PASSWORD,
                observed,
                is_wrong: &|access| !E::refuses(access).is_empty(),
                users_hash: wishes.users_hash.as_deref().filter(|_| wishes.announced),
            };
            (
                rotations::told(&setting),
                rotations::due(observed, self.now),
            )
        };
        if let Some(due) = due.filter(|due| *due > self.now) {
            report.look_at(due, self.now);
        }
        self.answer(report, says).await;
    }
}
