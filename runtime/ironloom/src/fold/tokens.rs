//! The tokens that there are, by name and by hash.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::access::{Holder, TokenHash, TokenName};
use crate::records::token::TokenRecord;

#[derive(Debug, Default)]
pub(crate) struct Tokens {
    by_name: BTreeMap<TokenName, TokenRecord>,
    /// Whoever shows a token, by a part of its hash; more than one only by an unheard-of accident.
    holders: BTreeMap<u64, Vec<(TokenHash, Arc<Holder>)>>,
}

impl Tokens {
    /// Takes one in, in the place of an earlier one of its name.
    pub(crate) fn insert(&mut self, token: TokenRecord) {
        self.remove(&token.name);
        let TokenRecord { name, role, tenant, hash, expires, .. } = &token;
        let holder = Holder { name: name.clone(), role: *role, tenant: *tenant, expires: *expires };
        self.holders.entry(hash.bucket()).or_default().push((*hash, Arc::new(holder)));
        self.by_name.insert(token.name.clone(), token);
    }

    pub(crate) fn remove(&mut self, name: &TokenName) {
        let Some(gone) = self.by_name.remove(name) else { return };
        if let Some(holders) = self.holders.get_mut(&gone.hash.bucket()) {
            holders.retain(|(_, holder)| holder.name != *name);
            if holders.is_empty() {
                self.holders.remove(&gone.hash.bucket());
            }
        }
    }

    /// Whoever shows the token of this hash, whether or not it has expired.
    pub(crate) fn holder(&self, hash: &TokenHash) -> Option<Arc<Holder>> {
        let holders = self.holders.get(&hash.bucket())?;
        holders.iter().find(|(known, _)| known == hash).map(|(_, holder)| Arc::clone(holder))
    }

    pub(crate) fn get(&self, name: &TokenName) -> Option<&TokenRecord> {
        self.by_name.get(name)
    }

    /// All of them, in the order of their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &TokenRecord> {
        self.by_name.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use ironloom_types::clock::Timestamp;
    use ironloom_types::ids::TenantId;

    fn token(name: &str, hash: u8) -> TokenRecord {
        let mut bytes = [0; 32];
        // The same part of the hash for all: they are told apart by the rest.
        bytes[31] = hash;
        TokenRecord {
            name: TokenName::new(name).unwrap(),
            role: Role::Viewer,
            tenant: TenantId::MAIN,
            hash: TokenHash::of_bytes(bytes),
            made: Timestamp(1),
            made_by: "-local".into(),
            expires: None,
        }
    }

    #[test]
    fn a_token_is_found_by_its_hash_until_it_goes_or_another_takes_its_place() {
        let mut tokens = Tokens::default();
        for (name, hash) in [("anna", 1), ("ben", 2)] {
            tokens.insert(token(name, hash));
        }
        let found = |tokens: &Tokens, hash| {
            tokens.holder(&token("x", hash).hash).map(|holder| holder.name.to_string())
        };
        assert_eq!(
            [1, 2, 3].map(|hash| found(&tokens, hash)),
            [Some("anna".into()), Some("ben".into()), None]
        );
        tokens.insert(token("anna", 3));
        assert_eq!(
            [1, 2, 3].map(|hash| found(&tokens, hash)),
            [None, Some("ben".into()), Some("anna".into())]
        );
        tokens.remove(&TokenName::new("ben").unwrap());
        assert_eq!((found(&tokens, 2), tokens.len()), (None, 1));
        tokens.remove(&TokenName::new("anna").unwrap());
        assert!(tokens.holders.is_empty());
    }
}
