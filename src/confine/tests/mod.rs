//! A process that has confined itself tries, from inside, what it must no longer be able to do. In child processes,
//! since there is no way back.

use std::fs::{self, File};
use std::io::{Error, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::io::{ConnectOptions, Engine, EngineOptions, Listener, Socket, probe};

/// Set in the child, to the folder that it may read.
const FOLDER: &str = "EGRET_TEST_CONFINED_TO";
const ENGINE: &str = "EGRET_TEST_CONFINED_ENGINE";

fn in_a_child(engine: EngineKind) {
    let allowed = tempfile::tempdir().unwrap();
    fs::write(allowed.path().join("mine"), "x").unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "confine::tests::child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, allowed.path())
        .env(ENGINE, engine.name())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && text.contains("confined and at work"), "{text}");
}

#[test]
fn confined_on_uring() {
    in_a_child(EngineKind::Uring);
}

#[test]
fn confined_on_epoll() {
    in_a_child(EngineKind::Epoll);
}

#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let kind = if std::env::var(ENGINE).unwrap() == "epoll" { EngineKind::Epoll } else { EngineKind::Uring };
    let folder = Path::new(&folder);
    let outside = tempfile::NamedTempFile::new().unwrap();
    println!("{}", drop_privileges().unwrap());
    println!("{}", confine_files(Some(&Folders::around([folder.to_path_buf()]))).unwrap());
    let mut engine = Engine::new(EngineOptions { kind, restrict_ring: true, ..Default::default() }).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", confine_calls(kind).unwrap());

    refused("a file elsewhere", File::open(outside.path()).err());
    refused("a new file", File::create(folder.join("new")).err());
    assert_eq!(fs::read_to_string(folder.join("mine")).unwrap(), "x");
    refused("a program", Some(Command::new("/bin/true").exec()));
    refused("a child process", Command::new("/bin/true").spawn().err());
    refused("a thread", std::thread::Builder::new().spawn(|| ()).err());
    refused("a raw socket", socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, None).err());
    refused("a unix socket", std::os::unix::net::UnixDatagram::unbound().err());
    assert!(probe().is_err(), "a new ring");

    engine.run(async {
        let address = listener.local_addr().unwrap();
        let listener = Listener::from_std(listener).unwrap();
        let near = Socket::connect(address, &ConnectOptions::default()).await.unwrap();
        let far = listener.accept().await.unwrap();
        near.send(vec![7; 100_000]).await.unwrap();
        let mut left = 100_000;
        while left > 0 {
            left -= far.recv().await.unwrap().unwrap().len();
        }
    });
    println!("confined and at work");
}

#[track_caller]
fn refused(what: &str, error: Option<Error>) {
    let error = error.unwrap_or_else(|| panic!("{what}: not refused"));
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
}
