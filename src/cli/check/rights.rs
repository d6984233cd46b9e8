//! Checks of rights, by reviews of the API server.

use std::collections::HashSet;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::report::{Checks, Finding};
use super::{CheckArgs, SecretAccess};
use crate::api::NamespacedName;
use crate::k8s::client::Cluster;

const GROUP: &str = "graph-credentials.io";

/// Whose rights are checked.
pub(super) enum Subject {
    /// Those of the client.
    Own,
    ServiceAccount(NamespacedName),
}

/// A right on one kind of object: group, resource, subresource, verbs.
type Right = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// What the operator needs in every namespace that it serves, as the chart grants it.
const SERVED: [Right; 6] = [
    (GROUP, "microsoftgraphcredentials", "", &["get", "list", "watch"]),
    (GROUP, "woodpeckeraccounts", "", &["get", "list", "watch"]),
    (GROUP, "microsoftgraphcredentials", "status", &["update"]),
    (GROUP, "woodpeckeraccounts", "status", &["update"]),
    (GROUP, "sealedgraphcredentials", "", &["get", "list", "watch", "create", "update", "patch"]),
    ("events.k8s.io", "events", "", &["create"]),
];

/// What else it needs there to set finalizers, and to carry out `deletionPolicy: Delete`.
const FINALIZERS: [Right; 4] = [
    (GROUP, "microsoftgraphcredentials", "", &["patch"]),
    (GROUP, "woodpeckeraccounts", "", &["patch"]),
    (GROUP, "sealedgraphcredentials", "", &["delete"]),
    // In all namespaces or none.
    ("", "namespaces", "", &["get"]),
];

/// What else it needs there to serve the REST API.
const REST: [Right; 2] = [
    (GROUP, "sealedgraphcredentials", "", &["delete"]),
    (GROUP, "sealedgraphcredentials", "status", &["update"]),
];

/// What else it needs there to connect mailboxes.
const MAILBOXES: [Right; 2] = [
    (GROUP, "woodpeckermailboxes", "", &["get", "list", "watch"]),
    (GROUP, "woodpeckermailboxes", "status", &["update"]),
];

/// What it needs in its own namespace to use identities.
const IDENTITIES: [Right; 2] = [
    (GROUP, "entraidentities", "", &["get", "list", "watch"]),
    (GROUP, "entraidentities", "status", &["update"]),
];

/// What else it needs there to protect an identity from deletion.
const PROTECTED_IDENTITIES: Right = (GROUP, "entraidentities", "", &["patch"]);

/// To create its keyring, in its own namespace. RBAC cannot limit `create` to a name.
const NEW_KEYRING: Right = ("", "secrets", "", &["create"]);

/// To create the Lease of leader election, in its own namespace.
const NEW_LEASE: Right = ("coordination.k8s.io", "leases", "", &["create"]);

/// A right in a namespace; the empty name means all namespaces.
struct Required {
    namespace: String,
    right: Right,
    /// The one object that the right is for.
    name: Option<String>,
}

/// What a user needs to install the chart with its default values.
const INSTALL: [Right; 8] = [
    ("apiextensions.k8s.io", "customresourcedefinitions", "", &["create", "patch"]),
    ("rbac.authorization.k8s.io", "clusterroles", "", &["create"]),
    ("rbac.authorization.k8s.io", "clusterrolebindings", "", &["create"]),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", "", &["create"]),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings", "", &["create"]),
    ("apps", "deployments", "", &["create"]),
    ("", "serviceaccounts", "", &["create"]),
    ("rbac.authorization.k8s.io", "roles", "", &["create"]),
];

/// Kinds without a namespace.
const CLUSTER_WIDE: [&str; 5] = [
    "customresourcedefinitions",
    "clusterroles",
    "clusterrolebindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];

/// Whether the client may install the chart into the namespace.
pub(super) async fn to_install(client: &Client, namespace: &str, checks: &mut Checks) {
    let rights = INSTALL.map(|right| {
        let is_namespaced = !CLUSTER_WIDE.contains(&right.1);
        Required {
            namespace: if is_namespaced { namespace.to_owned() } else { String::new() },
            right,
            name: None,
        }
    });
    report(
        "rights to install",
        denied(client, &Subject::Own, rights).await,
        "ask a cluster administrator to apply deploy/prerequisites.yaml, and install with the values of profiles/namespaced.yaml",
        checks,
    );
}

/// Whether the operator has the rights that it needs.
pub(super) async fn of_operator(cluster: &Cluster, subject: &Subject, args: &CheckArgs, checks: &mut Checks) {
    let namespaces = match args.served.list() {
        // The empty name means all namespaces.
        namespaces if namespaces.is_empty() => vec![String::new()],
        namespaces => namespaces,
    };
    let served = served(args);
    let served = namespaces.iter().flat_map(|namespace| {
        served.iter().map(|right| Required { namespace: namespace.clone(), right: *right, name: None })
    });
    let own = own(args, &cluster.namespace);
    report(
        "rights",
        denied(&cluster.client, subject, served.chain(own)).await,
        "grant them with the roles of the chart (rbac.create), or fix the flags that say what the operator uses: --watch-namespace, --secret-access, --enable-finalizers, --keyring-secret, --leader-election-lease, --entra-identities, --mailboxes and --rest-api-keys-secret",
        checks,
    );
}

/// What the operator needs in a namespace that it serves.
fn served(args: &CheckArgs) -> Vec<Right> {
    let secrets: &'static [&'static str] = match args.secret_access {
        SecretAccess::Get => &["get"],
        SecretAccess::Watch => &["get", "list", "watch"],
        SecretAccess::Named => &[],
    };
    let mut rights = SERVED.to_vec();
    if args.finalizers.enable_finalizers {
        rights.extend(FINALIZERS);
    }
    if args.rest_api_keys_secret.is_some() {
        rights.extend(REST);
    }
    if args.mailboxes {
        rights.extend(MAILBOXES);
    }
    rights.push(("", "secrets", "", secrets));
    rights
}

/// What the operator needs in its own namespace: identities, and its keyring, its Lease and its API keys by name.
fn own(args: &CheckArgs, namespace: &str) -> Vec<Required> {
    // Only an operator that can list the records of all namespaces may delete a key that no record needs.
    let keyring: &'static [&'static str] =
        if args.served.list().is_empty() { &["get", "patch"] } else { &["get"] };
    let mut rights =
        vec![(NEW_KEYRING, None), (("", "secrets", "", keyring), Some(args.keyring_secret.to_string()))];
    if args.leader.leader_elect {
        let lease: Right = ("coordination.k8s.io", "leases", "", &["get", "update"]);
        rights
            .extend([(NEW_LEASE, None), (lease, Some(args.leader.lease.leader_election_lease.to_string()))]);
    }
    if args.graph.entra_identities {
        rights.extend(IDENTITIES.map(|right| (right, None)));
        if args.finalizers.enable_finalizers {
            rights.push((PROTECTED_IDENTITIES, None));
        }
    }
    if let Some(api_keys) = &args.rest_api_keys_secret {
        rights.push((("", "secrets", "", &["get"]), Some(api_keys.to_string())));
    }
    let own = rights.into_iter();
    own.map(|(right, name)| Required { namespace: namespace.to_owned(), right, name }).collect()
}

fn report(check: &'static str, denied: kube::Result<Vec<String>>, action: &'static str, checks: &mut Checks) {
    checks.add(match denied {
        Ok(denied) if denied.is_empty() => Finding::ok(check, "complete"),
        Ok(denied) => Finding::failed(check, format!("missing: {}", denied.join("; ")), action),
        Err(error) => Finding::of_error(check, &error, "try again"),
    });
}

/// The rights that the subject lacks, in words.
async fn denied(
    client: &Client,
    subject: &Subject,
    rights: impl IntoIterator<Item = Required>,
) -> kube::Result<Vec<String>> {
    let mut denied = Vec::new();
    for Required { namespace, right: (group, resource, subresource, verbs), name } in rights {
        for verb in verbs {
            let attributes = ResourceAttributes {
                verb: Some((*verb).to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: (!subresource.is_empty()).then(|| subresource.to_owned()),
                namespace: Some(namespace.clone()),
                name: name.clone(),
                ..ResourceAttributes::default()
            };
            if !is_allowed(client, subject, attributes).await? {
                let part = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
                let place =
                    if namespace.is_empty() { String::new() } else { format!(" in namespace {namespace}") };
                let object = name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
                denied.push(format!("{verb} {resource}{part}{object}{place}"));
            }
        }
    }
    // The same right may be required twice.
    let mut seen = HashSet::new();
    denied.retain(|right| seen.insert(right.clone()));
    Ok(denied)
}

async fn is_allowed(
    client: &Client,
    subject: &Subject,
    attributes: ResourceAttributes,
) -> kube::Result<bool> {
    let resource_attributes = Some(attributes);
    let status = match subject {
        Subject::Own => {
            let spec =
                SelfSubjectAccessReviewSpec { resource_attributes, ..SelfSubjectAccessReviewSpec::default() };
            let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
            Api::all(client.clone()).create(&PostParams::default(), &review).await?.status
        }
        Subject::ServiceAccount(account) => {
            let NamespacedName { namespace, name } = account;
            let user = format!("system:serviceaccount:{namespace}:{name}");
            let groups = crate::cli::access::groups_of(&user, &[]);
            let spec = SubjectAccessReviewSpec {
                user: Some(user),
                groups: Some(groups),
                resource_attributes,
                ..SubjectAccessReviewSpec::default()
            };
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            Api::all(client.clone()).create(&PostParams::default(), &review).await?.status
        }
    };
    Ok(status.is_some_and(|status| status.allowed))
}

// === impl Subject ===

impl Subject {
    /// The named ServiceAccount, or else the pod's own.
    pub(super) fn of(account: Option<&NamespacedName>, runs_in_pod: bool) -> Option<Self> {
        match account {
            Some(account) => Some(Self::ServiceAccount(account.clone())),
            None => runs_in_pod.then_some(Self::Own),
        }
    }
}
