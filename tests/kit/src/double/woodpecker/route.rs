//! The operation of a request.

use serde_json::Value;

use crate::double::http::Request;

const CREDENTIALS: &str = "/rest/v2/mailboxes/microsoft/credentials";
const COMPANIES: &str = "/rest/v2/agency/companies";
const ME: &str = "/rest/v1/me";
const MAILBOXES: &str = "/rest/v2/mailboxes";
const BULK: &str = "/rest/v2/mailboxes/microsoft/bulk";

/// The operations of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `GET …/credentials`.
    List,
    /// `POST …/credentials`.
    Create,
    /// `PATCH …/credentials/{id}` with neither secret nor expiry.
    Rename,
    /// `PATCH …/credentials/{id}` with a secret or an expiry.
    Update,
    /// `DELETE …/credentials/{id}`.
    Delete,
    /// `GET /rest/v2/agency/companies`.
    Companies,
    /// `GET /rest/v1/me`.
    Me,
    /// `GET /v2/mailboxes`.
    ListMailboxes,
    /// `POST /v2/mailboxes/microsoft/bulk`.
    Connect,
    /// Anything else: 404.
    Other,
}

/// An operation and its subject.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) op: Op,
    pub(crate) id: Option<i64>,
    /// Without the question mark.
    pub(crate) query: String,
}

impl Op {
    /// Whether it attempts a change.
    pub fn is_write(self) -> bool {
        !matches!(self, Self::List | Self::Companies | Self::Me | Self::ListMailboxes | Self::Other)
    }
}

impl Route {
    /// `body` is the request's, if it is JSON.
    pub(crate) fn of(request: &Request, body: Option<&Value>) -> Self {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let rest = path.strip_prefix(CREDENTIALS);
        let id = rest.and_then(|rest| rest.strip_prefix('/')?.parse().ok());
        let op = match (request.method.as_str(), rest, id) {
            ("GET", None, _) if path == MAILBOXES => Op::ListMailboxes,
            ("POST", None, _) if path == BULK => Op::Connect,
            ("GET", Some(""), _) => Op::List,
            ("POST", Some(""), _) => Op::Create,
            ("DELETE", _, Some(_)) => Op::Delete,
            ("PATCH", _, Some(_)) if names_secret(body) => Op::Update,
            ("PATCH", _, Some(_)) => Op::Rename,
            ("GET", None, _) if path == COMPANIES => Op::Companies,
            ("GET", None, _) if path == ME => Op::Me,
            _ => Op::Other,
        };
        Self { op, id, query: query.to_owned() }
    }
}

fn names_secret(body: Option<&Value>) -> bool {
    let has = |name| body.is_some_and(|body| body.get(name).is_some());
    has("client_secret") || has("secret_expires_at")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn op(method: &str, rest: &str, body: Value) -> (Op, Option<i64>) {
        let request = Request {
            method: method.to_owned(),
            path: format!("{CREDENTIALS}{rest}"),
            headers: Vec::new(),
            body: hyper::body::Bytes::default(),
        };
        let route = Route::of(&request, Some(&body));
        (route.op, route.id)
    }

    #[test]
    fn method_path_and_body_determine_the_operation() {
        assert_eq!(op("GET", "", json!({})), (Op::List, None));
        assert_eq!(op("GET", "?page=1", json!({})), (Op::List, None));
        assert_eq!(op("POST", "", json!({})), (Op::Create, None));
        assert_eq!(op("DELETE", "/7", json!({})), (Op::Delete, Some(7)));
        assert_eq!(op("PATCH", "/7", json!({"name": "n"})), (Op::Rename, Some(7)));
        assert_eq!(op("PATCH", "/7", json!({"client_secret": "s"})), (Op::Update, Some(7)));
        assert_eq!(op("PATCH", "/7", json!({"secret_expires_at": "x"})), (Op::Update, Some(7)));
    }

    #[test]
    fn unknown_paths_are_other() {
        for (method, rest) in [
            ("GET", "/7"),
            ("GET", "/"),
            ("PATCH", ""),
            ("DELETE", "/"),
            ("DELETE", "/x"),
            ("POST", "/7"),
            ("GET", "s"),
        ] {
            assert_eq!(op(method, rest, json!({})).0, Op::Other, "{method} {rest}");
        }
    }
}
