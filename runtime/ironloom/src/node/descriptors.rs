//! How many files and connections the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. The usual soft limit, 1,024, is met by the connections alone; programs that
/// use `select` need it, and this one doesn't.
pub(super) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "the limit of open files was raised"),
        Err(error) => tracing::warn!(?current, ?maximum, %error, "the limit of open files can't be raised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn afterwards_the_soft_limit_is_the_hard_one() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Enough for the other tests of this process.
        let lower = Some(maximum.map_or(10_000, |maximum| maximum / 2));
        assert_ne!(lower, maximum);
        setrlimit(Resource::Nofile, Rlimit { current: lower, maximum }).unwrap();
        raise_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
