//! Each of Microsoft's clouds: the secret is verified at the cloud's authority for its own Graph, and
//! encrypted.

use std::fs;

use kit::proxy::Proxy;
use kit::tls::Authority;

use super::*;

#[tokio::test]
async fn a_secret_of_each_cloud_is_verified_at_its_authority_and_stored() {
    let government = "login.microsoftonline.us";
    let china = "login.partner.microsoftonline.cn";
    let mut env = TestEnv::bare().await;
    let authority = Authority::new().unwrap();
    let proxy = Proxy::start().await.unwrap();
    let double = env.entra.url().trim_start_matches("http://").to_owned();
    let relay = authority.relay(&[government, china], &double).await.unwrap();
    for host in [government, china] {
        proxy.route(&format!("{host}:443"), relay.port());
    }
    let ca = env.cluster.dir().join(format!("{}-ca.pem", env.namespace));
    fs::write(&ca, authority.pem()).unwrap();
    env.extra_args = vec!["--ca-bundle".into(), ca.display().to_string()];
    env.extra_env = vec![("HTTPS_PROXY", proxy.url()), ("NO_PROXY", "127.0.0.1".to_owned())];
    env.start_operator().await;
    put_secret(&env, "s3cret-one", EXPIRY).await;
    for (cloud, host, graph) in [
        ("USGovernment", government, "graph.microsoft.us"),
        ("USGovernmentDoD", government, "dod-graph.microsoft.us"),
        ("China", china, "microsoftgraph.chinacloudapi.cn"),
    ] {
        // The double rejects every other scope.
        env.entra.accept_scope(&format!("https://{graph}/.default"));
        let (targets_before, before) = (proxy.targets().len(), records(&env).await.len());
        let name = cloud.to_lowercase();
        env.credential(&name, store(json!({"cloud": cloud}))).await;
        is_sealed(&env, &name).await;
        // The two clouds of the same host may share a connection, so the last one that was opened counts.
        let target = format!("{host}:443");
        let hosts = proxy.targets();
        assert_eq!(hosts.last(), Some(&target), "{cloud}");
        assert!(hosts[targets_before..].iter().all(|it| *it == target), "{cloud}: {hosts:?}");
        let sealed = records(&env).await;
        assert_eq!(sealed.len(), before + 1);
        let wanted = Some(serde_json::from_value(json!(cloud)).unwrap());
        let record = sealed.iter().find(|record| record.spec.cloud == wanted).expect("its record");
        assert_eq!(open(&env, record).await.as_deref(), Ok("s3cret-one"));
    }
}
