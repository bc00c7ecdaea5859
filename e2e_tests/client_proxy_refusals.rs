//! Proxies that open no tunnel, on the stage of `client_proxies`.

use std::net::{Shutdown, TcpListener};

use wsloop::{
    Config, Connect, ConnectError,
    protocol::{
        handshake::ResponseError,
        proxy::{CredentialsError, ProxyError, SocksReply},
    },
};

use super::{
    client_proxies::{HTTP_OPEN, KINDS, Kind, SOCKS_OPEN, Scene, URL},
    support::{Peer, Server},
};

/// The proxy hangs up.
fn expect_eof(scene: &Scene, peer: Peer) -> ConnectError {
    peer.stream.shutdown(Shutdown::Write).unwrap();
    scene.expect_failed(peer)
}

#[test]
fn refusals_of_an_http_proxy_have_their_status() {
    let scene = Scene::new();
    for status in [302, 403, 407, 502, 503] {
        let mut peer = scene.ask(Kind::Http);
        peer.write(format!("HTTP/1.1 {status} No\r\nContent-Length: 3\r\n\r\nno!").as_bytes());
        let refused = ConnectError::Proxy(ProxyError::Refused { status });
        assert_eq!(scene.expect_failed(peer), refused);
    }
}

#[test]
fn refusals_of_a_socks5_proxy_have_their_code() {
    let scene = Scene::new();
    let codes = [
        (1, SocksReply::GeneralFailure),
        (2, SocksReply::NotAllowed),
        (3, SocksReply::NetworkUnreachable),
        (4, SocksReply::HostUnreachable),
        (5, SocksReply::ConnectionRefused),
        (6, SocksReply::TtlExpired),
        (7, SocksReply::CommandNotSupported),
        (8, SocksReply::AddressTypeNotSupported),
        (9, SocksReply::Unassigned(9)),
    ];
    for (code, reply) in codes {
        let mut peer = scene.ask(Kind::Socks5);
        peer.write(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
        let refused = ConnectError::Proxy(ProxyError::SocksRefused(reply));
        assert_eq!(scene.expect_failed(peer), refused);
    }
}

#[test]
fn a_socks5_proxy_that_wants_credentials_gets_none() {
    let scene = Scene::new();
    let mut peer = scene.dial(Connect::to(URL).unwrap().proxy(scene.proxy(Kind::Socks5)));
    assert_eq!(peer.take(3), b"\x05\x01\x00");
    peer.write(b"\x05\xff");
    assert_eq!(
        scene.expect_failed(peer),
        ConnectError::Proxy(ProxyError::NoAcceptableMethod)
    );
}

#[test]
fn wrong_credentials_are_told_from_other_refusals() {
    let scene = Scene::new();
    let connect = |kind| {
        let proxy = scene.proxy(kind).credentials("user", "wrong");
        Connect::to(URL).unwrap().proxy(proxy)
    };
    let mut peer = scene.dial(connect(Kind::Http));
    peer.read_request();
    assert_eq!(peer.fields("Proxy-Authorization").len(), 1);
    peer.write(b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n");
    let refused = ProxyError::Refused { status: 407 };
    assert_eq!(scene.expect_failed(peer), ConnectError::Proxy(refused));

    let mut peer = scene.dial(connect(Kind::Socks5));
    peer.take(4);
    peer.write(b"\x05\x02");
    assert_eq!(peer.take(12), b"\x01\x04user\x05wrong");
    peer.write(b"\x01\x01");
    let refused = ProxyError::AuthenticationFailed;
    assert_eq!(scene.expect_failed(peer), ConnectError::Proxy(refused));
}

#[test]
fn credentials_that_cannot_be_told_are_told_to_nobody() {
    let scene = Scene::new();
    let long = "x".repeat(256);
    for (kind, user, password, error) in [
        (Kind::Http, "us:er", "secret", CredentialsError::ColonInUser),
        (Kind::Socks5, "", "secret", CredentialsError::EmptyUser),
        (Kind::Socks5, "user", &*long, CredentialsError::TooLong),
    ] {
        let proxy = scene.proxy(kind).credentials(user, password);
        let peer = scene.dial(Connect::to(URL).unwrap().proxy(proxy));
        assert_eq!(scene.expect_failed(peer), ConnectError::Credentials(error));
    }
}

#[test]
fn what_is_no_proxy_is_called_so() {
    let scene = Scene::new();
    let endless = [b"HTTP/1.1 200 OK\r\nX: ", &[b'x'; 9000][..]].concat();
    let answers: [(Kind, &[u8], ProxyError); 4] = [
        (
            Kind::Http,
            &endless,
            ProxyError::InvalidResponse(ResponseError::HeadTooLarge),
        ),
        (
            Kind::Socks5,
            b"HTTP/1.1 400 No\r\n\r\n",
            ProxyError::UnsupportedSocksVersion(b'H'),
        ),
        (
            Kind::Socks5,
            b"\x05\x00\x00\x09",
            ProxyError::InvalidAddressType(9),
        ),
        (
            Kind::Socks5,
            b"\x04\x5a",
            ProxyError::UnsupportedSocksVersion(4),
        ),
    ];
    for (kind, answer, error) in answers {
        let mut peer = scene.ask(kind);
        peer.write(answer);
        assert_eq!(scene.dialler.expect_failed(), ConnectError::Proxy(error));
    }
    let mut peer = scene.ask(Kind::Http);
    peer.write(b"SSH-2.0-x\r\n\r\n");
    let ConnectError::Proxy(ProxyError::InvalidResponse(_)) = scene.expect_failed(peer) else {
        panic!("not an invalid answer")
    };
}

#[test]
fn a_proxy_that_hangs_up_inside_the_handshake_is_the_end() {
    let scene = Scene::new();
    let answers: [(Kind, &[u8]); 5] = [
        (Kind::Http, b""),
        (Kind::Http, b"HTTP/1.1 20"),
        (Kind::Http, &HTTP_OPEN[..HTTP_OPEN.len() - 1]),
        (Kind::Socks5, b""),
        (Kind::Socks5, &SOCKS_OPEN[..SOCKS_OPEN.len() - 1]),
    ];
    let eof = ConnectError::Io(std::io::ErrorKind::UnexpectedEof);
    for (kind, answer) in answers {
        let mut peer = scene.ask(kind);
        peer.write(answer);
        assert_eq!(expect_eof(&scene, peer), eof, "{kind:?} {answer:?}");
    }
    // Behind the greeting.
    let mut peer = scene.dial(Connect::to(URL).unwrap().proxy(scene.proxy(Kind::Socks5)));
    peer.take(3);
    assert_eq!(expect_eof(&scene, peer), eof);
    // Behind the tunnel's beginning, where it is the server's end.
    for kind in KINDS {
        let mut peer = scene.ask(kind);
        peer.write(kind.open());
        peer.read_request();
        assert_eq!(expect_eof(&scene, peer), eof, "{kind:?}");
    }
}

#[test]
fn a_proxy_that_is_not_there_is_the_last_error() {
    let dialler = Server::dialler(Config::default());
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    for kind in KINDS {
        let connect = Connect::to(URL).unwrap().proxy(kind.proxy(port));
        dialler.try_dial(connect, 1).unwrap();
        let refused = ConnectError::Io(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(dialler.expect_failed(), refused);
    }
}
