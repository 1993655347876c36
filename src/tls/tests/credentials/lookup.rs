//! istiod's table of secrets (`secrets_test.go`), for documents and mounted folders alike.

use super::*;
use crate::tls::material::secrets::{Part, Vault};

struct Row {
    what: &'static str,
    secrets: Vec<(&'static str, Keys)>,
    /// Certificate and key, or the message.
    pair: Result<(&'static str, &'static str), &'static str>,
    /// CA and CRL, or the message.
    root: Result<(&'static str, Option<&'static str>), &'static str>,
}

const NO_CA: &str = "found secret, but didn't have expected keys cacert or ca.crt; found: ";
const NO_PAIR: &str = "found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); found: ";
const MISSING: &str = "secret default/x not found";

type Keys = Vec<(&'static str, &'static str)>;

fn row(
    what: &'static str,
    secrets: Vec<(&'static str, Keys)>,
    pair: Result<(&'static str, &'static str), &'static str>,
    root: Result<(&'static str, Option<&'static str>), &'static str>,
) -> Row {
    Row { what, secrets, pair, root }
}

fn usable_rows() -> Vec<Row> {
    vec![
        row("generic", vec![("x", vec![("cert", "C"), ("key", "K")])], Ok(("C", "K")), Err("found: cert, key")),
        row(
            "generic-mtls",
            vec![("x", vec![("cert", "C"), ("key", "K"), ("cacert", "A")])],
            Ok(("C", "K")),
            Ok(("A", None)),
        ),
        row(
            "generic-mtls-split",
            vec![("x", vec![("cert", "C"), ("key", "K")]), ("x-cacert", vec![("cacert", "A")])],
            Ok(("C", "K")),
            Ok(("A", None)),
        ),
        row(
            "overlap-cacert",
            vec![("x", vec![("cert", "C"), ("key", "K"), ("cacert", "A")]), ("x-cacert", vec![("cacert", "B")])],
            Ok(("C", "K")),
            Ok(("B", None)),
        ),
        row("tls", vec![("x", vec![("tls.crt", "C"), ("tls.key", "K")])], Ok(("C", "K")), Err(NO_CA)),
        row(
            "tls-mtls-crl",
            vec![("x", vec![("tls.crt", "C"), ("tls.key", "K"), ("ca.crt", "A"), ("ca.crl", "R")])],
            Ok(("C", "K")),
            Ok(("A", Some("R"))),
        ),
        row(
            "generic crl",
            vec![("x", vec![("cacert", "A"), ("crl", "R")])],
            Err("found: cacert, crl"),
            Ok(("A", Some("R"))),
        ),
        row(
            "tls-mtls-split-crl",
            vec![("x", vec![("tls.crt", "C"), ("tls.key", "K")]), ("x-cacert", vec![("ca.crt", "A"), ("ca.crl", "R")])],
            Ok(("C", "K")),
            Ok(("A", Some("R"))),
        ),
        row(
            "generic before tls",
            vec![("x", vec![("tls.crt", "C"), ("tls.key", "K"), ("cert", "D"), ("key", "L")])],
            Ok(("D", "L")),
            Err(NO_CA),
        ),
        row(
            "half a generic pair",
            vec![("x", vec![("cert", "D"), ("tls.crt", "C"), ("tls.key", "K")])],
            Ok(("C", "K")),
            Err(NO_CA),
        ),
    ]
}

fn unusable_rows() -> Vec<Row> {
    vec![
        row(
            "empty-cert",
            vec![("x", vec![("tls.crt", ""), ("tls.key", "K")])],
            Err("found keys \"tls.crt\" and \"tls.key\", but they were empty"),
            Err(NO_CA),
        ),
        row("empty ca", vec![("x", vec![("ca.crt", "")])], Err(NO_PAIR), Err("found key \"ca.crt\", but it was empty")),
        row(
            "wrong-keys",
            vec![("x", vec![("foo-bar", "F"), ("tls.key", "K")])],
            Err(
                "found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); found: foo-bar, tls.key",
            ),
            Err(NO_CA),
        ),
        row(
            "only ca",
            vec![("x", vec![("ca.crt", "A"), ("ca.crl", "R")])],
            Err("found: ca.crl, ca.crt"),
            Ok(("A", Some("R"))),
        ),
        row("only -cacert", vec![("x-cacert", vec![("cacert", "A")])], Err(MISSING), Ok(("A", None))),
        row(
            "-cacert without a ca",
            vec![("x", vec![("cacert", "A")]), ("x-cacert", vec![("k", "v")])],
            Err(NO_PAIR),
            Err(NO_CA),
        ),
        row("nothing", vec![("y", vec![("cacert", "A")])], Err(MISSING), Err(MISSING)),
        row(
            "many keys",
            vec![("x", vec![("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")])],
            Err("found: a, b, c, and 2 more..."),
            Err("found: a, b, c, and 2 more..."),
        ),
    ]
}

fn text(part: &Part) -> &str {
    std::str::from_utf8(&part.text).unwrap()
}

fn check(vault: &Vault, row: &Row) {
    let what = row.what;
    match (vault.pair("x"), &row.pair) {
        (Ok((cert, key)), Ok(wanted)) => assert_eq!((text(&cert), text(&key)), *wanted, "{what}"),
        (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{what}: {error}"),
        (got, wanted) => panic!("{what}: {:?}, wanted {wanted:?}", got.err()),
    }
    match (vault.root("x"), &row.root) {
        (Ok((ca, crl)), Ok(wanted)) => assert_eq!((text(&ca), crl.as_ref().map(text)), *wanted, "{what}"),
        (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{what}: {error}"),
        (got, wanted) => panic!("{what}: {:?}, wanted {wanted:?}", got.err()),
    }
}

#[test]
fn secrets_are_found_under_istios_names() {
    for row in usable_rows().into_iter().chain(unusable_rows()) {
        let documents: Vec<Secret> = row
            .secrets
            .iter()
            .map(|(name, data)| {
                let data: Vec<(&str, &[u8])> = data.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
                secret(name, &data)
            })
            .collect();
        let vault = Vault { namespace: "default".to_owned(), documents, folder: None };
        check(&vault, &row);

        let folder = tempfile::tempdir().unwrap();
        for (name, data) in &row.secrets {
            mount(&folder.path().join(name), data);
        }
        let mounted = Some(folder.path().to_owned());
        let vault = Vault { namespace: "default".to_owned(), documents: Vec::new(), folder: mounted };
        check(&vault, &row);
    }
}

/// As the kubelet mounts it: `..data` → a folder of this generation, a link for each key.
fn mount(folder: &Path, data: &[(&str, &str)]) {
    let generation = folder.join("..2026_01_01");
    std::fs::create_dir_all(&generation).unwrap();
    std::os::unix::fs::symlink("..2026_01_01", folder.join("..data")).unwrap();
    for (key, value) in data {
        std::fs::write(generation.join(key), value).unwrap();
        std::os::unix::fs::symlink(Path::new("..data").join(key), folder.join(key)).unwrap();
    }
}

#[test]
fn secrets_of_other_namespaces_and_names_that_lead_out_of_the_folder_are_not_found() {
    let mut foreign = secret("x", &[("cacert", b"A")]);
    foreign.meta.namespace = Some("wrong-namespace".to_owned());
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("secrets")).unwrap();
    mount(&folder.path().join("outside"), &[("cacert", "A")]);
    let vault = Vault {
        namespace: "default".to_owned(),
        documents: vec![foreign],
        folder: Some(folder.path().join("secrets")),
    };
    for (name, says) in [
        ("x", "secret default/x not found"),
        ("../outside", "is not the name of a secret"),
        ("a/../../outside", "is not the name of a secret"),
        ("..", "is not the name of a secret"),
        ("", "is not the name of a secret"),
        ("X", "is not the name of a secret"),
        ("a\nb", "is not the name of a secret"),
    ] {
        let error = vault.root(name).err().expect(name).to_string();
        assert!(error.contains(says), "{name:?}: {error}");
    }
    let mut own = secret("x", &[("cacert", b"A")]);
    own.meta.namespace = Some("default".to_owned());
    let vault = Vault { namespace: "default".to_owned(), documents: vec![own], folder: None };
    assert!(vault.root("x").is_ok());
}
