//! The CustomResourceDefinitions, generated from the types of this room.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt, ResourceExt};
use thiserror::Error;

use super::{MicrosoftGraphCredential, SealedGraphCredential, WoodpeckerAccount};

/// A CRD that cannot be written as YAML.
#[derive(Debug, Error)]
#[error("failed to write the CustomResourceDefinition {name} as YAML")]
pub struct YamlError {
    name: String,
    source: serde_saphyr::ser::Error,
}

/// All CRDs of the operator, in the order in which people meet them.
pub fn all() -> Vec<CustomResourceDefinition> {
    [MicrosoftGraphCredential::crd(), WoodpeckerAccount::crd(), SealedGraphCredential::crd()]
        .into_iter()
        .map(|mut crd| {
            for version in &mut crd.spec.versions {
                if let Some(schema) =
                    version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut())
                {
                    strip_null(schema);
                }
            }
            crd
        })
        .collect()
}

/// One CRD as a YAML document, without a leading `---`.
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, YamlError> {
    serde_saphyr::to_string(crd).map_err(|source| YamlError { name: crd.name_any(), source })
}

/// Makes an explicit `null` mean "unset", as everywhere in Kubernetes: the API server prunes nulls of fields
/// that are not nullable, but refuses them for a nullable field whose enum lists null.
fn strip_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        strip_null(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        strip_null(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        strip_null(values);
    }
}
