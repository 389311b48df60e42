//! Tokens: made once, shown once, and kept as hashes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The beginning of every token, by which scanners of leaked secrets know it.
const PREFIX: &str = "ilm_";
/// Its random bytes.
const BYTES: usize = 32;
/// The characters that these are.
const CHARACTERS: usize = 43;
/// The longest name.
const MAX_NAME: usize = 63;

/// A token, as it is shown once.
#[derive(Clone)]
pub(crate) struct Token(String);

/// Not its text: it must not get into a log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Makes one. Fails where the system gives no random bytes.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The text that its holder shows.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl FromStr for Token {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let random = text.strip_prefix(PREFIX).and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok());
        match random {
            Some(bytes) if bytes.len() == BYTES => Ok(Self(text.to_owned())),
            _ => Err("it is no token: those begin with ilm_ and have 43 characters more"),
        }
    }
}

/// A text without the tokens that somebody has put into it by mistake, such as into a URL.
pub(crate) fn without_tokens(text: &str) -> Cow<'_, str> {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut out = Cow::Borrowed("");
    let mut rest = text;
    while let Some(begin) = rest.find(PREFIX) {
        let (before, secret) = rest.split_at(begin + PREFIX.len());
        let length = secret.bytes().take_while(|byte| is_of_token(*byte)).count();
        out += before;
        rest = secret;
        if length >= CHARACTERS {
            out += "…";
            rest = &secret[length..];
        }
    }
    out + rest
}

/// SHA-256 of a token's text: what the server keeps of it. With 32 random bytes a slow hash would add nothing.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct TokenHash([u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

/// In constant time, as for whatever guards a secret.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl TokenHash {
    #[cfg(test)]
    pub(crate) fn of_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A part of it to look it up by. How long that takes tells about hashes, and nobody gets from there to a token.
    pub(crate) fn bucket(&self) -> u64 {
        self.0.first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
    }
}

/// The name of a token: whose or what for it is, such as `anna` or `gateway-3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct TokenName(Box<str>);

impl TokenName {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let first =
            text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let is_name = text.len() <= MAX_NAME
            && text.bytes().all(|byte| {
                byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b'-' | b'.' | b'_' | b'@')
            });
        if first && is_name {
            return Ok(Self(text.into()));
        }
        Err(format!(
            "{text:?} is not a name of a token: it begins with a letter from a to z or a digit, and has at most \
             {MAX_NAME} of them and of - . _ @"
        ))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TokenName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(text)
    }
}

impl TryFrom<String> for TokenName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<TokenName> for String {
    fn from(name: TokenName) -> Self {
        name.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_32_random_bytes_and_its_hash_is_that_of_its_text() {
        let (one, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(one.reveal().len(), 4 + 43);
        assert!(one.hash() == one.reveal().parse::<Token>().unwrap().hash());
        assert!(one.hash() != other.hash());
        assert!(!format!("{one:?}{:?}", one.hash()).contains(&one.reveal()[4..12]));
        // `printf %s TEXT | sha256sum`.
        let known: Token = "ilm_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
        assert_eq!(known.hash().bucket(), KNOWN);
    }

    const KNOWN: u64 = 0x939f_2e75_116e_82d0;

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["", "ilm_", "ilm_AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert!(text.parse::<Token>().is_err(), "{text}");
        }
        let mut long = Token::random().unwrap().reveal().to_owned();
        long.push('A');
        assert!(long.parse::<Token>().is_err());
    }

    #[test]
    fn names_are_plain() {
        for name in ["anna", "anna.k@plant", "gateway-3", "7"] {
            assert_eq!(TokenName::new(name).unwrap().as_str(), name);
        }
        for name in ["", "-local", "Anna", "a b", "a\n", "ä", &"a".repeat(64)] {
            assert!(TokenName::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn tokens_are_taken_out_of_texts_and_nothing_else_is() {
        let token = "ilm_AAAAAAAAAAAAAAAAAAAA-AAAAAAAAAAAAAAAAAAA_AA";
        let with = |text: &str| without_tokens(&text.replace("TOKEN", token)).into_owned();
        for (text, without) in [
            ("", ""),
            ("tokens/TOKEN", "tokens/ilm_…"),
            ("events?key=TOKEN&after=TOKEN", "events?key=ilm_…&after=ilm_…"),
            ("\"TOKENAAA\" is no name", "\"ilm_…\" is no name"),
            ("Bearer ilm_…, film_roll_7/ilm_", "Bearer ilm_…, film_roll_7/ilm_"),
            ("ä ilm_x ilm_TOKEN ä", "ä ilm_x ilm_… ä"),
        ] {
            assert_eq!(with(text), without);
        }
    }
}
