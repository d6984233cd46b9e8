use serde_json::{Value, json};

use crate::rest::request::*;
use crate::store::envelope::MAX_SECRET_LENGTH;

fn now() -> Timestamp {
    "2026-11-24T08:00:00Z".parse().unwrap()
}

/// The vendor's sample, changed by `over`; null removes a field.
fn sample(over: &Value) -> Vec<u8> {
    let mut body = json!({
        "tenant_id": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
        "client_id": "e1c6ac69-480e-4a17-9b85-3467967bd179",
        "client_secret": "your-client-secret",
        "secret_expires_at": "2027-11-28T23:59:59Z",
        "name": "MS Graph app"
    });
    for (key, value) in over.as_object().cloned().unwrap_or_default() {
        body[key] = value;
    }
    body.to_string().into_bytes()
}

/// The code of an error.
fn code(error: RestError) -> ErrorCode {
    let RestError::Rejected(code, _) = error else { panic!("{error:?}") };
    code
}

fn create_error(over: &Value) -> ErrorCode {
    code(read_create(&sample(over), now(), UnknownFields::Reject).unwrap_err())
}

#[test]
fn the_vendors_sample_is_read() {
    let create = read_create(&sample(&json!({})), now(), UnknownFields::Reject).unwrap();
    assert_eq!(create.tenant.as_str(), "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32");
    assert_eq!(create.client.as_str(), "e1c6ac69-480e-4a17-9b85-3467967bd179");
    assert_eq!(create.secret.text.expose(), "your-client-secret");
    assert_eq!(create.secret.expires_at.to_string(), "2027-11-28T23:59:59Z");
    assert_eq!(create.name.as_deref(), Some("MS Graph app"));
    assert!(!format!("{create:?}").contains("your-client-secret"));
}

#[test]
fn a_name_may_be_left_out() {
    assert_eq!(
        read_create(&sample(&json!({"name": null})), now(), UnknownFields::Reject).unwrap().name,
        None
    );
}

#[test]
fn the_expiry_is_read_in_every_form_of_iso_8601_that_names_a_point_in_time() {
    for (text, expected) in [
        ("2027-11-29T00:59:59+01:00", "2027-11-28T23:59:59Z"),
        ("2027-11-28T23:59:59.999Z", "2027-11-28T23:59:59Z"),
        ("2027-11-28", "2027-11-28T23:59:59Z"),
        ("9999-12-31T23:59:59Z", "9999-01-01T00:00:00Z"),
    ] {
        let create =
            read_create(&sample(&json!({"secret_expires_at": text})), now(), UnknownFields::Reject).unwrap();
        assert_eq!(create.secret.expires_at.to_string(), expected, "{text}");
    }
}

#[test]
fn an_invalid_field_has_its_own_error_code() {
    for (over, expected) in [
        (json!({"tenant_id": null}), ErrorCode::InvalidTenantId),
        (json!({"tenant_id": "contoso.onmicrosoft.com"}), ErrorCode::InvalidTenantId),
        (json!({"tenant_id": ["bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32"]}), ErrorCode::InvalidTenantId),
        (json!({"client_id": 7}), ErrorCode::InvalidClientId),
        (json!({"client_id": "../../common"}), ErrorCode::InvalidClientId),
        (json!({"client_secret": null}), ErrorCode::InvalidClientSecret),
        (json!({"client_secret": ""}), ErrorCode::InvalidClientSecret),
        (json!({"client_secret": "ends-with-a-line-break\n"}), ErrorCode::InvalidClientSecret),
        (json!({"client_secret": "has\u{0}nul"}), ErrorCode::InvalidClientSecret),
        (json!({"client_secret": {"a": {"b": 1}}}), ErrorCode::InvalidClientSecret),
        (json!({"client_secret": "x".repeat(MAX_SECRET_LENGTH + 1)}), ErrorCode::InvalidClientSecret),
        (json!({"secret_expires_at": null}), ErrorCode::InvalidSecretExpiresAt),
        (json!({"secret_expires_at": "28.11.2027"}), ErrorCode::InvalidSecretExpiresAt),
        (json!({"secret_expires_at": "2027-11-28T23:59:59"}), ErrorCode::InvalidSecretExpiresAt),
        (json!({"secret_expires_at": 1_827_446_399}), ErrorCode::InvalidSecretExpiresAt),
        (json!({"secret_expires_at": "2026-11-24T08:00:00Z"}), ErrorCode::SecretExpiresAtInPast),
        (json!({"name": ""}), ErrorCode::InvalidName),
        (json!({"name": "  "}), ErrorCode::InvalidName),
        (json!({"name": "a\nb"}), ErrorCode::InvalidName),
        (json!({"name": true}), ErrorCode::InvalidName),
        (json!({"name": {"$serde_json::private::RawValue": "\"x\""}}), ErrorCode::InvalidName),
        (json!({"name": "ü".repeat(254)}), ErrorCode::InvalidName),
        (json!({"client_secrets": "x"}), ErrorCode::UnknownField),
    ] {
        assert_eq!(create_error(&over), expected, "{over}");
    }
    assert!(read_create(&sample(&json!({"name": "ü".repeat(253)})), now(), UnknownFields::Reject).is_ok());
}

#[test]
fn what_is_wrong_with_a_value_is_named_without_the_value() {
    for (over, expected) in [
        (
            json!({"client_secret": "canary\u{200b}"}),
            "client_secret has U+200B zero width space as character 7",
        ),
        (json!({"client_secret": "x".repeat(8193)}), "client_secret is longer than 8192 bytes"),
        (json!({"client_secret": ""}), "client_secret is empty"),
        (
            json!({"secret_expires_at": "\u{feff}2027-11-28"}),
            "secret_expires_at has U+FEFF byte order mark as character 1",
        ),
    ] {
        let error = read_create(&sample(&over), now(), UnknownFields::Reject).unwrap_err();
        let RestError::Rejected(_, Some(detail)) = error else { panic!("{error:?}") };
        assert_eq!(detail.to_string(), expected);
    }
}

#[test]
fn a_body_that_is_not_a_json_object_with_unique_fields_is_malformed() {
    let deep = format!("{{\"name\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let whole = String::from_utf8(sample(&json!({}))).unwrap();
    let doubled = whole.replace('{', "{\"name\":\"a\",");
    let trailing = format!("{whole} {{}}");
    for body in ["", "null", "[]", "7", "\"text\"", "{", "{\"a\":}", "{'a':1}", &doubled, &trailing] {
        assert_eq!(
            code(read_create(body.as_bytes(), now(), UnknownFields::Reject).unwrap_err()),
            ErrorCode::MalformedRequest,
            "{body}"
        );
    }
    // A deep value is skipped without recursion or rejected: either way it needs no stack.
    assert!(read_create(deep.as_bytes(), now(), UnknownFields::Reject).is_err());
    for body in [&b"{\"name\":\"\xff\"}"[..], b"\xef\xbb\xbf{}", b"{\"name\":\"a\x00b\"}", b"\x00"] {
        assert_eq!(
            code(read_create(body, now(), UnknownFields::Reject).unwrap_err()),
            ErrorCode::MalformedRequest,
            "{body:?}"
        );
    }
}

#[test]
fn an_update_has_a_secret_with_its_expiry_or_a_name_or_both() {
    let read = |body: &Value| read_update(body.to_string().as_bytes(), now(), UnknownFields::Reject);
    let both = json!({"client_secret": "new", "secret_expires_at": "2028-01-31T00:00:00Z"});
    let update = read(&both).unwrap();
    assert!(update.secret.is_some() && update.name.is_none());
    let update = read(&json!({"name": "Sales"})).unwrap();
    assert!(update.secret.is_none() && update.name.as_deref() == Some("Sales"));
    for (body, expected) in [
        (json!({}), ErrorCode::NothingToUpdate),
        (json!({"name": null}), ErrorCode::NothingToUpdate),
        (json!({"client_secret": "new"}), ErrorCode::SecretAndExpiryBelongTogether),
        (json!({"secret_expires_at": "2028-01-31T00:00:00Z"}), ErrorCode::SecretAndExpiryBelongTogether),
        (json!({"tenant_id": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32", "name": "x"}), ErrorCode::UnknownField),
    ] {
        assert_eq!(code(read(&body).unwrap_err()), expected, "{body}");
    }
}

#[test]
fn an_id_has_one_spelling() {
    assert_eq!(credential_id("22334455"), Some(22_334_455));
    assert_eq!(credential_id("9007199254740991"), Some((1 << 53) - 1));
    for text in
        ["", "0", "01", "-1", "+1", "1.0", " 1", "9007199254740992", "99999999999999999999", "x", "１"]
    {
        assert_eq!(credential_id(text), None, "{text:?}");
    }
}
