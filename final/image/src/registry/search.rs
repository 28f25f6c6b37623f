//! Search: Docker Hub can, a registry can only list what it has.
//!
//! See Docker's documentation of `docker search`, and the distribution project's of `GET /v2/_catalog`.

use serde::Deserialize;

use super::http::{Ask, encode};
use super::repository::pages;
use super::session::Session;
use super::{Error, Registries};
use crate::blobs::LARGEST_DOCUMENT;

/// Where Docker Hub is searched.
const HUB: &str = "https://index.docker.io";

/// A repository that fits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its name, as it is pulled.
    pub name: String,
    /// What it says of itself.
    pub description: String,
    /// How many people like it.
    pub star_count: u64,
    /// Whether it is Docker's own selection.
    pub is_official: bool,
    /// Whether Docker Hub builds it.
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Page {
    results: Vec<Found>,
}

impl Registries {
    /// Searches Docker Hub for a text; or, for `HOST[:PORT]/TEXT`, the list of all repositories of that registry.
    ///
    /// # Errors
    /// What the registry refuses; many let nobody list.
    pub fn search(&self, term: &str, limit: usize) -> Result<Vec<Found>, Error> {
        match term.split_once('/') {
            Some((domain, text)) if domain.contains(['.', ':']) || domain == "localhost" => {
                self.list(domain, text, limit)
            }
            _ => self.ask_hub(term, limit),
        }
    }

    fn ask_hub(&self, term: &str, limit: usize) -> Result<Vec<Found>, Error> {
        let session = Session::new(self, HUB, None)?;
        let url = format!("{HUB}/v1/search?q={}&n={limit}", encode(term));
        let (mut response, _) = session.send(Ask::get(url, "Docker Hub has a search of its own"), &[])?;
        if response.status() != 200 {
            return Err(session.refusal("the search", &mut response));
        }
        let bytes = response.body_mut().with_config().limit(LARGEST_DOCUMENT).read_to_vec();
        let bytes = bytes.map_err(|error| Error::answer(session.host(), error))?;
        let page: Page =
            serde_json::from_slice(&bytes).map_err(|error| Error::answer(session.host(), error))?;
        Ok(page.results.into_iter().take(limit).collect())
    }

    fn list(&self, domain: &str, text: &str, limit: usize) -> Result<Vec<Found>, Error> {
        let login = self.credentials().find(domain)?;
        let scopes = ["registry:catalog:*".to_owned()];
        let names = self.at_own_address(domain, |address| {
            let session = Session::new(self, address, login.clone())?;
            pages(&session, &scopes, &format!("{address}/v2/_catalog?n=1000"), "repositories")
        })?;
        let fits = names.into_iter().filter(|name| name.contains(text));
        let found = |name| Found { name: format!("{domain}/{name}"), ..Found::default() };
        Ok(fits.take(limit).map(found).collect())
    }
}
