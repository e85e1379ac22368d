//! Which image runs a version: the operator's, unless a resource names its own.

use std::collections::BTreeMap;

/// Images by major version, and the pooler's. In the operators' catalogue:
/// `{"postgres": {"17": "postgres:17.6"}, "pgbouncer": "pgbouncer:1.24.1"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    majors: BTreeMap<u32, String>,
    pooler: Option<String>,
}

/// Why a catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It is not of that form.
    #[error(
        "the image catalogue has another form than {{\"postgres\": {{\"17\": \"postgres:17.6\"}}}}: {0}"
    )]
    Form(#[from] serde_json::Error),
    /// A key is no major version.
    #[error("the image catalogue names {0:?}, which is no major version: write for example \"17\"")]
    Version(String),
}

#[derive(serde::Deserialize)]
struct File {
    postgres: BTreeMap<String, String>,
    #[serde(default)]
    pgbouncer: Option<String>,
}

impl Catalogue {
    /// Reads this engine's part of the operators' catalogue.
    ///
    /// # Errors
    /// When it is no JSON of that form.
    pub fn from_json(text: &str) -> Result<Self, CatalogueError> {
        let file: File = serde_json::from_str(text)?;
        let majors = file
            .postgres
            .into_iter()
            .map(|(version, image)| match version.parse() {
                Ok(major) => Ok((major, image)),
                Err(_) => Err(CatalogueError::Version(version)),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            majors,
            pooler: file.pgbouncer.filter(|image| !image.is_empty()),
        })
    }

    /// With this image of the pooler.
    #[must_use]
    pub fn with_pooler(self, image: &str) -> Self {
        Self {
            pooler: Some(image.to_owned()),
            ..self
        }
    }

    /// The pooler's image.
    pub fn pooler(&self) -> Option<&str> {
        self.pooler.as_deref()
    }

    /// The image of a major version.
    pub fn image(&self, major: u32) -> Option<&str> {
        self.majors.get(&major).map(String::as_str)
    }

    /// Major versions with an image, in words.
    pub fn majors(&self) -> String {
        let majors: Vec<String> = self.majors.keys().map(u32::to_string).collect();
        if majors.is_empty() {
            "no version".into()
        } else {
            majors.join(", ")
        }
    }
}

impl FromIterator<(u32, String)> for Catalogue {
    fn from_iter<T: IntoIterator<Item = (u32, String)>>(images: T) -> Self {
        Self {
            majors: images.into_iter().collect(),
            pooler: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_by_major() {
        let catalogue = Catalogue::from_json(
            r#"{"postgres":{"17":"postgres:17.6","16":"postgres:16.9"},"other":{}}"#,
        )
        .unwrap();
        assert_eq!(catalogue.image(17), Some("postgres:17.6"));
        assert_eq!(catalogue.image(15), None);
        assert_eq!(catalogue.majors(), "16, 17");
        assert_eq!(catalogue.pooler(), None);
    }

    #[test]
    fn the_poolers_image_stands_beside_them() {
        let read = |image| {
            let text = format!(r#"{{"postgres":{{}},"pgbouncer":"{image}"}}"#);
            Catalogue::from_json(&text).unwrap()
        };
        assert_eq!(read("pgbouncer:1.24.1").pooler(), Some("pgbouncer:1.24.1"));
        assert_eq!(read("").pooler(), None);
    }

    #[test]
    fn other_forms_are_refused() {
        assert!(matches!(
            Catalogue::from_json("[]"),
            Err(CatalogueError::Form(_))
        ));
        assert!(matches!(
            Catalogue::from_json(r#"{"postgres":{"latest":"postgres:17"}}"#),
            Err(CatalogueError::Version(_))
        ));
    }
}
