//! A session that the broker resumes, and of which the client of MQTT 5 has nothing of its own: each connection is made by a new
//! client. That one would ask for nothing in such a session, as it can't know which packet ids are taken. None are: acknowledgements
//! are all that is ever under way at its end, and a question whose answer was lost is asked again.

use std::future::Future;
use std::pin::Pin;

use rumqttc_v5 as v5;

/// The answer of a store.
type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, v5::SessionStoreError>> + Send + 'a>>;

/// A session in which nothing is under way.
#[derive(Debug)]
pub(super) struct Resumed {
    session: v5::PersistedSession,
}

impl Resumed {
    /// The session of these options, which are complete but for this.
    pub(super) fn of(options: &v5::MqttOptions) -> Self {
        Self {
            session: v5::PersistedSession {
                format_version: 1,
                client_id: options.client_id(),
                clean_start: options.clean_start(),
                session_expiry_interval: options.session_expiry_interval(),
                outgoing_inflight_upper_limit: options.get_outgoing_inflight_upper_limit(),
                ack_mode: v5::PersistedAckMode::Manual,
                last_pkid: 0,
                last_puback: 0,
                replay: Vec::new(),
                incoming_qos2: Vec::new(),
            },
        }
    }
}

impl v5::SessionStore for Resumed {
    fn load<'a>(&'a self, _: &'a v5::SessionStoreKey) -> Stored<'a, Option<v5::PersistedSession>> {
        Box::pin(std::future::ready(Ok(Some(self.session.clone()))))
    }

    fn save<'a>(&'a self, _: &'a v5::SessionStoreKey, _: &'a v5::PersistedSession) -> Stored<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a v5::SessionStoreKey) -> Stored<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}
