//! A fake API server for one Lease, with versions, conflicts, and responses that fail or get lost.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// How the server treats requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// They are applied and answered.
    #[default]
    Well,
    /// They are rejected with 503.
    Failing,
    /// They are neither applied nor answered.
    Silent,
    /// Writes are applied and not answered.
    Losing,
}

#[derive(Clone, Default)]
pub(super) struct FakeApi(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    mode: Mode,
    lease: Option<Lease>,
    version: u64,
    requests: usize,
}

impl FakeApi {
    pub(super) fn client(&self) -> Client {
        let api = self.clone();
        let serve = move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        };
        Client::new(tower::service_fn(serve), "operators")
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        self.0.lock().unwrap().mode = mode;
    }

    pub(super) fn requests(&self) -> usize {
        self.0.lock().unwrap().requests
    }

    pub(super) fn lease(&self) -> Lease {
        self.0.lock().unwrap().lease.clone().expect("there is a lease")
    }

    pub(super) fn holder(&self) -> String {
        self.lease().spec.unwrap().holder_identity.unwrap_or_default()
    }

    /// Changes the lease externally.
    pub(super) fn edit(&self, edit: impl FnOnce(&mut Lease)) {
        let mut state = self.0.lock().unwrap();
        let mut lease = state.lease.take().expect("there is a lease");
        edit(&mut lease);
        state.store(lease);
    }

    pub(super) fn remove(&self) {
        self.0.lock().unwrap().lease = None;
    }

    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let is_write = request.method() != Method::GET;
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let mode = {
            let mut state = self.0.lock().unwrap();
            state.requests += 1;
            state.mode
        };
        let response = match mode {
            Mode::Failing => return response(503, &failure(503)),
            Mode::Silent => None,
            Mode::Well => Some(self.0.lock().unwrap().apply(&parts.method, &body)),
            Mode::Losing => {
                let response = self.0.lock().unwrap().apply(&parts.method, &body);
                Some(response).filter(|_| !is_write)
            }
        };
        match response {
            Some((status, body)) => self::response(status, &body),
            None => std::future::pending().await,
        }
    }
}

impl State {
    fn apply(&mut self, method: &Method, body: &[u8]) -> (u16, Value) {
        if *method == Method::GET {
            return self.lease.as_ref().map_or((404, failure(404)), |lease| (200, json!(lease)));
        }
        let new: Lease = serde_json::from_slice(body).unwrap();
        let there = self.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if new.metadata.resource_version != there {
            return (409, failure(409));
        }
        self.store(new);
        (200, json!(self.lease))
    }

    fn store(&mut self, mut lease: Lease) {
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease);
    }
}

fn failure(code: u16) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "ServiceUnavailable",
    };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no", "reason": reason})
}

fn response(status: u16, body: &Value) -> Response<Body> {
    Response::builder().status(status).body(Body::from(serde_json::to_vec(body).unwrap())).unwrap()
}
