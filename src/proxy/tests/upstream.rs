//! The server of the conversations: notes every request byte by byte and answers as the case says, except that clean
//! requests always get their own target as answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::cases::End;
use super::stage::PATIENCE;
use super::talk::Talk;
use crate::io::simulation::World;

#[derive(Clone, Default)]
pub(super) struct Upstream(Rc<RefCell<Script>>);

#[derive(Default)]
struct Script {
    answer: Vec<u8>,
    end: End,
    received: Vec<Message>,
}

/// What came of one request.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) raw: Vec<u8>,
    pub(super) is_complete: bool,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", if self.is_complete { "" } else { "cut " }, self.raw.escape_ascii().to_string())
    }
}

impl Upstream {
    /// The next request gets `answer`; what was received before is forgotten.
    pub(super) fn expect(&self, answer: Vec<u8>, end: End) {
        *self.0.borrow_mut() = Script { answer, end, received: Vec::new() };
    }

    /// What has been received, once it is `count` messages or does not become as many.
    pub(super) async fn wait_for(&self, world: &Rc<World>, count: usize) -> Vec<Message> {
        let deadline = world.now() + PATIENCE;
        while self.0.borrow().received.len() < count && world.now() < deadline {
            world.sleep(Duration::from_millis(1)).await;
        }
        self.received()
    }

    /// What has been received so far.
    pub(super) fn received(&self) -> Vec<Message> {
        self.0.borrow().received.clone()
    }

    pub(super) async fn serve(self, mut talk: Talk) {
        loop {
            let request = talk.request().await;
            let raw = std::mem::take(&mut talk.raw);
            match request {
                Ok(Some((head, _))) if target(&head).starts_with("/clean") => {
                    let target = target(&head);
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
                    if talk.send(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Ok(Some(_)) => {
                    let (answer, end) = self.note(raw, true);
                    match (talk.send(&answer).await, end) {
                        (Ok(()), End::Stay) => {}
                        (Ok(()), End::Close) => return talk.wire.finish().await,
                        (Ok(()), End::Reset) => return reset(&talk).await,
                        (Err(_), _) => return,
                    }
                }
                // A connection that is ended between two requests, however.
                Ok(None) | Err(_) if raw.is_empty() => return,
                Ok(None) | Err(_) => {
                    self.note(raw, false);
                    return;
                }
            }
        }
    }

    fn note(&self, raw: Vec<u8>, is_complete: bool) -> (Vec<u8>, End) {
        let mut script = self.0.borrow_mut();
        script.received.push(Message { raw, is_complete });
        (script.answer.clone(), script.end)
    }
}

/// Behind what was sent, or before some of it.
async fn reset(talk: &Talk) {
    let world = talk.wire.far.world();
    let pause = world.random(|random| random.below(2000));
    world.sleep(Duration::from_micros(pause)).await;
    talk.wire.far.reset();
}

fn target(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}
