use std::{io, time::Instant};

use mio::Interest;

use super::{Handshake, Server, answer};
use crate::{
    driver::{Adopted, Core, Driver, Handler, ListenerId, Shared, Timer},
    memory::Key,
    transport::{ListenAddr, Listener, PeerAddr, Stream, TokenKind, is_clients_fault},
};

/// A listener on the loop.
pub(crate) struct Port {
    listener: Listener,
    /// True exactly when connections may be waiting: the kernel said so and accepting has not shown since that there is
    /// none left.
    pending: bool,
}

impl<S> Server<S> {
    /// Binds a listener and puts it on the loop.
    pub(crate) fn listen(
        &mut self,
        address: &ListenAddr,
        shared: &Shared,
    ) -> io::Result<ListenerId> {
        if shared.shutting_down {
            return Err(io::Error::other("the loop shuts down"));
        }
        let mut listener = Listener::bind(address, &shared.settings.sockets())?;
        let entry = self.ports.vacant_entry();
        let index = entry.key();
        let name = (TokenKind::Listener, port_key(index));
        shared
            .registrar
            .register(&mut listener, name, Interest::READABLE)?;
        entry.insert(Port {
            listener,
            pending: false,
        });
        Ok(ListenerId(index))
    }

    pub(crate) fn local_addr(&self, id: ListenerId) -> io::Result<ListenAddr> {
        self.ports
            .get(id.0)
            .ok_or(io::ErrorKind::NotFound)?
            .listener
            .local_addr()
    }

    /// A listener has connections waiting.
    pub(crate) fn handle_listener(&mut self, key: Key) {
        if let Some(port) = self.ports.get_mut(key.index() as usize) {
            port.pending = true;
        }
    }

    /// Accepts what waits, as far as there is room for handshakes.
    pub(crate) fn accept<H: Handler<M, Session = S>, M>(&mut self, driver: &mut Driver<'_, H, M>) {
        if self.backing_off {
            return;
        }
        for index in 0..self.ports.capacity() {
            for _ in 0..driver.core.shared.settings.config.accept_batch {
                if self.backing_off || !self.has_room(driver.core) {
                    return;
                }
                if !self.accept_one(index, driver) {
                    break;
                }
            }
        }
    }

    /// True exactly when `accept` would find something to do although no event says so.
    pub(crate) fn has_work(&self, core: &Core<S>) -> bool {
        !self.backing_off && self.has_room(core) && self.ports.iter().any(|(_, port)| port.pending)
    }

    fn has_room(&self, core: &Core<S>) -> bool {
        // Those that wait to be adopted were promised their place.
        self.handshakes.len() + core.adopted() < core.shared.settings.config.max_handshakes
    }

    /// False when there is nothing more to accept for now.
    fn accept_one<H: Handler<M, Session = S>, M>(
        &mut self,
        index: usize,
        driver: &mut Driver<'_, H, M>,
    ) -> bool {
        let shared = &mut driver.core.shared;
        let Some(port) = self.ports.get_mut(index) else {
            return false;
        };
        if !port.pending {
            return false;
        }
        match port.listener.accept(&shared.settings.sockets()) {
            Ok((stream, peer)) => {
                shared.counters.rare().accepted += 1;
                self.admit(stream, peer, Some(ListenerId(index)), driver.core);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                port.pending = false;
                false
            }
            Err(error) if is_clients_fault(&error) => true,
            Err(error) => {
                trace!("accepting pauses", error);
                self.backing_off = true;
                shared.counters.rare().accept_backoffs += 1;
                let until = shared.now + shared.settings.config.accept_backoff;
                shared.timers.insert(until, Timer::Accept);
                false
            }
        }
    }

    /// The pause after exhaustion is over.
    pub(crate) fn resume_accepting(&mut self) {
        self.backing_off = false;
    }

    /// Takes over the sockets that the application adopted.
    pub(crate) fn adopt<H: Handler<M, Session = S>, M>(&mut self, driver: &mut Driver<'_, H, M>) {
        while let Some(Adopted { stream, bytes }) = driver
            .core
            .serving
            .as_mut()
            .and_then(|it| it.adopted.pop_front())
        {
            let shared = &mut driver.core.shared;
            shared.counters.rare().adopted += 1;
            if let Stream::Tcp(tcp) = &stream {
                // Options are wishes: a socket that does not take them is still a socket.
                let _ = shared.settings.sockets().apply_connected(tcp);
            }
            let peer = stream.peer_addr();
            if let Some(key) = self.admit(stream, peer, None, driver.core) {
                self.take_head_bytes(key, &bytes, driver);
            }
        }
    }

    /// Gives a socket a handshake slot, its events and its deadline. The events are named after the connection that it may
    /// become, whose slot is reserved: so the poll is told of the socket once.
    fn admit(
        &mut self,
        stream: Stream,
        peer: PeerAddr,
        listener: Option<ListenerId>,
        core: &mut Core<S>,
    ) -> Option<Key> {
        let key = self
            .handshakes
            .insert(Handshake::new(stream, peer, listener));
        let handshake = self.handshakes.get_mut(key)?;
        handshake.place = core.slots.reserve(key);
        let shared = &mut core.shared;
        let name = (TokenKind::Connection, handshake.place);
        if shared
            .registrar
            .register(&mut handshake.stream, name, Interest::READABLE)
            .is_err()
        {
            shared.counters.rare().refused.lost += 1;
            self.remove(key, core);
            return None;
        }
        let deadline: Instant = shared.now + shared.settings.config.upgrade_timeout;
        handshake.timer = Some(shared.timers.insert(deadline, Timer::Handshake(key)));
        answer::note_handshakes(self.handshakes.len(), shared);
        Some(key)
    }

    /// Stops listening: new connections are refused by the kernel.
    pub(super) fn close_ports(&mut self) {
        // Closing the descriptor takes it out of the poll.
        self.ports.clear();
    }
}

/// Listeners are named by their index alone: they are never replaced.
fn port_key(index: usize) -> Key {
    Key::from_parts(u32::try_from(index).unwrap_or(u32::MAX), 0)
}
