//! What is asked, in words, and what an answer means. Pure.

use mainstay_shared::backups::container::drill::words::holds;

use crate::backup::settings::DrillCheck;
use crate::resp::Value;

/// As what an answer counts as true, besides a number other than zero.
pub const TRUE: &str = "true";
/// Redis' word for the type of a key that is not there.
const NO_KEY: &str = "none";

/// What is asked.
pub fn what(check: &DrillCheck) -> String {
    let (what, database) = match check {
        DrillCheck::Keys { database, .. } => ("number of keys".to_owned(), *database),
        DrillCheck::Key { database, name, .. } => (format!("key {name}"), Some(*database)),
        DrillCheck::Command {
            database, words, ..
        } => (words.join(" "), Some(*database)),
    };
    match database {
        None | Some(0) => what,
        Some(number) => format!("{what} in database {number}"),
    }
}

/// Whether there are as many keys as there should be.
///
/// # Errors
/// How many there are.
pub fn counted(keys: u64, at_least: Option<u64>, at_most: Option<u64>) -> Result<(), String> {
    if at_least.is_some_and(|least| keys < least) || at_most.is_some_and(|most| keys > most) {
        let expected = match (at_least, at_most) {
            (Some(least), Some(most)) if least == most => least.to_string(),
            (Some(least), Some(most)) => format!("{least} to {most}"),
            (Some(least), None) => format!("at least {least}"),
            (None, most) => format!("at most {}", most.unwrap_or_default()),
        };
        return Err(format!("{keys}, where {expected} were expected"));
    }
    Ok(())
}

/// Whether a key with this answer to `TYPE` is there, and of a type.
///
/// # Errors
/// What there is instead.
pub fn is_of_type(found: &str, wanted: Option<&str>) -> Result<(), String> {
    match wanted {
        _ if found == NO_KEY => Err("there is no such key".to_owned()),
        Some(wanted) if wanted != found => {
            Err(format!("it is a {found}, where a {wanted} was expected"))
        }
        _ => Ok(()),
    }
}

/// Whether an answer is what was expected. Without an expectation a number below 0 is none: it says that there is no such
/// key, or no such place in it.
///
/// # Errors
/// What was answered instead.
pub fn answered(expect: Option<&str>, answer: &Value) -> Result<(), String> {
    match (expect, answer) {
        (None, Value::Integer(n)) if *n < 0 => {
            Err(format!("`{n}`, where a number above 0 was expected"))
        }
        _ => holds(expect, text(answer).as_deref(), TRUE),
    }
}

/// An answer as text: of a list its items, with a line for each. None where there is nothing.
pub fn text(answer: &Value) -> Option<String> {
    match answer {
        Value::Null => None,
        Value::Error(why) => Some(why.clone()),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|i| text(i).unwrap_or_default()).collect();
            Some(items.join("\n"))
        }
        Value::Simple(_) | Value::Bulk(_) | Value::Integer(_) => answer.text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_within_bounds() {
        let good = [
            (7, Some(7), None),
            (7, None, Some(7)),
            (7, Some(7), Some(7)),
            (0, Some(0), Some(0)),
        ];
        for (keys, least, most) in good {
            assert_eq!(counted(keys, least, most), Ok(()));
        }
        let told = |keys, least, most| counted(keys, least, most).unwrap_err();
        assert_eq!(told(6, Some(7), None), "6, where at least 7 were expected");
        assert_eq!(told(8, None, Some(7)), "8, where at most 7 were expected");
        assert_eq!(told(6, Some(7), Some(7)), "6, where 7 were expected");
        assert_eq!(told(9, Some(7), Some(8)), "9, where 7 to 8 were expected");
    }

    #[test]
    fn a_key_is_there_and_of_its_type() {
        assert_eq!(is_of_type("hash", None), Ok(()));
        assert_eq!(is_of_type("hash", Some("hash")), Ok(()));
        assert_eq!(
            is_of_type("none", None).unwrap_err(),
            "there is no such key"
        );
        assert_eq!(
            is_of_type("none", Some("hash")).unwrap_err(),
            "there is no such key"
        );
        assert_eq!(
            is_of_type("list", Some("hash")).unwrap_err(),
            "it is a list, where a hash was expected"
        );
    }

    #[test]
    fn a_number_that_says_that_there_is_nothing_holds_only_if_it_was_expected() {
        for (answer, holds) in [(3, true), (1, true), (0, false), (-1, false), (-2, false)] {
            let found = answered(None, &Value::Integer(answer));
            assert_eq!(found.is_ok(), holds, "{answer}: {found:?}");
        }
        assert_eq!(answered(Some("-1"), &Value::Integer(-1)), Ok(()));
    }

    #[test]
    fn answers_are_compared_as_text() {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        assert_eq!(text(&Value::Null), None);
        assert_eq!(text(&Value::Integer(-7)).as_deref(), Some("-7"));
        let list = Value::Array(vec![
            bulk("a"),
            Value::Null,
            Value::Array(vec![bulk("b"), Value::Integer(1)]),
        ]);
        assert_eq!(text(&list).as_deref(), Some("a\n\nb\n1"));
        assert_eq!(text(&Value::Array(vec![])).as_deref(), Some(""));
    }

    #[test]
    fn what_is_asked_names_the_database_where_it_matters() {
        let keys = |database| DrillCheck::Keys {
            database,
            at_least: None,
            at_most: None,
        };
        assert_eq!(what(&keys(None)), "number of keys");
        assert_eq!(what(&keys(Some(3))), "number of keys in database 3");
        let command = |database| DrillCheck::Command {
            database,
            words: vec!["HGET".into(), "a".into(), "b".into()],
            expect: None,
        };
        assert_eq!(what(&command(0)), "HGET a b");
        assert_eq!(what(&command(3)), "HGET a b in database 3");
    }
}
