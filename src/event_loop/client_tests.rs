use std::{
    net::TcpListener,
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
};

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use super::*;
use crate::{
    client::RESOLVER_MAILBOX,
    driver::{ConnectError, Message},
    transport::{Answer, Resolver},
};

const ZERO: Option<Duration> = Some(Duration::ZERO);
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct App {
    failed: Vec<ConnectError>,
}

impl Handler for App {
    type Session = ();

    fn on_message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}

    fn on_connect_failed(&mut self, _: &mut Connections<'_, ()>, (): (), error: ConnectError) {
        self.failed.push(error);
    }
}

/// A client whose names starting with "slow" take until the sender says so, and the others no time. The receiver hears of
/// each as it is begun.
fn client() -> (Client<()>, Receiver<String>, Sender<()>) {
    let (begin, begun) = channel();
    let (release, released) = channel();
    let released = Mutex::new(released);
    let lookup = move |host: &str, port| {
        begin.send(host.to_owned()).map_err(io::Error::other)?;
        if host.starts_with("slow") {
            let _ = released.lock().unwrap().recv();
        }
        Ok(vec![([127, 0, 0, 1], port).into()])
    };
    let resolver = Resolver::with(
        Box::new(lookup),
        1,
        RESOLVER_MAILBOX,
        &Registrar::Alone(None),
    );
    let mut client = Client::new(Config::default(), ChaCha20Rng::from_seed([3; 32])).unwrap();
    client.dialler.set_resolver(resolver.unwrap());
    (client, begun, release)
}

#[test]
fn names_that_nobody_waits_for_any_more_are_not_in_the_way() {
    let (mut client, begun, _release) = client();
    let mut app = App::default();
    for _ in 0..3 {
        let slow = Connect::to("ws://slow/").unwrap();
        let id = client.connect(slow, ()).unwrap();
        client.turn(&mut app, ZERO).unwrap();
        assert_eq!(begun.recv_timeout(DEADLINE).unwrap(), "slow");
        client.connections().cancel_connect(id);
        client.turn(&mut app, ZERO).unwrap();
        assert_eq!(app.failed.pop(), Some(ConnectError::Cancelled));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("ws://fast:{}/", listener.local_addr().unwrap().port());
    client.connect(Connect::to(&url).unwrap(), ()).unwrap();
    let end = Instant::now() + DEADLINE;
    while listener.accept().is_err() {
        client.turn(&mut app, ZERO).unwrap();
        assert!(app.failed.is_empty(), "{:?}", app.failed);
        assert!(Instant::now() < end, "it does not connect");
    }
}

/// Otherwise the next answer would find the bell rung, and would wake nobody.
#[test]
fn a_turn_inside_a_post_of_the_resolver_leaves_the_bell_as_it_was() {
    let (mut client, ..) = client();
    let resolver = Resolver::new(1, RESOLVER_MAILBOX, &Registrar::Alone(None)).unwrap();
    let remote = resolver.remote();
    client.dialler.set_resolver(resolver);
    let mut app = App::default();
    let answer = Answer {
        id: 0,
        result: Ok(Vec::new()),
    };
    assert!(remote.send(answer).is_ok());
    client.turn(&mut app, ZERO).unwrap();
    assert!(remote.rings());
    remote.write();
    client.turn(&mut app, ZERO).unwrap();
    assert!(remote.rings(), "the next one rings");
}
