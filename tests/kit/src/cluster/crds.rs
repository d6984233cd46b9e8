//! Applies CRDs and waits until the API serves them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use tokio::time::sleep;

use super::Error;

/// How long an accepted CRD may take until it is served.
const SERVED_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn apply(client: &Client, dir: &Path) -> Result<Vec<String>, Error> {
    let crds = read(dir)?;
    // As written, without a type that would drop unknown fields.
    let api: Api<DynamicObject> =
        Api::all_with(client.clone(), &ApiResource::erase::<CustomResourceDefinition>(&()));
    let params = PatchParams::apply("kit").force();
    let mut names = Vec::new();
    for crd in crds {
        let name = crd.name_any();
        api.patch(&name, &params, &Patch::Apply(&crd))
            .await
            .map_err(Error::api(format!("apply the CRD {name}")))?;
        names.push(name);
    }
    for name in &names {
        wait_until_served(client, name).await?;
    }
    Ok(names)
}

fn read(dir: &Path) -> Result<Vec<DynamicObject>, Error> {
    // As in YAML 1.2: a column may be named `N` or `on`.
    let options = serde_saphyr::options! { strict_booleans: true };
    let mut crds = Vec::new();
    for path in yaml_files(dir)? {
        let text = fs::read_to_string(&path).map_err(Error::files("read", &path))?;
        let objects: Vec<DynamicObject> = serde_saphyr::from_multiple_with_options(&text, options.clone())
            .map_err(|error| Error::Crds { path: path.clone(), detail: error.to_string() })?;
        let other_kind = objects.iter().find(|object| {
            object.types.as_ref().is_none_or(|types| types.kind != "CustomResourceDefinition")
        });
        if let Some(other) = other_kind {
            let detail = format!("{} is not a CRD", other.name_any());
            return Err(Error::Crds { path, detail });
        }
        crds.extend(objects);
    }
    if crds.is_empty() {
        return Err(Error::Crds { path: dir.to_path_buf(), detail: "no .yaml file with one".to_owned() });
    }
    Ok(crds)
}

fn yaml_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(dir).map_err(Error::files("list", dir))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::files("list", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

async fn wait_until_served(client: &Client, name: &str) -> Result<(), Error> {
    let start = Instant::now();
    loop {
        let Err(detail) = check(client, name).await else { return Ok(()) };
        if start.elapsed() > SERVED_TIMEOUT {
            return Err(Error::NotServed { name: name.to_owned(), bound: SERVED_TIMEOUT, detail });
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Checks that the CRD is established and discovery knows all its served versions; otherwise returns what was
/// seen.
async fn check(client: &Client, name: &str) -> Result<(), String> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = api.get(name).await.map_err(|error| crate::chain(&error))?;
    let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
    if !conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True") {
        return Err(format!("its conditions are {conditions:?}"));
    }
    for version in crd.spec.versions.iter().filter(|version| version.served) {
        let group_version = format!("{}/{}", crd.spec.group, version.name);
        let served =
            client.list_api_group_resources(&group_version).await.map_err(|error| crate::chain(&error))?;
        if !served.resources.iter().any(|resource| resource.name == crd.spec.names.plural) {
            return Err(format!("{group_version} does not list {}", crd.spec.names.plural));
        }
    }
    Ok(())
}
