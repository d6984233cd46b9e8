//! The rights of each profile, as the chart grants them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::rendering::{NAMESPACE, Rendered, render};

/// The scope of each rule, and what it allows for Secrets: `verbs` or `verbs of names`.
fn secret_rights(rendered: &Rendered) -> BTreeMap<String, Vec<String>> {
    let mut rights = BTreeMap::new();
    for object in &rendered.0 {
        let place = match object["kind"].as_str() {
            Some("ClusterRole") => "*".to_owned(),
            Some("Role") => object["metadata"]["namespace"].as_str().unwrap().to_owned(),
            _ => continue,
        };
        let is_hook = object.pointer("/metadata/annotations/helm.sh~1hook").is_some();
        let rules = object["rules"].as_array().unwrap();
        for rule in
            rules.iter().filter(|rule| rule["resources"].as_array().unwrap().contains(&json!("secrets")))
        {
            assert!(!is_hook, "no hook needs Secrets: {object}");
            let words = |field: &Value| {
                let words = field.as_array().cloned().unwrap_or_default();
                words.iter().map(|it| it.as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
            };
            let (verbs, names) = (words(&rule["verbs"]), words(&rule["resourceNames"]));
            let right = if names.is_empty() { verbs } else { format!("{verbs} of {names}") };
            rights.entry(place.clone()).or_insert_with(Vec::new).push(right);
        }
    }
    rights
}

/// These rights and those to the keyring, which only an operator that sees all records may change.
fn expected(more: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
    let sees_all = more.iter().any(|(place, _)| *place == "*");
    keyring_and(if sees_all { "get patch" } else { "get" }, more)
}

fn keyring_and(keyring: &str, more: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
    let keyring = format!("{keyring} of graph-credential-operator-keyring");
    let mut rights = BTreeMap::from([(NAMESPACE.to_owned(), vec!["create".to_owned(), keyring])]);
    for (place, right) in more {
        rights.entry((*place).to_owned()).or_default().push((*right).to_owned());
    }
    rights
}

#[test]
fn by_default_secrets_are_read_by_name_and_never_listed() {
    assert_eq!(secret_rights(&render(&json!({}))), expected(&[("*", "get")]));
}

#[test]
fn watching_secrets_is_a_separate_right() {
    let rendered = render(&json!({"secretAccess": "watch"}));
    assert_eq!(secret_rights(&rendered), expected(&[("*", "get list watch")]));
}

#[test]
fn with_watched_namespaces_only_roles_in_them_read_secrets() {
    let rendered = render(&json!({"watchNamespaces": ["mail", "sales"]}));
    assert_eq!(secret_rights(&rendered), expected(&[("mail", "get"), ("sales", "get")]));
    let rendered = render(&json!({"watchNamespaces": ["mail"], "secretAccess": "watch"}));
    assert_eq!(secret_rights(&rendered), expected(&[("mail", "get list watch")]));
}

#[test]
fn named_secrets_are_the_only_ones_that_can_be_read() {
    let named = json!([{"namespace": "mail", "names": ["agency-key", "sales-eu-graph"]}]);
    let rendered = render(&json!({"secretAccess": "named", "namedSecrets": named}));
    let named = [("mail", "get of agency-key sales-eu-graph")];
    assert_eq!(secret_rights(&rendered), keyring_and("get patch", &named));
    assert_eq!(secret_rights(&render(&json!({"secretAccess": "named"}))), keyring_and("get patch", &[]));
}

/// Verbs and names of each rule for that resource, except for those of the hooks.
fn rights_to(resource: &str, values: &Value) -> Vec<(Value, Value)> {
    let rendered = render(values);
    let roles = rendered.0.iter().filter(|it| it.pointer("/metadata/annotations/helm.sh~1hook").is_none());
    let granted = roles.filter_map(|it| it["rules"].as_array()).flatten();
    let about = granted.filter(|rule| rule["resources"].as_array().unwrap().contains(&json!(resource)));
    about.map(|rule| (rule["verbs"].clone(), rule["resourceNames"].clone())).collect()
}

#[test]
fn the_status_of_records_is_writable_only_with_a_rest_api() {
    let rights = |rest: Value| rights_to("sealedgraphcredentials/status", &json!({"restApi": rest}));
    let update = [(json!(["update"]), Value::Null)];
    assert_eq!(rights(json!({})), []);
    assert_eq!(rights(json!({"enabled": true, "insecureHttp": true})), update);
    assert_eq!(rights(json!({"separateReplicas": 1})), update);
}

#[test]
fn leases_are_only_for_leader_election() {
    let rights = |values: Value| rights_to("leases", &values);
    let own = (json!(["get", "update"]), json!(["graph-credential-operator"]));
    assert_eq!(rights(json!({})), [(json!(["create"]), Value::Null), own]);
    assert_eq!(rights(json!({"leaderElection": {"enabled": false}, "replicaCount": 1})), []);
}

#[test]
fn without_a_cluster_role_nothing_is_cluster_scoped() {
    let rendered = render(&json!({
        "watchNamespaces": ["mail", NAMESPACE], "crds": {"enabled": false},
        "admissionPolicies": {"enabled": false}, "rbac": {"aggregateClusterRoles": false, "clusterWideCRDs": false}
    }));
    for object in &rendered.0 {
        assert!(object["metadata"]["namespace"].is_string(), "{object}");
    }
    let mut roles: Vec<(&Value, &Value)> =
        rendered.0.iter().filter(|it| it["kind"] == "Role").map(id).collect();
    let count = roles.len();
    roles.sort_by_key(|id| format!("{id:?}"));
    roles.dedup();
    assert_eq!(roles.len(), count, "all roles are different, also if the operator serves its own namespace");
}

#[test]
fn namespaces_are_listed_only_for_selectors() {
    let get = (json!(["get"]), Value::Null);
    assert_eq!(rights_to("namespaces", &json!({})), std::slice::from_ref(&get), "whether one terminates");
    let list = (json!(["list", "watch"]), Value::Null);
    let on = json!({"rbac": {"namespaceSelectors": true}});
    assert_eq!(rights_to("namespaces", &on), [get, list.clone()]);
    let bound = render(&on);
    assert_eq!(
        bound.get("ClusterRoleBinding", "-namespaces")["roleRef"]["name"],
        "graph-credential-operator-namespaces"
    );
    let namespaced = json!({
        "watchNamespaces": ["mail"], "rbac": {"clusterWideCRDs": false, "namespaceSelectors": true}
    });
    assert_eq!(rights_to("namespaces", &namespaced), [list], "it is a value of its own");
}

#[test]
fn identities_are_readable_in_the_operators_namespace_and_only_if_they_are_used() {
    let off = json!({});
    assert_eq!(rights_to("entraidentities/status", &off), []);
    let of_users = (json!(["get", "list", "watch"]), Value::Null);
    assert_eq!(rights_to("entraidentities", &off), std::slice::from_ref(&of_users), "users can view them");
    let on = json!({"entraIdentities": {"enabled": true, "secretNames": ["graph-cert"]}});
    let of_operator = (json!(["get", "list", "watch", "patch"]), Value::Null);
    assert_eq!(rights_to("entraidentities", &on), [of_users, of_operator], "patch is for the finalizer");
    assert_eq!(rights_to("entraidentities/status", &on), [(json!(["update"]), Value::Null)]);
    let without_finalizers = json!({
        "entraIdentities": {"enabled": true}, "watchNamespaces": ["mail"], "rbac": {"clusterWideCRDs": false}
    });
    let of_operator = (json!(["get", "list", "watch"]), Value::Null);
    assert!(rights_to("entraidentities", &without_finalizers).contains(&of_operator));
    assert!(!format!("{:?}", rights_to("entraidentities", &without_finalizers)).contains("patch"));
    let rendered = render(&on);
    let own = rendered.get("Role", "-own");
    assert_eq!(own["metadata"]["namespace"], NAMESPACE);
    assert!(own["rules"].to_string().contains("entraidentities"), "{own}");
    assert_eq!(
        secret_rights(&rendered),
        expected(&[("*", "get"), (NAMESPACE, "get of graph-cert")]),
        "one Secret by its name"
    );
}

#[test]
fn mailboxes_are_readable_where_the_operator_serves_and_only_if_they_are_used() {
    let off = json!({});
    let of_users = (json!(["get", "list", "watch"]), Value::Null);
    assert_eq!(
        rights_to("woodpeckermailboxes", &off),
        std::slice::from_ref(&of_users),
        "users can view them"
    );
    assert_eq!(rights_to("woodpeckermailboxes/status", &off), []);
    for more in [json!({}), json!({"watchNamespaces": ["mail"], "rbac": {"clusterWideCRDs": false}})] {
        let mut on = more;
        on["mailboxes"] = json!({"enabled": true});
        let mut found = rights_to("woodpeckermailboxes", &on);
        found.sort_by_key(|(verbs, _)| verbs.to_string());
        let write_state = (json!(["write-state"]), Value::Null);
        assert_eq!(found, [of_users.clone(), of_users.clone(), write_state]);
        assert_eq!(rights_to("woodpeckermailboxes/status", &on), [(json!(["update"]), Value::Null)]);
    }
}

#[test]
fn a_token_for_each_cloud_is_mounted_if_identities_are_used() {
    let volumes = |values: Value| {
        let rendered = render(&values);
        let pod = rendered.get("Deployment", "")["spec"]["template"]["spec"].clone();
        pod["volumes"].as_array().cloned().unwrap_or_default()
    };
    assert!(volumes(json!({})).iter().all(|volume| volume["name"] != "entra-tokens"));
    let on = volumes(json!({"entraIdentities": {"enabled": true}}));
    let projected = on.iter().find(|volume| volume["name"] == "entra-tokens").unwrap();
    let sources = projected["projected"]["sources"].as_array().unwrap();
    let tokens: Vec<(&str, &str)> = sources
        .iter()
        .map(|it| &it["serviceAccountToken"])
        .map(|it| (it["path"].as_str().unwrap(), it["audience"].as_str().unwrap()))
        .collect();
    assert_eq!(
        tokens,
        [
            ("global", "api://AzureADTokenExchange"),
            ("us-government", "api://AzureADTokenExchangeUSGov"),
            ("china", "api://AzureADTokenExchangeChina")
        ]
    );
}

/// The subjects of each binding of a role with the verb that the policy for status and records asks for.
fn state_writers(values: &Value) -> Vec<String> {
    let rendered = render(values);
    let grants = |name: &Value| {
        let role =
            rendered.0.iter().find(|it| it["kind"] == "ClusterRole" && it["metadata"]["name"] == *name);
        role.is_some_and(|role| role["rules"].to_string().contains("write-state"))
    };
    let bindings = rendered.0.iter().filter(|it| it["kind"] == "ClusterRoleBinding");
    let granting = bindings.filter(|it| grants(&it["roleRef"]["name"]));
    granting.map(|it| it["subjects"].to_string()).collect()
}

#[test]
fn only_an_operator_without_a_cluster_role_needs_the_right_to_write_state() {
    assert_eq!(state_writers(&json!({})), [""; 0], "it may write status and records in all namespaces");
    let mut values = json!({"watchNamespaces": ["mail"], "rbac": {"clusterWideCRDs": false}});
    let account = format!(
        r#"[{{"kind":"ServiceAccount","name":"graph-credential-operator","namespace":"{NAMESPACE}"}}]"#
    );
    assert_eq!(state_writers(&values), [account]);
    values["admissionPolicies"] = json!({"enabled": false});
    assert_eq!(state_writers(&values), [""; 0], "nothing asks for it");
}

fn id(object: &Value) -> (&Value, &Value) {
    (&object["metadata"]["namespace"], &object["metadata"]["name"])
}

#[test]
fn no_rule_has_wildcards_or_writes_other_secrets() {
    for values in [json!({}), json!({"secretAccess": "watch"}), json!({"watchNamespaces": ["mail"]})] {
        let rendered = render(&values);
        for object in rendered.0.iter().filter(|object| object["rules"].is_array()) {
            assert!(!object["rules"].to_string().contains('*'), "{object}");
        }
    }
}

#[test]
fn every_role_is_bound_to_the_accounts_that_the_pods_use() {
    for values in
        [json!({}), json!({"watchNamespaces": ["mail"]}), json!({"serviceAccount": {"name": "other"}})]
    {
        let rendered = render(&values);
        let account = |kind: &str, name: &str| {
            rendered.get(kind, name)["spec"]["template"]["spec"]["serviceAccountName"].clone()
        };
        let test = rendered.get("Pod", "-check")["spec"]["serviceAccountName"].clone();
        let users = [account("Deployment", "operator"), account("Job", "remove-finalizers"), test];
        let of_people = ["-view", "-edit", "-state-writers"];
        for role in rendered.0.iter().filter(|object| object["rules"].is_array()) {
            let name = role["metadata"]["name"].as_str().unwrap();
            if of_people.iter().any(|end| name.ends_with(end)) {
                continue;
            }
            let (kind, namespace) = (role["kind"].as_str().unwrap(), &role["metadata"]["namespace"]);
            let binding = rendered.0.iter().find(|object| {
                object["roleRef"]["kind"] == kind
                    && object["roleRef"]["name"] == name
                    && object["metadata"]["namespace"] == *namespace
            });
            let binding = binding.unwrap_or_else(|| panic!("{kind} {name} has no binding"));
            for subject in binding["subjects"].as_array().unwrap() {
                assert_eq!(subject["namespace"], NAMESPACE);
                assert!(users.contains(&subject["name"]), "{subject}");
            }
        }
    }
}
