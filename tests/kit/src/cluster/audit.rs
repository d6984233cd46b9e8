//! The audit log: each request to the API, its user, and the response.
//!
//! kube-apiserver writes a line when a request arrives and one before its response ends. So every response
//! that a client has received is in the log. Source: `k8s.io/apiserver` v0.37,
//! `pkg/endpoints/filters/audit.go`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use super::Error;

/// Bodies are left out because they contain Secrets.
const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n";

/// Only responses.
const POLICY_RESPONSES_ONLY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\nrules:\n- level: Metadata\n";

/// What the audit log contains, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Each request when it arrives and before its response ends.
    Everything,
    /// Each response, up to a second later. It costs the API server less.
    Responses,
}

/// A request to the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// As in RBAC: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// The API group, empty for the core group and for paths outside resources.
    pub group: String,
    /// The plural, such as `secrets`; empty for paths outside resources.
    pub resource: String,
    /// Such as `status`.
    pub subresource: Option<String>,
    /// None for resources of the whole cluster and for requests across namespaces.
    pub namespace: Option<String>,
    /// None for requests for many objects.
    pub name: Option<String>,
    /// The user; with impersonation, the impersonated one.
    pub user: String,
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// Path and query.
    pub uri: String,
    /// The HTTP status; none while there is no response.
    pub code: Option<u16>,
    /// When the request arrived.
    pub time: Timestamp,
}

/// A point in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditMark(u64);

/// The file that kube-apiserver writes.
#[derive(Debug)]
pub(super) struct AuditLog {
    path: PathBuf,
    policy: PathBuf,
    detail: Detail,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    id: String,
    stage: Stage,
    #[serde(rename = "requestURI")]
    uri: String,
    verb: String,
    user: EventUser,
    impersonated_user: Option<EventUser>,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    response_status: Option<ResponseStatus>,
    request_received_timestamp: Timestamp,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

#[derive(Deserialize)]
struct EventUser {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    api_group: String,
    subresource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct ResponseStatus {
    code: Option<u16>,
}

// === impl AuditEntry ===

impl AuditEntry {
    /// Whether the request attempts a change, allowed or not.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

impl From<Event> for AuditEntry {
    fn from(event: Event) -> Self {
        let ObjectRef { resource, api_group: group, subresource, namespace, name } = event.object_ref;
        Self {
            verb: event.verb,
            group,
            resource,
            subresource,
            namespace,
            name,
            user: event.impersonated_user.unwrap_or(event.user).username,
            user_agent: event.user_agent,
            uri: event.uri,
            code: event.response_status.and_then(|status| status.code),
            time: event.request_received_timestamp,
        }
    }
}

// === impl AuditMark ===

impl AuditMark {
    /// Before the first request.
    pub(super) const START: Self = Self(0);
}

// === impl AuditLog ===

impl AuditLog {
    pub(super) fn create(dir: &Path, detail: Detail) -> Result<Self, Error> {
        let log = Self { path: dir.join("audit.log"), policy: dir.join("audit-policy.yaml"), detail };
        let policy = if detail == Detail::Everything { POLICY } else { POLICY_RESPONSES_ONLY };
        fs::write(&log.policy, policy).map_err(Error::files("write", &log.policy))?;
        Ok(log)
    }

    pub(super) fn flags(&self) -> [String; 5] {
        // Written before the response ends, or in batches.
        let mode = if self.detail == Detail::Everything { "blocking" } else { "batch" };
        [
            format!("--audit-log-path={}", self.path.display()),
            format!("--audit-policy-file={}", self.policy.display()),
            format!("--audit-log-mode={mode}"),
            "--audit-log-batch-max-wait=1s".to_owned(),
            // Into one file: no test reaches this size in megabytes.
            "--audit-log-maxsize=100000".to_owned(),
        ]
    }

    pub(super) fn since(&self, mark: AuditMark) -> Result<Vec<AuditEntry>, Error> {
        self.read(mark).map(|(text, _)| entries(&text))
    }

    pub(super) fn mark(&self) -> Result<AuditMark, Error> {
        self.read(AuditMark::START).map(|(_, end)| end)
    }

    /// The whole lines from the mark on.
    fn read(&self, AuditMark(mark): AuditMark) -> Result<(String, AuditMark), Error> {
        let read = || {
            let mut file = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                file => file?,
            };
            file.seek(SeekFrom::Start(mark))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let mut bytes = read().map_err(Error::files("read", &self.path))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok((text, AuditMark(mark + whole as u64)))
    }
}

/// One entry for each request, in order of arrival.
fn entries(text: &str) -> Vec<AuditEntry> {
    let mut positions = BTreeMap::new();
    let mut entries: Vec<AuditEntry> = Vec::new();
    for event in text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok()) {
        if event.stage == Stage::RequestReceived {
            positions.insert(event.id.clone(), entries.len());
            entries.push(event.into());
        } else if let Some(entry) = positions.get(&event.id).and_then(|position| entries.get_mut(*position)) {
            // The later line has more: the response, and the name of an object that only the body contained.
            *entry = event.into();
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, stage: &str, rest: &str) -> String {
        format!(
            r#"{{"auditID":"{id}","stage":"{stage}","requestURI":"/x","verb":"create","user":{{"username":"u"}},
            "requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z"{rest}}}"#
        )
        .replace('\n', "")
            + "\n"
    }

    #[test]
    fn a_request_and_its_response_are_one_entry() {
        let text = event("1", "RequestReceived", "")
            + &event("2", "RequestReceived", "")
            + &event("1", "ResponseComplete", r#","responseStatus":{"code":201},"objectRef":{"name":"n"}"#);
        let entries = entries(&text);
        let parsed: Vec<_> = entries.iter().map(|entry| (entry.name.as_deref(), entry.code)).collect();
        assert_eq!(parsed, [(Some("n"), Some(201)), (None, None)]);
    }

    #[test]
    fn a_request_before_the_mark_is_left_out_even_if_answered_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::create(dir.path(), Detail::Everything).unwrap();
        assert_eq!(log.since(log.mark().unwrap()).unwrap(), []);
        fs::write(&log.path, event("1", "RequestReceived", "")).unwrap();
        let mark = log.mark().unwrap();
        let mut text = fs::read_to_string(&log.path).unwrap();
        text += &event("1", "ResponseComplete", "");
        text += &event("2", "RequestReceived", "");
        // An incomplete line.
        text += r#"{"auditID":"3","#;
        fs::write(&log.path, text).unwrap();
        assert_eq!(log.since(mark).unwrap().len(), 1);
    }
}
