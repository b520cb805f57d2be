//! Whether a guest has run since the last tick that counted, or only waited for a processor.
//!
//! Ticks are wall-clock time. On a machine with more to do than processors a call of microseconds that is put aside by the kernel
//! meets one tick after the other, as does one that comes back from waiting for the host. Such a call is no runaway: its
//! thread's own processor time says so. That is asked at ticks only, which few calls meet.

use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::limits::TICK;

/// What a guest did since the last tick that counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Did {
    /// It had a processor for half a tick or more.
    Run,
    /// It hadn't.
    Wait,
    /// This is its first tick, or it was on another thread at the last one.
    Unknown,
}

/// The ticks that one call has met.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    /// The last one that wasn't waited through.
    counted: Option<(ThreadId, Duration)>,
}

impl Ticks {
    /// One more.
    pub(crate) fn next(&mut self) -> Did {
        // Who can't be asked has run: nothing goes on for ever for want of a clock.
        processor_time().map_or(Did::Run, |time| self.at(thread::current().id(), time))
    }

    fn at(&mut self, thread: ThreadId, time: Duration) -> Did {
        let did = match self.counted {
            // What it ran adds up: one that never has a processor for long must not go on for ever.
            Some((before, since)) if before == thread && time.saturating_sub(since) < TICK / 2 => {
                return Did::Wait;
            }
            Some((before, _)) if before == thread => Did::Run,
            _ => Did::Unknown,
        };
        self.counted = Some((thread, time));
        did
    }
}

/// What this thread has had of processors; none where the kernel doesn't say.
fn processor_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "the standard library has no clock of a thread's own")]
    // SAFETY: the kernel writes one `timespec` into one.
    let told = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let part = |value: i64| u64::try_from(value).ok();
    let seconds = part(time.tv_sec).filter(|_| told == 0)?;
    Some(Duration::from_secs(seconds) + Duration::from_nanos(part(time.tv_nsec)?))
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
        assert_eq!(ticks.at(here, Duration::from_millis(8)), Did::Wait);
        assert_eq!(ticks.at(here, Duration::from_millis(9)), Did::Wait);
        assert_eq!(ticks.at(here, Duration::from_millis(10)), Did::Run, "a little each time adds up");
        assert_eq!(ticks.at(here, Duration::from_millis(11)), Did::Wait);
        assert_eq!(ticks.at(there, Duration::from_millis(90)), Did::Unknown);
        assert_eq!(ticks.at(there, Duration::from_millis(95)), Did::Run);
    }

    #[test]
    fn a_thread_that_is_parked_has_no_processor_and_one_that_works_has() {
        let mut ticks = Ticks::default();
        ticks.next();
        thread::park_timeout(TICK * 2);
        assert_eq!(ticks.next(), Did::Wait);
        let begun = processor_time().unwrap();
        while processor_time().unwrap() - begun < TICK {
            std::hint::spin_loop();
        }
        assert_eq!(ticks.next(), Did::Run);
    }
}
