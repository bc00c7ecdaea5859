use std::{error::Error, time::Duration};

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    Client, ClientState, CloseCode, Config, Conn, Connect, Handler, Message, MessageKind,
};

use super::PAYLOAD;

struct Spinner {
    left: usize,
}

impl Handler for Spinner {
    type Session = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.send_copy(MessageKind::Binary, &[b'x'; PAYLOAD as usize])
            .expect("room");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        self.left -= 1;
        if self.left == 0 {
            conn.close(CloseCode::NORMAL, "").expect("a valid code");
        } else {
            conn.send_copy(message.kind(), message.as_bytes())
                .expect("room");
        }
    }
}

/// The client that is counted: one message in flight, and never a poll.
pub fn spin(url: &str, messages: usize) -> Result<(), Box<dyn Error>> {
    // A fixed seed: the server is our own, on this machine.
    let rng = ChaCha20Rng::from_seed([9; 32]);
    let mut client = Client::new(Config::default(), rng)?;
    client
        .connect(Connect::to(url)?, ())
        .map_err(|error| error.to_string())?;
    let mut app = Spinner { left: messages };
    while client.turn(&mut app, Some(Duration::ZERO))? != ClientState::Idle {}
    if app.left == 0 {
        Ok(())
    } else {
        Err(format!("{} messages are missing", app.left).into())
    }
}
