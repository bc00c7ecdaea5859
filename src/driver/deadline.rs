use super::{ConnId, Core};
use crate::{
    connection::{CloseCause, Due},
    protocol::{CloseCode, Opcode},
};

/// The timer of a connection fired.
pub(crate) fn handle_deadline<S>(core: &mut Core<S>, id: ConnId) {
    let Some((wire, shared)) = core.wire_mut(id) else {
        return;
    };
    // The timer is gone with its firing.
    wire.timer = None;
    // A peer whose bytes we leave in the kernel is not silent.
    if wire.flags.readable && wire.flags.hold_reading() {
        let _ = wire.link.deadlines.heard(shared.now);
    }
    let mut due = wire.arm(id, shared);
    if due == Some(Due::Compressor) {
        wire.check_compressor(shared);
        due = wire.arm(id, shared);
    }
    match due {
        None | Some(Due::Compressor) => {}
        Some(Due::Heartbeat) => {
            // With a full ring the peer has a ping to answer anyway.
            if wire
                .link
                .outbox
                .control(Opcode::Ping, b"", &mut shared.pools)
                .is_ok()
            {
                shared.counters.sent.pings += 1;
            }
            shared.mark_dirty(id, &mut wire.flags);
            // The ping counts as sent, so what is due next lies in the future.
            let _ = wire.arm(id, shared);
        }
        Some(Due::IdleTimeout) => {
            wire.close(id, CloseCode::GOING_AWAY, CloseCause::IdleTimeout, shared);
        }
        Some(Due::HeartbeatTimeout) => {
            wire.close(
                id,
                CloseCode::GOING_AWAY,
                CloseCause::HeartbeatTimeout,
                shared,
            );
        }
        // The cause was noted when closing began.
        Some(Due::CloseTimeout | Due::Later(_)) => wire.end(id, CloseCause::Application, shared),
    }
}
