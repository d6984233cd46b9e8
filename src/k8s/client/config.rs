//! The configuration of the client: a kubeconfig, or else the ServiceAccount of the pod.
//!
//! kube reads a kubeconfig too, but tests `NO_PROXY` against the address of the proxy, and fails if it has an empty entry.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::{env, fs};

use kube::config::{Config, ExecAuthCluster, InClusterError, Kubeconfig, KubeconfigError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use thiserror::Error;

use super::proxy::{self, ProxyError};

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(
        "failed to find a cluster: there is no kubeconfig that can be used ({}), so set KUBECONFIG or --kubeconfig, or run in a pod with a ServiceAccount (here: {in_cluster})",
        shown(.paths)
    )]
    NoCluster { in_cluster: InClusterError, paths: Vec<PathBuf> },
    #[error("failed to read the kubeconfig: check KUBECONFIG, --kubeconfig and --context")]
    Kubeconfig(#[source] KubeconfigError),
    #[error("failed to read the CA certificates of the kubeconfig: check certificate-authority")]
    Certificates(#[source] PemError),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// Selects the cluster, as kubectl's flags of these names do.
#[derive(Clone, Debug, Default)]
pub struct ClusterSelection {
    /// The kubeconfig file; else `KUBECONFIG`, and then the default file.
    pub kubeconfig: Option<PathBuf>,
    /// The context; else the current one of the kubeconfig.
    pub context: Option<String>,
}

/// A configuration and where it comes from.
pub struct Found {
    pub config: Config,
    /// The context of the kubeconfig; `None` for the pod's ServiceAccount.
    pub context: Option<String>,
}

/// The part of a kubeconfig that is in use.
struct Selected {
    config: Config,
    context: String,
    /// CA certificates in PEM.
    ca: Option<Vec<u8>>,
    proxy_url: Option<String>,
}

/// The configuration. In a pod, the API server is reached without a proxy.
pub fn find(selection: &ClusterSelection) -> Result<Found, ConfigError> {
    let paths = default_paths();
    let read = match &selection.kubeconfig {
        Some(path) => Kubeconfig::read_from(path).map(Some),
        // A context is looked for in a kubeconfig only.
        None if selection.context.is_some() => merged(&paths).map(Option::unwrap_or_default).map(Some),
        None => merged(&paths),
    };
    let selected = match read.map_err(ConfigError::Kubeconfig)? {
        Some(kubeconfig) => {
            Some(select(kubeconfig, selection.context.as_deref()).map_err(ConfigError::Kubeconfig)?)
        }
        None => None,
    };
    let (mut config, context, proxy_url) = match selected {
        Some(Selected { mut config, context, ca, proxy_url }) => {
            config.root_cert =
                ca.as_deref().map(certificates).transpose().map_err(ConfigError::Certificates)?;
            (config, Some(context), proxy_url)
        }
        None => match Config::incluster() {
            Ok(config) => (config, None, None),
            Err(in_cluster) => return Err(ConfigError::NoCluster { in_cluster, paths }),
        },
    };
    config.apply_debug_overrides();
    if context.is_some() {
        config.proxy_url =
            proxy::select(&config.cluster_url, proxy_url.as_deref(), |name| env::var(name).ok())?;
    }
    Ok(Found { config, context })
}

/// The files of `KUBECONFIG`, else the default file.
fn default_paths() -> Vec<PathBuf> {
    let listed = env::var_os("KUBECONFIG").unwrap_or_default();
    let listed: Vec<PathBuf> =
        env::split_paths(&listed).filter(|path| !path.as_os_str().is_empty()).collect();
    if !listed.is_empty() {
        return listed;
    }
    let default = env::home_dir().map(|home| home.join(".kube").join("config"));
    // In a pod, the home directory may belong to somebody else.
    let is_denied =
        |path: &PathBuf| fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    default.filter(|path| !is_denied(path)).into_iter().collect()
}

/// The merged kubeconfig of these files. Like kubectl, it skips files that do not exist. `None` if there is nothing in
/// the files: a kubeconfig that is there and cannot be used is never passed over.
fn merged(paths: &[PathBuf]) -> Result<Option<Kubeconfig>, KubeconfigError> {
    let mut merged = Kubeconfig::default();
    for path in paths {
        match Kubeconfig::read_from(path) {
            Ok(next) => merged = merged.merge(next)?,
            Err(KubeconfigError::ReadConfig(error, _)) if is_missing(error.kind()) => {}
            Err(error) => return Err(error),
        }
    }
    let Kubeconfig { current_context, contexts, clusters, auth_infos, .. } = &merged;
    // kubectl leaves an empty name when the last context is deleted.
    let is_empty = current_context.as_deref().unwrap_or_default().is_empty()
        && contexts.is_empty()
        && clusters.is_empty()
        && auth_infos.is_empty();
    Ok((!is_empty).then_some(merged))
}

fn is_missing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn shown(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if paths.is_empty() { "no home directory".to_owned() } else { format!("not in {}", paths.join(", ")) }
}

/// Reads a context, else the current one, as kubectl does.
fn select(kubeconfig: Kubeconfig, context: Option<&str>) -> Result<Selected, KubeconfigError> {
    let Kubeconfig { current_context, contexts, clusters, auth_infos, .. } = kubeconfig;
    let name =
        context.map(ToOwned::to_owned).or(current_context).ok_or(KubeconfigError::CurrentContextNotSet)?;
    let context = contexts.into_iter().find(|it| it.name == name).and_then(|it| it.context);
    let context = context.ok_or_else(|| KubeconfigError::LoadContext(name.clone()))?;
    let cluster = clusters.into_iter().find(|it| it.name == context.cluster).and_then(|it| it.cluster);
    let cluster = cluster.ok_or_else(|| KubeconfigError::LoadClusterOfContext(context.cluster.clone()))?;
    // Reads the file of the certificates, if there is one.
    let shown_to_plugin = ExecAuthCluster::try_from(&cluster)?;
    let server = cluster.server.ok_or(KubeconfigError::MissingClusterUrl)?;
    let mut config = Config::new(server.parse().map_err(KubeconfigError::ParseClusterUrl)?);
    config.default_namespace =
        context.namespace.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = cluster.disable_compression.unwrap_or(false);
    config.tls_server_name = cluster.tls_server_name;
    let ca = shown_to_plugin.certificate_authority_data.clone();
    // A missing user is no error.
    let user = auth_infos.into_iter().find(|it| Some(&it.name) == context.user.as_ref());
    config.auth_info = user.and_then(|it| it.auth_info).unwrap_or_default();
    if let Some(exec) = config.auth_info.exec.as_mut().filter(|exec| exec.provide_cluster_info) {
        exec.cluster = Some(shown_to_plugin);
    }
    Ok(Selected { config, context: name, ca, proxy_url: cluster.proxy_url })
}

fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    CertificateDer::pem_slice_iter(pem).map(|it| it.map(|certificate| certificate.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use kube::config::KubeConfigOptions;
    use serde_json::{Value, json};

    use super::*;

    fn kubeconfig(context: &Value, cluster: &Value, user: &Value) -> Kubeconfig {
        let text = json!({
            "contexts": [{"name": "other"}, {"name": "here", "context": context}],
            "clusters": [{"name": "other"}, {"name": "k8s", "cluster": cluster}],
            "users": [{"name": "other"}, {"name": "me", "user": user}],
            "current-context": "here",
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn missing_files_are_skipped_and_broken_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = kubeconfig(&json!({"cluster": "k8s"}), &json!({"server": "https://k8s:6443"}), &json!({}));
        let good = file("good", &serde_json::to_string(&good).unwrap());
        let (empty, broken) = (file("empty", ""), file("broken", "contexts: ["));
        let left = file("left", "kind: Config\napiVersion: v1\ncurrent-context: \"\"\n");
        let missing = directory.path().join("missing");
        let contexts = |paths: &[PathBuf]| merged(paths).map(|it| it.map(|it| it.contexts.len()));
        assert_eq!(contexts(&[missing.clone(), good.clone()]).unwrap(), Some(2));
        assert_eq!(contexts(&[missing.clone(), empty.clone()]).unwrap(), None);
        assert_eq!(contexts(&[empty.join("below-a-file"), left]).unwrap(), None);
        assert!(matches!(contexts(&[good, broken]), Err(KubeconfigError::Parse(_))));
        let error =
            ConfigError::NoCluster { in_cluster: Config::incluster().unwrap_err(), paths: vec![missing] };
        assert!(error.to_string().contains("/missing), so set KUBECONFIG"), "{error}");
    }

    #[tokio::test]
    async fn a_kubeconfig_is_read_as_kube_reads_it() {
        let ca = STANDARD.encode(kit::tls::Authority::new().unwrap().pem().repeat(2));
        let full = json!({
            "server": "https://k8s:6443", "certificate-authority-data": ca, "tls-server-name": "kubernetes",
            "insecure-skip-tls-verify": true, "disable-compression": true,
        });
        let plain = json!({"server": "https://k8s:6443"});
        let plugin = json!({"exec": {"command": "login", "provideClusterInfo": true}});
        for (context, cluster, user) in [
            (json!({"cluster": "k8s", "user": "me", "namespace": "mail"}), &full, json!({"token": "t"})),
            (json!({"cluster": "k8s", "user": "me"}), &full, plugin),
            (json!({"cluster": "k8s", "user": "missing"}), &plain, json!({})),
            (json!({"cluster": "k8s"}), &plain, json!({})),
            (json!({"cluster": "missing"}), &plain, json!({})),
            (json!({"cluster": "other"}), &plain, json!({})),
            (json!({"cluster": "k8s"}), &json!({"server": "no server"}), json!({})),
            (json!({"cluster": "k8s"}), &json!({}), json!({})),
            (Value::Null, &plain, json!({})),
        ] {
            let kubeconfig = kubeconfig(&context, cluster, &user);
            let options = KubeConfigOptions::default();
            let expected = Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await;
            let found = select(kubeconfig, None).map(|Selected { mut config, ca, .. }| {
                config.root_cert = ca.map(|pem| certificates(&pem).unwrap());
                config
            });
            let expected = expected.map(|mut config| {
                config.proxy_url = None;
                config
            });
            assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{context}");
        }
    }
}
