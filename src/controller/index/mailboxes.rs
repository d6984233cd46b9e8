//! What the index keeps of a `WoodpeckerMailboxes`. It refers to its credential by name alone, and nothing refers to it, so
//! it has no keys.

use kube::core::{DeserializeGuard, ObjectMeta};

use crate::api::WoodpeckerMailboxes;
use crate::controller::index::entry::Indexed;
use crate::controller::index::keys::{Key, Rank};
use crate::controller::index::table::Table;
use crate::controller::index::{Index, Objects};

impl Indexed for WoodpeckerMailboxes {
    type State = ();
    type Facts = ();

    fn from_parts(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self {
        Self { metadata, spec, status }
    }

    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.mailboxes
    }

    fn facts(_object: &DeserializeGuard<Self>, (): &()) {}

    fn keys((): &()) -> Vec<(Key<'_>, Rank)> {
        Vec::new()
    }
}

// === impl Index ===

impl Index {
    /// The same with `WoodpeckerMailboxes` objects.
    #[must_use]
    pub fn with_mailboxes(mut self) -> Self {
        self.objects.get_mut().mailboxes = Table::new(&self.scopes);
        self
    }

    /// Whether the credentials, accounts and `WoodpeckerMailboxes` of every scope have been listed.
    pub fn are_mailboxes_listed(&self) -> bool {
        let objects = self.objects();
        objects.credentials.is_listed() && objects.accounts.is_listed() && objects.mailboxes.is_listed()
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::api::{MicrosoftGraphCredential, WoodpeckerAccount};
    use crate::k8s::scope::Scope;

    #[test]
    fn mailboxes_are_listed_once_each_kind_is_in_every_scope() {
        let scopes = ["a", "b"].map(|name| Scope::Namespace(name.into()));
        let index = Index::new(scopes.to_vec()).with_mailboxes();
        let mut states = Vec::new();
        for scope in &scopes {
            let _ = index.on_watch_event::<MicrosoftGraphCredential>(scope, 0, Event::Init);
            let _ = index.on_watch_event::<MicrosoftGraphCredential>(scope, 0, Event::InitDone);
            let _ = index.on_watch_event::<WoodpeckerAccount>(scope, 0, Event::Init);
            let _ = index.on_watch_event::<WoodpeckerAccount>(scope, 0, Event::InitDone);
            states.push(index.are_mailboxes_listed());
        }
        for scope in &scopes {
            let _ = index.on_watch_event::<WoodpeckerMailboxes>(scope, 0, Event::Init);
            let _ = index.on_watch_event::<WoodpeckerMailboxes>(scope, 0, Event::InitDone);
            states.push(index.are_mailboxes_listed());
        }
        assert_eq!(states, [false, false, false, true]);
    }
}
