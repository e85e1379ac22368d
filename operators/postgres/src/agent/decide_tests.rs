use proptest::prelude::*;

use super::*;

fn record(seat: &str, id: Option<&str>) -> Record {
    Record {
        seat: seat.into(),
        epoch: 1,
        system_identifier: id.map(str::to_owned),
        address: Some("10.0.0.1".into()),
    }
}

fn present(role: Role) -> Data {
    Data::Present {
        identifier: "7".into(),
        role,
    }
}

fn observed<'a>(record: Option<&'a Record>, data: &'a Data, engine: &'a Engine) -> Observed<'a> {
    Observed {
        me: "db-1",
        missing: None,
        record,
        current: true,
        data,
        engine,
        hard_stopping: false,
        clean: true,
        ending: false,
        restart: false,
        busy: false,
        pausing: false,
    }
}

#[test]
fn a_new_set_is_initialised_by_its_seat_with_the_api_server_only() {
    let record = record("db-1", None);
    let mut o = observed(Some(&record), &Data::None, &Engine::Absent);
    assert_eq!(next(&o), Next::Initialise);
    o.current = false;
    assert!(matches!(next(&o), Next::Wait(_)));
    o.me = "db-2";
    o.current = true;
    assert!(
        matches!(next(&o), Next::Wait(_)),
        "it waits for the seat's data"
    );
}

#[test]
fn data_on_disk_needs_no_api_server() {
    let record = record("db-1", Some("7"));
    let data = present(Role::Primary);
    let mut o = observed(Some(&record), &data, &Engine::Absent);
    o.current = false;
    assert_eq!(next(&o), Next::Start(Role::Primary));
}

#[test]
fn nothing_starts_in_another_role_than_it_had() {
    let data = present(Role::Replica);
    let seat = record("db-1", Some("7"));
    assert!(matches!(
        next(&observed(Some(&seat), &data, &Engine::Absent)),
        Next::Fail(_)
    ));
    let data = present(Role::Primary);
    let seat = record("db-2", Some("7"));
    assert!(matches!(
        next(&observed(Some(&seat), &data, &Engine::Absent)),
        Next::Fail(_)
    ));
}

#[test]
fn what_is_left_of_an_engine_goes_before_the_next_start() {
    let record = record("db-1", Some("7"));
    let data = present(Role::Primary);
    let ended = Engine::Exited {
        how: "signal 9".into(),
        clean: false,
    };
    let mut o = observed(Some(&record), &data, &ended);
    o.clean = false;
    assert_eq!(next(&o), Next::Clean);
    o.clean = true;
    assert_eq!(next(&o), Next::Start(Role::Primary));
}

fn engines() -> impl Strategy<Value = Engine> {
    prop_oneof![
        Just(Engine::Absent),
        Just(Engine::Running { pid: 7 }),
        Just(Engine::Exited {
            how: "x".into(),
            clean: false
        }),
    ]
}

fn volumes() -> impl Strategy<Value = Data> {
    prop_oneof![
        Just(Data::None),
        Just(present(Role::Primary)),
        Just(present(Role::Replica)),
        Just(Data::Present {
            identifier: "8".into(),
            role: Role::Primary
        }),
        Just(Data::Unusable("x".into())),
    ]
}

proptest! {
    #[test]
    fn the_dangerous_steps_have_their_conditions(
        data in volumes(),
        engine in engines(),
        seat in prop_oneof![Just("db-1"), Just("db-2")],
        id in prop_oneof![Just(None), Just(Some("7"))],
        known: bool, flags: [bool; 7],
    ) {
        let record = record(seat, id);
        let [current, hard_stopping, clean, ending, restart, busy, pausing] = flags;
        let o = Observed {
            me: "db-1", missing: None, record: known.then_some(&record), current, data: &data,
            engine: &engine, hard_stopping, clean, ending, restart, busy, pausing,
        };
        let running = matches!(engine, Engine::Running { .. });
        match next(&o) {
            Next::Initialise => prop_assert!(
                seat == "db-1" && id.is_none() && data == Data::None && current && !running),
            Next::Clone => prop_assert!(
                seat == "db-2" && data == Data::None && id.is_some() && current && !running),
            Next::Start(role) => {
                prop_assert!(clean && !running && !busy && !ending && !hard_stopping);
                // Its own data in its own role. Before the set has an identifier, the seat's own
                // data is whatever it made before it could record so.
                let own = match &data {
                    Data::Present { identifier, role: was } if *was == role => identifier.as_str(),
                    _ => "",
                };
                prop_assert!(own == "7" || own == "8" && id.is_none() && seat == "db-1");
                prop_assert_eq!(role == Role::Primary, seat == "db-1");
            }
            Next::Stop => prop_assert!(running && (ending || restart)),
            Next::End => prop_assert!(ending && !running),
            _ => {}
        }
    }
}
