//! Files and folders as Kubernetes and people leave them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::config::{Loaded, Severity, load, load_text};

fn entry(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  \
         hosts: [{name}.example]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n"
    )
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.resources.service_entries.iter().map(|entry| entry.meta.name.as_str()).collect()
}

fn only_problem(loaded: &Loaded) -> String {
    assert_eq!(loaded.problems.len(), 1, "{:?}", loaded.problems);
    loaded.problems[0].to_string()
}

#[test]
fn a_folder_is_its_yaml_files_by_name() {
    let folder = folder(&[
        ("b.yaml", &entry("b")),
        ("a.yml", &entry("a")),
        (".hidden.yaml", "nonsense"),
        ("notes.txt", "nonsense"),
        ("c.yaml.bak", "nonsense"),
    ]);
    fs::create_dir(folder.path().join("d.yaml")).unwrap();
    let loaded = load(&[folder.path().to_owned()]);
    assert_eq!(loaded.problems, []);
    assert_eq!(names(&loaded), ["a", "b"]);
    assert_eq!(loaded.files, [folder.path().join("a.yml"), folder.path().join("b.yaml")]);
}

#[test]
fn a_mounted_config_map_is_read_once_through_its_links() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("..2024_01")).unwrap();
    fs::write(folder.path().join("..2024_01/a.yaml"), entry("a")).unwrap();
    symlink("..2024_01", folder.path().join("..data")).unwrap();
    symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
    let loaded = load(&[folder.path().to_owned(), folder.path().join("a.yaml")]);
    assert_eq!(loaded.problems, []);
    assert_eq!(names(&loaded), ["a"]);
    assert_eq!(loaded.files, [folder.path().join("a.yaml")]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let missing = load(&[PathBuf::from("/no/such/path")]);
    assert!(only_problem(&missing).starts_with("cannot read /no/such/path: No such file"));
    assert!(missing.has_errors());

    let dangling = tempfile::tempdir().unwrap();
    symlink("nowhere", dangling.path().join("a.yaml")).unwrap();
    assert!(only_problem(&load(&[dangling.path().to_owned()])).contains("a.yaml: No such file"));

    assert!(only_problem(&load(&[PathBuf::from("/dev/zero")])).contains("not a regular file"));

    let large = folder(&[("a.yaml", "")]);
    fs::File::options().write(true).open(large.path().join("a.yaml")).unwrap().set_len((16 << 20) + 1).unwrap();
    assert!(only_problem(&load(&[large.path().to_owned()])).contains("larger than 16 MiB"));
}

#[test]
fn text_must_be_utf8() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, b"a: 1\n\xc3\xa4: \xff").unwrap();
    let message = only_problem(&load(std::slice::from_ref(&file)));
    assert_eq!(message, format!("{}:2:4: not UTF-8 from here on; save the file as UTF-8", file.display()));
    fs::write(&file, [b"\xef\xbb\xbf", entry("bom").replace('\n', "\r\n").as_bytes()].concat()).unwrap();
    let loaded = load(&[file]);
    assert_eq!((loaded.problems.len(), names(&loaded)), (0, vec!["bom"]));
}

#[test]
fn the_same_object_in_two_files_is_an_error_that_names_both() {
    let folder = folder(&[("a.yaml", &entry("x")), ("b.yaml", &entry("x"))]);
    let loaded = load(&[folder.path().to_owned()]);
    let at = |file: &str| format!("{}:2:7", folder.path().join(file).display());
    let expected =
        format!("{}: ServiceEntry \"x\" is already defined at {}; remove one of them", at("b.yaml"), at("a.yaml"));
    assert_eq!(only_problem(&loaded), expected);
}

#[test]
fn one_broken_resource_does_not_hide_the_others() {
    let broken = entry("broken").replace("80", "0");
    let text = [entry("a"), broken, entry("b")].join("---\n");
    let folder = folder(&[("a.yaml", &text)]);
    let loaded = load(&[folder.path().to_owned()]);
    assert_eq!(names(&loaded), ["a", "b"]);
    assert!(only_problem(&loaded).contains("a.yaml:13:20: spec.ports[0].number: "));
}

#[test]
fn problems_are_sorted_and_each_of_thirty_mistakes_is_shown() {
    let mistakes = [
        "number: 80",
        "number: 0",
        "name: A",
        "name: ''",
        "nam: a",
        "protocol: X",
        "protocol: 1",
        "targetPort: -1",
        "targetPort: 8O",
        "number: '1'",
    ];
    let port = |mistake: &str| entry("x").replace("number: 80, name: http, protocol: HTTP", mistake);
    let files: Vec<_> = (0..3)
        .map(|i| {
            let documents: Vec<_> = mistakes.iter().map(|mistake| port(mistake)).collect();
            (format!("{i}.yaml"), documents.join("---\n"))
        })
        .collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let folder = folder(&files);
    let loaded = load(&[folder.path().to_owned()]);
    let places: Vec<_> = loaded.problems.iter().map(|problem| problem.at.clone().expect("has a place")).collect();
    assert!(places.is_sorted());
    let mut documents: Vec<_> = places.iter().map(|at| (at.file.clone(), at.line / 7)).collect();
    documents.dedup();
    assert_eq!(documents.len(), 30, "{:#?}", loaded.problems);
    assert!(loaded.problems.iter().all(|problem| problem.severity == Severity::Error));
    assert!(loaded.resources.service_entries.is_empty());
}

#[test]
fn a_flood_of_problems_is_cut() {
    let folder = folder(&[("a.yaml", &"---\nhello\n".repeat(2000))]);
    let loaded = load(&[folder.path().to_owned()]);
    assert_eq!(loaded.problems.len(), 1001);
    assert!(loaded.problems[1000].message.contains("more than 1000 problems"));
}

#[test]
fn secrets_are_decoded_and_never_shown() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, creationTimestamp: null}\ntype: Opaque\n\
                  data:\n  a: aHVudGVyMg==\n  b: |\n    aHVu\n    dGVyMg==\n  c: aHVudGVyMg==\nstringData:\n  c: other\n";
    let folder = folder(&[("a.yaml", secret)]);
    let loaded = load(&[folder.path().to_owned()]);
    assert_eq!(loaded.problems, []);
    let data = &loaded.resources.secrets[0].data;
    assert_eq!((&data["a"][..], &data["b"][..], &data["c"][..]), (&b"hunter2"[..], &b"hunter2"[..], &b"other"[..]));
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

#[test]
fn an_old_and_a_new_generation_are_never_mixed() {
    // The folder is swapped between two looks at `..data` by another thread, over and over; whatever is read must be
    // of one generation.
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let swap = |generation: u32| swap_generation(root, generation);
    swap(0);
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    symlink("..data/b.yaml", root.join("b.yaml")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (1..200).for_each(swap));
        for _ in 0..200 {
            let loaded = load(&[root.to_owned()]);
            let names = names(&loaded);
            match names[..] {
                [a, b] => assert_eq!(a.trim_start_matches('a'), b.trim_start_matches('b')),
                _ => assert!(loaded.has_errors(), "read in part, without a word: {names:?}"),
            }
        }
    });
    assert_eq!(names(&load(&[root.to_owned()])), ["a199", "b199"]);
}

/// As the kubelet does it: a new folder, a new link renamed over the old one, the old folder removed.
fn swap_generation(root: &Path, generation: u32) {
    let fresh = format!("..{generation}");
    fs::create_dir(root.join(&fresh)).unwrap();
    fs::write(root.join(&fresh).join("a.yaml"), entry(&format!("a{generation}"))).unwrap();
    fs::write(root.join(&fresh).join("b.yaml"), entry(&format!("b{generation}"))).unwrap();
    symlink(&fresh, root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    if let Some(old) = generation.checked_sub(1) {
        fs::remove_dir_all(root.join(format!("..{old}"))).unwrap();
    }
}

#[test]
fn what_is_for_kustomize_is_not_read() {
    let folder = folder(&[("a.yaml", &entry("a")), ("kustomization.yaml", "resources: [a.yaml]\nnamePrefix: x-\n")]);
    let loaded = load(&[folder.path().to_owned()]);
    assert_eq!(names(&loaded), ["a"]);
    assert_eq!(loaded.files.len(), 1);
    let problem = only_problem(&loaded);
    assert!(problem.contains("kustomization.yaml:1:1: warning: this file is for kustomize"), "{problem}");
}

#[test]
fn lists_are_of_any_kind_or_of_one() {
    let item =
        "metadata: {name: NAME}, spec: {hosts: [NAME.example], ports: [{number: 80, name: http, protocol: HTTP}]}";
    let item = |name: &str| item.replace("NAME", name);
    let full = |name: &str| format!("{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, {}}}", item(name));
    for text in [
        format!("apiVersion: v1\nkind: List\nitems:\n- {}\n- {}\n", full("a"), full("b")),
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntryList\nmetadata: {{resourceVersion: ''}}\nitems:\n- {{{}}}\n- {}\n",
            item("a"),
            full("b")
        ),
        format!(
            "apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: List, items: [{}]}}\n- {}\n",
            full("a"),
            full("b")
        ),
    ] {
        let loaded = load_text(Path::new("f"), &text);
        assert_eq!(loaded.problems, [], "{text}");
        assert_eq!(names(&loaded), ["a", "b"], "{text}");
    }
    // Those of others are passed over as a whole, and ours without items are no lists.
    let loaded = load_text(Path::new("f"), "apiVersion: v1\nkind: PodList\nitems: [{metadata: {name: a}}]\n");
    assert!(only_problem(&loaded).contains("PodList (v1) is ignored"));
    let loaded = load_text(Path::new("f"), "apiVersion: networking.istio.io/v1\nkind: ServiceEntryLists\n");
    assert_eq!(loaded.problems[0].severity, Severity::Warning, "{:?}", loaded.problems);
    let loaded = load_text(Path::new("f"), "apiVersion: networking.istio.io/v1\nkind: ServiceEntri\n");
    assert!(loaded.has_errors() && only_problem(&loaded).contains("did you mean ServiceEntry?"));
}
