//! Without feature `tokio`: there is nothing to enter.

#[derive(Debug, Default)]
pub(crate) struct TokioContext(());

/// Nothing was entered.
pub(crate) struct NotEntered;

impl TokioContext {
    pub(crate) fn enter(&self) -> NotEntered {
        NotEntered
    }
}
