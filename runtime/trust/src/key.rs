//! Keys that sign, and those that check. A public key is its own id: `ed25519:` and its bytes in base64url.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::KeypairBytes;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use pkcs8::der::pem::PemLabel as _;
use pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncryptedPrivateKeyInfoRef, LineEnding};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The fewest characters of a passphrase.
pub const MIN_PASSPHRASE: usize = 8;
/// The largest file of a secret key, in bytes.
pub const MAX_KEY_FILE: u64 = 16 << 10;
/// The PEM label of a key in the clear, which isn't read.
const PLAIN_LABEL: &str = "-----BEGIN PRIVATE KEY-----";

/// A signature scheme. Its name stands before each key, so that another one can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Ed25519, RFC 8032.
    Ed25519,
}

impl Algorithm {
    /// Its name in the texts of keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
        }
    }
}

/// A key that checks signatures. There is one text for each key, so that equal keys have equal texts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    algorithm: Algorithm,
    bytes: [u8; 32],
}

/// The reason why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// It isn't written as keys are.
    #[error("{0:?} is not a public key; one is written as `ed25519:` and 43 characters of base64url")]
    Form(String),
    /// Its scheme is one that this version doesn't know.
    #[error("the key {text:?} is of the scheme {scheme:?}; this version knows ed25519")]
    Scheme { text: String, scheme: String },
    /// Its bytes are no key of that scheme, or one under which anybody can sign.
    #[error("{0:?} is no ed25519 key: its bytes are no point of the curve that a key may be")]
    Bytes(String),
}

impl PublicKey {
    /// Reads the bytes of an Ed25519 key; `None` where they are none, are not the one form that the key has, or
    /// belong to the few points under which a signature says nothing.
    fn ed25519(bytes: [u8; 32]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(&bytes).ok()?;
        (is_reduced(&bytes) && !key.is_weak()).then_some(Self { algorithm: Algorithm::Ed25519, bytes })
    }

    /// Its signature scheme.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns whether `signature` is this key's for `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let (Ok(key), Ok(signature)) =
            (VerifyingKey::from_bytes(&self.bytes), Signature::from_slice(signature))
        else {
            return false;
        };
        key.verify_strict(message, &signature).is_ok()
    }
}

/// True where the coordinate in these bytes is less than the prime 2^255 - 19: the others name a point a second time.
fn is_reduced(bytes: &[u8; 32]) -> bool {
    let [least, middle @ .., most] = bytes;
    *least < 0xed || middle.iter().any(|byte| *byte != 0xff) || most & 0x7f != 0x7f
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), URL_SAFE_NO_PAD.encode(self.bytes))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let form = || InvalidKey::Form(text.chars().take(100).collect());
        let (scheme, rest) = text.split_once(':').ok_or_else(form)?;
        if scheme != Algorithm::Ed25519.name() {
            let is_name =
                !scheme.is_empty() && scheme.len() <= 32 && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
            if !is_name {
                return Err(form());
            }
            let text = text.chars().take(100).collect();
            return Err(InvalidKey::Scheme { text, scheme: scheme.to_owned() });
        }
        let bytes = URL_SAFE_NO_PAD.decode(rest).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        Self::ed25519(bytes.ok_or_else(form)?).ok_or_else(|| InvalidKey::Bytes(text.to_owned()))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A key that signs. Its bytes are cleared when it goes.
pub struct SecretKey(SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the secret key of {}", self.public())
    }
}

/// The reason why a secret key can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// The machine gives no random numbers.
    #[error("this machine gives no random numbers: {0}")]
    Random(String),
    /// A passphrase that is easily guessed.
    #[error("the passphrase has {0} characters; give it {MIN_PASSPHRASE} or more")]
    ShortPassphrase(usize),
    /// It lies open.
    #[error(
        "the key isn't encrypted; `openssl pkcs8 -topk8 -in FILE -out NEW` encrypts it (PKCS #8), `ironloom key new` makes another one"
    )]
    Plain,
    /// It is no encrypted key, in PEM, of a known scheme.
    #[error("it is no encrypted Ed25519 key in PEM (PKCS #8), as `ironloom key new` makes it")]
    Form,
    /// The passphrase doesn't open it.
    #[error("the passphrase doesn't open the key")]
    Passphrase,
}

impl SecretKey {
    /// Makes a key.
    ///
    /// # Errors
    /// A machine without random numbers.
    pub fn generate() -> Result<Self, SecretKeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|error| SecretKeyError::Random(error.to_string()))?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// The key of a seed: the private key of RFC 8032.
    pub fn of_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, for a file that its owner alone can read.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The key that checks what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey { algorithm: Algorithm::Ed25519, bytes: self.0.verifying_key().to_bytes() }
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The key under a passphrase: PKCS #8 in PEM, encrypted by PBES2 with scrypt and AES-256-CBC. OpenSSL reads it.
    ///
    /// # Errors
    /// A short passphrase; a machine without random numbers.
    pub fn to_pem(&self, passphrase: &str) -> Result<Zeroizing<String>, SecretKeyError> {
        let length = passphrase.chars().count();
        if length < MIN_PASSPHRASE {
            return Err(SecretKeyError::ShortPassphrase(length));
        }
        // Without the public half: OpenSSL 3.0 reads the first version of PKCS #8 alone.
        let pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        pair.to_pkcs8_encrypted_pem(passphrase, LineEnding::LF)
            .map_err(|error| SecretKeyError::Random(error.to_string()))
    }
}

/// A secret key under its passphrase, as [`SecretKey::to_pem`] or OpenSSL wrote it.
#[derive(Debug)]
pub struct LockedKey(pkcs8::SecretDocument);

impl LockedKey {
    /// Reads the form without opening it.
    ///
    /// # Errors
    /// A text that is no such key; one that isn't encrypted.
    pub fn read(pem: &str) -> Result<Self, SecretKeyError> {
        if pem.contains(PLAIN_LABEL) {
            return Err(SecretKeyError::Plain);
        }
        let read = pkcs8::SecretDocument::from_pem(pem.trim_start());
        let (label, document) = read.map_err(|_| SecretKeyError::Form)?;
        let is_key = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).is_ok();
        if label != EncryptedPrivateKeyInfoRef::PEM_LABEL || !is_key {
            return Err(SecretKeyError::Form);
        }
        Ok(Self(document))
    }

    /// Opens it.
    ///
    /// # Errors
    /// Another passphrase; a key of another scheme.
    pub fn open(&self, passphrase: &str) -> Result<SecretKey, SecretKeyError> {
        let encrypted =
            EncryptedPrivateKeyInfoRef::try_from(self.0.as_bytes()).map_err(|_| SecretKeyError::Form)?;
        let decrypted = encrypted.decrypt(passphrase).map_err(|_| SecretKeyError::Passphrase)?;
        let pair = KeypairBytes::from_pkcs8_der(decrypted.as_bytes()).map_err(|_| SecretKeyError::Form)?;
        Ok(SecretKey(SigningKey::from_bytes(&Zeroizing::new(pair.secret_key))))
    }
}

#[cfg(test)]
mod tests;
