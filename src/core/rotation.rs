//! Rotation: what the operator knows about the client secrets that it created for an app, and what a record, a reading or
//! a registration means for that.
//!
//! Creating a client secret is not idempotent, and its response can be lost. So each one has a random display name, which
//! is persisted before the request; by it the client secret is found at Microsoft Entra.

pub mod failure;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::whole_second;
use crate::api::timestamp::Time;
use crate::api::{
    CreateAttempt, CreatedSecret, EarlierSecret, Observations, RotationStatus, UnknownFields, UnknownSecret,
};
use crate::core::app_secrets::AppSecret;
use crate::core::clock;
use crate::core::timing::Timing;

/// First part of the display name of each client secret that an operator creates.
const PREFIX: &str = "graph-credentials.io";

/// Most earlier client secrets that are still to be removed; no client secret is created beyond that.
pub const MAX_EARLIER: usize = 8;

/// Most earlier client secrets, including those that are never removed, and most attempts, that the status holds.
const MAX_IN_STATUS: usize = 16;

/// Readings that must show the client secret in use before an earlier one is removed.
const OBSERVATIONS: i32 = 3;

/// The display name of a client secret of the object with that uid. Entra keeps 90 characters at least.
pub fn display_name(uid: &str, token: &str) -> String {
    format!("{PREFIX}/{uid}/{token}")
}

/// Whether a client secret was created for the object with that uid, according to its name.
pub fn is_named_for(display_name: &str, uid: &str) -> bool {
    let rest = display_name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('/'));
    !uid.is_empty() && rest.and_then(|rest| rest.split_once('/')).is_some_and(|(of, _)| of == uid)
}

/// Whether the client secret was given up or removed, so that a record with it is outdated.
pub fn is_given_up(status: &RotationStatus, key_id: &str) -> bool {
    let is_it = |it: &&EarlierSecret| it.key_id == key_id && (it.unused || it.removal_time.is_some());
    status.earlier.iter().any(|it| is_it(&it))
}

/// Whether an operator created a client secret, according to its name.
pub fn is_of_operator(display_name: &str) -> bool {
    uid_in(display_name).is_some_and(|uid| !uid.is_empty())
}

/// The uid in the display name of a client secret that an operator created.
fn uid_in(display_name: &str) -> Option<&str> {
    Some(display_name.strip_prefix(PREFIX)?.strip_prefix('/')?.split_once('/')?.0)
}

/// The client secrets in the record of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRecord {
    /// Not read, because nothing needs it.
    NotRead,
    /// There is no record, or it contains no client secret that the operator created.
    Missing,
    /// It cannot be decrypted, because its key is lost or it was changed.
    Unreadable { current: Option<Box<CreatedSecret>>, pending: Option<Box<CreatedSecret>> },
    /// It contains a client secret that another object stored.
    Foreign,
    /// It can be decrypted.
    Readable { current: Box<CreatedSecret>, pending: Option<Box<CreatedSecret>> },
}

/// The status, corrected by the record, which is the truth about the client secrets that the operator has: a status may be
/// lost, restored or a step behind.
pub fn corrected(status: RotationStatus, record: &SecretRecord) -> RotationStatus {
    let mut next = status;
    match record {
        SecretRecord::NotRead | SecretRecord::Foreign => return next,
        SecretRecord::Missing => lose(&mut next, &[]),
        SecretRecord::Unreadable { current, pending } => lose(&mut next, &[current, pending]),
        SecretRecord::Readable { current, pending } => {
            let is_promoted = |it: &CreatedSecret| {
                next.current.as_ref().is_some_and(|known| known.key_id == it.key_id)
                    && it.key_id != current.key_id
            };
            let is_in_record = |it: &CreatedSecret| {
                it.key_id == current.key_id || pending.as_ref().is_some_and(|new| new.key_id == it.key_id)
            };
            // A pending one that the status already calls current is registered; only the record is a step behind.
            let (in_use, new) = match pending {
                Some(new) if is_promoted(new) => (new, None),
                new => (current, new.as_deref().cloned()),
            };
            let lost: Vec<CreatedSecret> = [&next.current, &next.pending]
                .into_iter()
                .flatten()
                .filter(|it| !is_in_record(it))
                .cloned()
                .collect();
            for lost in lost {
                supersede(&mut next, lost);
            }
            if in_use.key_id != current.key_id {
                supersede(&mut next, CreatedSecret::clone(current));
            }
            let was_kept = next.current.as_ref().is_some_and(|it| it.kept && it.key_id == in_use.key_id);
            next.current = Some(CreatedSecret { kept: was_kept, ..CreatedSecret::clone(in_use) });
            next.pending = new;
        }
    }
    let known: Vec<String> =
        [&next.current, &next.pending].into_iter().flatten().map(|it| it.display_name.clone()).collect();
    // The response to the attempt was saved in the record.
    next.attempt = next.attempt.filter(|attempt| !known.contains(&attempt.display_name));
    next.earlier_attempts.retain(|attempt| !known.contains(&attempt.display_name));
    let in_use: Vec<String> =
        [&next.current, &next.pending].into_iter().flatten().map(|it| it.key_id.clone()).collect();
    next.earlier.retain(|earlier| !in_use.contains(&earlier.key_id));
    next
}

/// The text of all client secrets is lost, including those that only the record names. They stay in use until another one
/// is registered.
fn lose(status: &mut RotationStatus, in_record: &[&Option<Box<CreatedSecret>>]) {
    let in_record = in_record.iter().filter_map(|it| it.as_deref().cloned());
    let lost: Vec<CreatedSecret> =
        [status.current.take(), status.pending.take()].into_iter().flatten().chain(in_record).collect();
    for lost in lost {
        supersede(status, lost);
    }
}

/// Whether the status has room for another client secret, which may become an earlier one or an attempt.
pub fn has_room(status: &RotationStatus) -> bool {
    status.earlier.iter().filter(|it| !it.kept).count() < MAX_EARLIER
        && status.earlier.len().max(status.earlier_attempts.len()) < MAX_IN_STATUS
}

/// When the next client secret may be created after attempts whose outcome is not known: later after each of them.
pub fn next_attempt_at(status: &RotationStatus, timing: &Timing) -> Option<Timestamp> {
    let last = status.earlier_attempts.iter().map(|it| it.start_time.0).max()?;
    let doublings = u32::try_from(status.earlier_attempts.len()).unwrap_or(u32::MAX).min(8);
    let gap = timing.secret_lookup.saturating_mul(1 << doublings);
    Some(last + gap.min(timing.secret_attempt_gap))
}

/// The request for the rotation in progress is handled: a new client secret is registered, or it is the first one.
pub fn handle_request(status: &mut RotationStatus) {
    if let Some(requested) = status.requested_at.take() {
        status.last_handled_rotate_at = Some(requested);
    }
    status.requested_overlap = None;
}

/// Adds an earlier client secret, to be removed after its successor is registered.
pub fn supersede(status: &mut RotationStatus, earlier: CreatedSecret) {
    if status.earlier.iter().all(|known| known.key_id != earlier.key_id) {
        status.earlier.push(earlier.into_earlier(None));
    }
}

/// The status once the client secret of the source is registered: a pending one is current now, and the earlier ones may
/// be removed after the overlap.
pub fn after_registration(status: &RotationStatus, overlap: Duration, now: Timestamp) -> RotationStatus {
    let mut next = status.clone();
    if let Some(pending) = next.pending.take() {
        if let Some(current) = next.current.replace(pending) {
            supersede(&mut next, current);
        }
        next.observations = None;
        handle_request(&mut next);
    }
    let removable = Time(whole_second(now + overlap));
    // A shorter overlap, as after an incident, applies to all of them.
    for earlier in &mut next.earlier {
        let earliest = earlier.remove_after_time.take().filter(|known| known.0 <= removable.0);
        earlier.remove_after_time = Some(earliest.unwrap_or_else(|| removable.clone()));
    }
    next
}

/// The status once the object uses the client secret of a Secret: those that the operator created are earlier ones.
pub fn after_switch(status: &RotationStatus, overlap: Duration, now: Timestamp) -> RotationStatus {
    let mut next = status.clone();
    for unused in [next.current.take(), next.pending.take()].into_iter().flatten() {
        supersede(&mut next, unused);
    }
    next.observations = None;
    after_registration(&next, overlap, now)
}

/// The status of an object whose deletion has removed its registration: nothing uses its client secrets now.
pub fn after_deletion(status: &RotationStatus, now: Timestamp) -> RotationStatus {
    let mut next = after_switch(status, Duration::ZERO, now);
    for earlier in next.earlier.iter_mut().filter(|earlier| !earlier.kept) {
        (earlier.unused, earlier.remove_after_time) = (true, Some(Time(whole_second(now))));
    }
    next
}

/// The status without a pending client secret that Microsoft does not accept. One that may have been registered counts as
/// used.
pub fn without_pending(status: &RotationStatus, may_be_registered: bool, now: Timestamp) -> RotationStatus {
    let mut next = status.clone();
    let Some(pending) = next.pending.take() else { return next };
    if may_be_registered {
        supersede(&mut next, pending);
    } else {
        next.earlier
            .push(EarlierSecret { unused: true, ..pending.into_earlier(Some(Time(whole_second(now)))) });
    }
    next
}

/// The status after a reading of all client secrets of the app.
pub fn after_reading(
    status: &RotationStatus,
    entries: &[AppSecret],
    uid: &str,
    timing: &Timing,
    now: Timestamp,
) -> RotationStatus {
    let mut next = RotationStatus { last_read_time: Some(Time(whole_second(now))), ..status.clone() };
    settle_attempts(&mut next, entries, timing, now);
    settle_removals(&mut next, entries, timing, now);
    next.observations = next.current.as_ref().filter(|it| find(entries, &it.key_id).is_some()).map(|shown| {
        let before = next.observations.take().filter(|it| it.key_id == shown.key_id);
        seen(before, &shown.key_id, now)
    });
    next.unknown_secrets = unknown_secrets(&next, entries, uid, now);
    next
}

/// Looks for what attempts without a response created. It is removed, because its text is lost.
fn settle_attempts(next: &mut RotationStatus, entries: &[AppSecret], timing: &Timing, now: Timestamp) {
    let at = Time(whole_second(now));
    let found = |attempt: &CreateAttempt| {
        // A name that no operator gives is that of another client secret, whatever the status says.
        let name = Some(attempt.display_name.as_str()).filter(|name| is_of_operator(name))?;
        let entry = entries.iter().find(|it| it.display_name.as_deref() == Some(name))?;
        Some(EarlierSecret {
            key_id: entry.key_id.clone()?,
            display_name: attempt.display_name.clone(),
            expires_at: Time(entry.expires_at.unwrap_or(now)),
            remove_after_time: Some(at.clone()),
            removal_time: None,
            unused: true,
            kept: false,
            unknown: UnknownFields::default(),
        })
    };
    if let Some(attempt) = next.attempt.take() {
        let lasts = timing.secret_lookup;
        if let Some(lost) = found(&attempt) {
            next.earlier.push(lost);
        } else if clock::began(attempt.start_time.0, lasts, now) + lasts <= now {
            next.earlier_attempts.push(attempt);
        } else {
            next.attempt = Some(attempt);
        }
    }
    let lasts = timing.secret_search;
    for attempt in std::mem::take(&mut next.earlier_attempts) {
        if let Some(late) = found(&attempt) {
            next.earlier.push(late);
        } else if clock::began(attempt.start_time.0, lasts, now) + lasts > now {
            next.earlier_attempts.push(attempt);
        }
    }
}

/// Forgets client secrets that were removed, once a reading no longer shows them: readings lag, and a removal may have been
/// lost.
fn settle_removals(next: &mut RotationStatus, entries: &[AppSecret], timing: &Timing, now: Timestamp) {
    next.earlier.retain_mut(|earlier| {
        let is_shown = find(entries, &earlier.key_id).is_some();
        match &earlier.removal_time {
            Some(removed)
                if clock::began(removed.0, timing.secret_lookup, now) + timing.secret_lookup > now =>
            {
                true
            }
            Some(_) if is_shown => {
                earlier.removal_time = None;
                true
            }
            Some(_) => false,
            None => is_shown || earlier.expires_at.0 > now || earlier.remove_after_time.is_none(),
        }
    });
}

fn seen(before: Option<Observations>, key_id: &str, now: Timestamp) -> Observations {
    let at = Time(whole_second(now));
    match before.filter(|before| clock::happened(before.last_time.0, now).is_some()) {
        Some(before) => {
            Observations { count: before.count.saturating_add(1).min(OBSERVATIONS), last_time: at, ..before }
        }
        None => Observations {
            key_id: key_id.to_owned(),
            count: 1,
            first_time: at.clone(),
            last_time: at,
            unknown: UnknownFields::default(),
        },
    }
}

/// Whether Entra showed the client secret in use often enough over a long enough time.
pub fn is_seen(status: &RotationStatus, timing: &Timing) -> bool {
    let is_in_use = |key_id: &str| status.current.as_ref().is_some_and(|it| it.key_id == key_id);
    status.observations.as_ref().filter(|seen| is_in_use(&seen.key_id)).is_some_and(|seen| {
        let lasted = Duration::try_from(seen.last_time.0.duration_since(seen.first_time.0));
        seen.count >= OBSERVATIONS && lasted.is_ok_and(|lasted| lasted >= timing.app_reading_confirmation)
    })
}

/// The client secrets of others, if they leave no room for another one beside the one in use. Source: Microsoft Graph, apps
/// that personal accounts may use have at most two client secrets.
pub fn blocking_secrets(
    status: &RotationStatus,
    entries: &[AppSecret],
    is_limited_to_two: bool,
) -> Option<i32> {
    let is_own = |entry: &&AppSecret| {
        let known = [&status.current, &status.pending].into_iter().flatten().map(|it| &it.key_id);
        let mut known = known.chain(status.earlier.iter().map(|it| &it.key_id));
        known.any(|id| entry.key_id.as_deref().is_some_and(|it| it.eq_ignore_ascii_case(id)))
    };
    let others = entries.iter().filter(|entry| !is_own(entry)).count();
    (is_limited_to_two && others > 0).then(|| i32::try_from(others).unwrap_or(i32::MAX))
}

/// Client secrets that are named for the object, and that nothing records.
fn unknown_secrets(
    status: &RotationStatus,
    entries: &[AppSecret],
    uid: &str,
    now: Timestamp,
) -> Vec<UnknownSecret> {
    let at = Time(whole_second(now));
    let own = [&status.current, &status.pending].into_iter().flatten();
    // A restored object has another uid than the one for which they were created.
    let names =
        own.clone().map(|it| &it.display_name).chain(status.earlier.iter().map(|it| &it.display_name));
    let uids: Vec<&str> = names.filter_map(|name| uid_in(name)).chain(std::iter::once(uid)).collect();
    let keys: Vec<&str> =
        own.map(|it| it.key_id.as_str()).chain(status.earlier.iter().map(|it| it.key_id.as_str())).collect();
    let names: Vec<&str> =
        status.attempt.iter().chain(&status.earlier_attempts).map(|it| it.display_name.as_str()).collect();
    let unknown = entries.iter().filter_map(|entry| {
        let (name, key_id) = (entry.display_name.as_deref()?, entry.key_id.as_deref()?);
        let is_own = uids.iter().any(|uid| is_named_for(name, uid));
        let before = status.unknown_secrets.iter().find(|it| it.key_id == key_id);
        // One of an earlier object of this name stays known, even if nothing else of that object is left.
        let is_own = is_own || (before.is_some() && is_of_operator(name));
        (is_own && !keys.contains(&key_id) && !names.contains(&name)).then(|| UnknownSecret {
            key_id: key_id.to_owned(),
            expires_at: entry.expires_at.map(Time),
            first_seen_time: Some(
                before.and_then(|it| it.first_seen_time.clone()).unwrap_or_else(|| at.clone()),
            ),
            unknown: UnknownFields::default(),
        })
    });
    unknown.take(MAX_EARLIER).collect()
}

/// The entry with that ID, which Graph writes in upper or lower case.
pub fn find<'a>(entries: &'a [AppSecret], key_id: &str) -> Option<&'a AppSecret> {
    entries.iter().find(|entry| entry.key_id.as_deref().is_some_and(|it| it.eq_ignore_ascii_case(key_id)))
}
