//! Logins of a set's applications besides its own (I/O): what is asked for, and what is said of it.

use super::Pass;
use super::report::{PassError, Report};
use crate::apply::io;
use crate::operator::engine::Engine;
use crate::operator::logins::{self, Login, Stage};
use crate::operator::material;
use crate::operator::observe::Observed;

impl<E: Engine> Pass<'_, E> {
    /// The logins that are asked for.
    pub(super) fn logins(observed: &Observed) -> Result<Vec<Login>, PassError> {
        let all = observed.accesses.iter();
        all.map(|access| {
            Ok(Login {
                access: access.clone(),
                password: material::password(logins::own_secret(access, observed))?,
                is_stored: logins::stored_password(access, observed).is_some(),
                is_wrong: !E::refuses(access).is_empty(),
            })
        })
        .collect()
    }

    /// Say how far they are. `hash`: of the logins that agents are to know.
    pub(super) async fn tell_of_logins(&self, report: &mut Report<E>, hash: Option<&str>) {
        let observed = &report.observed;
        let mut says = Vec::new();
        for access in &observed.accesses {
            let problems = E::refuses(access);
            let stage = if !problems.is_empty() {
                Stage::Wrong(problems)
            } else if logins::stored_password(access, observed).is_none() {
                Stage::NoSecret
            } else {
                logins::known_by(&observed.instances, hash.unwrap_or_default())
            };
            says.extend(logins::told(access, &stage, self.now));
        }
        for told in says {
            let said = io::write_status_as_seen(&self.context.client, &told.access, &told.status);
            match said.await {
                Ok(()) => {}
                // It has changed meanwhile, or is gone: that is news by itself.
                Err(error) if error.cause.is_overtaken() => {}
                Err(error) => report.failed(error),
            }
        }
    }
}
