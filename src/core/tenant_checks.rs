//! In which tenants of an `EntraIdentity` a sign-in is due, and what the last ones found.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::conditions::{ConditionStatus, ConditionType, Reason, find};
use crate::api::{EntraIdentityStatus, TenantId};
use crate::core::timing::Timing;
use crate::core::{backoff, clock};

/// The most tenants that a status lists.
pub const MAX_LISTED: usize = 100;

/// What is missing in a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// As a condition has it.
    pub reason: String,
    /// What is missing and what to do.
    pub message: String,
    /// Where an admin of the tenant consents, if that is what is missing.
    pub consent_url: Option<String>,
}

/// What the last sign-in in a tenant found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantResult {
    /// None was attempted.
    Unknown,
    Ready,
    /// A person must act.
    Missing(Problem),
    /// The operator tries again.
    Unavailable(Problem),
}

/// The tenants of an identity, with the last result and the time of the next sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantChecks {
    home: TenantId,
    tenants: BTreeMap<TenantId, Check>,
    /// When all tenants were last checked.
    checked_at: Option<Timestamp>,
    /// Whether such a round is under way.
    is_round_open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    result: TenantResult,
    due: Timestamp,
    /// Consecutive attempts that got no answer.
    failures: u32,
}

// === impl TenantChecks ===

impl TenantChecks {
    /// Nothing is known of any tenant, so each one is due.
    pub fn new(tenants: &[TenantId], home: TenantId) -> Self {
        let mut checks = Self { home, tenants: BTreeMap::new(), checked_at: None, is_round_open: false };
        checks.set_tenants(tenants);
        checks
    }

    /// What a status of the present generation says, after a start: only tenants with a problem are due before the next
    /// round.
    pub fn resume(
        status: &EntraIdentityStatus,
        tenants: &[TenantId],
        home: TenantId,
        timing: &Timing,
        now: Timestamp,
    ) -> Self {
        let mut checks = Self::new(tenants, home);
        let checked_at = status.last_checked_time.as_ref().and_then(|at| clock::happened(at.0, now));
        let is_home_ready = find(&status.conditions, ConditionType::Ready)
            .is_some_and(|ready| ready.status == ConditionStatus::True);
        // A list that is full may lack a tenant.
        let Some(checked_at) = checked_at.filter(|_| is_home_ready && status.tenants.len() < MAX_LISTED)
        else {
            return checks;
        };
        for (tenant, check) in &mut checks.tenants {
            let problem = status.tenants.iter().find(|it| it.tenant_id == tenant.as_str());
            *check = match problem {
                None => Check {
                    result: TenantResult::Ready,
                    due: checked_at + timing.identity_check,
                    failures: 0,
                },
                Some(problem) => Check {
                    result: TenantResult::Missing(Problem {
                        reason: problem.reason.clone(),
                        message: problem.message.clone(),
                        consent_url: problem.consent_url.clone(),
                    }),
                    due: now,
                    failures: 0,
                },
            };
        }
        checks.checked_at = Some(checked_at);
        checks
    }

    /// Adds new tenants, which are due, and removes those that are no longer named.
    pub fn set_tenants(&mut self, tenants: &[TenantId]) {
        self.tenants.retain(|known, _| tenants.contains(known));
        for tenant in tenants {
            self.tenants.entry(tenant.clone()).or_insert(Check {
                result: TenantResult::Unknown,
                due: Timestamp::MIN,
                failures: 0,
            });
        }
    }

    /// Makes all tenants due; their results stay until then.
    pub fn restart(&mut self) {
        for check in self.tenants.values_mut() {
            (check.due, check.failures) = (Timestamp::MIN, 0);
        }
        self.is_round_open = true;
    }

    /// The tenant to sign in to now. The home tenant comes first, and the others wait until the identity can sign in
    /// there.
    pub fn next(&mut self, now: Timestamp) -> Option<TenantId> {
        let home = self.tenants.get(&self.home)?;
        let found = if is_due(home, now) {
            self.home.clone()
        } else if home.result.has_token() {
            let mut others = self.tenants.iter();
            others.find(|(_, check)| is_due(check, now)).map(|(tenant, _)| tenant.clone())?
        } else {
            return None;
        };
        let check = self.tenants.get(&found)?;
        // A problem is looked at more often than everything else.
        self.is_round_open |= matches!(check.result, TenantResult::Ready | TenantResult::Unknown);
        Some(found)
    }

    /// Records a result, and when the next sign-in is due.
    pub fn record(
        &mut self,
        tenant: &TenantId,
        result: TenantResult,
        timing: &Timing,
        uid: &str,
        now: Timestamp,
    ) {
        let Some(check) = self.tenants.get_mut(tenant) else { return };
        check.failures = match &result {
            TenantResult::Unavailable(_) => check.failures.saturating_add(1),
            TenantResult::Unknown | TenantResult::Ready | TenantResult::Missing(_) => 0,
        };
        let wait = match &result {
            // All tenants of an identity are due together; identities are spread.
            TenantResult::Ready => backoff::shorten(uid, timing.identity_check, 4),
            TenantResult::Missing(_) => backoff::shorten(tenant.as_str(), timing.identity_retry, 10),
            TenantResult::Unavailable(_) => backoff::delay(timing, check.failures, tenant.as_str()),
            TenantResult::Unknown => return,
        };
        (check.result, check.due) = (result, now + wait);
    }

    /// Ends a round in which no tenant is left to check.
    pub fn end_round(&mut self, now: Timestamp) {
        let is_complete =
            self.tenants.values().all(|check| check.result != TenantResult::Unknown && !is_due(check, now));
        if self.is_round_open && is_complete {
            (self.checked_at, self.is_round_open) = (Some(now), false);
        }
    }

    /// When the next sign-in is due.
    pub fn next_at(&self, now: Timestamp) -> Timestamp {
        let can_sign_in = self.home_result().has_token();
        let counts = |tenant: &TenantId| can_sign_in || *tenant == self.home;
        let due = self.tenants.iter().filter(|(tenant, _)| counts(tenant)).map(|(_, check)| check.due);
        due.min().map_or(now, |due| clock::planned(due, now))
    }

    pub fn checked_at(&self) -> Option<Timestamp> {
        self.checked_at
    }

    pub fn home(&self) -> &TenantId {
        &self.home
    }

    pub fn result(&self, tenant: &TenantId) -> &TenantResult {
        self.tenants.get(tenant).map_or(&TenantResult::Unknown, |check| &check.result)
    }

    pub fn home_result(&self) -> &TenantResult {
        self.result(&self.home)
    }

    /// The results in the tenants other than the home tenant, sorted.
    pub fn others(&self) -> impl Iterator<Item = (&TenantId, &TenantResult)> {
        let others = self.tenants.iter().filter(|(tenant, _)| **tenant != self.home);
        others.map(|(tenant, check)| (tenant, &check.result))
    }

    /// The tenants in which the identity is ready, and was not by those earlier results.
    pub fn recovered_since(&self, earlier: &Self) -> Vec<TenantId> {
        let is_recovered = |tenant: &&TenantId| {
            *self.result(tenant) == TenantResult::Ready && *earlier.result(tenant) != TenantResult::Ready
        };
        self.tenants.keys().filter(is_recovered).cloned().collect()
    }

    pub fn count(&self) -> usize {
        self.tenants.len()
    }
}

fn is_due(check: &Check, now: Timestamp) -> bool {
    clock::planned(check.due, now) <= now
}

// === impl TenantResult ===

impl TenantResult {
    /// What is wrong, if anything is known to be.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Missing(problem) | Self::Unavailable(problem) => Some(problem),
            Self::Unknown | Self::Ready => None,
        }
    }

    /// Whether Entra issued a token.
    fn has_token(&self) -> bool {
        *self == Self::Ready || self.lacks_permission()
    }

    /// Whether a token that is in use lacks a permission, so that only a new one can have it.
    pub fn lacks_permission(&self) -> bool {
        self.problem().is_some_and(|problem| problem.reason == Reason::PermissionMissing.as_str())
    }
}

#[cfg(test)]
mod tests;
