//! The page at `/`, for a person with a browser. It has no external parts, and its policy allows none.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use sha2::{Digest, Sha256};

use super::backend::Sandbox;
use super::data::{ApiKey, DEFAULT_KEY};
use super::magic::ANSWERS;
use super::{agency, mailboxes};

const TEMPLATE: &str = include_str!("page.html");

const STYLE: &str = include_str!("page.css");

const SCRIPT: &str = include_str!("page.js");

/// What the page says about a file.
const FILE_NOTE: &str = "<p class=\"warning\">The key of this sandbox lies beside its file. A key that lies beside its file \
                         protects nothing.</p>";

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())));
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

pub(super) async fn page(State(sandbox): State<Arc<Sandbox>>) -> Response {
    let page = TEMPLATE
        .replace("{style}", STYLE)
        .replace("{script}", SCRIPT)
        .replace("{key}", DEFAULT_KEY)
        .replace("{file}", if sandbox.has_file() { FILE_NOTE } else { "" })
        .replace("{answers}", &answers())
        .replace("{addresses}", &addresses())
        .replace("{companies}", &companies());
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(page)).into_response()
}

fn answers() -> String {
    let mut rows = String::new();
    for magic in ANSWERS.iter() {
        let id = magic.credential_id().map(|id| id.to_string()).unwrap_or_default();
        let _ = writeln!(
            rows,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td>\
             <td><code>{id}</code></td></tr>",
            magic.secret(),
            magic.shown_status(),
            if magic.is_saved { "yes" } else { "" },
            magic.source.as_str(),
            html(&magic.meaning),
            magic.guid(),
        );
    }
    rows
}

fn addresses() -> String {
    let row = |(address, meaning): (String, &str)| {
        format!("<tr><td><code>{address}</code></td><td>{}</td></tr>\n", html(meaning))
    };
    mailboxes::magic_addresses().map(row).collect()
}

fn companies() -> String {
    let row = |(company, key): (agency::Company, ApiKey)| {
        format!(
            "<tr><td>{}</td><td>{}</td><td><code>{}</code></td></tr>\n",
            company.id,
            html(&company.name),
            key.key
        )
    };
    agency::initial().into_iter().zip(agency::initial_keys()).map(row).collect()
}

/// The text in HTML; what is in backticks is code.
fn html(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut parts = escaped.split('`');
    let mut html = parts.next().unwrap_or_default().to_owned();
    for (at, part) in parts.enumerate() {
        html += if at % 2 == 0 { "<code>" } else { "</code>" };
        html += part;
    }
    html
}
