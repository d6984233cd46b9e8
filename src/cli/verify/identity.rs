//! Signs in with an `EntraIdentity`, as the operator does.

use anyhow::Context as _;
use kube::Api;

use super::result::VerifyResult;
use super::{VerifyArgs, endpoint_config};
use crate::api::EntraIdentity;
use crate::cli::keyring::Target;
use crate::config::ObjectName;
use crate::entra::identity::{FederatedTokens, GraphTokens, IdentitySnapshot};

/// Requests a token for Microsoft Graph in the tenant, or else in the identity's home tenant.
pub(super) async fn sign_in(name: &ObjectName, args: &VerifyArgs) -> anyhow::Result<VerifyResult> {
    let target = Target::find(&args.keyring)?;
    let (client, namespace) = (target.cluster.client.clone(), &target.cluster.namespace);
    let api: Api<EntraIdentity> = Api::namespaced(client.clone(), namespace);
    let read = api.get_opt(name.as_str()).await;
    let read = read.with_context(|| format!("failed to read EntraIdentity {namespace}/{name}"))?;
    let object = read.with_context(|| {
        format!("there is no EntraIdentity {namespace}/{name}: fix --identity or --operator-namespace")
    })?;
    let identity = IdentitySnapshot::of(&object);
    let tenant = args.tenant_id.clone().unwrap_or_else(|| identity.home_tenant.clone());
    let federated = FederatedTokens::new(&args.federated);
    let tokens = GraphTokens::new(endpoint_config(args)?, client, federated, &target.timing);
    let token = tokens.token(&identity, &tenant).await;
    let authority = tokens.authority(identity.cloud);
    VerifyResult::of_sign_in(token, &identity, &tenant, authority, &args.required_roles)
}
