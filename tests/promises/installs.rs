//! Installed by the real helm into a real API server, and run as the chart's pods say, with the token of the chart's
//! ServiceAccount: each profile of rights is enough for everything that the operator does, and nothing of it is too much.

mod deputies;
mod own_secrets;
pub mod release;
mod rights;
mod story;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kit::tls::Authority;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use self::release::{Installer, Release};
use self::story::play;
use crate::scrapes;
use crate::stage::{Stage, eventually};

/// A profile of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    /// `get` on every Secret.
    Cluster,
    /// `list` and `watch` as well.
    Watching,
    /// `get` in one namespace, which alone is served.
    Namespaces,
    /// `get` of some Secrets by their names.
    Named,
    /// `get` in one namespace, and no right beyond it and the operator's own, for who installs it either.
    Roles,
    /// As by default, and the REST API is served as well.
    Rest,
    /// As by default, and metrics are shown to those alone who may read them.
    Scraped,
}

// === impl Profile ===

impl Profile {
    /// The chart's values, where this namespace is to be served.
    fn values(self, served: &str) -> Value {
        let names = ["agency-key", "sales-eu-graph"];
        match self {
            Self::Cluster => json!({}),
            Self::Watching => json!({"secretAccess": "watch"}),
            Self::Namespaces => json!({"watchNamespaces": [served]}),
            Self::Named => {
                json!({"secretAccess": "named", "namedSecrets": [{"namespace": served, "names": names}]})
            }
            Self::Roles => json!({
                "watchNamespaces": [served], "ownKindsClusterRole": false, "crds": {"enabled": false},
                "admissionPolicies": {"enabled": false}, "rbac": {"aggregateClusterRoles": false}
            }),
            Self::Rest => json!({"restApi": {"enabled": true, "plainHttp": true}}),
            Self::Scraped => json!({"metrics": {"tls": {"secretName": "metrics-tls", "authorize": true}}}),
        }
    }

    /// What the story makes the API server refuse.
    fn refuses(self, stage: &Stage) -> Vec<String> {
        match self {
            Self::Cluster | Self::Watching | Self::Namespaces | Self::Roles | Self::Rest | Self::Scraped => {
                Vec::new()
            }
            Self::Named => vec![format!("get secrets {}/not-named", stage.namespace)],
        }
    }
}

/// Installs, plays the story, uninstalls, and holds the rights against what was used.
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
        scrapes::only_by_token(&release.stage, &authority).await;
    }
    play(&mut release.stage, profile).await;
    let refused = profile.refuses(&release.stage);
    match installer {
        Installer::OfTheCluster => release.uninstall(&refused).await,
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
async fn for_watched_namespaces_roles_in_these_are_enough_and_no_right_is_unused() {
    every_right_is_used_and_none_is_missing(Profile::Namespaces).await;
}

#[tokio::test]
async fn of_named_secrets_those_alone_are_read_and_no_right_is_unused() {
    every_right_is_used_and_none_is_missing(Profile::Named).await;
}

#[tokio::test]
async fn whoever_has_two_namespaces_alone_can_install_it_into_these_and_no_right_is_unused() {
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
    let pods: Api<Pod> = Api::namespaced(release.stage.client.clone(), release::NAMESPACE);
    // The namespace enforces it.
    pods.create(&PostParams::default(), &pod).await.expect("the pod is taken");
    let mut loose = pod.clone();
    loose.metadata.name = Some("loose".into());
    loose.spec.as_mut().unwrap().security_context = None;
    pods.create(&PostParams::default(), &loose).await.expect_err("a loose one is not");

    let crds: Api<CustomResourceDefinition> = Api::all(release.stage.client.clone());
    let accounts: Api<ServiceAccount> = Api::namespaced(release.stage.client.clone(), release::NAMESPACE);
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
async fn a_release_goes_over_to_one_replica_without_leader_election_and_back() {
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
