//! Tokens that people make and take back.

use super::Applier;
use crate::fold::stored::encode;
use crate::records::token::TokenChange;
use ironloom_storage::store::Item;

impl Applier {
    pub(super) fn change_token(&self, change: TokenChange) {
        let key = |name| Item::Token(name).key();
        match change {
            TokenChange::Made(token) => {
                self.shared.overlay.apply([(key(token.name.as_str()), Some(encode(&*token)))]);
                self.shared.tokens.write().insert(*token);
            }
            TokenChange::Removed(name) => {
                self.shared.overlay.apply([(key(name.as_str()), None)]);
                self.shared.tokens.write().remove(&name);
            }
        }
    }
}
