//! Values that change whole pod specs.

use serde_json::json;

use super::Case;

pub fn specs() -> Vec<Case> {
    vec![
        ("podSpec", json!({"hostNetwork": true}), "Deployment - pod/hostNetwork", json!(true)),
        (
            "preDeleteHook.podSpec",
            json!({"hostNetwork": true}),
            "Job remove-finalizers pod/hostNetwork",
            json!(true),
        ),
    ]
}
