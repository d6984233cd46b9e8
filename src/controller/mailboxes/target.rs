//! The credential and the account with which mailboxes are connected, and the account at which earlier requests are looked
//! up.

use std::sync::Arc;

use kube::ResourceExt;

use crate::api::conditions::{ConditionStatus, ConditionType, Reason, find};
use crate::api::timestamp::Time;
use crate::api::{
    AccountName, MicrosoftGraphCredential, NamespacedName, PendingConnection, Registration, UnknownFields,
    WoodpeckerAccount, WoodpeckerAccountSpec, WoodpeckerMailboxes,
};
use crate::controller::account::AccountUser;
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::controller::mailboxes::listing::SharedListing;
use crate::controller::mailboxes::submissions::SubmissionTarget;
use crate::core::model::Target;
use crate::core::status::mailboxes::Standing;
use crate::woodpecker::RemoteAccount;

/// An account that the object may use, as its last reconcile found it.
pub(super) struct Account {
    pub(super) name: AccountName,
    pub(super) uid: String,
    pub(super) spec: WoodpeckerAccountSpec,
    pub(super) remote: Arc<RemoteAccount>,
    pub(super) listing: SharedListing,
}

/// Where mailboxes are connected.
pub(super) struct Connection {
    pub(super) credential: NamespacedName,
    pub(super) registration: Registration,
    pub(super) account: Account,
}

/// The registration of the credential and its account, or why there is none.
pub(super) async fn find_target(
    context: &Context,
    object: &WoodpeckerMailboxes,
    own: &NamespacedName,
) -> Result<Result<Connection, Standing>, ReconcileError> {
    let name =
        NamespacedName { namespace: own.namespace.clone(), name: object.spec.credential_ref.name.clone() };
    let known = context.index.get::<MicrosoftGraphCredential>(&name);
    let Some(credential) = known.as_ref().and_then(|parsed| parsed.0.as_ref().ok()) else {
        let message = format!("there is no valid MicrosoftGraphCredential {} in this namespace", name.name);
        return Ok(Err(Standing::Blocked(Reason::CredentialNotFound, message, true)));
    };
    let (registration, account) = match registration(credential) {
        Ok(registration) => registration,
        Err(blocked) => return Ok(Err(blocked)),
    };
    let account = match find_account(context, account, own).await? {
        Ok(account) => account,
        Err(blocked) => return Ok(Err(blocked)),
    };
    if !account.is_at(&registration.base_url.clone().unwrap_or_default(), registration.company_id) {
        return Ok(Err(not_registered(
            &name.name,
            "is registered at another base URL or company than its account has",
        )));
    }
    Ok(Ok(Connection { credential: name, registration, account }))
}

/// The account that an earlier request was sent to, or why its mailboxes cannot be looked up there.
pub(super) async fn find_pending_account(
    context: &Context,
    pending: &PendingConnection,
    own: &NamespacedName,
) -> Result<Result<Account, Standing>, ReconcileError> {
    let name = pending.account.clone();
    Ok(match find_account(context, name.clone(), own).await? {
        Ok(account) if account.is_of(pending) => Ok(account),
        Ok(_) => Err(Standing::NotLookedUp(
            format!("WoodpeckerAccount {name} is no longer the account that they were submitted to"),
            false,
        )),
        Err(Standing::Blocked(Reason::AccountNotReady, message, _)) => {
            Err(Standing::NotLookedUp(message, true))
        }
        Err(Standing::Blocked(_, message, _)) => Err(Standing::NotLookedUp(message, false)),
        Err(other) => Err(other),
    })
}

/// The registration of a credential for its current spec, and the account of both.
pub(super) fn registration(
    credential: &MicrosoftGraphCredential,
) -> Result<(Registration, AccountName), Standing> {
    let name = credential.name_any();
    let Some(wanted) = credential.account_name() else {
        let message = format!("the destination of MicrosoftGraphCredential {name} is not Woodpecker");
        return Err(Standing::Blocked(Reason::NotAtWoodpecker, message, false));
    };
    let status = credential.status.as_ref().filter(|_| !credential.is_deleted());
    let generation = credential.metadata.generation;
    let is_registered = status.is_some_and(|status| {
        let registered = find(&status.conditions, ConditionType::Registered);
        registered
            .is_some_and(|it| it.status == ConditionStatus::True && it.observed_generation == generation)
            && status.pending_create.is_none()
    });
    let registration = status.and_then(|status| status.registration.clone()).filter(|_| is_registered);
    let Some(registration) = registration else {
        return Err(not_registered(
            &name,
            "is not registered at Woodpecker, or not yet with its current spec",
        ));
    };
    if registration.account.as_ref() != Some(&wanted) {
        return Err(not_registered(&name, "is moving to another account"));
    }
    Ok((registration, wanted))
}

fn not_registered(name: &str, problem: &str) -> Standing {
    let message =
        format!("MicrosoftGraphCredential {name} {problem}: the operator continues once it is registered");
    Standing::Blocked(Reason::CredentialNotRegistered, message, true)
}

/// An account that works and allows the namespace, as it is in the cluster and as its last reconcile found it.
async fn find_account(
    context: &Context,
    name: AccountName,
    own: &NamespacedName,
) -> Result<Result<Account, Standing>, ReconcileError> {
    let user = AccountUser { namespace: &own.namespace, is_deleted: false };
    let looked_up = context.accounts.look_up(&context.client, name.clone(), user).await;
    let (target, remote) = looked_up.map_err(ReconcileError::ReadAccount)?;
    let remote = match (target, remote) {
        (Target::Ready(ready), Some(remote)) if ready.may_create => remote,
        (target, _) => return Ok(Err(unusable(&target, &name, own))),
    };
    let object = context.index.get::<WoodpeckerAccount>(&name);
    let object = object.as_ref().and_then(|parsed| parsed.0.as_ref().ok());
    let state = context.accounts.connection_state(&name);
    Ok(match (object, state) {
        // Otherwise it has changed since its last reconcile.
        (Some(object), Some((spec, listing))) if object.spec == spec => {
            Ok(Account { uid: object.uid().unwrap_or_default(), name, spec, remote, listing })
        }
        _ => Err(not_ready(&name)),
    })
}

/// Why an account cannot be used. Of another namespace, the user does not learn whether it exists.
pub(super) fn unusable(target: &Target, name: &AccountName, own: &NamespacedName) -> Standing {
    let is_own = name.namespace == own.namespace;
    match target {
        Target::Missing(_) if is_own => {
            let message =
                format!("WoodpeckerAccount {name}, at which the credential is registered, does not exist");
            Standing::Blocked(Reason::AccountNotFound, message, true)
        }
        Target::Missing(_) | Target::NotAllowed(_) => {
            let message = format!(
                "WoodpeckerAccount {name}, at which the credential is registered, does not let this namespace use it, or \
                 does not exist"
            );
            Standing::Blocked(Reason::AccountNotAllowed, message, true)
        }
        Target::NotServed(_) => {
            let message = format!("the operator does not serve the namespace of WoodpeckerAccount {name}");
            Standing::Blocked(Reason::AccountNotServed, message, true)
        }
        Target::Store
        | Target::NotReconciled(_)
        | Target::NotReached(_)
        | Target::NotReady(_)
        | Target::Ready(_) => not_ready(name),
    }
}

fn not_ready(name: &AccountName) -> Standing {
    let message = format!(
        "WoodpeckerAccount {name} cannot be used now: its condition Ready says why. The operator continues once it can"
    );
    Standing::Blocked(Reason::AccountNotReady, message, true)
}

// === impl Account ===

impl Account {
    /// As what is submitted counts.
    pub(super) fn as_submission_target(&self) -> SubmissionTarget {
        SubmissionTarget { base_url: self.remote.client.base_url.as_str().to_owned() }
    }

    /// A request about mailboxes at this account.
    pub(super) fn pending(&self, credential_id: i64, emails: Vec<String>, start: Time) -> PendingConnection {
        PendingConnection {
            start_time: start,
            credential_id,
            account: self.name.clone(),
            account_uid: self.uid.clone(),
            base_url: self.remote.client.base_url.as_str().to_owned(),
            company_id: self.remote.client.company_id,
            emails,
            hold: None,
            unknown: UnknownFields::default(),
        }
    }

    /// Whether a request was sent to it.
    fn is_of(&self, pending: &PendingConnection) -> bool {
        self.uid == pending.account_uid && self.is_at(&pending.base_url, pending.company_id)
    }

    fn is_at(&self, base_url: &str, company_id: Option<i64>) -> bool {
        let client = &self.remote.client;
        client.base_url.as_str() == base_url && client.company_id == company_id
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn named(namespace: &str, name: &str) -> NamespacedName {
        NamespacedName { namespace: namespace.into(), name: name.into() }
    }

    /// A registered credential, with `change` made to it.
    fn credential(change: impl FnOnce(&mut Value)) -> MicrosoftGraphCredential {
        let mut object = json!({
            "metadata": {"name": "sales-eu", "namespace": "mail", "uid": "1", "generation": 2},
            "spec": {
                "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
                "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179", "secretRef": {"name": "s"},
                "destination": {"woodpecker": {"accountRef": {"name": "agency"}}}
            },
            "status": {
                "observedGeneration": 2,
                "conditions": [{
                    "type": "Registered", "status": "True", "reason": "Registered", "message": "",
                    "lastTransitionTime": "2026-11-30T00:00:00Z", "observedGeneration": 2
                }],
                "registration": {
                    "account": {"namespace": "mail", "name": "agency"}, "baseUrl": "https://a.example",
                    "credentialId": 7, "ownership": "Created", "fingerprint": "k:1", "name": "x",
                    "expiresAt": "2027-11-28T23:59:59Z", "registrationTime": "2026-11-30T00:00:00Z"
                }
            }
        });
        change(&mut object);
        serde_json::from_value(object).unwrap()
    }

    fn reason(found: Result<(Registration, AccountName), Standing>) -> Option<Reason> {
        match found {
            Ok((registration, account)) => {
                assert_eq!((registration.credential_id, account), (7, named("mail", "agency")));
                None
            }
            Err(Standing::Blocked(reason, ..)) => Some(reason),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_a_credential_that_is_registered_for_its_spec_and_does_not_move_connects_mailboxes() {
        assert_eq!(reason(registration(&credential(|_| {}))), None);
        let not = Some(Reason::CredentialNotRegistered);
        let account = json!({"namespace": "mail", "name": "other"});
        let destination = json!({"woodpecker": {"accountRef": {"name": "other"}}});
        for (what, change) in [
            ("/metadata/generation", json!(3)),
            ("/metadata/deletionTimestamp", json!("2026-11-30T00:00:00Z")),
            ("/spec/destination", destination),
            ("/status/registration/account", account),
            ("/status/registration", json!(null)),
            ("/status/conditions/0/status", json!("Unknown")),
            ("/status/conditions/0/observedGeneration", json!(1)),
        ] {
            let changed = credential(|object| {
                let (parent, field) = what.rsplit_once('/').unwrap();
                object.pointer_mut(parent).unwrap()[field] = change;
            });
            assert_eq!(reason(registration(&changed)), not, "{what}");
        }
        let stored = credential(|object| object["spec"]["destination"] = json!({"store": {}}));
        assert_eq!(reason(registration(&stored)), Some(Reason::NotAtWoodpecker));
    }

    #[test]
    fn targets_have_their_own_reasons_without_revealing_what_other_namespaces_have() {
        let own = named("mail", "team");
        let blocked = |target: &Target, account: &NamespacedName| match unusable(target, account, &own) {
            Standing::Blocked(reason, message, true) => (reason, message),
            other => panic!("{other:?}"),
        };
        let (near, far) = (named("mail", "agency"), named("other", "agency"));
        for (target, account, reason) in [
            (Target::Missing(near.clone()), &near, Reason::AccountNotFound),
            (Target::Missing(far.clone()), &far, Reason::AccountNotAllowed),
            (Target::NotAllowed(far.clone()), &far, Reason::AccountNotAllowed),
            (Target::NotServed(far.clone()), &far, Reason::AccountNotServed),
            (Target::NotReady(near.clone()), &near, Reason::AccountNotReady),
            (Target::NotReconciled(near.clone()), &near, Reason::AccountNotReady),
        ] {
            assert_eq!(blocked(&target, account).0, reason, "{target:?}");
        }
        let (missing, denied) = (Target::Missing(far.clone()), Target::NotAllowed(far.clone()));
        assert_eq!(blocked(&missing, &far), blocked(&denied, &far));
    }
}
