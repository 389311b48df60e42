//! A connection to a broker, in either version of the protocol. The crates behind it are young: beside this file only
//! `reasons.rs` and `resumed.rs` know them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc_v4 as v3;
use rumqttc_v5 as v5;
use tokio::sync::watch;

use super::config::{MqttConfig, Retained, Secret, Version};
use super::reasons::{Ended, MAX_PACKET_V3, ended_v3, ended_v5, of_filter_v3, of_filter_v5, reported};
use super::resumed::Resumed;
use super::status::{Reported, text};
use crate::aside::aside;
use crate::connectors::run::told_to_stop;
use ironloom_storage::small_files;

/// Longest packet that is taken: a reading has 64 KiB at most, a payload with many fields some more.
pub(super) const MAX_PACKET: u32 = 1 << 20;
/// The most messages of ours that may wait for the broker's answer on a connection. The crates look through all of them at
/// each write, and whoever publishes hands no more over, so that none waits inside of them.
pub(super) const MAX_OUTGOING: u16 = 100;
/// Longest file of a certificate, key or password.
const MAX_FILE: u64 = 1 << 20;
/// The time for the last bytes.
const LEAVE: Duration = Duration::from_secs(2);
/// Time to be connected.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// A message of the broker.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub topic: Bytes,
    pub payload: Bytes,
    /// 0 where the broker wants no acknowledgement.
    pub id: u16,
    /// It was sent before, over another connection.
    pub dup: bool,
    /// The broker had kept it.
    pub retain: bool,
    /// The numbers of the subscriptions that it comes by, of those that have one.
    pub subscriptions: Vec<usize>,
}

/// An event of the connection: a packet of the broker's, or one of ours that was written.
#[derive(Debug)]
pub(super) enum Heard {
    /// The broker has taken the connection.
    ConnAck {
        /// It has kept the session.
        session: bool,
        /// Its own words and limits.
        reported: Reported,
    },
    /// For each filter of the SUBSCRIBE of this id: the reason where it brings nothing, or not what it should.
    SubAck(u16, Vec<Option<String>>),
    UnsubAck,
    Publish(Message),
    /// The broker's answer to a message of ours.
    PubAck(u16, Ack),
    /// The next SUBSCRIBE that was handed over has this id.
    SentSubscribe(u16),
    /// Our acknowledgement of a message.
    SentPubAck(u16),
    /// The next message that was handed over has this id.
    SentPublish(u16),
    /// Of no concern.
    Other,
}

/// The answer of a broker to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    Taken,
    /// Nobody has subscribed to its topic.
    NobodyThere(String),
    Refused(String),
}

/// The use of a connection. Each has one of its own: what waits in one doesn't hold up the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Readings,
    SetPoints,
    /// For what apps have derived.
    Publish,
    /// To see what comes, while a server may run.
    Trial,
}

impl Use {
    /// The id by which the broker knows the client.
    pub(super) fn client_id(self, config: &MqttConfig) -> String {
        match self {
            Self::Readings => config.client_id.clone(),
            Self::SetPoints => format!("{}{SET_POINTS}", config.client_id),
            Self::Publish => format!("{}{PUBLISH}", config.client_id),
            Self::Trial => format!("{}{TRIAL}", config.client_id),
        }
    }

    /// Returns true where the broker is to keep what comes while there is no connection.
    fn keeps_session(self) -> bool {
        self == Self::Readings
    }
}

/// The end of the client id of the connection for set-points.
pub(super) const SET_POINTS: &str = "-set-points";
/// The same of the one for what is published.
pub(super) const PUBLISH: &str = "-publish";
/// The same of a trial.
const TRIAL: &str = "-test";

/// A client of either version, with the loop that drives it.
pub(super) enum Link {
    V5(Box<(v5::AsyncClient, v5::EventLoop)>),
    V3(Box<(v3::AsyncClient, v3::EventLoop)>),
}

/// The reason why there is no connection.
pub(super) enum NotConnected {
    /// The connector is to stop.
    Stopped,
    Ended(Ended),
}

impl Link {
    /// Prepares a connection: [`Self::next`] makes it. Reads the files that the configuration names.
    pub(super) async fn open(
        config: &Arc<MqttConfig>,
        version: Version,
        use_for: Use,
    ) -> Result<Self, Ended> {
        let files = Arc::clone(config);
        let read = aside(move || Secrets::read(&files)).await;
        let secrets = read.map_err(|error| error.to_string())??;
        Ok(match version {
            Version::V5 => Self::V5(Box::new(open_v5(config, secrets, use_for)?)),
            Version::V3 => Self::V3(Box::new(open_v3(config, secrets, use_for)?)),
        })
    }

    /// Makes a connection, unless the connector is to stop. Returns whether the broker has kept the session, and its own
    /// words and limits.
    pub(super) async fn connect(
        config: &Arc<MqttConfig>,
        version: Version,
        use_for: Use,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<(Self, bool, Reported), NotConnected> {
        let mut link = Self::open(config, version, use_for).await.map_err(NotConnected::Ended)?;
        let connected = tokio::select! {
            () = told_to_stop(shutdown) => return Err(NotConnected::Stopped),
            connected = link.connected() => connected,
        };
        let (session, reported) = connected.map_err(NotConnected::Ended)?;
        Ok((link, session, reported))
    }

    /// Waits until the broker has taken it. Not to be dropped and called again: what was made of it goes with the future.
    async fn connected(&mut self) -> Result<(bool, Reported), Ended> {
        let connected = async {
            loop {
                if let Heard::ConnAck { session, reported } = self.next().await? {
                    return Ok((session, reported));
                }
            }
        };
        // The crates have a limit of their own, which ends with the answer to a first packet.
        let late = |_| Err(Ended::from("the broker didn't take the connection in time".to_owned()));
        tokio::time::timeout(2 * CONNECT, connected).await.unwrap_or_else(late)
    }

    /// Waits for what comes next. May be dropped at any time once the broker has taken the connection.
    pub(super) async fn next(&mut self) -> Result<Heard, Ended> {
        match self {
            Self::V5(link) => {
                let heard = link.1.poll().await.map(of_v5).map_err(ended_v5);
                if matches!(heard, Ok(Heard::ConnAck { .. })) {
                    // It is for the beginning: each acknowledgement would have it written anew.
                    link.1.options.clear_session_store();
                }
                heard
            }
            Self::V3(link) => link.1.poll().await.map(of_v3).map_err(ended_v3),
        }
    }

    /// Subscribes. With MQTT 5 the subscription may have a number.
    pub(super) fn subscribe(
        &self,
        filters: &[String],
        number: Option<usize>,
        retained: Retained,
    ) -> Result<(), Ended> {
        let asked = match self {
            Self::V5(link) => {
                let rule = match retained {
                    Retained::None => v5::RetainForwardRule::Never,
                    Retained::Latest => v5::RetainForwardRule::OnEverySubscribe,
                    // Else they would come again with each connection.
                    Retained::All => v5::RetainForwardRule::OnNewSubscribe,
                };
                let filter = |filter: &String| {
                    v5::SubscribeFilterInput::new(filter, v5::QoS::AtLeastOnce)
                        .preserve_retain(false)
                        .retain_forward_rule(rule.clone())
                };
                let numbered = v5::SubscribeProperties { id: number, user_properties: Vec::new() };
                link.0
                    .try_subscribe_many_with_properties(filters.iter().map(filter), numbered)
                    .map_err(|error| error.to_string())
            }
            Self::V3(link) => {
                let filter = |filter: &String| v3::SubscribeFilter::new(filter.clone(), v3::QoS::AtLeastOnce);
                link.0.try_subscribe_many(filters.iter().map(filter)).map_err(|error| error.to_string())
            }
        };
        asked.map_err(Ended::from)
    }

    /// Takes filters out of the session.
    pub(super) fn unsubscribe(&self, filters: &[String]) -> Result<(), Ended> {
        let asked = match self {
            Self::V5(link) => {
                link.0.try_unsubscribe_many(filters.iter().cloned()).map_err(|error| error.to_string())
            }
            Self::V3(link) => {
                link.0.try_unsubscribe_many(filters.iter().cloned()).map_err(|error| error.to_string())
            }
        };
        asked.map_err(Ended::from)
    }

    /// Acknowledges a message.
    pub(super) fn acknowledge(&self, id: u16) -> Result<(), Ended> {
        let told = match self {
            Self::V5(link) => {
                let ack = v5::ManualAck::PubAck(v5::PubAck::new(id, None));
                link.0.try_manual_ack(ack).map_err(|error| error.to_string())
            }
            Self::V3(link) => {
                let ack = v3::ManualAck::PubAck(v3::PubAck::new(id));
                link.0.try_manual_ack(ack).map_err(|error| error.to_string())
            }
        };
        told.map_err(Ended::from)
    }

    /// Hands a message over, to be sent with QoS 1. A broker of version 5 drops it after so many seconds.
    pub(super) fn publish(
        &self,
        topic: String,
        payload: Vec<u8>,
        retain: bool,
        expiry: Option<u32>,
        about: Vec<(String, String)>,
    ) -> Result<(), Ended> {
        let told = match self {
            Self::V5(link) => {
                let properties = v5::PublishProperties {
                    message_expiry_interval: expiry,
                    user_properties: about,
                    ..v5::PublishProperties::default()
                };
                let options = v5::PublishOptions::at_least_once().retain(retain).properties(properties);
                link.0.try_publish(topic, payload, options).map_err(|error| error.to_string())
            }
            Self::V3(link) => {
                let options = v3::PublishOptions::at_least_once().retain(retain);
                link.0.try_publish(topic, payload, options).map_err(|error| error.to_string())
            }
        };
        told.map_err(Ended::from)
    }

    /// Takes leave, and gives what is still to be written a while for it; the session stays with the broker.
    pub(super) async fn leave(&mut self) {
        let told = match self {
            Self::V5(link) => link.0.try_disconnect().is_ok(),
            Self::V3(link) => link.0.try_disconnect().is_ok(),
        };
        if told {
            let gone = async { while self.next().await.is_ok() {} };
            let _ = tokio::time::timeout(LEAVE, gone).await;
        }
    }
}

/// The contents of files and of the environment.
struct Secrets {
    password: Option<String>,
    ca: Option<Vec<u8>>,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
}

impl Secrets {
    fn read(config: &MqttConfig) -> Result<Self, String> {
        let password = config.password.as_ref().map(|secret| match secret {
            Secret::File(path) => {
                let text =
                    small_files::read_secret_text(path, MAX_FILE).map_err(|error| error.to_string())?;
                Ok::<_, String>(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            Secret::Variable(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => format!("the environment variable {name} isn't set"),
                // The error has the password in it.
                std::env::VarError::NotUnicode(_) => {
                    format!("the environment variable {name} isn't UTF-8; put the password into a file")
                }
            }),
        });
        let certificate = config
            .certificate
            .as_ref()
            .map(|(certificate, key)| Ok::<_, String>((file(certificate)?, secret_file(key)?)));
        Ok(Self {
            password: password.transpose()?,
            ca: config.ca.as_deref().map(file).transpose()?,
            certificate: certificate.transpose()?,
        })
    }
}

fn file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    small_files::read(path, MAX_FILE).map_err(|error| error.to_string())
}

fn secret_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    small_files::read_secret(path, MAX_FILE).map_err(|error| error.to_string())
}

/// Says what would keep a connection from being made, as far as that is known here. May wait for a disk.
pub(in crate::connectors) fn check(config: &MqttConfig) -> Result<(), String> {
    let secrets = Secrets::read(config)?;
    tls(config, &secrets).map(|_| ())
}

fn tls(config: &MqttConfig, secrets: &Secrets) -> Result<Option<v5::TlsConfiguration>, String> {
    if !config.broker.tls {
        return Ok(None);
    }
    let Some(ca) = secrets.ca.clone() else {
        let roots = v5::TlsConfiguration::try_default_rustls();
        return roots.map(Some).map_err(|error| format!("the certificates of the system: {error}"));
    };
    Ok(Some(v5::TlsConfiguration::Simple { ca, alpn: None, client_auth: secrets.certificate.clone() }))
}

/// Acknowledgements that may wait to be sent: all that the broker may wait for, and as many again.
const REQUESTS: usize = 1 << 17;

fn open_v5(
    config: &MqttConfig,
    secrets: Secrets,
    use_for: Use,
) -> Result<(v5::AsyncClient, v5::EventLoop), String> {
    let kept = u32::try_from(config.session_expiry.duration().as_secs()).ok();
    let session = kept.filter(|_| use_for.keeps_session());
    let mut options =
        v5::MqttOptions::new(use_for.client_id(config), (config.broker.host.clone(), config.broker.port));
    options
        .set_keep_alive(keep_alive(config))
        .set_connect_timeout(CONNECT)
        .set_clean_start(!use_for.keeps_session())
        .set_session_expiry_interval(session)
        .set_receive_maximum(Some(config.receive_maximum))
        .set_incoming_packet_size_limit(v5::IncomingPacketSizeLimit::Bytes(MAX_PACKET))
        .set_max_packet_size(Some(MAX_PACKET))
        .set_ack_mode(v5::AckMode::Manual)
        .set_outgoing_inflight_upper_limit(MAX_OUTGOING);
    let mut network = v5::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some(tls) = tls(config, &secrets)? {
        options.set_transport(v5::Transport::tls_with_config(tls));
    }
    match (&config.user, secrets.password) {
        (Some(user), Some(password)) => drop(options.set_credentials(user, password)),
        (Some(user), None) => drop(options.set_username(user)),
        (None, _) => {}
    }
    options.set_session_store(Resumed::of(&options));
    options.validate().map_err(|error| error.to_string())?;
    Ok(v5::AsyncClient::builder(options).capacity(REQUESTS).build())
}

fn open_v3(
    config: &MqttConfig,
    secrets: Secrets,
    use_for: Use,
) -> Result<(v3::AsyncClient, v3::EventLoop), String> {
    let mut options =
        v3::MqttOptions::new(use_for.client_id(config), (config.broker.host.clone(), config.broker.port));
    options
        .set_keep_alive(keep_alive(config))
        .set_clean_session(!use_for.keeps_session())
        .set_max_packet_size(MAX_PACKET_V3, MAX_PACKET_V3)
        .set_ack_mode(v3::AckMode::Manual)
        .set_inflight(MAX_OUTGOING);
    let mut network = v3::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT.as_secs());
    if let Some(tls) = tls(config, &secrets)? {
        options.set_transport(v3::Transport::tls_with_config(tls));
    }
    match (&config.user, secrets.password) {
        (Some(user), Some(password)) => drop(options.set_credentials(user, password)),
        (Some(user), None) => drop(options.set_username(user)),
        (None, _) => {}
    }
    let (client, mut events) = v3::AsyncClient::builder(options).capacity(REQUESTS).build();
    events.set_network_options(network);
    Ok((client, events))
}

fn keep_alive(config: &MqttConfig) -> u16 {
    u16::try_from(config.keep_alive.duration().as_secs()).unwrap_or(u16::MAX)
}

fn of_v5(event: v5::Event) -> Heard {
    match event {
        v5::Event::Incoming(v5::Packet::Publish(publish)) => Heard::Publish(Message {
            topic: publish.topic,
            payload: publish.payload,
            id: publish.pkid,
            dup: publish.dup,
            retain: publish.retain,
            subscriptions: publish.properties.map(|all| all.subscription_identifiers).unwrap_or_default(),
        }),
        v5::Event::Incoming(v5::Packet::ConnAck(ack)) => {
            let reported = ack.properties.map(reported).unwrap_or_default();
            Heard::ConnAck { session: ack.session_present, reported }
        }
        v5::Event::Incoming(v5::Packet::SubAck(ack)) => {
            Heard::SubAck(ack.pkid, ack.return_codes.iter().map(of_filter_v5).collect())
        }
        v5::Event::Incoming(v5::Packet::UnsubAck(_)) => Heard::UnsubAck,
        v5::Event::Outgoing(v5::Outgoing::Subscribe(id)) => Heard::SentSubscribe(id),
        v5::Event::Outgoing(v5::Outgoing::PubAck(id)) => Heard::SentPubAck(id),
        v5::Event::Outgoing(v5::Outgoing::Publish(id)) => Heard::SentPublish(id),
        v5::Event::Incoming(v5::Packet::PubAck(ack)) => Heard::PubAck(ack.pkid, answer(&ack)),
        _ => Heard::Other,
    }
}

fn answer(ack: &v5::PubAck) -> Ack {
    let said = text(ack.properties.as_ref().and_then(|all| all.reason_string.clone()));
    let with = |reason: String| said.map_or_else(|| reason.clone(), |said| format!("{reason} ({said})"));
    match ack.reason {
        v5::PubAckReason::Success => Ack::Taken,
        v5::PubAckReason::NoMatchingSubscribers => {
            Ack::NobodyThere(with("nobody has subscribed to its topic".to_owned()))
        }
        other => Ack::Refused(with(format!("the broker refuses it: {other:?}"))),
    }
}

fn of_v3(event: v3::Event) -> Heard {
    match event {
        v3::Event::Incoming(v3::Packet::Publish(publish)) => Heard::Publish(Message {
            topic: publish.topic,
            payload: publish.payload,
            id: publish.pkid,
            dup: publish.dup,
            retain: publish.retain,
            subscriptions: Vec::new(),
        }),
        v3::Event::Incoming(v3::Packet::ConnAck(ack)) => {
            Heard::ConnAck { session: ack.session_present, reported: Reported::default() }
        }
        v3::Event::Incoming(v3::Packet::SubAck(ack)) => {
            Heard::SubAck(ack.pkid, ack.return_codes.into_iter().map(of_filter_v3).collect())
        }
        v3::Event::Incoming(v3::Packet::UnsubAck(_)) => Heard::UnsubAck,
        v3::Event::Outgoing(v3::Outgoing::Subscribe(id)) => Heard::SentSubscribe(id),
        v3::Event::Outgoing(v3::Outgoing::PubAck(id)) => Heard::SentPubAck(id),
        v3::Event::Outgoing(v3::Outgoing::Publish(id)) => Heard::SentPublish(id),
        v3::Event::Incoming(v3::Packet::PubAck(ack)) => Heard::PubAck(ack.pkid, Ack::Taken),
        _ => Heard::Other,
    }
}
