//! epoll, level-triggered, with numbers for names.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    time::Timespec,
};

pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// Events that are fetched at a time.
const MAX_EVENTS: usize = 1024;

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(MAX_EVENTS),
        })
    }

    pub(crate) fn add(&self, source: &impl AsFd, name: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            source,
            EventData::new_u64(name),
            flags,
        )?)
    }

    pub(crate) fn modify(
        &self,
        source: &impl AsFd,
        name: u64,
        flags: EventFlags,
    ) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            source,
            EventData::new_u64(name),
            flags,
        )?)
    }

    /// Waits for `timeout` (`None`: until there is something), and lists who is ready for what.
    pub(crate) fn wait(
        &mut self,
        ready: &mut Vec<(u64, EventFlags)>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        ready.clear();
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.extend(
            self.events
                .iter()
                .map(|event| (event.data.u64(), event.flags)),
        );
        Ok(())
    }
}
