//! Search: Docker Hub can, a registry can only list what it has.
//!
//! See Docker's documentation of `docker search`, and the distribution project's of `GET /v2/_catalog`.

use serde::Deserialize;

use super::http::{Ask, encode};
use super::repository::{LONGEST, pages, read_all};
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
            _ => self.ask_hub(HUB, term, limit),
        }
    }

    fn ask_hub(&self, hub: &str, term: &str, limit: usize) -> Result<Vec<Found>, Error> {
        let session = Session::new(self, hub, None)?;
        let url = format!("{hub}/v1/search?q={}&n={limit}", encode(term));
        let (mut response, _) = session.send(Ask::get(url, "Docker Hub has a search of its own"), &[])?;
        if response.status() != 200 {
            return Err(session.refusal("the search", &mut response));
        }
        let bytes = read_all(response.body_mut().as_reader(), LARGEST_DOCUMENT, LONGEST);
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::registry::{Credentials, Settings};

    #[test]
    fn docker_hub_is_asked_in_its_own_words() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = format!("http://{}", listener.local_addr().unwrap());
        let answer = r#"{"num_results":2,"results":[
            {"name":"busybox","description":"Busybox base image.","star_count":3000,"is_official":true},
            {"name":"a/busybox","star_count":1,"is_automated":true,"pull_count":7}]}"#;
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut request, mut piece) = (Vec::new(), [0; 4096]);
            while !request.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut piece).unwrap();
                request.extend_from_slice(&piece[..count]);
            }
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).unwrap();
            String::from_utf8(request).unwrap()
        });
        let registries = Registries::with(Settings::default(), Credentials::of_this_user());
        let found = registries.ask_hub(&hub, "busy box", 25).unwrap();
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /v1/search?q=busy%20box&n=25 HTTP/1.1"), "{request}");
        assert!(!request.to_lowercase().contains("authorization"), "{request}");
        assert_eq!((found.len(), found[0].star_count, found[0].is_official), (2, 3000, true));
        assert_eq!((&*found[1].name, found[1].is_automated), ("a/busybox", true));
    }
}
