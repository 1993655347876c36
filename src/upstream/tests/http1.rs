//! Responses as they come from a server's connection, in each form, and what is left of the connection.

use std::io::Write;
use std::net::TcpListener;

use super::*;
use crate::http::{Method, Version};
use crate::io::{ConnectOptions, Engine, EngineKind, EngineOptions, Socket};

const GET: RequestContext = RequestContext { method: Method::Get, version: Version::Http11, upgrade: false };

fn run<T>(main: impl Future<Output = T>) -> T {
    Engine::new(EngineOptions { kind: EngineKind::Epoll, ..EngineOptions::default() }).unwrap().run(main)
}

/// A stream to a server that says `words`, one send each, and then ends its side if it `ends`.
async fn server(words: &[&str], ends: bool) -> (Stream, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = Socket::connect(listener.local_addr().unwrap(), &ConnectOptions::default()).await.unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    for word in words {
        peer.write_all(word.as_bytes()).unwrap();
    }
    if ends {
        peer.shutdown(std::net::Shutdown::Write).unwrap();
    }
    (Stream::plaintext(socket), peer)
}

/// The statuses of all heads, the body in `form`, and whether the connection is clean behind it.
async fn read(stream: &Stream, form: Form) -> Result<(Vec<u16>, String, bool), CarrierError> {
    let (mut response, mut statuses) = (Http1Response::new(stream), Vec::new());
    assert!(!response.has_spoken());
    let head = loop {
        let head = response.head(GET, HeadLimits::default()).await?;
        statuses.push(head.status);
        if !head.is_interim {
            break head;
        }
        assert_eq!(response.take_head().len(), head.length);
    };
    assert!(response.has_spoken());
    let mut body = response.start(form)?[head.length..].to_vec();
    while let Some(part) = response.next(form).await? {
        body.extend_from_slice(part.bytes());
    }
    Ok((statuses, String::from_utf8(body).unwrap(), response.is_clean()))
}

#[test]
fn bodies_come_in_the_form_that_is_asked_for() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const COUNTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    run(async {
        for (words, ends, framed, data, clean) in [
            (&[COUNTED, "body"][..], false, "body", "body", true),
            (&["HTTP/1.1 204 No Content\r\n\r\n"], false, "", "", true),
            (
                &[CHUNKED, "2\r\nbo\r\n", "2;x\r\ndy\r\n0\r\n\r\n"],
                false,
                "2\r\nbo\r\n2;x\r\ndy\r\n0\r\n\r\n",
                "body",
                true,
            ),
            (&["HTTP/1.1 200 OK\r\n\r\nbo", "dy"], true, "body", "body", false),
            // More than was asked for.
            (&[COUNTED, "body", "HTTP/1.1 200 OK\r\n"], false, "body", "body", false),
            (&[CHUNKED, "0\r\n\r\n!"], false, "0\r\n\r\n", "", false),
        ] {
            for (form, expected) in [(Form::Framed, framed), (Form::Data, data)] {
                // All at once: what is behind the body has arrived by then.
                let (stream, _peer) = server(&[&words.concat()], ends).await;
                let (_, body, is_clean) = read(&stream, form).await.unwrap();
                assert_eq!((body.as_str(), is_clean), (expected, clean), "{words:?} {form:?}");
            }
        }
    });
}

#[test]
fn interim_heads_come_before_the_final_one() {
    run(async {
        let words = [
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 ",
            "204 No Content\r\n\r\n",
        ];
        let (stream, _peer) = server(&words, false).await;
        assert_eq!(read(&stream, Form::Framed).await.unwrap(), (vec![100, 103, 204], String::new(), true));
    });
}

#[test]
fn what_is_no_response_is_told_from_an_end() {
    /// What came of a response.
    #[derive(Debug, PartialEq)]
    enum End {
        Nothing,
        Cut,
        None,
    }
    run(async {
        for (words, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody", End::Cut),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n", End::Cut),
            ("HTTP/1.1 2", End::Cut),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP", End::Cut),
            ("HTTP/1.1 100 Continue\r\n\r\n", End::Nothing),
            ("", End::Nothing),
            ("SSH-2.0-x\r\n", End::None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", End::None),
        ] {
            for form in [Form::Framed, Form::Data] {
                let (stream, _peer) = server(&[words], true).await;
                let found = match read(&stream, form).await.expect_err(words) {
                    CarrierError::Ended(None) => End::Nothing,
                    CarrierError::Cut(None) => End::Cut,
                    CarrierError::Protocol(_) => End::None,
                    other => panic!("{words:?}: {other:?}"),
                };
                assert_eq!(found, expected, "{words:?}");
            }
        }
    });
}
