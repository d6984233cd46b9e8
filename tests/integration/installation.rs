//! Installs the chart with the real helm into a real API server, and runs the operator as the chart's pods
//! specify, with the token of the chart's ServiceAccount. Each profile of rights is enough for everything
//! that the operator does, and contains no unused right.

mod check;
mod confused_deputy;
mod helm_test;
mod identities;
mod lifecycle;
mod mailboxes;
mod only_if_release;
mod own_objects;
mod own_secrets;
pub mod release;
mod rights;
mod scenario;
mod state_writes;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kit::tls::Authority;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use self::release::{Installer, Release};
use self::scenario::run;
use crate::harness::{TestEnv, eventually};
use crate::metrics_endpoint;

/// A profile of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    /// `get` on every Secret.
    Cluster,
    /// `list` and `watch` too, and the labels of namespaces.
    Watching,
    /// `get` in the one namespace that is served.
    Namespaces,
    /// `get` on some Secrets by name.
    Named,
    /// `get` in one namespace. Neither the operator nor the user who installs it has a right beyond this
    /// namespace and the operator's own.
    Roles,
    /// The default, with the REST API.
    Rest,
    /// The default, with metrics only for clients that may read them.
    Scraped,
}

// === impl Profile ===

impl Profile {
    /// The chart's values for serving this namespace.
    fn values(self, served: &str) -> Value {
        let names = ["agency-key", "sales-eu-graph"];
        match self {
            Self::Cluster => json!({}),
            Self::Watching => json!({"secretAccess": "watch", "rbac": {"namespaceSelectors": true}}),
            Self::Namespaces => json!({"watchNamespaces": [served]}),
            Self::Named => {
                json!({"secretAccess": "named", "namedSecrets": [{"namespace": served, "names": names}]})
            }
            Self::Roles => json!({
                "watchNamespaces": [served], "crds": {"enabled": false},
                "admissionPolicies": {"enabled": false}, "rbac": {"aggregateClusterRoles": false, "clusterWideCRDs": false}
            }),
            Self::Rest => json!({"restApi": {"enabled": true, "insecureHttp": true}}),
            Self::Scraped => {
                json!({"metrics": {"tls": {"secretName": "metrics-tls", "requireAuthorization": true}}})
            }
        }
    }

    /// The requests that the scenario makes the API server refuse.
    fn refuses(self, env: &TestEnv) -> Vec<String> {
        match self {
            Self::Cluster | Self::Watching | Self::Namespaces | Self::Roles | Self::Rest | Self::Scraped => {
                Vec::new()
            }
            Self::Named => vec![format!("get secrets {}/not-named", env.namespace)],
        }
    }
}

/// Installs, runs the scenario, uninstalls, and compares the rights with what was used.
async fn every_right_is_used_and_none_is_missing(profile: Profile) {
    let installer =
        if profile == Profile::Roles { Installer::OfTwoNamespaces } else { Installer::OfTheCluster };
    let mut release = Release::install_by(installer, |served| profile.values(served)).await;
    if profile == Profile::Rest {
        release.allow_a_client().await;
    }
    let authority = Authority::new().unwrap();
    if profile == Profile::Scraped {
        release.mount_a_certificate(&authority);
    }
    release.start_operator().await;
    if profile == Profile::Scraped {
        metrics_endpoint::only_by_token(&release.env, &authority).await;
    }
    run(&mut release.env, profile).await;
    helm_test::passes(&release, profile).await;
    let rejected = profile.refuses(&release.env);
    match installer {
        Installer::OfTheCluster => release.uninstall(&rejected).await,
        Installer::OfTwoNamespaces => release.uninstall_without_a_hook().await,
    }
}

#[tokio::test]
async fn by_default_get_on_secrets_is_enough_and_no_right_is_unused() {
    every_right_is_used_and_none_is_missing(Profile::Cluster).await;
}

#[tokio::test]
async fn with_the_right_to_watch_secrets_no_right_is_unused() {
    every_right_is_used_and_none_is_missing(Profile::Watching).await;
}

#[tokio::test]
async fn roles_in_the_watched_namespaces_are_enough_and_no_right_is_unused() {
    every_right_is_used_and_none_is_missing(Profile::Namespaces).await;
}

#[tokio::test]
async fn only_the_named_secrets_are_read_and_no_right_is_unused() {
    every_right_is_used_and_none_is_missing(Profile::Named).await;
}

#[tokio::test]
async fn an_owner_of_two_namespaces_can_install_into_them_and_no_right_is_unused() {
    every_right_is_used_and_none_is_missing(Profile::Roles).await;
}

#[tokio::test]
async fn with_the_rest_api_no_right_is_unused() {
    every_right_is_used_and_none_is_missing(Profile::Rest).await;
}

#[tokio::test]
async fn with_scrapes_by_token_no_right_is_unused() {
    every_right_is_used_and_none_is_missing(Profile::Scraped).await;
}

#[tokio::test]
async fn the_pods_meet_the_restricted_standard_and_a_second_install_changes_nothing() {
    let release = Release::install(|_| json!({})).await;
    let deployment = release.deployment().await;
    let template = deployment.spec.clone().unwrap().template;
    let mut pod = Pod { metadata: template.metadata.unwrap(), spec: template.spec, status: None };
    pod.metadata.name = Some("as-the-template-says".into());
    let pods: Api<Pod> = Api::namespaced(release.env.client.clone(), release::NAMESPACE);
    // The namespace enforces the standard.
    pods.create(&PostParams::default(), &pod).await.expect("the pod is taken");
    let mut loose = pod.clone();
    loose.metadata.name = Some("loose".into());
    loose.spec.as_mut().unwrap().security_context = None;
    pods.create(&PostParams::default(), &loose).await.expect_err("a loose one is not");

    let crds: Api<CustomResourceDefinition> = Api::all(release.env.client.clone());
    let accounts: Api<ServiceAccount> = Api::namespaced(release.env.client.clone(), release::NAMESPACE);
    let versions = async || {
        let mut versions = vec![release.deployment().await.resource_version()];
        let crds = crds.list(&ListParams::default()).await.unwrap();
        versions.extend(crds.iter().map(ResourceExt::resource_version));
        let accounts = accounts.list(&ListParams::default()).await.unwrap();
        versions.extend(accounts.iter().map(ResourceExt::resource_version));
        versions
    };
    let before = versions().await;
    release.upgrade().await;
    assert_eq!(versions().await, before, "the same values again change nothing");
}

#[tokio::test]
async fn a_release_switches_to_one_replica_without_leader_election_and_back() {
    let mut release = Release::install(|_| json!({})).await;
    let strategy = async |release: &Release| {
        let spec = release.deployment().await.spec.unwrap();
        serde_json::to_value(spec.strategy.unwrap()).unwrap()
    };
    let rolling =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    assert_eq!(strategy(&release).await, rolling, "what a cluster does by default");
    for _ in 0..2 {
        release.upgrade_with(json!({"leaderElection": {"enabled": false}, "replicaCount": 1})).await;
        assert_eq!(strategy(&release).await, json!({"type": "Recreate"}), "two would both work");
        release.upgrade_with(json!({"leaderElection": {"enabled": true}, "replicaCount": 2})).await;
        assert_eq!(strategy(&release).await, rolling);
    }
}
