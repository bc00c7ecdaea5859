use mio::event::Event;

use super::{Connections, Driver, Handler, SourceId, TimerId};
use crate::memory::{self, Key};

/// What reaches the application from beside the connections.
impl<H: Handler<M>, M> Driver<'_, H, M> {
    /// A timer of the application fired.
    pub(crate) fn handle_timer(&mut self, timer: memory::TimerId, data: u64) {
        let shared = &mut self.core.shared;
        shared.app_timers -= 1;
        self.app
            .on_timer(&mut Connections::new(self.core), TimerId(timer), data);
    }

    /// A foreign source has an event. One that was taken off the loop in the meantime has none.
    pub(crate) fn handle_source(&mut self, key: Key, event: &Event) {
        let sources = self.core.shared.sources.as_ref();
        if sources.is_some_and(|it| it.get(key).is_some()) {
            self.app
                .on_source(&mut Connections::new(self.core), SourceId(key), event);
        }
    }

    /// Another thread posted a message.
    pub(crate) fn handle_post(&mut self, message: M) {
        self.app.on_wake(&mut Connections::new(self.core), message);
    }
}
