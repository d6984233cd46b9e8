//! The settings in the `OTEL_*` variables.
//!
//! Source: OpenTelemetry specification, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter". There
//! exporters are on by default; here they are on if the environment names a collector.

use std::time::Duration;

/// The exported signals, each with its request timeout.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OtelEnv {
    pub traces: Option<Duration>,
    pub logs: Option<Duration>,
    /// Settings that are not supported.
    pub unsupported: Vec<String>,
}

/// The default timeout of the specification.
const TIME_OUT: Duration = Duration::from_secs(10);

// === impl OtelEnv ===

impl OtelEnv {
    /// Reads the variables; an empty one counts as unset.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
        let mut env = Self::default();
        if variable("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true")) {
            return env;
        }
        env.traces = env.signal("TRACES", &variable);
        env.logs = env.signal("LOGS", &variable);
        env
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
                self.unsupported
                    .push(format!("OTEL_{name}_EXPORTER={other}: only otlp and none are supported"));
                return None;
            }
        }
        for (setting, known, why) in [
            ("PROTOCOL", "http/protobuf", "only http/protobuf is supported"),
            ("COMPRESSION", "none", "compression is not supported"),
        ] {
            if let Some(other) = of_exporter(setting).filter(|value| value != known) {
                self.unsupported.push(format!("OTEL_EXPORTER_OTLP_{setting}={other} for {name}: {why}"));
                return None;
            }
        }
        for setting in ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"] {
            if of_exporter(setting).is_some() {
                self.unsupported.push(format!(
                    "OTEL_EXPORTER_OTLP_{setting} for {name}: use --ca-bundle for CA certificates; client certificates are not supported"
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

    fn read(variables: &[(&str, &str)]) -> OtelEnv {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        OtelEnv::read(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    fn enabled(variables: &[(&str, &str)]) -> (bool, bool) {
        let env = read(variables);
        (env.traces.is_some(), env.logs.is_some())
    }

    #[test]
    fn nothing_is_exported_unless_a_collector_is_named() {
        assert_eq!(enabled(&[]), (false, false));
        assert_eq!(enabled(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), (false, false), "empty is unset");
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert_eq!(enabled(&[endpoint]), (true, true));
        assert_eq!(
            enabled(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces")]),
            (true, false)
        );
        assert_eq!(enabled(&[("OTEL_LOGS_EXPORTER", "otlp")]), (false, true), "at the standard address");
        assert_eq!(enabled(&[endpoint, ("OTEL_LOGS_EXPORTER", "none")]), (true, false));
        assert_eq!(enabled(&[endpoint, ("OTEL_SDK_DISABLED", "True")]), (false, false));
    }

    #[test]
    fn unsupported_settings_are_named_and_the_rest_is_exported() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        let env = read(&[endpoint, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")]);
        assert_eq!((env.traces, env.logs.is_some()), (None, true));
        assert!(env.unsupported[0].contains("grpc"), "{:?}", env.unsupported);
        assert_eq!(read(&[endpoint, ("OTEL_TRACES_EXPORTER", "zipkin")]).unsupported.len(), 1);
        assert_eq!(read(&[endpoint, ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")]).unsupported.len(), 2);
        let env = read(&[endpoint, ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/ca.crt")]);
        assert!(env.unsupported[0].contains("--ca-bundle"), "{:?}", env.unsupported);
        assert!(env.traces.is_some(), "a public CA may have signed it");
    }

    #[test]
    fn the_timeout_of_a_request_can_be_set() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert_eq!(read(&[endpoint]).logs, Some(TIME_OUT));
        let env = read(&[
            endpoint,
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "500"),
        ]);
        assert_eq!(env.traces, Some(Duration::from_secs(2)));
        assert_eq!(env.logs, Some(Duration::from_millis(500)));
    }
}
