//! Alerts of the `PrometheusRule` that values disable and change, and the address of their runbooks.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::rendering::{Rendered, render, try_render};

/// The rules as they are in the repository.
fn rules_of_the_repository() -> Value {
    let text = fs::read_to_string(kit::workspace().join("deploy/prometheus/rules.yaml")).unwrap();
    kit::helm::parse(&text).unwrap().remove(0)["groups"].take()
}

/// The groups of the rendered `PrometheusRule` with these values below `prometheusRule`.
fn groups(values: Value) -> Value {
    let mut all = values;
    all["enabled"] = json!(true);
    render(&json!({"prometheusRule": all})).get("PrometheusRule", "")["spec"]["groups"].clone()
}

fn rules(groups: &Value) -> Vec<&Value> {
    let groups = groups.as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect()
}

fn named<'a>(groups: &'a Value, name: &str) -> Vec<&'a Value> {
    rules(groups).into_iter().filter(|rule| rule["alert"] == name).collect()
}

#[test]
fn without_values_the_rules_are_those_of_the_repository() {
    assert_eq!(groups(json!({})), rules_of_the_repository());
}

#[test]
fn a_disabled_alert_is_left_out_and_all_others_stay() {
    let all = rules_of_the_repository();
    let disabled = "GraphCredentialExpiresIn30Days";
    let found = groups(json!({"disabled": {disabled: true, "GraphCredentialExpired": false}}));
    let expected: Vec<&Value> = rules(&all).into_iter().filter(|rule| rule["alert"] != disabled).collect();
    assert_eq!(rules(&found), expected);
    assert_eq!(rules(&all).len() - expected.len(), 2, "also that about the REST API");
}

#[test]
fn a_group_without_alerts_is_left_out() {
    let all = rules_of_the_repository();
    let group = &all[0];
    let names: BTreeSet<&str> =
        group["rules"].as_array().unwrap().iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    let disabled: Value = names
        .into_iter()
        .map(|name| (name.to_owned(), json!(true)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let found = groups(json!({"disabled": disabled}));
    assert_eq!(found.as_array().unwrap()[..], all.as_array().unwrap()[1..]);
}

#[test]
fn an_override_changes_only_what_it_names() {
    let name = "GraphCredentialNotReady";
    let found = groups(json!({"overrides": {name: {
        "for": "1h30m", "keep_firing_for": "10m", "severity": "info", "labels": {"team": "mail", "severity": "none"},
        "annotations": {"summary": "{{ $labels.name }} is not ready", "dashboard": "d"}
    }}}));
    let all = rules_of_the_repository();
    assert_eq!(named(&found, name).len(), 2);
    for (rule, original) in named(&found, name).into_iter().zip(named(&all, name)) {
        let mut expected = original.clone();
        expected["for"] = json!("1h30m");
        expected["keep_firing_for"] = json!("10m");
        expected["labels"]["team"] = json!("mail");
        expected["labels"]["severity"] = json!("info");
        expected["annotations"]["summary"] = json!("{{ $labels.name }} is not ready");
        expected["annotations"]["dashboard"] = json!("d");
        assert_eq!(*rule, expected);
    }
    let others = |groups: &Value| -> Vec<Value> {
        rules(groups).into_iter().filter(|rule| rule["alert"] != name).cloned().collect()
    };
    assert_eq!(others(&found), others(&all));
}

#[test]
fn a_summary_names_the_time_that_its_alert_waits() {
    let all = rules_of_the_repository();
    let named: Vec<&Value> = rules(&all).into_iter().filter(|rule| rule["for"].is_string()).collect();
    for (value, text) in [("2h7m", " for 2h7m"), ("0s", "")] {
        let overrides: Value = named
            .iter()
            .map(|rule| (rule["alert"].as_str().unwrap().to_owned(), json!({"for": value})))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let found = groups(json!({"overrides": overrides}));
        let mut changed = 0;
        for (rule, original) in rules(&found).into_iter().zip(rules(&all)) {
            let before = original["annotations"]["summary"].as_str().unwrap();
            let expected = match original["for"].as_str() {
                Some(waits) => before.replace(&format!(" for {waits}"), text),
                None => before.to_owned(),
            };
            assert_eq!(rule["annotations"]["summary"], expected, "{rule}");
            changed += usize::from(before != expected);
        }
        assert_eq!(changed, 10, "each of them names its time");
    }
    for rule in rules(&all) {
        let summary = rule["annotations"]["summary"].as_str().unwrap();
        let times =
            summary.split(" for ").skip(1).filter(|rest| rest.starts_with(|it: char| it.is_ascii_digit()));
        for time in times.map(|rest| rest.split(' ').next().unwrap()) {
            assert_eq!(rule["for"], time, "{summary}");
        }
    }
}

#[test]
fn labels_and_annotations_for_all_alerts_are_beside_those_of_each() {
    let found = groups(json!({
        "additionalRuleLabels": {"team": "mail", "page": "true"}, "additionalRuleAnnotations": {"dashboard": "all"},
        "overrides": {"GraphCredentialExpired": {"labels": {"team": "sales"}, "annotations": {"dashboard": "one"}}}
    }));
    for rule in rules(&found) {
        let (team, dashboard) =
            if rule["alert"] == "GraphCredentialExpired" { ("sales", "one") } else { ("mail", "all") };
        assert_eq!(
            (&rule["labels"]["team"], &rule["labels"]["page"]),
            (&json!(team), &json!("true")),
            "{rule}"
        );
        assert_eq!(rule["annotations"]["dashboard"], dashboard, "{rule}");
        assert!(
            rule["labels"]["severity"].is_string() && rule["annotations"]["summary"].is_string(),
            "{rule}"
        );
    }
}

#[test]
fn a_name_that_no_alert_has_is_an_error_that_lists_the_alerts() {
    let all = rules_of_the_repository();
    for (value, setting) in
        [("disabled", json!(true)), ("disabled", json!(false)), ("overrides", json!({"for": "1h"}))]
    {
        let values = json!({"prometheusRule": {"enabled": true, value: {"GraphCredentialExpires": setting}}});
        let error = try_render(&values).err().unwrap_or_else(|| panic!("{values} is taken")).to_string();
        assert!(
            error.contains(&format!("prometheusRule.{value}: there is no alert GraphCredentialExpires;")),
            "{error}"
        );
        for rule in rules(&all) {
            assert_eq!(
                error.matches(&format!(" {}", rule["alert"].as_str().unwrap())).count(),
                1,
                "{rule}: {error}"
            );
        }
    }
}

/// The links to runbooks in a rendered `PrometheusRule`.
pub fn runbooks(rendered: &Rendered) -> BTreeSet<String> {
    let groups = &rendered.get("PrometheusRule", "")["spec"]["groups"];
    let link = |rule: &Value| rule["annotations"]["runbook_url"].as_str().unwrap().to_owned();
    rules(groups).into_iter().map(link).collect()
}

#[test]
fn an_alert_links_to_its_runbook_below_the_base_url() {
    for base in ["https://runbooks.example.com/gco", "https://runbooks.example.com/gco/"] {
        let rendered = render(&json!({"prometheusRule": {"enabled": true, "runbookBaseUrl": base}}));
        for link in runbooks(&rendered) {
            let page =
                link.strip_prefix("https://runbooks.example.com/gco/").unwrap_or_else(|| panic!("{link}"));
            assert!(kit::workspace().join("docs/operations/runbooks").join(page).exists(), "{link}");
        }
    }
}

#[test]
fn the_values_in_the_docs_have_the_effect_that_the_docs_describe() {
    let page = fs::read_to_string(kit::workspace().join("docs/operations/monitoring.md")).unwrap();
    let block =
        page.split("```yaml\n").find(|block| block.starts_with("prometheusRule:")).expect("an example");
    let values = kit::helm::parse(block.split("```").next().unwrap()).unwrap().remove(0);
    let rendered = render(&values);
    let groups = &rendered.get("PrometheusRule", "")["spec"]["groups"];
    assert!(named(groups, "GraphCredentialExpiresIn30Days").is_empty());
    for rule in named(groups, "GraphCredentialNotReady") {
        assert_eq!((&rule["for"], &rule["labels"]["severity"]), (&json!("1h"), &json!("critical")));
    }
    assert!(rules(groups).iter().all(|rule| rule["labels"]["team"] == "mail"));
}
