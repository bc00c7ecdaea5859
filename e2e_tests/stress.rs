use std::{io::Write, net::Shutdown, time::Duration};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use wsloop::{Config, Stats};

use super::support::{Client, Frame, Server, masked_frame, pattern, upgrade_request};

/// Makes the next `drop` a reset.
fn reset(client: Client) {
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    rng.next_u32() % bound
}

fn size(rng: &mut ChaCha8Rng) -> usize {
    let largest = [0, 10, 130, 5000, 70_000, 300_000][below(rng, 6) as usize];
    below(rng, largest + 1) as usize
}

/// Cuts a message into fragments with pings between.
fn encode(rng: &mut ChaCha8Rng, payload: &[u8], pings: &mut Vec<u8>) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut rest = payload;
    let mut first_byte = 0x02;
    while below(rng, 3) == 0 {
        let (part, after) = rest.split_at(below(rng, rest.len() as u32 + 1) as usize);
        wire.extend(masked_frame(first_byte, part));
        (first_byte, rest) = (0x00, after);
        if below(rng, 2) == 0 {
            let number = pings.len() as u8;
            pings.push(number);
            wire.extend(masked_frame(0x89, &[number]));
        }
    }
    wire.extend(masked_frame(0x80 | first_byte, rest));
    wire
}

/// One client's life. True when it ended in order.
fn live(server: std::net::SocketAddr, seed: u64) -> bool {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut client = Client::raw(server);
    if below(rng, 20) == 0 {
        // Gives up in the handshake.
        let request = upgrade_request("/", "");
        client.write(&request.as_bytes()[..below(rng, request.len() as u32) as usize]);
        reset(client);
        return false;
    }
    client.write(upgrade_request("/", "").as_bytes());
    assert_eq!(client.read_head().status, 101);
    for round in 0..12u32 {
        let (mut wire, mut payloads, mut pings) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..1 + below(rng, 4) {
            let payload = pattern(size(rng), round * 10 + at);
            wire.extend(encode(rng, &payload, &mut pings));
            payloads.push(payload);
        }
        let abort = below(rng, 40) == 0;
        if abort {
            wire.truncate(below(rng, wire.len() as u32 + 1) as usize);
        }
        let mut stream = client.stream.try_clone().unwrap();
        let mut chunk_rng = ChaCha8Rng::seed_from_u64(seed ^ u64::from(round));
        let writer = std::thread::spawn(move || {
            let mut rest = &wire[..];
            while !rest.is_empty() {
                let step = 1 + size(&mut chunk_rng).min(rest.len() - 1);
                stream.write_all(&rest[..step]).unwrap();
                rest = &rest[step..];
            }
        });
        if abort {
            writer.join().unwrap();
            match below(rng, 3) {
                0 => reset(client),
                1 => client.stream.shutdown(Shutdown::Write).unwrap(),
                _ => {}
            }
            return false;
        }
        let mut answered = None;
        for payload in payloads {
            loop {
                let frame = client.read_frame();
                if frame.opcode == 2 {
                    assert!(
                        frame == Frame::binary(payload),
                        "seed {seed}, round {round}"
                    );
                    break;
                }
                assert_eq!(frame.opcode, 10);
                // Newer pings may have taken the place of older ones.
                assert!(Some(frame.payload[0]) > answered, "seed {seed}");
                answered = Some(frame.payload[0]);
            }
        }
        while !pings.is_empty() && answered != pings.last().copied() {
            let frame = client.read_frame();
            assert_eq!(frame.opcode, 10, "seed {seed}");
            answered = Some(frame.payload[0]);
        }
        writer.join().unwrap();
    }
    client.send_close(1000, "");
    client.expect_close(1000);
    true
}

fn is_empty(stats: &Stats) -> bool {
    stats.connections.current == 0 && stats.handshakes.current == 0
}

#[test]
fn two_hundred_random_lives() {
    let configs = [
        Config::default(),
        Config::default()
            .turn_messages(3)
            .turn_bytes(10_000)
            .send_buffer_size(Some(30_000))
            .read_buffer_size(300)
            .large_buffer_size(2000)
            .max_head_size(1000)
            .scratch_size(10_000)
            .high_water(5000)
            .low_water(1000)
            .events_capacity(3),
    ];
    for (at, config) in configs.into_iter().enumerate() {
        let server = Server::start(config, |_| {});
        let addr = server.addr;
        let lives: Vec<_> = (0..100)
            .map(|seed| std::thread::spawn(move || live(addr, at as u64 * 1000 + seed)))
            .collect();
        let in_order = lives
            .into_iter()
            .map(|life| life.join().unwrap())
            .filter(|in_order| *in_order)
            .count();
        assert!((30..100).contains(&in_order), "{in_order}");
        let stats = server.wait_for("all have ended", is_empty);
        assert_eq!(stats.read_buffers.current, 0, "{stats:#?}");
        assert_eq!(stats.large_buffers.current, 0, "{stats:#?}");
        assert_eq!(
            stats.closed.protocol + stats.closed.application,
            0,
            "{stats:#?}"
        );
        assert_eq!(stats.closed.peer, in_order as u64);
    }
}

/// The example server is in a process of its own: in this one the other tests have descriptors too.
#[test]
fn thousands_of_resets_leave_nothing() {
    let mut server = super::support::EchoServer::start(None);
    let descriptors = server.descriptors();
    let own = Server::echo();
    for batch in 0..50 {
        // The example for its descriptors, the server in here for its slots.
        for addr in [server.addr, own.addr] {
            let mut clients: Vec<Client> = (0..50).map(|_| Client::raw(addr)).collect();
            for client in &mut clients {
                client.write(upgrade_request("/", "").as_bytes());
            }
            for (at, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.read_head().status, 101);
                if at % 3 == 0 {
                    client.send_binary(&pattern(300, batch));
                    assert_eq!(client.read_frame(), Frame::binary(pattern(300, batch)));
                } else if at % 3 == 1 {
                    // Half a message is under way.
                    client.write(&masked_frame(0x82, &pattern(9000, batch))[..5000]);
                }
            }
            clients.into_iter().for_each(reset);
        }
    }
    let stats = own.wait_for("all have ended", is_empty);
    assert_eq!(stats.opened, 2500);
    assert_eq!(stats.read_buffers.current + stats.large_buffers.current, 0);
    assert!(stats.connections.peak <= 200, "{stats:#?}");
    let end = std::time::Instant::now() + super::support::DEADLINE;
    while server.descriptors() > descriptors {
        assert!(std::time::Instant::now() < end, "descriptors are left");
    }
    server.signal("TERM");
    assert!(server.wait().success());
}
