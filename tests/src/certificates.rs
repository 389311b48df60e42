//! Certificates for tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// An authority in a folder, which makes certificates there.
#[derive(Clone)]
pub struct Authority {
    folder: PathBuf,
    name: String,
    issuer: Arc<CertifiedIssuer<'static, KeyPair>>,
}

fn named(mut params: CertificateParams, name: &str) -> CertificateParams {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    params
}

impl Authority {
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let mut params = named(CertificateParams::default(), name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let own = Self { folder: folder.to_owned(), name: name.to_owned(), issuer: Arc::new(issuer) };
        fs::write(own.certificate(), own.issuer.pem())?;
        Ok(own)
    }

    /// The certificate of the authority itself.
    pub fn certificate(&self) -> PathBuf {
        self.file(&self.name, "pem")
    }

    /// A certificate for a name, or for the address that it is, with its key.
    pub fn sign(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        self.sign_until(name, 2099)
    }

    /// One that ends with the begin of this year.
    pub fn sign_until(&self, name: &str, year: i32) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (self.file(name, "pem"), self.file(name, "key"));
        let own = KeyPair::generate()?;
        let mut params = named(CertificateParams::new([name.to_owned()])?, name);
        params.not_after = date_time_ymd(year, 1, 1);
        params.use_authority_key_identifier_extension = true;
        fs::write(&certificate, params.signed_by(&own, &self.issuer)?.pem())?;
        write_secret(&key, &own.serialize_pem())?;
        Ok((certificate, key))
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{name}.{extension}"))
    }
}

/// Writes a file for its owner alone.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}
