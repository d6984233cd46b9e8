//! The values files in `profiles`: each renders, alone and with others, and does what its comment says.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::rendering::{chart, merge, render, try_render};

/// A profile.
struct Profile {
    /// What the comment at its top says.
    text: String,
    values: Value,
}

/// The profiles by name.
fn profiles() -> BTreeMap<String, Profile> {
    let folder = fs::read_dir(chart().join("profiles")).expect("there are profiles");
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(path).expect("a profile can be read");
        let values = kit::helm::parse(&text).expect("a profile is YAML").remove(0);
        let comment: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# ")).collect();
        (name, Profile { text: comment.join(" "), values })
    };
    folder.map(|entry| read(entry.expect("a profile can be found").path())).collect()
}

/// The table of `README.md`.
pub fn table() -> String {
    let row = |(name, profile): (String, Profile)| {
        format!("| [{name}](profiles/{name}.yaml) | {} |\n", profile.text)
    };
    let head = "| profile | description |\n| --- | --- |\n".to_owned();
    std::iter::once(head).chain(profiles().into_iter().map(row)).collect()
}

/// Values that a profile's comment asks for.
fn needed(name: &str) -> Value {
    if name == "namespaced" { json!({"watchNamespaces": ["mail"]}) } else { json!({}) }
}

/// The values of these profiles, one over the other.
fn together(names: &[&str]) -> Value {
    let all = profiles();
    let mut values = json!({});
    for name in names {
        merge(&mut values, all[*name].values.clone());
        merge(&mut values, needed(name));
    }
    values
}

/// The paths of all values in it that are no map.
fn leaves(values: &Value, at: &str, found: &mut BTreeMap<String, Value>) {
    match values.as_object() {
        Some(fields) => fields.iter().for_each(|(key, value)| leaves(value, &format!("{at}/{key}"), found)),
        None => drop(found.insert(at.to_owned(), values.clone())),
    }
}

#[test]
fn each_profile_renders_and_changes_defaults_only() {
    let by_default = render(&json!({}));
    let text = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let defaults = kit::helm::parse(&text).unwrap().remove(0);
    let all = profiles();
    assert!(all.len() >= 8, "{}", all.len());
    for (name, profile) in &all {
        assert!(profile.text.ends_with('.'), "{name} begins with a comment about it");
        let rendered = try_render(&together(&[name])).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_ne!(rendered.0, by_default.0, "{name} changes nothing");
        let mut found = BTreeMap::new();
        leaves(&profile.values, "", &mut found);
        for (path, value) in found {
            assert_ne!(defaults.pointer(&path), Some(&value), "{name}: {path} is so by default");
        }
    }
}

#[test]
fn profiles_can_be_combined() {
    let all = ["high-availability", "watching", "rest-api", "monitoring", "restricted-network"];
    let rendered = render(&together(&all));
    assert_eq!(rendered.get("Deployment", "")["spec"]["replicas"], 3);
    for kind in ["NetworkPolicy", "ServiceMonitor", "PrometheusRule", "PodDisruptionBudget"] {
        rendered.get(kind, "");
    }
    rendered.get("Service", "-rest");
    render(&together(&["namespaced", "single-replica", "rest-api", "monitoring", "restricted-network"]));
    render(&together(&["named", "high-availability"]));
}

#[test]
fn the_profile_namespaced_creates_nothing_outside_namespaces_and_needs_some() {
    let error =
        try_render(&profiles()["namespaced"].values).err().expect("it names no namespace").to_string();
    assert!(error.contains("watchNamespaces"), "{error}");
    for object in &render(&together(&["namespaced"])).0 {
        assert!(object["metadata"]["namespace"].is_string(), "{object}");
    }
}

#[test]
fn the_profile_for_high_availability_keeps_two_replicas_and_counts_only_usable_nodes() {
    let rendered = render(&together(&["high-availability"]));
    let spec = &rendered.get("Deployment", "")["spec"];
    assert_eq!(
        (&spec["replicas"], &spec["strategy"]["rollingUpdate"]["maxUnavailable"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(rendered.get("PodDisruptionBudget", "")["spec"]["maxUnavailable"], 1);
    let spread = &spec["template"]["spec"]["topologySpreadConstraints"];
    assert_eq!(spread[0]["nodeTaintsPolicy"], "Honor", "{spread}");
    for constraint in spread.as_array().unwrap() {
        assert_eq!(constraint["labelSelector"]["matchLabels"], spec["selector"]["matchLabels"], "{spread}");
    }
}

#[test]
fn the_profile_for_one_replica_has_a_leader_and_no_budget() {
    let rendered = render(&together(&["single-replica"]));
    let args = &rendered.get("Deployment", "")["spec"]["template"]["spec"]["containers"][0]["args"];
    assert!(args.to_string().contains("--leader-elect=true"), "{args}");
    assert!(rendered.find("PodDisruptionBudget", "").is_none());
}

#[test]
fn the_profile_for_restricted_networks_admits_only_pods() {
    let rendered = render(&together(&["restricted-network", "rest-api"]));
    for rule in rendered.get("NetworkPolicy", "")["spec"]["ingress"].as_array().unwrap() {
        assert_eq!(rule["from"], json!([{"namespaceSelector": {}}]), "{rule}");
    }
}
