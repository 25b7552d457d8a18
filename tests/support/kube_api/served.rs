//! What the server is and has, by its own word: servers are of different ages.

use std::io::Write;

use super::KubeApi;
use super::resources::named;

impl KubeApi {
    /// Whether the server has this resource in the version that members use.
    pub fn serves(&self, resource: &str) -> bool {
        let resource = named(resource);
        let group = if resource.group.is_empty() { "/api" } else { "/apis" };
        let found = self.backing.document(&format!("{group}/{}", resource.api_version())).unwrap_or_default();
        let listed = found["resources"].as_array().map_or(&[][..], Vec::as_slice);
        listed.iter().any(|one| one["name"] == resource.plural)
    }

    /// Whether the server is without it, so that the calling test, or a part of it, has to be left out. Says so.
    pub fn lacks(&self, resource: &str) -> bool {
        if self.serves(resource) {
            return false;
        }
        self.leave_out(&format!("{resource} of {}", named(resource).api_version()));
        true
    }

    /// Whether the server is older than this minor version, and the rest of the calling test has to be left out. Says so.
    pub fn predates(&self, minor: u32) -> bool {
        let is_older = !self.is_since(minor);
        if is_older {
            self.leave_out(&format!("what came with Kubernetes 1.{minor}"));
        }
        is_older
    }

    fn leave_out(&self, what: &str) {
        let thread = std::thread::current();
        let (test, release) = (thread.name().unwrap_or("a test"), self.release());
        // Past libtest, which keeps what is printed.
        writeln!(std::io::stderr(), "\nnote: {test}: without {what}: the API server is {release}").ok();
    }

    /// `v1.32.1`.
    pub fn release(&self) -> String {
        let version = self.backing.document("/version").unwrap_or_default();
        version["gitVersion"].as_str().expect("a server has a version").to_owned()
    }

    /// Whether it is of this minor version or a newer one.
    pub fn is_since(&self, minor: u32) -> bool {
        let version = self.backing.document("/version").unwrap_or_default();
        let number = |field: &str| {
            let text = version[field].as_str().unwrap_or_default();
            // Some distributions write `32+`.
            text.trim_end_matches('+').parse::<u32>().unwrap_or_else(|_| panic!("no number {field}: {version}"))
        };
        (number("major"), number("minor")) >= (1, minor)
    }
}
