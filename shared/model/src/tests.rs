use stateright::{Checker, Model};

use crate::config::Config;
use crate::explore::Set;

#[test]
fn one_lapse_of_one_clock_breaks_nothing() {
    let config = Config {
        lapses: 1,
        ..Config::CALM
    };
    let checker = Set::formed(config).checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.unique_state_count() > 1000);
}
