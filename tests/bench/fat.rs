//! Large metadata: how much the annotations that tenants write add to the operator's memory.

use serde_json::json;

use crate::environment::Environment;
use crate::figures::Figures;
use crate::objects::Kind;
use crate::plan::{Plan, To};
use crate::{proc, settled};

/// Number of objects.
const OBJECTS: usize = 120;

/// Bytes of annotations per object: nearly the API server's limit.
const BYTES: usize = 250_000;

/// The same objects, with small and with large metadata.
pub async fn measure(plan: &Plan, figures: &mut Figures) {
    let number = plan.sized(OBJECTS);
    let lean = peak(number, 0).await;
    let fat = peak(number, BYTES).await;
    let mut both = Figures::default();
    both.set("objects", crate::figures::float(number));
    both.set("lean_peak_mib", lean);
    both.set("fat_peak_mib", fat);
    both.set("added_mib", fat - lean);
    both.print("fat/");
    figures.extend("fat/", &both);
}

/// Peak memory, with a relist.
async fn peak(number: usize, bytes: usize) -> f64 {
    let mut environment = Environment::start().await;
    let mut process = environment.operator(&[]).await;
    let annotations = json!({"annotations": {"example.com/notes": "x".repeat(bytes)}});
    let kind = Kind { metadata: annotations, ..Kind::plain(To::Store) };
    environment.sources(&kind, 0..number).await;
    let mut audit = environment.audit();
    proc::forget_peak(process.pid());
    environment.objects(&kind, 0..number).await;
    environment.settle(&process, &mut audit, number).await;
    let created = proc::peak(process.pid());
    let again = settled::relist(&mut environment, &process).await.get("peak_mib").unwrap();
    process.stop().await.expect("the operator ends");
    environment.end().await;
    created.max(again)
}
