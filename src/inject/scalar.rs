//! What kubectl makes of a scalar, for the fields whose type decides about a pod.
//!
//! egret must see the value that the API server sees, or a pod gets past a rule by its spelling. A quoted scalar is always
//! text. Tags such as `!!bool` never get this far: [`yaml`](crate::config::yaml) refuses them with their place.

use super::remark::Remark;
use crate::config::scalar::{Plain, classify};
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
    Some(match if *plain { classify(text) } else { Plain::Text } {
        Plain::Null => Scalar::Null,
        Plain::Boolean(truth) => Scalar::Boolean(truth),
        Plain::Whole(number) => Scalar::Number(number as f64),
        Plain::Other(number) => Scalar::Number(number),
        Plain::Text => Scalar::Text(text),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::documents;

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
