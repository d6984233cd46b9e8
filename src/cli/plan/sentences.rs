//! The steps of a plan and its end, in words.

use jiff::Timestamp;

use crate::api::timestamp::rfc3339;
use crate::core::failure::Failure;
use crate::core::model::{ConditionFailure, MaxAge, Observed, Source, Target};
use crate::core::plan::{Conclusion, ReconcileState, Step};
use crate::core::remote::split_token;

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
        Step::List(MaxAge::Cached | MaxAge::Recent) => format!("list the credentials of {place}"),
        Step::List(MaxAge::Live) => format!("list the credentials of {place} again"),
        Step::Create => {
            format!(
                "create a credential with the name \"{} [token]\" at {place}",
                observed.object.remote_name()
            )
        }
        Step::RecoverCreated(id) => format!("register credential {id}, which an earlier request has created"),
        Step::ClearPendingCreate => {
            "register that an earlier request has created nothing, and plan again".into()
        }
        Step::Adopt(id) => format!("adopt credential {id} of {place}"),
        Step::Update => format!("replace secret and expiry of {}", credential(registered)),
        Step::Rename => format!("rename {} to \"{}\"", credential(registered), observed.desired_name()),
        Step::ExistenceCheck => {
            format!("find out whether credential {registered} still exists, because {place} does not list it")
        }
        Step::ClearRegistration => format!("register that credential {registered} was deleted"),
        Step::DeleteDuplicate(id) => {
            format!("delete credential {id}, a duplicate that a late request has created")
        }
        Step::DeletePrevious => {
            let previous = observed.previous_registration.as_ref().map(|it| &it.registration);
            let (id, account) = previous.map_or((0, String::new()), |it| {
                (it.credential_id, it.account.as_ref().map(ToString::to_string).unwrap_or_default())
            });
            format!("delete the earlier {} at account {account}", credential(id))
        }
        Step::Encrypt if observed.sealed_record().is_some() => {
            format!("encrypt the secret into its record in {place}")
        }
        Step::Encrypt => format!("encrypt the secret into a new record in {place}"),
        Step::PersistExisting => format!("register the existing record in {place}"),
        Step::Restart => "go on at the account of the spec".into(),
        Step::AbandonPrevious => {
            "leave the earlier registrations at their accounts, because deletionPolicy is Retain".into()
        }
        Step::Delete => format!("delete {} from {place}", credential(registered)),
        Step::Finalize(_) => "remove the finalizer, so that the object goes away".into(),
    }
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

/// The end of the plan; `None` for one whose last step decides what follows.
pub(super) fn end(conclusion: Option<&Conclusion>, observed: &Observed) -> End {
    let Some(conclusion) = conclusion else {
        return End::open("what follows depends on the result of this step");
    };
    let problem = |ConditionFailure { reason, message }: &ConditionFailure| {
        End::not_ready(reason.as_str(), message.clone())
    };
    match &conclusion.state {
        ReconcileState::UpToDate => End::ready(registered(observed)),
        ReconcileState::Waiting | ReconcileState::Deferred => End::open(&waiting(observed)),
        ReconcileState::Settling => End::open(
            "the operator waits until an earlier request without a response can no longer take effect",
        ),
        ReconcileState::Suspended => {
            End::not_ready("Suspended", "nothing is done while spec.suspend is true".into())
        }
        ReconcileState::SourceUnusable => match &observed.source {
            Source::Unusable(failure) => problem(failure),
            Source::NotRead | Source::Usable(_) => End::open("the Secret is not read"),
        },
        ReconcileState::NotVerified(failure) | ReconcileState::Blocked(failure) => problem(failure),
        ReconcileState::Failed(Failure { kind, .. }) => {
            End::open(&format!("the last step would fail: {kind:?}"))
        }
        ReconcileState::Deleted => End::open("the object is being deleted"),
    }
}

fn waiting(observed: &Observed) -> String {
    let next = observed.status.next_attempt_time.as_ref().or(observed.status.next_verification_time.as_ref());
    let next: Option<Timestamp> = next.map(|at| at.0);
    match next {
        Some(at) => {
            format!("the operator waits after an earlier failure, and tries again at {}", rfc3339(at))
        }
        None => "the operator waits for the account or for a change".into(),
    }
}

fn registered(observed: &Observed) -> String {
    let Some(registration) = &observed.status.registration else { return "it is Ready".into() };
    let name = split_token(&registration.name).map_or(registration.name.as_str(), |(plain, _)| plain);
    match registration.credential_id {
        0 => "it is Ready, with the new credential".into(),
        id if name.is_empty() => format!("it is Ready, with credential {id}"),
        id => format!("it is Ready, with credential {id} \"{name}\""),
    }
}
