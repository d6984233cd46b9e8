//! Each of Microsoft's clouds: proved at its own authority for its own Graph, and sealed.

use std::fs;

use kit::proxy::Proxy;
use kit::tls::Authority;

use super::*;

#[tokio::test]
async fn a_secret_of_each_cloud_is_proved_at_its_own_authority_and_sealed() {
    let government = "login.microsoftonline.us";
    let china = "login.partner.microsoftonline.cn";
    let mut stage = Stage::bare().await;
    let authority = Authority::new().unwrap();
    let proxy = Proxy::start().await.unwrap();
    let double = stage.entra.url().trim_start_matches("http://").to_owned();
    let relay = authority.relay(&[government, china], &double).await.unwrap();
    for host in [government, china] {
        proxy.route(&format!("{host}:443"), relay.port());
    }
    let ca = stage.cluster.dir().join(format!("{}-ca.pem", stage.namespace));
    fs::write(&ca, authority.pem()).unwrap();
    stage.extra_args = vec!["--extra-ca".into(), ca.display().to_string()];
    stage.extra_env = vec![("HTTPS_PROXY", proxy.url()), ("NO_PROXY", "127.0.0.1".to_owned())];
    stage.start_operator().await;
    put_secret(&stage, "s3cret-one", EXPIRY).await;
    for (cloud, host, graph) in [
        ("USGovernment", government, "graph.microsoft.us"),
        ("USGovernmentDoD", government, "dod-graph.microsoft.us"),
        ("China", china, "microsoftgraph.chinacloudapi.cn"),
    ] {
        // Whatever else is asked for is refused.
        stage.entra.accept_scope(&format!("https://{graph}/.default"));
        let (asked, before) = (proxy.asked().len(), records(&stage).await.len());
        let name = cloud.to_lowercase();
        stage.credential(&name, store(json!({"cloud": cloud}))).await;
        is_sealed(&stage, &name).await;
        let hosts = proxy.asked().split_off(asked);
        assert!(
            !hosts.is_empty() && hosts.iter().all(|it| *it == format!("{host}:443")),
            "{cloud}: {hosts:?}"
        );
        let sealed = records(&stage).await;
        assert_eq!(sealed.len(), before + 1);
        let wanted = Some(serde_json::from_value(json!(cloud)).unwrap());
        let record = sealed.iter().find(|record| record.spec.cloud == wanted).expect("its record");
        assert_eq!(open(&stage, record).await.as_deref(), Ok("s3cret-one"));
    }
}
