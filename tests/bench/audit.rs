//! Requests of the measured process, read from the API server's audit log as it grows, because a run with
//! fifty thousand objects writes more than fits into memory at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use jiff::Timestamp;
use kit::cluster::User;
use serde::Deserialize;

use crate::figures::{Figures, float};

/// A reader of the audit log.
pub struct Audit {
    path: PathBuf,
    at: u64,
    /// Requests by verb and resource, such as `update microsoftgraphcredentials/status`.
    pub requests: BTreeMap<String, usize>,
    /// When the last event was stored.
    pub last_event: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    user: LineUser,
    #[serde(default)]
    object_ref: Resource,
    response_status: Option<HttpResponse>,
    #[serde(rename = "requestURI")]
    uri: String,
    stage: String,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct LineUser {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    resource: String,
    subresource: Option<String>,
}

#[derive(Deserialize)]
struct HttpResponse {
    code: Option<u16>,
}

// === impl Audit ===

impl Audit {
    /// Begins at the present end of the file.
    pub fn from_now(path: PathBuf) -> Self {
        let at = std::fs::metadata(&path).map_or(0, |file| file.len());
        Self { path, at, requests: BTreeMap::new(), last_event: None }
    }

    /// Reads what was added; returns whether there were requests other than those for leases and watches.
    pub fn read(&mut self) -> bool {
        let before = self.total();
        let Ok(mut file) = File::open(&self.path) else { return false };
        file.seek(SeekFrom::Start(self.at)).expect("the audit log can be read");
        let (mut lines, mut line) = (BufReader::with_capacity(1 << 20, file), Vec::new());
        while lines.read_until(b'\n', &mut line).expect("the audit log can be read") > 0 {
            if line.last() != Some(&b'\n') {
                break;
            }
            self.at += line.len() as u64;
            if let Ok(line) = serde_json::from_slice::<Line>(&line) {
                self.count(line);
            }
            line.clear();
        }
        self.total() > before
    }

    fn count(&mut self, line: Line) {
        if line.user.username != User::Operator.name() || line.stage != "ResponseComplete" {
            return;
        }
        let Resource { resource, subresource } = line.object_ref;
        let code = line.response_status.and_then(|response| response.code).unwrap_or_default();
        if resource == "events" && line.verb == "create" && code < 300 {
            self.last_event = self.last_event.max(Some(line.stage_timestamp));
        }
        let what = if resource.is_empty() {
            line.uri.split('?').next().unwrap_or_default().to_owned()
        } else {
            subresource.map_or(resource.clone(), |sub| format!("{resource}/{sub}"))
        };
        let failed = if code >= 300 { format!(" {code}") } else { String::new() };
        *self.requests.entry(format!("{} {what}{failed}", line.verb)).or_default() += 1;
    }

    /// All requests except those for leases and watches.
    pub fn total(&self) -> usize {
        self.matching(|_| true)
    }

    /// Writes except those of leases and events, and except queries in the form of a create.
    pub fn writes(&self) -> usize {
        self.matching(|it| {
            !it.contains(" events")
                && !it.contains("accessreviews")
                && ["create ", "update ", "patch ", "delete"].iter().any(|verb| it.starts_with(verb))
        })
    }

    /// Stored events.
    pub fn events(&self) -> usize {
        self.requests.get("create events").copied().unwrap_or_default()
    }

    /// Requests that meet the condition, except for leases and watches.
    pub fn matching(&self, is_it: impl Fn(&str) -> bool) -> usize {
        let counted = self.requests.iter().filter(|(what, _)| {
            !what.contains(" leases") && !what.starts_with("watch ") && !what.contains(" /") && is_it(what)
        });
        counted.map(|(_, number)| number).sum()
    }

    /// Requests per object for this number of objects: all, and by verb and resource unless they are rare.
    pub fn per_object(&self, number: usize) -> Figures {
        let mut figures = Figures::default();
        let each = |count: usize| float(count) / float(number);
        figures.set("requests", each(self.total()));
        figures.set("events", each(self.events()));
        for (what, count) in self.requests.iter().filter(|(_, count)| each(**count) >= 0.01) {
            if !what.contains(" leases") && !what.starts_with("watch ") {
                figures.set(format!("requests/{}", what.replace('/', ".")), each(*count));
            }
        }
        figures
    }
}
