//! The methods of [`SchemaStore`], each one transaction of the database that this folder is compiled for.

use async_trait::async_trait;
use tereza_runtime::Result;

use super::super::dialect::{Catalog, change, read};
use super::schemas;
use crate::store::schemas::{
    Deleted, Deletion, NewVersion, Page, Schema, SchemaStore, Scope, SettingKind, Subject, SubjectFilter, SubjectName,
    Version,
};

#[async_trait]
impl SchemaStore for Catalog {
    async fn register_schema(&self, new: &NewVersion) -> Result<Version> {
        change!(self, conn => schemas::register(conn, new))
    }

    async fn schema(&self, context: &str, id: i32) -> Result<Option<Schema>> {
        read!(self, conn => schemas::load(conn, context, id))
    }

    async fn schema_id(&self, context: &str, hash: &str) -> Result<Option<i32>> {
        read!(self, conn => schemas::id_of(conn, context, hash))
    }

    async fn greatest_schema_id(&self, context: &str) -> Result<i32> {
        read!(self, conn => schemas::greatest_id(conn, context))
    }

    async fn schemas_of_guid(&self, guid: &str, limit: u32) -> Result<Vec<(String, i32)>> {
        read!(self, conn => schemas::of_guid(conn, guid, limit))
    }

    async fn versions_of_schema(
        &self,
        context: &str,
        id: i32,
        deleted: Deleted,
        page: Page,
    ) -> Result<Vec<(String, i32)>> {
        read!(self, conn => schemas::versions_of(conn, context, id, deleted, page))
    }

    async fn has_schema(&self, name: &SubjectName, id: i32) -> Result<bool> {
        read!(self, conn => schemas::has_schema(conn, name, id))
    }

    async fn schema_contexts(&self, page: Page) -> Result<Vec<String>> {
        read!(self, conn => schemas::contexts(conn, page))
    }

    async fn drop_schema_context(&self, context: &str) -> Result<bool> {
        change!(self, conn => schemas::drop_context(conn, context))
    }

    async fn subjects(&self, filter: &SubjectFilter, page: Page) -> Result<Vec<SubjectName>> {
        read!(self, conn => schemas::subjects(conn, filter, page))
    }

    async fn subject(&self, name: &SubjectName) -> Result<Subject> {
        read!(self, conn => schemas::subject(conn, name))
    }

    async fn subject_version(&self, name: &SubjectName, version: Option<i32>) -> Result<Option<Version>> {
        read!(self, conn => schemas::version(conn, name, version))
    }

    async fn subject_versions(
        &self,
        filter: &SubjectFilter,
        latest: bool,
        page: Page,
    ) -> Result<Vec<(SubjectName, Version)>> {
        read!(self, conn => schemas::versions(conn, filter, latest, page))
    }

    async fn referring_schemas(&self, name: &SubjectName, version: i32, page: Page) -> Result<Vec<i32>> {
        read!(self, conn => schemas::referring(conn, name, version, page))
    }

    async fn delete_version(&self, name: &SubjectName, version: i32, permanent: bool) -> Result<Deletion> {
        change!(self, conn => schemas::delete_version(conn, name, version, permanent))
    }

    async fn delete_subject(&self, name: &SubjectName, permanent: bool) -> Result<Deletion> {
        change!(self, conn => schemas::delete_subject(conn, name, permanent))
    }

    async fn schema_setting(&self, scope: &Scope, kind: SettingKind) -> Result<Option<String>> {
        read!(self, conn => schemas::setting(conn, scope, kind))
    }

    async fn set_schema_setting(&self, scope: &Scope, kind: SettingKind, body: Option<&str>) -> Result<()> {
        change!(self, conn => schemas::set_setting(conn, scope, kind, body))
    }

    async fn schema_settings(
        &self,
        kind: SettingKind,
        filter: &SubjectFilter,
        page: Page,
    ) -> Result<Vec<(SubjectName, String)>> {
        read!(self, conn => schemas::settings(conn, kind, filter, page))
    }
}
