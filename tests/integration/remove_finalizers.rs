//! `remove-finalizers`: all objects can be deleted without the operator, and the output names what stays at
//! Woodpecker.

use graph_credential_operator::api::{MicrosoftGraphCredential, WoodpeckerAccount};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::admin_cli::{assert_help, line, run, start_alone};
use crate::harness::{TestEnv, eventually};

const FINALIZER: &str = "graph-credentials.io/registration";
const IN_USE: &str = "graph-credentials.io/account-protection";

async fn add_finalizers(env: &TestEnv, name: &str, finalizers: &Value) {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    env.api::<WoodpeckerAccount>().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// Makes the CRD accept any spec, and makes the object's spec unreadable.
async fn break_object(env: &TestEnv, name: &str) {
    let crds: Api<CustomResourceDefinition> = Api::all(env.client.clone());
    let crd_name = "microsoftgraphcredentials.graph-credentials.io";
    let mut crd = crds.get(crd_name).await.unwrap();
    let version = &mut crd.spec.versions[0];
    version.selectable_fields = None;
    let schema = version.schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    schema.properties.as_mut().unwrap().insert("spec".into(), serde_json::from_value(any).unwrap());
    crds.replace(crd_name, &PostParams::default(), &crd).await.unwrap();
    eventually("the API server takes the odd spec", || async {
        let patch = Patch::Merge(json!({"spec": {"tenantId": "not-a-guid"}}));
        let api: Api<kube::api::DynamicObject> = Api::namespaced_with(
            env.client.clone(),
            &env.namespace,
            &kube::api::ApiResource::erase::<MicrosoftGraphCredential>(&()),
        );
        let broken = api.patch(name, &PatchParams::default(), &patch).await;
        broken.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn remove_finalizers_works_without_the_operator_and_lists_remaining_credentials() {
    let mut env = start_alone().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    let namespace = env.namespace.clone();
    let args = ["remove-finalizers", "--operator-namespace", &namespace];

    assert_help(
        &env,
        "remove-finalizers",
        &["Stop the operator first", "--force", "Exit codes", "GCO_LEADER_ELECTION_LEASE"],
    )
    .await;
    let shown = run(&env, &args).await;
    assert_eq!(shown.code, Some(3), "{shown:?}");
    assert!(
        shown.out.contains("would remove the finalizers of MicrosoftGraphCredential")
            && shown.out.contains("--yes"),
        "{shown:?}"
    );
    let beside = run(&env, &[&args[..], &["--yes"]].concat()).await;
    let holder = env.api::<Lease>().list(&kube::api::ListParams::default()).await.unwrap().items.remove(0);
    let holder = holder.spec.unwrap().holder_identity.unwrap();
    assert_eq!(beside.code, Some(1), "{beside:?}");
    assert!(beside.error.contains("stop the operator first") && beside.error.contains(&holder), "{beside:?}");
    assert_eq!(env.read("sales-eu").await.finalizers(), [FINALIZER]);
    let forced = run(&env, &[&args[..], &["--yes", "--force", "--watch-namespace", "empty"]].concat()).await;
    assert_eq!(forced.code, Some(0), "{forced:?}");

    // Killed, so that its lease still names it.
    env.operator.take().unwrap().kill().await.unwrap();
    break_object(&env, "sales-eu").await;
    add_finalizers(&env, "agency", &json!([IN_USE, "example.com/other"])).await;
    let writes = env.woodpecker.requests("agency").len();
    let released = run(&env, &[&args[..], &["--yes"]].concat()).await;
    assert_eq!(released.code, Some(0), "{released:?}");
    let (object, account) = (format!("{namespace}/sales-eu"), format!("{namespace}/agency"));
    for words in [
        vec!["removed the finalizers of MicrosoftGraphCredential", &object],
        vec!["removed the finalizers of WoodpeckerAccount", &account],
        vec![&object, &account, &id.to_string(), "registered"],
    ] {
        assert!(line(&released.out, &words).is_some(), "{words:?}: {released:?}");
    }
    let left: WoodpeckerAccount = env.api().get("agency").await.unwrap();
    assert_eq!(left.finalizers(), ["example.com/other"]);
    let again = run(&env, &[&args[..], &["--yes"]].concat()).await;
    assert!(again.code == Some(0) && again.out.contains(&id.to_string()), "{again:?}");
    assert_eq!((env.woodpecker.requests("agency").len(), env.remote().len()), (writes, 1));
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;

    let crds: Api<CustomResourceDefinition> = Api::all(env.client.clone());
    add_finalizers(&env, "agency", &json!([])).await;
    for crd in ["microsoftgraphcredentials", "woodpeckeraccounts"] {
        crds.delete(&format!("{crd}.graph-credentials.io"), &DeleteParams::default()).await.unwrap();
    }
    eventually("without CRDs there are no finalizers to remove", || async {
        let printed = run(&env, &args).await;
        let is_so = printed.code == Some(0) && printed.out.contains("there are no finalizers to remove");
        if is_so { Ok(()) } else { Err(format!("{printed:?}")) }
    })
    .await;
}

#[tokio::test]
async fn remove_finalizers_stops_the_deployment_and_waits_for_its_pods() {
    let mut env = start_alone().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    let labels = json!({"app": "gco"});
    let container = json!({"name": "operator", "image": "gco"});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": labels}, "template": {
        "metadata": {"labels": labels}, "spec": {"containers": [container]}
    }});
    env.apply::<Deployment>("gco", json!({"spec": spec})).await.unwrap();

    let namespace = env.namespace.clone();
    let wrong =
        ["remove-finalizers", "--yes", "--operator-namespace", &namespace, "--stop-deployment", "gone"];
    let rejected = run(&env, &[&wrong[..], &["--time-scale", "20"]].concat()).await;
    assert!(rejected.code == Some(1) && rejected.error.contains("there is no Deployment"), "{rejected:?}");
    assert!(rejected.error.contains("stop the operator first"), "{rejected:?}");
    assert_eq!(env.read("sales-eu").await.finalizers(), [FINALIZER]);

    let args = ["remove-finalizers", "--yes", "--operator-namespace", &namespace, "--stop-deployment", "gco"];
    // What the Deployment's controller does once it is scaled to zero.
    let deployments = env.api::<Deployment>();
    let stopped = async {
        eventually("the Deployment is scaled to zero", || async {
            let spec = deployments.get("gco").await.unwrap().spec.unwrap();
            if spec.replicas == Some(0) { Ok(()) } else { Err(format!("{:?}", spec.replicas)) }
        })
        .await;
    };
    let (released, ()) = tokio::join!(run(&env, &args), async {
        stopped.await;
        assert_eq!(env.read("sales-eu").await.finalizers(), [FINALIZER], "a leader still runs");
        env.operator.as_ref().unwrap().signal(rustix::process::Signal::TERM).unwrap();
    });
    assert_eq!(released.code, Some(0), "{released:?}");
    assert!(released.error.contains("scaled Deployment"), "{released:?}");
    assert_eq!(env.read("sales-eu").await.finalizers(), [""; 0]);
    env.operator.take();
}

#[tokio::test]
async fn remove_finalizers_only_if_release_does_nothing_to_a_deployment_of_anything_else() {
    let mut env = start_alone().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    let namespace = env.namespace.clone();
    let args =
        ["remove-finalizers", "--yes", "--operator-namespace", &namespace, "--only-if-release", "mail"];
    let all = [&args[..], &["--stop-deployment", "gco"]].concat();
    let lonely = run(&env, &args).await;
    assert!(lonely.code == Some(2) && lonely.error.contains("--stop-deployment"), "{lonely:?}");

    let labels = json!({"app": "gco"});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": labels}, "template": {
        "metadata": {"labels": labels}, "spec": {"containers": [{"name": "operator", "image": "gco"}]}
    }});
    let of_another = json!({"meta.helm.sh/release-name": "other"});
    for annotations in [None, Some(json!({})), Some(of_another)] {
        if let Some(annotations) = annotations {
            let object = json!({"metadata": {"annotations": annotations}, "spec": spec});
            env.apply::<Deployment>("gco", object).await.unwrap();
        }
        let printed = run(&env, &all).await;
        assert_eq!(printed.code, Some(0), "{printed:?}");
        assert!(printed.error.contains("was not installed by helm as release mail"), "{printed:?}");
        assert_eq!(env.read("sales-eu").await.finalizers(), [FINALIZER]);
    }
    let deployments = env.api::<Deployment>();
    assert_eq!(deployments.get("gco").await.unwrap().spec.unwrap().replicas, Some(2));

    let own = json!({"metadata": {"annotations": {"meta.helm.sh/release-name": "mail"}}, "spec": spec});
    env.apply::<Deployment>("gco", own).await.unwrap();
    env.stop_operator().await;
    let printed = run(&env, &all).await;
    assert!(printed.code == Some(0) && printed.error.contains("scaled Deployment"), "{printed:?}");
    assert_eq!(env.read("sales-eu").await.finalizers(), [""; 0]);
}
