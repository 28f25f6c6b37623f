//! Log in: try the name and the password, and keep them where they were taken.

use super::http::Ask;
use super::session::Session;
use super::{Error, Login, Registries};

/// What came of a login.
#[derive(Debug)]
pub struct LoggedIn {
    /// Whether a credential helper keeps it; else it stands in the file, only encoded.
    pub by_helper: bool,
    /// Whether a token is kept in place of the password.
    pub is_token: bool,
}

impl Registries {
    /// Asks the registry of a domain whether it knows this user, and keeps the login if so.
    ///
    /// # Errors
    /// [`Error::Denied`] and all others of the way there; nothing is kept then.
    pub fn login(&self, domain: &str, login: &Login) -> Result<LoggedIn, Error> {
        let login = self.at_own_address(domain, |address| {
            let session = Session::at_login(self, address, login)?;
            let ask = Ask::get(format!("{address}/v2/"), "a registry that takes the login answers 200");
            let (mut response, _) = session.send(ask, &[])?;
            if response.status() != 200 {
                return Err(session.refusal("the login", &mut response));
            }
            // A token that stands for the password is better kept than the password.
            Ok(session.kept().unwrap_or_else(|| login.clone()))
        })?;
        Ok(LoggedIn {
            by_helper: self.credentials().keep(domain, &login)?,
            is_token: matches!(login, Login::Identity(_)),
        })
    }
}
