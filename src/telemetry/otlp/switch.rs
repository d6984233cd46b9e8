//! PURE: what the `OTEL_*` variables ask for.
//!
//! Source: OpenTelemetry specification, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter". It
//! has exporters on by default; here they are on where the environment names a collector.

use std::time::Duration;

/// Which signals are sent, each with the time that a request may take.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Switches {
    pub traces: Option<Duration>,
    pub logs: Option<Duration>,
    /// What is asked for and cannot be had.
    pub refused: Vec<String>,
}

/// Where the specification has a request end, unless told otherwise.
const TIME_OUT: Duration = Duration::from_secs(10);

// === impl Switches ===

impl Switches {
    /// Reads the variables; an empty one counts as unset.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
        let mut switches = Self::default();
        if variable("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true")) {
            return switches;
        }
        switches.traces = switches.signal("TRACES", &variable);
        switches.logs = switches.signal("LOGS", &variable);
        switches
    }

    fn signal(&mut self, name: &str, variable: &impl Fn(&str) -> Option<String>) -> Option<Duration> {
        let of_exporter = |setting: &str| {
            variable(&format!("OTEL_EXPORTER_OTLP_{name}_{setting}"))
                .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{setting}")))
        };
        let exporter = variable(&format!("OTEL_{name}_EXPORTER"));
        match exporter.as_deref() {
            Some("otlp") => {}
            None if of_exporter("ENDPOINT").is_some() => {}
            Some("none") | None => return None,
            Some(other) => {
                self.refused.push(format!("OTEL_{name}_EXPORTER={other}: only otlp and none are known"));
                return None;
            }
        }
        for (setting, known, why) in [
            ("PROTOCOL", "http/protobuf", "only http/protobuf is spoken"),
            ("COMPRESSION", "none", "nothing is compressed"),
        ] {
            if let Some(other) = of_exporter(setting).filter(|value| value != known) {
                self.refused.push(format!("OTEL_EXPORTER_OTLP_{setting}={other} for {name}: {why}"));
                return None;
            }
        }
        for setting in ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"] {
            if of_exporter(setting).is_some() {
                self.refused.push(format!(
                    "OTEL_EXPORTER_OTLP_{setting} for {name}: the CA certificates of --extra-ca are trusted, and no client certificate is shown"
                ));
            }
        }
        let time_out = of_exporter("TIMEOUT").and_then(|millis| millis.parse().ok());
        Some(time_out.map_or(TIME_OUT, Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Switches {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Switches::read(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    fn on(variables: &[(&str, &str)]) -> (bool, bool) {
        let switches = read(variables);
        (switches.traces.is_some(), switches.logs.is_some())
    }

    #[test]
    fn nothing_is_sent_unless_a_collector_is_named() {
        assert_eq!(on(&[]), (false, false));
        assert_eq!(on(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), (false, false), "empty is unset");
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert_eq!(on(&[endpoint]), (true, true));
        assert_eq!(
            on(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces")]),
            (true, false)
        );
        assert_eq!(on(&[("OTEL_LOGS_EXPORTER", "otlp")]), (false, true), "at the standard address");
        assert_eq!(on(&[endpoint, ("OTEL_LOGS_EXPORTER", "none")]), (true, false));
        assert_eq!(on(&[endpoint, ("OTEL_SDK_DISABLED", "True")]), (false, false));
    }

    #[test]
    fn what_cannot_be_had_is_named_and_the_rest_is_sent() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        let switches = read(&[endpoint, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")]);
        assert_eq!((switches.traces, switches.logs.is_some()), (None, true));
        assert!(switches.refused[0].contains("grpc"), "{:?}", switches.refused);
        assert_eq!(read(&[endpoint, ("OTEL_TRACES_EXPORTER", "zipkin")]).refused.len(), 1);
        assert_eq!(read(&[endpoint, ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")]).refused.len(), 2);
        let switches = read(&[endpoint, ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/ca.crt")]);
        assert!(switches.refused[0].contains("--extra-ca"), "{:?}", switches.refused);
        assert!(switches.traces.is_some(), "a public CA may have signed it");
    }

    #[test]
    fn a_request_ends_in_time() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert_eq!(read(&[endpoint]).logs, Some(TIME_OUT));
        let switches = read(&[
            endpoint,
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "500"),
        ]);
        assert_eq!(switches.traces, Some(Duration::from_secs(2)));
        assert_eq!(switches.logs, Some(Duration::from_millis(500)));
    }
}
