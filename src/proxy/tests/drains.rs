//! A drain, and what it must not end half way.

use std::rc::Rc;

use super::stage::{Site, address, http_entry, open};
use super::talk::{Talk, field};
use super::wire::Wire;
use crate::io::simulation::{Far, for_each_seed};

const HOST: &str = "plain.example";

/// Asks for NTLM, sends its challenge, and answers.
async fn ask_for_ntlm(far: Far) {
    let mut talk = Talk::new(Wire::plain(far));
    while let Ok(Some(head)) = talk.head().await {
        let status = match field(&head, "authorization") {
            None => "401 Unauthorized\r\nWWW-Authenticate: NTLM",
            Some("NTLM one") => "401 Unauthorized\r\nWWW-Authenticate: NTLM two",
            Some(_) => "200 OK",
        };
        if talk.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// It is of one connection: an answer in its middle that said `Connection: close` would end it.
#[test]
fn a_login_that_has_begun_outlives_the_beginning_of_a_drain() {
    let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80));
    for_each_seed(10, |seed| {
        site.play(seed, async |stage| {
            stage.world.serve(address("203.0.113.1:80"), ask_for_ntlm);
            let (world, context) = (Rc::clone(&stage.world), Rc::clone(&stage.context));
            stage.spawn("a login", async move {
                let mut talk = open(&world, "203.0.113.1:80");
                for (credentials, expected) in
                    [("", 401), ("Authorization: NTLM one\r\n", 401), ("Authorization: NTLM three\r\n", 200)]
                {
                    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{credentials}\r\n");
                    talk.send(request.as_bytes()).await.unwrap();
                    if credentials.is_empty() {
                        context.drain.begin();
                    }
                    let answer = talk.answer_to("GET").await.unwrap();
                    let closes = (expected == 200).then_some("close");
                    assert_eq!((answer.status, field(&answer.head, "connection")), (expected, closes));
                }
            });
        });
    });
}
