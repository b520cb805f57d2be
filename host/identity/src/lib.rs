//! Who is calling: API keys and what they may do, the first start, and the secrets of provider connections.

pub mod allowed;
pub mod api_key;
pub mod bootstrap;
pub mod connections;
pub mod keys;
pub mod principal;
pub mod scopes;
pub mod seal;
pub mod secret;

pub use self::allowed::Allowed;
pub use self::keys::{AuthError, KeyService};
pub use self::principal::Principal;
pub use self::scopes::{Scope, Scopes};
pub use self::secret::Secret;
