//! Every conversation of `tests/http/`: what an application sends, what the server gets, what it answers, what the application
//! gets, what is logged. Each is held plainly, in single bytes, and through TLS origination, and is followed by clean requests
//! that must get answers of their own. Some of them are held through a real kernel as well (`tests/e2e/http_cases.rs`).

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;

use super::cases::{self, After, Case, End, Gets, Receives};
use super::judge;
use super::stage::{Site, Stage, address, http_entry, patiently, rule};
use super::talk::Talk;
use super::upstream::Upstream;
use super::wire::Wire;
use crate::io::simulation::{World, for_each_seed};

const PLAIN: &str = "plain.example";
const SECURE: &str = "secure.example";

/// Seeds for each conversation, which is held in three ways by each.
const SEEDS: u64 = 1;

/// A case that is longer says no more when it comes in single bytes, and lasts.
const MAX_SINGLE_BYTES: usize = 1000;

/// How a case's bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    Whole,
    Bytes,
}

fn site() -> Site {
    let site = Site::new().naming(PLAIN, &["203.0.113.1"]).naming(SECURE, &["203.0.113.2"]);
    let tls = format!("{{tls: {{mode: SIMPLE, caCertificates: {}}}}}", site.ca_file());
    site.with(&http_entry(PLAIN, 80, 80)).with(&http_entry(SECURE, 80, 443)).with(&rule(SECURE, &tls))
}

#[test]
fn every_conversation_goes_as_written() {
    let cases = cases::all();
    assert!(cases.len() > 200, "{} cases were read", cases.len());
    let site = site();
    let server = site.server_config(SECURE);
    for_each_seed(SEEDS, |seed| {
        let mut faults = Vec::new();
        for (host, pieces) in [(PLAIN, Pieces::Whole), (SECURE, Pieces::Whole), (PLAIN, Pieces::Bytes)] {
            let is_short = |case: &&Case| case.bytes(&case.client, host).len() <= MAX_SINGLE_BYTES;
            for (number, case) in cases.iter().enumerate().filter(|(_, case)| pieces == Pieces::Whole || is_short(case))
            {
                let held = Rc::new(RefCell::new(None));
                let fault = Rc::clone(&held);
                let (log, port) = site.play(seed * 1000 + number as u64, async |stage: &Stage| {
                    let upstream = Upstream::default();
                    let (near, far, config) = (upstream.clone(), upstream.clone(), server.clone());
                    stage
                        .world
                        .serve(address("203.0.113.1:80"), move |far| near.clone().serve(Talk::new(Wire::plain(far))));
                    stage.world.serve(address("203.0.113.2:443"), move |end| {
                        let (upstream, config) = (far.clone(), config.clone());
                        async move {
                            if let Ok(wire) = Wire::accept(end, &config).await {
                                upstream.serve(Talk::new(wire)).await;
                            }
                        }
                    });
                    let client = stage.connect("203.0.113.9:80");
                    let port = format!("{} ", client.wire.far.address());
                    let conversation =
                        Conversation { world: Rc::clone(&stage.world), host, case: case.clone(), upstream };
                    stage.world.spawn(async move {
                        let world = Rc::clone(&conversation.world);
                        let holding = conversation.hold(client, pieces);
                        let held = patiently(&world, &conversation.case.title, holding).await;
                        *fault.borrow_mut() = held.err();
                    });
                    port
                });
                let title = format!("{host}, {pieces:?}: {}", case.title);
                faults.extend(held.take().map(|fault| format!("{title}: {fault}")));
                let is_logged =
                    |line: &&String| line.contains(&port) && case.log.iter().all(|part| line.contains(part));
                if !log.iter().any(|line| is_logged(&line)) {
                    faults.push(format!("{title}: no line with {:?}: {log:#?}", case.log));
                }
            }
        }
        assert!(faults.is_empty(), "{} faults: {faults:#?}", faults.len());
    });
}

struct Conversation {
    world: Rc<World>,
    host: &'static str,
    case: Case,
    upstream: Upstream,
}

impl Conversation {
    fn open(&self) -> Talk {
        Talk::new(Wire::plain(self.world.connect(address("203.0.113.9:80"))))
    }

    /// Holds one conversation and says what was not as it should be.
    async fn hold(&self, mut client: Talk, pieces: Pieces) -> Result<(), String> {
        let (case, host) = (&self.case, self.host);
        let sent = case.bytes(&case.client, host);
        let answer = case.bytes(&case.answer, host);
        if case.upstream == Receives::Nothing {
            // So that nobody takes what follows for another protocol than HTTP.
            self.clean(&mut client, "/clean-first").await?;
        }
        self.upstream.expect(answer.clone(), case.end);
        let size = if pieces == Pieces::Whole { sent.len().max(1) } else { 1 };
        for piece in sent.chunks(size) {
            // A refusal may come, and the connection end, before everything has been sent.
            if client.send(piece).await.is_err() {
                break;
            }
        }
        self.application(&mut client, &answer).await?;
        self.server(&sent).await?;
        if case.after == After::Open {
            self.clean(&mut client, "/clean-same").await?;
        }
        // A new connection of the application, which may well get the pooled one to the server.
        self.clean(&mut self.open(), "/clean-next").await?;
        judge::unambiguous(&self.upstream.received())
    }

    async fn clean(&self, client: &mut Talk, path: &str) -> Result<(), String> {
        let answer = client.get(self.host, path).await.map_err(|error| format!("{path}: {error}"))?;
        if answer.body == path.as_bytes() { Ok(()) } else { Err(format!("{path} was answered with {answer:?}")) }
    }

    /// Is what the application gets as written?
    async fn application(&self, client: &mut Talk, answer: &[u8]) -> Result<(), String> {
        let case = &self.case;
        let wanted = match &case.gets {
            Gets::Same => answer.to_vec(),
            Gets::Bytes(text) => case.bytes(text, self.host),
            Gets::Status(_) | Gets::Broken | Gets::Refused => Vec::new(),
        };
        let got = client.take(wanted.len()).await;
        if got != wanted {
            return Err(format!("the application got {:?}", got.escape_ascii().to_string()));
        }
        match &case.gets {
            Gets::Same | Gets::Bytes(_) => {}
            Gets::Status(status) => {
                let answer = client.answer_to(case.method()).await.map_err(|error| format!("no answer: {error}"))?;
                if answer.status != *status {
                    return Err(format!("the application got {:?}", answer.head));
                }
            }
            Gets::Broken | Gets::Refused => {
                return match client.answer_to(case.method()).await.map_err(|error| error.kind()) {
                    Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Ok(()),
                    // A reset may overtake what was sent before it.
                    Ok(answer) if case.end == End::Reset && answer.status == 503 => Ok(()),
                    Ok(answer) if case.gets == Gets::Refused && answer.status == 502 => Ok(()),
                    other => Err(format!("should be seen to be cut short: {other:?}")),
                };
            }
        }
        match case.after {
            After::Open => Ok(()),
            After::Closed => match client.rest().await {
                Ok(rest) if rest.is_empty() => Ok(()),
                other => Err(format!("no clean end: {other:?}")),
            },
        }
    }

    /// Is what the server gets as written?
    async fn server(&self, sent: &[u8]) -> Result<(), String> {
        let wanted = match &self.case.upstream {
            Receives::Anything => return Ok(()),
            Receives::Part => {
                return match self.upstream.received().as_slice() {
                    [] => Ok(()),
                    [message] if !message.is_complete => Ok(()),
                    other => Err(format!("the server got {other:?}")),
                };
            }
            Receives::Cut => {
                return match self.upstream.wait_for(&self.world, 1).await.as_slice() {
                    [message] if !message.is_complete => Ok(()),
                    other => Err(format!("the server got {other:?}")),
                };
            }
            Receives::Nothing => Vec::new(),
            Receives::Same => vec![sent.to_vec()],
            Receives::Messages(messages) => messages.iter().map(|text| self.case.bytes(text, self.host)).collect(),
        };
        let got = self.upstream.wait_for(&self.world, wanted.len()).await;
        let is_it = got.len() == wanted.len() && got.iter().zip(&wanted).all(|(a, b)| a.is_complete && a.raw == *b);
        if is_it { Ok(()) } else { Err(format!("the server got {got:?}")) }
    }
}
