//! Renders the chart and finds objects in the result.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kit::helm::{Error, Helm};
use serde_json::{Value, json};

/// The namespace that the chart is rendered for.
pub const NAMESPACE: &str = "graph-credentials";

/// The rendered objects of a release.
pub struct Rendered(pub Vec<Value>);

pub fn chart() -> PathBuf {
    kit::workspace().join("deploy/chart")
}

pub fn helm() -> &'static Helm {
    static HELM: OnceLock<Helm> = OnceLock::new();
    HELM.get_or_init(|| Helm::locate().expect("helm is available"))
}

/// Renders with these values over the chart's own.
pub fn render(values: &Value) -> Rendered {
    try_render(values).unwrap_or_else(|error| panic!("{values}: {error}"))
}

pub fn try_render(values: &Value) -> Result<Rendered, Error> {
    helm().objects(&chart(), NAMESPACE, values).map(Rendered)
}

/// Renders a release of that name in that namespace.
pub fn render_release(name: &str, namespace: &str, values: &Value) -> Rendered {
    let chart = chart().display().to_string();
    let args = ["template", name, &chart, "--namespace", namespace];
    let text = helm().run(Path::new("/dev/null"), &args, values).unwrap_or_else(|error| panic!("{error}"));
    Rendered(kit::helm::parse(&text).unwrap())
}

/// `{"a": {"b": value}}` for the path `a.b`.
pub fn nested(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |value, key| json!({ key: value }))
}

/// Merges `over` into `base`.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

// === impl Rendered ===

impl Rendered {
    /// The object of that kind whose name ends like this.
    pub fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.0.iter().find(|object| {
            object["kind"] == kind && object["metadata"]["name"].as_str().is_some_and(|it| it.ends_with(name))
        })
    }

    /// The pods and pod templates, with kind and name of the object.
    pub fn pods(&self) -> Vec<(String, &Value)> {
        let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
        let pods = self.0.iter().filter_map(|object| {
            let pod = if object["kind"] == "Pod" { Some(object) } else { object.pointer("/spec/template") };
            Some((name(object), pod?))
        });
        pods.collect()
    }

    pub fn get(&self, kind: &str, name: &str) -> &Value {
        self.find(kind, name).unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }
}
