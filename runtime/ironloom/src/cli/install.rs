//! `ironloom install`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::{Map, Value as Json, json};

use super::client::{Client, segment};
use super::failure::{Failure, Outcome};
use super::{Global, output, show};
use crate::api::facade::{Installed, PackageInfo};
use crate::api::{JSON_TYPE, PACKAGE_TYPE};

/// Installs an app from its package.
#[derive(Args, Debug)]
pub struct Install {
    /// The package: a file, or the digest (sha256:…) of one that the server has. May stand in the
    /// file of --with instead
    package: Option<String>,
    /// The installation's id, such as `pigs`
    #[arg(long)]
    id: Option<String>,
    /// Tie an input or output to points: weight='farm/{barn}/pig/{tag}/weight'; several patterns for
    /// one input are given one by one
    #[arg(long = "bind", value_name = "NAME=PATTERN", value_parser = pair)]
    bind: Vec<(String, String)>,
    /// Set a setting: breed=duroc
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Let a set-point output ask for these values: limit='0, 6..32'
    #[arg(long = "grant", value_name = "NAME=VALUES", value_parser = pair)]
    grant: Vec<(String, String)>,
    /// Change a limit: memory='64 MiB', cpu='500 ms', state='1 GiB'
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = pair)]
    limit: Vec<(String, String)>,
    /// Where in the journal to begin: now, beginning, or a time as RFC 3339
    #[arg(long, value_name = "WHERE")]
    from: Option<String>,
    /// Time zone of the app's timers, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Read all of this from a TOML file, with the keys of the API's JSON; flags come on top
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Only say what would match
    #[arg(long)]
    dry_run: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    if name.is_empty() {
        return Err("needs a name before the `=`".to_owned());
    }
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

impl Install {
    /// Runs it.
    pub fn run(self, global: &Global) -> Outcome {
        let client = Client::new(&global.url);
        let mut request = match &self.with {
            Some(path) => read(path)?,
            None => Map::new(),
        };
        let package = match (&self.package, request.get("package").and_then(Json::as_str)) {
            (Some(package), _) => package.clone(),
            // A file name in a file is meant from that file's folder.
            (None, Some(package)) => match self.with.as_deref().and_then(Path::parent) {
                Some(folder) if !package.starts_with("sha256:") => folder.join(package).display().to_string(),
                _ => package.to_owned(),
            },
            (None, None) => {
                return Err(Failure::Misuse("no package is named, neither here nor by --with".to_owned()));
            }
        };
        let package = upload(&client, &package)?;
        self.apply(&mut request, &package)?;
        let query = [("dry-run", self.dry_run.then(|| "true".to_owned()))];
        let body = Json::Object(request).to_string();
        let answer = client.post("/v1/installations", &query, JSON_TYPE, body.as_bytes())?;
        output::one(global, &answer, |installed: Installed| text(&installed, self.dry_run))
    }

    /// Puts the flags on top of what the file says.
    fn apply(&self, request: &mut Map<String, Json>, package: &PackageInfo) -> Result<(), Failure> {
        request.insert("package".to_owned(), json!(package.digest));
        for (name, value) in [("id", &self.id), ("from", &self.from), ("timezone", &self.timezone)] {
            if let Some(value) = value {
                request.insert(name.to_owned(), json!(value));
            }
        }
        if !request.contains_key("id") {
            return Err(Failure::Misuse("the installation needs an id, such as --id pigs".to_owned()));
        }
        let mut bindings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, pattern) in &self.bind {
            bindings.entry(name).or_default().push(pattern);
        }
        for (name, patterns) in bindings {
            section(request, "bindings")?.insert(name.to_owned(), json!(patterns));
        }
        for (name, value) in &self.set {
            let value = setting(package, name, value);
            section(request, "settings")?.insert(name.clone(), value);
        }
        for (name, value) in &self.limit {
            section(request, "limits")?.insert(name.clone(), json!(value));
        }
        for (name, allow) in &self.grant {
            let outputs = section(request, "grants")?.entry("outputs").or_insert_with(|| json!({}));
            let outputs = outputs.as_object_mut().ok_or_else(|| no_section("grants.outputs"))?;
            let grant = outputs.entry(name.clone()).or_insert_with(|| json!({}));
            let grant = grant.as_object_mut().ok_or_else(|| no_section(&format!("grants.outputs.{name}")))?;
            grant.insert("allow".to_owned(), json!(allow));
        }
        Ok(())
    }
}

fn section<'a>(request: &'a mut Map<String, Json>, name: &str) -> Result<&'a mut Map<String, Json>, Failure> {
    let section = request.entry(name).or_insert_with(|| json!({}));
    section.as_object_mut().ok_or_else(|| no_section(name))
}

fn no_section(name: &str) -> Failure {
    Failure::Misuse(format!("`{name}` in the file of --with must be a section"))
}

fn read(path: &Path) -> Result<Map<String, Json>, Failure> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
    let table: toml::Table = text.parse().with_context(|| format!("{} is no TOML", path.display()))?;
    match serde_json::to_value(table).context("a value isn't known to JSON")? {
        Json::Object(object) => Ok(object),
        _ => Err(anyhow!("{} is no table", path.display()).into()),
    }
}

/// A value in the type that the manifest names; what doesn't fit goes as text, and the server says
/// what is wrong with it.
fn setting(package: &PackageInfo, name: &str, text: &str) -> Json {
    let kind = package.settings.get(name).map_or("text", |setting| setting.r#type.as_str());
    let value = match kind {
        "integer" => text.parse::<i64>().ok().map(Json::from),
        "real" => text.parse::<f64>().ok().map(Json::from),
        "boolean" => text.parse::<bool>().ok().map(Json::from),
        _ => None,
    };
    value.unwrap_or_else(|| json!(text))
}

/// The package as the server knows it, sent there where it is a file.
fn upload(client: &Client, package: &str) -> Result<PackageInfo, Failure> {
    if package.starts_with("sha256:") {
        return client.get(&format!("/v1/packages/{}", segment(package)), &[])?.read();
    }
    let bytes = std::fs::read(package).with_context(|| format!("{package} can't be read"))?;
    client.post("/v1/packages", &[], PACKAGE_TYPE, &bytes)?.read()
}

fn text(installed: &Installed, dry_run: bool) -> String {
    let mut out = show::text(&installed.installation);
    let rows = installed.matches.iter().map(|matched| {
        let sample = matched.samples.first().map_or(String::new(), |sample| {
            format!("{} = {}", sample.point, output::shorten(&sample.value.to_string()))
        });
        [matched.input.clone(), matched.points.to_string(), sample]
    });
    out.push('\n');
    out.push_str(&output::table(&["input", "points", "for example"], rows));
    for warning in &installed.warnings {
        out.push_str(&format!("warning: {}\n", output::clean(warning)));
    }
    let begins = format!("begins with {} readings of the journal", installed.backlog);
    let what = if dry_run {
        format!("nothing is installed; it {begins}")
    } else {
        format!("installed; it {begins}")
    };
    out.push_str(&format!("{what}\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::facade::SettingInfo;

    fn package() -> PackageInfo {
        let setting = |kind: &str| SettingInfo { r#type: kind.to_owned(), default: None, description: None };
        PackageInfo {
            digest: ironloom_types::ids::Digest([0; 32]),
            id: ironloom_types::ids::AppId::new("com.example.pigs").unwrap(),
            name: "Pig ledger".to_owned(),
            version: "0.1.0".to_owned(),
            publisher: String::new(),
            description: String::new(),
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            settings: [("breed", "text"), ("age", "integer"), ("market", "real"), ("loud", "boolean")]
                .map(|(name, kind)| (name.to_owned(), setting(kind)))
                .into(),
            imports: Vec::new(),
        }
    }

    #[test]
    fn flags_come_on_top_of_the_file_and_settings_get_their_type() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("install.toml");
        let text = "id = \"pigs\"\nfrom = \"now\"\n[bindings]\nweight = [\"a/{x}\"]\nfeed = \"b/{x}\"\n[settings]\nage = 20\n";
        std::fs::write(&path, text).unwrap();
        let pairs = |all: &[&str]| all.iter().map(|text| pair(text).unwrap()).collect::<Vec<_>>();
        let install = Install {
            package: None,
            id: None,
            bind: pairs(&["weight=c/{x}", "weight=d/{x}"]),
            set: pairs(&["breed=1", "age=28", "market=110", "loud=true", "other=x=y"]),
            grant: pairs(&["limit=0, 6..32"]),
            limit: pairs(&["memory=64 MiB"]),
            from: Some("beginning".to_owned()),
            timezone: None,
            with: None,
            dry_run: false,
        };
        let mut request = read(&path).unwrap();
        install.apply(&mut request, &package()).unwrap();
        let expected = json!({
            "id": "pigs",
            "package": format!("sha256:{}", "0".repeat(64)),
            "bindings": {"weight": ["c/{x}", "d/{x}"], "feed": "b/{x}"},
            "settings": {"breed": "1", "age": 28, "market": 110.0, "loud": true, "other": "x=y"},
            "grants": {"outputs": {"limit": {"allow": "0, 6..32"}}},
            "limits": {"memory": "64 MiB"},
            "from": "beginning",
        });
        assert_eq!(Json::Object(request), expected);
    }

    #[test]
    fn an_id_is_needed_and_pairs_have_two_sides() {
        assert!(pair("weight").is_err());
        assert!(pair("=x").is_err());
        assert_eq!(pair("a = b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
    }
}
