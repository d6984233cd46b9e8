//! The create: intent first, then the request, then the fact, each written before the next.
//!
//! A POST is not idempotent and its outcome can be unknown. The intent carries a token that is also in the
//! name of the new credential, so that what was made can be told from what a stranger made.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::books::{registration, take_claim, with_registration};
use super::{Step, entries_for, failed, is_as_read, note, tell_apart, tell_orphan};
use crate::controller::context::Context;
use crate::controller::error::Result;
use crate::controller::index::Kin;
use crate::controller::observe::{Created, Gathered};
use crate::controller::observed::{Freshness, Listed, Observed, ReadyTarget, Source, Target};
use crate::controller::status;
use crate::destination::Operation;
use crate::resources::conditions::whole_second;
use crate::resources::{DeletionPolicy, Pending, Place, Registration, UnknownFields};
use crate::woodpecker::{
    ApiError, Certainty, NewCredential, RemoteAccount, SecretUpdate, TOKEN_ALPHABET, TOKEN_LENGTH, Turn,
    marked,
};

/// Registers the app at the account.
pub(super) async fn create(context: &Context, gathered: &mut Gathered) -> Result<Step> {
    if !take_claim(context, gathered) {
        return Ok(Step::Done);
    }
    let Some(account) = gathered.account.clone() else { return Ok(Step::Done) };
    // The grant comes before the intent: what only waits must not look as if it might have been sent. The intent
    // comes before the turn: nobody else's request has to wait for it.
    gathered.ask(&account).map_err(|error| failed(context, &gathered.observed, Operation::Create, &error))?;
    // The mark stays the same over all attempts, so that whatever any of them makes is known for ours.
    let earlier = gathered.observed.status.pending.clone();
    let token = earlier.as_ref().map_or_else(token, |earlier| Ok(earlier.token.clone()))?;
    let Some(pending) = pending(&gathered.observed, &token, earlier.clone()) else { return Ok(Step::Done) };
    // Nothing is written down for a request that may not be sent any more.
    context.leadership.admit(context.rules.timing.longest_call())?;
    let mut intent = gathered.observed.status.clone();
    intent.pending = Some(pending);
    status::write_intent(context, &mut gathered.observed, intent).await?;
    let turn = match last_look(context, gathered, &account).await {
        Ok(Some(turn)) if is_as_read(context, &gathered.observed) => turn,
        looked => {
            let ended = looked.map(|turn| if turn.is_some() { Step::Again } else { Step::Done });
            give_up_intent(context, &mut gathered.observed, earlier).await?;
            return ended;
        }
    };
    let name = marked(&gathered.observed.object.remote_name(), &token);
    let uid = gathered.observed.object.metadata.uid.clone().unwrap_or_default();
    context.index.with(&uid, |known| known.create.begin(&token));
    let posted = post(gathered, &account, &turn, &name).await;
    drop(turn);
    // Who has the turn now sends its request before this one's outcome is written down.
    tokio::task::yield_now().await;
    match posted {
        Ok(id) => {
            gathered.created = Some(Created::Credential(id));
            Ok(record(&mut gathered.observed, id, name, token))
        }
        Err(error) => {
            let failed = failed(context, &gathered.observed, Operation::Create, &error);
            if error.certainty() == Certainty::Unknown {
                context.index.with(&uid, |known| known.create.begin(&token));
            } else {
                context.index.with(&uid, |known| known.create.end(&token));
                give_up_intent(context, &mut gathered.observed, earlier).await?;
            }
            Err(failed)
        }
    }
}

/// The turn for the create; nothing where the account does not hold any more what was decided on: while this pass waited,
/// others may have written there.
async fn last_look(
    context: &Context,
    gathered: &mut Gathered,
    account: &RemoteAccount,
) -> Result<Option<Turn>> {
    let turn = gathered.turn_to_finish(account).await;
    let observed = &mut gathered.observed;
    let turn = turn.map_err(|error| failed(context, observed, Operation::Create, &error))?;
    tell_apart(context, observed, account, &turn).await?;
    let listed = account.list(&turn, context.rules.timing.listing_max_age).await;
    let listing = listed.map_err(|error| failed(context, observed, Operation::List, &error))?;
    let entries = entries_for(observed, &listing);
    if observed.learnt.listed.as_ref().is_some_and(|known| known.entries == entries) {
        return Ok(Some(turn));
    }
    observed.learnt.listed = Some(Listed { entries, freshness: Freshness::Fresh });
    Ok(None)
}

fn pending(observed: &Observed, token: &str, earlier: Option<Box<Pending>>) -> Option<Box<Pending>> {
    let (Source::Usable(source), Target::Ready(target)) = (&observed.source, &observed.target) else {
        return None;
    };
    let entries = observed.learnt.listed.as_ref().map(|listed| listed.entries.as_slice()).unwrap_or_default();
    let (since, unknown) = earlier.map_or_else(
        || (Time(whole_second(Timestamp::now())), UnknownFields::default()),
        |earlier| (earlier.since, earlier.unknown),
    );
    Some(Box::new(Pending {
        token: token.to_owned(),
        since,
        ids: entries.iter().map(|entry| entry.id).collect(),
        account: target.place.account.clone(),
        base_url: target.place.base_url.clone(),
        company_id: target.place.company_id,
        fingerprint: source.fingerprint.clone(),
        unknown,
    }))
}

async fn post(
    gathered: &Gathered,
    account: &RemoteAccount,
    turn: &Turn,
    name: &str,
) -> Result<i64, ApiError> {
    let spec = &gathered.observed.object.spec;
    let (Some(secret), Source::Usable(source)) = (&gathered.secret, &gathered.observed.source) else {
        return Err(ApiError::NotFound);
    };
    let secret = SecretUpdate { secret, expires_at: source.expires_at };
    account
        .create(turn, &NewCredential { tenant: &spec.tenant_id, client: &spec.client_id, secret, name })
        .await
}

/// Takes the registration into the status, which is written before anything else is sent.
fn record(observed: &mut Observed, id: i64, name: String, token: String) -> Step {
    let (Source::Usable(source), Target::Ready(target)) = (&mut observed.source, &observed.target) else {
        return Step::Done;
    };
    let registration = Registration {
        fingerprint: source.fingerprint.clone(),
        token: Some(token),
        ..registration(target.place.clone(), id, name, source.expires_at)
    };
    source.is_registered = true;
    tracing::info!(id, account = %target.place.account, "Woodpecker has made the credential");
    observed.status = with_registration(observed, registration);
    observed.status.candidate = None;
    observed.is_unrecorded = true;
    // The last listing is from before.
    observed.seen = None;
    note(observed, "Registered", format!("Woodpecker has made credential {id}"));
    if observed.status.retiring.is_empty() { Step::Done } else { Step::Again }
}

/// Removes what was made for an object that is gone by now, where its policy says so; what stays is named.
pub(super) async fn take_back(context: &Context, gathered: &mut Gathered, id: i64) {
    let Some(account) = gathered.account.clone() else { return };
    let turn = gathered.turn_to_finish(&account).await;
    let observed = &gathered.observed;
    let Target::Ready(ReadyTarget { place, .. }) = &observed.target else { return };
    let removed = match turn {
        Ok(turn)
            if may_take_back(context, observed, place, id) && status::is_gone(context, observed).await =>
        {
            matches!(account.delete(&turn, id).await, Ok(()) | Err(ApiError::NotFound))
        }
        Ok(_) | Err(_) => false,
    };
    if removed {
        tracing::warn!(id, "the object was deleted while its credential was made, which was removed again");
        return;
    }
    tracing::error!(
        id,
        cause = "object_gone",
        "a credential is left at Woodpecker: its object was deleted while it was made"
    );
    context.metrics.credentials.orphaned("object_gone");
    let text = format!(
        "credential {id} is left at WoodpeckerAccount {}, for this object was deleted while it was made: remove it there",
        place.account
    );
    tell_orphan(context, observed, text).await;
}

/// Whether the policy says so, and no other object has taken it over meanwhile, as far as all are known.
fn may_take_back(context: &Context, observed: &Observed, place: &Place, id: i64) -> bool {
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    observed.object.spec.deletion_policy() == DeletionPolicy::Delete
        && context.index.are_credentials_listed()
        && context.index.other_holder(uid, Kin::of(&observed.object, place, id)).is_none()
}

/// Nothing was sent, or nothing was made of it: what was known before counts again.
async fn give_up_intent(
    context: &Context,
    observed: &mut Observed,
    earlier: Option<Box<Pending>>,
) -> Result<()> {
    let mut without = observed.status.clone();
    without.pending = earlier;
    status::write_fact(context, observed, without).await
}

/// Twelve random letters and digits: sixty bits.
fn token() -> Result<String> {
    let mut random = [0_u8; TOKEN_LENGTH];
    getrandom::fill(&mut random)?;
    Ok(random
        .iter()
        .filter_map(|byte| TOKEN_ALPHABET.get(usize::from(byte & 31)))
        .map(|byte| char::from(*byte))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_fresh_and_of_full_length() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert_ne!(one, other);
        assert!(
            one.len() == 12 && one.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()),
            "{one}"
        );
    }
}
