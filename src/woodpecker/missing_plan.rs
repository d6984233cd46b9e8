//! Responses by which Woodpecker refuses a valid API key because of what the account has bought. Source: public clients
//! of the API; the vendor does not document them.

use std::fmt;

use serde_json::Value;

/// What the account's plan at Woodpecker lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingPlan {
    ApiAddon,
    AgencyAddon,
    /// A larger plan.
    Upgrade,
}

/// What Woodpecker responds, in lower case.
const PHRASES: [(&str, MissingPlan); 3] = [
    ("no api addon", MissingPlan::ApiAddon),
    ("no agency addon", MissingPlan::AgencyAddon),
    ("upgrade your plan", MissingPlan::Upgrade),
];

/// What Woodpecker says about a key that is wrong, whatever else it says.
const INVALID_KEY: &str = "invalid api key";

// === impl MissingPlan ===

impl MissingPlan {
    /// Reads the body of a 401 or 403; `None` if it refuses the key for another reason.
    pub(super) fn in_body(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let texts = [body.get("detail"), body.get("message"), body.get("title"), body.pointer("/status/msg")];
        let texts = texts.into_iter().flatten().filter_map(Value::as_str).map(str::to_lowercase);
        let texts: Vec<String> = texts.collect();
        if texts.iter().any(|text| text.contains(INVALID_KEY)) {
            return None;
        }
        let find = |text: &String| PHRASES.into_iter().find(|(phrase, _)| text.contains(phrase));
        texts.iter().filter_map(find).map(|(_, missing)| missing).next()
    }

    /// The words of Woodpecker.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiAddon => "No API addon",
            Self::AgencyAddon => "No Agency addon",
            Self::Upgrade => "Upgrade your plan",
        }
    }

    /// What to do, in a sentence.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::ApiAddon => "add the API add-on to the account at Woodpecker, under Marketplace",
            Self::AgencyAddon => "use an API key of the agency's main account (HQ), with the agency add-on",
            Self::Upgrade => "upgrade the account's plan at Woodpecker",
        }
    }
}

impl fmt::Display for MissingPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_plan_is_recognized_in_every_shape_of_error_body() {
        for (body, missing) in [
            (r#"{"title":"Unauthorized","status":401,"detail":"No API addon"}"#, MissingPlan::ApiAddon),
            (r#"{"title":"Unauthorized","status":401,"detail":"Upgrade your plan"}"#, MissingPlan::Upgrade),
            (r#"{"message":"No Agency addon"}"#, MissingPlan::AgencyAddon),
            (
                r#"{"status":{"status":"ERROR","code":"E_SESSION","msg":"no API addon."}}"#,
                MissingPlan::ApiAddon,
            ),
        ] {
            assert_eq!(MissingPlan::in_body(body.as_bytes()), Some(missing), "{body}");
        }
        for body in [
            r#"{"title":"Unauthorized","status":401,"detail":"Invalid api key"}"#,
            r#"{"detail":["No API addon"]}"#,
            r#"{"other":"No API addon"}"#,
            "No API addon",
            "",
        ] {
            assert_eq!(MissingPlan::in_body(body.as_bytes()), None, "{body}");
        }
    }
}
