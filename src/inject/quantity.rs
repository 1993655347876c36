//! Quantities of Kubernetes (`100m`, `1.5Gi`, `1e3`), as its `resource.ParseQuantity` reads them.

/// A quantity in billionths, which is the least that Kubernetes tells apart.
pub(super) type Nanos = i128;
pub(super) const ONE: Nanos = 1_000_000_000;

/// `resource.ParseQuantity`, rounded up to a billionth; `None` where it is no quantity, is negative or beyond all reason.
pub(super) fn nanos(text: &str) -> Option<Nanos> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let digits: Nanos = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let scaled = digits.checked_mul(factor(suffix)?)?;
    Some(scaled / scale + Nanos::from(scaled % scale != 0))
}

/// What a quantity's suffix multiplies by, in billionths.
fn factor(suffix: &str) -> Option<Nanos> {
    const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(power) = DECIMAL.iter().position(|known| *known == suffix) {
        return Some(1000i128.pow(power as u32));
    }
    if let Some(power) = BINARY.iter().position(|known| *known == suffix) {
        return Some(ONE << (10 * power));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    // Below a billionth it would round up to one, which no resource comes in.
    10i128.checked_pow(u32::try_from(exponent.checked_add(9)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, value) in [
            ("1", ONE),
            ("+1", ONE),
            ("0", 0),
            ("100m", ONE / 10),
            ("0.1", ONE / 10),
            (".5", ONE / 2),
            ("1.", ONE),
            ("1k", 1000 * ONE),
            ("1E", 1_000_000_000_000_000_000 * ONE),
            ("1Ki", 1024 * ONE),
            ("1.5Gi", 3 * (ONE << 29)),
            ("1e3", 1000 * ONE),
            ("1E-3", ONE / 1000),
            ("100n", 100),
            ("0.1n", 1),
        ] {
            assert_eq!(nanos(text), Some(value), "{text}");
        }
        let unsound = [
            "",
            ".",
            "m",
            "1.2.3",
            "1mm",
            "1KI",
            "-1",
            "++1",
            "1 Mi",
            "1e",
            "1e99",
            "1e2147483647",
            "1ei",
            "0x10",
            "much",
        ];
        for text in unsound.iter().chain(&[&*"9".repeat(40)]) {
            assert_eq!(nanos(text), None, "{text}");
        }
    }
}
