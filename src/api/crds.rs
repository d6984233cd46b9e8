//! The CustomResourceDefinitions, generated from the types of this module.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt, ResourceExt};
use thiserror::Error;

use crate::api::{
    EntraIdentity, MicrosoftGraphCredential, SealedGraphCredential, WoodpeckerAccount, WoodpeckerMailboxes,
};

/// A CRD that cannot be written as YAML.
#[derive(Debug, Error)]
#[error("failed to write the CustomResourceDefinition {name} as YAML")]
pub struct YamlError {
    name: String,
    source: serde_saphyr::ser::Error,
}

/// All CRDs of the operator, the most used first.
pub fn all() -> Vec<CustomResourceDefinition> {
    let crds = [
        MicrosoftGraphCredential::crd(),
        WoodpeckerAccount::crd(),
        SealedGraphCredential::crd(),
        EntraIdentity::crd(),
        WoodpeckerMailboxes::crd(),
    ];
    crds.into_iter()
        .map(|mut crd| {
            for schema in crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut()) {
                for (name, part) in
                    schema.open_api_v3_schema.iter_mut().flat_map(|schema| &mut schema.properties).flatten()
                {
                    // The only default marks a status that no operator has written yet.
                    let unobserved = part.default.take().filter(|_| name == "status");
                    simplify(part);
                    part.default = unobserved;
                    if name == "status" {
                        preserve_unknown_fields(part);
                    }
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

/// Lets the API server keep status fields of a newer version while the CRDs of this version are installed. Pruning
/// restarts at each object with properties, so each one needs this.
fn preserve_unknown_fields(schema: &mut JSONSchemaProps) {
    if let Some(properties) = &mut schema.properties {
        schema.x_kubernetes_preserve_unknown_fields = Some(true);
        properties.values_mut().for_each(preserve_unknown_fields);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        preserve_unknown_fields(items);
    }
}

/// Removes from a schema what serde's attributes add but Kubernetes must not see.
///
/// GitOps tools would show defaults of the API server as a permanent difference. The API server never accepts null for
/// an enum, even if it is nullable. The message of `oneOf` does not say what to do, so a validation rule replaces it.
fn simplify(schema: &mut JSONSchemaProps) {
    schema.default = None;
    schema.one_of = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
        schema.nullable = None;
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        simplify(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        simplify(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        simplify(values);
    }
}
