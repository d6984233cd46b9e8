//! Values of a parent chart, and those that place and change whole objects.

use serde_json::json;

use super::Case;

pub fn global() -> Vec<Case> {
    vec![
        (
            "global.imagePullSecrets",
            json!(["p"]),
            "Job remove-finalizers pod/imagePullSecrets/0/name",
            json!("p"),
        ),
        (
            "global.imageRegistry",
            json!("r.example.com"),
            "Job remove-finalizers container/image",
            json!(concat!("r.example.com/graph-credential-operator:", env!("CARGO_PKG_VERSION"))),
        ),
        ("global.commonLabels", json!({"team": "mail"}), "Role -own metadata/labels/team", json!("mail")),
        ("global.nodeSelector", json!({"a": "b"}), "Job remove-finalizers pod/nodeSelector/a", json!("b")),
        (
            "global.tolerations",
            json!([{"key": "a"}]),
            "Job remove-finalizers pod/tolerations/0/key",
            json!("a"),
        ),
        (
            "global.priorityClassName",
            json!("high"),
            "Job remove-finalizers pod/priorityClassName",
            json!("high"),
        ),
    ]
}

pub fn placed() -> Vec<Case> {
    vec![
        ("namespaceOverride", json!("operators"), "Deployment - metadata/namespace", json!("operators")),
        (
            "crds.annotations",
            json!({"a": "b"}),
            "CustomResourceDefinition - metadata/annotations/a",
            json!("b"),
        ),
        ("podSpec", json!({"hostNetwork": true}), "Deployment - pod/hostNetwork", json!(true)),
        (
            "preDeleteHook.podSpec",
            json!({"hostNetwork": true}),
            "Job remove-finalizers pod/hostNetwork",
            json!(true),
        ),
        ("helmTest.podSpec", json!({"hostNetwork": true}), "Pod -check spec/hostNetwork", json!(true)),
    ]
}
