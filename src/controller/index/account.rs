//! What each `WoodpeckerAccount` is found by.

use super::Named;
use super::keys::{Key, Rank};
use super::table::Kept;
use crate::controller::scope::GuardedAccount;

impl Kept for GuardedAccount {
    type State = ();
    /// The Secret that it points to.
    type Facts = Option<Named>;

    fn facts(&self, (): &()) -> Option<Named> {
        let object = self.0.as_ref().ok()?;
        let name = object.spec.api_key_secret_ref.name.clone();
        Some(Named { namespace: object.metadata.namespace.clone().unwrap_or_default(), name })
    }

    fn succeed((): &mut (), _before: &Option<Named>, _next: &Self) {}

    fn keys(secret: &Option<Named>) -> Vec<(Key<'_>, Rank)> {
        secret.iter().map(|secret| (Key::Secret(secret), 0)).collect()
    }
}
