//! What a request asks for.

use serde_json::Value;

use super::record::Op;
use crate::double::http::Request;

/// What a request asks for.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) op: Op,
    /// The client ID of the app, as sent.
    pub(super) client: String,
    /// The properties in `$select` of a read, as sent.
    pub(super) select: String,
    /// The body of a write; null if it is not JSON.
    pub(super) body: Value,
    /// Whether the length of the body was announced. Graph answers 404 to a body in chunks.
    pub(super) has_length: bool,
}

// === impl Route ===

impl Route {
    /// `None` for a path that Graph does not have, and for a read without `$select`.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let rest = request.path.strip_prefix("/v1.0/")?;
        match request.method.as_str() {
            "GET" => Self::of_read(rest),
            "POST" => Self::of_write(rest, request),
            _ => None,
        }
    }

    fn of_read(rest: &str) -> Option<Self> {
        let (path, query) = rest.split_once('?')?;
        let parameter = |name: &str| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let select = parameter("$select")?;
        let (op, client) = if path == "applications" {
            (Op::ListApplications, between(&parameter("$filter")?, "appId eq '", "'")?)
        } else if let Some(client) = between(path, "applications(appId='", "')") {
            (Op::Application, client)
        } else {
            (Op::ServicePrincipal, between(path, "servicePrincipals(appId='", "')")?)
        };
        Some(Self { op, client, select, body: Value::Null, has_length: false })
    }

    fn of_write(path: &str, request: &Request) -> Option<Self> {
        let (op, client) = match between(path, "applications(appId='", "')/addPassword") {
            Some(client) => (Op::AddPassword, client),
            None => (Op::RemovePassword, between(path, "applications(appId='", "')/removePassword")?),
        };
        let is_json = request.has_content_type("application/json");
        let body = serde_json::from_slice(&request.body).ok().filter(|_| is_json);
        let has_length = request.header("content-length").is_some();
        Some(Self { op, client, select: String::new(), body: body.unwrap_or_default(), has_length })
    }
}

fn between(text: &str, before: &str, after: &str) -> Option<String> {
    text.strip_prefix(before)?.strip_suffix(after).map(str::to_owned)
}
