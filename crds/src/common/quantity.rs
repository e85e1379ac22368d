//! Reading Kubernetes quantities such as `500m`, `20Gi` or `1.5e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// A text is no quantity, or one too large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAQuantity(pub String);

impl std::fmt::Display for NotAQuantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} is not a quantity: write a number with a unit, for example 500m, 512Mi or 20Gi",
            self.0
        )
    }
}

impl std::error::Error for NotAQuantity {}

/// Whole units, for example bytes; fractions of a unit are rounded up, as Kubernetes does.
///
/// # Errors
/// When the text is no quantity, or too large for 64 bits.
pub fn whole(quantity: &Quantity) -> Result<i64, NotAQuantity> {
    let milli = parse_milli(&quantity.0).ok_or_else(|| NotAQuantity(quantity.0.clone()))?;
    let whole = milli.div_euclid(1000) + i128::from(milli.rem_euclid(1000) > 0);
    i64::try_from(whole).map_err(|_| NotAQuantity(quantity.0.clone()))
}

/// Thousandths of a unit, for example of a processor; smaller fractions are rounded up.
///
/// # Errors
/// When the text is no quantity, or too large for 64 bits.
pub fn milli(quantity: &Quantity) -> Result<i64, NotAQuantity> {
    let milli = parse_milli(&quantity.0).ok_or_else(|| NotAQuantity(quantity.0.clone()))?;
    i64::try_from(milli).map_err(|_| NotAQuantity(quantity.0.clone()))
}

/// Bytes as a quantity in the largest unit that divides them, for example `512Mi`.
pub fn of_bytes(bytes: i64) -> Quantity {
    let units = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    let whole = units.into_iter().find(|(unit, _)| bytes % unit == 0);
    Quantity(whole.map_or_else(
        || bytes.to_string(),
        |(unit, name)| format!("{}{name}", bytes / unit),
    ))
}

/// Thousandths; exact but for fractions below a thousandth, which are rounded up.
fn parse_milli(text: &str) -> Option<i128> {
    let end = text
        .char_indices()
        .find(|(_, c)| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .map_or(text.len(), |(i, _)| i);
    let (number, suffix) = text.split_at(end);
    let (negative, digits) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (int, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (int.is_empty() && fraction.is_empty()) || !all_digits(int) || !all_digits(fraction) {
        return None;
    }
    let mantissa: i128 = format!("{int}{fraction}").parse().ok()?;
    let (times, tens): (i128, i32) = match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let exponent = tens
        .checked_add(3)?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scaled = mantissa.checked_mul(times)?;
    let ten = 10_i128.checked_pow(exponent.unsigned_abs());
    let milli = if exponent >= 0 {
        scaled.checked_mul(ten?)?
    } else {
        let ten = ten?;
        scaled / ten + i128::from(scaled % ten > 0)
    };
    Some(if negative { -milli } else { milli })
}

/// Schema of a field with a quantity: bounded, and a number is as good as its text.
pub fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-int-or-string": true, "maxLength": 32 })
}

/// Reads a quantity, be it a text or a whole number (YAML makes a number of `cpu: 2`).
///
/// # Errors
/// When it is neither.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Quantity, D::Error> {
    Form::deserialize(deserializer).map(Quantity::from)
}

/// The same for a field that may be absent.
///
/// # Errors
/// When it is there and neither text nor whole number.
pub fn read_option<'de, D>(deserializer: D) -> Result<Option<Quantity>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::<Form>::deserialize(deserializer)?.map(Quantity::from))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Number(i64),
    Text(String),
}

impl From<Form> for Quantity {
    fn from(form: Form) -> Self {
        Self(match form {
            Form::Number(number) => number.to_string(),
            Form::Text(text) => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    #[test]
    fn units_are_read() {
        assert_eq!(whole(&q("20Gi")), Ok(20 << 30));
        assert_eq!(whole(&q("1.5Gi")), Ok(3 << 29));
        assert_eq!(whole(&q("2G")), Ok(2_000_000_000));
        assert_eq!(whole(&q("1e3")), Ok(1000));
        assert_eq!(whole(&q("500m")), Ok(1));
        assert_eq!(milli(&q("500m")), Ok(500));
        assert_eq!(milli(&q("2")), Ok(2000));
        assert_eq!(milli(&q("-1")), Ok(-1000));
    }

    #[test]
    fn bytes_are_written_in_the_largest_unit() {
        for (bytes, text) in [(20 << 30, "20Gi"), (3 << 29, "1536Mi"), (1025, "1025")] {
            assert_eq!(of_bytes(bytes).0, text);
            assert_eq!(whole(&of_bytes(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "Gi",
            "10GB",
            "1..2",
            "1-2",
            "ten",
            "1e",
            "99999999999Ei",
            "1e999999999",
        ] {
            assert!(whole(&q(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_is_read_like_its_text() {
        let read = |text| read(&mut serde_json::Deserializer::from_str(text));
        assert_eq!(read("2").unwrap(), q("2"));
        assert_eq!(read("\"20Gi\"").unwrap(), q("20Gi"));
        assert!(read("1.5").is_err());
    }
}
