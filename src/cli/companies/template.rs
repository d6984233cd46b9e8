//! Templates of a company's manifests: YAML with placeholders as `$(name)`. Placeholders are replaced after the YAML was
//! read, so a value cannot add fields or objects.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

use crate::cli::companies::names::Names;

/// The template without `--template`.
pub(super) const BUILT_IN: &str = include_str!("template.yaml");

/// The objects of a company, with placeholders.
pub(super) struct Template(Vec<Value>);

/// What the placeholders stand for.
pub(super) struct Values<'a> {
    pub(super) names: &'a Names,
    pub(super) company_id: i64,
    pub(super) company_name: &'a str,
    /// Namespace of the account and of the Secret with the API key.
    pub(super) account_namespace: &'a str,
    pub(super) secret_name: &'a str,
    /// A field with this value is left out if the account does not specify it.
    pub(super) secret_key: Option<&'a str>,
    /// The same.
    pub(super) base_url: Option<&'a str>,
}

/// The placeholders and what they stand for, for the help and for errors.
const PLACEHOLDERS: &str =
    "name, namespace, companyId, companyName, accountNamespace, secretName, secretKey and baseUrl";

// === impl Template ===

impl Template {
    /// Reads a template. An error says what is wrong.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
            let place = error.location().map(|at| format!(" in line {}, column {}", at.line(), at.column()));
            anyhow::anyhow!("it is neither YAML nor JSON: fix the syntax{}", place.unwrap_or_default())
        })?;
        let objects: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
        if objects.is_empty() {
            bail!("it has no object: add at least a WoodpeckerAccount");
        }
        let template = Self(objects);
        // A typing error is found before a request is sent.
        let objects = template.fill(&Values::sample())?;
        for (number, object) in objects.iter().enumerate() {
            let is_text = |path| object.pointer(path).is_some_and(Value::is_string);
            if !["/apiVersion", "/kind", "/metadata/name"].into_iter().all(is_text) {
                bail!("its document {} is not an object: add apiVersion, kind and metadata.name", number + 1);
            }
        }
        let is_of_company = |object: &Value| {
            object["kind"] == "WoodpeckerAccount"
                && object["spec"]["companyId"] == Values::sample().company_id
        };
        if !objects.iter().any(is_of_company) {
            bail!("it has no WoodpeckerAccount with spec.companyId $(companyId)");
        }
        Ok(template)
    }

    /// The objects of one company.
    pub(super) fn fill(&self, values: &Values<'_>) -> anyhow::Result<Vec<Value>> {
        self.0
            .iter()
            .map(|object| fill(object, values)?.context("a whole document cannot be a placeholder"))
            .collect()
    }
}

/// `None` if the whole value is a placeholder for something that is not specified.
fn fill(value: &Value, values: &Values<'_>) -> anyhow::Result<Option<Value>> {
    Ok(match value {
        Value::String(text) => match text.strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')) {
            Some(name) if !name.contains(['(', ')']) => values.get(name)?,
            _ => Some(replaced(text, values)?.into()),
        },
        Value::Array(items) => {
            let filled = items.iter().filter_map(|item| fill(item, values).transpose());
            Some(Value::Array(filled.collect::<anyhow::Result<_>>()?))
        }
        Value::Object(fields) => {
            let mut filled = Map::new();
            for (name, field) in fields {
                if let Some(field) = fill(field, values)? {
                    filled.insert(replaced(name, values)?, field);
                }
            }
            Some(Value::Object(filled))
        }
        other => Some(other.clone()),
    })
}

/// The text with its placeholders replaced; `$$(` stands for `$(`.
fn replaced(text: &str, values: &Values<'_>) -> anyhow::Result<String> {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$(") {
        if let Some(before) = before.strip_suffix('$') {
            replaced.extend([before, "$("]);
            rest = after;
            continue;
        }
        let (name, after) = after.split_once(')').with_context(|| format!("{text:?} has no ) after $("))?;
        replaced.push_str(before);
        match values.get(name)? {
            Some(Value::String(value)) => replaced.push_str(&value),
            Some(value) => replaced.push_str(&value.to_string()),
            None => {}
        }
        rest = after;
    }
    replaced.push_str(rest);
    Ok(replaced)
}

// === impl Values ===

impl Values<'_> {
    fn get(&self, placeholder: &str) -> anyhow::Result<Option<Value>> {
        Ok(match placeholder {
            "name" => Some(self.names.object.as_str().into()),
            "namespace" => Some(self.names.namespace.as_str().into()),
            "companyId" => Some(self.company_id.into()),
            "companyName" => Some(self.company_name.into()),
            "accountNamespace" => Some(self.account_namespace.into()),
            "secretName" => Some(self.secret_name.into()),
            "secretKey" => self.secret_key.map(Value::from),
            "baseUrl" => self.base_url.map(Value::from),
            other => {
                bail!("$({other}) is not a placeholder: they are {PLACEHOLDERS}; write $$( for the text $(")
            }
        })
    }

    fn sample() -> Values<'static> {
        static NAMES: Names = Names { object: String::new(), namespace: String::new() };
        Values {
            names: &NAMES,
            company_id: 4711,
            company_name: "Contoso",
            account_namespace: "agency",
            secret_name: "agency-key",
            secret_key: Some("api_key"),
            base_url: Some("https://a.example"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ACCOUNT: &str = "apiVersion: graph-credentials.io/v1alpha1\nkind: WoodpeckerAccount\nmetadata: {name: $(name)}\nspec: {companyId: $(companyId)}\n";

    fn filled(text: &str, values: &Values<'_>) -> Vec<Value> {
        Template::parse(text).unwrap().fill(values).unwrap()
    }

    fn problem(text: &str) -> String {
        Template::parse(text).err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[test]
    fn the_built_in_template_has_what_the_account_specifies() {
        let names = Names { object: "contoso".into(), namespace: "client-contoso".into() };
        let values = Values { names: &names, ..Values::sample() };
        let objects = filled(BUILT_IN, &values);
        let kinds: Vec<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        assert_eq!(kinds, ["Namespace", "WoodpeckerAccount", "Role", "RoleBinding"]);
        let spec = json!({
            "apiKeySecretRef": {"name": "agency-key", "key": "api_key"}, "baseUrl": "https://a.example",
            "companyId": 4711, "allowedNamespaces": {"names": ["client-contoso"]},
        });
        assert_eq!(objects[1]["spec"], spec);
        assert_eq!(objects[3]["roleRef"]["name"], "use-contoso");
        let values = Values { secret_key: None, base_url: None, ..values };
        let spec = json!({
            "apiKeySecretRef": {"name": "agency-key"}, "companyId": 4711,
            "allowedNamespaces": {"names": ["client-contoso"]},
        });
        assert_eq!(filled(BUILT_IN, &values)[1]["spec"], spec);
    }

    #[test]
    fn a_company_name_cannot_add_fields_or_objects() {
        let text = format!(
            "{ACCOUNT}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x, labels: {{c-$(companyId): a}}}}\ndata: {{company: \"is $(companyName)\", shell: echo $$(date)}}\n"
        );
        let evil = "\"}\n---\nkind: Secret\n$(secretName)";
        let objects = filled(&text, &Values { company_name: evil, ..Values::sample() });
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[1]["data"]["company"], format!("is {evil}"));
        assert_eq!(objects[1]["data"]["shell"], "echo $(date)");
        assert_eq!(objects[1]["metadata"]["labels"], json!({"c-4711": "a"}));
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said() {
        for (text, words) in [
            ("a: [", "it is neither YAML nor JSON"),
            ("", "it has no object"),
            ("kind: A\n", "its document 1 is not an object"),
            (&ACCOUNT.replace("$(companyId)", "7"), "no WoodpeckerAccount with spec.companyId"),
            (&ACCOUNT.replace("$(companyId)", "$(company)"), "$(company) is not a placeholder"),
            (&ACCOUNT.replace("$(name)", "a-$(name"), "has no ) after $("),
        ] {
            assert!(problem(text).contains(words), "{words}: {}", problem(text));
        }
        assert_eq!(problem(ACCOUNT), "");
    }
}
