use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use mio::unix::pipe;

use super::{Mailbox, Registrar, Remote};

/// The operating system's resolver, on threads of its own so that it never blocks the loop.
///
/// A few names are looked up at a time, so that one that takes long does not hold up the others; a thread starts for a name
/// that would wait otherwise, and ends when no name waits.
pub(crate) struct Resolver {
    answers: Mailbox<Answer>,
    desk: Arc<Desk>,
}

/// Threads at a time. Nobody can stop one that looks up a name which nobody waits for any more, so that with one alone such
/// a name would be in the way of the next.
const MAX_HELPERS: usize = 4;

/// What the helpers share with the loop.
struct Desk {
    questions: Mutex<Questions>,
    lookup: Box<Lookup>,
}

#[derive(Default)]
struct Questions {
    /// Not begun.
    waiting: VecDeque<Question>,
    /// Threads that look for a question or have one.
    helpers: usize,
}

struct Question {
    id: u64,
    host: String,
    port: u16,
}

/// Finds the addresses of a host, however long it takes.
pub(crate) type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// What became of a question.
pub(crate) struct Answer {
    /// The question's.
    pub(crate) id: u64,
    pub(crate) result: io::Result<Vec<SocketAddr>>,
}

impl Resolver {
    /// At most `capacity` questions are asked, and neither taken back nor answered, at a time; `index` is that of the mailbox
    /// for the answers.
    pub(crate) fn new(capacity: usize, index: u32, registrar: &Registrar) -> io::Result<Self> {
        let lookup = |host: &str, port| Ok((host, port).to_socket_addrs()?.collect());
        Self::with(Box::new(lookup), capacity, index, registrar)
    }

    /// As `new`, with another way of looking names up.
    pub(crate) fn with(
        lookup: Box<Lookup>,
        capacity: usize,
        index: u32,
        registrar: &Registrar,
    ) -> io::Result<Self> {
        let desk = Desk {
            questions: Mutex::default(),
            lookup,
        };
        Ok(Self {
            // Each helper may come with an answer that nobody waits for any more.
            answers: Mailbox::new(capacity + MAX_HELPERS, index, registrar)?,
            desk: Arc::new(desk),
        })
    }

    #[cfg(test)]
    pub(crate) fn remote(&self) -> Remote<Answer> {
        self.answers.remote()
    }

    /// Asks for the addresses of a host. The answer comes to the mailbox.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn ask(&mut self, id: u64, host: &str, port: u16) -> io::Result<()> {
        let mut questions = self.desk.questions();
        if questions.helpers < MAX_HELPERS {
            match start(Arc::clone(&self.desk), self.answers.remote()) {
                Ok(()) => questions.helpers += 1,
                // Those that there are will come to it.
                Err(_) if questions.helpers > 0 => {}
                Err(error) => return Err(error),
            }
        }
        questions.waiting.push_back(Question {
            id,
            host: host.to_owned(),
            port,
        });
        Ok(())
    }

    /// Nobody waits for an answer any more. It may come all the same: what has begun cannot be stopped.
    pub(crate) fn forget(&mut self, id: u64) {
        self.desk.questions().waiting.retain(|it| it.id != id);
    }

    /// Answers that wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.answers.waiting()
    }

    pub(crate) fn take(&mut self) -> Option<Answer> {
        self.answers.take()
    }

    /// What wakes the poll, to be registered.
    pub(crate) fn bell(&mut self) -> &mut pipe::Receiver {
        self.answers.bell()
    }

    /// The poll was woken.
    pub(crate) fn answer_bell(&mut self) {
        self.answers.answer_bell();
    }

    pub(crate) fn has_work(&self) -> bool {
        self.answers.has_work()
    }
}

/// The helpers end when they have finished what they have begun.
impl Drop for Resolver {
    fn drop(&mut self) {
        self.desk.questions().waiting.clear();
    }
}

fn start(desk: Arc<Desk>, answers: Remote<Answer>) -> io::Result<()> {
    thread::Builder::new()
        .name("wsloop-resolver".to_owned())
        .spawn(move || {
            while let Some(Question { id, host, port }) = desk.next() {
                let result = (desk.lookup)(&host, port);
                // Never full: see where the mailbox is made. When the loop is gone nobody listens, and nothing waits either.
                let _ = answers.post(Answer { id, result });
            }
        })
        .map(drop)
}

impl Desk {
    /// The next question for a helper, which ends when there is none.
    fn next(&self) -> Option<Question> {
        let mut questions = self.questions();
        let next = questions.waiting.pop_front();
        if next.is_none() {
            questions.helpers -= 1;
        }
        next
    }

    /// A helper that panicked has left nothing half done: it holds the lock for no longer than it takes to get a question.
    fn questions(&self) -> MutexGuard<'_, Questions> {
        self.questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Receiver, Sender, channel},
        time::{Duration, Instant},
    };

    use mio::{Events, Poll, Token};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A resolver under the test's control, which hears of every name as it is begun.
    struct Fixture {
        resolver: Resolver,
        poll: Poll,
        begun: Receiver<String>,
        /// Each message lets one of the names go that start with "slow".
        release: Sender<()>,
    }

    fn fixture(capacity: usize) -> Fixture {
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let registrar = Registrar::Alone(Some((registry, Token(0))));
        let (begin, begun) = channel();
        let (release, released) = channel();
        let released = Mutex::new(released);
        let lookup = move |host: &str, port| {
            begin.send(host.to_owned()).map_err(io::Error::other)?;
            if host.starts_with("slow") {
                let released = released.lock().unwrap();
                released.recv().map_err(io::Error::other)?;
            }
            Ok(vec![([127, 0, 0, 1], port).into()])
        };
        Fixture {
            resolver: Resolver::with(Box::new(lookup), capacity, 1, &registrar).unwrap(),
            poll,
            begun,
            release,
        }
    }

    impl Fixture {
        fn ask(&mut self, id: u64, host: &str) {
            self.resolver.ask(id, host, 80).unwrap();
        }

        fn begins(&self) -> String {
            self.begun.recv_timeout(DEADLINE).unwrap()
        }

        /// The next answer's id, waited for as a loop does it.
        fn answer(&mut self) -> u64 {
            let mut events = Events::with_capacity(1);
            loop {
                self.resolver.answer_bell();
                if let Some(answer) = self.resolver.take() {
                    assert_eq!(answer.result.unwrap(), [([127, 0, 0, 1], 80).into()]);
                    return answer.id;
                }
                self.poll.poll(&mut events, Some(DEADLINE)).unwrap();
                assert!(!events.is_empty(), "no answer");
            }
        }
    }

    #[test]
    fn a_name_that_takes_long_does_not_hold_up_the_others() {
        let mut it = fixture(3);
        it.ask(1, "slow");
        assert_eq!(it.begins(), "slow");
        for id in 2..10 {
            it.ask(id, "fast");
            assert_eq!(it.answer(), id);
        }
        it.release.send(()).unwrap();
        assert_eq!(it.answer(), 1);
    }

    #[test]
    fn names_beyond_the_helpers_wait_and_can_be_taken_back() {
        let mut it = fixture(1);
        for id in 0..MAX_HELPERS as u64 {
            it.ask(id, "slow");
            assert_eq!(it.begins(), "slow");
            it.resolver.forget(id);
        }
        for id in 10..1000 {
            it.ask(id, "taken back");
            it.resolver.forget(id);
        }
        it.ask(1000, "last");
        assert!(it.begun.try_recv().is_err());
        it.release.send(()).unwrap();
        assert_eq!(it.begins(), "last");
        assert!(it.answer() < 10, "one that nobody waits for");
        assert_eq!(it.answer(), 1000);
    }

    #[test]
    fn there_is_room_for_every_answer() {
        let mut it = fixture(5);
        for id in 0..MAX_HELPERS as u64 {
            it.ask(id, "slow");
            it.begins();
            it.resolver.forget(id);
        }
        for id in 10..15 {
            it.ask(id, "fast");
        }
        for _ in 0..MAX_HELPERS {
            it.release.send(()).unwrap();
        }
        let mut ids: Vec<u64> = (0..MAX_HELPERS + 5).map(|_| it.answer()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [0, 1, 2, 3, 10, 11, 12, 13, 14]);
    }

    #[test]
    fn helpers_end_when_no_name_waits_and_with_the_resolver() {
        let mut it = fixture(1);
        let desk = Arc::downgrade(&it.resolver.desk);
        let until = |users: usize| {
            let end = Instant::now() + DEADLINE;
            while desk.strong_count() > users {
                assert!(Instant::now() < end, "a helper is left");
                thread::yield_now();
            }
        };
        it.ask(1, "fast");
        assert_eq!(it.answer(), 1);
        until(1);
        it.ask(2, "slow");
        drop(it);
        until(0);
    }
}
