use std::{io, ops::Range};

use super::{Server, answer::Refusal, handshake::Phase};
use crate::{
    driver::{Answer, Driver, Handler, HandshakeFailure, Opening, UpgradeId},
    memory::Key,
    protocol::handshake::{DeferredResponse, HttpResponse},
};

/// Upgrades that the application answers later.
impl<S> Server<S> {
    /// Has a handshake wait for the application's answer. `leftover` lies in the scratch buffer.
    pub(super) fn defer<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        session: S,
        response: DeferredResponse,
        leftover: Range<usize>,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        let leftover = driver.scratch[leftover].to_vec();
        let id = driver.core.defer(key, response, leftover, session);
        handshake.phase = Phase::Deferred(id);
        driver.tell_deferred(id);
    }

    /// Gives the answers that the application has decided on.
    pub(crate) fn answer_deferred<H: Handler<M, Session = S>, M>(
        &mut self,
        driver: &mut Driver<'_, H, M>,
    ) {
        while let Some(answer) = driver
            .core
            .serving
            .as_mut()
            .and_then(|it| it.upgrades.answers.pop_front())
        {
            match answer {
                Answer::Accept(id) => self.accept_deferred(id, driver),
                Answer::Refuse(id, key, answer) if self.defers(key, id) => {
                    self.refuse(key, answer, true, Refusal::Application, driver.core);
                }
                // The client went away in the meantime.
                Answer::Refuse(..) => {}
            }
        }
    }

    fn accept_deferred<H: Handler<M, Session = S>, M>(
        &mut self,
        id: UpgradeId,
        driver: &mut Driver<'_, H, M>,
    ) {
        // Its reservation ends here; nothing can take its place before the connection opens or reserves again.
        let Some(mut waiting) = driver.core.take_deferred(id) else {
            return;
        };
        debug_assert!(self.defers(waiting.handshake, id));
        let mut params = waiting.response.deflate().copied();
        let agreement = driver.core.shared.pools.agree(&mut params);
        waiting.response.set_deflate(params);
        let opening = Opening {
            session: waiting.session,
            agreement,
        };
        self.answer.clear();
        waiting.response.encode(&mut self.answer);
        let len = waiting.leftover.len();
        driver.scratch[..len].copy_from_slice(&waiting.leftover);
        self.accept_upgrade(waiting.handshake, opening, 0..len, driver);
    }

    fn defers(&self, key: Key, id: UpgradeId) -> bool {
        let phase = self.handshakes.get(key).map(|handshake| &handshake.phase);
        matches!(phase, Some(Phase::Deferred(deferred)) if *deferred == id)
    }

    /// The client of a handshake has ended its side. One that waits for the application is lost.
    pub(super) fn lose_deferred<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        if !matches!(handshake.phase, Phase::Deferred(_)) {
            return;
        }
        let error = handshake.stream.take_error().ok().flatten();
        let kind = error.map_or(io::ErrorKind::UnexpectedEof, |error| error.kind());
        self.abandon(key, HandshakeFailure::Io(kind), driver);
    }

    /// The application did not answer in time, or the loop shuts down: the client gets a 503, and the session comes back.
    pub(super) fn give_up_deferred<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        failure: HandshakeFailure,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(handshake) = self.handshakes.get(key) else {
            return;
        };
        let Phase::Deferred(id) = handshake.phase else {
            return;
        };
        // `None` when the application has just refused: then the client gets that answer.
        let Some(waiting) = driver.core.take_deferred(id) else {
            return;
        };
        let shared = &mut driver.core.shared;
        let answer = HttpResponse::unavailable(shared.settings.config.retry_after);
        self.refuse(key, answer, true, failure.into(), driver.core);
        driver.handshake_failed(waiting.session, failure);
    }
}
