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

/// In the operator's namespace.
pub(super) const IDENTITY_YAML: &str = "\
apiVersion: v1
kind: Secret
metadata: { name: rotator, namespace: default }
stringData: { client-secret: (the secret of the identity) }
---
apiVersion: graph-credentials.io/v1alpha1
kind: EntraIdentity
metadata: { name: rotator, namespace: default }
spec:
  tenantId: bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32
  clientId: 7d0f3a86-5a53-4a76-a4b0-5f8f6a1c9e02
  auth:
    clientSecretRef: { name: rotator }
  grants:
    - namespaces: [mail]
      tenantId: bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32
      clientIds: [93d5a1f7-64b2-4c3e-8d1a-0e2b7c9f4a55]
";

pub(super) const ROTATION_YAML: &str = "\
apiVersion: graph-credentials.io/v1alpha1
kind: MicrosoftGraphCredential
metadata: { name: sales-apac, namespace: mail }
spec:
  tenantId: bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32
  clientId: 93d5a1f7-64b2-4c3e-8d1a-0e2b7c9f4a55
  entra:
    identityRef: { name: rotator }
  rotation: {}
  destination:
    woodpecker: { accountRef: { name: agency } }
";
