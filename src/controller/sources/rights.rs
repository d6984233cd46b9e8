//! Which Secrets the operator may watch, asked of the API server, which answers that to everybody.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::controller::scope::Scope;

/// How changes of Secrets can be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// By a stream of all of them.
    Watch,
    /// By asking for each.
    Get,
}

/// Asks whether Secrets of that scope may be listed and watched.
pub(super) async fn ask(client: &Client, scope: &Scope) -> Result<Access, kube::Error> {
    for verb in ["list", "watch"] {
        if !is_allowed(client, scope, verb).await? {
            return Ok(Access::Get);
        }
    }
    Ok(Access::Watch)
}

async fn is_allowed(client: &Client, scope: &Scope, verb: &str) -> Result<bool, kube::Error> {
    let attributes = ResourceAttributes {
        namespace: scope.namespace().map(str::to_owned),
        verb: Some(verb.to_owned()),
        resource: Some("secrets".to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
