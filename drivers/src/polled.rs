//! The descriptors that a base worker polls, and its alarm among them.

use core::mem::MaybeUninit;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use vnet_base::sync::Alarm;

/// What the alarm is registered as; slots are smaller.
const ALARM: u64 = u64::MAX;

/// Descriptors that one look tells of.
const AT_ONCE: usize = 64;

/// Descriptors that are told of by the slots that they belong to.
pub(crate) struct Polled {
    epoll: OwnedFd,
    alarm: BorrowedFd<'static>,
    count: usize,
}

impl Polled {
    /// A set with nothing but the worker's alarm in it.
    pub(crate) fn new(alarm: Alarm<'static>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, alarm.0, epoll::EventData::new_u64(ALARM), epoll::EventFlags::IN)?;
        Ok(Self { epoll, alarm: alarm.0, count: 0 })
    }

    /// Whether there is nothing to poll but the alarm.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Polls a descriptor from now on. It is told of for as long as it is readable: whoever is told need not read until
    /// there is nothing more, which costs a read that finds nothing.
    pub(crate) fn add(&mut self, descriptor: BorrowedFd<'_>, slot: u16) -> io::Result<()> {
        epoll::add(&self.epoll, descriptor, epoll::EventData::new_u64(u64::from(slot)), epoll::EventFlags::IN)?;
        self.count += 1;
        Ok(())
    }

    /// Polls a descriptor no more.
    pub(crate) fn remove(&mut self, descriptor: BorrowedFd<'_>) {
        if epoll::delete(&self.epoll, descriptor).is_ok() {
            self.count -= 1;
        }
    }

    /// Waits for at most `timeout` (`None`: until something happens) and tells the slots whose descriptors are ready.
    pub(crate) fn wait(&self, timeout: Option<Duration>, mut tell: impl FnMut(u16)) {
        // What is longer than the kernel can count is for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut room = [const { MaybeUninit::uninit() }; AT_ONCE];
        // Interrupted, or out of memory for a moment: the worker comes back here.
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut room, timeout.as_ref()) else { return };
        for event in events {
            match event.data.u64() {
                ALARM => {
                    let _ = rustix::io::read(self.alarm, &mut [0u8; 8]);
                }
                slot => tell(slot as u16),
            }
        }
    }
}
