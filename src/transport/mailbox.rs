use std::{
    fmt,
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use mio::{Interest, unix::pipe};

use super::{Registrar, TokenKind};
use crate::memory::Key;

/// Messages that other threads posted: a bounded channel, and a pipe that wakes the poll.
///
/// A pipe and not `mio::Waker`, because a poll has only one of those, and in the caller's poll it is the caller's.
pub(crate) struct Mailbox<M> {
    messages: Receiver<M>,
    sender: SyncSender<M>,
    bell: Arc<Bell>,
    bell_end: pipe::Receiver,
}

/// Posts messages to a loop from any thread. Clones post to the same loop.
pub struct Remote<M> {
    sender: SyncSender<M>,
    bell: Arc<Bell>,
}

struct Bell {
    pipe: pipe::Sender,
    /// True exactly when a byte is in the pipe, or about to be, that the loop has not read: a second one would say nothing
    /// new.
    rung: AtomicBool,
    /// Messages in the channel.
    waiting: AtomicUsize,
}

/// A message that could not be posted; it comes back.
#[non_exhaustive]
pub struct PostError<M> {
    /// Why.
    pub kind: PostErrorKind,
    /// The message.
    pub message: M,
}

/// Why a message could not be posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostErrorKind {
    /// `mailbox_capacity` messages are waiting.
    Full,
    /// The loop is gone.
    Gone,
}

impl PostErrorKind {
    /// True exactly when posting again is of no use.
    #[must_use]
    pub fn is_gone(self) -> bool {
        self == Self::Gone
    }
}

impl<M> Mailbox<M> {
    /// `index` tells the mailboxes of a loop apart.
    pub(crate) fn new(capacity: usize, index: u32, registrar: &Registrar) -> io::Result<Self> {
        let (pipe, mut bell_end) = pipe::new()?;
        let name = (TokenKind::Mailbox, Key::from_parts(index, 0));
        registrar.register(&mut bell_end, name, Interest::READABLE)?;
        let (sender, messages) = sync_channel(capacity);
        let bell = Bell {
            pipe,
            rung: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        };
        Ok(Self {
            messages,
            sender,
            bell: Arc::new(bell),
            bell_end,
        })
    }

    pub(crate) fn remote(&self) -> Remote<M> {
        Remote {
            sender: self.sender.clone(),
            bell: Arc::clone(&self.bell),
        }
    }

    /// What wakes the poll, to be registered.
    pub(crate) fn bell(&mut self) -> &mut pipe::Receiver {
        &mut self.bell_end
    }

    /// The poll was woken, perhaps by this. To be called before messages are taken.
    pub(crate) fn answer_bell(&mut self) {
        if !self.bell.rung.load(Ordering::SeqCst) {
            return;
        }
        // Who has rung may not have written yet. Opened again before its byte is here, the bell would stay rung for ever.
        let mut byte = [0];
        if matches!(self.bell_end.read(&mut byte), Ok(1)) {
            self.bell.rung.store(false, Ordering::SeqCst);
        }
    }

    /// Messages that wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.bell.waiting.load(Ordering::SeqCst)
    }

    pub(crate) fn take(&mut self) -> Option<M> {
        let message = self.messages.try_recv().ok()?;
        self.bell.waiting.fetch_sub(1, Ordering::SeqCst);
        Some(message)
    }

    /// True exactly when messages wait.
    pub(crate) fn has_work(&self) -> bool {
        self.waiting() > 0
    }
}

impl<M> Remote<M> {
    /// Posts a message: [`on_wake`](crate::Handler::on_wake) gets it in the loop's thread, in the order of posting.
    ///
    /// # Errors
    /// The message, when `mailbox_capacity` messages are waiting or the loop is gone.
    pub fn post(&self, message: M) -> Result<(), PostError<M>> {
        self.send(message)?;
        if self.rings() {
            self.write();
        }
        Ok(())
    }

    /// The first part of a post: nobody is woken yet.
    pub(crate) fn send(&self, message: M) -> Result<(), PostError<M>> {
        // Counted before it is sent, so that the count never falls below zero.
        self.bell.waiting.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.sender.try_send(message) {
            self.bell.waiting.fetch_sub(1, Ordering::SeqCst);
            return Err(match error {
                TrySendError::Full(message) => PostError {
                    kind: PostErrorKind::Full,
                    message,
                },
                TrySendError::Disconnected(message) => PostError {
                    kind: PostErrorKind::Gone,
                    message,
                },
            });
        }
        Ok(())
    }

    /// True exactly when there is no byte on its way, so that one has to be written.
    pub(crate) fn rings(&self) -> bool {
        !self.bell.rung.swap(true, Ordering::SeqCst)
    }

    /// Rings: the poll wakes.
    pub(crate) fn write(&self) {
        // The pipe is empty; it takes a byte unless the loop is gone.
        let _ = (&self.bell.pipe).write(&[1]);
    }
}

impl<M> Clone for Remote<M> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            bell: Arc::clone(&self.bell),
        }
    }
}

impl<M> fmt::Debug for Remote<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for PostError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostError")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<M> fmt::Display for PostError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            PostErrorKind::Full => "the mailbox is full",
            PostErrorKind::Gone => "the loop is gone",
        })
    }
}

impl<M> std::error::Error for PostError<M> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

    /// A mailbox of a lone client, as only these know an event from another by trying.
    fn mailbox() -> (Mailbox<u32>, Remote<u32>, Poll) {
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let registrar = Registrar::Alone(Some((registry, Token(0))));
        let mailbox = Mailbox::new(4, 0, &registrar).unwrap();
        let remote = mailbox.remote();
        (mailbox, remote, poll)
    }

    /// What the poll says now, as often as it says it.
    fn is_woken(poll: &mut Poll) -> bool {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    }

    fn pass(mailbox: &mut Mailbox<u32>) -> Vec<u32> {
        mailbox.answer_bell();
        std::iter::from_fn(|| mailbox.take()).collect()
    }

    #[test]
    fn a_pass_at_any_point_of_a_post_loses_no_wake_up() {
        for at in 0..4 {
            let (mut mailbox, remote, mut poll) = mailbox();
            let mut heard = Vec::new();
            let mut pass_if = |now| {
                if now {
                    heard.extend(pass(&mut mailbox));
                }
            };
            pass_if(at == 0);
            remote.send(1).unwrap();
            pass_if(at == 1);
            assert!(remote.rings());
            pass_if(at == 2);
            remote.write();
            pass_if(at == 3);
            // A pass for each wake-up, as a poll that is waited for has it.
            while is_woken(&mut poll) {
                heard.extend(pass(&mut mailbox));
            }
            assert_eq!(heard, [1], "{at}");
            remote.post(2).unwrap();
            assert!(is_woken(&mut poll), "{at}");
            assert_eq!(pass(&mut mailbox), [2], "{at}");
        }
    }

    #[test]
    fn posts_in_a_row_ring_once() {
        let (mut mailbox, remote, mut poll) = mailbox();
        remote.post(1).unwrap();
        assert!(is_woken(&mut poll));
        remote.post(2).unwrap();
        assert!(!is_woken(&mut poll));
        assert_eq!(pass(&mut mailbox), [1, 2]);
        assert!(!mailbox.has_work());
    }
}
