//! Every way in which a connection ends frees its descriptor and everything else.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use super::*;

#[test]
fn closing_with_operations_in_flight_frees_the_descriptor() {
    run(async {
        let (near, far) = pair().await;
        let (first, second) = (identity(&near), identity(&far));
        // A receive waits, and a send that the peer does not read.
        assert_eq!(near.peek_state(), PeekState::Pending);
        drop(near.send(vec![1; 32 << 20]));
        sleep(Duration::from_millis(2)).await;
        assert!(near.unsent() > 0 && is_open(&first));
        near.abort();
        drop(far);
        settled(|stats| stats.open_sockets == 0).await;
        assert_eq!((is_open(&first), is_open(&second)), (false, false));
    });
}

#[test]
fn what_is_queued_when_a_socket_is_dropped_still_arrives() {
    run(async {
        let (near, far) = pair().await;
        let bytes = pattern(8 << 20, 1);
        drop(near.send(bytes.clone()));
        drop(near);
        assert!(read_all(&far).await == bytes);
    });
}

#[test]
fn a_peer_that_reads_nothing_cannot_hold_a_dropped_socket() {
    let options = EngineOptions { linger: Duration::from_millis(50), ..Default::default() };
    run_with(options, async {
        let (near, far) = pair().await;
        drop(near.send(vec![0; 64 << 20]));
        drop(near);
        settled(|stats| stats.open_sockets == 1).await;
        drop(far);
    });
}

#[test]
fn a_reset_is_an_error_after_the_bytes_before_it() {
    run(async {
        let (near, far) = pair().await;
        far.send(b"last words").await.unwrap();
        far.flush().await.unwrap();
        near.readable().await;
        far.abort();
        assert_eq!(&near.recv().await.unwrap().unwrap()[..], b"last words");
        assert_eq!(near.recv().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(near.recv().await.unwrap_err().kind(), ErrorKind::ConnectionReset, "it stays");
        assert_eq!(near.peek_state(), PeekState::Closed);
        let refused = async {
            loop {
                if let Err(error) = near.send(b"hello?").await {
                    break error;
                }
                near.flush().await.ok();
            }
        };
        assert_eq!(refused.await.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn abort_is_a_reset_at_the_other_end() {
    run(async {
        let (listener, address) = listen();
        let peer = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"x").unwrap();
            stream.read(&mut [0; 8]).unwrap_err().kind()
        });
        let socket = listener.accept().await.unwrap();
        socket.readable().await;
        socket.abort();
        settled(|stats| stats.open_sockets == 0).await;
        assert_eq!(peer.join().unwrap(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn an_idle_connection_shows_that_its_peer_has_gone() {
    run(async {
        let (near, far) = pair().await;
        assert_eq!(near.peek_state(), PeekState::Pending);
        assert_eq!(stats().recv_buffers_in_use, 0, "an idle connection holds no buffer");
        drop(far);
        near.readable().await;
        assert_eq!(near.peek_state(), PeekState::Closed);
    });
}

#[test]
fn connect_to_nobody_is_refused() {
    run(async {
        let (listener, address) = listen();
        drop(listener);
        let error = Socket::connect(address, &ConnectOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn connect_options_are_set_before_the_first_packet() {
    run(async {
        let (listener, address) = listen();
        let options = ConnectOptions {
            keepalive: Some(Keepalive { idle: Duration::from_secs(30), interval: Duration::from_secs(5), probes: 3 }),
            user_timeout: Some(Duration::from_secs(20)),
            source: Some("127.0.0.9".parse().unwrap()),
            ..Default::default()
        };
        let near = Socket::connect(address, &options).await.unwrap();
        let far = listener.accept().await.unwrap();
        assert_eq!(far.peer_addr().unwrap(), near.local_addr().unwrap());
        assert_eq!(near.local_addr().unwrap().ip().to_string(), "127.0.0.9");
        let set = socket2::SockRef::from(&*near.connection);
        assert!(set.keepalive().unwrap() && set.tcp_nodelay().unwrap());
        assert_eq!(set.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
        assert_eq!(set.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
        assert!(socket2::SockRef::from(&*far.connection).tcp_nodelay().unwrap(), "inherited from the listener");
    });
}

#[test]
fn a_connect_that_is_given_up_leaves_nothing() {
    run(async {
        // A full backlog leaves a connection unanswered, as a firewall that drops packets does.
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut kept = Vec::new();
        let given_up = loop {
            let options = ConnectOptions::default();
            match timeout(Duration::from_millis(100), Socket::connect(address, &options)).await {
                Ok(socket) => kept.push(socket.unwrap()),
                Err(elapsed) => break elapsed,
            }
            assert!(kept.len() < 10, "the backlog never fills");
        };
        assert_eq!(given_up, Elapsed);
        let open = kept.len();
        settled(|stats| stats.open_sockets == open && stats.operations == 1).await;
    });
}

#[test]
fn connect_errors_come_through() {
    run(async {
        let address = "255.255.255.255:9".parse().unwrap();
        let error = Socket::connect(address, &ConnectOptions::default()).await.unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
    });
}

#[test]
fn original_destination_is_not_made_up() {
    run(async {
        let (_near, far) = pair().await;
        // Without a redirect there is none, or it is the listener's own address; never something else.
        match far.original_dst(far.peer_addr().unwrap()) {
            Ok(address) => assert_eq!(address, far.local_addr().unwrap()),
            Err(error) => assert!(matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOPROTOOPT)), "{error}"),
        }
    });
}

#[test]
fn a_dropped_listener_frees_what_nobody_took() {
    run(async {
        let (listener, address) = listen();
        let first = Socket::connect(address, &ConnectOptions::default()).await.unwrap();
        let second = Socket::connect(address, &ConnectOptions::default()).await.unwrap();
        drop(listener.accept().await.unwrap());
        drop(listener);
        for socket in [first, second] {
            assert!(!matches!(socket.recv().await, Ok(Some(_))), "an end or a reset, whichever the kernel chooses");
        }
    });
}

#[test]
fn what_is_queued_when_the_engine_is_dropped_still_arrives() {
    let mut engine = Engine::new(options()).unwrap();
    let bytes = pattern(4 << 20, 2);
    let peer = engine.run(async {
        let (listener, address) = listen();
        let peer = std::thread::spawn(move || {
            let mut received = Vec::new();
            TcpStream::connect(address).unwrap().read_to_end(&mut received).unwrap();
            received
        });
        let socket = listener.accept().await.unwrap();
        drop(socket.send(bytes.clone()));
        peer
    });
    drop(engine);
    assert!(peer.join().unwrap() == bytes);
}

#[test]
fn a_socket_that_outlives_its_engine_answers_with_errors() {
    let mut engine = Engine::new(options()).unwrap();
    let (near, far) = engine.run(pair());
    drop(engine);
    run(async {
        assert_eq!(far.recv().await.unwrap_err().raw_os_error(), Some(libc::ESHUTDOWN));
        assert_eq!(near.send(b"x").await.unwrap_err().raw_os_error(), Some(libc::ESHUTDOWN));
        drop((near, far));
    });
}

#[test]
fn an_engine_that_is_dropped_in_the_middle_frees_everything() {
    let mut engine = Engine::new(options()).unwrap();
    let (kept, sockets) = engine.run(async {
        let (listener, _) = listen();
        spawn(async move { drop(listener.accept().await) });
        let (near, far) = pair().await;
        let sockets = [identity(&near), identity(&far)];
        drop(near.send(vec![0; 32 << 20]));
        spawn(async move {
            let _ = far.recv().await;
            std::future::pending::<()>().await;
        });
        (near, sockets)
    });
    drop(engine);
    drop(kept);
    assert_eq!(sockets.each_ref().map(is_open), [false, false]);
    run(async { sleep(Duration::from_millis(1)).await });
}

/// Segments that the kernel has taken in for a connection (`tcpi_segs_in` of linux/tcp.h).
#[allow(unsafe_code, reason = "a socket option that no crate has")]
fn segments(stream: &TcpStream) -> u32 {
    // SAFETY: numbers only, for which zeros are values.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
    let (level, option, place) = (libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast());
    // SAFETY: the kernel writes no more than `size` bytes, and both live until the call returns.
    let result = unsafe { libc::getsockopt(stream.as_raw_fd(), level, option, place, &raw mut size) };
    assert_eq!(result, 0);
    info.tcpi_segs_in
}

#[test]
fn the_end_travels_with_the_last_bytes() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for finishes in [false, true] {
            let near = Socket::connect(address, &ConnectOptions::default()).await.unwrap();
            let (mut far, _) = listener.accept().unwrap();
            near.send(b"first").await.unwrap();
            near.flush().await.unwrap();
            let mut first = [0; 5];
            far.read_exact(&mut first).unwrap();
            let before = segments(&far);
            drop(near.send(b"last"));
            if finishes {
                near.shutdown_write().await.unwrap();
            }
            drop(near);
            settled(|stats| stats.open_sockets == 0).await;
            let mut last = Vec::new();
            far.read_to_end(&mut last).unwrap();
            assert_eq!((&last[..], segments(&far) - before), (&b"last"[..], 1));
        }
    });
}
