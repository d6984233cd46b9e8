//! What a pass knows and needs, and its place in the lanes of accounts.

use std::sync::Arc;
use std::time::Duration;

use crate::controller::claims::{ClaimKey, Claimant};
use crate::controller::context::Context;
use crate::controller::index::Named;
use crate::controller::observed::Observed;
use crate::destination::FailureKind;
use crate::resources::SealedGraphCredential;
use crate::secret::SecretText;
use crate::woodpecker::{
    ApiError, Class, Grant, Lane, Listing, Owner, OwnerKind, RemoteAccount, Ticket, Turn,
};

/// What a pass knows, and what it needs to act: the values that `decide` must not see.
pub struct Gathered {
    pub observed: Observed,
    /// The client secret, for the length of the pass.
    pub secret: Option<SecretText>,
    /// The account, where it can be used.
    pub account: Option<Arc<RemoteAccount>>,
    /// The record of the store as it was read, where the target is the store and there is one.
    pub record: Option<SealedGraphCredential>,
    /// The account of the earlier registration to remove next, where it works.
    pub retiring_account: Option<Arc<RemoteAccount>>,
    /// The object's claim on its app at that account, taken before a create.
    pub claimant: Option<(ClaimKey, Claimant)>,
    /// How urgent the requests of the step are.
    pub class: Class,
    /// The right to send requests in one lane, once the pass has it.
    pub grant: Option<Grant>,
    /// The lane in which a turn was asked for and not given.
    pub waits_in: Option<Lane>,
    /// What this reconcile has created at the destination and the status does not say yet.
    pub created: Option<Created>,
}

/// Something created at the destination, to be taken back where the object turns out to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object's record of the store.
    Record,
    /// The credential of that id at the account.
    Credential(i64),
}

// === impl Gathered ===

impl Gathered {
    /// The turn to send one request to an account; without one the object is called when it has come.
    pub async fn turn(&mut self, account: &RemoteAccount) -> Result<Turn, ApiError> {
        self.ask(account)?;
        self.turn_to_finish(account).await
    }

    /// The right to have the next turns at an account, while the request before may still be under way; what it
    /// had is given back where somebody more urgent waits.
    pub fn ask(&mut self, account: &RemoteAccount) -> Result<(), ApiError> {
        let lane = &account.lane;
        self.waits_in = Some(lane.clone());
        let grant = match self.grant.take() {
            Some(mut grant) if grant.is_of(lane) => {
                grant.reclassify(self.class);
                if grant.should_yield() {
                    return Err(grant.step_back().into());
                }
                grant
            }
            Some(_) | None => lane.ask(&self.ticket())?,
        };
        self.grant = Some(grant);
        self.waits_in = None;
        Ok(())
    }

    /// The turn for what ends what has begun: it lets nobody go first.
    pub async fn turn_to_finish(&mut self, account: &RemoteAccount) -> Result<Turn, ApiError> {
        let lane = &account.lane;
        let held = self.grant.take().filter(|grant| grant.is_of(lane));
        self.waits_in = Some(lane.clone());
        let grant = held.map_or_else(|| lane.ask(&self.ticket()), Ok)?;
        let turn = grant.turn().await?;
        self.grant = Some(grant);
        self.waits_in = None;
        Ok(turn)
    }

    /// What an account holds, by a listing at most so old; a request is sent only where there is none.
    pub async fn list(&mut self, account: &RemoteAccount, max_age: Duration) -> Result<Listing, ApiError> {
        if let Some(listing) = account.last_listing(max_age) {
            return Ok(listing);
        }
        let turn = self.turn(account).await?;
        account.list(&turn, max_age).await
    }

    /// What an account holds now, to end what has begun.
    pub async fn list_to_finish(&mut self, account: &RemoteAccount) -> Result<Listing, ApiError> {
        let turn = self.turn_to_finish(account).await?;
        account.list(&turn, Duration::ZERO).await
    }

    /// Gives back what the object has in lanes, but for the ticket with which it waits.
    pub fn leave_lanes(&mut self, context: &Context) {
        self.grant = None;
        let kind = self.observed.learnt.failure.as_ref().map(|failure| &failure.kind);
        let is_queued = matches!(kind, Some(FailureKind::Queued(_)));
        let waits_in = self.waits_in.clone().filter(|_| is_queued);
        context.accounts.leave_lanes(&owner(&Named::of(&self.observed.object)), waits_in.as_ref());
    }

    fn ticket(&self) -> Ticket {
        Ticket {
            owner: owner(&Named::of(&self.observed.object)),
            class: self.class,
            is_failing: self.observed.status.consecutive_failures.is_some(),
        }
    }
}

/// The owner of a credential's tickets.
pub fn owner(own: &Named) -> Owner {
    Owner { kind: OwnerKind::Credential, namespace: own.namespace.clone(), name: own.name.clone() }
}
