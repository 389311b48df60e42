//! The configuration of a connector to an MQTT broker.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::filters::without_covered;
use super::payload::{Form, Rules};
use super::publish::{self, Publish};
use super::set_points::{self, SetPoints};
use super::topics::TopicPattern;
use crate::connectors::cells::CellType;
use crate::connectors::held::wait_for;
use crate::connectors::points;
use crate::connectors::template::Template;
use ironloom_apps::quantity::Span;
use ironloom_apps::toml_section::{Field, Section};
use ironloom_apps::unit;
use ironloom_types::ids::{InstallationId, PointPath};
use ironloom_types::limits::SOURCE_POINTS;

/// The name of a field in templates of points.
pub(super) const FIELD: &str = "field";
/// The longest client id that every broker takes is 23 bytes; most take more.
const MAX_CLIENT_ID: usize = 256;
/// The longest pause between two packets, by default.
const KEEP_ALIVE: Span = Span(30_000_000_000);
/// A broker keeps a session for a week, by default.
const SESSION_EXPIRY: Span = Span(7 * 86_400_000_000_000);
/// Messages that a broker may send before the first of them is acknowledged.
pub(super) const MAX_RECEIVE: u16 = 10_000;

/// The address of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

/// The version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V5,
    V3,
}

impl Version {
    /// As people write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V5 => "5",
            Self::V3 => "3.1.1",
        }
    }
}

/// The handling of messages that a broker has retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retained {
    /// Taken where the point's latest value is another one.
    Latest,
    All,
    None,
}

/// A secret that stands in a file or in the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Secret {
    File(PathBuf),
    Variable(String),
}

/// The points of a pattern of topics.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mapping {
    pub(super) topic: TopicPattern,
    /// The point, with places for levels of the topic and `{field}`.
    pub(super) point: Template,
    pub(super) rules: Rules,
    /// The unit of the points.
    pub(super) unit: Option<Arc<str>>,
}

/// `[connectors.NAME]` with `kind = "mqtt"`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MqttConfig {
    pub broker: Broker,
    /// The broker knows the session by it.
    pub client_id: String,
    /// None: 5 where the broker speaks it, else 3.1.1.
    pub version: Option<Version>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Certificates of authorities, as PEM; none: those of the system.
    pub ca: Option<PathBuf>,
    /// The client's own certificate and its key, as PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    pub keep_alive: Span,
    /// The time for which the broker keeps the session without a connection.
    pub session_expiry: Span,
    pub receive_maximum: u16,
    pub retained: Retained,
    /// The topics in the order of the file: the first that matches counts.
    pub mappings: Vec<Mapping>,
    /// The most points that the mappings may name.
    pub points: usize,
    /// The installations that it waits for.
    pub wait_for: Vec<InstallationId>,
    /// The points whose set-points it takes to machines, in the order of the file.
    pub set_points: Vec<SetPoints>,
    /// The derived readings that it takes to the broker, in the order of the file: the first that matches counts.
    pub publish: Vec<Publish>,
}

impl MqttConfig {
    /// Reads a section whose `kind` was taken.
    pub(crate) fn read(mut section: Section<'_, '_>) -> Option<Self> {
        let broker = section.require("broker").and_then(|field| field.parsed(Broker::from_str));
        let client_id = section.require("client_id").and_then(|field| field.parsed(client_id));
        let version = section.take("version").map_or(Some(None), |field| field.parsed(version).map(Some));
        let user = section.take("user").map_or(Some(None), |field| text(&field).map(Some));
        let file = section.take("password_file").map_or(Some(None), |field| field.file().map(Some));
        let variable = section.take("password_env").map_or(Some(None), |field| text(&field).map(Some));
        let ca = section.take("ca").map_or(Some(None), |field| field.file().map(Some));
        let certificate = section.take("certificate").map_or(Some(None), |field| field.file().map(Some));
        let key = section.take("key").map_or(Some(None), |field| field.file().map(Some));
        let keep_alive =
            section.take("keep_alive").map_or(Some(KEEP_ALIVE), |field| field.parsed(keep_alive));
        let session_expiry =
            section.take("session_expiry").map_or(Some(SESSION_EXPIRY), |field| field.parsed(session_expiry));
        let receive = section.take("receive_maximum").map_or(Some(MAX_RECEIVE), |field| receive(&field));
        let retained =
            section.take("retained").map_or(Some(Retained::Latest), |field| field.parsed(str::parse));
        let points = section.take("points").map_or(Some(SOURCE_POINTS), |field| points(&field));
        let held = section.take("wait_for").map_or(Some(Vec::new()), |field| wait_for(&field));
        let mappings = mappings(section.table("topics"));
        let set_points = set_points::read(section.table("set_points"));
        let taken: Vec<_> = mappings.iter().map(|mapping| &mapping.topic).collect();
        let publish = publish::read(section.table("publish"), &taken);
        if matches!((&file, &variable), (Some(Some(_)), Some(Some(_)))) {
            section.refuse("has both `password_file` and `password_env`; one of them is enough");
        }
        let password = file
            .zip(variable)
            .map(|(file, variable)| file.map(Secret::File).or(variable.map(Secret::Variable)));
        if matches!((&password, &user), (Some(Some(_)), Some(None))) {
            section.refuse("has a password and no `user`");
        }
        let own = certificate.zip(key);
        if own.as_ref().is_some_and(|(certificate, key)| certificate.is_some() != key.is_some()) {
            section.refuse("needs `certificate` and `key` together");
        }
        if matches!((&own, &ca), (Some((Some(_), _)), Some(None))) {
            section.refuse("needs a `ca` with `certificate` and `key`: the broker's own");
        }
        let has_files = matches!(ca, Some(Some(_))) || matches!(own, Some((Some(_), _)));
        if has_files && broker.as_ref().is_some_and(|broker| !broker.tls) {
            section.refuse("has certificates, which are for a broker at mqtts://");
        }
        if mappings.is_empty() && set_points.is_empty() && publish.is_empty() {
            section.refuse(
                "does nothing: it has none of [….topics.\"TOPIC\"] with a `point`, [….set_points.\"POINT\"] with a \
                 `topic` and [….publish.\"POINT\"] with a `topic`",
            );
        }
        section.finish();
        Some(Self {
            broker: broker?,
            client_id: client_id?,
            version: version?,
            user: user?,
            password: password?,
            ca: ca?,
            certificate: own.map(|(certificate, key)| certificate.zip(key))?,
            keep_alive: keep_alive?,
            session_expiry: session_expiry?,
            receive_maximum: receive?,
            retained: retained?,
            mappings,
            points: points?,
            wait_for: held?,
            set_points,
            publish,
        })
    }

    /// The filters that a broker is asked for, in the order of the mappings, without those that others cover.
    pub(super) fn filters(&self) -> Vec<String> {
        without_covered(self.mappings.iter().map(|mapping| mapping.topic.filter()).collect())
    }

    /// Returns true where its mappings may give a point.
    pub(crate) fn may_write(&self, path: &str) -> bool {
        self.mappings.iter().any(|mapping| mapping.point.may_give(path))
    }

    /// Returns true where set-points of a point go through it.
    pub(crate) fn drives(&self, path: &PointPath) -> bool {
        self.set_points.iter().any(|one| one.drives(path))
    }

    /// Resolves file names that are relative to the configuration's folder.
    pub(crate) fn resolve(&mut self, folder: &Path) {
        let certificate = self.certificate.iter_mut().flat_map(|(certificate, key)| [certificate, key]);
        let password = self.password.iter_mut().filter_map(|secret| match secret {
            Secret::File(path) => Some(path),
            Secret::Variable(_) => None,
        });
        for path in self.ca.iter_mut().chain(certificate).chain(password) {
            *path = folder.join(&path);
        }
    }
}

impl FromStr for Broker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no broker; write mqtt://HOST:PORT, or mqtts:// for TLS");
        let (tls, rest) = match text.split_once("://").ok_or_else(wrong)? {
            ("mqtt", rest) => (false, rest),
            ("mqtts", rest) => (true, rest),
            _ => return Err(wrong()),
        };
        if rest.contains('@') {
            return Err(
                "must have no password in it: `user` and `password_file` or `password_env` have them"
                    .to_owned(),
            );
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            // An IPv6 address in brackets without a port.
            Some((_, after)) if after.ends_with(']') => (rest, None),
            Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong())?)),
            None => (rest, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains(['/', '[', ']', ' ']) {
            return Err(wrong());
        }
        let port = port.unwrap_or(if tls { 8_883 } else { 1_883 });
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, Self { host, port, .. }) = (if self.tls { "mqtts" } else { "mqtt" }, self);
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

impl FromStr for Retained {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Self::Latest),
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            _ => Err(format!("{text:?} is none of latest, all, none")),
        }
    }
}

fn client_id(text: &str) -> Result<String, String> {
    let sound = (1..=MAX_CLIENT_ID).contains(&text.len()) && !text.chars().any(char::is_control);
    sound.then(|| text.to_owned()).ok_or_else(|| {
        format!("must have 1 to {MAX_CLIENT_ID} bytes: the broker keeps the session, and what comes meanwhile, by it")
    })
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "5" => Ok(Version::V5),
        "3.1.1" => Ok(Version::V3),
        _ => Err(format!("{text:?} is not a version of MQTT; there are \"5\" and \"3.1.1\"")),
    }
}

fn text(field: &Field<'_, '_>) -> Option<String> {
    field.text().map(str::to_owned)
}

fn keep_alive(text: &str) -> Result<Span, String> {
    let span = text.parse::<Span>().map_err(|error| error.to_string())?;
    let seconds = span.duration().as_secs();
    if (5..=u64::from(u16::MAX)).contains(&seconds) {
        Ok(span)
    } else {
        Err(format!("must be 5 s to {} s", u16::MAX))
    }
}

fn session_expiry(text: &str) -> Result<Span, String> {
    let span = text.parse::<Span>().map_err(|error| error.to_string())?;
    // All ones would be for ever, which no broker should have to keep.
    if (1..u64::from(u32::MAX)).contains(&span.duration().as_secs()) {
        Ok(span)
    } else {
        Err(format!("must be 1 s to {} s", u32::MAX - 1))
    }
}

fn receive(field: &Field<'_, '_>) -> Option<u16> {
    let most = u16::try_from(field.integer()?).ok().filter(|most| (1..=MAX_RECEIVE).contains(most));
    field.checked(most.ok_or_else(|| format!("must be a number of messages from 1 to {MAX_RECEIVE}")))
}

fn mappings(mut topics: Section<'_, '_>) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    for field in topics.take_all() {
        let topic = TopicPattern::parse(&field.name).map_err(|error| field.refuse_name(error, None)).ok();
        let mut entry = field.section();
        let point = entry.require("point");
        let form = entry.take("payload").map_or(Some(Form::Value), |field| field.parsed(Form::from_str));
        let r#type =
            entry.take("type").map_or(Some(None), |field| field.parsed(CellType::from_str).map(Some));
        let scale = entry.take("scale").map_or(Some(None), |field| scale(&field).map(Some));
        let unit = entry.take("unit").map_or(Some(None), |field| field.parsed(unit::check).map(Some));
        let (Some(topic), Some(form), Some(r#type), Some(scale), Some(unit)) =
            (topic, form, r#type, scale, unit)
        else {
            entry.finish();
            continue;
        };
        let point = point.and_then(|point| point.parsed(|text| template(text, &topic, form)));
        // A field is of the type that its value has; a value alone is a number, unless it is said to be something else.
        let r#type = r#type.or((form != Form::Fields).then_some(CellType::Real));
        if scale.is_some() && !matches!(r#type, None | Some(CellType::Real)) {
            entry.refuse("has a `scale`, which is for reals");
        }
        entry.finish();
        if let Some(point) = point {
            mappings.push(Mapping { topic, point, rules: Rules { form, r#type, scale }, unit });
        }
    }
    mappings
}

/// A template whose names the topic has.
fn template(text: &str, topic: &TopicPattern, form: Form) -> Result<Template, String> {
    let template = Template::parse(text)?;
    let is_field = |name: &str| form == Form::Fields && name == FIELD;
    if let Some(unknown) =
        template.names().find(|name| !is_field(name) && !topic.names().any(|own| own == *name))
    {
        return Err(format!("{text:?} has the name {unknown:?}, which the topic doesn't have"));
    }
    if form == Form::Fields && !template.names().any(is_field) {
        return Err(format!(
            "{text:?} must have {{field}}, so that each field of the payload has a point of its own"
        ));
    }
    Ok(template)
}

fn scale(field: &Field<'_, '_>) -> Option<f64> {
    let scale = field.number()?;
    let sound = scale.is_finite() && scale != 0.0;
    field.checked(if sound { Ok(scale) } else { Err("must be a number that is finite and not 0") })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Config;
    use crate::connectors::ConnectorConfig;

    /// Reads a connector `c`: these keys go with those that each has.
    pub(in crate::connectors::mqtt) fn read_with(keys: &str) -> Result<MqttConfig, String> {
        let text =
            format!("[connectors.c]\nkind = \"mqtt\"\nbroker = \"mqtt://plant\"\nclient_id = \"c\"\n{keys}");
        let mut config = Config::read(&text).map_err(|error| error.to_string())?;
        match config.connectors.remove("c") {
            Some(ConnectorConfig::Mqtt(config)) => Ok(*config),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_broker_is_an_address_without_secrets() {
        for (text, expected) in [
            ("mqtt://plant", "mqtt://plant:1883"),
            ("mqtts://plant", "mqtts://plant:8883"),
            ("mqtt://127.0.0.1:1884/", "mqtt://127.0.0.1:1884"),
            ("mqtts://[::1]:8884", "mqtts://[::1]:8884"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
        ] {
            assert_eq!(text.parse::<Broker>().unwrap().to_string(), expected);
        }
        for (text, reason) in [
            ("plant:1883", "is no broker"),
            ("http://plant", "is no broker"),
            ("mqtt://", "is no broker"),
            ("mqtt://plant:x", "is no broker"),
            ("mqtt://me:secret@plant", "must have no password in it"),
        ] {
            assert!(text.parse::<Broker>().unwrap_err().contains(reason), "{text}");
        }
    }
}
