//! Amounts as Kubernetes writes them: `500m`, `1Gi`, `2e3`.

/// The amount in thousand-millionths of its unit (bytes, cores), exact. None when the text is no
/// quantity or does not fit.
///
/// Assumption: what is smaller than a nano unit is refused; the API server would round it up.
pub fn nanos(text: &str) -> Option<i128> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (sign, digits) = match number.as_bytes().first()? {
        b'-' => (-1, &number[1..]),
        b'+' => (1, &number[1..]),
        _ => (1, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = [whole, fraction].concat();
    if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mantissa: i128 = all.parse().ok()?;
    let places = i32::try_from(fraction.len()).ok()?;
    let (two, ten) = scale(suffix)?;
    let amount = mantissa.checked_mul(1_i128.checked_shl(two)?)?;
    let exponent = ten + 9 - places;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    let nanos = if exponent >= 0 {
        amount.checked_mul(power)?
    } else if amount % power == 0 {
        amount / power
    } else {
        return None;
    };
    Some(sign * nanos)
}

/// What a suffix multiplies by: a power of two, and a power of ten.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            (0, exponent.abs().le(&27).then_some(exponent)?)
        }
    })
}

/// Whether two texts are the same amount. Texts that are no quantities are the same if equal.
pub fn same(a: &str, b: &str) -> bool {
    a == b || matches!((nanos(a), nanos(b)), (Some(x), Some(y)) if x == y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_is_recognised_in_every_spelling() {
        for (a, b) in [
            ("1Gi", "1024Mi"),
            ("0.5", "500m"),
            ("1", "1000m"),
            ("2e3", "2k"),
            ("1.5Gi", "1536Mi"),
            ("1E", "1000P"),
            ("-1", "-1000m"),
        ] {
            assert!(same(a, b), "{a} and {b}");
        }
    }

    #[test]
    fn different_amounts_and_other_texts_differ() {
        for (a, b) in [
            ("1Gi", "1G"),
            ("1", "1m"),
            ("x", "y"),
            ("", "0"),
            ("1.2.3", "1.23"),
        ] {
            assert!(!same(a, b), "{a} and {b}");
        }
        assert_eq!(nanos("1Zi"), None);
        assert_eq!(nanos("1e99"), None);
    }
}
