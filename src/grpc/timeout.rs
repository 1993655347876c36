//! The field `grpc-timeout`: `1S`, `250m`; at most eight digits and a unit.

use std::time::Duration;

/// Units from large to small, with their length in nanoseconds.
const UNITS: [(u8, u64); 6] = [
    (b'H', 3_600_000_000_000),
    (b'M', 60_000_000_000),
    (b'S', 1_000_000_000),
    (b'm', 1_000_000),
    (b'u', 1_000),
    (b'n', 1),
];

/// As many digits as a value has at most.
const MAX_DIGITS: usize = 8;

/// Reads the field; `None` for what is no time, which has no effect then.
#[must_use]
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (&unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    let (_, nanos) = UNITS.iter().find(|(letter, _)| *letter == unit)?;
    // Of hours, 10^8 are more nanoseconds than 64 bits hold.
    let total = u128::from(count) * u128::from(*nanos);
    Some(Duration::new((total / 1_000_000_000) as u64, (total % 1_000_000_000) as u32))
}

/// `timeout` as the field has it, in the smallest unit that its digits allow, rounded down: the server gives up no later.
#[must_use]
pub fn write_timeout(timeout: Duration) -> Vec<u8> {
    const MOST: u128 = 10_u128.pow(MAX_DIGITS as u32);
    let nanos = timeout.as_nanos();
    let fits = |(_, unit): &&(u8, u64)| nanos / u128::from(*unit) < MOST;
    let (letter, unit) = UNITS.iter().rev().find(fits).copied().unwrap_or(UNITS[0]);
    let count = (nanos / u128::from(unit)).min(MOST - 1);
    let mut out = count.to_string().into_bytes();
    out.push(letter);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values() {
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("0S", Some(Duration::ZERO)),
            ("100000000m", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("1 S", None),
            ("-1S", None),
            ("1.5S", None),
            ("", None),
        ] {
            assert_eq!(parse_timeout(value.as_bytes()), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_is_never_longer(nanos in 0_u64..) {
            let timeout = Duration::from_nanos(nanos);
            let read = parse_timeout(&write_timeout(timeout)).unwrap();
            prop_assert!(read <= timeout);
            prop_assert!(read + timeout / 1_000_000 >= timeout, "{read:?} for {timeout:?}");
        }
    }
}
