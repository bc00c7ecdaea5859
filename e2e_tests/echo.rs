use super::support::{Client, Frame, Server, masked_frame, pattern};

/// Around every threshold: header forms, read buffer, large buffer.
const SIZES: [usize; 15] = [
    0, 1, 2, 20, 124, 125, 126, 127, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_000,
];

#[test]
fn every_size_and_kind_comes_back() {
    let server = Server::echo();
    let mut client = server.connect();
    for size in SIZES {
        let payload = pattern(size, 1);
        client.send_binary(&payload);
        assert_eq!(client.read_frame(), Frame::binary(payload), "{size}");
        let text = "ü".repeat(size / 2);
        client.send_text(&text);
        assert_eq!(client.read_frame(), Frame::text(&text), "{size}");
    }
}

#[test]
fn sixteen_mebibytes_come_back() {
    let server = Server::echo();
    let mut client = server.connect();
    let payload = pattern(16 << 20, 2);
    let wire = masked_frame(0x82, &payload);
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &wire).unwrap());
    assert_eq!(client.read_frame(), Frame::binary(payload));
    sender.join().unwrap();
}

#[test]
fn many_in_one_write_come_back_in_order() {
    let server = Server::echo();
    let mut client = server.connect();
    let wire: Vec<u8> = (0..1000)
        .flat_map(|at| masked_frame(0x82, &pattern(at % 300, at as u32)))
        .collect();
    client.write(&wire);
    for at in 0..1000 {
        assert_eq!(
            client.read_frame(),
            Frame::binary(pattern(at % 300, at as u32))
        );
    }
}

#[test]
fn a_stream_that_comes_byte_by_byte_is_the_same_stream() {
    let server = Server::echo();
    let mut client = server.connect();
    let wire = [
        masked_frame(0x81, "häppchen".as_bytes()),
        masked_frame(0x82, &pattern(300, 3)),
    ]
    .concat();
    for byte in wire {
        client.write(&[byte]);
    }
    assert_eq!(client.read_frame(), Frame::text("häppchen"));
    assert_eq!(client.read_frame(), Frame::binary(pattern(300, 3)));
}

#[test]
fn connections_do_not_mix() {
    let server = Server::echo();
    let mut clients: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    for round in 0..20 {
        for (at, client) in clients.iter_mut().enumerate() {
            client.send_binary(&pattern(1 + round * 37, at as u32));
        }
        for (at, client) in clients.iter_mut().enumerate() {
            assert_eq!(
                client.read_frame(),
                Frame::binary(pattern(1 + round * 37, at as u32))
            );
        }
    }
}

#[test]
fn several_slices_are_one_message() {
    let server = Server::start(wsloop::Config::default(), |app| {
        app.on_message = Some(Box::new(|conn, message| {
            let (front, back) = message.as_bytes().split_at(message.as_bytes().len() / 3);
            let parts = [front, b"", back, b"!"].map(std::io::IoSlice::new);
            conn.send_copy_vectored(message.kind(), &parts).unwrap();
        }));
    });
    let mut client = server.connect();
    for size in SIZES {
        let payload = pattern(size, 9);
        client.send_binary(&payload);
        assert_eq!(
            client.read_frame(),
            Frame::binary([&payload[..], b"!"].concat()),
            "{size}"
        );
    }
}
