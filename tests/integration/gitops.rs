//! GitOps: in every state kstatus (Flux) and Argo CD show what the status says, and applying a manifest again
//! changes nothing.

mod reapply;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::api::{MicrosoftGraphCredential, WoodpeckerAccount};
use kit::gitops::{Evaluation, GitOps};
use kit::woodpecker::{Fault, Op};
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv, eventually};

/// Argo CD's configuration of a kind, under a key with this part.
fn argo(part: &str, kind: &str) -> String {
    let path = kit::workspace().join("deploy/argocd/argocd-cm.yaml");
    let map = kit::helm::parse(&std::fs::read_to_string(path).unwrap()).unwrap().remove(0);
    let key = format!("resource.customizations.{part}.graph-credentials.io_{kind}");
    map["data"][&key].as_str().unwrap_or_else(|| panic!("no {key}")).to_owned()
}

/// The script of an Argo CD action.
fn action(kind: &str, name: &str) -> String {
    let actions = kit::helm::parse(&argo("actions", kind)).unwrap().remove(0);
    let definitions = actions["definitions"].as_array().unwrap().clone();
    let found = definitions.into_iter().find(|it| it["name"] == name);
    found.unwrap_or_else(|| panic!("no action {name}"))["action.lua"].as_str().unwrap().to_owned()
}

async fn evaluate(objects: Vec<Value>, health: String, action: String) -> Vec<Evaluation> {
    let evaluated =
        tokio::task::spawn_blocking(move || GitOps::locate()?.evaluate(&objects, &health, &action));
    evaluated.await.unwrap().unwrap_or_else(|error| panic!("{}", kit::chain(&error)))
}

/// Every state that objects of a kind go through from now on.
struct Record {
    states: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Record {
    /// Records from the moment that this returns.
    async fn of<K>(api: Api<K>) -> Self
    where
        K: kube::Resource + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug + Send + 'static,
    {
        let states = Arc::<Mutex<Vec<Value>>>::default();
        let kept = states.clone();
        let mut events = api.watch(&WatchParams::default().timeout(290), "0").await.unwrap().boxed();
        let task = tokio::spawn(async move {
            while let Ok(Some(event)) = events.try_next().await {
                if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event {
                    kept.lock().unwrap().push(serde_json::to_value(&object).unwrap());
                }
            }
        });
        Self { states, task }
    }

    fn end(self) -> Vec<Value> {
        self.task.abort();
        self.states.lock().unwrap().clone()
    }
}

/// What both must show for this status. kstatus does not know suspension: it shows the last state.
fn expected(object: &Value) -> (&'static str, &'static str) {
    if object["metadata"]["deletionTimestamp"].is_string() {
        return ("Terminating", "Progressing");
    }
    let condition = |type_: &str| {
        let all = object["status"]["conditions"].as_array();
        let found = all.and_then(|all| all.iter().find(|it| it["type"] == type_));
        found.and_then(|it| it["status"].as_str()).unwrap_or("absent").to_owned()
    };
    let is_seen = object["status"]["observedGeneration"] == object["metadata"]["generation"];
    let (ready, stalled, reconciling) = (condition("Ready"), condition("Stalled"), condition("Reconciling"));
    let (kstatus, health) = match (is_seen, ready.as_str(), stalled.as_str(), reconciling.as_str()) {
        (false, ..) | (true, "False" | "Unknown", "absent", "True") => ("InProgress", "Progressing"),
        (true, "True", "absent", "absent") => ("Current", "Healthy"),
        (true, "False" | "Unknown", "True", "absent") => ("Failed", "Degraded"),
        other => panic!("conditions that no rule allows: {other:?}\n{object:#}"),
    };
    if is_seen && object["spec"]["suspend"] == true { (kstatus, "Suspended") } else { (kstatus, health) }
}

fn shown(evaluation: &Evaluation) -> (&str, &str) {
    (&evaluation.kstatus, evaluation.health["status"].as_str().unwrap_or_default())
}

/// Compares every state with what both show; returns what was shown.
async fn compare(kind: &str, states: Vec<Value>) -> BTreeSet<String> {
    let evaluations = evaluate(states.clone(), argo("health", kind), String::new()).await;
    let mut seen = BTreeSet::new();
    for (object, evaluation) in states.iter().zip(&evaluations) {
        assert_eq!(shown(evaluation), expected(object), "{object:#}\n{evaluation:?}");
        assert!(!evaluation.health["message"].as_str().unwrap().is_empty(), "{evaluation:?}");
        let (kstatus, health) = shown(evaluation);
        seen.insert(format!("{kstatus} {health}"));
    }
    seen
}

#[tokio::test]
async fn kstatus_and_argo_cd_agree_with_the_status_in_every_state() {
    let mut env = TestEnv::bare().await;
    let credentials = Record::of(env.api::<MicrosoftGraphCredential>()).await;
    let accounts = Record::of(env.api::<WoodpeckerAccount>()).await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.account("agency", json!({})).await;
    env.start_operator().await;
    // First without its Secret; then with a wrong one, which at first counts as not propagated yet; then with
    // the right one.
    env.wait_for("sales-eu", ConditionType::SecretReady, ConditionStatus::False, "SecretNotFound").await;
    env.secret("sales-eu-graph", &[("client_secret", "wrong"), ("secret_expires_at", EXPIRY)]).await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::False, "InvalidClientSecret").await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.wait_until_ready("sales-eu").await;
    // Woodpecker does not respond; an API key is damaged and comes back.
    env.entra.set_secrets(TENANT, CLIENT, &["s3cret-one", "s3cret-two"]);
    env.woodpecker.fail_next(Op::Update, 1, Fault::ProcessedThenReset);
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "OutcomeUnknown").await;
    env.wait_until_ready("sales-eu").await;
    env.secret("agency-key", &[("api_key", "1234.key\n")]).await;
    env.wait_for_account("agency", ConditionStatus::False, "InvalidCharacters").await;
    env.account("agency", json!({})).await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    env.wait_until_ready("sales-eu").await;
    for suspend in [true, false] {
        let object =
            env.credential("sales-eu", json!({"deletionPolicy": "Delete", "suspend": suspend})).await;
        let is_handled = |it: &MicrosoftGraphCredential| {
            it.status.as_ref().map(|status| status.observed_generation) == object.metadata.generation
        };
        env.wait_until("sales-eu", "the change of suspend is handled", is_handled).await;
    }
    // The account is deleted before the credential that uses it, and waits for it.
    env.woodpecker.fail_next(Op::Delete, 1, Fault::Slow(Duration::from_millis(300)));
    env.api::<WoodpeckerAccount>().delete("agency", &kube::api::DeleteParams::default()).await.unwrap();
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    eventually("the account is deleted", || async {
        match env.api::<WoodpeckerAccount>().get_opt("agency").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:#?}\n{}", env.log())),
        }
    })
    .await;

    let every = ["Current Healthy", "Failed Degraded", "InProgress Progressing", "Terminating Progressing"]
        .map(str::to_owned);
    let seen = compare("WoodpeckerAccount", accounts.end()).await;
    assert_eq!(seen, every.clone().into());
    let seen = compare("MicrosoftGraphCredential", credentials.end()).await;
    assert_eq!(seen, every.into_iter().chain(["Current Suspended".to_owned()]).collect());
}

#[tokio::test]
async fn the_actions_of_argo_cd_have_their_effect() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let object = env.wait_until_ready("sales-eu").await;
    let kind = "MicrosoftGraphCredential";
    let press = async |name: &str| {
        let live: MicrosoftGraphCredential = env.read("sales-eu").await;
        let live = serde_json::to_value(&live).unwrap();
        let evaluation =
            evaluate(vec![live.clone()], argo("health", kind), action(kind, name)).await.remove(0);
        // Argo CD sends the difference between the script's input and output.
        let (annotations, suspend) =
            (&evaluation.changed["metadata"]["annotations"], &evaluation.changed["spec"]["suspend"]);
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"suspend": suspend}});
        let api = env.api::<MicrosoftGraphCredential>();
        api.patch("sales-eu", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        evaluation.health["status"].as_str().unwrap().to_owned()
    };
    let verifications = env.entra.requests().len();
    assert_eq!(press("verify").await, "Healthy");
    eventually("it is verified again", || async {
        let requests = env.entra.requests().len();
        if requests > verifications { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let at = env.wait_until("sales-eu", "the request is handled", |object| {
        object.status.as_ref().is_some_and(|status| status.last_handled_reconcile_at.is_some())
    });
    assert_ne!(at.await.resource_version(), object.resource_version());
    press("suspend").await;
    env.wait_until("sales-eu", "the suspension is reported", |object| {
        let status = object.status.clone().unwrap_or_default();
        Some(status.observed_generation) == object.metadata.generation
    })
    .await;
    assert_eq!(press("resume").await, "Suspended");
    env.wait_until_ready("sales-eu").await;
}

/// The YAML blocks of a page.
pub fn blocks(page: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for part in page.split("```yaml\n").skip(1) {
        let text = part.split("```").next().unwrap();
        found.extend(kit::helm::parse(text).unwrap_or_else(|error| panic!("{error}:\n{text}")));
    }
    found
}

#[tokio::test]
async fn every_example_of_the_operators_kinds_in_the_docs_is_accepted() {
    let env = TestEnv::bare().await;
    let mut tried = 0;
    for path in kit::docs::pages().unwrap() {
        let page = std::fs::read_to_string(kit::workspace().join(&path)).unwrap();
        for mut object in blocks(&page) {
            if object["apiVersion"] != "graph-credentials.io/v1alpha1" {
                continue;
            }
            object["metadata"]["namespace"] = json!(env.namespace);
            let kind = object["kind"].as_str().unwrap().to_owned();
            let gvk = kube::api::GroupVersionKind::gvk("graph-credentials.io", "v1alpha1", &kind);
            let mut resource = kube::api::ApiResource::from_gvk(&gvk);
            if kind == "WoodpeckerMailboxes" {
                // The kind is a plural already.
                resource.plural = kind.to_lowercase();
            }
            let api: Api<kube::api::DynamicObject> =
                Api::namespaced_with(env.client.clone(), &env.namespace, &resource);
            let params = PatchParams { dry_run: true, ..PatchParams::apply("docs") };
            // An unknown field is a typo.
            let params =
                PatchParams { field_validation: Some(kube::api::ValidationDirective::Strict), ..params };
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let taken = api.patch(&name, &params, &Patch::Apply(&object)).await;
            assert!(taken.is_ok(), "{path}: {object:#}: {taken:?}");
            tried += 1;
        }
    }
    assert!(tried >= 6, "{tried} examples");
}
