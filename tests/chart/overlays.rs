//! A kustomize overlay over the plain manifests, and a release in any namespace: no name of a namespace is left behind
//! where a tool cannot change it.

use std::fs;
use std::process::Command;

use kit::assets::{Assets, Program};
use serde_json::Value;

use crate::rendering::{NAMESPACE, Rendered, render_release};

/// The strings in a value in which a word is this one.
fn strings_with(word: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
            if text.split(|c| !is_part(c)).any(|it| it == word) {
                found.push(text.clone());
            }
        }
        Value::Object(fields) => fields.values().for_each(|value| strings_with(word, value, found)),
        Value::Array(values) => values.iter().for_each(|value| strings_with(word, value, found)),
        _ => {}
    }
}

/// The output of `kubectl kustomize` for an overlay over `deploy`.
fn kustomize(overlay: &str) -> Rendered {
    let kubectl = Assets::locate(&[Program::Kubectl]).expect("kubectl is available");
    let folder = tempfile::tempdir().unwrap();
    for name in ["deploy", "operator"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for file in ["kustomization.yaml", "install.yaml"] {
        fs::copy(kit::workspace().join("deploy").join(file), folder.path().join("deploy").join(file))
            .unwrap();
    }
    fs::write(folder.path().join("operator/kustomization.yaml"), overlay).unwrap();
    let output = Command::new(kubectl.path(Program::Kubectl).unwrap())
        .args(["kustomize", "operator"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Rendered(kit::helm::parse(&String::from_utf8(output.stdout).unwrap()).unwrap())
}

#[test]
fn an_overlay_moves_everything_to_another_namespace() {
    let page = fs::read_to_string(kit::workspace().join("docs/tasks/install.md")).unwrap();
    let overlay = page.split("```yaml\n").find(|block| block.contains("resources: [../deploy]")).unwrap();
    let overlay = overlay.split("```").next().unwrap();
    let rendered = kustomize(&format!("namespace: operators\n{overlay}"));
    for object in &rendered.0 {
        let mut found = Vec::new();
        strings_with(NAMESPACE, object, &mut found);
        assert!(found.is_empty(), "{found:?} in {object}");
    }
    let subjects = rendered.0.iter().filter_map(|it| it["subjects"].as_array()).flatten();
    assert!(subjects.clone().count() > 2);
    for subject in subjects {
        assert_eq!(subject["namespace"], "operators");
    }
    assert_eq!(rendered.get("Deployment", "")["metadata"]["namespace"], "operators");
}

#[test]
fn the_namespace_is_only_in_fields_that_tools_change() {
    let rendered = render_release("graph-credential-operator", "operators-ns", &serde_json::json!({}));
    for object in &rendered.0 {
        let mut object = object.clone();
        object["metadata"]["namespace"] = Value::Null;
        for subject in object["subjects"].as_array_mut().into_iter().flatten() {
            subject["namespace"] = Value::Null;
        }
        let mut found = Vec::new();
        strings_with("operators-ns", &object, &mut found);
        assert!(found.is_empty(), "{found:?} in {object}");
    }
    for (owner, pod) in rendered.pods() {
        let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        let own = env.iter().find(|it| it["name"] == "GCO_OPERATOR_NAMESPACE");
        let field = own.map(|it| it["valueFrom"]["fieldRef"]["fieldPath"].clone());
        assert_eq!(field, Some("metadata.namespace".into()), "{owner}");
    }
}

#[test]
fn two_releases_in_two_namespaces_share_only_the_crds() {
    let ids = |name: &str, namespace: &str| {
        let rendered =
            render_release(name, namespace, &serde_json::json!({"networkPolicy": {"enabled": true}}));
        let id =
            |it: &Value| format!("{} {} {}", it["kind"], it["metadata"]["namespace"], it["metadata"]["name"]);
        rendered.0.iter().filter(|it| it["kind"] != "CustomResourceDefinition").map(id).collect::<Vec<_>>()
    };
    let (first, second) = (ids("sales", "sales-system"), ids("support", "support-system"));
    assert!(first.len() > 20);
    assert!(first.iter().all(|id| !second.contains(id)), "{first:#?} {second:#?}");
}
