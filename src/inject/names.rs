//! Names of Kubernetes objects: which are sound, and what a volume made for one of them is called.

use aws_lc_rs::digest::{SHA256, digest};

/// Longest name of a ConfigMap or Secret (RFC 1123 subdomain, `validation.DNS1123SubdomainMaxLength`).
const LONGEST_NAME: usize = 253;
/// Longest name of a volume (RFC 1123 label).
const LONGEST_LABEL: usize = 63;

/// A DNS subdomain name (RFC 1123), as Kubernetes wants of ConfigMaps and Secrets.
///
/// # Errors
/// Which rule it breaks, and where.
pub fn object_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a name of a Kubernetes object has at least one character".to_owned());
    }
    if text.len() > LONGEST_NAME {
        return Err(format!("a name may have {LONGEST_NAME} characters, and this one has {}", text.chars().count()));
    }
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if let Some((index, wrong)) = text.char_indices().find(|(_, c)| !inner(*c) && !matches!(c, '-' | '.')) {
        let place = text[..index].chars().count() + 1;
        return Err(format!("{wrong:?} (character {place}): a name has lower-case letters, digits, '-' and '.' only"));
    }
    let parts = text.split('.');
    match parts.clone().find(|part| !part.starts_with(inner) || !part.ends_with(inner)) {
        None => Ok(text.to_owned()),
        Some("") => Err("a '.' stands between letters or digits, so never first, last or twice in a row".to_owned()),
        Some(part) => Err(format!("{part:?}: each part between dots begins and ends with a letter or digit")),
    }
}

/// What the volume of a Secret is called. A volume's name has no dots and 63 characters at most, so a name that does not
/// fit is cut, and a digest of all of it keeps it apart from others that are cut to the same.
pub(super) fn secret_volume(secret: &str) -> String {
    let name = format!("egret-secret-{}", secret.replace('.', "-"));
    if name.len() <= LONGEST_LABEL && !secret.contains('.') {
        return name;
    }
    let sum = digest(&SHA256, secret.as_bytes());
    let digits = data_encoding::HEXLOWER.encode(&sum.as_ref()[..4]);
    // Names are ASCII, so any length is a boundary.
    let kept = &name[..name.len().min(LONGEST_LABEL - digits.len() - 1)];
    format!("{kept}-{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_rule_it_breaks() {
        let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        let label = "x".repeat(253);
        for sound in ["a", "0", "a.b", "a-b.c--d.9", &longest, &label] {
            assert_eq!(object_name(sound), Ok(sound.to_owned()));
        }
        for (wrong, says) in [
            ("", "at least one character"),
            (&*format!("{longest}e"), "may have 253 characters, and this one has 254"),
            ("Upper", "'U' (character 1)"),
            ("a_b", "'_' (character 2)"),
            ("aé", "'é' (character 2)"),
            ("../x", "'/' (character 3)"),
            ("-a", "\"-a\": each part between dots begins"),
            ("a-", "\"a-\": each part"),
            ("a.b-.c", "\"b-\": each part"),
            ("a..b", "never first, last or twice"),
            (".a", "never first, last or twice"),
            ("a.", "never first, last or twice"),
        ] {
            let error = object_name(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn volumes_of_different_secrets_have_different_names_that_fit() {
        assert_eq!(secret_volume("client-credential"), "egret-secret-client-credential");
        let fits = "s".repeat(50);
        assert_eq!(secret_volume(&fits), format!("egret-secret-{fits}"));
        let secrets = ["a.b", "a-b", "a.b.c", &"s".repeat(51), &"s".repeat(52), &"s.".repeat(120), &"s-".repeat(120)];
        let volumes: std::collections::BTreeSet<String> = secrets.iter().map(|secret| secret_volume(secret)).collect();
        assert_eq!(volumes.len(), secrets.len(), "{volumes:?}");
        for volume in volumes {
            assert!(volume.len() <= 63 && !volume.contains('.') && object_name(&volume).is_ok(), "{volume}");
        }
    }
}
