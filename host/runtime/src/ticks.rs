//! Whether a guest has run since the tick before, or only waited for a processor.
//!
//! Ticks are wall-clock time. On a machine with more to do than processors a call of microseconds that is put aside by the kernel
//! meets one tick after the other, as does one that comes back from waiting for the host. Such a call is no runaway: its
//! thread's own processor time says so. That is asked at ticks only, which few calls meet.

use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::limits::TICK;

/// What a guest did since the tick before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Did {
    /// It had a processor for half of the time or more.
    Run,
    /// It hadn't.
    Wait,
    /// This is its first tick, or it was on another thread at the last one.
    Unknown,
}

/// The ticks that one call has met.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    last: Option<(ThreadId, Duration)>,
}

impl Ticks {
    /// One more.
    pub(crate) fn next(&mut self) -> Did {
        self.at(thread::current().id(), processor_time())
    }

    fn at(&mut self, thread: ThreadId, time: Duration) -> Did {
        match self.last.replace((thread, time)) {
            Some((before, since)) if before == thread => {
                if time.saturating_sub(since) < TICK / 2 {
                    Did::Wait
                } else {
                    Did::Run
                }
            }
            _ => Did::Unknown,
        }
    }
}

/// What this thread has had of processors.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "the standard library has no clock of a thread's own")]
    // SAFETY: the kernel writes one `timespec` into one; a clock that isn't there leaves it 0, which reads as waiting.
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
    }
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_had_no_processor_has_waited() {
        let (here, there) =
            (thread::current().id(), thread::spawn(|| thread::current().id()).join().unwrap());
        let mut ticks = Ticks::default();
        assert_eq!(ticks.at(here, Duration::from_millis(7)), Did::Unknown, "it may have begun a moment ago");
        assert_eq!(ticks.at(here, Duration::from_millis(9)), Did::Wait);
        assert_eq!(ticks.at(here, Duration::from_millis(12)), Did::Run);
        assert_eq!(ticks.at(there, Duration::from_millis(90)), Did::Unknown);
        assert_eq!(ticks.at(there, Duration::from_millis(95)), Did::Run);
    }

    #[test]
    fn a_thread_that_is_parked_has_no_processor_and_one_that_works_has() {
        let mut ticks = Ticks::default();
        ticks.next();
        thread::park_timeout(TICK * 2);
        assert_eq!(ticks.next(), Did::Wait);
        let begun = processor_time();
        while processor_time() - begun < TICK {
            std::hint::spin_loop();
        }
        assert_eq!(ticks.next(), Did::Run);
    }
}
