//! What this process has submitted, and since when it leads. An object can be deleted, and a status can be lost; so the
//! status alone does not show which requests may still take effect.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::api::AccountName;
use crate::core::mailboxes::normalized;
use crate::core::timing::Timing;
use crate::woodpecker::RemoteIdentity;

/// The addresses that were submitted lately. A listing shows whether an address is connected only if it began a settle
/// period after its last submission by this process, and after this process became the leader, because the one before may
/// have submitted it.
#[derive(Debug)]
pub struct Submissions {
    leads_since: Instant,
    settle: Duration,
    /// How long a listing is used, so that a submission matters that long after it has settled.
    listing_age: Duration,
    by_address: Mutex<HashMap<String, Vec<Submission>>>,
}

/// The account that addresses are submitted to. Its name stays with another API key, and its identity with another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmissionTarget {
    pub account: AccountName,
    pub identity: RemoteIdentity,
}

#[derive(Debug)]
struct Submission {
    target: SubmissionTarget,
    at: Instant,
}

// === impl Submissions ===

impl Submissions {
    /// For a process that leads from now on.
    pub fn new(timing: &Timing) -> Self {
        Self {
            leads_since: Instant::now(),
            settle: timing.settle_period,
            listing_age: timing.listing_max_age,
            by_address: Mutex::default(),
        }
    }

    /// From when on listings of this process are of any use.
    pub fn began(&self) -> Instant {
        self.leads_since
    }

    /// From when on a listing shows whether each of the addresses is connected.
    pub fn settled_at(&self, target: &SubmissionTarget, emails: &[String]) -> Instant {
        let by_address = self.by_address.lock();
        let at = emails.iter().filter_map(|email| last(&by_address, target, email)).max();
        at.unwrap_or(self.leads_since).max(self.leads_since) + self.settle
    }

    /// Records that the addresses are being submitted, because a listing that began at `listed_at` lacks them. Returns
    /// `false`, and records nothing, if one of them may have been submitted since, also by another object.
    #[must_use]
    pub fn reserve(&self, target: &SubmissionTarget, emails: &[String], listed_at: Instant) -> bool {
        let mut by_address = self.by_address.lock();
        let is_settled = |at: Instant| at + self.settle <= listed_at;
        let are_settled = emails.iter().all(|email| last(&by_address, target, email).is_none_or(is_settled));
        let may_submit = are_settled && is_settled(self.leads_since);
        if may_submit {
            self.forget_old(&mut by_address);
            record(&mut by_address, target, emails);
        }
        may_submit
    }

    /// Records that the request is sent now, or has just ended.
    pub fn record(&self, target: &SubmissionTarget, emails: &[String]) {
        record(&mut self.by_address.lock(), target, emails);
    }

    /// Forgets a reservation, because the request was not sent.
    pub fn release(&self, target: &SubmissionTarget, emails: &[String]) {
        let mut by_address = self.by_address.lock();
        for email in emails {
            if let Some(all) = by_address.get_mut(&normalized(email)) {
                all.retain(|it| it.target != *target);
            }
        }
    }

    fn forget_old(&self, by_address: &mut HashMap<String, Vec<Submission>>) {
        let age = self.settle + self.listing_age;
        by_address.retain(|_, all| {
            all.retain(|it| it.at.elapsed() < age);
            !all.is_empty()
        });
    }
}

/// When the address was last submitted to that account.
fn last(
    by_address: &HashMap<String, Vec<Submission>>,
    target: &SubmissionTarget,
    email: &str,
) -> Option<Instant> {
    let all = by_address.get(&normalized(email))?;
    let is_there =
        |it: &&Submission| it.target.account == target.account || it.target.identity == target.identity;
    all.iter().filter(is_there).map(|it| it.at).max()
}

fn record(by_address: &mut HashMap<String, Vec<Submission>>, target: &SubmissionTarget, emails: &[String]) {
    let at = Instant::now();
    for email in emails {
        let all = by_address.entry(normalized(email)).or_default();
        all.retain(|it| it.target != *target);
        all.push(Submission { target: target.clone(), at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::woodpecker::testing::identity;

    const TIMING: Timing = Timing::STANDARD;

    fn target(name: &str, key: u8) -> SubmissionTarget {
        let account = AccountName { namespace: "mail".into(), name: name.into() };
        SubmissionTarget { account, identity: identity(key, None) }
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
        let (submissions, own) = (Submissions::new(&TIMING), target("agency", 1));
        let began = Instant::now();
        assert!(!submissions.reserve(&own, &jim(), began));
        tokio::time::advance(TIMING.settle_period).await;
        assert!(!submissions.reserve(&own, &jim(), began), "the listing is older");
        assert_eq!(submissions.settled_at(&own, &jim()), Instant::now());
        assert!(submissions.reserve(&own, &jim(), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_not_submitted_again_before_a_listing_shows_it() {
        let (submissions, own) = (settled().await, target("agency", 1));
        let listed_at = Instant::now();
        assert!(submissions.reserve(&own, &jim(), listed_at));
        let folded = vec![" JIM@Example.com".to_owned(), "pam@example.com".to_owned()];
        assert!(!submissions.reserve(&own, &folded, listed_at), "another object has the same address");
        for (name, key, may_submit) in [("agency", 2, false), ("alias", 1, false), ("other", 2, true)] {
            assert_eq!(submissions.reserve(&target(name, key), &jim(), listed_at), may_submit, "{name}");
        }
        tokio::time::advance(TIMING.settle_period / 2).await;
        submissions.record(&own, &jim());
        tokio::time::advance(TIMING.settle_period).await;
        assert!(!submissions.reserve(&own, &jim(), listed_at), "the listing is older than the submission");
        assert!(submissions.reserve(&own, &jim(), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_was_not_sent_does_not_count_and_old_ones_are_forgotten() {
        let (submissions, own) = (settled().await, target("agency", 1));
        assert!(submissions.reserve(&own, &jim(), Instant::now()));
        submissions.release(&own, &jim());
        assert!(submissions.reserve(&own, &jim(), Instant::now()));
        tokio::time::advance(TIMING.settle_period + TIMING.listing_max_age).await;
        assert!(submissions.reserve(&own, &["pam@example.com".to_owned()], Instant::now()));
        assert_eq!(submissions.by_address.lock().len(), 1);
    }
}
