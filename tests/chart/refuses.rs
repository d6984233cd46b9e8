//! Values that can only be mistakes are refused before anything is installed.

use serde_json::json;

use crate::rendering::try_render;

#[test]
fn invalid_values_are_rejected() {
    for (values, word) in [
        (json!({"replicas": 2}), "replicas"),
        (json!({"image": {"tags": "v1"}}), "tags"),
        (json!({"image": {"digest": "sha256:short"}}), "digest"),
        (json!({"replicaCount": "two"}), "replicaCount"),
        (json!({"secretAccess": "all"}), "secretAccess"),
        (json!({"namedSecrets": [{"namespace": "mail"}]}), "names"),
        (json!({"log": {"format": "xml"}}), "format"),
        (json!({"leaderElection": {"enabled": false}}), "replicaCount"),
        (json!({"serviceAccount": {"create": false}}), "serviceAccount.name"),
        (json!({"rbac": {"clusterWideCRDs": false}}), "watchNamespaces"),
        (json!({"restApi": {"enabled": true}}), "restApi.tlsSecretName"),
        (json!({"metrics": {"tls": {"requireAuthorization": true}}}), "metrics.tls.secretName"),
        (json!({"watchNamespaces": ["mail", "mail"]}), "watchNamespaces"),
        (
            json!({"serviceMonitor": {"enabled": true}, "metrics": {"service": {"enabled": false}}}),
            "metrics.service",
        ),
        (json!({"serviceMonitor": {"renderMode": "never"}}), "renderMode"),
        (json!({"podMonitor": {"renderMode": "never"}}), "renderMode"),
        (json!({"prometheusRule": {"renderMode": "never"}}), "renderMode"),
        (json!({"serviceMonitor": {"enabled": true}, "podMonitor": {"enabled": true}}), "exclude each other"),
        (
            json!({"prometheusRule": {"disabled": {"GraphCredentialExpired": "true"}}}),
            "GraphCredentialExpired",
        ),
        (json!({"prometheusRule": {"overrides": {"GraphCredentialExpired": {"expr": "1"}}}}), "expr"),
        (json!({"prometheusRule": {"overrides": {"GraphCredentialExpired": {"for": 5}}}}), "for"),
        (json!({"prometheusRule": {"overrides": {"GraphCredentialExpired": {"for": "5 m"}}}}), "for"),
        (json!({"prometheusRule": {"overrides": {"GraphCredentialExpired": {"for": ""}}}}), "for"),
        (json!({"prometheusRule": {"overrides": {"GraphCredentialExpired": {"severity": 1}}}}), "severity"),
        (
            json!({"prometheusRule": {"overrides": {"GraphCredentialExpired": {"labels": {"page": true}}}}}),
            "page",
        ),
        (json!({"global": {"imagePullSecrets": [7]}}), "imagePullSecrets"),
        (json!({"global": {"imagePullSecrets": "registry"}}), "imagePullSecrets"),
        (json!({"global": {"priorityClassName": 7}}), "priorityClassName"),
        (json!({"global": {"tolerations": ["all"]}}), "tolerations"),
        (json!({"podSpec": ["hostNetwork"]}), "podSpec"),
        (json!({"namespaceOverride": 7}), "namespaceOverride"),
    ] {
        let error = try_render(&values).err().unwrap_or_else(|| panic!("{values} is taken"));
        assert!(error.to_string().contains(word), "{values}: {error}");
    }
}
