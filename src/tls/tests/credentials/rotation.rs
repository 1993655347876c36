//! Replacing credentials while they are in use, in every way that Kubernetes and people do it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;

/// Credentials of one generation.
struct Generation {
    ca: String,
    cert: String,
    key: String,
}

impl Generation {
    fn new(number: usize) -> Self {
        let root = Authority::new(&format!("root {number}"));
        let leaf: Leaf =
            root.issue(&["client.example.com"], |params| params.serial_number = Some((number as u64).into()));
        Self { ca: root.pem(), cert: leaf.pem(), key: leaf.key_pem() }
    }

    fn files(&self) -> [(&'static str, &str); 3] {
        [("ca.crt", &self.ca), ("tls.crt", &self.cert), ("tls.key", &self.key)]
    }

    fn document(&self, name: &str) -> Secret {
        secret(name, &self.files().map(|(key, value)| (key, value.as_bytes())))
    }
}

fn from_files(folder: &Path) -> ProfileRequest {
    ProfileRequest {
        mode: ProfileMode::Mutual,
        identity: Some(IdentitySource::Files { cert: folder.join("tls.crt"), key: folder.join("tls.key") }),
        ..simple(TrustSource::File { ca: folder.join("ca.crt"), crl: None })
    }
}

/// A way of putting a generation into a folder.
type Swap = fn(&Path, &Generation, usize);

fn in_place(folder: &Path, generation: &Generation, _: usize) {
    for (name, text) in generation.files() {
        fs::write(folder.join(name), text).unwrap();
    }
}

fn renamed(folder: &Path, generation: &Generation, _: usize) {
    for (name, text) in generation.files() {
        fs::write(folder.join("new"), text).unwrap();
        fs::rename(folder.join("new"), folder.join(name)).unwrap();
    }
}

fn removed_and_written(folder: &Path, generation: &Generation, _: usize) {
    for (name, text) in generation.files() {
        let _ = fs::remove_file(folder.join(name));
        fs::write(folder.join(name), text).unwrap();
    }
}

/// The kubelet: a new folder, then `..data` renamed over the old link, then the old folder removed.
fn kubelet(folder: &Path, generation: &Generation, number: usize) {
    let name = format!("..generation_{number}");
    fs::create_dir(folder.join(&name)).unwrap();
    for (key, text) in generation.files() {
        fs::write(folder.join(&name).join(key), text).unwrap();
        if number == 0 {
            symlink(Path::new("..data").join(key), folder.join(key)).unwrap();
        }
    }
    symlink(&name, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    if number > 0 {
        fs::remove_dir_all(folder.join(format!("..generation_{}", number - 1))).unwrap();
    }
}

/// The whole folder is a link to somewhere else.
fn folder_link(folder: &Path, generation: &Generation, number: usize) {
    let target = folder.with_file_name(format!("target_{number}"));
    fs::create_dir(&target).unwrap();
    in_place(&target, generation, number);
    let link = folder.with_file_name("link");
    symlink(&target, &link).unwrap();
    if number == 0 {
        fs::remove_dir(folder).unwrap();
    }
    fs::rename(&link, folder).unwrap();
}

const SWAPS: [(&str, Swap); 5] = [
    ("in place", in_place),
    ("renamed", renamed),
    ("removed and written", removed_and_written),
    ("by the kubelet", kubelet),
    ("a link to the folder", folder_link),
];

/// Istio #59912: the third rotation was the one that was not noticed.
#[test]
fn every_rotation_is_noticed_however_files_are_replaced() {
    let generations: Vec<Generation> = (0..6).map(Generation::new).collect();
    for (how, swap) in SWAPS {
        let home = tempfile::tempdir().unwrap();
        let secrets_dir = home.path().join("secrets");
        let folder = secrets_dir.join("x");
        fs::create_dir_all(&folder).unwrap();
        swap(&folder, &generations[0], 0);
        let mut store = Store::new(StoreOptions { secrets_dir: Some(secrets_dir), ..options() }, &[]);
        let requests = [from_files(&folder), mutual("x")];
        let mut before = requests.each_ref().map(|request| store.profile(request).unwrap());
        for (number, generation) in generations.iter().enumerate().skip(1) {
            assert!(!store.refresh(&[]).changed, "{how}: nothing happened");
            swap(&folder, generation, number);
            assert!(store.refresh(&[]).changed, "{how}: rotation {number}");
            let after = requests.each_ref().map(|request| store.profile(request).unwrap());
            for (old, new) in before.iter().zip(&after) {
                assert_ne!(old.digest(), new.digest(), "{how}: rotation {number}");
                assert!(new.identity().unwrap().facts().serial.ends_with(&number.to_string()));
            }
            before = after;
        }
        assert_eq!(store.problems(), Vec::<String>::new());
    }
}

#[test]
fn documents_rotate_too() {
    let generations: Vec<Generation> = (0..5).map(Generation::new).collect();
    let mut store = Store::new(options(), &[generations[0].document("x")]);
    let mut before = store.profile(&mutual("x")).unwrap();
    for generation in &generations[1..] {
        assert!(store.refresh(&[generation.document("x")]).changed);
        let after = store.profile(&mutual("x")).unwrap();
        assert_ne!(before.digest(), after.digest());
        before = after;
    }
}

#[test]
fn unchanged_material_keeps_the_profile_itself() {
    let generation = Generation::new(1);
    let folder = tempfile::tempdir().unwrap();
    in_place(folder.path(), &generation, 0);
    let documents = [generation.document("x")];
    let mut store = Store::new(options(), &documents);
    let requests = [from_files(folder.path()), mutual("x")];
    let before = requests.each_ref().map(|request| store.profile(request).unwrap());
    // Rewritten with the same meaning: other octets, same certificates.
    fs::write(folder.path().join("tls.crt"), format!("# renewed by nobody\n{}", generation.cert)).unwrap();
    fs::write(folder.path().join("ca.crt"), generation.ca.replace('\n', "\r\n")).unwrap();
    assert!(!store.refresh(&documents).changed);
    for (request, old) in requests.iter().zip(&before) {
        assert!(Arc::ptr_eq(old, &store.profile(request).unwrap()));
    }
}

#[test]
fn a_pair_that_breaks_keeps_the_last_good_and_passes_when_the_other_half_arrives() {
    let (old, new) = (Generation::new(1), Generation::new(2));
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("x");
    fs::create_dir(&folder).unwrap();
    in_place(&folder, &old, 0);
    let elsewhere = home.path().join("y");
    fs::create_dir(&elsewhere).unwrap();
    in_place(&elsewhere, &old, 0);
    let mut store = Store::new(options(), &[]);
    let (request, other) = (from_files(&folder), from_files(&elsewhere));
    let good = store.profile(&request).unwrap();
    let unconcerned = store.profile(&other).unwrap();
    let breakages: [(&str, &dyn Fn(), &str); 5] = [
        ("half replaced", &|| fs::write(folder.join("tls.crt"), &new.cert).unwrap(), "does not belong to"),
        ("half written", &|| fs::write(folder.join("tls.key"), &new.key[..40]).unwrap(), "not valid PEM"),
        ("emptied", &|| fs::write(folder.join("tls.key"), "").unwrap(), "no private key"),
        ("gone", &|| fs::remove_file(folder.join("tls.key")).unwrap(), "cannot read"),
        ("CA gone", &|| fs::remove_file(folder.join("ca.crt")).unwrap(), "cannot read"),
    ];
    for (what, break_it, says) in breakages {
        break_it();
        assert!(!store.refresh(&[]).changed, "{what}: workers keep what they have");
        assert!(Arc::ptr_eq(&good, &store.profile(&request).unwrap()), "{what}");
        let problems = store.problems();
        assert_eq!(problems.len(), 1, "{what}: {problems:?}");
        assert!(problems[0].contains(says) && problems[0].contains("last good"), "{what}: {problems:?}");
        assert!(problems[0].contains(&folder.display().to_string()), "{what}: {problems:?}");
        assert!(Arc::ptr_eq(&unconcerned, &store.profile(&other).unwrap()), "{what}");
    }
    in_place(&folder, &new, 0);
    assert!(store.refresh(&[]).changed);
    assert_ne!(store.profile(&request).unwrap().digest(), good.digest());
    assert!(store.problems().is_empty());
}

#[test]
fn what_cannot_be_loaded_at_first_is_refused_until_it_can() {
    let generation = Generation::new(1);
    let mut store = Store::new(options(), &[]);
    let error = store.profile(&mutual("x")).unwrap_err();
    assert_eq!(error, "credentialName x: secret default/x not found");
    assert!(!store.refresh(&[]).changed);
    // Another reason is news: it is what the 503 says.
    let half = secret("x", &[("ca.crt", generation.ca.as_bytes())]);
    assert!(store.refresh(std::slice::from_ref(&half)).changed);
    assert!(store.profile(&mutual("x")).unwrap_err().contains("found: ca.crt"));
    // SIMPLE needs the CA only, and does not fall back to the system's where there is none.
    assert!(store.profile(&simple(TrustSource::Credential("x".to_owned()))).is_ok());
    assert!(store.profile(&simple(TrustSource::Credential("y".to_owned()))).is_err());
    assert!(store.refresh(&[generation.document("x")]).changed);
    assert!(store.profile(&mutual("x")).is_ok());
    let foreign_key = Generation::new(2).key;
    let mismatched = [
        ("ca.crt", generation.ca.as_bytes()),
        ("tls.crt", generation.cert.as_bytes()),
        ("tls.key", foreign_key.as_bytes()),
    ];
    let mut store = Store::new(options(), &[secret("x", &mismatched)]);
    let error = store.profile(&mutual("x")).unwrap_err();
    assert!(error.contains("key tls.key of secret default/x does not belong to"), "{error}");
}

#[test]
fn revocation_lists_change_the_profile_and_a_bad_one_does_not() {
    let root = Authority::new("root");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| fs::write(at(name), text).unwrap();
    write("ca.crt", &root.pem());
    let request = simple(TrustSource::File { ca: at("ca.crt"), crl: Some(at("ca.crl")) });
    let mut store = Store::new(options(), &[]);
    assert!(store.profile(&request).unwrap_err().contains("ca.crl"), "a list that is missing fails closed");
    write("ca.crl", &root.crl(&[], false));
    assert!(store.refresh(&[]).changed);
    let before = store.profile(&request).unwrap();
    write("ca.crl", &root.crl(&[42], false));
    assert!(store.refresh(&[]).changed);
    let after = store.profile(&request).unwrap();
    assert_ne!(before.digest(), after.digest());
    write("ca.crl", "");
    assert!(!store.refresh(&[]).changed);
    assert!(Arc::ptr_eq(&after, &store.profile(&request).unwrap()));
    assert!(store.problems()[0].contains("no certificate revocation list in it"));
}

#[test]
fn what_is_no_longer_asked_for_is_forgotten() {
    let generation = Generation::new(1);
    let mut store = Store::new(options(), &[generation.document("x")]);
    assert!(store.profile(&mutual("x")).is_ok());
    assert!(store.profile(&mutual("y")).is_err());
    store.begin_round();
    assert!(store.profile(&mutual("x")).is_ok());
    store.end_round();
    assert!(store.problems().is_empty());
    assert_eq!(store.table().len(), 2);
}

#[test]
fn watched_paths_are_everything_that_was_read() {
    let mut store = Store::new(
        StoreOptions { secrets_dir: Some(PathBuf::from("/s")), ssl_cert_file: Some("/bundle.pem".into()), ..options() },
        &[],
    );
    let file = |path: &str| PathBuf::from(path);
    let mut request = from_files(Path::new("/f"));
    request.trust = TrustSource::File { ca: file("/f/ca.crt"), crl: Some(file("/f/ca.crl")) };
    for request in [request, mutual("x"), simple(TrustSource::System), simple(TrustSource::Unverified)] {
        let _ = store.profile(&request);
    }
    let wanted = ["/bundle.pem", "/f/ca.crl", "/f/ca.crt", "/f/tls.crt", "/f/tls.key", "/s/x", "/s/x-cacert"].map(file);
    assert_eq!(store.watched_paths(), wanted);
}

#[test]
fn the_table_is_istioctls() {
    let generation = Generation::new(10);
    let folder = tempfile::tempdir().unwrap();
    in_place(folder.path(), &generation, 0);
    let bundle = folder.path().join("ca.crt");
    let options = StoreOptions { ssl_cert_file: Some(bundle.into_os_string()), ..options() };
    let mut store = Store::new(options, &[generation.document("x")]);
    for request in [mutual("x"), mutual("missing"), from_files(folder.path()), simple(TrustSource::System)] {
        let _ = store.profile(&request);
    }
    let text = secrets_text(&store.table());
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split("     ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(lines[0], ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"]);
    let line = |name: &str| lines.iter().find(|line| line[0] == name).unwrap_or_else(|| panic!("{name} in\n{text}"));
    let serial = "0000000000000000000000000000000a";
    let dates = ["4096-01-01T00:00:00Z", "1975-01-01T00:00:00Z"];
    assert_eq!(line("kubernetes://x")[1..], ["Cert Chain", "ACTIVE", "true", serial, dates[0], dates[1]]);
    assert_eq!(line("kubernetes://x-cacert")[1..4], ["CA", "ACTIVE", "true"]);
    assert_eq!(line("kubernetes://missing")[1..], ["Cert Chain", "WARMING", "false"]);
    assert_eq!(line("file-root:system")[1..4], ["CA", "ACTIVE", "true"]);
    let pair = folder.path().join("tls").display().to_string();
    assert_eq!(line(&format!("file-cert:{pair}.crt~{pair}.key"))[4], serial);
    let json: serde_json::Value = serde_json::from_str(&secrets_json(&store.table())).unwrap();
    let rows = json.as_array().unwrap();
    let row = |name: &str| rows.iter().find(|row| row["resource_name"] == name).unwrap();
    assert_eq!(row("kubernetes://x")["serial_number"], serial);
    assert_eq!(row("kubernetes://x")["state"], "ACTIVE");
    assert_eq!(row("kubernetes://missing")["problem"], "secret default/missing not found");
    let shown = format!("{text}{json}{:?}", store.table());
    assert!(generation.key.lines().filter(|line| !line.starts_with('-')).all(|line| !shown.contains(line)));
}
