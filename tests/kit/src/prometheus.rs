//! A real Prometheus, pinned in `tools/prometheus`, that scrapes one target every second, evaluates alert
//! rules and answers queries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::assets::{self, Assets, Program};
use crate::process::{self, Process};

/// A running Prometheus; stops when dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: String,
    _data: TempDir,
}

/// A series of a response.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels, including the name of the metric.
    pub labels: BTreeMap<String, String>,
    /// Its values with their times, in seconds since 1970.
    pub points: Vec<(f64, f64)>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not available.
    #[error(transparent)]
    Assets(#[from] assets::Error),
    /// It cannot be run.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// A file or a connection failed.
    #[error("cannot talk to Prometheus")]
    Io(#[from] io::Error),
    /// It rejects a request.
    #[error("Prometheus responds to {path}: {response}")]
    Refused {
        /// The path of the request.
        path: String,
        /// The response.
        response: String,
    },
}

// === impl Prometheus ===

impl Prometheus {
    /// Starts a Prometheus that scrapes `target` (host and port) and evaluates the rules in those files.
    ///
    /// # Errors
    ///
    /// It cannot be built, or does not become ready.
    pub async fn start(target: &str, rules: &[PathBuf], log: &Path) -> Result<Self, Error> {
        let assets = tokio::task::spawn_blocking(|| Assets::locate(&[Program::Prometheus])).await;
        let assets = assets.map_err(io::Error::other)??;
        let program = assets.path(Program::Prometheus).map_or_else(|| "prometheus".into(), Path::to_path_buf);
        let data = tempfile::Builder::new().prefix("kit-prometheus-").tempdir()?;
        let config = data.path().join("prometheus.yml");
        let rules: Vec<String> = rules.iter().map(|file| format!("  - {}\n", file.display())).collect();
        fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files:\n{}scrape_configs:\n  - job_name: operator\n    honor_labels: true\n    static_configs: [{{targets: [\"{target}\"]}}]\n",
                rules.concat()
            ),
        )?;
        let process = Process::builder(program)
            .args([
                "--web.listen-address=127.0.0.1:0".to_owned(),
                format!("--config.file={}", config.display()),
            ])
            .args([format!("--storage.tsdb.path={}", data.path().join("data").display())])
            .log(log)
            .spawn()
            .await?;
        process.wait_for_log("Server is ready to receive web requests", Duration::from_mins(1)).await?;
        let log = process.log();
        let address = log.lines().filter(|line| line.contains("\"Listening on\"")).find_map(|line| {
            line.split_whitespace().find_map(|word| word.strip_prefix("address=")).map(str::to_owned)
        });
        let address = address.ok_or_else(|| io::Error::other("Prometheus logs no address"))?;
        Ok(Self { process, address, _data: data })
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The series of an expression now.
    ///
    /// # Errors
    ///
    /// The expression is rejected.
    pub async fn query(&self, expression: &str) -> Result<Vec<Series>, Error> {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("query", expression).finish();
        let response = self.request(&format!("/api/v1/query?{query}")).await?;
        Ok(series(&response, "value"))
    }

    /// The same over the last `seconds`, one point per second.
    ///
    /// # Errors
    ///
    /// The expression is rejected.
    pub async fn query_range(&self, expression: &str, seconds: u32) -> Result<Vec<Series>, Error> {
        let end = jiff::Timestamp::now().as_second();
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", expression)
            .append_pair("start", &(end - i64::from(seconds)).to_string())
            .append_pair("end", &end.to_string())
            .append_pair("step", "1")
            .finish();
        let response = self.request(&format!("/api/v1/query_range?{query}")).await?;
        Ok(series(&response, "values"))
    }

    /// The `data` of the response for a path of its API.
    ///
    /// # Errors
    ///
    /// It cannot be reached, or responds with a failure.
    pub async fn request(&self, path: &str) -> Result<Value, Error> {
        let mut connection = TcpStream::connect(&self.address).await?;
        connection
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).as_bytes())
            .await?;
        let mut text = String::new();
        connection.read_to_string(&mut text).await?;
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let mut response: Value = serde_json::from_str(body).unwrap_or_default();
        if response["status"] == "success" {
            Ok(response["data"].take())
        } else {
            Err(Error::Refused { path: path.to_owned(), response: text })
        }
    }
}

/// The series of a response, with their points under that name; a single number is one series.
fn series(data: &Value, points: &str) -> Vec<Series> {
    let read = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?));
    if data["resultType"] == "scalar" {
        return vec![Series { labels: BTreeMap::new(), points: read(&data["result"]).into_iter().collect() }];
    }
    let results = data["result"].as_array().map(Vec::as_slice).unwrap_or_default();
    let all = results.iter().map(|result| {
        let labels = result["metric"].as_object().into_iter().flatten();
        let labels =
            labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
        let pairs = &result[points];
        let points = match pairs.as_array() {
            Some(list) if points == "values" => list.iter().filter_map(read).collect(),
            _ => read(pairs).into_iter().collect(),
        };
        Series { labels: labels.collect(), points }
    });
    all.collect()
}
