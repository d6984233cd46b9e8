//! What this process has submitted, and since when it leads. An object can be deleted, and a status can be lost; so the
//! status alone does not show which requests may still take effect.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::core::mailboxes::normalized;
use crate::core::timing::Timing;

/// The addresses that were submitted lately. A listing shows whether an address is connected only if it began a settle
/// period after its last submission by this process, and after this process became the leader, because the one before may
/// have submitted it.
#[derive(Debug)]
pub struct Submissions {
    leads_since: Instant,
    settle: Duration,
    /// How long a listing is used, so that a submission matters that long after it has settled.
    listing_age: Duration,
    sent: Mutex<Sent>,
}

/// When each address was last submitted, by base URL and normalized address.
type Sent = HashMap<(String, String), Instant>;

/// Addresses that are recorded as being submitted, since that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation(Instant);

/// Where addresses are submitted to: a base URL. Two accounts, with two API keys, may be one at Woodpecker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmissionTarget {
    pub base_url: String,
}

// === impl Submissions ===

impl Submissions {
    /// For a process that leads from now on.
    pub fn new(timing: &Timing) -> Self {
        Self {
            leads_since: Instant::now(),
            settle: timing.settle_period,
            listing_age: timing.listing_max_age,
            sent: Mutex::default(),
        }
    }

    /// From when on listings of this process are of any use.
    pub fn began(&self) -> Instant {
        self.leads_since
    }

    /// From when on a listing shows whether each of the addresses is connected.
    pub fn settled_at(&self, target: &SubmissionTarget, emails: &[String]) -> Instant {
        let sent = self.sent.lock();
        let at = emails.iter().filter_map(|email| sent.get(&target.key(email)).copied()).max();
        at.unwrap_or(self.leads_since).max(self.leads_since) + self.settle
    }

    /// Records that the addresses are being submitted, because a listing that began at `listed_at` lacks them. Returns
    /// `None`, and records nothing, if one of them may have been submitted since, also by another object.
    pub fn reserve(
        &self,
        target: &SubmissionTarget,
        emails: &[String],
        listed_at: Instant,
    ) -> Option<Reservation> {
        let mut sent = self.sent.lock();
        let is_settled = |at: Instant| at + self.settle <= listed_at;
        let are_settled =
            emails.iter().all(|email| sent.get(&target.key(email)).copied().is_none_or(is_settled));
        (are_settled && is_settled(self.leads_since)).then(|| {
            let age = self.settle + self.listing_age;
            sent.retain(|_, at| at.elapsed() < age);
            Reservation(record(&mut sent, target, emails))
        })
    }

    /// Records that the request is sent now, or has just ended.
    pub fn record(&self, target: &SubmissionTarget, emails: &[String]) -> Reservation {
        Reservation(record(&mut self.sent.lock(), target, emails))
    }

    /// Forgets a reservation, because the request was not sent. What another object has submitted since stays.
    pub fn release(&self, target: &SubmissionTarget, emails: &[String], Reservation(at): Reservation) {
        let mut sent = self.sent.lock();
        for key in emails.iter().map(|email| target.key(email)) {
            if sent.get(&key) == Some(&at) {
                sent.remove(&key);
            }
        }
    }
}

fn record(sent: &mut Sent, target: &SubmissionTarget, emails: &[String]) -> Instant {
    let at = Instant::now();
    sent.extend(emails.iter().map(|email| (target.key(email), at)));
    at
}

// === impl SubmissionTarget ===

impl SubmissionTarget {
    fn key(&self, email: &str) -> (String, String) {
        (self.base_url.clone(), normalized(email))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing::STANDARD;

    fn target(name: &str) -> SubmissionTarget {
        SubmissionTarget { base_url: format!("https://{name}.example/rest") }
    }

    fn jim() -> Vec<String> {
        vec!["jim@example.com".to_owned()]
    }

    /// A process that has led for a settle period.
    async fn settled() -> Submissions {
        let submissions = Submissions::new(&TIMING);
        tokio::time::advance(TIMING.settle_period).await;
        submissions
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_submits_nothing_for_a_settle_period() {
        let (submissions, own) = (Submissions::new(&TIMING), target("agency"));
        let began = Instant::now();
        assert_eq!(submissions.reserve(&own, &jim(), began), None);
        tokio::time::advance(TIMING.settle_period).await;
        assert_eq!(submissions.reserve(&own, &jim(), began), None, "the listing is older");
        assert_eq!(submissions.settled_at(&own, &jim()), Instant::now());
        assert!(submissions.reserve(&own, &jim(), Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_not_submitted_again_before_a_listing_shows_it() {
        let (submissions, own) = (settled().await, target("agency"));
        let listed_at = Instant::now();
        assert!(submissions.reserve(&own, &jim(), listed_at).is_some());
        let folded = vec![" JIM@Example.com".to_owned(), "pam@example.com".to_owned()];
        assert_eq!(
            submissions.reserve(&own, &folded, listed_at),
            None,
            "another object has the same address"
        );
        for (name, may_submit) in [("agency", false), ("other", true)] {
            let reserved = submissions.reserve(&target(name), &jim(), listed_at);
            assert_eq!(reserved.is_some(), may_submit, "{name}");
        }
        tokio::time::advance(TIMING.settle_period / 2).await;
        submissions.record(&own, &jim());
        tokio::time::advance(TIMING.settle_period).await;
        let reserved = submissions.reserve(&own, &jim(), listed_at);
        assert_eq!(reserved, None, "the listing is older than the submission");
        assert!(submissions.reserve(&own, &jim(), Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_release_does_not_forget_what_another_object_has_submitted() {
        let (submissions, own) = (settled().await, target("agency"));
        let first = submissions.reserve(&own, &jim(), Instant::now()).expect("nothing was submitted");
        tokio::time::advance(TIMING.settle_period).await;
        let listed_at = Instant::now();
        assert!(submissions.reserve(&own, &jim(), listed_at).is_some(), "the first has waited for long");
        submissions.release(&own, &jim(), first);
        assert_eq!(submissions.reserve(&own, &jim(), listed_at), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_was_not_sent_does_not_count_and_old_ones_are_forgotten() {
        let (submissions, own) = (settled().await, target("agency"));
        let reserved = submissions.reserve(&own, &jim(), Instant::now()).expect("nothing was submitted");
        submissions.release(&own, &jim(), reserved);
        assert!(submissions.reserve(&own, &jim(), Instant::now()).is_some());
        tokio::time::advance(TIMING.settle_period + TIMING.listing_max_age).await;
        assert!(submissions.reserve(&own, &["pam@example.com".to_owned()], Instant::now()).is_some());
        assert_eq!(submissions.sent.lock().len(), 1);
    }
}
