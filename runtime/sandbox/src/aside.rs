//! Work that takes long, or may wait for a disk, on a thread that nobody else waits for.

/// The work panicked, or the process is about to end. A panic has been printed where it happened; whoever waits for the
/// work gets this error, and nothing else ends by it.
#[derive(Debug, thiserror::Error)]
#[error("work of the server itself was broken off: {0}")]
pub struct BrokenOff(String);

impl From<BrokenOff> for std::io::Error {
    fn from(error: BrokenOff) -> Self {
        Self::other(error)
    }
}

/// Runs work on a thread made for that. Needs a tokio runtime.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BrokenOff> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BrokenOff(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_of_whoever_waits() {
        assert_eq!(aside(|| 7).await.unwrap(), 7);
        let error = aside(|| assert_eq!(1, 2, "boom")).await.unwrap_err().to_string();
        assert!(
            error.starts_with("work of the server itself was broken off: ") && error.contains("boom"),
            "{error}"
        );
    }
}
