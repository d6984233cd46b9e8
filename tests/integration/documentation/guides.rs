//! The guide of a new user from nothing to Ready.

use kit::cluster::Cluster;
use kit::woodpecker::Credential;
use serde_json::json;

use super::scenario::Fixture;
use crate::gitops::blocks;
use crate::harness::{API_KEY, EXPIRY, TestEnv, prepare};

const GUIDE: &str = "docs/tutorials/from-nothing-to-ready.md";

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
async fn the_guide_leads_from_nothing_to_ready() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.unwrap()));
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
    let name = "the_guide_leads_from_nothing_to_ready";
    let mut fixture = Fixture::start(name, env, &variables).await;
    // A failure should not take that long.
    fixture.set_placeholder("--timeout=20m", "--timeout=60s");
    fixture.section(GUIDE, "Step 3: create the Secrets").await;
    save_manifests(&fixture);
    let shown = fixture.section(GUIDE, "Step 4: declare the account and the credential").await;
    let id = shown.out.trim().parse().unwrap();
    assert_eq!(remote(&fixture, id).name, "MS Graph app");
    fixture.end();
}
