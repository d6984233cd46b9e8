//! An object that cannot be read as its kind demands: it keeps its status, its registration with it, and
//! says what is wrong. Where it is being deleted, it still finds its way out.

mod parting;

use std::fmt::Debug;

use jiff::Timestamp;
use kube::core::{ApiResource, DynamicObject, NamespaceResourceScope};
use kube::{Api, Resource};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::context::Context;
use super::error::{PassError, Result};
use super::guard::Outcome;
use super::index::Named;
use super::status::replace;
use crate::resources::conditions::{Condition, ConditionType, Desired, Reason, merge};
use crate::resources::{MicrosoftGraphCredential, MicrosoftGraphCredentialStatus};

/// Lets the object go where it is being deleted and its words allow that; else writes Ready False with what
/// is wrong, and everything else in the status stays as it is.
pub async fn report<K>(context: &Context, own: &Named, problem: &str) -> Result<Outcome>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Debug,
{
    let kind = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &own.namespace, &kind);
    let Some(live) = api.get_opt(&own.name).await.map_err(PassError::ReadObject)? else {
        return Ok(Outcome::new("gone", context.rules.timing.resync));
    };
    if parting::let_go(context, &api, &kind, &live).await? {
        return Ok(Outcome::new("gone", context.rules.timing.resync));
    }
    note_status(context, &live);
    let is_waiting = live.metadata.deletion_timestamp.is_some();
    let again_in = if is_waiting { context.rules.timing.in_use_retry } else { context.rules.timing.resync };
    let outcome = Outcome {
        generation: live.metadata.generation,
        reason: Some(Reason::InvalidObject.as_str().to_owned()),
        ..Outcome::new("invalid", again_in)
    };
    let mut status = live.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let generation = live.metadata.generation.unwrap_or_default();
    let conditions = next_conditions(&status, &message(problem, is_waiting), generation);
    if status.get("conditions") == Some(&conditions) {
        return Ok(outcome);
    }
    if let Some(fields) = status.as_object_mut() {
        fields.insert("conditions".into(), conditions);
        fields.insert("observedGeneration".into(), generation.into());
    }
    context.leadership.admit_write()?;
    tracing::warn!(problem, "the object cannot be read");
    // What this version cannot read in the status is put back as it is.
    replace::<_, IgnoredAny>(&context.client, &context.leadership, &kind, &live, &status).await?;
    Ok(outcome)
}

/// What the object holds at remote accounts stays its own, for its status can mostly be read.
fn note_status(context: &Context, live: &DynamicObject) {
    let status = live.data.get("status").cloned().unwrap_or_default();
    if let Ok(status) = serde_json::from_value::<MicrosoftGraphCredentialStatus>(status) {
        let uid = live.metadata.uid.as_deref().unwrap_or_default();
        let removes = live.data.pointer("/spec/deletionPolicy").and_then(Value::as_str) == Some("Delete");
        context.follow::<MicrosoftGraphCredential>(context.index.note_unreadable(uid, &status, removes));
    }
}

fn message(problem: &str, is_waiting: bool) -> String {
    let problem = problem.get(..300).unwrap_or(problem);
    if is_waiting {
        format!(
            "the object cannot be read, so the operator cannot remove what it registered: mend the field in question ({problem}), or set deletionPolicy to Retain to let this object go"
        )
    } else {
        format!(
            "the object cannot be read and is left as it is, its registration too: mend the field in question ({problem})"
        )
    }
}

/// The conditions that the object has, with Ready and Stalled saying what is wrong.
fn next_conditions(status: &Value, message: &str, generation: i64) -> Value {
    let before = status.get("conditions").cloned().unwrap_or_default();
    let before: Vec<Condition> = serde_json::from_value(before).unwrap_or_default();
    let is_summary =
        |type_| matches!(type_, ConditionType::Ready | ConditionType::Reconciling | ConditionType::Stalled);
    let kept = before.iter().filter_map(Condition::as_desired).filter(|it| !is_summary(it.type_));
    let mut desired: Vec<Desired> = kept.collect();
    desired.push(Desired::unmet(ConditionType::Ready, Reason::InvalidObject, message));
    desired.push(Desired::met(ConditionType::Stalled, Reason::InvalidObject, message));
    json!(merge(&before, desired, generation, Timestamp::now()))
}
