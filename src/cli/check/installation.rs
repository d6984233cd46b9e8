//! Checks of what an installation consists of: CRDs, admission policies, Lease and keyring.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};

use super::CheckArgs;
use super::report::{Checks, Finding};
use crate::api::{MicrosoftGraphCredential, SealedGraphCredential, WoodpeckerAccount};
use crate::cli::objects::age;
use crate::cli::release;
use crate::config::LeaderSettings;
use crate::core::error_chain::chain;
use crate::k8s::client::Cluster;
use crate::k8s::secrets::ReadError;
use crate::store::keyring::{self, KeyState, KeyringError, KeyringRef};

/// The label that the chart and the manifests give to everything of the operator.
const OURS: &str = "app.kubernetes.io/name=graph-credential-operator";

/// The first minor version of Kubernetes 1 that has admission policies.
const MIN_MINOR: u32 = 30;

const REACH_CLUSTER: &str = "check the kubeconfig, --context, and that the API server is reachable";

/// The ends of the names of the policies that every installation should have.
const POLICIES: [&str; 6] = ["-credentials", "-accounts", "-own-secrets", "-own-objects", "-state", "-size"];

/// Whether the API server responds.
pub(super) async fn api_server(cluster: &Cluster, checks: &mut Checks) -> bool {
    const CHECK: &str = "API server";
    let version = match cluster.client.apiserver_version().await {
        Ok(version) => version,
        Err(error) => {
            checks.add(Finding::failed(CHECK, chain(&error), REACH_CLUSTER));
            return false;
        }
    };
    let minor: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
    let detail = format!("{}, {}", cluster.url, version.git_version);
    let is_old = minor.parse::<u32>().is_ok_and(|minor| minor < MIN_MINOR);
    checks.add(if is_old {
        Finding::failed(CHECK, detail, "upgrade Kubernetes to 1.30 or newer")
    } else {
        Finding::ok(CHECK, detail)
    });
    true
}

/// Whether to go on: not if helm did not install the Deployment as the release of `--only-if-release`.
pub(super) async fn is_wanted(args: &CheckArgs, cluster: &Cluster, checks: &mut Checks) -> bool {
    const CONSEQUENCE: &str =
        "nothing was checked; to check this installation, run this command without --only-if-release";
    let (Some(release), Some(deployment)) = (&args.only_if_release, &args.deployment) else { return true };
    match release::is_of_release(release, deployment, cluster, CONSEQUENCE).await {
        Ok(is_of_release) => is_of_release,
        Err(error) => {
            checks.add(Finding::of_error("release", &error, REACH_CLUSTER));
            true
        }
    }
}

/// Whether the API server serves the three kinds in the version that this program uses.
pub(super) async fn crds(client: &Client, is_pre: bool, checks: &mut Checks) {
    const CHECK: &str = "CRDs";
    let version = MicrosoftGraphCredential::api_version(&());
    let served: BTreeSet<String> = match client.list_api_group_resources(&version).await {
        Ok(list) => list.resources.into_iter().map(|resource| resource.name).collect(),
        Err(kube::Error::Api(status)) if status.is_not_found() => BTreeSet::new(),
        Err(error) => return checks.add(Finding::of_error(CHECK, &error, REACH_CLUSTER)),
    };
    let wanted = [
        MicrosoftGraphCredential::plural(&()),
        WoodpeckerAccount::plural(&()),
        SealedGraphCredential::plural(&()),
    ];
    let missing: Vec<&str> =
        wanted.iter().map(AsRef::as_ref).filter(|name| !served.contains(*name)).collect();
    checks.add(match (missing.as_slice(), is_pre) {
        ([], _) => Finding::ok(CHECK, format!("{version} is served")),
        (missing, true) if missing.len() == wanted.len() => {
            Finding::ok(CHECK, "not installed yet: the chart installs them")
        }
        (missing, _) => Finding::failed(
            CHECK,
            format!("{version} is not served for {}", missing.join(", ")),
            "install the CRDs of this version (graph-credential-operator crd | kubectl apply --server-side -f -)",
        ),
    });
}

/// Whether more than one installation is in the cluster.
pub(super) async fn other_operators(cluster: &Cluster, checks: &mut Checks) {
    const CHECK: &str = "other operators";
    let deployments: Api<Deployment> = Api::all(cluster.client.clone());
    let found = match deployments.list_metadata(&ListParams::default().labels(OURS)).await {
        Ok(found) => found,
        Err(error) => return checks.add(Finding::of_error(CHECK, &error, REACH_CLUSTER)),
    };
    let elsewhere: Vec<String> = found
        .iter()
        .filter(|it| it.namespace().as_deref() != Some(&cluster.namespace))
        .map(|it| format!("{}/{}", it.namespace().unwrap_or_default(), it.name_any()))
        .collect();
    checks.add(if elsewhere.is_empty() {
        Finding::ok(CHECK, format!("none outside namespace {}", cluster.namespace))
    } else {
        Finding::warning(
            CHECK,
            elsewhere.join(", "),
            "two operators must not serve the same namespaces: set watchNamespaces in each",
        )
    });
}

/// Whether the admission policies are there and bound.
pub(super) async fn policies(client: &Client, checks: &mut Checks) {
    const CHECK: &str = "admission policies";
    let params = ListParams::default().labels(OURS);
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let (policies, bindings) = match tokio::try_join!(policies.list(&params), bindings.list(&params)) {
        Ok(found) => found,
        Err(error) => return checks.add(Finding::of_error(CHECK, &error, REACH_CLUSTER)),
    };
    let denies = |binding: &&ValidatingAdmissionPolicyBinding| {
        let actions = binding.spec.as_ref().and_then(|spec| spec.validation_actions.as_ref());
        actions.is_some_and(|actions| actions.iter().any(|action| action == "Deny"))
    };
    let bound: BTreeSet<&str> = bindings
        .iter()
        .filter(denies)
        .filter_map(|binding| binding.spec.as_ref()?.policy_name.as_deref())
        .collect();
    let active: Vec<String> =
        policies.iter().map(ResourceExt::name_any).filter(|name| bound.contains(name.as_str())).collect();
    let missing: Vec<&str> =
        POLICIES.into_iter().filter(|end| !active.iter().any(|name| name.ends_with(end))).collect();
    checks.add(if missing.is_empty() {
        Finding::ok(CHECK, format!("{} are active and bound", active.len()))
    } else {
        Finding::warning(
            CHECK,
            format!("missing or not bound: …{}", missing.join(", …")),
            "install the chart with admissionPolicies.enabled, or apply deploy/prerequisites.yaml",
        )
    });
}

/// Whether a process holds the Lease and renews it.
pub(super) async fn leader(cluster: &Cluster, settings: &LeaderSettings, checks: &mut Checks) {
    const CHECK: &str = "leader";
    const START: &str = "check that the operator's pods run, and look at their log";
    if !settings.leader_elect {
        let detail = "leader election is off, so no Lease shows whether the operator works";
        return checks.add(Finding::unknown(CHECK, detail, "check that its pod is ready"));
    }
    let name = settings.lease.leader_election_lease.as_str();
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let spec = match leases.get_opt(name).await {
        Ok(Some(lease)) => lease.spec.unwrap_or_default(),
        Ok(None) => {
            let detail = format!("there is no Lease {}/{name}", cluster.namespace);
            return checks.add(Finding::failed(
                CHECK,
                detail,
                "check that the operator's pods run, and --operator-namespace and --leader-election-lease",
            ));
        }
        Err(error) => return checks.add(Finding::of_error(CHECK, &error, REACH_CLUSTER)),
    };
    let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
    let now = Timestamp::now();
    let renewed = spec.renew_time.map(|renewed| renewed.0);
    let lasts = i64::from(spec.lease_duration_seconds.unwrap_or_default());
    checks.add(match (holder, renewed) {
        // Another minute, because the clock of the leader may differ.
        (Some(holder), Some(renewed)) if now.as_second() - renewed.as_second() <= lasts + 60 => {
            Finding::ok(CHECK, format!("{holder}, renewed {} ago", age(renewed, now)))
        }
        (Some(holder), Some(renewed)) => {
            Finding::failed(CHECK, format!("{holder} renewed its Lease {} ago", age(renewed, now)), START)
        }
        (_, _) => Finding::failed(CHECK, format!("nobody holds Lease {}/{name}", cluster.namespace), START),
    });
}

/// Whether the keyring can be read, and since when its primary key encrypts.
pub(super) async fn keyring(cluster: &Cluster, name: &str, checks: &mut Checks) {
    const CHECK: &str = "keyring";
    let secret = KeyringRef { namespace: cluster.namespace.clone(), name: name.to_owned() };
    let found = match keyring::load(&cluster.client, &secret).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            return checks.add(Finding::failed(
                CHECK,
                format!("there is no Secret {secret}"),
                "the operator creates it at its first start; if it is lost, restore it from a backup (keys import)",
            ));
        }
        Err(error @ KeyringError::Read { source: ReadError::Forbidden, .. }) => {
            return checks.add(Finding::unknown(CHECK, chain(&error), "you need get on the Secret"));
        }
        Err(error) => {
            return checks.add(Finding::failed(
                CHECK,
                chain(&error),
                "if the Secret is damaged, restore the keyring from a backup (keys import)",
            ));
        }
    };
    let primary = found.keys().find(|key| key.state == KeyState::Primary);
    let since = primary.map(|key| age(key.created, Timestamp::now())).unwrap_or_default();
    checks.add(Finding::ok(
        CHECK,
        format!(
            "{secret}, key {} is primary for {since}. Whether a backup exists cannot be seen from the cluster (keys export)",
            found.primary()
        ),
    ));
}
