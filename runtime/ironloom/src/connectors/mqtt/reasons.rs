//! The reasons for which a broker, or the way to it, doesn't do what it is asked for: each says what to do.

use std::io::{self, ErrorKind};

use rumqttc_v4 as v3;
use rumqttc_v5 as v5;

use super::status::{Reported, text};

/// The longest packet that is taken of a broker of 3.1.1, which can't be told: one that is longer ends the connection, and
/// comes again.
pub(super) const MAX_PACKET_V3: usize = 16 << 20;

/// The reason why a connection isn't made, or has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub reason: String,
    /// The broker may speak the other version of the protocol only.
    pub other_version: bool,
    /// It has said so, and not only hung up.
    pub is_told: bool,
}

impl From<String> for Ended {
    fn from(reason: String) -> Self {
        Self { reason, other_version: false, is_told: false }
    }
}

/// Advice for each reason, in words that both versions share.
const PASSWORD: &str =
    "the broker refuses the user or the password; look at `user` and at `password_file` or `password_env`";
const NOT_AUTHORIZED: &str = "the broker doesn't let this client in; look at `user` and at `password_file` or `password_env`, and at the \
                              broker's access list";
const CLIENT_ID: &str = "the broker refuses the client id; name another by `client_id`";
const UNAVAILABLE: &str = "the broker isn't available now; it is asked again";
const TOO_LONG: &str = "it would come again with each connection. Have the broker refuse such messages (`message_size_limit` of mosquitto), \
                        and take this one out of the session: by a client of the same client id that acknowledges it, or by \
                        another `client_id`, which begins a session without what waits";
const OTHER_CLIENT: &str = "another client has connected with the same client id; each server and connector needs a `client_id` of its own";

/// Returns a broker's words and limits, of version 5.
pub(super) fn reported(all: v5::ConnAckProperties) -> Reported {
    Reported {
        reason: text(all.reason_string),
        client_id: text(all.assigned_client_identifier),
        session_expiry_seconds: all.session_expiry_interval,
        keep_alive_seconds: all.server_keep_alive,
        receive_maximum: all.receive_max,
        maximum_packet_size: all.max_packet_size,
        maximum_qos: all.max_qos,
        topic_alias_maximum: all.topic_alias_max,
        retained_messages: all.retain_available.map(|is| is != 0),
        wildcards: all.wildcard_subscription_available.map(|is| is != 0),
        subscription_identifiers: all.subscription_identifiers_available.map(|is| is != 0),
        other_broker: text(all.server_reference),
    }
}

/// The reason why a filter brings nothing, or not what it should.
pub(super) fn of_filter_v5(code: &v5::SubscribeReasonCode) -> Option<String> {
    Some(match code {
        v5::SubscribeReasonCode::Success(qos) => return too_low(*qos == v5::QoS::AtMostOnce),
        v5::SubscribeReasonCode::NotAuthorized => not_readable(),
        v5::SubscribeReasonCode::WildcardSubscriptionsNotSupported => {
            "the broker has no wildcards, which each name in braces becomes; write such topics one by one"
                .to_owned()
        }
        v5::SubscribeReasonCode::QuotaExceeded => "the broker allows no more subscriptions".to_owned(),
        other => format!("the broker refuses it: {other:?}"),
    })
}

/// The same of 3.1.1, which gives no reasons.
pub(super) fn of_filter_v3(code: v3::SubscribeReasonCode) -> Option<String> {
    match code {
        v3::SubscribeReasonCode::Success(qos) => too_low(qos == v3::QoS::AtMostOnce),
        v3::SubscribeReasonCode::Failure => Some(not_readable()),
    }
}

fn too_low(is_at_most_once: bool) -> Option<String> {
    let reason =
        "the broker grants quality of service 0 only: what comes while there is no connection is lost";
    is_at_most_once.then(|| reason.to_owned())
}

fn not_readable() -> String {
    "the broker refuses it; its access list must let this user read it".to_owned()
}

pub(super) fn ended_v5(error: v5::ConnectionError) -> Ended {
    use v5::ConnectReturnCode as Code;
    let mut other_version = false;
    let said = match &error {
        v5::ConnectionError::ConnectionRefused(code) => match code {
            Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => {
                other_version = true;
                Some("the broker doesn't speak MQTT 5; leave `version` out, or set it to \"3.1.1\"")
            }
            Code::BadUserNamePassword => Some(PASSWORD),
            Code::NotAuthorized => Some(NOT_AUTHORIZED),
            Code::BadClientId | Code::ClientIdentifierNotValid => Some(CLIENT_ID),
            Code::ServiceUnavailable | Code::ServerUnavailable | Code::ServerBusy => Some(UNAVAILABLE),
            Code::Banned => Some("the broker has banned this client"),
            Code::UseAnotherServer | Code::ServerMoved => {
                Some("the broker points to another one; name that by `broker`")
            }
            _ => None,
        },
        v5::ConnectionError::MqttState(state) => {
            // One that speaks 3.1.1 only may answer in it, or hang up.
            other_version = true;
            match state {
                v5::StateError::Deserialization(v5::mqttbytes::Error::PayloadSizeLimitExceeded {
                    pkt_size,
                    max,
                }) => {
                    return too_long(*pkt_size, u64::from(*max));
                }
                v5::StateError::IncomingPacketTooLarge { pkt_size, max } => {
                    return too_long(*pkt_size, *max as u64);
                }
                v5::StateError::ServerDisconnect {
                    reason_code: v5::DisconnectReasonCode::SessionTakenOver,
                    ..
                } => Some(OTHER_CLIENT),
                v5::StateError::Io(error) => of_io(error),
                v5::StateError::ConnectionAborted => Some(HUNG_UP),
                _ => None,
            }
        }
        v5::ConnectionError::NotConnAck(_) => {
            other_version = true;
            None
        }
        v5::ConnectionError::Io(error) => of_io(error),
        v5::ConnectionError::Tls(error) => of_tls(&error.to_string()),
        v5::ConnectionError::Timeout(_) => {
            // One that speaks 3.1.1 only may wait for the rest of what it takes for a packet of that.
            other_version = true;
            Some(TIMEOUT)
        }
        _ => None,
    };
    let is_told = matches!(
        &error,
        v5::ConnectionError::ConnectionRefused(_)
            | v5::ConnectionError::NotConnAck(_)
            // It waits for the rest of what it takes for a packet of the other version.
            | v5::ConnectionError::Timeout(_)
            | v5::ConnectionError::MqttState(v5::StateError::Deserialization(_))
    );
    Ended { is_told, ..ended(said, &error.to_string(), other_version) }
}

pub(super) fn ended_v3(error: v3::ConnectionError) -> Ended {
    use v3::ConnectReturnCode as Code;
    let mut other_version = false;
    let said = match &error {
        v3::ConnectionError::ConnectionRefused(code) => match code {
            Code::RefusedProtocolVersion => {
                other_version = true;
                Some("the broker doesn't speak MQTT 3.1.1; leave `version` out, or set it to \"5\"")
            }
            Code::BadUserNamePassword => Some(PASSWORD),
            Code::NotAuthorized => Some(NOT_AUTHORIZED),
            Code::BadClientId => Some(CLIENT_ID),
            Code::ServiceUnavailable => Some(UNAVAILABLE),
            Code::Success => None,
        },
        v3::ConnectionError::MqttState(state) => match state {
            v3::StateError::Deserialization(v3::mqttbytes::Error::PayloadSizeLimitExceeded(size)) => {
                return too_long(*size, MAX_PACKET_V3 as u64);
            }
            v3::StateError::Io(error) => of_io(error),
            v3::StateError::ConnectionAborted => Some(HUNG_UP),
            _ => None,
        },
        v3::ConnectionError::Io(error) => of_io(error),
        v3::ConnectionError::Tls(error) => of_tls(&error.to_string()),
        v3::ConnectionError::NetworkTimeout => {
            other_version = true;
            Some(TIMEOUT)
        }
        _ => None,
    };
    let is_told =
        matches!(&error, v3::ConnectionError::ConnectionRefused(_) | v3::ConnectionError::NetworkTimeout);
    Ended { is_told, ..ended(said, &error.to_string(), other_version) }
}

const TIMEOUT: &str =
    "the broker doesn't answer; look if it runs at this address, and if TLS is as it expects (mqtts://)";
const HUNG_UP: &str = "the broker has closed the connection; it may refuse the user or the password, or expect TLS (mqtts://), or another client may have taken the client id";

/// Puts the advice first, and the error behind it.
fn ended(said: Option<&str>, error: &str, other_version: bool) -> Ended {
    let said = said.or_else(|| of_tls(error));
    let reason = said.map_or_else(|| error.to_owned(), |said| format!("{said} ({error})"));
    Ended { reason, other_version, is_told: false }
}

fn too_long(bytes: usize, most: u64) -> Ended {
    let reason = format!("a message of {bytes} bytes came, and at most {most} are taken: {TOO_LONG}");
    Ended { reason, other_version: false, is_told: false }
}

fn of_io(error: &io::Error) -> Option<&'static str> {
    // TLS tells what it finds by an error of this kind.
    if let Some(said) = of_tls(&error.to_string()) {
        return Some(said);
    }
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => {
            "nothing listens there; look if the broker runs, and if the port is right: 1883, or 8883 with TLS, by default"
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "there is no way to the broker; look at the address and the network"
        }
        ErrorKind::TimedOut => TIMEOUT,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof => HUNG_UP,
        _ if error.to_string().contains("lookup address") => {
            "the broker's name isn't known; look at `broker` and at the name server"
        }
        _ => return None,
    })
}

/// The library's errors are texts behind several others: they are known by their words.
fn of_tls(error: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 8] = [
        (
            "UnknownIssuer",
            "the broker's certificate isn't from a trusted authority; name its authority by `ca`",
        ),
        ("not valid for name", "the broker's certificate is for another name; write that name in `broker`"),
        (
            "certificate expired",
            "the broker's certificate has expired, or the clock of this machine is wrong",
        ),
        ("not valid yet", "the broker's certificate isn't valid yet, or the clock of this machine is wrong"),
        ("CertificateRequired", "the broker asks for a certificate; name it by `certificate` and `key`"),
        ("UnknownCA", "the broker doesn't trust the authority of `certificate`"),
        ("BadCertificate", "the broker refuses `certificate`"),
        (
            "InvalidMessage",
            "what answers there doesn't speak TLS; look at the port, or write mqtt:// in `broker`",
        ),
    ];
    KNOWN.iter().find(|(word, _)| error.contains(word)).map(|(_, said)| *said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_says_what_to_do_and_the_error_stands_behind_it() {
        let refused = |code| ended_v5(v5::ConnectionError::ConnectionRefused(code));
        let password = refused(v5::ConnectReturnCode::BadUserNamePassword);
        assert!(
            password.reason.contains("look at `user`") && password.reason.contains("BadUserNamePassword")
        );
        assert!(!password.other_version);
        assert!(refused(v5::ConnectReturnCode::UnsupportedProtocolVersion).other_version);
        let nothing = ended_v3(v3::ConnectionError::Io(ErrorKind::ConnectionRefused.into()));
        assert!(nothing.reason.starts_with("nothing listens there"), "{}", nothing.reason);
        let tls = io::Error::new(ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer");
        let unknown = ended_v5(v5::ConnectionError::Io(tls));
        assert!(unknown.reason.contains("name its authority by `ca`"), "{}", unknown.reason);
        let alert = "Mqtt serialization/deserialization error: IO: received fatal alert: CertificateRequired";
        let asks = ended(None, alert, false).reason;
        assert!(asks.starts_with("the broker asks for a certificate") && asks.contains(alert), "{asks}");
    }

    #[test]
    fn a_message_that_is_too_long_says_how_to_be_rid_of_it() {
        let long =
            v3::StateError::Deserialization(v3::mqttbytes::Error::PayloadSizeLimitExceeded(20_000_000));
        let reason = ended_v3(v3::ConnectionError::MqttState(long)).reason;
        assert!(
            reason.starts_with("a message of 20000000 bytes came, and at most 16777216 are taken"),
            "{reason}"
        );
        assert!(reason.contains("message_size_limit"), "{reason}");
    }

    #[test]
    fn a_filter_without_what_it_needs_says_so() {
        assert_eq!(of_filter_v5(&v5::SubscribeReasonCode::Success(v5::QoS::AtLeastOnce)), None);
        let low = of_filter_v3(v3::SubscribeReasonCode::Success(v3::QoS::AtMostOnce)).unwrap();
        assert!(low.contains("quality of service 0 only"), "{low}");
        assert!(of_filter_v3(v3::SubscribeReasonCode::Failure).unwrap().contains("access list"));
    }
}
