//! Values of parameters, read as PostgreSQL reads its configuration file.

use mainstay_crds::postgres::parameters::Kind;

/// Units of memory with their size in bytes.
const MEMORY: &[(&str, f64)] = &[
    ("B", 1.0),
    ("kB", 1024.0),
    ("MB", 1_048_576.0),
    ("GB", 1_073_741_824.0),
    ("TB", 1_099_511_627_776.0),
];
/// Units of time with their length in milliseconds.
const TIME: &[(&str, f64)] = &[
    ("us", 0.001),
    ("ms", 1.0),
    ("s", 1000.0),
    ("min", 60_000.0),
    ("h", 3_600_000.0),
    ("d", 86_400_000.0),
];
/// Words that some enumerations take besides those they list.
const UNLISTED: &[&str] = &["debug", "info", "notice", "warning"];

/// Whether `value` fits, and in words what would when it does not.
///
/// # Errors
/// What to write instead, for example `a whole number between 1 and 100`.
pub fn check(kind: &Kind, value: &str) -> Result<(), String> {
    let fits = match kind {
        Kind::Bool => is_bool(value),
        Kind::Text => true,
        Kind::Enum(words) => {
            is_bool(value)
                || words
                    .split(',')
                    .chain(UNLISTED.iter().copied())
                    .any(|word| word.eq_ignore_ascii_case(value))
        }
        #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^53")]
        Kind::Integer { unit, min, max } => amount(value, unit)
            .is_some_and(|n| n.round() >= *min as f64 && n.round() <= *max as f64),
        Kind::Real { unit, min, max } => {
            amount(value, unit).is_some_and(|n| n >= *min && n <= *max)
        }
    };
    if fits { Ok(()) } else { Err(expected(kind)) }
}

/// What is expected, in words.
fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "on or off".into(),
        Kind::Text => "a text".into(),
        Kind::Enum(words) => {
            let words: Vec<&str> = words.split(',').filter(|w| !w.is_empty()).collect();
            format!("one of {}", words.join(", "))
        }
        Kind::Integer { unit, min, max } => {
            format!("a whole number between {min} and {max}{}", in_unit(unit))
        }
        Kind::Real { unit, min, max } => {
            format!("a number between {min} and {max}{}", in_unit(unit))
        }
    }
}

fn in_unit(unit: &str) -> String {
    let (_, name) = split_unit(unit);
    let (units, example) = if MEMORY.iter().any(|(u, _)| *u == name) {
        ("B, kB, MB, GB or TB", "64MB")
    } else if TIME.iter().any(|(u, _)| *u == name) {
        ("us, ms, s, min, h or d", "30s")
    } else {
        return String::new();
    };
    format!(" (in {unit}, or with a unit: {units}; for example {example})")
}

/// PostgreSQL takes every unambiguous beginning of these words.
fn is_bool(value: &str) -> bool {
    let value = value.trim().to_ascii_lowercase();
    let begins = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
    matches!(value.as_str(), "1" | "0")
        || begins("true", 1)
        || begins("false", 1)
        || begins("yes", 1)
        || begins("no", 1)
        || begins("on", 2)
        || begins("off", 2)
}

/// A number with an optional unit, in terms of the parameter's own unit.
pub fn amount(value: &str, unit: &str) -> Option<f64> {
    let value = value.trim();
    let (number, suffix) = split_number(value)?;
    let suffix = suffix.trim();
    if suffix.is_empty() {
        return Some(number);
    }
    let (times, base) = split_unit(unit);
    [MEMORY, TIME].iter().find_map(|units| {
        let size = |name: &str| units.iter().find(|(u, _)| *u == name).map(|(_, n)| *n);
        Some(number * size(suffix)? / (size(base)? * times))
    })
}

/// `8kB` as 8 and `kB`.
fn split_unit(unit: &str) -> (f64, &str) {
    let digits = unit.bytes().take_while(u8::is_ascii_digit).count();
    let (number, name) = unit.split_at(digits);
    (number.parse().unwrap_or(1.0), name)
}

/// The number at the beginning (decimal, hexadecimal or octal), and the rest.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    if let Some(hex) = unsigned.strip_prefix("0x").or(unsigned.strip_prefix("0X")) {
        let end = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
        let number = u32::from_str_radix(&hex[..end], 16).ok()?;
        return Some((sign * f64::from(number), &hex[end..]));
    }
    let mut end = unsigned
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    let whole = &unsigned[..end];
    if whole.len() > 1 && whole.starts_with('0') && whole.bytes().all(|b| b.is_ascii_digit()) {
        let number = u32::from_str_radix(whole, 8).ok()?;
        return Some((sign * f64::from(number), &unsigned[end..]));
    }
    if let Some(rest) = unsigned[end..].strip_prefix(['e', 'E']) {
        let signed = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        let digits = signed.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            end = unsigned.len() - signed.len() + digits;
        }
    }
    let number: f64 = unsigned[..end].parse().ok()?;
    Some((sign * number, &unsigned[end..]))
}

#[cfg(test)]
mod tests {
    use mainstay_crds::postgres::parameters::find;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("work_mem", "64MB", true)]
    #[case("work_mem", "64 MB", true)]
    #[case("work_mem", "0.5GB", true)]
    #[case("work_mem", "65536", true)]
    #[case("work_mem", "64mb", false)]
    #[case("work_mem", "64Mi", false)]
    #[case("work_mem", "1kB", false)]
    #[case("work_mem", "lots", false)]
    #[case("work_mem", "", false)]
    #[case("statement_timeout", "30s", true)]
    #[case("statement_timeout", "30MB", false)]
    #[case("vacuum_cost_delay", "2.5ms", true)]
    #[case("random_page_cost", "1.1", true)]
    #[case("random_page_cost", "1e1", true)]
    #[case("random_page_cost", "-1", false)]
    #[case("autovacuum", "on", true)]
    #[case("autovacuum", "TRUE", true)]
    #[case("autovacuum", "o", false)]
    #[case("autovacuum", "maybe", false)]
    #[case("log_statement", "ddl", true)]
    #[case("log_statement", "everything", false)]
    #[case("wal_compression", "lz4", true)]
    #[case("log_min_messages", "debug", true)]
    #[case("log_temp_files", "-1", true)]
    #[case("wal_buffers", "0x10", true)]
    #[case("log_line_prefix", "%m 'x' ", true)]
    fn values_are_read_as_postgresql_reads_them(
        #[case] name: &str,
        #[case] value: &str,
        #[case] fits: bool,
    ) {
        let kind = &find(17, name).unwrap().kind;
        assert_eq!(check(kind, value).is_ok(), fits, "{:?}", check(kind, value));
    }

    #[test]
    fn what_is_expected_is_said() {
        let said = |name, value| check(&find(17, name).unwrap().kind, value).unwrap_err();
        assert_eq!(said("autovacuum", "maybe"), "on or off");
        assert_eq!(said("log_statement", "x"), "one of none, ddl, mod, all");
        assert_eq!(
            said("work_mem", "x"),
            "a whole number between 64 and 2147483647 (in kB, or with a unit: B, kB, MB, GB or TB; for example 64MB)"
        );
    }
}
