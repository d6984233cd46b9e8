//! Objects that hold a finalizer of ours in namespaces that are not served, such as one that was served until now: nobody
//! would take it off, and the object, once it is deleted, would stay for ever. It is told once, at the start.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::core::ObjectMeta;
use kube::{Client, Resource};
use serde::Deserialize;

use super::context::Context;
use super::scope::Scope;
use crate::k8s::list::{self, ListError, PAGE};
use crate::resources::{FINALIZER, IN_USE_FINALIZER, MicrosoftGraphCredential, WoodpeckerAccount};
use crate::telemetry::logs::chain;

/// Namespaces that get a line of their own.
const TOLD: usize = 20;

/// An object, as far as it is looked at.
#[derive(Deserialize)]
struct Object {
    metadata: ObjectMeta,
}

/// Looks once, where only some namespaces are served, and tells; then waits for the end.
pub(super) async fn run(context: Arc<Context>, served: Vec<Scope>) {
    let is_wanted = context.rules.sets_finalizers && !served.contains(&Scope::All);
    if is_wanted && let Some(found) = context.stop.run_until_cancelled(look(&context.client, &served)).await {
        match found {
            Ok(stranded) => tell(&stranded),
            // Whoever may look at its own namespaces alone can strand nothing that it could see.
            Err(error) => tracing::debug!(
                error = chain(&error),
                "finalizers in namespaces that are not served were not looked for"
            ),
        }
    }
    context.stop.cancelled().await;
}

/// How many objects of which namespace would wait.
async fn look(client: &Client, served: &[Scope]) -> Result<BTreeMap<String, usize>, ListError> {
    let mut stranded = BTreeMap::new();
    for path in [MicrosoftGraphCredential::url_path(&(), None), WoodpeckerAccount::url_path(&(), None)] {
        let mut token = None;
        loop {
            let page = list::page(client, (&path, true), PAGE, token, |json| {
                let object: Object = serde_json::from_slice(json)?;
                if let Some(namespace) = stranded_in(&object.metadata, served) {
                    *stranded.entry(namespace.to_owned()).or_default() += 1;
                }
                Ok(())
            });
            token = page.await?.next();
            if token.is_none() {
                break;
            }
        }
    }
    Ok(stranded)
}

/// The namespace of an object that nobody would let go.
fn stranded_in<'a>(metadata: &'a ObjectMeta, served: &[Scope]) -> Option<&'a str> {
    let namespace = metadata.namespace.as_deref()?;
    let ours = |it: &String| [FINALIZER, IN_USE_FINALIZER].contains(&it.as_str());
    let holds = metadata.finalizers.iter().flatten().any(ours);
    (holds && !served.iter().any(|scope| scope.covers(namespace))).then_some(namespace)
}

fn tell(stranded: &BTreeMap<String, usize>) {
    for (namespace, objects) in stranded.iter().take(TOLD) {
        tracing::warn!(
            namespace,
            objects,
            "objects hold finalizers of this operator in a namespace that it does not serve, and cannot be deleted unless \
             another one serves it: serve it again, or run graph-credential-operator release --yes --force --namespace \
             {namespace}"
        );
    }
    let more = stranded.len().saturating_sub(TOLD);
    if more > 0 {
        tracing::warn!(namespaces = more, "and so in further namespaces");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranded(namespace: &str, finalizers: &[&str]) -> Option<String> {
        let metadata = ObjectMeta {
            namespace: Some(namespace.into()),
            finalizers: Some(finalizers.iter().map(ToString::to_string).collect()),
            ..ObjectMeta::default()
        };
        stranded_in(&metadata, &Scope::of(&["mail".into()])).map(str::to_owned)
    }

    #[test]
    fn only_our_finalizers_in_namespaces_that_are_not_served_are_stranded() {
        assert_eq!(stranded("sales", &["example.com/theirs", FINALIZER]), Some("sales".into()));
        assert_eq!(stranded("sales", &[IN_USE_FINALIZER]), Some("sales".into()));
        assert_eq!(stranded("sales", &["example.com/theirs"]), None);
        assert_eq!(stranded("mail", &[FINALIZER]), None);
    }
}
