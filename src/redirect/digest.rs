//! A short name for a set of rules, to be kept beside them in the kernel.
//!
//! It covers what was wanted and what the kernel said it had made of it, so it changes when either does: other flags,
//! another egret, or a hand that removed a rule. It guards against accidents, not against an adversary (who could
//! remove the rules as well).

use aws_lc_rs::digest::{SHA256, digest};

/// Sixteen hexadecimal digits, few enough for the name of an iptables chain.
pub fn of(wanted: &str, present: &str) -> String {
    let both = digest(&SHA256, format!("{wanted}\0{present}").as_bytes());
    let start = both.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    format!("{start:016x}")
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn both_sides_count_and_stay_apart() {
        assert_eq!(of("a", "b"), of("a", "b"));
        assert_eq!(of("a", "b").len(), 16);
        assert_ne!(of("a", "b"), of("a", "c"));
        assert_ne!(of("a", "b"), of("c", "b"));
        assert_ne!(of("ab", ""), of("a", "b"));
    }
}
