//! The guides of a new user: from nothing to Ready, a rotation, and the migration of what was made by hand.

use kit::woodpecker::Credential;
use serde_json::json;

use super::scenario::Fixture;
use crate::admin_cli::{OTHER_CLIENT, put};
use crate::gitops::blocks;
use crate::harness::{API_KEY, EXPIRY, TENANT, TestEnv, eventually, prepare};

const GUIDE: &str = "docs/tutorials/from-nothing-to-ready.md";
const ROTATE: &str = "docs/tasks/rotate.md";
const MIGRATE: &str = "docs/tasks/migrate.md";

/// The expiry of the new secret.
const LATER: &str = "2028-05-28T23:59:59Z";

/// Saves the manifests of the guide under the names that it gives them. The account leads to the double.
fn save_manifests(fixture: &Fixture) {
    let page = std::fs::read_to_string(kit::workspace().join(GUIDE)).unwrap();
    let mut saved = 0;
    for mut object in blocks(&page) {
        let file = match object["kind"].as_str().unwrap() {
            "WoodpeckerAccount" => {
                object["spec"]["baseUrl"] = json!(fixture.env.woodpecker.base_url());
                "account.yaml"
            }
            "MicrosoftGraphCredential" => "credential.yaml",
            other => panic!("the guide does not name a file for {other}"),
        };
        std::fs::write(fixture.shell.folder().join(file), object.to_string()).unwrap();
        saved += 1;
    }
    assert_eq!(saved, 2);
}

/// The credential at Woodpecker with this id.
fn remote(fixture: &Fixture, id: i64) -> Credential {
    fixture.env.remote().into_iter().find(|it| it.credential_id == id).expect("the credential is there")
}

#[tokio::test]
async fn the_guides_lead_from_nothing_to_ready_through_a_rotation_and_a_migration() {
    let cluster = crate::harness::own_cluster().await;
    prepare(cluster).await;
    let mut env = TestEnv::on(cluster).await;
    env.serves_all = true;
    env.start_operator().await;
    let variables = [
        ("GCO_ALLOWED_WOODPECKER_URLS", env.woodpecker.base_url()),
        ("GCO_DNS_SERVERS", "127.0.0.1:9".to_owned()),
        ("WOODPECKER_API_KEY", API_KEY.to_owned()),
        ("CLIENT_SECRET", "s3cret-one".to_owned()),
        ("EXPIRES", EXPIRY.to_owned()),
    ];
    let name = "the_guides_lead_from_nothing_to_ready_through_a_rotation_and_a_migration";
    let mut fixture = Fixture::start(name, env, &variables).await;
    // A failure should not take that long.
    fixture.set_placeholder("--timeout=20m", "--timeout=60s");
    fixture.section(GUIDE, "Step 3: create the Secrets").await;
    save_manifests(&fixture);
    let shown = fixture.section(GUIDE, "Step 4: declare the account and the credential").await;
    let id = shown.out.trim().parse().unwrap();
    assert_eq!(remote(&fixture, id).name, "MS Graph app");

    fixture.env.entra.set_secrets(TENANT, crate::harness::CLIENT, &["s3cret-one", "s3cret-two"]);
    fixture.export("CLIENT_SECRET", "s3cret-two");
    fixture.export("EXPIRES", LATER);
    fixture.section(ROTATE, "Put it into the Secret").await;
    fixture.section(ROTATE, "Wait for the registration").await;
    assert!(fixture.env.woodpecker.secret_matches("agency", id, "s3cret-two"), "it has the same id");
    assert_eq!(fixture.env.remote().len(), 1);
    let secret =
        "kubectl get secret sales-eu-graph --namespace mail --output jsonpath={.metadata.annotations}";
    assert_eq!(fixture.run(secret, "").await.out, "", "no annotation has a copy of the secret");

    fixture.env.entra.add_app(TENANT, OTHER_CLIENT);
    fixture.env.entra.set_secrets(TENANT, OTHER_CLIENT, &["the-old-secret", "s3cret-three"]);
    fixture.export("CLIENT_SECRET", "s3cret-three");
    let by_hand = put(&fixture.env, TENANT, OTHER_CLIENT, "MS Graph app");
    fixture.section(MIGRATE, "Print the manifests").await;
    fixture.section(MIGRATE, "Create the Secrets").await;
    fixture.section(MIGRATE, "Apply").await;
    fixture.section(MIGRATE, "Check").await;
    let get = "kubectl get mgc ms-graph-app --namespace mail --output jsonpath='{.status.registration.ownership} {.status.credentialId}'";
    assert_eq!(fixture.run(get, "").await.out, format!("Adopted {by_hand}"));
    eventually("the new secret is registered", || async {
        let is_there = fixture.env.woodpecker.secret_matches("agency", by_hand, "s3cret-three");
        if is_there { Ok(()) } else { Err(fixture.env.log()) }
    })
    .await;
    assert_eq!(fixture.env.remote().len(), 2, "nothing was created for it");
    fixture.end();
}
