//! Reconciles one `WoodpeckerMailboxes`: looks up what was submitted, finds the credential and its account, lists the account
//! if that is needed, and submits what is next.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use crate::api::conditions::{ConditionType, Reason, find};
use crate::api::{
    HoldReason, MailboxPolicy, NamespacedName, RECONCILE_REQUESTED_AT, WoodpeckerMailboxes,
    WoodpeckerMailboxesStatus,
};
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::controller::instrument::Completed;
use crate::controller::mailboxes::listing::{Listing, NotNow};
use crate::controller::mailboxes::others::waits_for_another;
use crate::controller::mailboxes::requester;
use crate::controller::mailboxes::submit::submit;
use crate::controller::mailboxes::target::{Account, Connection, find_pending_account, find_target};
use crate::core::error_chain::chain;
use crate::core::mailbox_connection::{self as connection, Next, Request};
use crate::core::outcome::Outcome;
use crate::core::request_priority::RequestPriority;
use crate::core::status::mailboxes::{ConnectionCounts, Standing};
use crate::woodpecker::{AccountQueue, ApiError, Permit, QueueEntry};

/// A reconcile in progress.
pub(super) struct Session<'a> {
    pub(super) context: &'a Context,
    pub(super) own: &'a NamespacedName,
    pub(super) object: WoodpeckerMailboxes,
    /// The next status. Its counts and conditions follow at the end.
    pub(super) status: WoodpeckerMailboxesStatus,
    /// Whether it has the result of a request, which must not be lost.
    pub(super) has_result: bool,
    /// Whether a person requests a reconcile, after the status has named a mailbox that another object submitted.
    pub(super) may_repeat: bool,
    /// Whether a requested reconcile still has to be done.
    pub(super) is_request_kept: bool,
    /// The queue in which the object waits for a permit.
    pub(super) queued_in: &'a mut Option<AccountQueue>,
}

/// How a reconcile goes on.
pub(super) struct Progress {
    pub(super) standing: Standing,
    pub(super) requeue_after: Duration,
}

/// A listing, and the permit with which it was taken.
type Listed = (Listing, Option<Permit>);

/// Reconciles the object.
pub(super) async fn run(
    context: &Context,
    own: &NamespacedName,
    queued_in: &mut Option<AccountQueue>,
) -> Result<Completed, ReconcileError> {
    let known = context.index.get::<WoodpeckerMailboxes>(own);
    let object = known.and_then(|parsed| parsed.0.as_ref().ok().cloned());
    let Some(object) = object.filter(|object| object.metadata.deletion_timestamp.is_none()) else {
        // What is connected stays connected.
        return Ok(Completed::new(Outcome::ObjectDeleted, context.policy.timing.resync));
    };
    if !context.index.are_mailboxes_listed() {
        // Until all objects are known, a missing credential means nothing, and nothing is submitted.
        return Ok(Completed::new(Outcome::Waiting, context.policy.timing.mailbox_listing_grace));
    }
    let before = object.status.clone().unwrap_or_default();
    let status = connection::aligned(&before, &object.spec.mailboxes);
    let mut session = Session {
        context,
        own,
        object,
        status,
        has_result: false,
        may_repeat: false,
        is_request_kept: false,
        queued_in,
    };
    let progress = session.work().await?;
    session.finish(&progress.standing, progress.requeue_after).await
}

// === impl Session ===

impl Session<'_> {
    async fn work(&mut self) -> Result<Progress, ReconcileError> {
        if self.object.spec.is_suspended() {
            let requeue_after = self.context.policy.timing.resync;
            return Ok(Progress { standing: Standing::Suspended, requeue_after });
        }
        let handled = self.status.last_handled_reconcile_at.clone();
        let is_requested = self.handle_request();
        self.may_repeat = is_requested && self.is_stalled_for(Reason::ConnectionPending);
        let progress = self.work_on(is_requested).await?;
        let is_undone = matches!(
            progress.standing,
            Standing::Queued | Standing::NotListed(_) | Standing::NotLookedUp(_, true)
        );
        if is_requested && (is_undone || self.is_request_kept) {
            self.status.last_handled_reconcile_at = handled;
        }
        Ok(progress)
    }

    async fn work_on(&mut self, is_requested: bool) -> Result<Progress, ReconcileError> {
        let timing = &self.context.policy.timing;
        if let Some(progress) = self.look_up_pending(is_requested).await? {
            return Ok(progress);
        }
        let connection = match find_target(self.context, &self.object, self.own).await? {
            Ok(connection) => connection,
            // No event reports that the credential is registered or the account ready.
            Err(standing) => return Ok(Progress { standing, requeue_after: timing.blocked_poll }),
        };
        let is_connect = self.object.spec.policy() == MailboxPolicy::Connect;
        let is_denied = is_connect && !connection.account.spec.allows_connecting();
        // What is not allowed is listed like a plan, and nothing is sent.
        let policy = if is_denied { MailboxPolicy::Plan } else { self.object.spec.policy() };
        let progress = self.connect_or_plan(&connection, policy, is_requested).await?;
        let is_open = ConnectionCounts::of(&self.status).open() > 0;
        Ok(if is_denied && is_open && progress.standing == Standing::Settled {
            let standing = Standing::connecting_denied(&connection.account.name);
            Progress { standing, requeue_after: timing.blocked_poll }
        } else {
            progress
        })
    }

    /// Looks up what was submitted, at the account that it was submitted to. `None` if nothing is pending any longer.
    async fn look_up_pending(&mut self, is_requested: bool) -> Result<Option<Progress>, ReconcileError> {
        let Some(pending) = self.status.pending.clone() else { return Ok(None) };
        let timing = &self.context.policy.timing;
        let account = match find_pending_account(self.context, &pending, self.own).await? {
            Ok(account) => account,
            Err(Standing::NotLookedUp(_, false))
                if is_requested && self.is_stalled_for(Reason::OutcomeUnknown) =>
            {
                // A person has looked.
                connection::forget_pending(&mut self.status);
                return Ok(None);
            }
            Err(standing) => return Ok(Some(Progress { standing, requeue_after: timing.blocked_poll })),
        };
        let is_held = pending.hold.is_some();
        let is_unexpected =
            pending.hold.as_ref().is_some_and(|it| it.reason == HoldReason::UnexpectedAddress);
        if is_unexpected && !is_requested {
            return Ok(Some(Progress { standing: Standing::Settled, requeue_after: timing.resync }));
        }
        let target = account.as_submission_target();
        let settled_at = self.context.submissions.settled_at(&target, &pending.emails);
        let settles_in = settled_at.saturating_duration_since(Instant::now());
        if !settles_in.is_zero() {
            self.is_request_kept = is_held;
            return Ok(Some(Progress { standing: Standing::Settled, requeue_after: settles_in }));
        }
        // A listing that lags shows the mailbox later, so what a listing lacks is looked up again from time to time.
        let (max_age, since) = match is_held {
            true if is_requested => (timing.listing_max_age, Instant::now()),
            true => (timing.mailbox_plan / 2, settled_at),
            false => (timing.listing_max_age, settled_at),
        };
        match self.listing(&account, max_age, since).await? {
            Ok((listing, _permit)) => {
                let status = &mut self.status;
                connection::look_up(status, &listing.mailboxes, is_requested, timing, Timestamp::now());
                self.has_result = true;
                let is_held = self.status.pending.is_some();
                let requeue_after = timing.mailbox_plan;
                Ok(is_held.then_some(Progress { standing: Standing::Settled, requeue_after }))
            }
            Err(progress) => Ok(Some(progress)),
        }
    }

    /// Whether the stored status says that a person has to look, for that reason.
    fn is_stalled_for(&self, reason: Reason) -> bool {
        let status = self.object.status.as_ref();
        let stalled = status.and_then(|status| find(&status.conditions, ConditionType::Stalled));
        stalled.is_some_and(|stalled| stalled.reason == reason.as_str())
    }

    /// Lists if that is due, and submits what is next.
    async fn connect_or_plan(
        &mut self,
        connection: &Connection,
        policy: MailboxPolicy,
        is_requested: bool,
    ) -> Result<Progress, ReconcileError> {
        let (timing, now) = (&self.context.policy.timing, Timestamp::now());
        let next = self.next(connection, Instant::now());
        // An object that waits for another one lists like a plan.
        let obstacle = self.obstacle(connection, policy, &next);
        let due = if obstacle.is_some() { MailboxPolicy::Plan } else { policy };
        let is_due = connection::needs_listing(&self.status, due, &next, timing.mailbox_plan, now);
        if !is_due && !is_requested {
            return Ok(obstacle.unwrap_or_else(|| self.settled(policy, &next, now)));
        }
        let (max_age, since) = match (&next, policy) {
            _ if is_requested || self.status.missing.is_some() => (Duration::ZERO, Instant::now()),
            (Next::Submit(emails), MailboxPolicy::Connect) => {
                let target = connection.account.as_submission_target();
                (timing.listing_max_age, self.context.submissions.settled_at(&target, emails))
            }
            // Its age is measured with another clock than the age of the plan.
            _ => (timing.mailbox_plan / 2, self.context.submissions.began()),
        };
        let (listing, permit) = match self.listing(&connection.account, max_age, since).await? {
            Ok(listed) => listed,
            Err(progress) => return Ok(progress),
        };
        let unsettled = self.unsettled(connection, listing.began);
        let (id, status) = (connection.registration.credential_id, &mut self.status);
        connection::apply_listing(status, &listing.mailboxes, listing.at, id, &unsettled, timing);
        let next = self.next(connection, listing.began);
        let (Next::Submit(emails), MailboxPolicy::Connect) = (&next, policy) else {
            return Ok(self.settled(policy, &next, now));
        };
        if let Some(obstacle) = self.obstacle(connection, policy, &next) {
            return Ok(obstacle);
        }
        let permit = match permit.map_or_else(|| self.permit(&connection.account), Ok) {
            Ok(permit) => permit,
            Err(progress) => return Ok(progress),
        };
        let requeue_after = submit(self, connection, permit, emails.clone(), listing.began).await?;
        Ok(Progress { standing: Standing::Settled, requeue_after })
    }

    /// The account's listing that is at most `max_age` old and began at `since` or later, or why there is none now.
    async fn listing(
        &mut self,
        account: &Account,
        max_age: Duration,
        since: Instant,
    ) -> Result<Result<Listed, Progress>, ReconcileError> {
        let (timing, identity) = (&self.context.policy.timing, &account.remote.identity);
        if let Some(listing) = account.listing.recent(identity, max_age, since) {
            return Ok(Ok((listing, None)));
        }
        let permit = match self.permit(account) {
            Ok(permit) => permit,
            Err(progress) => return Ok(Err(progress)),
        };
        let attempt = match account.listing.begin(identity) {
            Ok(attempt) => attempt,
            Err(NotNow::Running) => return Ok(Err(not_listed(timing.mailbox_listing_grace, None))),
            Err(NotNow::Failed(left, problem)) => return Ok(Err(not_listed(left, problem))),
        };
        match account.remote.list_mailboxes(&permit, timing.mailbox_listing_grace).await {
            Ok(mailboxes) => Ok(Ok((attempt.succeed(mailboxes, timing), Some(permit)))),
            Err(ApiError::NotLeading(error)) => Err(error.into()),
            Err(error) => {
                tracing::warn!(error = chain(&error), "failed to list the account's mailboxes");
                let uid = self.object.uid().unwrap_or_default();
                let (wait, problem) = attempt.fail(&error, timing, &uid);
                Ok(Err(not_listed(wait, problem)))
            }
        }
    }

    /// A permit of the account's queue. Without one, the object waits in the queue, which requeues it.
    fn permit(&mut self, account: &Account) -> Result<Permit, Progress> {
        let queue = &account.remote.queue;
        let entry = QueueEntry {
            requester: requester(self.own),
            priority: RequestPriority::Mailboxes,
            is_failing: self.status.consecutive_failures.is_some(),
        };
        queue.request_permit(&entry).map_err(|_| {
            *self.queued_in = Some(queue.clone());
            not_listed(self.context.policy.timing.resync, None)
        })
    }

    /// What is next, by a listing that began at that time.
    fn next(&self, connection: &Connection, listed_at: Instant) -> Next {
        let unsettled = self.unsettled(connection, listed_at);
        connection::next(&self.status, connection.registration.credential_id, &unsettled, Timestamp::now())
    }

    /// The mailboxes of which a listing that began at that time does not show whether they are connected, and until when.
    fn unsettled(&self, connection: &Connection, listed_at: Instant) -> BTreeMap<String, Timestamp> {
        let (submissions, target) = (&self.context.submissions, connection.account.as_submission_target());
        let (now, wall) = (Instant::now(), Timestamp::now());
        let mut unsettled = BTreeMap::new();
        for mailbox in &self.status.mailboxes {
            let settled_at = submissions.settled_at(&target, std::slice::from_ref(&mailbox.email));
            if settled_at > listed_at {
                let left = settled_at.saturating_duration_since(now);
                unsettled.insert(mailbox.email.clone(), wall.saturating_add(left).unwrap_or(wall));
            }
        }
        unsettled
    }

    /// Handles a new spec, and the annotation that requests a reconcile: everything that waits or has stopped is tried now.
    fn handle_request(&mut self) -> bool {
        let requested = self.object.annotations().get(RECONCILE_REQUESTED_AT).cloned();
        let is_requested = requested.is_some() && requested != self.status.last_handled_reconcile_at;
        if is_requested {
            self.status.last_handled_reconcile_at = requested;
        }
        let is_spec_new = self.object.metadata.generation != Some(self.status.observed_generation);
        if is_requested {
            connection::retry_now(&mut self.status, Request::Reconcile);
        } else if is_spec_new {
            connection::retry_now(&mut self.status, Request::NewSpec);
        }
        is_requested
    }

    /// What keeps the object from submitting what is next, in another object.
    fn obstacle(&self, connection: &Connection, policy: MailboxPolicy, next: &Next) -> Option<Progress> {
        let (Next::Submit(emails), MailboxPolicy::Connect) = (next, policy) else { return None };
        let standing = waits_for_another(self, connection, emails)?;
        Some(Progress { standing, requeue_after: self.context.policy.timing.blocked_poll })
    }

    fn settled(&self, policy: MailboxPolicy, next: &Next, now: Timestamp) -> Progress {
        Progress { standing: Standing::Settled, requeue_after: self.wait(policy, next, now) }
    }

    /// How long nothing is to be done.
    fn wait(&self, policy: MailboxPolicy, next: &Next, now: Timestamp) -> Duration {
        let timing = &self.context.policy.timing;
        if let (Some(_), Some(at)) = (self.status.missing, &self.status.next_attempt_time) {
            return Duration::try_from(at.0.duration_since(now)).unwrap_or_default();
        }
        match (next, policy) {
            (Next::WaitUntil(at), MailboxPolicy::Connect) => {
                Duration::try_from(at.duration_since(now)).unwrap_or_default()
            }
            (_, MailboxPolicy::Connect) => timing.resync,
            (_, MailboxPolicy::Plan) => {
                let listed = self.status.last_listed_time.as_ref().map(|listed| now.duration_since(listed.0));
                let age = listed.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
                timing.mailbox_plan.saturating_sub(age)
            }
        }
    }
}

/// Without a problem, other requests are ahead.
fn not_listed(requeue_after: Duration, problem: Option<String>) -> Progress {
    Progress { standing: problem.map_or(Standing::Queued, Standing::NotListed), requeue_after }
}
