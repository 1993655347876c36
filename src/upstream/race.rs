//! The addresses of one name, dialled one after the other until one takes the connection (RFC 8305 §5).
//!
//! An address has a head start before the next; one that fails hands over at once. Nothing is said on a connection before
//! it has won, and those that lose are closed with their attempt. Which addresses may race, in what order, and what is
//! remembered of it is for the caller to say.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::slice;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::connect::{ConnectError, Deadline};
use crate::io::{self, ConnectOptions, Sleep, Socket};

/// RFC 8305 §8, "Connection Attempt Delay".
const HEAD_START: Duration = Duration::from_millis(250);

/// How a race ended well.
pub(super) enum Finish<W> {
    Connected(SocketAddr, Socket),
    /// The first address made its caller wait, and there was something else to be had.
    Spare(W),
}

pub(super) struct Race<'r> {
    options: &'r ConnectOptions,
    ahead: slice::Iter<'r, SocketAddr>,
    running: Vec<Attempt<'r>>,
    failures: Vec<ConnectError>,
}

struct Attempt<'r> {
    address: SocketAddr,
    since: Instant,
    connecting: Pin<Box<dyn Future<Output = std::io::Result<Socket>> + 'r>>,
}

enum Event {
    Connected(SocketAddr, Socket),
    Failed(usize, std::io::Error),
    HeadStartOver,
    TimeOver,
}

impl<'r> Race<'r> {
    /// `addresses` in the order in which they start.
    pub(super) fn new(addresses: &'r [SocketAddr], options: &'r ConnectOptions) -> Self {
        Self { options, ahead: addresses.iter(), running: Vec::new(), failures: Vec::new() }
    }

    /// The first connection. `spare` is asked before each address but the first. `None`: each has failed, or the time is
    /// over; [`failures`](Self::failures) says how.
    pub(super) async fn run<W>(
        &mut self,
        deadline: &Deadline,
        mut spare: impl FnMut() -> Option<W>,
    ) -> Option<Finish<W>> {
        let (time, after) = deadline.for_tcp();
        let mut over = io::sleep(time);
        // A rule's time may be shorter than the head start: the second address shall have some of it.
        let head_start = HEAD_START.min(time / 2);
        self.start();
        while !self.running.is_empty() {
            let mut pause = (self.ahead.len() > 0).then(|| io::sleep(head_start));
            match poll_fn(|cx| self.poll_event(pause.as_mut(), &mut over, cx)).await {
                Event::Connected(address, socket) => return Some(Finish::Connected(address, socket)),
                Event::Failed(index, source) => {
                    let Attempt { address, .. } = self.running.swap_remove(index);
                    self.failures.push(ConnectError::Tcp { address, source });
                }
                Event::HeadStartOver => {}
                Event::TimeOver => {
                    // Who has only just started is not judged by it, and may be tried again.
                    let now = io::now();
                    self.running.retain(|attempt| now.saturating_duration_since(attempt.since) >= head_start);
                    let late = |attempt: Attempt<'_>| ConnectError::TcpTimeout { address: attempt.address, after };
                    self.failures.extend(self.running.drain(..).map(late));
                    return None;
                }
            }
            if self.ahead.len() > 0 {
                if let Some(spare) = spare() {
                    return Some(Finish::Spare(spare));
                }
                self.start();
            }
        }
        None
    }

    /// What became of those that have failed.
    pub(super) fn failures(&mut self) -> Vec<ConnectError> {
        std::mem::take(&mut self.failures)
    }

    /// Those that had their head start and have not answered.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = SocketAddr> {
        let now = io::now();
        let has_had_time = move |attempt: &&Attempt<'_>| now.saturating_duration_since(attempt.since) >= HEAD_START;
        self.running.iter().filter(has_had_time).map(|attempt| attempt.address)
    }

    fn start(&mut self) {
        if let Some(&address) = self.ahead.next() {
            let connecting = Box::pin(Socket::connect(address, self.options));
            self.running.push(Attempt { address, since: io::now(), connecting });
        }
    }

    fn poll_event(&mut self, pause: Option<&mut Sleep>, over: &mut Sleep, cx: &mut Context<'_>) -> Poll<Event> {
        for (index, attempt) in self.running.iter_mut().enumerate() {
            match attempt.connecting.as_mut().poll(cx) {
                Poll::Ready(Ok(socket)) => {
                    let Attempt { address, .. } = self.running.swap_remove(index);
                    return Poll::Ready(Event::Connected(address, socket));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(index, error)),
                Poll::Pending => {}
            }
        }
        if Pin::new(over).poll(cx).is_ready() {
            return Poll::Ready(Event::TimeOver);
        }
        match pause {
            Some(pause) => Pin::new(pause).poll(cx).map(|()| Event::HeadStartOver),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::Clocks;
    use super::*;
    use crate::config::Settings;
    use crate::io::{Engine, EngineKind, EngineOptions};

    fn run<T>(main: impl Future<Output = T>) -> T {
        Engine::new(EngineOptions { kind: EngineKind::Epoll, ..EngineOptions::default() }).unwrap().run(main)
    }

    /// A listener whose backlog is full: the kernel drops what else comes, as a firewall does.
    fn silent() -> (TcpListener, Vec<socket2::Socket>) {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let listener = TcpListener::from(listener);
        let (address, mut kept) = (listener.local_addr().unwrap().into(), Vec::new());
        loop {
            let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let refused = client.connect_timeout(&address, Duration::from_millis(100)).is_err();
            kept.push(client);
            if refused {
                return (listener, kept);
            }
        }
    }

    /// What a race of these addresses comes to: who won, who failed and how, who had not answered.
    async fn outcome(
        addresses: &[SocketAddr],
        connect: Duration,
        spare: Option<u8>,
    ) -> (String, usize, Vec<SocketAddr>) {
        let clocks = Clocks { connect, ..Clocks::of(&Settings::default()) };
        let options = ConnectOptions::default();
        let mut race = Race::new(addresses, &options);
        let won = match race.run(&Deadline::begin(&clocks, None), || spare).await {
            Some(Finish::Connected(address, _)) => address.to_string(),
            Some(Finish::Spare(spare)) => format!("spare {spare}"),
            None => "nobody".to_owned(),
        };
        (won, race.failures().len(), race.unanswered().collect())
    }

    #[test]
    fn the_first_to_answer_wins() {
        let (silent, _kept) = silent();
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (silent, open) = (silent.local_addr().unwrap(), open.local_addr().unwrap());
        // Nothing waits for the end of the time unless nobody answers.
        let (long, short) = (Duration::from_secs(3600), Duration::from_millis(300));
        run(async {
            let won = open.to_string();
            for (addresses, connect, spare, expected) in [
                (&[open, silent][..], long, None, (won.clone(), 0, vec![])),
                (&[silent, open], long, None, (won.clone(), 0, vec![silent])),
                (&[nobody, open], long, None, (won.clone(), 1, vec![])),
                (&[silent, nobody, open], long, None, (won.clone(), 1, vec![silent])),
                (&[silent, open], long, Some(7), ("spare 7".to_owned(), 0, vec![silent])),
                (&[open, silent], long, Some(7), (won, 0, vec![])),
                (&[nobody], long, Some(7), ("nobody".to_owned(), 1, vec![])),
                (&[silent, nobody], short, None, ("nobody".to_owned(), 2, vec![])),
            ] {
                assert_eq!(outcome(addresses, connect, spare).await, expected, "{addresses:?}");
            }
        });
    }
}
