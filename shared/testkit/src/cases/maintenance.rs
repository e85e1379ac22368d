//! Bad maintenance windows.

use mainstay_crds::common::sentences;
use serde_json::{Value, json};

use super::By::Both;
use super::{Case, spec};

/// Good windows.
pub fn good() -> Vec<(&'static str, Value)> {
    let windows = json!([
        { "start": "02:30", "hours": 4 },
        { "days": ["Saturday", "Sunday"], "start": "00:00", "hours": 24 },
    ]);
    let maintenance = json!({ "freeze": false, "windows": windows });
    vec![(
        "windows for changes",
        json!({ "spec": { "maintenance": maintenance } }),
    )]
}

/// Windows that are none.
pub fn cases() -> Vec<Case> {
    let window = |what, field, sentence, start: &str, hours: i32| {
        let patch = json!({ "windows": [{ "start": start, "hours": hours }] });
        spec(what, Both, field, sentence, json!({ "maintenance": patch }))
    };
    let start = |what, text| {
        let field = "spec.maintenance.windows[0].start";
        window(what, field, sentences::WINDOW_START, text, 1)
    };
    let hours = |what, n| {
        let field = "spec.maintenance.windows[0].hours";
        window(what, field, sentences::WINDOW_HOURS, "02:30", n)
    };
    vec![
        start("a window at half past", "2:30"),
        start("a window on the next day", "24:00"),
        hours("a window without length", 0),
        hours("a window of two days", 48),
    ]
}
