//! Magic secrets and ids, and the answers that they provoke: one table, from which the page at `/`, `/sandbox/answers` and the
//! documentation are generated.

use std::sync::LazyLock;
use std::time::Duration;

use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::mailboxes;
use crate::rest::{ErrorCode, RestError, credential_id};

/// What a magic secret begins with. The name of the answer follows.
const SECRET_PREFIX: &str = "sandbox-";

/// Added to the number of an answer, it is a credential id.
const FIRST_ID: i64 = 9_000_000_000;

/// An answer that can be provoked.
#[derive(Debug)]
pub(super) struct Magic {
    pub name: String,
    /// Part of its ids. It never changes.
    pub number: u32,
    pub effect: Effect,
    /// Whether the request is carried out although the client does not see that.
    pub is_saved: bool,
    pub source: Source,
    pub meaning: String,
}

/// What the client receives.
#[derive(Debug)]
pub(super) enum Effect {
    /// An error as the API writes it.
    Error(RestError),
    /// Another response.
    Response { status: u16, headers: &'static [(&'static str, &'static str)], body: &'static str },
    /// The regular response, after that time.
    Late(Duration),
    /// Half of the regular response; then the connection is closed.
    Truncated,
    /// Nothing: the connection is closed, after that time.
    Closed(Duration),
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Woodpecker documents it.
    Woodpecker,
    /// Third-party programs handle it, so Woodpecker may send it.
    Seen,
    /// Made up: the operator's REST API sends it, or a client may meet it.
    Ours,
}

/// All answers.
pub(super) static ANSWERS: LazyLock<Vec<Magic>> = LazyLock::new(|| {
    let rejections = ErrorCode::ALL.iter().zip(42200..).map(|(code, number)| rejection(*code, number));
    rejections.chain(other_answers()).collect()
});

/// The answer of that name.
pub(super) fn by_name(name: &str) -> Option<&'static Magic> {
    ANSWERS.iter().find(|it| it.name == name)
}

/// The answer to a secret.
pub(super) fn by_secret(secret: &str) -> Option<&'static Magic> {
    by_name(secret.strip_prefix(SECRET_PREFIX)?)
}

/// The answer to a tenant id or client id.
pub(super) fn by_guid(guid: &str) -> Option<&'static Magic> {
    // Most ids are not magic.
    if !guid.starts_with("00000000-") {
        return None;
    }
    ANSWERS.iter().find(|it| it.guid() == guid)
}

/// The answer to a request for a credential, by the last part of its path.
pub(super) fn by_path(path: &str) -> Option<&'static Magic> {
    let id = credential_id(path.rsplit('/').next()?)?;
    ANSWERS.iter().find(|it| it.credential_id() == Some(id))
}

fn rejection(code: ErrorCode, number: u32) -> Magic {
    let is_documented = code == ErrorCode::InvalidClientSecret;
    let meaning = match code {
        ErrorCode::UnknownCompany => {
            "The agency has no company with the id in x-company-id, or the key is not the agency's."
        }
        _ => code.meaning(),
    };
    Magic {
        name: code.as_str().to_ascii_lowercase().replace('_', "-"),
        number,
        effect: Effect::Error(code.into()),
        is_saved: false,
        source: if is_documented { Source::Woodpecker } else { Source::Ours },
        meaning: format!("`{}`: {meaning}", code.as_str()),
    }
}

const HTML: &[(&str, &str)] = &[("content-type", "text/html")];
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const TEXT: &[(&str, &str)] = &[("content-type", "text/plain")];

const BAD_GATEWAY: &str = "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1>\
                           </center><hr><center>nginx</center></body></html>\n";

const GATEWAY_TIMEOUT: &str = "<html><head><title>504 Gateway Time-out</title></head><body><center><h1>504 Gateway \
                               Time-out</h1></center><hr><center>nginx</center></body></html>\n";

/// How late the answer `slow` is.
const LATE: Duration = Duration::from_secs(5);

/// How long there is no answer: longer than most clients wait.
const SILENT: Duration = Duration::from_mins(1);

/// Name, number and source, whether the request is carried out, the effect, and its meaning.
type Row = (&'static str, u32, Source, bool, Effect, &'static str);

fn other_answers() -> impl Iterator<Item = Magic> {
    let all = [usual_errors(), other_forms(), broken_answers()];
    all.into_iter().flatten().map(|(name, number, source, is_saved, effect, meaning)| Magic {
        name: name.to_owned(),
        number,
        effect,
        is_saved,
        source,
        meaning: meaning.to_owned(),
    })
}

fn usual_errors() -> Vec<Row> {
    use Source::{Ours, Woodpecker};
    let error = Effect::Error;
    let wait = Some(Duration::from_secs(2));
    let (many, many_with_wait) = (RestError::TooManyRequests(None), RestError::TooManyRequests(wait));
    let in_use = Effect::Response { status: 409, headers: JSON, body: r#"{"message":"CREDENTIAL_IN_USE"}"# };
    vec![
        (
            "unauthorized",
            40100,
            Woodpecker,
            false,
            error(RestError::Unauthorized),
            "The API key is rejected.",
        ),
        ("not-found", 40400, Woodpecker, false, error(RestError::NotFound), "There is no such resource."),
        ("in-use", 40900, Ours, false, in_use, "An active mailbox uses the credential. The form is made up."),
        (
            "too-many-requests",
            42900,
            Woodpecker,
            false,
            error(many),
            "The queue of the account is full. The body is made up.",
        ),
        (
            "too-many-requests-retry-after",
            42901,
            Ours,
            false,
            error(many_with_wait),
            "The same, with a `Retry-After` of 2 seconds.",
        ),
        (
            "internal-error",
            50000,
            Woodpecker,
            false,
            error(RestError::Internal),
            "The request failed, and nothing was saved.",
        ),
        (
            "internal-error-saved",
            50001,
            Ours,
            true,
            error(RestError::Internal),
            "The request failed after the credential was saved.",
        ),
    ]
}

fn other_forms() -> Vec<Row> {
    use Source::{Ours, Seen};
    let json = |status, body| Effect::Response { status, headers: JSON, body };
    let no_addon = json(401, r#"{"title":"Unauthorized","status":401,"detail":"No API addon"}"#);
    let plan = json(401, r#"{"title":"Unauthorized","status":401,"detail":"Upgrade your plan"}"#);
    let agency = json(403, r#"{"title":"Forbidden","status":403,"detail":"No Agency addon"}"#);
    let details = json(400, r#"{"code":"VALIDATION_ERROR","details":["client_secret"]}"#);
    let conflict = json(409, r#"{"code":"CONFLICT","details":["The credential already exists"]}"#);
    let v1 =
        json(200, r#"{"status":{"status":"ERROR","code":"E_SESSION","msg":"Invalid or expired API key"}}"#);
    let requests =
        json(400, r#"{"status":{"status":"ERROR","code":"E_TOO_MANY_REQUESTS","msg":"Too many requests"}}"#);
    let constant = json(422, r#"{"message":"A_CONSTANT_OF_TOMORROW"}"#);
    let typed = json(422, r#"{"message":{"code":1}}"#);
    vec![
        ("no-api-addon", 40101, Seen, false, no_addon, "The account has not booked the API."),
        ("plan-too-small", 40102, Seen, false, plan, "The account's plan does not include the API."),
        ("no-agency-addon", 40300, Seen, false, agency, "The account is not an agency."),
        (
            "code-and-details",
            40000,
            Ours,
            false,
            details,
            "A form that Woodpecker documents for the bulk connection of SMTP mailboxes. The constant is made up.",
        ),
        ("conflict", 40901, Ours, false, conflict, "The same form with 409. The constant is made up."),
        ("v1-error", 20000, Seen, false, v1, "An error in the form of version 1, with status 200."),
        ("v1-too-many-requests", 40001, Seen, false, requests, "Rate limiting in the form of version 1."),
        ("unknown-constant", 42290, Ours, false, constant, "A 422 with a constant that no client knows."),
        ("message-not-text", 42291, Ours, false, typed, "A 422 whose `message` is not a text."),
    ]
}

fn broken_answers() -> Vec<Row> {
    use Source::Ours;
    let html = |status, body| Effect::Response { status, headers: HTML, body };
    let unavailable = Effect::Response { status: 503, headers: &[], body: "" };
    let empty = Effect::Response { status: 200, headers: &[], body: "" };
    let not_json = Effect::Response { status: 200, headers: TEXT, body: "OK" };
    let closed = || Effect::Closed(Duration::ZERO);
    let silent = || Effect::Closed(SILENT);
    let gateway = || html(502, BAD_GATEWAY);
    vec![
        ("bad-gateway", 50200, Ours, false, gateway(), "A page of a proxy, and nothing was saved."),
        ("bad-gateway-saved", 50201, Ours, true, gateway(), "A page of a proxy, after saving."),
        ("unavailable", 50300, Ours, false, unavailable, "A 503 without a body."),
        (
            "gateway-timeout-saved",
            50401,
            Ours,
            true,
            html(504, GATEWAY_TIMEOUT),
            "A page of a proxy that did not wait, after saving.",
        ),
        ("empty-saved", 20001, Ours, true, empty, "A response without a body, after saving."),
        ("not-json-saved", 20002, Ours, true, not_json, "A response that is not JSON, after saving."),
        ("truncated-saved", 20003, Ours, true, Effect::Truncated, "Half of the response, after saving."),
        ("slow-saved", 20004, Ours, true, Effect::Late(LATE), "The regular response, after 5 seconds."),
        ("closed", 10000, Ours, false, closed(), "The connection is closed without a response."),
        ("closed-saved", 10001, Ours, true, closed(), "The same, after saving."),
        ("timeout", 10002, Ours, false, silent(), "No response for a minute; then the connection is closed."),
        ("timeout-saved", 10003, Ours, true, silent(), "The same, after saving."),
    ]
}

// === impl Magic ===

impl Magic {
    pub fn secret(&self) -> String {
        format!("{SECRET_PREFIX}{}", self.name)
    }

    /// As tenant id or client id.
    pub fn guid(&self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.number)
    }

    /// For requests that change or delete a credential: only answers without effect, because there is no such credential.
    pub fn credential_id(&self) -> Option<i64> {
        (!self.is_saved).then(|| FIRST_ID + i64::from(self.number))
    }

    /// The status, or what happens instead.
    pub fn shown_status(&self) -> String {
        match &self.effect {
            Effect::Error(error) => error.into_response().status().as_u16().to_string(),
            Effect::Response { status, .. } => status.to_string(),
            Effect::Late(_) | Effect::Truncated => "2xx".to_owned(),
            Effect::Closed(_) => "none".to_owned(),
        }
    }

    /// An entry of `/sandbox/answers`.
    pub fn to_json(&self) -> Value {
        json!({
            "answer": self.name,
            "client_secret": self.secret(),
            "tenant_or_client_id": self.guid(),
            "credential_id": self.credential_id(),
            "status": self.shown_status(),
            "saved": self.is_saved,
            "source": self.source.as_str(),
            "meaning": self.meaning,
        })
    }
}

// === impl Source ===

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Woodpecker => "vendor",
            Self::Seen => "seen",
            Self::Ours => "ours",
        }
    }
}

const PAGE_INTRO: &str = "\
<!-- Generated from src/sandbox/magic.rs by `make generate`; do not edit. -->

# Answers of the sandbox

The [sandbox](../tasks/sandbox.md) accepts every client secret. Each one of this table provokes an answer. The tenant id
or client id in the third column does the same with any secret. A `PATCH` or `DELETE` of the credential id in the fourth
column does it without a body.

The source is `vendor` if Woodpecker documents the answer, and `seen` if third-party programs handle it. The rest is
ours: the operator's REST API answers so, or a client may meet it. *Saved* means that the request is carried out, and
that the client does not see that, or sees it only later.

| client secret | status | tenant or client id | credential id | saved | source | meaning |
| --- | --- | --- | --- | --- | --- | --- |
";

const PAGE_ADDRESSES: &str = "
## Mailboxes

These addresses provoke failures of single mailboxes in `POST /rest/v2/mailboxes/microsoft/bulk`, in any domain. They
are ours. An address such as `sandbox-bad-gateway-saved@example.com` provokes that answer to the whole request.

| address | meaning |
| --- | --- |
";

/// `docs/reference/sandbox-answers.md`.
pub fn answers_page() -> String {
    let rows = ANSWERS.iter().map(|it| {
        let id = it.credential_id().map_or_else(String::new, |id| format!("`{id}`"));
        let saved = if it.is_saved { "yes" } else { "" };
        let (secret, status, guid, source) = (it.secret(), it.shown_status(), it.guid(), it.source.as_str());
        format!("| `{secret}` | {status} | `{guid}` | {id} | {saved} | {source} | {} |\n", it.meaning)
    });
    let addresses =
        mailboxes::magic_addresses().map(|(address, meaning)| format!("| `{address}` | {meaning} |\n"));
    let page = std::iter::once(PAGE_INTRO.to_owned()).chain(rows);
    page.chain(std::iter::once(PAGE_ADDRESSES.to_owned())).chain(addresses).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_answer_has_a_name_and_a_number_of_its_own() {
        let names: BTreeSet<&str> = ANSWERS.iter().map(|it| it.name.as_str()).collect();
        let numbers: BTreeSet<u32> = ANSWERS.iter().map(|it| it.number).collect();
        assert_eq!((names.len(), numbers.len()), (ANSWERS.len(), ANSWERS.len()));
    }

    #[test]
    fn an_answer_is_found_by_its_secret_its_guid_and_its_credential_id() {
        for magic in ANSWERS.iter() {
            let name = Some(magic.name.as_str());
            assert_eq!(by_secret(&magic.secret()).map(|it| it.name.as_str()), name);
            assert_eq!(by_guid(&magic.guid()).map(|it| it.name.as_str()), name);
            assert!(magic.guid().parse::<crate::api::TenantId>().is_ok());
            if let Some(id) = magic.credential_id() {
                assert_eq!(by_path(&format!("/credentials/{id}")).map(|it| it.name.as_str()), name);
            }
        }
        assert!(by_secret("your-client-secret").is_none());
        assert!(by_guid("bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32").is_none());
        assert!(by_path("/rest/v2/mailboxes/microsoft/credentials").is_none());
    }
}
