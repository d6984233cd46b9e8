//! The `OpenAPI` 3.1 document of the API: `docs/reference/openapi.json`, served without an API key.

use serde_json::Value;

pub fn document() -> Value {
    // Tests check that it is valid JSON and matches the code.
    serde_json::from_str(include_str!("../../docs/reference/openapi.json")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::MAX_NAME_LENGTH;
    use crate::rest::ErrorCode;
    use crate::rest::access_log::{COLLECTION, ITEM};
    use crate::store::envelope::MAX_SECRET_LENGTH;

    #[test]
    fn the_document_matches_the_code() {
        let document = document();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        assert_eq!(paths, [COLLECTION, ITEM]);
        let schemas = &document["components"]["schemas"];
        let constants: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(schemas["Error"]["properties"]["message"]["enum"], json!(constants));
        let create = &schemas["NewCredential"]["properties"];
        assert_eq!(create["client_secret"]["maxLength"], MAX_SECRET_LENGTH);
        assert_eq!(create["name"]["maxLength"], MAX_NAME_LENGTH);
        for update in schemas["CredentialUpdate"]["anyOf"].as_array().unwrap() {
            let properties = &update["properties"];
            assert_eq!(properties["name"]["maxLength"], MAX_NAME_LENGTH);
            let secret = &properties["client_secret"]["maxLength"];
            assert!(secret.is_null() || *secret == MAX_SECRET_LENGTH, "{secret}");
        }
    }
}
