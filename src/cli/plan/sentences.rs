//! The steps of a plan and its end, in words.

use jiff::Timestamp;

use crate::api::conditions::{ConditionStatus, ConditionType, find};
use crate::core::model::{MaxAge, Observed, OperatorPolicy, Target};
use crate::core::plan::{Conclusion, ReconcileState, RotationStep, Step};
use crate::core::status::credential::report;

use super::report::End;

/// The step, for the state before it.
pub(super) fn step(step: &Step, observed: &Observed) -> String {
    let spec = &observed.object.spec;
    let registered = observed.status.registration.as_ref().map_or(0, |it| it.credential_id);
    let place = destination(&observed.target);
    match step {
        Step::AddFinalizer => "add the finalizer, so that a deletion waits for the operator".into(),
        Step::RemoveFinalizer => "remove the finalizer, because deletionPolicy is Retain".into(),
        Step::Verify => {
            format!("request a token from Microsoft for app {} in tenant {}", spec.client_id, spec.tenant_id)
        }
        Step::Rotation(step) => rotation(step, spec.client_id.as_str()),
        Step::ReadExpiry => format!("read app {} at Microsoft Graph", spec.client_id),
        Step::List(MaxAge::Cached | MaxAge::Recent) => format!("list the credentials of {place}"),
        Step::List(MaxAge::Live) => format!("list the credentials of {place} again"),
        Step::Create => {
            format!(
                "create a credential with the name \"{} [token]\" at {place}",
                observed.object.remote_name()
            )
        }
        Step::RecoverCreated(id) => {
            format!("record credential {id}, which an earlier request has created, as the registration")
        }
        Step::ClearPendingCreate => {
            "record that an earlier request has created nothing, and go on from there".into()
        }
        Step::Adopt(id) => format!("adopt credential {id} of {place}"),
        Step::Update => format!("replace secret and expiry of {}", credential(registered)),
        Step::Rename => format!("rename {} to \"{}\"", credential(registered), observed.desired_name()),
        Step::ExistenceCheck => {
            format!("find out whether credential {registered} still exists, because {place} does not list it")
        }
        Step::ClearRegistration => format!("record that credential {registered} was deleted"),
        Step::DeleteDuplicate(id) => {
            format!("delete credential {id}, a duplicate that a late request has created")
        }
        Step::DeletePrevious => delete_previous(observed),
        Step::Encrypt if observed.sealed_record().is_some() => {
            format!("encrypt the secret into its record in {place}")
        }
        Step::Encrypt => format!("encrypt the secret into a new record in {place}"),
        Step::PersistExisting => "record the existing SealedGraphCredential as the registration".into(),
        Step::Restart => "go on at the account of the spec".into(),
        Step::AbandonPrevious => {
            "leave the earlier registrations at their accounts, because deletionPolicy is Retain".into()
        }
        Step::Delete => format!("delete {} from {place}", credential(registered)),
        Step::Finalize(_) => "remove the finalizer, so that the object goes away".into(),
    }
}

/// A step of a rotation in words.
fn rotation(step: &RotationStep, client: &str) -> String {
    match step {
        RotationStep::Read => format!("read the client secrets of app {client} at Microsoft Graph"),
        RotationStep::Create => format!("create a client secret for app {client} at Microsoft Entra"),
        RotationStep::Confirm => "record that the new client secret is registered".to_owned(),
        RotationStep::DiscardPending => "give up the new client secret, which is not accepted".to_owned(),
        RotationStep::Resend => "send the client secret in use to Woodpecker again".to_owned(),
        RotationStep::Release => "record that nothing uses the client secrets now".to_owned(),
        RotationStep::Remove(key_id) => format!("remove client secret {key_id} at Microsoft Entra"),
    }
}

fn delete_previous(observed: &Observed) -> String {
    let Some(previous) = &observed.previous_registration else {
        return "delete the earlier credential".into();
    };
    let registration = &previous.registration;
    let account = registration.account.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("delete the earlier {} at account {account}", credential(registration.credential_id))
}

fn credential(id: i64) -> String {
    if id == 0 { "the new credential".into() } else { format!("credential {id}") }
}

fn destination(target: &Target) -> String {
    match target {
        Target::Store => "the store".into(),
        Target::Ready(target) => format!("account {}", target.location.account),
        Target::NotReconciled(account)
        | Target::NotReached(account)
        | Target::Missing(account)
        | Target::NotServed(account)
        | Target::NotAllowed(account)
        | Target::NotReady(account) => format!("account {account}"),
    }
}

/// The end before anything is planned.
pub(super) fn unplanned() -> End {
    End::open("nothing is planned")
}

/// The end of the plan, as the status would say it; `None` for a plan whose last step decides what follows.
pub(super) fn end(
    conclusion: Option<&Conclusion>,
    observed: &Observed,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> End {
    let Some(conclusion) = conclusion else {
        return End::open("what follows depends on the result of this step");
    };
    let is_blocked = match &conclusion.state {
        ReconcileState::Settling => {
            return End::open(
                "the operator waits until an earlier request without a response can no longer take effect",
            );
        }
        ReconcileState::Deleted => return End::open("the object is being deleted"),
        ReconcileState::SourceUnusable
        | ReconcileState::NotVerified(_)
        | ReconcileState::Blocked(_)
        | ReconcileState::Failed(_) => true,
        ReconcileState::UpToDate
        | ReconcileState::Waiting
        | ReconcileState::Deferred
        | ReconcileState::AwaitingExpiry
        | ReconcileState::Suspended => false,
    };
    let status = report(observed, conclusion, policy, now).status;
    match find(&status.conditions, ConditionType::Ready) {
        Some(ready) if ready.status == ConditionStatus::True => {
            End::ready(registered(observed, &ready.message))
        }
        Some(ready) if is_blocked || ready.status == ConditionStatus::False => {
            End::not_ready(&ready.reason, ready.message.clone())
        }
        Some(ready) => End::open(&format!("{} ({})", ready.message, ready.reason)),
        None if conclusion.state == ReconcileState::Suspended => {
            End::open("nothing is done while spec.suspend is true")
        }
        None => End::open("the operator waits for the account or for a change"),
    }
}

fn registered(observed: &Observed, message: &str) -> String {
    match observed.status.registration.as_ref().map(|it| it.credential_id) {
        Some(0) => "it is Ready, with the new credential".into(),
        _ => format!("it is Ready: {message}"),
    }
}
