//! The right to create Secrets: with the operator's token, only the keyring can be created.

use kube::api::DeleteParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::*;

const KEYRING: &str = "graph-credential-operator-keyring";

/// A Secret that the API server would fill with a token of that account.
fn token_of(account: &str, name: &Value) -> Value {
    let annotations = json!({"kubernetes.io/service-account.name": account});
    let mut secret =
        json!({"metadata": {"annotations": annotations}, "type": "kubernetes.io/service-account-token"});
    crate::harness::merge(&mut secret, json!({"metadata": name}));
    secret
}

#[tokio::test]
async fn the_operators_token_can_create_no_secret_except_the_keyring() {
    let mut release = Release::install(|_| json!({})).await;
    let env = &release.env;
    let kubeconfig = Kubeconfig::read_from(release.operators_kubeconfig().await).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let with_operator_token: Api<Secret> =
        Api::namespaced(Client::try_from(config).unwrap(), release::NAMESPACE);
    let secrets: Api<Secret> = Api::namespaced(env.client.clone(), release::NAMESPACE);
    let create = async |secret: Value| {
        let secret = serde_json::from_value(secret).unwrap();
        with_operator_token
            .create(&PostParams::default(), &secret)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let denied = |response: Result<(), String>| match response {
        Err(error) if error.contains(&format!("may create the Secret {KEYRING} of type")) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    // The API server applies a policy a moment after it was created.
    eventually("the policy is in force", || async {
        let response = create(json!({"metadata": {"name": "early"}})).await;
        let _ = secrets.delete("early", &DeleteParams::default()).await;
        denied(response)
    })
    .await;

    for name in [json!({"name": "token"}), json!({"generateName": "token-"}), json!({"name": KEYRING})] {
        denied(create(token_of("graph-credential-operator", &name)).await).unwrap();
    }
    denied(create(json!({"metadata": {"name": KEYRING}, "stringData": {"keyring.json": "{}"}})).await)
        .unwrap();
    denied(create(json!({"metadata": {"name": "other"}, "type": "graph-credentials.io/keyring"})).await)
        .unwrap();
    let other_secret = serde_json::from_value(json!({"metadata": {"name": "of-another-user"}})).unwrap();
    secrets.create(&PostParams::default(), &other_secret).await.expect("others are not restricted");

    release.start_operator().await;
    assert_eq!(secrets.get(KEYRING).await.unwrap().type_.as_deref(), Some("graph-credentials.io/keyring"));
}
