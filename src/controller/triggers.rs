//! Follows the objects of a kind: keeps the index true, and wakes one only for changes that a pass could answer, so that our
//! own status writes do not.

use std::sync::Arc;

use kube::Resource;
use kube::runtime::watcher::Event;

use super::context::Context;
use super::index::{Due, Named};
use super::scope::Scope;
use crate::k8s::watch::{ReadObject, Watched};

/// What a kind makes of what happens to its objects.
pub struct Trigger<K> {
    /// The kind.
    pub kind: &'static str,
    /// Reads an object, and keeps only what is used of it.
    pub read: ReadObject<K>,
    /// Takes in what the watch of a scope brings. Returns the objects that are new or changed in what a pass looks at.
    pub note: fn(&Context, &Scope, Event<K>) -> Vec<Due>,
    /// Wakes an object that was changed.
    pub wake: fn(&Context, Named),
    /// Wakes an object that is new to this process.
    pub wake_new: fn(&Context, Named),
}

/// Follows the objects of one scope until the controller stops.
pub async fn follow<K>(context: Arc<Context>, scope: Scope, trigger: Trigger<K>)
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    let Trigger { kind, read, note, wake, wake_new } = trigger;
    let watched = Watched::objects(kind, scope.namespace(), read);
    let (watching, gate) = (context.watching(), gate(kind, &scope));
    let follow = watching.follow(&watched, |event| {
        let is_complete = matches!(event, Event::InitDone);
        for Due { object, is_new } in note(&context, &scope, event) {
            if is_new { wake_new(&context, object) } else { wake(&context, object) }
        }
        if is_complete {
            context.readiness.arrived(&gate);
        }
    });
    let _stopped = context.stop.run_until_cancelled(follow).await;
}

/// The name under which readiness waits for the first list of a kind in a scope.
pub fn gate(kind: &str, scope: &Scope) -> String {
    match scope {
        Scope::All => format!("the first list of {kind}s"),
        Scope::Namespace(name) => format!("the first list of {kind}s in namespace {name}"),
    }
}
