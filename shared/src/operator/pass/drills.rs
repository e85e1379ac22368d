//! Drills of a set (I/O): one step of what [`crate::backups::drill`] decides in each pass, and what the
//! status says. Whatever comes of a drill, it holds nothing else up.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Resource;
use kube::api::{Api, ListParams, Patch, PatchParams};
use mainstay_crds::common::backup::DrillRecord;
use serde_json::json;

use super::report::{PassError, Report};
use super::{LOOK, Pass};
use crate::apply::inventory::Seen;
use crate::apply::io::{self, Created};
use crate::apply::{Cause, Object};
use crate::backups::drill::pod::is_of_drill;
use crate::backups::drill::{self, Decision, Drill, Setting, Start, Wish, demand};
use crate::conditions::State;
use crate::names;
use crate::operations::{self, Told};
use crate::operator::act::failed;
use crate::operator::engine::Engine;
use crate::operator::observe::kinds::{CONFIG_MAP, NETWORK_POLICY, POD};
use crate::operator::validated::Validated;

/// What was written down stands after so long, and then it goes on.
const SOON: Duration = Duration::from_secs(1);

impl<E: Engine> Pass<'_, E> {
    /// Look after drills: after backups, whose report says what can be recovered.
    pub(super) async fn look_after_drills(
        &self,
        report: &mut Report<E>,
        validated: &Validated<E>,
        paused: bool,
    ) {
        let backup = validated.common.backup.as_ref();
        let asked = backup.and_then(|b| b.drill.as_ref());
        let wish = asked.map(|wanted| Wish {
            cron: &wanted.cron,
            target: wanted.target,
            keep: wanted.keep,
            seconds: wanted.seconds,
        });
        let before = self.before.recovery.as_ref();
        let records = before.map_or(&[][..], |r| &r.drills);
        let (decision, waits, answers, due) = {
            let observed = &report.observed;
            let ground = report.ground.as_ref().map(|g| g.as_ref());
            let ground = ground.map(|g| g.copied().map_err(String::as_str));
            let setting = Setting {
                now: self.now,
                set: &self.id,
                wish,
                records,
                begun: &observed.drills,
                asked: &observed.asked_drills,
                instances: &observed.instances,
                apart: self.is_apart(report),
                ground: ground.unwrap_or(Err("it waits until backups are looked at")),
                paused,
            };
            let decision = drill::decide(&setting);
            let waits = decision.waits();
            let answers = demand::told(&setting, waits.as_deref());
            (decision, waits, answers, drill::due(&setting))
        };
        self.answer(report, answers).await;
        let record = self
            .carry_on(report, validated, asked.is_some(), decision)
            .await;
        if let Some(due) = due {
            report.look_at(due, self.now);
        }
        if record.is_some() {
            report.outcomes.look_after(SOON);
        }
        self.tell_of_drills(report, wish.as_ref(), record, waits);
    }

    /// One step. Returns what is to be written down.
    async fn carry_on(
        &self,
        report: &mut Report<E>,
        validated: &Validated<E>,
        asked: bool,
        decision: Decision,
    ) -> Option<DrillRecord> {
        let done = match (decision, asked) {
            (Decision::Record(record), _) => return Some(record),
            // Nothing is begun where nothing is asked for.
            (Decision::Wait(_) | Decision::Rest, _)
            | (Decision::Start(_) | Decision::MakePod(_), false) => Ok(None),
            (Decision::Start(start), true) => {
                let map = E::drill_map(&validated.own, &start);
                self.start(map, &start).await.map(|()| None)
            }
            (Decision::MakePod(drill), true) => {
                let image = &self.context.settings.image;
                match E::drill_pod(&validated.own, &drill, image) {
                    Some(pod) => self.make(report, &drill, &pod).await,
                    None => Ok(None),
                }
            }
            (Decision::Note(name), _) => self.note(report, &name).await.map(|()| None),
            (Decision::Look(drill), _) => {
                report.outcomes.look_after(LOOK);
                self.look(&drill).await
            }
            (Decision::Remove(name), _) => self.remove(report, &name).await.map(|()| None),
        };
        done.unwrap_or_else(|error| {
            report.failed(error);
            None
        })
    }

    /// Say of operations that hold nobody up how far they are. One that has changed since it was seen, or is gone, is
    /// looked at anew.
    pub(super) async fn answer(&self, report: &mut Report<E>, all: Vec<Told>) {
        for told in all {
            let (operation, status) = (&told.operation, &told.status);
            match io::write_status_as_seen(&self.context.client, operation, status).await {
                Ok(()) => {
                    if let Some(happening) = operations::happening(&told) {
                        let object = operation.object_ref(&());
                        self.context.events.report(&object, happening);
                    }
                }
                Err(error) if error.cause.is_overtaken() => {}
                Err(error) => report.failed(error),
            }
        }
    }

    /// Whether the policy is there that keeps pods of drills apart.
    fn is_apart(&self, report: &Report<E>) -> bool {
        let name = names::drill_policy(&self.set.name);
        found(&report.observed.live, NETWORK_POLICY, &name).is_some()
    }

    async fn start(
        &self,
        map: Result<Option<ConfigMap>, serde_json::Error>,
        start: &Start,
    ) -> Result<(), PassError> {
        let Some(map) = map? else {
            return Ok(());
        };
        let map = Object::of(&map)?;
        if io::create(&self.context.client, &map).await? == Created::Made {
            tracing::info!(set = %self.set, drill = start.name, "a drill begins");
            let object = self.root.object_ref(&());
            self.context.events.report(&object, drill::started(start));
        }
        Ok(())
    }

    /// Make the pod, and write down that it was made.
    async fn make(
        &self,
        report: &Report<E>,
        drill: &Drill,
        pod: &Pod,
    ) -> Result<Option<DrillRecord>, PassError> {
        match io::create(&self.context.client, &Object::of(pod)?).await {
            Ok(_) => self.note(report, &drill.name).await.map(|()| None),
            Err(error) => match &error.cause {
                Cause::Quota(_) | Cause::Refused(_) | Cause::Invalid(_) => {
                    let why = error.cause.to_string();
                    Ok(Some(drill::refused(drill, &why, self.now)))
                }
                _ => Err(error.into()),
            },
        }
    }

    /// Write down that the pod was made.
    async fn note(&self, report: &Report<E>, name: &str) -> Result<(), PassError> {
        let Some(map) = found(&report.observed.live, CONFIG_MAP, name) else {
            return Ok(());
        };
        let body = json!({"metadata": {
            "uid": map.meta("uid"),
            "annotations": {names::DRILL_BEGUN: self.now.to_string()},
        }});
        let parameters = PatchParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), &self.set.namespace);
        match api.patch(name, &parameters, &Patch::Merge(body)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(())
            }
            Err(error) => Err(failed::<ConfigMap>("patch", &self.set, name, error).into()),
        }
    }

    /// Whether the pod is really gone: a cache may be late.
    async fn look(&self, drill: &Drill) -> Result<Option<DrillRecord>, PassError> {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &self.set.namespace);
        let by_name = ListParams::default().fields(&format!("metadata.name={}", drill.name));
        let pods = api
            .list(&by_name)
            .await
            .map_err(|error| failed::<Pod>("list", &self.set, &drill.name, error))?;
        let there = pods.items.iter().any(|pod| is_of_drill(&pod.metadata));
        Ok((!there).then(|| drill::gone(drill, self.now)))
    }

    /// The pod, and its volume with it; once it is gone, the ConfigMap.
    async fn remove(&self, report: &Report<E>, name: &str) -> Result<(), PassError> {
        let observed = &report.observed;
        let pod = found(&observed.volumes_and_pods, POD, name);
        let object = pod.or_else(|| found(&observed.live, CONFIG_MAP, name));
        let seen = object.filter(|o| !o.is_terminating()).and_then(Seen::of);
        if let Some(seen) = seen {
            io::delete(&self.context.client, &seen).await?;
        }
        Ok(())
    }

    /// What the status and the metrics say.
    fn tell_of_drills(
        &self,
        report: &mut Report<E>,
        wish: Option<&Wish<'_>>,
        record: Option<DrillRecord>,
        waits: Option<String>,
    ) {
        let metrics = &self.context.metrics.drills;
        let (namespace, name) = (&self.set.namespace, &self.set.name);
        let Some((wish, told)) = wish.zip(report.backups.as_mut()) else {
            metrics.forget(namespace, name);
            // What was proven once stays for who asks.
            if let Some(told) = &mut report.backups {
                told.recovery.drill = None;
                told.recovery.next_drill = None;
            }
            return;
        };
        let recovery = &mut told.recovery;
        if let Some(record) = record {
            tracing::info!(set = %self.set, result = ?record.result, record.message, "a drill is over");
            drill::record(recovery, record);
        }
        recovery.drill = waits;
        recovery.next_drill = drill::next(wish.cron, self.now);
        let proven = drill::condition(wish, self.now, &recovery.drills);
        let known = Some(proven.0 == State::True).filter(|_| proven.0 != State::Unknown);
        metrics.set(namespace, name, known, &recovery.drills);
        told.proven = Some(proven);
    }
}

fn found<'a>(objects: &'a [Object], kind: &str, name: &str) -> Option<&'a Object> {
    objects
        .iter()
        .find(|o| o.resource.kind == kind && o.meta("name") == Some(name))
}
