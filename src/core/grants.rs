//! Whether an `EntraIdentity` may be used for an app on behalf of a namespace.

use crate::api::{ClientId, EntraIdentity, Grant, MicrosoftGraphCredential, TenantId};
use crate::core::app_reading::AppAccess;

/// Whether the identity may be used for the app of an object; `None` if there is no such identity, or if it does not match
/// its schema. The grants come first: without one, nothing is said about the identity.
pub fn access(identity: Option<&EntraIdentity>, object: &MicrosoftGraphCredential) -> AppAccess {
    let spec = &object.spec;
    let granted = identity.filter(|identity| {
        is_granted(&identity.spec.grants, object.namespace_name(), &spec.tenant_id, &spec.client_id)
    });
    let Some(identity) = granted else { return AppAccess::NotGranted };
    // A deleted object still removes what was created with a deleted identity.
    if identity.metadata.deletion_timestamp.is_some() && !object.is_deleted() {
        AppAccess::IdentityDeleted
    } else if identity.spec.cloud() != spec.cloud() {
        AppAccess::OtherCloud
    } else {
        AppAccess::Granted
    }
}

/// Whether a grant names the namespace, the tenant and the app together. Nothing else allows the operator to read or
/// change an app for a namespace.
pub fn is_granted(grants: &[Grant], namespace: &str, tenant: &TenantId, client: &ClientId) -> bool {
    grants.iter().any(|grant| {
        grant.tenant_id == *tenant
            && grant.namespaces.iter().any(|name| name == namespace)
            && grant.client_ids.contains(client)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT_A: &str = "aaaaaaaa-aaf4-4f7c-9dc2-2c9160d1cb32";
    const TENANT_B: &str = "bbbbbbbb-aaf4-4f7c-9dc2-2c9160d1cb32";
    const APP_A: &str = "aaaaaaaa-480e-4a17-9b85-3467967bd179";
    const APP_B: &str = "bbbbbbbb-480e-4a17-9b85-3467967bd179";

    fn grant(namespaces: &[&str], tenant: &str, clients: &[&str]) -> Grant {
        Grant {
            namespaces: namespaces.iter().map(|&name| name.to_owned()).collect(),
            tenant_id: tenant.parse().unwrap(),
            client_ids: clients.iter().map(|client| client.parse().unwrap()).collect(),
        }
    }

    fn granted(grants: &[Grant], namespace: &str, tenant: &str, client: &str) -> bool {
        is_granted(grants, namespace, &tenant.parse().unwrap(), &client.parse().unwrap())
    }

    #[test]
    fn a_namespace_has_only_what_one_grant_names_together() {
        let grants =
            [grant(&["client-a"], TENANT_A, &[APP_A]), grant(&["client-b", "b-2"], TENANT_B, &[APP_B])];
        for (namespace, tenant, client, expected) in [
            ("client-a", TENANT_A, APP_A, true),
            ("client-b", TENANT_B, APP_B, true),
            ("b-2", TENANT_B, APP_B, true),
            ("client-a", TENANT_B, APP_B, false),
            ("client-a", TENANT_A, APP_B, false),
            ("client-a", TENANT_B, APP_A, false),
            ("client-b", TENANT_A, APP_A, false),
            ("client", TENANT_A, APP_A, false),
            ("", TENANT_A, APP_A, false),
        ] {
            let found = granted(&grants, namespace, tenant, client);
            assert_eq!(found, expected, "{namespace} {tenant} {client}");
        }
    }

    #[test]
    fn without_grants_nothing_is_granted() {
        assert!(!granted(&[], "client-a", TENANT_A, APP_A));
        let empty = [grant(&[], TENANT_A, &[APP_A]), grant(&["client-a"], TENANT_A, &[])];
        assert!(!granted(&empty, "client-a", TENANT_A, APP_A));
    }

    #[test]
    fn patterns_mean_nothing_and_ids_are_compared_without_case() {
        let grants = [grant(&["*", "client-*"], TENANT_A, &[APP_A])];
        assert!(!granted(&grants, "client-a", TENANT_A, APP_A));
        let grants = [grant(&["client-a"], &TENANT_A.to_uppercase(), &[&APP_A.to_uppercase()])];
        assert!(granted(&grants, "client-a", TENANT_A, APP_A));
    }
}
