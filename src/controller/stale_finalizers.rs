//! Warns at startup about objects with a finalizer of this operator in namespaces that it does not serve, such as one
//! that it served before. Nothing would remove the finalizer, so a deleted object would stay forever.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::core::ObjectMeta;
use kube::{Client, Resource};
use serde::Deserialize;

use crate::api::{ACCOUNT_PROTECTION_FINALIZER, FINALIZER, MicrosoftGraphCredential, WoodpeckerAccount};
use crate::controller::context::Context;
use crate::core::error_chain::chain;
use crate::k8s::list::{self, ListError, PAGE};
use crate::k8s::scope::Scope;

/// Namespaces that are logged by name.
const MAX_LOGGED: usize = 20;

/// The part of an object that is read.
#[derive(Deserialize)]
struct Object {
    metadata: ObjectMeta,
}

/// Checks once if only some namespaces are served, then waits for shutdown.
pub(super) async fn run(context: Arc<Context>, served: Vec<Scope>) {
    let is_wanted = context.policy.sets_finalizers && !served.contains(&Scope::All);
    if is_wanted
        && let Some(found) = context.stop.run_until_cancelled(find_stale(&context.client, &served)).await
    {
        match found {
            Ok(stale) => log_stale(&stale),
            // An operator that may read only its own namespaces cannot find any.
            Err(error) => tracing::debug!(
                error = chain(&error),
                "failed to check for finalizers in namespaces that are not served"
            ),
        }
    }
    context.stop.cancelled().await;
}

/// The number of affected objects per namespace.
async fn find_stale(client: &Client, served: &[Scope]) -> Result<BTreeMap<String, usize>, ListError> {
    let mut stale = BTreeMap::new();
    for path in [MicrosoftGraphCredential::url_path(&(), None), WoodpeckerAccount::url_path(&(), None)] {
        let mut token = None;
        loop {
            let page = list::page(client, (&path, true), PAGE, token, |json| {
                let object: Object = serde_json::from_slice(json)?;
                if let Some(namespace) = stale_namespace(&object.metadata, served) {
                    *stale.entry(namespace.to_owned()).or_default() += 1;
                }
                Ok(())
            });
            token = page.await?.next();
            if token.is_none() {
                break;
            }
        }
    }
    Ok(stale)
}

/// The namespace of an object whose finalizer nothing would remove.
fn stale_namespace<'a>(metadata: &'a ObjectMeta, served: &[Scope]) -> Option<&'a str> {
    let namespace = metadata.namespace.as_deref()?;
    let ours = |it: &String| [FINALIZER, ACCOUNT_PROTECTION_FINALIZER].contains(&it.as_str());
    let has_ours = metadata.finalizers.iter().flatten().any(ours);
    (has_ours && !served.iter().any(|scope| scope.covers(namespace))).then_some(namespace)
}

fn log_stale(stale: &BTreeMap<String, usize>) {
    for (namespace, objects) in stale.iter().take(MAX_LOGGED) {
        tracing::warn!(
            namespace,
            objects,
            "objects have finalizers of this operator in a namespace that it does not serve, so they cannot be deleted unless \
             another operator serves it: serve it again, or run graph-credential-operator remove-finalizers --yes --force --namespace \
             {namespace}"
        );
    }
    let more = stale.len().saturating_sub(MAX_LOGGED);
    if more > 0 {
        tracing::warn!(namespaces = more, "more namespaces have such objects");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stale(namespace: &str, finalizers: &[&str]) -> Option<String> {
        let metadata = ObjectMeta {
            namespace: Some(namespace.into()),
            finalizers: Some(finalizers.iter().map(ToString::to_string).collect()),
            ..ObjectMeta::default()
        };
        stale_namespace(&metadata, &Scope::of(&["mail".into()])).map(str::to_owned)
    }

    #[test]
    fn only_our_finalizers_in_namespaces_that_are_not_served_are_stale() {
        assert_eq!(stale("sales", &["example.com/theirs", FINALIZER]), Some("sales".into()));
        assert_eq!(stale("sales", &[ACCOUNT_PROTECTION_FINALIZER]), Some("sales".into()));
        assert_eq!(stale("sales", &["example.com/theirs"]), None);
        assert_eq!(stale("mail", &[FINALIZER]), None);
    }
}
