//! A selector of namespaces by their labels, with the fields of a `LabelSelector` of Kubernetes.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// Selects namespaces by their labels. All requirements must be met.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.matchLabels) && size(self.matchLabels) > 0 || has(self.matchExpressions) && self.matchExpressions.exists(it, it.operator in ['In', 'Exists'])")
    .message("spec.allowedNamespaces.selector must require a label (matchLabels, In or Exists): otherwise it would let in every namespace without labels"))]
pub struct NamespaceSelector {
    /// Labels that a namespace must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub match_labels: Labels,

    /// Further requirements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<LabelRequirement>,
}

/// A requirement for one label.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)")
    .message("values are required for the operators In and NotIn, and not allowed for Exists and DoesNotExist"))]
pub struct LabelRequirement {
    /// The key of the label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,

    /// How the label must compare to the values.
    pub operator: LabelOperator,

    /// The values, for the operators `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a label must compare to the values of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// The label has one of the values.
    In,
    /// The label has none of the values, or does not exist.
    NotIn,
    /// The label exists.
    Exists,
    /// The label does not exist.
    DoesNotExist,
}

// === impl NamespaceSelector ===

impl NamespaceSelector {
    /// Whether it selects a namespace with these labels. It never selects one because of a label that is missing.
    pub fn matches(&self, labels: &Labels) -> bool {
        let requires_label = !self.match_labels.is_empty()
            || self
                .match_expressions
                .iter()
                .any(|it| matches!(it.operator, LabelOperator::In | LabelOperator::Exists));
        requires_label
            && self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.is_met(labels))
    }
}

// === impl LabelRequirement ===

impl LabelRequirement {
    fn is_met(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            LabelOperator::In => value.is_some_and(|value| self.values.contains(value)),
            LabelOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selects(selector: Value, labels: &[(&str, &str)]) -> bool {
        let selector: NamespaceSelector = serde_json::from_value(selector).unwrap();
        selector
            .matches(&labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn all_requirements_must_be_met() {
        let selector = json!({
            "matchLabels": {"team": "a"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["gold", "silver"]},
                {"key": "state", "operator": "NotIn", "values": ["left"]},
                {"key": "client", "operator": "Exists"},
                {"key": "locked", "operator": "DoesNotExist"}
            ]
        });
        let good = [("team", "a"), ("tier", "gold"), ("client", ""), ("other", "x")];
        assert!(selects(selector.clone(), &good));
        assert!(selects(selector.clone(), &[&good[..], &[("state", "here")]].concat()));
        for (missing, _) in &good[..3] {
            let rest: Vec<_> = good.iter().filter(|(key, _)| key != missing).copied().collect();
            assert!(!selects(selector.clone(), &rest), "{missing}");
        }
        for more in [("locked", ""), ("state", "left"), ("tier", "bronze"), ("team", "b")] {
            assert!(!selects(selector.clone(), &[&good[..], &[more]].concat()), "{more:?}");
        }
    }

    #[test]
    fn a_selector_that_requires_no_label_selects_nothing() {
        for selector in [
            json!({}),
            json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}),
            json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}),
        ] {
            assert!(
                !selects(selector.clone(), &[]) && !selects(selector.clone(), &[("c", "d")]),
                "{selector}"
            );
        }
    }
}
