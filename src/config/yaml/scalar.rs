//! The meaning of single words: YAML's plain scalars, durations, byte quantities. Pure functions over `&str`.
//!
//! The command line's flags and the files share them, so that both accept the same spellings.

use std::time::Duration;

/// What a plain (unquoted) YAML scalar is to kubectl, which reads YAML 1.1 (sigs.k8s.io/yaml, `goyaml.v2/resolve.go`):
/// `yes` is true and `0x539` is 1337. Base 60 (`22:17`) is text: that reader leaves it out on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plain {
    Null,
    Boolean(bool),
    Whole(i64),
    /// A number with a fraction or exponent, or too large for 64 bits.
    Other(f64),
    Text,
}

pub(crate) fn classify(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Plain::Boolean(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Plain::Boolean(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Plain::Other(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Plain::Other(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => Plain::Other(f64::NAN),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) => number(text),
        _ => Plain::Text,
    }
}

/// A number in any base that Go's `strconv.ParseInt` knows by its prefix, or a decimal fraction. Underscores count for
/// nothing, wherever they stand.
fn number(text: &str) -> Plain {
    let compact = text.replace('_', "");
    let (negative, digits) = match compact.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, compact.strip_prefix('+').unwrap_or(&compact)),
    };
    let whole = based(digits).and_then(|whole| i128::try_from(whole).ok());
    let whole = whole.map(|whole| if negative { -whole } else { whole });
    match (whole, fraction(digits)) {
        (Some(whole), _) => i64::try_from(whole).map_or(Plain::Other(whole as f64), Plain::Whole),
        (None, Some(number)) => Plain::Other(if negative { -number } else { number }),
        (None, None) => Plain::Text,
    }
}

/// A whole number; `None` also where it does not fit 128 bits.
fn based(digits: &str) -> Option<u128> {
    let (base, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        // A leading zero means octal, and `08` is a decimal fraction without a fraction, below.
        Some(_) if digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    // The standard library would take a second sign.
    if digits.starts_with(['+', '-']) { None } else { u128::from_str_radix(digits, base).ok() }
}

fn fraction(digits: &str) -> Option<f64> {
    let allowed = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.bytes().all(allowed);
    if number { digits.parse().ok() } else { None }
}

/// Longest duration that protobuf can carry (`google.protobuf.Duration`).
const MAX_DURATION_SECONDS: f64 = 315_576_000_000.0;

/// A duration as Istio's users write it: `1s`, `1.5s`, `100ms`, `1h30m`. Units h, m, s, ms, us, ns.
///
/// # Errors
/// What was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a duration such as \"10s\", \"1.5s\", \"100ms\" or \"1h\", found {text:?}");
    if text.starts_with('-') {
        return Err(format!("a duration cannot be negative, found {text:?}"));
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(expected());
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(expected)?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let part = scaled(number, unit).ok_or_else(expected)?;
        total = total.checked_add(part).ok_or_else(expected)?;
        rest = next;
    }
    if total.as_secs_f64() > MAX_DURATION_SECONDS {
        return Err(format!("{text:?} is longer than 10,000 years"));
    }
    Ok(total)
}

fn scaled(number: &str, unit: &str) -> Option<Duration> {
    let nanos_per_unit: u64 = match unit {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "µs" | "μs" => 1_000,
        "ns" => 1,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let whole = whole.checked_mul(nanos_per_unit)?;
    // Digits below a nanosecond cannot matter; 18 of them keep the product within 128 bits.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = match fraction {
        "" => 0,
        digits => digits.parse::<u128>().ok()? * u128::from(nanos_per_unit) / 10u128.pow(digits.len() as u32),
    };
    whole.checked_add(u64::try_from(part).ok()?).map(Duration::from_nanos)
}

/// A number of bytes: `61440`, or with a unit as Kubernetes quantities have it (`60Ki`, `1Mi`, `64k`, `1M`).
///
/// # Errors
/// What was expected.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let expected = || format!("expected a number of bytes such as 61440, \"60Ki\" or \"1Mi\", found {text:?}");
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err(expected()),
    };
    let number: u64 = digits.parse().map_err(|_| expected())?;
    number.checked_mul(factor).ok_or_else(expected)
}

/// The candidate that `word` was probably meant to be: letter case aside, few letters differ.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Nothing so long is a slip of the finger, and the distance takes quadratic time.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance: insertions, deletions and replacements of single characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goyaml.v2 of sigs.k8s.io/yaml v1.6 resolves these to.
    #[test]
    fn booleans_and_nothing_are_what_kubectl_reads() {
        for text in ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"] {
            assert_eq!(classify(text), Plain::Boolean(true), "{text}");
        }
        for text in ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"] {
            assert_eq!(classify(text), Plain::Boolean(false), "{text}");
        }
        for text in ["", "~", "null", "Null", "NULL"] {
            assert_eq!(classify(text), Plain::Null, "{text}");
        }
    }

    #[test]
    fn numbers_are_what_kubectl_reads() {
        let spellings = "1337 +1337 0x539 0X539 +0x539 02471 0o2471 0O2471 0b10100111001 1_337 0x5_39 0_2471";
        for text in spellings.split(' ') {
            assert_eq!(classify(text), Plain::Whole(1337), "{text}");
        }
        for text in "1337.0 1337. 1.337e3 1.337E+3 133700e-2 13_37.0 .1337e4".split(' ') {
            assert_eq!(classify(text), Plain::Other(1337.0), "{text}");
        }
        for (text, number) in [
            ("0", Plain::Whole(0)),
            ("-1", Plain::Whole(-1)),
            ("08", Plain::Other(8.0)),
            ("0539", Plain::Other(539.0)),
            ("1.5", Plain::Other(1.5)),
            ("-0b11", Plain::Whole(-3)),
            ("99999999999999999999", Plain::Other(1e20)),
            ("-9223372036854775808", Plain::Whole(i64::MIN)),
            (".inf", Plain::Other(f64::INFINITY)),
        ] {
            assert_eq!(classify(text), number, "{text}");
        }
        let texts = "yEs tRUE oN 22:17 1:1 0x 0xg 0o9 1337a --1 +-1 0x-1 0x+1 1e e3 - 2001-01-01 _1337 Infinity nan ! 1.2.3.4 \
                     10s 1337k inf";
        for text in texts.split(' ').chain(["1 337"]) {
            assert_eq!(classify(text), Plain::Text, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("1s", 1_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("100ms", 100_000_000),
            ("1h", 3_600_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("0s", 0),
            ("0", 0),
            ("1us", 1_000),
            ("1µs", 1_000),
            ("7ns", 7),
            ("0.0000000001s", 0),
            ("0.999999999999999999999999999s", 999_999_999),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        let bad =
            ["", "s", "10", "1 s", "1x", "1.5.5s", ".s", "-1s", "+1s", "1S", "1d", "99999999999999h", "1e3s", "1sm"];
        for text in bad {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn byte_quantities() {
        for (text, bytes) in [("61440", 61_440), ("60Ki", 61_440), ("1Mi", 1 << 20), ("2k", 2000), ("1Gi", 1 << 30)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "Ki", "60 Ki", "60KB", "-1", "1.5Mi", "99999999999999999999", "18446744073709551615Gi"] {
            assert!(parse_bytes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn near_misses() {
        let fields = ["hosts", "ports", "resolution", "targetPort"];
        for (word, expected) in [
            ("host", Some("hosts")),
            ("Hosts", Some("hosts")),
            ("port", Some("ports")),
            ("resolutoin", Some("resolution")),
            ("targetport", Some("targetPort")),
            ("banana", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, fields), expected, "{word}");
        }
    }
}
