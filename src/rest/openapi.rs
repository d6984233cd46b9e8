//! The API described in `OpenAPI` 3.1: `docs/openapi.json`, served without an API key.

use serde_json::Value;

/// The whole document, of this version of the program.
pub fn document() -> Value {
    // Tests make sure that it is JSON, and that it says what the code does.
    serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::MAX_NAME_LENGTH;
    use crate::rest::Refusal;
    use crate::rest::trail::{COLLECTION, ITEM};
    use crate::store::envelope::MAX_SECRET_LENGTH;

    #[test]
    fn the_description_says_what_the_code_does() {
        let document = document();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        assert_eq!(paths, [COLLECTION, ITEM]);
        let schemas = &document["components"]["schemas"];
        let constants: Vec<&str> = Refusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
        assert_eq!(schemas["Refusal"]["properties"]["message"]["enum"], json!(constants));
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
