//! Metrics of how a set serves, by set: what its status says in words, as numbers that last.
//!
//! `ready` is what a client finds who comes through the Service: the average of it over a month is the availability of
//! that month. What is not known counts as not ready, so that nothing is left out of it.

use mainstay_crds::common::CertificateStatus;
use prometheus_client::registry::Registry;

use super::sets::{Gauges, Named, Set, register};

/// What is shown of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// The condition Ready is True.
    pub ready: bool,
    /// The condition Degraded is True.
    pub degraded: bool,
    /// The condition Stalled is True.
    pub stalled: bool,
    /// Instances that serve; none where nobody knows.
    pub serving: Option<i64>,
    /// Instances that are asked for.
    pub wanted: Option<i64>,
    /// When the first of the served certificates ends, in seconds since 1970.
    pub certificate_ends: Option<i64>,
}

impl Service {
    /// Instances as a status tells them, `2/3`.
    #[must_use]
    pub fn instances(mut self, ready: Option<&str>) -> Self {
        let numbers = ready.and_then(|text| text.split_once('/'));
        self.serving = numbers.and_then(|(serving, _)| serving.parse().ok());
        self.wanted = numbers.and_then(|(_, wanted)| wanted.parse().ok());
        self
    }

    /// Certificates as they are served.
    #[must_use]
    pub fn certificates(mut self, served: &[CertificateStatus]) -> Self {
        self.certificate_ends = served.iter().map(|c| c.not_after.0.as_second()).min();
        self
    }
}

/// The metrics.
#[derive(Debug, Default)]
pub struct ServiceMetrics {
    ready: Gauges,
    degraded: Gauges,
    stalled: Gauges,
    serving: Gauges,
    wanted: Gauges,
    certificate_ends: Gauges,
}

impl ServiceMetrics {
    fn all(&self) -> [Named<'_>; 6] {
        [
            (
                "ready",
                "1 while the condition Ready is True: a client's round trip through the Service has succeeded",
                &self.ready,
            ),
            (
                "degraded",
                "1 while the condition Degraded is True",
                &self.degraded,
            ),
            (
                "stalled",
                "1 while the condition Stalled is True: a person has to act",
                &self.stalled,
            ),
            ("instances_ready", "Instances that serve", &self.serving),
            (
                "instances_wanted",
                "Instances that are asked for",
                &self.wanted,
            ),
            (
                "certificate_expiry_timestamp_seconds",
                "When the first of the served certificates ends",
                &self.certificate_ends,
            ),
        ]
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        register(&self.all(), registry);
    }

    /// What is known of a set. What is not known is not shown, but for its conditions.
    pub fn set(&self, namespace: &str, name: &str, now: Service) {
        let set = Set::new(namespace, name);
        set.show(&self.ready, Some(now.ready.into()));
        set.show(&self.degraded, Some(now.degraded.into()));
        set.show(&self.stalled, Some(now.stalled.into()));
        set.show(&self.serving, now.serving);
        set.show(&self.wanted, now.wanted);
        set.show(&self.certificate_ends, now.certificate_ends);
    }

    /// A set is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        Set::new(namespace, name).forget(&self.all());
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::super::metrics::Metrics;
    use super::*;

    fn certificate(ends: i64) -> CertificateStatus {
        CertificateStatus {
            name: "db-1".into(),
            served_serial: "01".into(),
            not_after: Time(jiff::Timestamp::from_second(ends).unwrap()),
        }
    }

    #[test]
    fn what_a_status_says_is_told_in_numbers_and_gone_with_the_set() {
        let metrics = Metrics::default();
        let now = Service {
            ready: true,
            stalled: true,
            ..Service::default()
        };
        let now = now
            .instances(Some("2/3"))
            .certificates(&[certificate(900), certificate(700)]);
        metrics.service.set("shop", "db", now);
        let text = metrics.text().unwrap();
        for (name, value) in [
            ("ready", 1),
            ("degraded", 0),
            ("stalled", 1),
            ("instances_ready", 2),
            ("instances_wanted", 3),
            ("certificate_expiry_timestamp_seconds", 700),
        ] {
            let line = format!("mainstay_{name}{{namespace=\"shop\",name=\"db\"}} {value}\n");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        metrics.service.forget("shop", "db");
        assert!(!metrics.text().unwrap().contains("shop"));
    }

    #[test]
    fn how_many_serve_is_not_shown_where_it_is_not_known() {
        let service = Service::default();
        assert_eq!(service.instances(None), service);
        assert_eq!(service.instances(Some("?")), service);
        assert_eq!(service.certificates(&[]), service);
    }
}
