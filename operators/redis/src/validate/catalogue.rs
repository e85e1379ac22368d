//! Which image runs a version: the operator's, unless a resource names its own.

use std::collections::BTreeMap;

use crate::settings::Flavour;

/// Images by engine and version. In the operators' catalogue:
/// `{"redis": {"8.0": "redis:8.0.2"}, "valkey": {"8.1": "valkey:8.1.1"}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Catalogue {
    #[serde(default)]
    redis: BTreeMap<String, String>,
    #[serde(default)]
    valkey: BTreeMap<String, String>,
}

/// The catalogue is not of that form.
#[derive(Debug, thiserror::Error)]
#[error(
    "the image catalogue has another form than {{\"redis\": {{\"8.0\": \"redis:8.0.2\"}}, \"valkey\": {{\"8.1\": \"valkey:8.1.1\"}}}}: {0}"
)]
pub struct CatalogueError(#[from] serde_json::Error);

impl Catalogue {
    /// Reads these engines' part of the operators' catalogue.
    ///
    /// # Errors
    /// When it is no JSON of that form.
    pub fn from_json(text: &str) -> Result<Self, CatalogueError> {
        Ok(serde_json::from_str(text)?)
    }

    fn of(&self, flavour: Flavour) -> &BTreeMap<String, String> {
        match flavour {
            Flavour::Redis => &self.redis,
            Flavour::Valkey => &self.valkey,
        }
    }

    /// The image of a version.
    pub fn image(&self, flavour: Flavour, version: &str) -> Option<&str> {
        self.of(flavour).get(version).map(String::as_str)
    }

    /// Versions with an image, in words.
    pub fn versions(&self, flavour: Flavour) -> String {
        let all: Vec<&str> = self.of(flavour).keys().map(String::as_str).collect();
        if all.is_empty() {
            "no version".into()
        } else {
            all.join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_by_engine_and_version() {
        let text = r#"{"postgres":{"17":"postgres:17.6"},"redis":{"8.0":"redis:8.0.2"},"valkey":{"8.1":"valkey:8.1.1"}}"#;
        let catalogue = Catalogue::from_json(text).unwrap();
        assert_eq!(catalogue.image(Flavour::Redis, "8.0"), Some("redis:8.0.2"));
        assert_eq!(
            catalogue.image(Flavour::Valkey, "8.1"),
            Some("valkey:8.1.1")
        );
        assert_eq!(catalogue.image(Flavour::Redis, "8.1"), None);
        assert_eq!(catalogue.versions(Flavour::Redis), "8.0");
        let none = Catalogue::from_json("{}").unwrap();
        assert_eq!(none.versions(Flavour::Valkey), "no version");
        assert!(Catalogue::from_json("[1]").is_err());
    }
}
