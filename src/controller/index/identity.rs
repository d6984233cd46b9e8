//! What the index keeps of an `EntraIdentity`. Objects refer to it by name alone, so it has no keys.

use kube::core::{DeserializeGuard, ObjectMeta};

use crate::api::EntraIdentity;
use crate::controller::identity::IdentityState;
use crate::controller::index::Objects;
use crate::controller::index::entry::Indexed;
use crate::controller::index::keys::{Key, Rank};
use crate::controller::index::table::Table;

impl Indexed for EntraIdentity {
    type State = IdentityState;
    type Facts = ();

    fn from_parts(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self {
        Self { metadata, spec, status }
    }

    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.identities
    }

    fn facts(_object: &DeserializeGuard<Self>, _state: &IdentityState) {}

    fn keys(_facts: &()) -> Vec<(Key<'_>, Rank)> {
        Vec::new()
    }
}
