//! What peers have in common that are a `Stream` and a `Sink` of messages.

use std::{
    error::Error,
    future::{Future, pending},
};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt, future::Either, future::select};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::broadcast,
};

use super::{Options, listen};

/// Messages that are answered before what was written is flushed.
const BATCH: usize = 32;
/// Announcements that may wait for a connection's task.
const HUB_CAPACITY: usize = 1024;

/// A message of a peer.
pub(super) trait Data: Clone + Send + 'static {
    /// The payload of a message, `None` for control frames.
    fn data(&self) -> Option<&[u8]>;
}

/// Handles connections on one thread, each in a task: accepted ones, or as many as are to be dialled.
pub(super) fn run<F, Fut>(options: &Options, handle: F) -> Result<(), Box<dyn Error>>
where
    F: Fn(TcpStream) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        let start = |stream: TcpStream| {
            stream.set_nodelay(true)?;
            tokio::spawn(tokio::task::unconstrained(handle(stream)));
            Ok::<_, std::io::Error>(())
        };
        match options.dial {
            Some(address) => {
                for _ in 0..options.connections {
                    start(TcpStream::connect(address).await?)?;
                }
                pending().await
            }
            None => {
                let listener = listen()?;
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                loop {
                    start(listener.accept().await?.0)?;
                }
            }
        }
    })
}

/// Sends every message back; `batch`: writes the answers to all that is there at once.
pub(super) async fn echo<W, M, E>(mut socket: W, batch: bool)
where
    W: Stream<Item = Result<M, E>> + Sink<M> + Unpin,
    M: Data,
{
    while let Some(Ok(message)) = socket.next().await {
        if message.data().is_none() {
            continue;
        }
        if !batch {
            if socket.send(message).await.is_err() {
                return;
            }
            continue;
        }
        if socket.feed(message).await.is_err() {
            return;
        }
        for _ in 1..BATCH {
            let Some(Some(Ok(message))) = socket.next().now_or_never() else {
                break;
            };
            if message.data().is_some() && socket.feed(message).await.is_err() {
                return;
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

/// Where announcements go out to all connections.
pub(super) fn hub<M: Data>() -> broadcast::Sender<M> {
    broadcast::channel(HUB_CAPACITY).0
}

/// Announces what the peer asks for, and writes what is announced.
pub(super) async fn broadcast<W, M, E>(mut socket: W, hub: broadcast::Sender<M>, announcement: M)
where
    W: Stream<Item = Result<M, E>> + Sink<M> + Unpin,
    M: Data,
{
    let mut announced = hub.subscribe();
    loop {
        let next = match select(socket.next(), Box::pin(announced.recv())).await {
            Either::Left((message, _)) => Either::Left(message),
            Either::Right((message, _)) => Either::Right(message),
        };
        match next {
            Either::Left(Some(Ok(message))) => {
                let count = message.data().and_then(|data| data.first().copied());
                for _ in 0..count.unwrap_or(0) {
                    let _ = hub.send(announcement.clone());
                }
            }
            Either::Right(Ok(message)) => {
                if socket.feed(message).await.is_err() {
                    return;
                }
                while let Ok(message) = announced.try_recv() {
                    if socket.feed(message).await.is_err() {
                        return;
                    }
                }
                if socket.flush().await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}
