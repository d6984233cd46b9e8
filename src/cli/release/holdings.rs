//! PURE: what objects leave behind, at Woodpecker and in the store, by the words of their status alone: one that cannot be read counts as well.

use kube::api::DynamicObject;
use serde_json::Value;

use crate::cli::output::{shown, table};
use crate::controller::Named;

/// A table of everything that stays there; nothing where nothing does.
pub(super) fn left_behind(objects: &[DynamicObject]) -> String {
    let rows: Vec<Vec<String>> = objects.iter().flat_map(rows).collect();
    if rows.is_empty() {
        return String::new();
    }
    let heads = ["OBJECT", "WHERE", "ID", "NAME", "STATE"];
    format!("these credentials stay where they are:\n{}", table("  ", &heads, &rows))
}

fn rows(object: &DynamicObject) -> Vec<Vec<String>> {
    let status = |path: &str| object.data.pointer(&format!("/status/{path}")).filter(|it| !it.is_null());
    let current = status("registration").map(|it| (it, "registered"));
    let retiring = status("retiring").and_then(Value::as_array).into_iter().flatten();
    let retiring = retiring.map(|it| (it, "to be removed, and is not"));
    let held = current.into_iter().chain(retiring);
    let row = |id: String, held: &Value, name: String, state: &str| {
        vec![Named::of(object).to_string(), place(held), id, name, state.to_owned()]
    };
    let mut rows: Vec<Vec<String>> = held
        .map(|(held, state)| row(text(held.get("credentialId")), held, text(held.get("name")), state))
        .collect();
    if let Some(pending) = status("pending") {
        let name = format!("\u{2026} [{}]", text(pending.get("token")));
        rows.push(row("?".to_owned(), pending, name, "perhaps made: the answer to its create was lost"));
    }
    rows
}

/// Its account, or its record of the store.
fn place(held: &Value) -> String {
    if let Some(record) = held.get("record").filter(|record| !record.is_null()) {
        return format!("SealedGraphCredential {}", text(Some(record)));
    }
    let word = |path: &str| text(held.pointer(path));
    format!("{}/{}", word("/account/namespace"), word("/account/name"))
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => shown(text),
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
    fn everything_that_is_or_may_be_there_is_named() {
        let account = json!({"namespace": "mail", "name": "agency"});
        let status = json!({
            "registration": {"account": account, "credentialId": 7, "name": "n"},
            "retiring": [{"account": account, "credentialId": 5, "name": "m", "expiresAt": ["odd"]}],
            "pending": {"account": account, "token": "abcdefghjk29"},
        });
        let text = left_behind(&[object(&status)]);
        for words in
            [["7", "n", "registered"], ["5", "m", "to be removed"], ["?", "[abcdefghjk29]", "perhaps made"]]
        {
            let is_it = |line: &str| {
                line.contains("mail/x  mail/agency") && words.iter().all(|word| line.contains(word))
            };
            assert!(text.lines().any(is_it), "{words:?}: {text}");
        }
    }

    #[test]
    fn a_record_of_the_store_is_named_as_well() {
        let status = json!({"registration": {"record": "c-7f", "credentialId": 9, "name": "n"}});
        let text = left_behind(&[object(&status)]);
        assert!(text.contains("mail/x  SealedGraphCredential c-7f  9"), "{text}");
    }

    #[test]
    fn nothing_is_nothing() {
        for status in [json!(null), json!({}), json!({"registration": null})] {
            assert_eq!(left_behind(&[object(&status)]), "");
        }
    }
}
