//! Metrics of an instance, in the text format of Prometheus. Values only.

use std::fmt::Write;

/// The metrics written so far.
#[derive(Debug)]
pub struct Gauges<'a> {
    /// In front of each name, for example `mainstay_postgres`.
    prefix: &'static str,
    instance: &'a str,
    text: String,
}

impl<'a> Gauges<'a> {
    /// None yet, of this instance.
    pub fn new(prefix: &'static str, instance: &'a str) -> Self {
        Self {
            prefix,
            instance,
            text: String::new(),
        }
    }

    /// One that is known: a number of something.
    #[allow(
        clippy::cast_precision_loss,
        reason = "metrics are floating point numbers"
    )]
    pub fn number(&mut self, name: &str, help: &str, value: impl Into<Option<u64>>) {
        if let Some(value) = value.into() {
            self.write(name, help, value as f64);
        }
    }

    /// One that is known: 1 for yes, 0 for no.
    pub fn flag(&mut self, name: &str, help: &str, value: impl Into<Option<bool>>) {
        if let Some(value) = value.into() {
            self.write(name, help, f64::from(u8::from(value)));
        }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }

    fn write(&mut self, name: &str, help: &str, value: f64) {
        let (prefix, instance) = (self.prefix, self.instance);
        // Writing to a String cannot fail.
        let _ = write!(
            self.text,
            "# HELP {prefix}_{name} {help}\n# TYPE {prefix}_{name} gauge\n{prefix}_{name}{{instance=\"{instance}\"}} {value}\n"
        );
    }
}
