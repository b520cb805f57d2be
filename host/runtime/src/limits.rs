//! What one instance may use.

use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::capabilities::LimitsRequest;

/// How often a running guest is interrupted to see whether its time is up. The unit of CPU
/// budgets: a guest is stopped at its budget plus at most one tick.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Limits of one instance, each call of which gets the CPU budget anew.
///
/// Epochs measure the time for which a guest stood on a thread, preemption included, so budgets
/// are far above what a call takes (microseconds), to hold on a busy machine too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, bytes: 64 MiB. A chat request with images is a few MiB, and its parsed form
    /// a few times that.
    pub memory: usize,
    /// Time on a thread for each call: 50 ms for a policy, 200 ms for a provider. A 400 KB body
    /// takes a provider about 2 ms.
    pub cpu: Duration,
    /// Time from the start of a call to its end, waiting for a thread included: 2 s.
    pub deadline: Duration,
    /// Bytes that one call may make the host allocate for its arguments and answers: 16 MiB, a
    /// body of that size being the largest that a provider can replace.
    pub hostcall_fuel: usize,
    /// Resource handles alive at once: 4,096. A provider uses two.
    pub handles: usize,
    /// Elements of a table: 20,000. A Rust guest's function table has some hundreds.
    pub table_elements: usize,
    /// Log lines of an instance's whole life: 64.
    pub log_lines: u32,
    /// Bytes of log of an instance's whole life: 64 KiB.
    pub log_bytes: usize,
}

impl Limits {
    /// For providers: they see whole bodies.
    pub fn provider() -> Self {
        Self { cpu: Duration::from_millis(200), ..Self::policy() }
    }

    /// For guardrails: they see all texts of a call, and may ask a service.
    pub fn guardrail() -> Self {
        Self { cpu: Duration::from_millis(200), deadline: Duration::from_secs(5), ..Self::policy() }
    }

    /// For exporters: they write a batch anew, and wait for who receives it.
    pub fn exporter() -> Self {
        Self {
            cpu: Duration::from_secs(1),
            deadline: Duration::from_secs(20),
            hostcall_fuel: 32 << 20,
            ..Self::policy()
        }
    }

    /// For routing policies: they see facts.
    pub fn policy() -> Self {
        Self {
            memory: 64 << 20,
            cpu: Duration::from_millis(50),
            deadline: Duration::from_secs(2),
            hostcall_fuel: 16 << 20,
            handles: 4_096,
            table_elements: 20_000,
            log_lines: 64,
            log_bytes: 64 << 10,
        }
    }

    /// These limits for one plugin: a smaller number that its manifest asks for takes effect, a larger one as far as
    /// the operator grants it.
    #[must_use]
    pub fn granted(self, asked: &LimitsRequest, operator: Option<&LimitsRequest>) -> Self {
        let none = LimitsRequest::default();
        let given = operator.unwrap_or(&none);
        let merge = |default: u64, asked: Option<u64>, given: Option<u64>| match asked {
            None => default.min(given.unwrap_or(default)),
            Some(asked) => asked.min(given.unwrap_or(default)),
        };
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            memory: size(
                merge((self.memory >> 20) as u64, asked.memory_mib, given.memory_mib).saturating_mul(1 << 20),
            ),
            cpu: Duration::from_millis(merge(millis(self.cpu), asked.cpu_ms, given.cpu_ms)),
            deadline: Duration::from_millis(merge(
                millis(self.deadline),
                asked.deadline_ms,
                given.deadline_ms,
            )),
            log_lines: u32::try_from(merge(self.log_lines.into(), asked.log_lines, given.log_lines))
                .unwrap_or(u32::MAX),
            log_bytes: size(merge(self.log_bytes as u64, asked.log_bytes, given.log_bytes)),
            ..self
        }
    }

    /// CPU budget in ticks, at least one.
    pub(crate) fn ticks(&self) -> u32 {
        u32::try_from(self.cpu.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX).max(1)
    }
}

/// Refuses growth and remembers that it did, so that the trap that follows can be named.
#[derive(Debug)]
pub(crate) struct Growth {
    memory: usize,
    table_elements: usize,
    /// The most memory that was had, in bytes.
    pub(crate) peak: usize,
    pub(crate) refused_memory: bool,
    pub(crate) refused_table: bool,
}

impl Growth {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory: limits.memory,
            table_elements: limits.table_elements,
            peak: 0,
            refused_memory: false,
            refused_table: false,
        }
    }
}

impl ResourceLimiter for Growth {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired <= self.memory && maximum.is_none_or(|maximum| desired <= maximum);
        self.refused_memory |= !allowed;
        if allowed {
            self.peak = self.peak.max(desired);
        }
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired <= self.table_elements && maximum.is_none_or(|maximum| desired <= maximum);
        self.refused_table |= !allowed;
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_default_needs_both() {
        let asked = LimitsRequest {
            memory_mib: Some(256),
            cpu_ms: Some(10),
            log_lines: Some(100),
            ..Default::default()
        };
        let alone = Limits::policy().granted(&asked, None);
        assert_eq!((alone.memory, alone.cpu.as_millis(), alone.log_lines), (64 << 20, 10, 64));
        let given = LimitsRequest {
            memory_mib: Some(128),
            cpu_ms: Some(500),
            deadline_ms: Some(100),
            ..Default::default()
        };
        let both = Limits::policy().granted(&asked, Some(&given));
        assert_eq!((both.memory, both.cpu.as_millis(), both.log_lines), (128 << 20, 10, 64));
        assert_eq!(both.deadline.as_millis(), 100);
    }
}
