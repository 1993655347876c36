//! `Expect: 100-continue`, and a server that answers 417: the application repeats the request without it, over the same
//! connection, and nothing else may follow there.

use std::cell::RefCell;
use std::rc::Rc;

use super::stage::{Site, address, http_entry, open};
use super::talk::{Talk, field};
use super::wire::Wire;
use crate::io::simulation::{Far, for_each_seed};

const HOST: &str = "plain.example";

/// What the server has got.
type Heard = Rc<RefCell<Vec<String>>>;

/// Answers 417 to who expects something, and else 200 with the body.
async fn refuse_expectations(far: Far, heard: Heard) {
    let mut talk = Talk::new(Wire::plain(far));
    while let Ok(Some(head)) = talk.head().await {
        let expects = field(&head, "expect").is_some();
        heard.borrow_mut().push(head.clone());
        if expects {
            let answer = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno";
            if talk.send(answer.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let Ok(body) = talk.request_body(&head).await else { return };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        if talk.send(&[answer.as_bytes(), &body].concat()).await.is_err() {
            return;
        }
    }
}

/// An upload of five bytes with these further fields.
fn upload(fields: &str) -> String {
    format!("PUT /file HTTP/1.1\r\nHost: {HOST}\r\nCookie: a=b\r\nContent-Length: 5\r\n{fields}\r\n")
}

const EXPECT: &str = "Expect: 100-continue\r\n";

#[test]
fn who_was_answered_417_repeats_the_request_on_the_same_connection() {
    let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80));
    for_each_seed(20, |seed| {
        let (log, ()) = site.play(seed, async |stage| {
            let heard = Heard::default();
            let of_server = Rc::clone(&heard);
            stage.world.serve(address("203.0.113.1:80"), move |far| refuse_expectations(far, Rc::clone(&of_server)));
            let world = Rc::clone(&stage.world);
            stage.spawn("two answers", async move {
                let mut talk = open(&world, "203.0.113.1:80");
                for _ in 0..2 {
                    talk.send(upload(EXPECT).as_bytes()).await.unwrap();
                    let answer = talk.answer_to("PUT").await.unwrap();
                    assert_eq!((answer.status, field(&answer.head, "connection")), (417, None));
                    talk.send((upload("") + "hello").as_bytes()).await.unwrap();
                    let answer = talk.answer_to("PUT").await.unwrap();
                    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"hello"[..]));
                }
                assert_eq!(heard.borrow().len(), 4);
            });
        });
        assert_eq!(log.len(), 4, "{log:#?}");
    });
}

/// Its body, sent in spite of the answer, or anything else: no reader could tell them apart.
#[test]
fn nothing_but_the_same_request_may_follow_417() {
    let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80));
    let other = format!("GET /other HTTP/1.1\r\nHost: {HOST}\r\nCookie: a=b\r\n\r\n");
    let other_fields = upload("").replace("a=b", "a=c") + "hello";
    for_each_seed(3, |seed| {
        for behind in
            ["hello", &other, &other_fields, &(upload(EXPECT) + "hello"), "\r\n\r\n\r\n\r\n\r\n\r\n", "PUT /fi"]
        {
            let (log, ()) = site.play(seed, async |stage| {
                let heard = Heard::default();
                let of_server = Rc::clone(&heard);
                stage
                    .world
                    .serve(address("203.0.113.1:80"), move |far| refuse_expectations(far, Rc::clone(&of_server)));
                let (world, behind) = (Rc::clone(&stage.world), behind.to_owned());
                stage.spawn("the end", async move {
                    let mut talk = open(&world, "203.0.113.1:80");
                    talk.send(upload(EXPECT).as_bytes()).await.unwrap();
                    assert_eq!(talk.answer_to("PUT").await.unwrap().status, 417);
                    talk.send(behind.as_bytes()).await.unwrap();
                    talk.wire.finish().await;
                    assert!(talk.rest().await.is_ok_and(|rest| rest.is_empty()), "nothing is answered");
                    assert_eq!(heard.borrow().len(), 1, "{behind:?} reached the server");
                });
            });
            assert!(log.iter().any(|line| line.contains("DPE")) || behind == "PUT /fi", "{behind:?}: {log:#?}");
        }
    });
}

/// The body had begun before the answer: the connection ends with it.
#[test]
fn a_body_that_has_begun_ends_the_connection() {
    let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80));
    for_each_seed(10, |seed| {
        site.play(seed, async |stage| {
            let heard = Heard::default();
            stage.world.serve(address("203.0.113.1:80"), move |far| refuse_expectations(far, Rc::clone(&heard)));
            let world = Rc::clone(&stage.world);
            stage.spawn("an answer", async move {
                let mut talk = open(&world, "203.0.113.1:80");
                talk.send((upload(EXPECT) + "he").as_bytes()).await.unwrap();
                let answer = talk.answer_to("PUT").await.unwrap();
                assert_eq!((answer.status, field(&answer.head, "connection")), (417, Some("close")));
            });
        });
    });
}
