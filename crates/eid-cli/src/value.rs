//! Texts that people type or files hold, parsed: values and durations.

use eid::Permission;
use serde_json::Value;

use crate::failure::Failure;
use crate::output::printable;

/// JSON, or text when it is not valid JSON.
#[must_use]
pub fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// What is typed as a value: JSON, or text when it is not valid JSON or `as_text` asks for it.
///
/// # Errors
/// For a number that would not be kept as it is.
pub fn typed(text: &str, as_text: bool) -> Result<Value, Failure> {
    if as_text {
        return Ok(Value::String(text.to_owned()));
    }
    if loses_digits(text) {
        let message = format!("the number {} is too large to be kept as it is", printable(text));
        return Err(Failure::input(message).hint("add --text to keep its digits as text"));
    }
    Ok(value(text))
}

/// A number that JSON can write but that would not be stored as it is: an integer beyond 64 bits, or one too large.
#[must_use]
pub fn loses_digits(text: &str) -> bool {
    let text = text.trim();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let looks_like_a_number = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    if !looks_like_a_number {
        return false;
    }
    match serde_json::from_str::<Value>(text) {
        Ok(number) => number.is_f64() && digits.chars().all(|c| c.is_ascii_digit()),
        Err(error) => error.to_string().starts_with("number out of range"),
    }
}

/// A cell of a CSV file: a number exactly when JSON writes that number with the same characters, else text.
#[must_use]
pub fn cell(text: &str) -> Value {
    match serde_json::from_str::<serde_json::Number>(text) {
        Ok(number) if number.to_string() == text => Value::Number(number),
        _ => Value::String(text.to_owned()),
    }
}

/// A duration such as `90s`, `15m`, `12h`, `7d`, in milliseconds.
///
/// # Errors
/// Anything else, and durations of zero or beyond 2^64 ms.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || "a duration is a number with a unit: 90s, 15m, 12h, 7d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    let factor = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).filter(|ms| *ms > 0).ok_or_else(wrong)
}

/// A duration, or `all` for zero: what is at least so old.
///
/// # Errors
/// As [`duration_ms`].
pub fn age_ms(text: &str) -> Result<u64, String> {
    if text == "all" { Ok(0) } else { duration_ms(text) }
}

/// After how long something is done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// Never.
    Off,
    /// So many seconds.
    Seconds(u64),
}

/// A number of seconds, or `off`.
///
/// # Errors
/// Anything else, and zero.
pub fn period(text: &str) -> Result<Period, String> {
    if text == "off" {
        return Ok(Period::Off);
    }
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds
        .map(Period::Seconds)
        .ok_or_else(|| "a period is a number of seconds, at least 1, or `off`".to_owned())
}

/// A right that somebody asks for; `admin` alone is an admin of whatever level.
///
/// # Errors
/// When it is none that can be asked for.
pub fn wanted(text: &str) -> Result<Permission, String> {
    match granted(text) {
        Ok(Permission::Relay) | Err(_) => Err("ask for read, write, admin or admin:LEVEL".to_owned()),
        ok => ok,
    }
}

/// A right that is granted to who asked; `admin` alone is one level below who grants it.
///
/// # Errors
/// When it is none.
pub fn granted(text: &str) -> Result<Permission, String> {
    match text {
        "admin" => Ok(eid::ANY_LEVEL),
        text => text.parse::<Permission>().map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_that_would_not_come_back_is_told() {
        for text in ["123456789012345678901234567890", "-18446744073709551616", "1e400"] {
            assert!(loses_digits(text), "{text}");
        }
        for text in
            ["18446744073709551615", "-5", "1.50", "1e5", "007", "1-2", "a", "", "2026-11-21", "1.2.3"]
        {
            assert!(!loses_digits(text), "{text}");
        }
    }

    #[test]
    fn a_cell_is_a_number_only_when_it_comes_back_unchanged() {
        for text in ["0", "12", "-7", "31.95376472", "-89.23450472", "18446744073709551615"] {
            assert!(cell(text).is_number(), "{text}");
            assert_eq!(cell(text).to_string(), text);
        }
        for text in [
            "007",
            "1e5",
            "1.50",
            "+1",
            " 1",
            "-0",
            "",
            "true",
            "null",
            "NaN",
            "123456789012345678901234567890",
            "0x1",
        ] {
            assert_eq!(cell(text), json!(text), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_are_not_zero() {
        assert_eq!(duration_ms("90s"), Ok(90_000));
        assert_eq!(duration_ms("7d"), Ok(604_800_000));
        for wrong in ["", "7", "0s", "-1s", "1w", "99999999999999999d", "é"] {
            assert!(duration_ms(wrong).is_err(), "{wrong}");
        }
    }
}
