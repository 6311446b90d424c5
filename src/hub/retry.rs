//! How often something is tried that may pass.

use std::time::Duration;

use super::HubError;

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often a thing is tried without any progress before it is given up.
    pub attempts: u32,
    /// The wait after the first failure; each further one doubles it.
    pub first: Duration,
    /// The longest of these waits.
    pub longest: Duration,
    /// The longest wait that a server may ask for. Past it we give up at once and say so.
    pub longest_asked: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 6,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            longest_asked: Duration::from_mins(5),
        }
    }
}

impl Retry {
    /// The wait after `failures` failures in a row, from 1.
    pub(super) fn wait(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.longest.min(self.first * (1 << doublings))
    }
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Asking again is no use.
    Final(HubError),
    /// It may pass, after a wait that the server may have named. The error is what to say if it does not.
    Passing(HubError, Option<Duration>),
}

impl From<HubError> for Trouble {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

impl HubError {
    /// The same, after so many attempts.
    pub(super) fn after(mut self, tried: u32) -> Self {
        if let Self::Status { attempts, .. } | Self::Unreachable { attempts, .. } = &mut self {
            *attempts = tried;
        }
        self
    }
}

/// The wait that a 429 or 503 asks for, in seconds: `retry-after: 30`, or what is left of the Hub's window,
/// `ratelimit: "api";r=0;t=55`. A date is not understood.
pub(super) fn asked_wait(retry_after: Option<&str>, rate_limit: Option<&str>) -> Option<Duration> {
    let after = retry_after.and_then(|text| text.trim().parse().ok());
    let window = || {
        let mut parts = rate_limit?.split(';');
        parts.find_map(|part| part.trim().strip_prefix("t=")?.parse().ok())
    };
    after.or_else(window).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = Retry::default();
        let waits: Vec<u128> = (1..9).map(|n| retry.wait(n).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(retry.wait(u32::MAX), retry.longest);
    }

    #[test]
    fn a_server_names_its_wait_in_two_ways() {
        let seconds = |a, b| asked_wait(a, b).map(|wait| wait.as_secs());
        assert_eq!(seconds(Some(" 7 "), None), Some(7));
        assert_eq!(seconds(None, Some("\"api\";r=0;t=55")), Some(55));
        assert_eq!(seconds(Some("1"), Some("\"api\";r=0;t=55")), Some(1));
        assert_eq!(seconds(Some("Wed, 21 Oct 2026 07:28:00 GMT"), None), None);
        assert_eq!(seconds(None, None), None);
    }
}
