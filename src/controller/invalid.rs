//! Reconciliation of an object that does not match its schema. It keeps its status, including its registration, and its
//! conditions report the problem. Its finalizer is added or removed as far as the readable fields allow.

use jiff::Timestamp;
use kube::Api;
use kube::core::{ApiResource, DynamicObject};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::api::NamespacedName;
use crate::api::conditions::{Condition, ConditionType, Desired, Reason, merge};
use crate::controller::context::Context;
use crate::controller::error::{ReconcileError, Result};
use crate::controller::instrument::Completed;
use crate::controller::kind::Kind;
use crate::controller::status_writer::replace_status;
use crate::core::outcome::Outcome;

/// Updates the finalizer. Unless that ends the object, sets Ready to False with the problem, and keeps the rest of the
/// status.
pub async fn report<K>(context: &Context, own: &NamespacedName, problem: &str) -> Result<Completed>
where
    K: Kind,
{
    let kind = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &own.namespace, &kind);
    let Some(live) = api.get_opt(&own.name).await.map_err(ReconcileError::ReadObject)? else {
        return Ok(Completed::new(Outcome::ObjectDeleted, context.policy.timing.resync));
    };
    let Some(live) = K::update_finalizer_of_invalid(context, own, &api, live).await? else {
        return Ok(Completed::new(Outcome::ObjectDeleted, context.policy.timing.resync));
    };
    let is_deleting = live.metadata.deletion_timestamp.is_some();
    let requeue_after =
        if is_deleting { context.policy.timing.in_use_retry } else { context.policy.timing.resync };
    let outcome = Completed {
        generation: live.metadata.generation,
        reason: Some(Reason::InvalidObject.as_str().to_owned()),
        ..Completed::new(Outcome::NotMet, requeue_after)
    };
    let mut status = live.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let generation = live.metadata.generation.unwrap_or_default();
    let message = K::invalid_message(&live, &problem[..problem.floor_char_boundary(300)]);
    let conditions = next_conditions(&status, &message, generation);
    if status.get("conditions") == Some(&conditions) {
        return Ok(outcome);
    }
    if let Some(fields) = status.as_object_mut() {
        fields.insert("conditions".into(), conditions);
        fields.insert("observedGeneration".into(), generation.into());
    }
    context.leadership.check_write()?;
    tracing::warn!(problem, "the object is invalid");
    // Fields of the status that this version does not know are written back unchanged.
    replace_status::<_, IgnoredAny>(&context.client, &context.leadership, &kind, &live, &status).await?;
    Ok(outcome)
}

/// The object's conditions, with Ready and Stalled set to the problem.
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
