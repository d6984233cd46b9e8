//! What objects leave at Woodpecker and in the store, by their status alone. Invalid objects count as well.

use kube::api::DynamicObject;
use serde_json::Value;

use crate::api::NamespacedName;
use crate::cli::output::{Table, Text};

/// A table of everything that remains there; empty if nothing does.
pub(super) fn left_behind(objects: &[DynamicObject]) -> Text {
    let rows: Vec<Vec<String>> = objects.iter().flat_map(rows).collect();
    let mut text = Text::default();
    if !rows.is_empty() {
        text.push("these credentials remain:\n");
        text.push_table("  ", &Table::of(&["OBJECT", "WHERE", "ID", "NAME", "STATE"], rows));
    }
    text
}

fn rows(object: &DynamicObject) -> Vec<Vec<String>> {
    let status = |path: &str| object.data.pointer(&format!("/status/{path}")).filter(|it| !it.is_null());
    let current = status("registration").map(|it| (it, "registered"));
    let previous = status("previousRegistrations").and_then(Value::as_array).into_iter().flatten();
    let previous = previous.map(|it| (it, "not deleted yet"));
    let held = current.into_iter().chain(previous);
    let row = |id: String, held: &Value, name: String, state: &str| {
        vec![NamespacedName::of(object).to_string(), place(held), id, name, state.to_owned()]
    };
    let mut rows: Vec<Vec<String>> = held
        .map(|(held, state)| row(text(held.get("credentialId")), held, text(held.get("name")), state))
        .collect();
    if let Some(pending) = status("pendingCreate") {
        let name = format!("\u{2026} [{}]", text(pending.get("idempotencyToken")));
        rows.push(row("?".to_owned(), pending, name, "may exist: the response to its create was lost"));
    }
    rows
}

/// Its account, or its record in the store.
fn place(held: &Value) -> String {
    if let Some(record) = held.get("record").filter(|record| !record.is_null()) {
        return format!("SealedGraphCredential {}", text(Some(record)));
    }
    let field = |path: &str| text(held.pointer(path));
    format!("{}/{}", field("/account/namespace"), field("/account/name"))
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(status: &Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": "x", "namespace": "mail"}, "status": status}))
            .unwrap()
    }

    #[test]
    fn everything_that_remains_or_may_exist_is_named() {
        let account = json!({"namespace": "mail", "name": "agency"});
        let status = json!({
            "registration": {"account": account, "credentialId": 7, "name": "n"},
            "previousRegistrations": [{"account": account, "credentialId": 5, "name": "m", "expiresAt": ["odd"]}],
            "pendingCreate": {"account": account, "idempotencyToken": "abcdefghjk29"},
        });
        let text = left_behind(&[object(&status)]);
        let text = text.as_str();
        for words in
            [["7", "n", "registered"], ["5", "m", "not deleted yet"], ["?", "[abcdefghjk29]", "may exist"]]
        {
            let is_it = |line: &str| {
                line.contains("mail/x  mail/agency") && words.iter().all(|word| line.contains(word))
            };
            assert!(text.lines().any(is_it), "{words:?}: {text}");
        }
    }

    #[test]
    fn a_record_in_the_store_is_named_as_well() {
        let status = json!({"registration": {"record": "c-7f", "credentialId": 9, "name": "n"}});
        let text = left_behind(&[object(&status)]);
        let text = text.as_str();
        assert!(text.contains("mail/x  SealedGraphCredential c-7f  9"), "{text}");
    }

    #[test]
    fn nothing_is_printed_if_nothing_remains() {
        for status in [json!(null), json!({}), json!({"registration": null})] {
            assert_eq!(left_behind(&[object(&status)]), Text::default());
        }
    }
}
