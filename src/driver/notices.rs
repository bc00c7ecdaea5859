use std::collections::VecDeque;

use super::ConnId;
use crate::connection::Sent;

/// What the application is to be told when the turn settles, or, of payloads, before a visit reads on and when it is over. Takes
/// a pointer's room until there is something.
#[derive(Default)]
pub(crate) struct Notices(Option<Box<Lists>>);

#[derive(Default)]
struct Lists {
    sent: VecDeque<(ConnId, Sent)>,
    drained: VecDeque<ConnId>,
    ended: VecDeque<ConnId>,
}

/// How many notices of each kind there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) sent: usize,
    pub(super) drained: usize,
    pub(super) ended: usize,
}

impl Notices {
    /// A payload is to be given back.
    pub(super) fn sent(&mut self, id: ConnId, payload: Sent) {
        self.lists().sent.push_back((id, payload));
    }

    /// The backlog of a connection has drained.
    pub(super) fn drained(&mut self, id: ConnId) {
        self.lists().drained.push_back(id);
    }

    /// A connection has ended and is to be retired.
    pub(super) fn ended(&mut self, id: ConnId) {
        self.lists().ended.push_back(id);
    }

    pub(super) fn counts(&self) -> Counts {
        self.0.as_ref().map_or_else(Counts::default, |it| Counts {
            sent: it.sent.len(),
            drained: it.drained.len(),
            ended: it.ended.len(),
        })
    }

    #[inline]
    pub(super) fn has_sent(&self) -> bool {
        self.0.as_ref().is_some_and(|it| !it.sent.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counts() == Counts::default()
    }

    pub(super) fn next_sent(&mut self) -> Option<(ConnId, Sent)> {
        self.0.as_mut()?.sent.pop_front()
    }

    pub(super) fn next_drained(&mut self) -> Option<ConnId> {
        self.0.as_mut()?.drained.pop_front()
    }

    pub(super) fn next_ended(&mut self) -> Option<ConnId> {
        self.0.as_mut()?.ended.pop_front()
    }

    fn lists(&mut self) -> &mut Lists {
        self.0.get_or_insert_default()
    }
}
