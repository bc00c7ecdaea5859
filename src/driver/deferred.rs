use std::{collections::VecDeque, fmt};

use super::core::Core;
use crate::{
    memory::{Key, Slots},
    protocol::handshake::{DeferredResponse, HeaderError, HttpResponse},
};

/// Names an upgrade whose answer was put off, until it is answered or lost. A stale one is found to be stale.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpgradeId(pub(crate) Key);

impl fmt::Debug for UpgradeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpgradeId({:?})", self.0)
    }
}

/// An upgrade whose answer was put off with [`Response::defer`](crate::Response::defer), in the application's hands:
/// [`Connections::deferred`](super::Connections::deferred) has it.
///
/// While it waits it counts as a connection towards `max_connections`, nothing more is read from its client, and
/// `upgrade_timeout` runs.
pub struct Deferred<'a, S> {
    /// There is an upgrade for `id` that waits as long as this value lives: nothing else reaches the core meanwhile.
    core: &'a mut Core<S>,
    id: UpgradeId,
}

/// An upgrade that waits for its answer.
pub(crate) struct Waiting<S> {
    /// The server's handshake.
    pub(crate) handshake: Key,
    pub(crate) response: DeferredResponse,
    /// What came behind the request.
    pub(crate) leftover: Vec<u8>,
    pub(crate) session: S,
    /// True exactly when the application has accepted, and the server has not followed yet.
    accepted: bool,
}

/// The upgrades of a loop that wait for their answer.
pub(crate) struct Upgrades<S> {
    waiting: Slots<Waiting<S>>,
    /// Answers that the server is to give.
    pub(crate) answers: VecDeque<Answer>,
}

/// What the application has decided about an upgrade.
pub(crate) enum Answer {
    /// It is still among those that wait, for its client may go away first.
    Accept(UpgradeId),
    /// The session is back already; this is the server's handshake.
    Refuse(UpgradeId, Key, HttpResponse),
}

impl<S> Upgrades<S> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Slots::with_capacity(0),
            answers: VecDeque::new(),
        }
    }
}

impl<S> Core<S> {
    /// Has an upgrade wait for its answer, with a connection reserved for it.
    pub(crate) fn defer(
        &mut self,
        handshake: Key,
        response: DeferredResponse,
        leftover: Vec<u8>,
        session: S,
    ) -> UpgradeId {
        self.serving().reserved += 1;
        UpgradeId(self.upgrades().waiting.insert(Waiting {
            handshake,
            response,
            leftover,
            session,
            accepted: false,
        }))
    }

    fn upgrades(&mut self) -> &mut Upgrades<S> {
        &mut self.serving().upgrades
    }

    /// Ends the waiting of an upgrade; its reservation ends with it.
    pub(crate) fn take_deferred(&mut self, id: UpgradeId) -> Option<Waiting<S>> {
        let waiting = self.upgrades().waiting.remove(id.0)?;
        self.serving().reserved -= 1;
        Some(waiting)
    }
}

impl<'a, S> Deferred<'a, S> {
    /// `None` for an upgrade that is answered, also when the server has not followed yet, or lost.
    pub(super) fn new(core: &'a mut Core<S>, id: UpgradeId) -> Option<Self> {
        let waiting = core.serving.as_ref()?.upgrades.waiting.get(id.0)?;
        (!waiting.accepted).then_some(Self { core, id })
    }

    /// The name of this upgrade.
    #[must_use]
    pub fn id(&self) -> UpgradeId {
        self.id
    }

    /// What `on_upgrade` returned.
    #[must_use]
    pub fn session(&self) -> &S {
        &self.waiting().session
    }

    /// What `on_upgrade` returned, to change it.
    #[must_use]
    pub fn session_mut(&mut self) -> &mut S {
        &mut self.waiting_mut().session
    }

    /// The subprotocols that the client offered, the preferred one first.
    pub fn offers(&self) -> impl Iterator<Item = &str> {
        self.waiting().response.offers()
    }

    /// The subprotocol chosen so far.
    #[must_use]
    pub fn chosen_subprotocol(&self) -> Option<&str> {
        self.waiting().response.chosen_subprotocol()
    }

    /// Chooses one of the subprotocols that the client offered, once. Case counts.
    ///
    /// # Errors
    /// `AlreadyChosen` when there is a choice, made here or in `on_upgrade`; `NotOffered` for any other name.
    pub fn subprotocol(&mut self, name: &str) -> Result<(), HeaderError> {
        self.waiting_mut().response.subprotocol(name)
    }

    /// Adds a header field to the 101.
    ///
    /// # Errors
    /// A name or value that HTTP does not allow, or a field that is the library's to set.
    pub fn header(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        self.waiting_mut().response.header(name, value)
    }

    /// Accepts: the 101 goes out when the callback at hand has returned. `on_open` follows, or `on_handshake_failed` when
    /// the client has gone away.
    pub fn accept(mut self) {
        self.waiting_mut().accepted = true;
        self.core
            .upgrades()
            .answers
            .push_back(Answer::Accept(self.id));
    }

    /// Refuses: the client gets `answer`, and the session comes back here. Nothing else follows.
    pub fn refuse(self, answer: HttpResponse) -> S {
        #[expect(clippy::expect_used, reason = "see the field `core`")]
        let waiting = self.core.take_deferred(self.id).expect("it waits");
        self.core
            .upgrades()
            .answers
            .push_back(Answer::Refuse(self.id, waiting.handshake, answer));
        waiting.session
    }

    fn waiting(&self) -> &Waiting<S> {
        let serving = self.core.serving.as_ref();
        #[expect(clippy::expect_used, reason = "see the field `core`")]
        serving
            .and_then(|it| it.upgrades.waiting.get(self.id.0))
            .expect("it waits")
    }

    fn waiting_mut(&mut self) -> &mut Waiting<S> {
        #[expect(clippy::expect_used, reason = "see the field `core`")]
        self.core
            .upgrades()
            .waiting
            .get_mut(self.id.0)
            .expect("it waits")
    }
}

impl<S> fmt::Debug for Deferred<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deferred({:?})", self.id)
    }
}
