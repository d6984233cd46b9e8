//! What there is to tell. PURE.

/// Something to tell people as an event of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is bad news.
    pub is_warning: bool,
    /// One word, stable.
    pub reason: &'static str,
    /// What was being done.
    pub action: &'static str,
    /// What is so and what to do.
    pub text: String,
    /// Ids and times by which the remote side finds the request, where there was one; they differ on each try.
    pub ids: String,
}
