//! What kubectl makes of a scalar, for the fields whose type decides about a pod.
//!
//! kubectl reads manifests by YAML 1.1 (sigs.k8s.io/yaml, `goyaml.v2/resolve.go`), so `yes` is true and `0x539` is 1337
//! to the API server. egret must see the same value, or a pod gets past a rule by its spelling. A quoted scalar is always
//! text. Base 60 (`22:17`) is text too: that parser leaves it out on purpose. Tags such as `!!bool` never get this far:
//! [`yaml`](crate::config::yaml) refuses them with their place.

use super::Remark;
use crate::config::yaml::{Node, Value, quoted};

/// A scalar's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'n> {
    Null,
    Boolean(bool),
    /// Exact up to 2⁵³, which is more than any user, group or port.
    Number(f64),
    Text(&'n str),
}

/// The value of a scalar; `None` for lists and mappings.
pub(super) fn scalar(node: &Node) -> Option<Scalar<'_>> {
    let Value::Scalar { text, plain } = &node.value else { return None };
    Some(if *plain { resolve(text) } else { Scalar::Text(text) })
}

/// A field that the API server wants to be a boolean; absent and `null` are `false`.
///
/// # Errors
/// The value has another type, so the API server would refuse it.
pub(super) fn boolean(holder: &Node, key: &str) -> Result<bool, Remark> {
    let Some(node) = holder.child(key) else { return Ok(false) };
    match scalar(node) {
        Some(Scalar::Boolean(truth)) => Ok(truth),
        Some(Scalar::Null) => Ok(false),
        other => Err(wrong_type(node, key, other, "true or false")),
    }
}

/// A field that the API server wants to be a whole number; absent and `null` are `None`.
///
/// # Errors
/// The value has another type, so the API server would refuse it.
pub(super) fn whole_number(holder: &Node, key: &str) -> Result<Option<f64>, Remark> {
    let Some(node) = holder.child(key) else { return Ok(None) };
    match scalar(node) {
        Some(Scalar::Number(number)) if number.fract() == 0.0 => Ok(Some(number)),
        Some(Scalar::Null) => Ok(None),
        other => Err(wrong_type(node, key, other, "a whole number")),
    }
}

fn wrong_type(node: &Node, key: &str, found: Option<Scalar<'_>>, expected: &str) -> Remark {
    let (found, hint) = match (found, &node.value) {
        (None, _) => ("a list or a mapping".to_owned(), ""),
        (Some(Scalar::Text(text)), Value::Scalar { plain: false, .. }) => {
            (format!("the text {}", quoted(text)), "; write it without quotes")
        }
        (Some(_), _) => (quoted(node.text().unwrap_or_default()), ""),
    };
    Remark::new(node.at, format!("{key}: the API server wants {expected} and would refuse {found}{hint}"))
}

/// A plain scalar.
fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Scalar::Boolean(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Scalar::Boolean(false),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) => {
            number(text).map_or(Scalar::Text(text), Scalar::Number)
        }
        _ => Scalar::Text(text),
    }
}

/// A number in any base that Go's `strconv.ParseInt` knows by its prefix, or a decimal fraction. Underscores count for
/// nothing, wherever they stand.
fn number(text: &str) -> Option<f64> {
    let compact = text.replace('_', "");
    let (sign, digits) = match compact.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, compact.strip_prefix('+').unwrap_or(&compact)),
    };
    let whole = based(digits).map(|whole| whole as f64);
    whole.or_else(|| fraction(digits)).map(|number| sign * number)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::documents;

    /// What goyaml.v2 of sigs.k8s.io/yaml v1.6 resolves these to.
    #[test]
    fn scalars_are_what_kubectl_reads() {
        for text in ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"] {
            assert_eq!(resolve(text), Scalar::Boolean(true), "{text}");
        }
        for text in ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"] {
            assert_eq!(resolve(text), Scalar::Boolean(false), "{text}");
        }
        for text in ["", "~", "null", "Null", "NULL"] {
            assert_eq!(resolve(text), Scalar::Null, "{text}");
        }
        for text in [
            "1337",
            "+1337",
            "0x539",
            "0X539",
            "+0x539",
            "02471",
            "0o2471",
            "0O2471",
            "0b10100111001",
            "1_337",
            "0x5_39",
            "0_2471",
            "1337.0",
            "1337.",
            "1.337e3",
            "1.337E+3",
            "133700e-2",
            "13_37.0",
            ".1337e4",
        ] {
            assert_eq!(resolve(text), Scalar::Number(1337.0), "{text}");
        }
        for (text, number) in [("0", 0.0), ("-1", -1.0), ("08", 8.0), ("0539", 539.0), ("1.5", 1.5), ("-0b11", -3.0)] {
            assert_eq!(resolve(text), Scalar::Number(number), "{text}");
        }
        for text in [
            "yEs",
            "tRUE",
            "oN",
            "22:17",
            "1:1",
            "0x",
            "0xg",
            "0o9",
            "1337a",
            "--1",
            "+-1",
            "0x-1",
            "0x+1",
            "1e",
            "e3",
            "-",
            "2001-01-01",
            "_1337",
            "Infinity",
            "nan",
            "1 337",
            "!",
        ] {
            assert_eq!(resolve(text), Scalar::Text(text), "{text}");
        }
    }

    #[test]
    fn quoted_scalars_are_text_and_a_field_of_another_type_is_refused() {
        let text = "a: 'yes'\nb: \"1337\"\nc: !!str on\nd: 1.5\ne: [true]\nf: ~\ng: yes\nh: 0x539\ni: |\n  yes\n";
        let root = documents(text).remove(0).root.unwrap();
        for key in ["a", "c", "d", "e", "i"] {
            assert!(boolean(&root, key).is_err(), "{key}");
        }
        for key in ["b", "c", "d", "e", "g"] {
            assert!(whole_number(&root, key).is_err(), "{key}");
        }
        assert_eq!(
            (boolean(&root, "f"), boolean(&root, "g"), boolean(&root, "absent")),
            (Ok(false), Ok(true), Ok(false))
        );
        assert_eq!((whole_number(&root, "f"), whole_number(&root, "h")), (Ok(None), Ok(Some(1337.0))));
        let refusal = whole_number(&root, "b").unwrap_err();
        assert_eq!((refusal.line, refusal.column), (2, 4));
        assert!(
            refusal.message.contains("b: the API server wants a whole number and would refuse the text"),
            "{refusal}"
        );
    }
}
