//! Who may do what: roles, what each of them may, and the tokens that people and machines show.

mod deed;
mod role;
mod token;

pub(crate) use self::deed::{Deed, current, within};
pub(crate) use self::role::{Action, Denied, HOST, Holder, NOBODY, Principal, Resource, Role, authorize};
pub(crate) use self::token::{Token, TokenHash, TokenName, without_tokens};
