use std::time::Duration;

use wsloop::{Config, HandshakeFailure, HeaderError, HttpResponse, UpgradeId};

use super::support::{Client, Event, Frame, Server, Session, masked_frame, upgrade_request};

/// A server that puts every answer off.
fn deferring(config: Config) -> Server {
    Server::start(config, |app| {
        app.on_upgrade = Some(Box::new(|_, response| {
            response.defer();
            response.header("X-Early", "1").unwrap();
            Ok(())
        }));
    })
}

fn expect_deferred(server: &Server) -> UpgradeId {
    server.expect("on_deferred", |event| match event {
        Event::Deferred(id) => Some(*id),
        _ => None,
    })
}

fn expect_failure(server: &Server) -> HandshakeFailure {
    server.expect("on_handshake_failed", |event| match event {
        Event::HandshakeFailed(failure) => Some(*failure),
        _ => None,
    })
}

fn ask(server: &Server, more: &str, behind: &[u8]) -> Client {
    let mut client = Client::raw(server.addr);
    client.write(&[upgrade_request("/", more).as_bytes(), behind].concat());
    client
}

fn accept(server: &Server, id: UpgradeId) {
    server.with(move |_, connections| connections.deferred(id).unwrap().accept());
}

fn is_stale(server: &Server, id: UpgradeId) -> bool {
    server.with(move |_, connections| connections.deferred(id).is_none())
}

#[test]
fn an_upgrade_is_accepted_later_with_what_was_added_before_and_after() {
    let server = deferring(Config::default());
    let mut client = ask(&server, "Sec-WebSocket-Protocol: a, b\r\n", b"");
    let id = expect_deferred(&server);
    assert_eq!(server.stats().handshakes.current, 1);
    server.with(move |_, connections| {
        let mut deferred = connections.deferred(id).unwrap();
        assert_eq!(deferred.id(), id);
        assert!(deferred.offers().eq(["a", "b"]));
        assert_eq!(deferred.subprotocol("c"), Err(HeaderError::NotOffered));
        deferred.subprotocol("b").unwrap();
        assert_eq!(deferred.chosen_subprotocol(), Some("b"));
        deferred.header("X-Late", "2").unwrap();
        deferred.session_mut().messages = 41;
        deferred.accept();
        assert!(connections.deferred(id).is_none(), "it is decided");
    });
    let answer = client.expect_upgrade();
    assert_eq!(answer.header("sec-websocket-protocol"), Some("b"));
    assert_eq!(answer.header("x-early"), Some("1"));
    assert_eq!(answer.header("x-late"), Some("2"));
    let conn = server.expect_open();
    client.send_text("hello");
    assert_eq!(client.read_frame(), Frame::text("hello"));
    let messages = server.with(move |_, connections| {
        let conn = connections.get(conn).unwrap();
        conn.session().messages
    });
    assert_eq!(messages, 42, "the session is the same");
    assert!(is_stale(&server, id));
    assert_eq!(server.stats().handshakes.current, 0);
}

#[test]
fn frames_behind_the_request_wait_for_the_answer() {
    let server = deferring(Config::default());
    let frames = [masked_frame(0x81, b"one"), masked_frame(0x81, b"two")].concat();
    // With the request, in part with it, and behind it while nobody reads.
    for cut in [frames.len(), 5, 0] {
        let mut client = ask(&server, "", &frames[..cut]);
        let id = expect_deferred(&server);
        client.write(&frames[cut..]);
        server.with(|_, _| ());
        assert_eq!(server.stats().received.messages % 2, 0);
        accept(&server, id);
        client.expect_upgrade();
        assert_eq!(client.read_frame(), Frame::text("one"));
        assert_eq!(client.read_frame(), Frame::text("two"));
    }
}

#[test]
fn an_upgrade_is_refused_later_and_the_session_comes_back() {
    let server = deferring(Config::default());
    let mut client = ask(&server, "", &masked_frame(0x81, b"dropped"));
    let id = expect_deferred(&server);
    let session = server.with(move |_, connections| {
        let mut deferred = connections.deferred(id).unwrap();
        deferred.session_mut().messages = 7;
        let answer = HttpResponse::new(502).unwrap().text("upstream says no");
        let session = deferred.refuse(answer);
        assert!(connections.deferred(id).is_none());
        session
    });
    assert_eq!(
        session,
        Session {
            messages: 7,
            ..Session::default()
        }
    );
    let answer = client.read_answer();
    assert_eq!((answer.status, &*answer.body), (502, "upstream says no"));
    drop(client);
    let stats = server.wait_for("the end of the handshake", |stats| {
        stats.handshakes.current == 0
    });
    assert_eq!(stats.refused.application, 1);
    let failed = |event: &Event| matches!(event, Event::HandshakeFailed(_));
    assert!(!server.events().iter().any(failed), "it came back once");
}

#[test]
fn it_can_be_decided_at_once() {
    let server = Server::start(Config::default(), |app| {
        app.on_upgrade = Some(Box::new(|_, response| {
            response.defer();
            Ok(())
        }));
        app.on_deferred = Some(Box::new(|connections, id| {
            connections.deferred(id).unwrap().accept();
        }));
    });
    let mut client = server.connect();
    client.send_text("hello");
    assert_eq!(client.read_frame(), Frame::text("hello"));
}

#[test]
fn without_a_decision_the_answer_is_503_in_time() {
    let config = Config::default()
        .upgrade_timeout(Duration::from_millis(50))
        .retry_after(9);
    let server = deferring(config);
    let mut client = ask(&server, "", b"");
    let id = expect_deferred(&server);
    let answer = client.read_answer();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("9"));
    assert_eq!(expect_failure(&server), HandshakeFailure::Timeout);
    assert!(is_stale(&server, id));
    assert_eq!(server.stats().refused.timeout, 1);
}

#[test]
fn a_client_that_leaves_is_noticed() {
    let server = deferring(Config::default());
    for leave_late in [true, false] {
        let hold = (!leave_late).then(|| server.hold());
        let client = ask(&server, "", b"");
        if leave_late {
            let id = expect_deferred(&server);
            drop(client);
            expect_failure(&server);
            assert!(is_stale(&server, id));
        } else {
            // The request and the end come at once.
            drop(client);
            drop(hold);
            let id = expect_deferred(&server);
            expect_failure(&server);
            assert!(is_stale(&server, id));
        }
    }
    let stats = server.stats();
    assert_eq!((stats.refused.lost, stats.handshakes.current), (2, 0));
}

#[test]
fn a_client_that_leaves_behind_the_decision_loses_nothing() {
    let server = deferring(Config::default());
    for refuse in [false, true] {
        let client = ask(&server, "", b"");
        let id = expect_deferred(&server);
        let hold = server.hold_then(move |app, connections| {
            let deferred = connections.deferred(id).unwrap();
            if refuse {
                deferred.refuse(HttpResponse::forbidden());
            } else {
                deferred.accept();
            }
            app.report(Event::Note("decided".to_owned()));
        });
        drop(client);
        drop(hold);
        server.expect_note("decided");
        server.wait_for("the end", |stats| {
            stats.handshakes.current + stats.connections.current == 0
        });
        // Accepted: it opened and ended, or its session came back.
        let is_end = |event: &&Event| matches!(event, Event::HandshakeFailed(_) | Event::Close(..));
        let ends = server.events().iter().filter(is_end).count();
        assert_eq!(ends, usize::from(!refuse));
    }
}

#[test]
fn a_shutdown_answers_with_503() {
    let server = deferring(Config::default());
    let mut client = ask(&server, "", b"");
    expect_deferred(&server);
    server.with(|_, connections| connections.shutdown(Duration::from_secs(10)));
    assert_eq!(client.read_answer().status, 503);
    assert_eq!(expect_failure(&server), HandshakeFailure::Shutdown);
    drop(client);
    let stopped = server.stop(Duration::from_secs(10));
    assert_eq!(stopped.shutdown.forced, 0);
    assert_eq!(stopped.stats.refused.shutdown, 1);
}

#[test]
fn a_forced_end_gives_the_session_back() {
    let server = deferring(Config::default());
    let _client = ask(&server, "", b"");
    expect_deferred(&server);
    let stopped = server.stop(Duration::ZERO);
    assert_eq!(stopped.stats.refused.shutdown, 1);
    assert_eq!(stopped.shutdown.forced, 1);
}

#[test]
fn a_stale_id_is_never_another_upgrade() {
    let server = deferring(Config::default());
    let mut first = ask(&server, "", b"");
    let stale = expect_deferred(&server);
    accept(&server, stale);
    first.expect_upgrade();
    // In the same place.
    let mut second = ask(&server, "", b"");
    let id = expect_deferred(&server);
    assert_ne!(stale, id);
    assert!(is_stale(&server, stale));
    accept(&server, id);
    second.expect_upgrade();
}

#[test]
fn what_is_put_off_counts_as_a_connection() {
    let config = Config::default().max_connections(1).initial_connections(1);
    let server = deferring(config);
    let mut first = ask(&server, "", b"");
    let id = expect_deferred(&server);
    let mut second = ask(&server, "", b"");
    assert_eq!(second.read_answer().status, 503);
    server.with(move |_, connections| {
        let deferred = connections.deferred(id).unwrap();
        deferred.refuse(HttpResponse::forbidden());
    });
    assert_eq!(first.read_answer().status, 403);
    let mut third = ask(&server, "", b"");
    let id = expect_deferred(&server);
    accept(&server, id);
    third.expect_upgrade();
    let mut fourth = ask(&server, "", b"");
    assert_eq!(fourth.read_answer().status, 503);
}
