//! A user's objects: Secrets, accounts and credentials, applied as `kubectl` does.

use super::*;

impl TestEnv {
    /// Applies an object as `kubectl apply --server-side` does.
    pub async fn apply<K>(&self, name: &str, body: Value) -> Result<K, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let mut whole = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {"name": name, "namespace": self.namespace}
        });
        merge(&mut whole, body);
        self.api::<K>().patch(name, &PatchParams::apply("kubectl").force(), &Patch::Apply(whole)).await
    }

    pub async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let values: serde_json::Map<String, Value> = values
            .iter()
            .map(|(key, value)| {
                ((*key).to_owned(), json!(k8s_openapi::ByteString(value.as_bytes().to_vec())))
            })
            .collect();
        self.apply::<Secret>(name, json!({"data": values})).await.expect("the Secret can be applied");
    }

    /// The same, and removes other keys.
    pub async fn secret_exactly(&self, name: &str, values: &[(&str, &str)]) {
        self.api::<Secret>().delete(name, &DeleteParams::default()).await.expect("the Secret can be deleted");
        self.secret(name, values).await;
    }

    pub async fn delete_secret(&self, name: &str) {
        self.api::<Secret>().delete(name, &DeleteParams::default()).await.expect("the Secret can be deleted");
    }

    /// Applies a WoodpeckerAccount with `spec` merged into a working one, and its Secret.
    pub async fn account(&self, name: &str, spec: Value) {
        self.secret(&format!("{name}-key"), &[("api_key", API_KEY)]).await;
        self.apply_account(name, spec).await;
    }

    pub async fn apply_account(&self, name: &str, spec: Value) {
        let mut whole = json!({"apiKeySecretRef": {"name": format!("{name}-key")}, "baseUrl": self.woodpecker.base_url()});
        merge(&mut whole, spec);
        self.apply::<WoodpeckerAccount>(name, json!({"spec": whole}))
            .await
            .expect("the account can be applied");
    }

    /// Applies a MicrosoftGraphCredential with `spec` merged into a plain one.
    pub async fn credential(&self, name: &str, spec: Value) -> MicrosoftGraphCredential {
        self.try_credential(name, spec).await.expect("the credential can be applied")
    }

    pub async fn try_credential(
        &self,
        name: &str,
        spec: Value,
    ) -> Result<MicrosoftGraphCredential, kube::Error> {
        self.apply(name, json!({"spec": plain_spec(spec)})).await
    }

    pub async fn read(&self, name: &str) -> MicrosoftGraphCredential {
        self.api().get(name).await.expect("the credential exists")
    }

    /// Requests a reconciliation of the credential by annotation.
    pub async fn request_reconcile(&self, name: &str) {
        let annotations = json!({RECONCILE_REQUESTED_AT: jiff::Timestamp::now().to_string()});
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        self.api::<MicrosoftGraphCredential>()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .expect("the credential can be annotated");
    }

    pub async fn delete(&self, name: &str) {
        self.api::<MicrosoftGraphCredential>()
            .delete(name, &DeleteParams::default())
            .await
            .expect("it can be deleted");
    }

    pub async fn delete_namespace(&self) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.delete(&self.namespace, &DeleteParams::default()).await.expect("the namespace can be deleted");
    }
}

/// A plain spec with `spec` merged into it; a null removes a field.
pub fn plain_spec(spec: Value) -> Value {
    let mut whole = json!({
        "tenantId": TENANT, "clientId": CLIENT, "secretRef": {"name": "sales-eu-graph"},
        "destination": {"woodpecker": {"accountRef": {"name": "agency"}}}
    });
    merge(&mut whole, spec);
    whole
}

/// Merges `over` into `base`, key by key; a null removes a key.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, over) => *base = over,
    }
}
