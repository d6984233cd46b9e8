//! What must hold for a run: what Graph and Woodpecker have is what the cluster says.

use std::sync::Arc;

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::api::{MicrosoftGraphCredential, RotationStatus};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kit::graph::{SECRET_MARK, SecretRecord};
use kube::api::ListParams;

use super::environment::{BYSTANDER, IDENTITY, RotationEnvironment};
use super::run::{Expectation, LAST_REQUEST, Run};
use super::script::Act;
use crate::harness::{TENANT, condition};

pub type Problem = String;

/// Reasons that only a person ends, by requesting another attempt.
const REJECTED: [&str; 8] = [
    "CreateRejected",
    "UpdateRejected",
    "InUse",
    "WriteForbidden",
    "WriteRejected",
    "ApplicationNotFound",
    "IdentityNotReady",
    "TooManySecrets",
];

/// What is said about the secrets of deleted objects: the notes of events and the log, by which the events survive a kill.
#[derive(Default)]
pub struct Named(String);

// === impl Named ===

impl Named {
    pub async fn read(environment: &RotationEnvironment) -> Self {
        let events = environment.base.env.api::<Event>().list(&ListParams::default()).await;
        let last = ["Retained", "Deleted", "Released", "Orphaned"];
        let events = events.map(|all| all.items).unwrap_or_default().into_iter();
        let events = events.filter(|it| it.reason.as_deref().is_some_and(|reason| last.contains(&reason)));
        let notes: Vec<String> = events.filter_map(|event| event.note).collect();
        let logged = environment.base.processes.log_lines(&["finalized", "is orphaned"]);
        Self(format!("{}\n{logged}", notes.join("\n")))
    }

    fn has(&self, secret: &SecretRecord) -> bool {
        let name = secret.display_name.as_deref();
        self.0.contains(&secret.key_id) || name.is_some_and(|name| self.0.contains(name))
    }
}

pub fn rotation(object: &MicrosoftGraphCredential) -> RotationStatus {
    object.status.as_ref().and_then(|status| status.rotation.as_deref().cloned()).unwrap_or_default()
}

/// Whether only a request of a person leads to another attempt.
pub fn needs_person(object: &MicrosoftGraphCredential) -> bool {
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|condition| REJECTED.contains(&condition.reason.as_str()))
}

fn require(is_so: bool, problem: &str) -> Result<(), Problem> {
    if is_so { Ok(()) } else { Err(problem.to_owned()) }
}

fn is_true(object: &MicrosoftGraphCredential, type_: ConditionType) -> bool {
    condition(object, type_).is_some_and(|it| it.status == ConditionStatus::True)
}

/// The object is Ready and has no step of a rotation open; or it is gone, if it was deleted.
pub fn ready(environment: &RotationEnvironment, run: &Run) -> Result<(), Problem> {
    let object = environment.base.seen(&run.name);
    let lives = run.expectation == Expectation::Lives;
    let Some(object) = object else { return require(!lives, "the object is missing") };
    require(lives, "the object is still there")?;
    let status = object.status.as_ref().ok_or("it has no status")?;
    let is_observed = Some(status.observed_generation) == object.metadata.generation;
    let rotation = rotation(&object);
    require(is_observed, "the status is about an earlier spec")?;
    require(is_true(&object, ConditionType::Ready), "it is not Ready")?;
    require(status.pending_create.is_none(), "a create is pending")?;
    require(status.previous_registrations.is_empty(), "a previous registration is left")?;
    if object.spec.rotation.is_none() {
        return Ok(());
    }
    require(rotation.current.is_some(), "it has no client secret")?;
    require(rotation.pending.is_none(), "a new client secret is pending")?;
    require(rotation.attempt.is_none(), "the outcome of a creation is not known")
}

/// Everything that must hold after the last fault.
pub fn settled(
    environment: &RotationEnvironment,
    run: &Run,
    named: &Named,
    was_requested: bool,
) -> Result<(), Problem> {
    ready(environment, run)?;
    let object = environment.base.seen(&run.name);
    if let Some(object) = &object {
        require(is_true(object, ConditionType::RotationReady), "RotationReady is not True")?;
        let handled = rotation(object).last_handled_rotate_at;
        let is_handled = !was_requested || handled.as_deref() == Some(LAST_REQUEST);
        require(is_handled, "the last request is not handled")?;
    }
    check_secrets(environment, run, object.as_ref(), named)?;
    check_registration(environment, run, object.as_deref())
}

/// Each client secret of the operator is the current one, or named.
fn check_secrets(
    environment: &RotationEnvironment,
    run: &Run,
    object: Option<&Arc<MicrosoftGraphCredential>>,
    named: &Named,
) -> Result<(), Problem> {
    let rotation = object.map(|object| rotation(object)).unwrap_or_default();
    let current = rotation.current.as_ref().map(|it| it.key_id.as_str());
    let live = environment.graph.live_secrets(TENANT, &run.client);
    let own: Vec<&SecretRecord> = live.iter().filter(|it| it.added_by.is_some()).collect();
    require(current.is_none_or(|key| own.iter().any(|it| it.key_id == key)), "the current one is removed")?;
    let script = &run.script;
    let may_stay = match run.expectation {
        Expectation::Removed => script.has_late_effect() || script.has(|act| *act == Act::RevokeGrant),
        Expectation::NotCreated | Expectation::Lives | Expectation::Left => {
            script.has(|act| *act == Act::Delete)
        }
    };
    for secret in own.iter().filter(|it| Some(it.key_id.as_str()) != current) {
        let is_unknown = rotation.unknown_secrets.iter().any(|it| it.key_id == secret.key_id);
        let is_accounted = (is_unknown && script.may_lose_secrets()) || (may_stay && named.has(secret));
        if !is_accounted {
            let (key, at) = (&secret.key_id, secret.added_at);
            return Err(format!("client secret {key}, made at {at}, is neither the current one nor named"));
        }
    }
    Ok(())
}

/// There is one registration, with the current client secret.
fn check_registration(
    environment: &RotationEnvironment,
    run: &Run,
    object: Option<&MicrosoftGraphCredential>,
) -> Result<(), Problem> {
    let registered = environment.base.env.woodpecker.credentials(&run.account);
    match run.expectation {
        Expectation::NotCreated | Expectation::Removed => {
            return require(registered.is_empty(), "a registration is left");
        }
        Expectation::Left => return require(registered.len() <= 1, "more than one registration is left"),
        Expectation::Lives => {}
    }
    let [only] = registered.as_slice() else { return Err(format!("{} registrations", registered.len())) };
    let status = object.and_then(|object| object.status.as_ref());
    let id = status.and_then(|status| status.credential_id);
    require(id == Some(only.credential_id), "status.credentialId is another one")?;
    let current = object.and_then(|object| rotation(object).current);
    let current = current.map(|it| it.key_id).unwrap_or_default();
    let history = environment.graph.history(TENANT, &run.client);
    let has_current = history.iter().any(|it| it.key_id == current && it.is_in(only));
    require(has_current, "the registration has another client secret than the current one")
}

/// What must have held at every moment of a run.
pub fn always(environment: &RotationEnvironment, run: &Run) -> Result<(), Problem> {
    let history = environment.graph.history(TENANT, &run.client);
    let is_spared = |it: &&SecretRecord| it.added_by.is_some() || it.removed_by.is_none();
    if let Some(wrong) = history.iter().find(|it| !is_spared(it)) {
        return Err(format!("client secret {} of a person was removed", wrong.key_id));
    }
    for (key_id, is_removed) in &run.hand_made {
        let is_live = history.iter().any(|it| it.key_id == *key_id && it.is_live());
        require(is_live != *is_removed, &format!("client secret {key_id} of a person is missing"))?;
    }
    for key_id in &run.foreign {
        let is_live = history.iter().any(|it| it.key_id == *key_id && it.is_live());
        require(is_live, &format!("client secret {key_id} of another cluster is missing"))?;
    }
    let invalid = environment.base.env.woodpecker.invalid_periods();
    if let Some(period) = invalid.iter().find(|period| period.account == run.account) {
        return Err(format!("the registered client secret did not work: {period:?}"));
    }
    let object = environment.base.seen(&run.name);
    let status = object.and_then(|object| serde_json::to_string(&object.status).ok()).unwrap_or_default();
    require(!status.contains(SECRET_MARK), "a client secret is in the status")?;
    let is_named = run.foreign.iter().any(|key_id| status.contains(key_id));
    require(!is_named, "the status names a client secret of another cluster")
}

/// Whether a request of the run met a fault.
pub fn fault_met(environment: &RotationEnvironment, run: &Run) -> Result<(), Problem> {
    let requests = environment.graph.requests();
    let mut of_graph = requests.iter().filter(|it| it.client == run.client);
    let woodpecker = environment.base.env.woodpecker.requests(&run.account);
    let is_met = of_graph.any(|it| it.fault.is_some()) || woodpecker.iter().any(|it| it.fault.is_some());
    require(is_met, "no request met a fault")
}

/// What must hold for the whole environment.
pub async fn whole(environment: &RotationEnvironment, runs: &[Run]) -> Result<(), Problem> {
    let bystander = environment.graph.history(TENANT, BYSTANDER);
    require(bystander.len() == 1 && bystander[0].is_live(), "an app that no object names was changed")?;
    let requests = environment.graph.requests();
    let is_known = |client: &str| runs.iter().any(|run| run.client.eq_ignore_ascii_case(client));
    let odd = requests.iter().find(|it| it.identity != IDENTITY || !is_known(&it.client));
    require(odd.is_none(), &format!("an unexpected request: {odd:?}"))?;
    let logged = environment.base.processes.log_lines(&[SECRET_MARK]);
    require(logged.is_empty(), "a client secret is in the log")?;
    let events = environment.base.env.api::<Event>().list(&ListParams::default()).await;
    let events = serde_json::to_string(&events.map(|all| all.items).unwrap_or_default()).unwrap_or_default();
    require(!events.contains(SECRET_MARK), "a client secret is in an event")
}

/// Requests, client secrets, kills, status and log of a run.
pub fn diagnostics(environment: &RotationEnvironment, run: &Run) -> String {
    let time = crate::diagnostics::time;
    let mut lines: Vec<(Timestamp, String)> = Vec::new();
    for it in environment.graph.requests().into_iter().filter(|it| it.client == run.client) {
        let what = it.body.to_string();
        let (op, status, effect, fault) = (it.op, it.status, it.took_effect, it.fault);
        lines.push((it.at, format!("Graph {op:?} {what} → {status:?} effect={effect} fault={fault:?}")));
    }
    for it in environment.base.env.woodpecker.requests(&run.account) {
        let (id, status, effect) = (it.credential_id, it.status, it.took_effect);
        let (op, fault) = (it.op, it.fault);
        lines.push((
            it.at,
            format!("Woodpecker {op:?} id={id:?} → {status:?} effect={effect} fault={fault:?}"),
        ));
    }
    for at in environment.base.processes.times() {
        lines.push((at, "SIGKILL".to_owned()));
    }
    for it in environment.graph.history(TENANT, &run.client) {
        let by = if it.added_by.is_some() { "the operator" } else { "a person" };
        lines.push((it.added_at, format!("+ {} {:?} by {by}", it.key_id, it.display_name)));
        lines.extend(it.removed_at.map(|at| (at, format!("- {} by {:?}", it.key_id, it.removed_by))));
    }
    lines.sort_by_key(|(at, _)| *at);
    let lines: Vec<String> = lines.into_iter().map(|(at, text)| format!("{} {text}", time(at))).collect();
    let object = environment.base.seen(&run.name);
    let object = object.and_then(|it| serde_json::to_string(&(&it.metadata, &it.status)).ok());
    let registered = environment.base.env.woodpecker.credentials(&run.account);
    let log = environment.base.processes.log_tail(&[run.name.clone(), run.account.clone()]);
    format!(
        "{}\nregistered: {registered:?}\nexpected: {:?}\n{}: {}\n{log}",
        lines.join("\n"),
        run.expectation,
        run.name,
        object.unwrap_or_else(|| "gone".to_owned())
    )
}
