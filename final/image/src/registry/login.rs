//! Log in: try the name and the password, and keep them where they were taken.

use super::http::Ask;
use super::session::Session;
use super::{Error, Login, Registries};

/// What came of a login.
#[derive(Debug)]
pub struct LoggedIn {
    /// Whether a credential helper keeps it; else it stands in the file, only encoded.
    pub by_helper: bool,
}

impl Registries {
    /// Asks the registry of a domain whether it knows this user, and keeps the login if so.
    ///
    /// # Errors
    /// [`Error::Denied`] and all others of the way there; nothing is kept then.
    pub fn login(&self, domain: &str, login: &Login) -> Result<LoggedIn, Error> {
        self.at_own_address(domain, |address| {
            let session = Session::new(self, address, Some(login.clone()))?;
            let (mut response, _) = session.send(Ask::get(format!("{address}/v2/")), &[])?;
            if response.status() != 200 {
                return Err(session.refusal("the login", &mut response));
            }
            Ok(LoggedIn { by_helper: self.credentials().keep(domain, login)? })
        })
    }
}
