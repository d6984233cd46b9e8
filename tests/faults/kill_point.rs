//! Moments in the life of an object at which a kill can happen: requests that Woodpecker or Graph sees, and writes
//! that the API server sees.

use std::collections::{BTreeSet, HashMap};

use graph_credential_operator::api::{MicrosoftGraphCredential, Registration, RotationStatus};
use kit::graph;
use kit::woodpecker::{Op, Point, Progress};
use kube::ResourceExt;

/// A kill point. The first eleven are the steps of a create, in order; those from [`KillPoint::AttemptWritten`] on are the
/// steps of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KillPoint {
    FinalizerSet,
    Listed,
    IntentWritten,
    CreateArrived,
    CreatePerformed,
    CreateAnswered,
    RegistrationWritten,
    RenameArrived,
    RenamePerformed,
    RenameAnswered,
    NameWritten,
    UpdateIntentWritten,
    UpdateArrived,
    UpdatePerformed,
    UpdateAnswered,
    DeletionAsked,
    DeleteArrived,
    DeletePerformed,
    DeleteAnswered,
    AttemptWritten,
    AppRead,
    AddArrived,
    AddPerformed,
    AddAnswered,
    SecretWritten,
    EarlierWritten,
    RemoveArrived,
    RemovePerformed,
    RemoveAnswered,
    RemovalWritten,
    /// Any time.
    Anytime,
}

use KillPoint::*;

/// Recognizes kill points from the changes of an object.
#[derive(Default)]
pub struct EventTap(HashMap<String, BTreeSet<KillPoint>>);

// === impl KillPoint ===

impl KillPoint {
    /// Those of objects with a Secret.
    pub const ALL: [Self; 20] = [
        FinalizerSet,
        Listed,
        IntentWritten,
        CreateArrived,
        CreatePerformed,
        CreateAnswered,
        RegistrationWritten,
        RenameArrived,
        RenamePerformed,
        RenameAnswered,
        NameWritten,
        UpdateIntentWritten,
        UpdateArrived,
        UpdatePerformed,
        UpdateAnswered,
        DeletionAsked,
        DeleteArrived,
        DeletePerformed,
        DeleteAnswered,
        Anytime,
    ];

    /// Those of objects whose client secret rotates.
    pub const ROTATION: [Self; 20] = [
        AttemptWritten,
        AddArrived,
        UpdatePerformed,
        RemoveArrived,
        RemovalWritten,
        AddPerformed,
        AddAnswered,
        UpdateIntentWritten,
        EarlierWritten,
        DeletionAsked,
        SecretWritten,
        CreatePerformed,
        UpdateArrived,
        RemovePerformed,
        Anytime,
        AppRead,
        CreateArrived,
        UpdateAnswered,
        RegistrationWritten,
        RemoveAnswered,
    ];

    /// The kill point of a request at Graph.
    pub fn of_graph(progress: &graph::Progress) -> Option<Self> {
        Some(match (progress.op, progress.point) {
            (graph::Op::AddPassword, Point::Arrived) => AddArrived,
            (graph::Op::AddPassword, Point::Performed) => AddPerformed,
            (graph::Op::AddPassword, Point::Answered) => AddAnswered,
            (graph::Op::RemovePassword, Point::Arrived) => RemoveArrived,
            (graph::Op::RemovePassword, Point::Performed) => RemovePerformed,
            (graph::Op::RemovePassword, Point::Answered) => RemoveAnswered,
            (_, Point::Answered) => AppRead,
            (_, Point::Arrived | Point::Performed) => return None,
        })
    }

    pub fn of(progress: &Progress) -> Option<Self> {
        Some(match (progress.op, progress.point) {
            (Op::List, Point::Answered) => Listed,
            (Op::Create, Point::Arrived) => CreateArrived,
            (Op::Create, Point::Performed) => CreatePerformed,
            (Op::Create, Point::Answered) => CreateAnswered,
            (Op::Rename, Point::Arrived) => RenameArrived,
            (Op::Rename, Point::Performed) => RenamePerformed,
            (Op::Rename, Point::Answered) => RenameAnswered,
            (Op::Update, Point::Arrived) => UpdateArrived,
            (Op::Update, Point::Performed) => UpdatePerformed,
            (Op::Update, Point::Answered) => UpdateAnswered,
            (Op::Delete, Point::Arrived) => DeleteArrived,
            (Op::Delete, Point::Performed) => DeletePerformed,
            (Op::Delete, Point::Answered) => DeleteAnswered,
            (Op::List, Point::Arrived | Point::Performed)
            | (Op::Companies | Op::Me | Op::ListMailboxes | Op::Connect | Op::Other, _) => {
                return None;
            }
        })
    }
}

// === impl EventTap ===

impl EventTap {
    /// The kill points that the object has newly reached.
    pub fn observe(&mut self, object: &MicrosoftGraphCredential) -> Vec<KillPoint> {
        let now = reached(object);
        let before = self.0.insert(object.uid().unwrap_or_default(), now.clone()).unwrap_or_default();
        now.difference(&before).copied().collect()
    }
}

fn reached(object: &MicrosoftGraphCredential) -> BTreeSet<KillPoint> {
    let status = object.status.as_ref();
    let registration = status.and_then(|status| status.registration.as_ref());
    let has = |is_so: &dyn Fn(&Registration) -> bool| registration.is_some_and(is_so);
    let rotation = status.and_then(|status| status.rotation.as_deref());
    let rotates = |is_so: &dyn Fn(&RotationStatus) -> bool| rotation.is_some_and(is_so);
    let is_marked = |it: &Registration| it.name.ends_with(']');
    [
        (FinalizerSet, !object.finalizers().is_empty()),
        (IntentWritten, status.is_some_and(|status| status.pending_create.is_some())),
        (RegistrationWritten, has(&is_marked)),
        (NameWritten, has(&|it| !is_marked(it))),
        (UpdateIntentWritten, has(&|it| it.fingerprint == Registration::UNKNOWN)),
        (DeletionAsked, object.is_deleted()),
        (AttemptWritten, rotates(&|it| it.attempt.is_some())),
        (SecretWritten, rotates(&|it| it.pending.is_some())),
        (EarlierWritten, rotates(&|it| it.earlier.iter().any(|it| it.remove_after_time.is_some()))),
        (RemovalWritten, rotates(&|it| it.earlier.iter().any(|it| it.removal_time.is_some()))),
    ]
    .into_iter()
    .filter_map(|(kill_point, is_so)| is_so.then_some(kill_point))
    .collect()
}
