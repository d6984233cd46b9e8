//! The create: intent first, then the request, then the fact, each written before the next.
//!
//! A POST is not idempotent and its outcome can be unknown. The intent carries a token that is also in the
//! name of the new credential, so that what was made can be told from what a stranger made.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::books::{take_claim, with_registration};
use super::{Step, entries_for, is_as_read, is_told_apart, note, note_failure, tell_orphan};
use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::controller::index::Kin;
use crate::controller::observe::{Created, Gathered};
use crate::controller::observed::{Freshness, Listed, Observed, Source, Target};
use crate::controller::status::{self, Written};
use crate::destination::Operation;
use crate::resources::conditions::whole_second;
use crate::resources::{DeletionPolicy, Ownership, Pending, Registration, UnknownFields};
use crate::woodpecker::{
    ApiError, Certainty, NewCredential, RemoteAccount, SecretUpdate, TOKEN_ALPHABET, TOKEN_LENGTH, Turn,
    marked,
};

/// Registers the app at the account.
pub(super) async fn create(context: &Context, gathered: &mut Gathered) -> Result<Step, PassError> {
    if !take_claim(context, gathered) {
        return Ok(Step::Done);
    }
    let Some(account) = gathered.account.clone() else { return Ok(Step::Done) };
    // The grant comes before the intent: what only waits must not look as if it might have been sent. The intent
    // comes before the turn: nobody else's request has to wait for it.
    if let Err(error) = gathered.ask(&account) {
        note_failure(context, &mut gathered.observed, Operation::Create, &error);
        return Ok(Step::Done);
    }
    // The mark stays the same over all attempts, so that whatever any of them makes is known for ours.
    let earlier = gathered.observed.status.pending.clone();
    let token = earlier.as_ref().map_or_else(token, |earlier| Ok(earlier.token.clone()))?;
    let Some(pending) = pending(&gathered.observed, &token, earlier.clone()) else { return Ok(Step::Done) };
    // Nothing is written down for a request that may not be sent any more.
    context.leadership.admit(context.rules.timing.longest_call())?;
    let mut intent = gathered.observed.status.clone();
    intent.pending = Some(pending);
    if status::write_intent(context, &mut gathered.observed, intent).await? == Written::ObjectGone {
        return Ok(Step::ObjectGone);
    }
    let Some(turn) = last_look(context, gathered, &account).await else {
        return give_up_intent(context, &mut gathered.observed, earlier).await;
    };
    if !is_as_read(context, &gathered.observed) {
        drop(turn);
        let given_up = give_up_intent(context, &mut gathered.observed, earlier).await?;
        return Ok(if given_up == Step::Done { Step::Again } else { given_up });
    }
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
            note_failure(context, &mut gathered.observed, Operation::Create, &error);
            if error.certainty() == Certainty::Unknown {
                context.index.with(&uid, |known| known.create.begin(&token));
                return Ok(Step::Done);
            }
            context.index.with(&uid, |known| known.create.end(&token));
            give_up_intent(context, &mut gathered.observed, earlier).await
        }
    }
}

/// The turn for the create; nothing where it is not had, or where the account does not hold any more what was
/// decided on: while this pass waited, others may have written there.
async fn last_look(context: &Context, gathered: &mut Gathered, account: &RemoteAccount) -> Option<Turn> {
    let turn = match gathered.turn_to_finish(account).await {
        Ok(turn) => turn,
        Err(error) => {
            note_failure(context, &mut gathered.observed, Operation::Create, &error);
            return None;
        }
    };
    if let Err(failure) = is_told_apart(context, &gathered.observed, account, &turn).await {
        gathered.observed.learnt.failure = Some(failure);
        return None;
    }
    let listed = match account.list(&turn, context.rules.timing.listing_max_age).await {
        Ok(listing) => entries_for(&gathered.observed, &listing),
        Err(error) => {
            note_failure(context, &mut gathered.observed, Operation::List, &error);
            return None;
        }
    };
    let is_as_decided = gathered.observed.learnt.listed.as_ref().is_some_and(|known| known.entries == listed);
    if is_as_decided {
        return Some(turn);
    }
    gathered.observed.learnt.listed = Some(Listed { entries: listed, freshness: Freshness::Fresh });
    None
}

fn pending(observed: &Observed, token: &str, earlier: Option<Pending>) -> Option<Pending> {
    let (Source::Usable(source), Target::Ready(target)) = (&observed.source, &observed.target) else {
        return None;
    };
    let entries = observed.learnt.listed.as_ref().map(|listed| listed.entries.as_slice()).unwrap_or_default();
    Some(Pending {
        token: token.to_owned(),
        since: earlier
            .as_ref()
            .map_or_else(|| Time(whole_second(Timestamp::now())), |earlier| earlier.since.clone()),
        ids: entries.iter().map(|entry| entry.id).collect(),
        account: target.place.account.clone(),
        base_url: target.place.base_url.clone(),
        company_id: target.place.company_id,
        fingerprint: source.fingerprint.clone(),
        unknown: earlier.map(|earlier| earlier.unknown).unwrap_or_default(),
    })
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
        account: Some(target.place.account.clone()),
        base_url: Some(target.place.base_url.clone()),
        company_id: target.place.company_id,
        record: None,
        credential_id: id,
        ownership: Ownership::Created,
        fingerprint: source.fingerprint.clone(),
        name,
        expires_at: Time(whole_second(source.expires_at)),
        registered_at: Time(whole_second(Timestamp::now())),
        token: Some(token),
        change_sent_at: None,
        unknown: UnknownFields::default(),
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
    let removed = match gathered.turn_to_finish(&account).await {
        Ok(turn)
            if may_take_back(context, &gathered.observed, id)
                && status::is_gone(context, &gathered.observed).await =>
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
        target_name(&gathered.observed)
    );
    tell_orphan(context, &gathered.observed, text).await;
}

fn target_name(observed: &Observed) -> String {
    match &observed.target {
        Target::Ready(target) => target.place.account.to_string(),
        _ => String::new(),
    }
}

/// Whether the policy says so, and no other object has taken it over meanwhile, as far as all are known.
fn may_take_back(context: &Context, observed: &Observed, id: i64) -> bool {
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    let Target::Ready(target) = &observed.target else { return false };
    observed.object.spec.deletion_policy() == DeletionPolicy::Delete
        && context.index.are_credentials_listed()
        && context.index.other_holder(uid, Kin::of(&observed.object, &target.place, id)).is_none()
}

/// Nothing was sent, or nothing was made of it: what was known before counts again.
async fn give_up_intent(
    context: &Context,
    observed: &mut Observed,
    earlier: Option<Pending>,
) -> Result<Step, PassError> {
    let mut without = observed.status.clone();
    without.pending = earlier;
    match status::write_fact(context, observed, without).await? {
        Written::Yes => Ok(Step::Done),
        Written::ObjectGone => Ok(Step::ObjectGone),
    }
}

/// Twelve random letters and digits: sixty bits.
fn token() -> Result<String, PassError> {
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
