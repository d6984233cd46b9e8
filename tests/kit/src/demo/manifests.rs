//! The manifests of the demo.

/// When the first secrets expire.
pub(super) const EXPIRY: &str = "2027-11-28T23:59:59Z";

pub(super) const NAMESPACE_YAML: &str = "apiVersion: v1\nkind: Namespace\nmetadata: { name: mail }\n";

pub(super) const ACCOUNT_YAML: &str = "\
apiVersion: v1
kind: Secret
metadata: { name: agency-key, namespace: mail }
stringData: { api_key: (the API key) }
---
apiVersion: graph-credentials.io/v1alpha1
kind: WoodpeckerAccount
metadata: { name: agency, namespace: mail }
spec:
  apiKeySecretRef: { name: agency-key }
  baseUrl: (where the REST API is served)
";

pub(super) const CREDENTIAL_YAML: &str = "\
apiVersion: graph-credentials.io/v1alpha1
kind: MicrosoftGraphCredential
metadata: { name: sales-eu, namespace: mail }
spec:
  tenantId: bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32
  clientId: e1c6ac69-480e-4a17-9b85-3467967bd179
  displayName: MS Graph app
  secretRef: { name: sales-eu-graph }
  destination:
    woodpecker: { accountRef: { name: agency } }
";

pub(super) const DELETE_YAML: &str = "\
apiVersion: graph-credentials.io/v1alpha1
kind: MicrosoftGraphCredential
metadata: { name: sales-us, namespace: mail }
spec:
  tenantId: bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32
  clientId: 5c1f0a4e-8f4b-4f0e-9d43-2b6a1e7d9a10
  secretRef: { name: sales-us-graph }
  destination:
    woodpecker: { accountRef: { name: agency } }
  deletionPolicy: Delete
";

pub(super) const STORE_YAML: &str = "\
apiVersion: graph-credentials.io/v1alpha1
kind: MicrosoftGraphCredential
metadata: { name: sales-store, namespace: mail }
spec:
  tenantId: bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32
  clientId: e1c6ac69-480e-4a17-9b85-3467967bd179
  secretRef: { name: sales-store-graph }
  destination:
    store: {}
";
