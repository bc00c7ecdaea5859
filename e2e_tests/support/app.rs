use std::sync::mpsc::Sender;

use wsloop::{
    Close, CloseCode, Conn, ConnId, ConnectError, Connections, Fragment, Handler, HandshakeFailure,
    HttpResponse, Message, MessageKind, Outcome, Request, Response, Sent, SourceId, TimerId,
    UpgradeId, protocol::handshake::ResponseHead,
};

/// What the tests keep per connection: the number of messages that it has received.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Session {
    pub messages: u64,
    /// Tells dialled connections apart; 0 for those that were accepted.
    pub tag: u64,
}

/// Everything that a handler is told, as it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Upgrade {
        path: String,
    },
    Deferred(UpgradeId),
    HandshakeFailed(HandshakeFailure),
    /// With the session's tag.
    Connected {
        tag: u64,
        subprotocol: Option<String>,
    },
    /// With the session's tag.
    ConnectFailed(u64, ConnectError),
    Open(ConnId),
    BytesRead(ConnId, usize),
    Message(ConnId, MessageKind, Vec<u8>),
    /// With first and last.
    Fragment(ConnId, MessageKind, Vec<u8>, bool, bool),
    WriteComplete(ConnId, Vec<u8>, Outcome),
    Drain(ConnId),
    Ping(ConnId, Vec<u8>),
    Pong(ConnId, Vec<u8>),
    Close(ConnId, Close),
    Timer(u64),
    Source,
    /// For hooks of the tests.
    Note(String),
}

type ConnectedHook = Box<dyn FnMut(&mut Session, &ResponseHead<'_>) + Send>;
type ConnectFailedHook =
    Box<dyn FnMut(&mut Connections<'_, Session>, Session, ConnectError) + Send>;
type EndHook = Box<dyn FnMut(&mut Connections<'_, Session>, Session, &Close) + Send>;
type Hook<T> = Box<dyn FnMut(T) + Send>;
type ConnHook = Box<dyn FnMut(&mut Conn<'_, Session>) + Send>;
type MessageHook = Box<dyn FnMut(&mut Conn<'_, Session>, Message<'_>) + Send>;
type FragmentHook = Box<dyn FnMut(&mut Conn<'_, Session>, Fragment<'_>) + Send>;
type UpgradeHook =
    Box<dyn FnMut(&Request<'_>, &mut Response<'_>) -> Result<(), HttpResponse> + Send>;
type RequestHook = Box<dyn FnMut(&Request<'_>) -> HttpResponse + Send>;
type DeferredHook = Box<dyn FnMut(&mut Connections<'_, Session>, UpgradeId) + Send>;
type SentHook = Box<dyn FnMut(&mut Conn<'_, Session>, Sent) + Send>;
type PingHook = Box<dyn FnMut(&mut Conn<'_, Session>, &[u8]) + Send>;
type BytesHook = Box<dyn FnMut(&mut Conn<'_, Session>, usize) + Send>;
type TimerHook = Box<dyn FnMut(&mut Connections<'_, Session>, TimerId, u64) + Send>;
type SourceHook =
    Box<dyn FnMut(&mut Connections<'_, Session>, SourceId, &mio::event::Event) + Send>;

/// Work that a test posts to the loop's thread.
pub type Job = Box<dyn FnOnce(&mut App, &mut Connections<'_, Session>) + Send>;

/// A handler that reports everything and does what its hooks say. Without hooks it echoes.
pub struct App {
    events: Sender<Event>,
    pub on_upgrade: Option<UpgradeHook>,
    pub on_request: Option<RequestHook>,
    pub on_connected: Option<ConnectedHook>,
    pub on_connect_failed: Option<ConnectFailedHook>,
    pub on_deferred: Option<DeferredHook>,
    pub on_open: Option<ConnHook>,
    pub on_message: Option<MessageHook>,
    pub on_fragment: Option<FragmentHook>,
    pub on_write_complete: Option<SentHook>,
    pub on_drain: Option<ConnHook>,
    pub on_ping: Option<PingHook>,
    pub on_bytes_read: Option<BytesHook>,
    pub on_close: Option<Hook<(ConnId, Close)>>,
    /// As `on_close`, with everything else that the handler gets.
    pub on_end: Option<EndHook>,
    pub on_timer: Option<TimerHook>,
    pub on_source: Option<SourceHook>,
}

impl App {
    pub fn new(events: Sender<Event>) -> Self {
        Self {
            events,
            on_upgrade: None,
            on_request: None,
            on_connected: None,
            on_connect_failed: None,
            on_deferred: None,
            on_open: None,
            on_message: None,
            on_fragment: None,
            on_write_complete: None,
            on_drain: None,
            on_ping: None,
            on_bytes_read: None,
            on_close: None,
            on_end: None,
            on_timer: None,
            on_source: None,
        }
    }

    /// Tells the test. A test that has ended does not listen any more.
    pub fn report(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// For hooks: a way to tell the test.
    pub fn reporter(&self) -> Sender<Event> {
        self.events.clone()
    }
}

/// Makes the bytes of a completed payload visible to the test.
fn bytes_of(sent: &Sent) -> Vec<u8> {
    sent.payload
        .as_slice()
        .map(<[u8]>::to_vec)
        .unwrap_or_else(|| vec![0; sent.payload.len()])
}

impl Handler<Job> for App {
    type Session = Session;

    fn on_upgrade(
        &mut self,
        request: &Request<'_>,
        response: &mut Response<'_>,
    ) -> Result<Session, HttpResponse> {
        self.report(Event::Upgrade {
            path: request.path().to_owned(),
        });
        if let Some(hook) = &mut self.on_upgrade {
            hook(request, response)?;
        }
        Ok(Session::default())
    }

    fn on_request(&mut self, request: &Request<'_>) -> HttpResponse {
        match &mut self.on_request {
            Some(hook) => hook(request),
            None => HttpResponse::upgrade_required(),
        }
    }

    fn on_deferred(&mut self, connections: &mut Connections<'_, Session>, upgrade: UpgradeId) {
        self.report(Event::Deferred(upgrade));
        if let Some(hook) = &mut self.on_deferred {
            hook(connections, upgrade);
        }
    }

    fn on_handshake_failed(
        &mut self,
        _: &mut Connections<'_, Session>,
        _: Session,
        failure: HandshakeFailure,
    ) {
        self.report(Event::HandshakeFailed(failure));
    }

    fn on_connected(&mut self, session: &mut Session, response: &ResponseHead<'_>) {
        self.report(Event::Connected {
            tag: session.tag,
            subprotocol: response.header("Sec-WebSocket-Protocol").map(str::to_owned),
        });
        if let Some(hook) = &mut self.on_connected {
            hook(session, response);
        }
    }

    fn on_connect_failed(
        &mut self,
        connections: &mut Connections<'_, Session>,
        session: Session,
        error: ConnectError,
    ) {
        self.report(Event::ConnectFailed(session.tag, error.clone()));
        if let Some(hook) = &mut self.on_connect_failed {
            hook(connections, session, error);
        }
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Session>) {
        self.report(Event::Open(conn.id()));
        if let Some(hook) = &mut self.on_open {
            hook(conn);
        }
    }

    fn on_bytes_read(&mut self, conn: &mut Conn<'_, Session>, count: usize) {
        self.report(Event::BytesRead(conn.id(), count));
        if let Some(hook) = &mut self.on_bytes_read {
            hook(conn, count);
        }
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Session>, message: Message<'_>) {
        conn.session_mut().messages += 1;
        self.report(Event::Message(
            conn.id(),
            message.kind(),
            message.as_bytes().to_vec(),
        ));
        match &mut self.on_message {
            Some(hook) => hook(conn, message),
            None => {
                if let Err(error) = conn.send_copy(message.kind(), message.as_bytes()) {
                    let _ = conn.close(CloseCode::INTERNAL_ERROR, &error.to_string());
                }
            }
        }
    }

    fn on_fragment(&mut self, conn: &mut Conn<'_, Session>, fragment: Fragment<'_>) {
        self.report(Event::Fragment(
            conn.id(),
            fragment.kind(),
            fragment.as_bytes().to_vec(),
            fragment.is_first(),
            fragment.is_last(),
        ));
        match &mut self.on_fragment {
            Some(hook) => hook(conn, fragment),
            None => {
                let (kind, last) = (fragment.kind(), fragment.is_last());
                if let Err(error) = conn.send_fragment(kind, fragment.as_bytes(), last) {
                    let _ = conn.close(CloseCode::INTERNAL_ERROR, &error.to_string());
                }
            }
        }
    }

    fn on_write_complete(&mut self, conn: &mut Conn<'_, Session>, sent: Sent) {
        self.report(Event::WriteComplete(
            conn.id(),
            bytes_of(&sent),
            sent.outcome,
        ));
        if let Some(hook) = &mut self.on_write_complete {
            hook(conn, sent);
        }
    }

    fn on_drain(&mut self, conn: &mut Conn<'_, Session>) {
        self.report(Event::Drain(conn.id()));
        if let Some(hook) = &mut self.on_drain {
            hook(conn);
        }
    }

    fn on_ping(&mut self, conn: &mut Conn<'_, Session>, payload: &[u8]) {
        self.report(Event::Ping(conn.id(), payload.to_vec()));
        match &mut self.on_ping {
            Some(hook) => hook(conn, payload),
            None => conn.auto_pong(payload),
        }
    }

    fn on_pong(&mut self, conn: &mut Conn<'_, Session>, payload: &[u8]) {
        self.report(Event::Pong(conn.id(), payload.to_vec()));
    }

    fn on_close(
        &mut self,
        connections: &mut Connections<'_, Session>,
        id: ConnId,
        session: Session,
        close: &Close,
    ) {
        self.report(Event::Close(id, close.clone()));
        if let Some(hook) = &mut self.on_close {
            hook((id, close.clone()));
        }
        if let Some(hook) = &mut self.on_end {
            hook(connections, session, close);
        }
    }

    fn on_timer(&mut self, connections: &mut Connections<'_, Session>, timer: TimerId, data: u64) {
        self.report(Event::Timer(data));
        if let Some(hook) = &mut self.on_timer {
            hook(connections, timer, data);
        }
    }

    fn on_source(
        &mut self,
        connections: &mut Connections<'_, Session>,
        source: SourceId,
        event: &mio::event::Event,
    ) {
        self.report(Event::Source);
        if let Some(hook) = &mut self.on_source {
            hook(connections, source, event);
        }
    }

    fn on_wake(&mut self, connections: &mut Connections<'_, Session>, job: Job) {
        job(self, connections);
    }
}
