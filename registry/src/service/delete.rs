//! Deleting versions and subjects: softly first, then for good.

use tereza_catalog::store::schemas::{Deletion, SubjectName};

use super::Service;
use super::read::version;
use crate::names;
use crate::refusal::{Answer, Refusal};

impl Service {
    /// Deletes a subject and returns the versions that went.
    pub async fn delete_subject(&self, name: SubjectName, permanent: bool) -> Answer<Vec<i32>> {
        let name = self.meant(name).await?;
        let rendered = names::render(&name);
        if !names::is_valid(&name) {
            return Err(Refusal::subject_not_found(&rendered));
        }
        self.refuse_read_only(&name).await?;
        match self.store().delete_subject(&name, permanent).await? {
            Deletion::Done(versions) => {
                self.0.cache.clear();
                Ok(versions)
            }
            Deletion::NotFound => Err(Refusal::subject_not_found(&rendered)),
            Deletion::AlreadyDeleted => Err(Refusal::subject_soft_deleted(&rendered)),
            Deletion::NotDeleted(_) => Err(Refusal::subject_not_soft_deleted(&rendered)),
            Deletion::Referenced(version) => Err(Refusal::reference_exists(&rendered, version)),
        }
    }

    /// Deletes a version and returns its number.
    pub async fn delete_version(&self, name: SubjectName, text: &str, permanent: bool) -> Answer<i32> {
        let name = self.meant(name).await?;
        let rendered = names::render(&name);
        let number = match version(text)? {
            Some(number) => number,
            None => {
                let latest = self.store().subject_version(&name, None).await?;
                match latest {
                    Some(latest) => latest.version,
                    None if self.store().subject(&name).await?.versions.is_empty() => {
                        return Err(Refusal::subject_not_found(&rendered));
                    }
                    None => return Err(Refusal::version_not_found("latest")),
                }
            }
        };
        if self.store().subject_version(&name, Some(number)).await?.is_none() {
            let exists = !self.store().subject(&name).await?.versions.is_empty();
            return Err(if exists {
                Refusal::version_not_found(number)
            } else {
                Refusal::subject_not_found(&rendered)
            });
        }
        self.refuse_read_only(&name).await?;
        self.delete_as_named(&name, number, permanent).await.map(|()| number)
    }

    /// Deletes a version of the subject of this very name, whatever alias it has and whatever the mode is.
    pub(crate) async fn delete_as_named(&self, name: &SubjectName, number: i32, permanent: bool) -> Answer<()> {
        let rendered = names::render(name);
        match self.store().delete_version(name, number, permanent).await? {
            Deletion::Done(_) => {
                self.0.cache.clear();
                Ok(())
            }
            Deletion::NotFound => Err(Refusal::version_not_found(number)),
            Deletion::AlreadyDeleted => Err(Refusal::version_soft_deleted(&rendered, &number.to_string())),
            Deletion::NotDeleted(version) => Err(Refusal::version_not_soft_deleted(&rendered, version)),
            Deletion::Referenced(version) => Err(Refusal::reference_exists(&rendered, version)),
        }
    }
}
