//! The trait of everything that keeps the schemas of a registry: contents with ids, and subjects with versions.
//!
//! Rules that every implementation keeps ([`crate::conformance::schemas`] checks them):
//! * each method is one transaction, as in [`crate::Store`];
//! * a context gives each content one id, whatever subjects it is registered in, unless an import brought several;
//! * an id names one content for as long as a version of some subject has it, deleted softly or not; a content that no
//!   version has any more is gone;
//! * a subject's versions go up from 1 and none is given twice while the subject exists. One whose last version was removed
//!   for good does not exist any more, and begins at 1 again;
//! * a version that a live version of another schema refers to is not deleted.
//!
//! What texts mean is not known here: compatibility is checked by the caller, who names the state of the subject that it
//! looked at ([`NewVersion::expected_stamp`]).

use std::fmt::Debug;

use async_trait::async_trait;
use tereza_runtime::Result;

/// The context of subjects that name none.
pub const DEFAULT_CONTEXT: &str = ".";

/// A reference to a version of another subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The name that the schema uses for it: a type's, a file's, a URL.
    pub name: String,
    /// The subject as the client wrote it, perhaps with a context.
    pub subject_text: String,
    /// The subject that it means.
    pub subject: SubjectName,
    /// Its version.
    pub version: i32,
}

/// Everything that makes two schemas the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// `AVRO`, `JSON` or `PROTOBUF`.
    pub kind: String,
    /// The schema in its canonical form.
    pub text: String,
    /// What it refers to, in order.
    pub references: Vec<Reference>,
    /// Metadata as JSON.
    pub metadata: Option<String>,
    /// Rules as JSON.
    pub rule_set: Option<String>,
    /// A hash over all of the above, 64 hexadecimal digits: equal for equal contents only.
    pub hash: String,
    /// The UUID that says the same to clients.
    pub guid: String,
}

/// A content with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The context.
    pub context: String,
    /// The id in the context.
    pub id: i32,
    /// The content.
    pub content: Content,
}

/// A subject in its context. Ordered as lists of subjects are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectName {
    /// The context: [`DEFAULT_CONTEXT`], or a name that begins with a dot.
    pub context: String,
    /// The name in the context.
    pub subject: String,
}

/// One version of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The number.
    pub version: i32,
    /// The id of its schema.
    pub id: i32,
    /// Deleted softly.
    pub deleted: bool,
}

/// A subject as one transaction found it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// Changes with the subject; 0 if there is none.
    pub stamp: i64,
    /// The greatest version that it ever had; 0 if there is none.
    pub last_version: i32,
    /// All versions in order, deleted ones too.
    pub versions: Vec<Version>,
}

/// A schema to be registered in a subject.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// The subject.
    pub name: SubjectName,
    /// The schema.
    pub content: Content,
    /// The id that it must get (imports).
    pub id: Option<i32>,
    /// The version that it must get; whatever has it is replaced (imports).
    pub version: Option<i32>,
    /// Refuse with `Conflict` unless the subject still has this stamp.
    pub expected_stamp: Option<i64>,
}

/// Which versions a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deleted {
    /// Those that are not deleted.
    #[default]
    Hide,
    /// All.
    Include,
    /// Those that are deleted.
    Only,
}

/// Part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// How many to leave out at the beginning.
    pub offset: u32,
    /// How many to return at most.
    pub limit: u32,
}

/// Which subjects a list shows.
#[derive(Debug, Clone, Default)]
pub struct SubjectFilter {
    /// Those of one context; of all if none.
    pub context: Option<String>,
    /// Those whose names begin with it.
    pub prefix: String,
    /// Whether a subject is shown: one is deleted when all its versions are.
    pub deleted: Deleted,
}

/// What became of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// Done: these versions.
    Done(Vec<i32>),
    /// There is no such subject or version.
    NotFound,
    /// It was deleted softly before, and is asked to be so again.
    AlreadyDeleted,
    /// It has to be deleted softly first: this version.
    NotDeleted(i32),
    /// Another schema refers to this version.
    Referenced(i32),
}

/// What settings there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingKind {
    /// Compatibility and what else has to do with registering.
    Config,
    /// What may be done at all.
    Mode,
}

/// Whose settings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything.
    Global,
    /// All subjects of a context.
    Context(String),
    /// One subject.
    Subject(SubjectName),
}

/// Something that keeps schemas.
#[async_trait]
pub trait SchemaStore: Send + Sync + Debug + 'static {
    /// Registers a schema in a subject and returns its version. One that the subject has already, not deleted, stays as it
    /// is, unless a version is asked for. `Conflict` if the subject has changed; `AlreadyExists` if the id names another
    /// content.
    async fn register_schema(&self, new: &NewVersion) -> Result<Version>;
    /// A schema by its id.
    async fn schema(&self, context: &str, id: i32) -> Result<Option<Schema>>;
    /// The least id that a content has in a context.
    async fn schema_id(&self, context: &str, hash: &str) -> Result<Option<i32>>;
    /// The greatest id that a context has given out; 0 if none.
    async fn greatest_schema_id(&self, context: &str) -> Result<i32>;
    /// Where the content of a UUID is, sorted, at most `limit`.
    async fn schemas_of_guid(&self, guid: &str, limit: u32) -> Result<Vec<(String, i32)>>;
    /// The versions that have a schema, sorted by subject and version.
    async fn versions_of_schema(
        &self,
        context: &str,
        id: i32,
        deleted: Deleted,
        page: Page,
    ) -> Result<Vec<(String, i32)>>;
    /// Whether a version of a subject, deleted or not, has a schema.
    async fn has_schema(&self, name: &SubjectName, id: i32) -> Result<bool>;
    /// Contexts with subjects, sorted.
    async fn schema_contexts(&self, page: Page) -> Result<Vec<String>>;
    /// Forgets a context; false if there are subjects in it, deleted ones too.
    async fn drop_schema_context(&self, context: &str) -> Result<bool>;
    /// Subjects, sorted.
    async fn subjects(&self, filter: &SubjectFilter, page: Page) -> Result<Vec<SubjectName>>;
    /// A subject with all its versions; none are those of a subject that does not exist.
    async fn subject(&self, name: &SubjectName) -> Result<Subject>;
    /// A version, or the last one that is not deleted.
    async fn subject_version(&self, name: &SubjectName, version: Option<i32>) -> Result<Option<Version>>;
    /// Versions of the subjects of a filter, sorted by subject and version; each subject's last one only if `latest`. The
    /// filter's `deleted` is of versions.
    async fn subject_versions(
        &self,
        filter: &SubjectFilter,
        latest: bool,
        page: Page,
    ) -> Result<Vec<(SubjectName, Version)>>;
    /// Ids of the schemas whose live versions refer to a version, sorted.
    async fn referring_schemas(&self, name: &SubjectName, version: i32, page: Page) -> Result<Vec<i32>>;
    /// Deletes one version, softly or for good.
    async fn delete_version(&self, name: &SubjectName, version: i32, permanent: bool) -> Result<Deletion>;
    /// Deletes a subject: softly all versions that are not deleted, or for good all that are.
    async fn delete_subject(&self, name: &SubjectName, permanent: bool) -> Result<Deletion>;
    /// A setting as JSON.
    async fn schema_setting(&self, scope: &Scope, kind: SettingKind) -> Result<Option<String>>;
    /// Makes or replaces a setting; none removes it.
    async fn set_schema_setting(&self, scope: &Scope, kind: SettingKind, body: Option<&str>) -> Result<()>;
    /// Settings of the subjects of a filter, whether they exist or not, sorted.
    async fn schema_settings(
        &self,
        kind: SettingKind,
        filter: &SubjectFilter,
        page: Page,
    ) -> Result<Vec<(SubjectName, String)>>;
}
