use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use mio::unix::pipe;

use super::{Mailbox, Registrar, Remote};

/// The operating system's resolver, on a thread of its own so that it never blocks the loop.
///
/// The thread starts with the first name and ends with the loop.
pub(crate) struct Resolver {
    answers: Mailbox<Answer>,
    questions: Option<SyncSender<Question>>,
    capacity: usize,
    /// Questions whose answers were not taken, those that nobody waits for any more included. At most `capacity`, so that
    /// there is room for every answer.
    open: usize,
}

struct Question {
    id: u64,
    host: String,
    port: u16,
}

/// What became of a question.
pub(crate) struct Answer {
    /// The question's.
    pub(crate) id: u64,
    pub(crate) result: io::Result<Vec<SocketAddr>>,
}

impl Resolver {
    /// At most `capacity` questions at a time; `index` is that of the mailbox for the answers.
    pub(crate) fn new(capacity: usize, index: u32, registrar: &Registrar) -> io::Result<Self> {
        let answers = Mailbox::new(capacity, index, registrar)?;
        Ok(Self {
            answers,
            questions: None,
            capacity,
            open: 0,
        })
    }

    /// Asks for the addresses of a host. The answer comes to the mailbox.
    ///
    /// # Errors
    /// The thread does not start, or as many questions as allowed are waiting.
    pub(crate) fn ask(&mut self, id: u64, host: &str, port: u16) -> io::Result<()> {
        if self.open >= self.capacity {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let questions = match &self.questions {
            Some(questions) => questions,
            None => self
                .questions
                .insert(start(self.answers.remote(), self.capacity)?),
        };
        questions
            .try_send(Question {
                id,
                host: host.to_owned(),
                port,
            })
            .map_err(|_| io::ErrorKind::ResourceBusy)?;
        self.open += 1;
        Ok(())
    }

    /// Answers that wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.answers.waiting()
    }

    pub(crate) fn take(&mut self) -> Option<Answer> {
        let answer = self.answers.take()?;
        self.open -= 1;
        Some(answer)
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

fn start(answers: Remote<Answer>, capacity: usize) -> io::Result<SyncSender<Question>> {
    let (sender, questions) = sync_channel::<Question>(capacity);
    thread::Builder::new()
        .name("wsloop-resolver".to_owned())
        .spawn(move || {
            for Question { id, host, port } in questions {
                let result = (host.as_str(), port)
                    .to_socket_addrs()
                    .map(Iterator::collect);
                // Never full: there are no more answers than questions. When the loop is gone nobody asks any more.
                if answers.post(Answer { id, result }).is_err() {
                    return;
                }
            }
        })?;
    Ok(sender)
}
