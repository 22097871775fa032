//! Schemas and subjects: `TZ_SCHEMAS` and the tables around it.

use std::collections::BTreeSet;

use sqlx::{QueryBuilder, query, query_as, query_scalar};
use tereza_runtime::{Error, Result as PublicResult};

use super::{Connection, Db, Result};
use crate::store::names;
use crate::store::schemas::{
    Content, Deleted, Deletion, NewVersion, Page, Reference, Schema, Scope, SettingKind, Subject, SubjectFilter,
    SubjectName, Version,
};

/// Characters that names of contexts have at most.
const CONTEXT_CHARS: usize = 128;
/// Characters that names of subjects, and of references, have at most.
const SUBJECT_CHARS: usize = 512;
/// Characters that a subject with its context has at most, as references write it.
const SUBJECT_TEXT_CHARS: usize = 700;

/// Registers a schema in a subject.
pub(crate) async fn register(conn: &mut Connection, new: &NewVersion) -> Result<Version> {
    check(new)?;
    let SubjectName { context, subject } = &new.name;
    let referred = new.content.references.iter().map(|reference| reference.subject.context.as_str());
    let next_id = lock_contexts(conn, context, referred).await?;
    check_references(conn, new).await?;
    let found: Option<(i32, i64)> =
        query_as("SELECT LAST_VERSION, STAMP FROM TZ_SUBJECTS WHERE CTX = ? AND SUBJECT = ?")
            .bind(context)
            .bind(subject)
            .fetch_optional(&mut *conn)
            .await?;
    let (last_version, stamp) = found.unwrap_or((0, 0));
    if new.expected_stamp.is_some_and(|expected| expected != stamp) {
        return Err(Error::conflict(format!("subject '{subject}' was changed meanwhile")).into());
    }
    let known = match new.id {
        Some(id) => content_hash(conn, context, id).await?.map(|hash| (id, hash)),
        None => id_of(conn, context, &new.content.hash).await?.map(|id| (id, new.content.hash.clone())),
    };
    let id = match known {
        Some((id, hash)) if hash == new.content.hash => id,
        Some((id, _)) => {
            let message = format!("id {id} names another schema in context '{context}'");
            return Err(Error::already_exists(message).into());
        }
        None => {
            let none_left = |_| Error::resource_exhausted(format!("context '{context}' has no ids left"));
            let id = new.id.map_or_else(|| i32::try_from(next_id).map_err(none_left), Ok)?;
            insert_schema(conn, context, id, &new.content).await?;
            if i64::from(id) >= next_id {
                let next = i64::from(id) + 1;
                query("UPDATE TZ_SCHEMA_CONTEXTS SET NEXT_ID = ? WHERE CTX = ?")
                    .bind(next)
                    .bind(context)
                    .execute(&mut *conn)
                    .await?;
            }
            id
        }
    };
    if new.version.is_none() {
        let live = "SELECT MAX(VERSION) FROM TZ_SUBJECT_VERSIONS \
                    WHERE CTX = ? AND SUBJECT = ? AND SCHEMA_ID = ? AND DELETED = 0";
        let live: Option<i32> = query_scalar(live).bind(context).bind(subject).bind(id).fetch_one(&mut *conn).await?;
        if let Some(version) = live {
            return Ok(Version { version, id, deleted: false });
        }
    }
    let version = match new.version {
        Some(version) => version,
        None => last_version.checked_add(1).ok_or_else(|| Error::resource_exhausted("no version is left"))?,
    };
    // A deleted version of the same schema has a live one above it from now on, and is not needed any more.
    query("DELETE FROM TZ_SUBJECT_VERSIONS WHERE CTX = ? AND SUBJECT = ? AND SCHEMA_ID = ? AND DELETED = 1 AND VERSION < ?")
        .bind(context)
        .bind(subject)
        .bind(id)
        .bind(version)
        .execute(&mut *conn)
        .await?;
    let replaced = id_of_version(conn, &new.name, version).await?;
    query("DELETE FROM TZ_SUBJECT_VERSIONS WHERE CTX = ? AND SUBJECT = ? AND VERSION = ?")
        .bind(context)
        .bind(subject)
        .bind(version)
        .execute(&mut *conn)
        .await?;
    query("INSERT INTO TZ_SUBJECT_VERSIONS (CTX, SUBJECT, VERSION, SCHEMA_ID, DELETED) VALUES (?, ?, ?, ?, 0)")
        .bind(context)
        .bind(subject)
        .bind(version)
        .bind(id)
        .execute(&mut *conn)
        .await?;
    if let Some(replaced) = replaced {
        forget_unused(conn, context, replaced).await?;
    }
    put_subject(conn, &new.name, last_version.max(version), stamp + 1).await?;
    Ok(Version { version, id, deleted: false })
}

/// Refuses a schema if what it refers to was removed since its caller looked. One with an id that it has elsewhere may have
/// been deleted there together with what it refers to.
async fn check_references(conn: &mut Connection, new: &NewVersion) -> Result<()> {
    for Reference { subject, version: number, .. } in &new.content.references {
        let found = version(conn, subject, Some(*number)).await?;
        if !found.is_some_and(|found| !found.deleted || new.id.is_some()) {
            let message =
                format!("version {number} of subject '{}', which is referred to, is not there", subject.subject);
            return Err(Error::conflict(message).into());
        }
    }
    Ok(())
}

/// Keeps other writers of these contexts out and returns the next id of the first one, whose row is made if there is none.
/// The next id may be one above what an id can be. All are locked in one order, so that nobody waits for one another, and
/// before anything is read, as some databases read what was there when a transaction first read.
async fn lock_contexts<'a>(
    conn: &mut Connection,
    first: &'a str,
    others: impl Iterator<Item = &'a str>,
) -> Result<i64> {
    let contexts: BTreeSet<&str> = others.chain([first]).collect();
    for context in contexts {
        lock_row(conn, context).await?;
    }
    if let Some(next) = next_id(conn, first).await? {
        return Ok(next);
    }
    query("INSERT INTO TZ_SCHEMA_CONTEXTS (CTX, NEXT_ID) VALUES (?, 1)").bind(first).execute(conn).await?;
    Ok(1)
}

/// Keeps other writers of a context out; says whether there is one.
async fn lock_context(conn: &mut Connection, context: &str) -> Result<bool> {
    lock_row(conn, context).await?;
    Ok(next_id(conn, context).await?.is_some())
}

async fn lock_row(conn: &mut Connection, context: &str) -> Result<()> {
    query("UPDATE TZ_SCHEMA_CONTEXTS SET NEXT_ID = NEXT_ID + 0 WHERE CTX = ?").bind(context).execute(conn).await?;
    Ok(())
}

async fn next_id(conn: &mut Connection, context: &str) -> Result<Option<i64>> {
    let next = query_scalar("SELECT NEXT_ID FROM TZ_SCHEMA_CONTEXTS WHERE CTX = ?");
    Ok(next.bind(context).fetch_optional(conn).await?)
}

async fn put_subject(conn: &mut Connection, name: &SubjectName, last_version: i32, stamp: i64) -> Result<()> {
    let updated = query("UPDATE TZ_SUBJECTS SET LAST_VERSION = ?, STAMP = ? WHERE CTX = ? AND SUBJECT = ?")
        .bind(last_version)
        .bind(stamp)
        .bind(&name.context)
        .bind(&name.subject)
        .execute(&mut *conn)
        .await?;
    if updated.rows_affected() == 0 {
        query("INSERT INTO TZ_SUBJECTS (LAST_VERSION, STAMP, CTX, SUBJECT) VALUES (?, ?, ?, ?)")
            .bind(last_version)
            .bind(stamp)
            .bind(&name.context)
            .bind(&name.subject)
            .execute(conn)
            .await?;
    }
    Ok(())
}

async fn insert_schema(conn: &mut Connection, context: &str, id: i32, content: &Content) -> Result<()> {
    query(
        "INSERT INTO TZ_SCHEMAS (CTX, SCHEMA_ID, CONTENT_HASH, GUID, SCHEMA_TYPE, SCHEMA_TEXT, METADATA, RULE_SET) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(context)
    .bind(id)
    .bind(&content.hash)
    .bind(&content.guid)
    .bind(&content.kind)
    .bind(&content.text)
    .bind(&content.metadata)
    .bind(&content.rule_set)
    .execute(&mut *conn)
    .await?;
    for (index, reference) in (0_i32..).zip(&content.references) {
        query(
            "INSERT INTO TZ_SCHEMA_REFERENCES \
             (CTX, SCHEMA_ID, INTEGER_IDX, NAME, SUBJECT_TEXT, REF_CTX, REF_SUBJECT, REF_VERSION) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(context)
        .bind(id)
        .bind(index)
        .bind(&reference.name)
        .bind(&reference.subject_text)
        .bind(&reference.subject.context)
        .bind(&reference.subject.subject)
        .bind(reference.version)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// A schema by its id.
pub(crate) async fn load(conn: &mut Connection, context: &str, id: i32) -> Result<Option<Schema>> {
    type Row = (String, String, String, String, Option<String>, Option<String>);
    let row: Option<Row> = query_as(
        "SELECT CONTENT_HASH, GUID, SCHEMA_TYPE, SCHEMA_TEXT, METADATA, RULE_SET FROM TZ_SCHEMAS \
         WHERE CTX = ? AND SCHEMA_ID = ?",
    )
    .bind(context)
    .bind(id)
    .fetch_optional(&mut *conn)
    .await?;
    let Some((hash, guid, kind, text, metadata, rule_set)) = row else { return Ok(None) };
    let references: Vec<(String, String, String, String, i32)> = query_as(
        "SELECT NAME, SUBJECT_TEXT, REF_CTX, REF_SUBJECT, REF_VERSION FROM TZ_SCHEMA_REFERENCES \
         WHERE CTX = ? AND SCHEMA_ID = ? ORDER BY INTEGER_IDX",
    )
    .bind(context)
    .bind(id)
    .fetch_all(conn)
    .await?;
    let references = references.into_iter().map(|(name, subject_text, context, subject, version)| Reference {
        name,
        subject_text,
        subject: SubjectName { context, subject },
        version,
    });
    let content = Content { kind, text, references: references.collect(), metadata, rule_set, hash, guid };
    Ok(Some(Schema { context: context.to_owned(), id, content }))
}

async fn content_hash(conn: &mut Connection, context: &str, id: i32) -> Result<Option<String>> {
    let hash = query_scalar("SELECT CONTENT_HASH FROM TZ_SCHEMAS WHERE CTX = ? AND SCHEMA_ID = ?");
    Ok(hash.bind(context).bind(id).fetch_optional(conn).await?)
}

/// The least id of a content.
pub(crate) async fn id_of(conn: &mut Connection, context: &str, hash: &str) -> Result<Option<i32>> {
    let id = query_scalar("SELECT MIN(SCHEMA_ID) FROM TZ_SCHEMAS WHERE CTX = ? AND CONTENT_HASH = ?");
    Ok(id.bind(context).bind(hash).fetch_one(conn).await?)
}

/// The greatest id that a context has given out.
pub(crate) async fn greatest_id(conn: &mut Connection, context: &str) -> Result<i32> {
    Ok(next_id(conn, context).await?.and_then(|next| i32::try_from(next - 1).ok()).unwrap_or_default())
}

/// Where the content of a UUID is.
pub(crate) async fn of_guid(conn: &mut Connection, guid: &str, limit: u32) -> Result<Vec<(String, i32)>> {
    let places = query_as("SELECT CTX, SCHEMA_ID FROM TZ_SCHEMAS WHERE GUID = ? ORDER BY CTX, SCHEMA_ID LIMIT ?");
    Ok(places.bind(guid).bind(i64::from(limit)).fetch_all(conn).await?)
}

/// The versions that have a schema.
pub(crate) async fn versions_of(
    conn: &mut Connection,
    context: &str,
    id: i32,
    deleted: Deleted,
    page: Page,
) -> Result<Vec<(String, i32)>> {
    let mut statement = QueryBuilder::<Db>::new("SELECT SUBJECT, VERSION FROM TZ_SUBJECT_VERSIONS WHERE CTX = ");
    statement.push_bind(context.to_owned()).push(" AND SCHEMA_ID = ").push_bind(id);
    push_deleted(&mut statement, deleted);
    statement.push(" ORDER BY SUBJECT, VERSION");
    push_page(&mut statement, page);
    Ok(statement.build_query_as().fetch_all(conn).await?)
}

/// Whether a version of a subject has a schema.
pub(crate) async fn has_schema(conn: &mut Connection, name: &SubjectName, id: i32) -> Result<bool> {
    let found: Option<i64> =
        query_scalar("SELECT 1 FROM TZ_SUBJECT_VERSIONS WHERE CTX = ? AND SCHEMA_ID = ? AND SUBJECT = ? LIMIT 1")
            .bind(&name.context)
            .bind(id)
            .bind(&name.subject)
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// Contexts with subjects.
pub(crate) async fn contexts(conn: &mut Connection, page: Page) -> Result<Vec<String>> {
    let mut statement = QueryBuilder::<Db>::new("SELECT CTX FROM TZ_SCHEMA_CONTEXTS ORDER BY CTX");
    push_page(&mut statement, page);
    Ok(statement.build_query_scalar().fetch_all(conn).await?)
}

/// Forgets a context that has no subjects.
pub(crate) async fn drop_context(conn: &mut Connection, context: &str) -> Result<bool> {
    // Before the subjects are looked for: one that is registered meanwhile waits, or makes this wait.
    let exists = lock_context(conn, context).await?;
    let subject: Option<i64> = query_scalar("SELECT 1 FROM TZ_SUBJECTS WHERE CTX = ? LIMIT 1")
        .bind(context)
        .fetch_optional(&mut *conn)
        .await?;
    if subject.is_some() {
        return Ok(false);
    }
    query("DELETE FROM TZ_SCHEMA_SETTINGS WHERE CTX = ?").bind(context).execute(&mut *conn).await?;
    // A row that was not there was not locked, and may be of a subject that is registered right now.
    if exists {
        query("DELETE FROM TZ_SCHEMA_CONTEXTS WHERE CTX = ?").bind(context).execute(conn).await?;
    }
    Ok(true)
}

/// Subjects.
pub(crate) async fn subjects(conn: &mut Connection, filter: &SubjectFilter, page: Page) -> Result<Vec<SubjectName>> {
    let mut statement = QueryBuilder::<Db>::new("SELECT S.CTX, S.SUBJECT FROM TZ_SUBJECTS S WHERE ");
    push_filter(&mut statement, "S.", filter);
    let has_live = "EXISTS (SELECT 1 FROM TZ_SUBJECT_VERSIONS V \
                    WHERE V.CTX = S.CTX AND V.SUBJECT = S.SUBJECT AND V.DELETED = 0)";
    match filter.deleted {
        Deleted::Include => {}
        Deleted::Hide => _ = statement.push(" AND ").push(has_live),
        Deleted::Only => _ = statement.push(" AND NOT ").push(has_live),
    }
    statement.push(" ORDER BY S.CTX, S.SUBJECT");
    push_page(&mut statement, page);
    let rows: Vec<(String, String)> = statement.build_query_as().fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(context, subject)| SubjectName { context, subject }).collect())
}

/// A subject with all its versions.
pub(crate) async fn subject(conn: &mut Connection, name: &SubjectName) -> Result<Subject> {
    let found: Option<(i32, i64)> =
        query_as("SELECT LAST_VERSION, STAMP FROM TZ_SUBJECTS WHERE CTX = ? AND SUBJECT = ?")
            .bind(&name.context)
            .bind(&name.subject)
            .fetch_optional(&mut *conn)
            .await?;
    let Some((last_version, stamp)) = found else { return Ok(Subject::default()) };
    let versions: Vec<(i32, i32, i32)> = query_as(
        "SELECT VERSION, SCHEMA_ID, DELETED FROM TZ_SUBJECT_VERSIONS WHERE CTX = ? AND SUBJECT = ? ORDER BY VERSION",
    )
    .bind(&name.context)
    .bind(&name.subject)
    .fetch_all(conn)
    .await?;
    Ok(Subject { stamp, last_version, versions: versions.into_iter().map(version_row).collect() })
}

fn version_row((version, id, deleted): (i32, i32, i32)) -> Version {
    Version { version, id, deleted: deleted != 0 }
}

/// A version, or the last one that is not deleted.
pub(crate) async fn version(
    conn: &mut Connection,
    name: &SubjectName,
    version: Option<i32>,
) -> Result<Option<Version>> {
    let row: Option<(i32, i32, i32)> = match version {
        Some(version) => {
            query_as(
                "SELECT VERSION, SCHEMA_ID, DELETED FROM TZ_SUBJECT_VERSIONS \
                 WHERE CTX = ? AND SUBJECT = ? AND VERSION = ?",
            )
            .bind(&name.context)
            .bind(&name.subject)
            .bind(version)
            .fetch_optional(conn)
            .await?
        }
        None => {
            query_as(
                "SELECT VERSION, SCHEMA_ID, DELETED FROM TZ_SUBJECT_VERSIONS \
                 WHERE CTX = ? AND SUBJECT = ? AND DELETED = 0 ORDER BY VERSION DESC LIMIT 1",
            )
            .bind(&name.context)
            .bind(&name.subject)
            .fetch_optional(conn)
            .await?
        }
    };
    Ok(row.map(version_row))
}

async fn id_of_version(conn: &mut Connection, name: &SubjectName, number: i32) -> Result<Option<i32>> {
    Ok(version(conn, name, Some(number)).await?.map(|found| found.id))
}

/// Versions of the subjects of a filter.
pub(crate) async fn versions(
    conn: &mut Connection,
    filter: &SubjectFilter,
    latest: bool,
    page: Page,
) -> Result<Vec<(SubjectName, Version)>> {
    let mut statement = QueryBuilder::<Db>::new(
        "SELECT V.CTX, V.SUBJECT, V.VERSION, V.SCHEMA_ID, V.DELETED FROM TZ_SUBJECT_VERSIONS V WHERE ",
    );
    push_filter(&mut statement, "V.", filter);
    push_deleted(&mut statement, filter.deleted);
    if latest {
        statement.push(
            " AND V.VERSION = (SELECT MAX(L.VERSION) FROM TZ_SUBJECT_VERSIONS L \
             WHERE L.CTX = V.CTX AND L.SUBJECT = V.SUBJECT",
        );
        match filter.deleted {
            Deleted::Include => {}
            Deleted::Hide => _ = statement.push(" AND L.DELETED = 0"),
            Deleted::Only => _ = statement.push(" AND L.DELETED = 1"),
        }
        statement.push(")");
    }
    statement.push(" ORDER BY V.CTX, V.SUBJECT, V.VERSION");
    push_page(&mut statement, page);
    let rows: Vec<(String, String, i32, i32, i32)> = statement.build_query_as().fetch_all(conn).await?;
    let named = rows.into_iter().map(|(context, subject, version, id, deleted)| {
        (SubjectName { context, subject }, version_row((version, id, deleted)))
    });
    Ok(named.collect())
}

/// Ids of the schemas whose live versions refer to a version.
pub(crate) async fn referring(conn: &mut Connection, name: &SubjectName, version: i32, page: Page) -> Result<Vec<i32>> {
    let mut statement = QueryBuilder::<Db>::new(
        "SELECT DISTINCT R.SCHEMA_ID FROM TZ_SCHEMA_REFERENCES R JOIN TZ_SUBJECT_VERSIONS V \
         ON V.CTX = R.CTX AND V.SCHEMA_ID = R.SCHEMA_ID AND V.DELETED = 0 WHERE R.REF_CTX = ",
    );
    statement.push_bind(name.context.clone()).push(" AND R.REF_SUBJECT = ").push_bind(name.subject.clone());
    statement.push(" AND R.REF_VERSION = ").push_bind(version).push(" ORDER BY R.SCHEMA_ID");
    push_page(&mut statement, page);
    Ok(statement.build_query_scalar().fetch_all(conn).await?)
}

async fn is_referred_to(conn: &mut Connection, name: &SubjectName, version: i32) -> Result<bool> {
    Ok(!referring(conn, name, version, Page { offset: 0, limit: 1 }).await?.is_empty())
}

/// Deletes one version.
pub(crate) async fn delete_version(
    conn: &mut Connection,
    name: &SubjectName,
    number: i32,
    permanent: bool,
) -> Result<Deletion> {
    check_name(name)?;
    if !lock_context(conn, &name.context).await? {
        return Ok(Deletion::NotFound);
    }
    let Some(found) = version(conn, name, Some(number)).await? else { return Ok(Deletion::NotFound) };
    match (permanent, found.deleted) {
        (false, true) => return Ok(Deletion::AlreadyDeleted),
        (true, false) => return Ok(Deletion::NotDeleted(number)),
        _ if is_referred_to(conn, name, number).await? => return Ok(Deletion::Referenced(number)),
        _ => {}
    }
    delete(conn, name, &[found], permanent).await
}

/// Deletes a subject.
pub(crate) async fn delete_subject(conn: &mut Connection, name: &SubjectName, permanent: bool) -> Result<Deletion> {
    check_name(name)?;
    if !lock_context(conn, &name.context).await? {
        return Ok(Deletion::NotFound);
    }
    let Subject { versions, .. } = subject(conn, name).await?;
    if versions.is_empty() {
        return Ok(Deletion::NotFound);
    }
    let live = versions.iter().find(|version| !version.deleted);
    if !permanent && live.is_none() {
        return Ok(Deletion::AlreadyDeleted);
    }
    let going: Vec<Version> = versions.iter().copied().filter(|version| permanent || !version.deleted).collect();
    for version in &going {
        if is_referred_to(conn, name, version.version).await? {
            return Ok(Deletion::Referenced(version.version));
        }
    }
    if let Some(version) = live.filter(|_| permanent) {
        return Ok(Deletion::NotDeleted(version.version));
    }
    delete(conn, name, &going, permanent).await
}

async fn delete(conn: &mut Connection, name: &SubjectName, versions: &[Version], permanent: bool) -> Result<Deletion> {
    let statement = match permanent {
        true => "DELETE FROM TZ_SUBJECT_VERSIONS WHERE CTX = ? AND SUBJECT = ? AND VERSION = ?",
        false => "UPDATE TZ_SUBJECT_VERSIONS SET DELETED = 1 WHERE CTX = ? AND SUBJECT = ? AND VERSION = ?",
    };
    for version in versions {
        query(statement).bind(&name.context).bind(&name.subject).bind(version.version).execute(&mut *conn).await?;
        if permanent {
            forget_unused(conn, &name.context, version.id).await?;
        }
    }
    query("UPDATE TZ_SUBJECTS SET STAMP = STAMP + 1 WHERE CTX = ? AND SUBJECT = ?")
        .bind(&name.context)
        .bind(&name.subject)
        .execute(&mut *conn)
        .await?;
    let left = subject(conn, name).await?.versions;
    if left.is_empty() {
        query("DELETE FROM TZ_SUBJECTS WHERE CTX = ? AND SUBJECT = ?")
            .bind(&name.context)
            .bind(&name.subject)
            .execute(&mut *conn)
            .await?;
    }
    if left.iter().all(|version| version.deleted) {
        query("DELETE FROM TZ_SCHEMA_SETTINGS WHERE CTX = ? AND SUBJECT = ?")
            .bind(&name.context)
            .bind(&name.subject)
            .execute(conn)
            .await?;
    }
    Ok(Deletion::Done(versions.iter().map(|version| version.version).collect()))
}

/// Forgets a schema that no version has.
async fn forget_unused(conn: &mut Connection, context: &str, id: i32) -> Result<()> {
    let used: Option<i64> = query_scalar("SELECT 1 FROM TZ_SUBJECT_VERSIONS WHERE CTX = ? AND SCHEMA_ID = ? LIMIT 1")
        .bind(context)
        .bind(id)
        .fetch_optional(&mut *conn)
        .await?;
    if used.is_some() {
        return Ok(());
    }
    for delete in [
        "DELETE FROM TZ_SCHEMA_REFERENCES WHERE CTX = ? AND SCHEMA_ID = ?",
        "DELETE FROM TZ_SCHEMAS WHERE CTX = ? AND SCHEMA_ID = ?",
    ] {
        query(delete).bind(context).bind(id).execute(&mut *conn).await?;
    }
    Ok(())
}

/// A setting.
pub(crate) async fn setting(conn: &mut Connection, scope: &Scope, kind: SettingKind) -> Result<Option<String>> {
    let (context, subject) = place(scope);
    let body = query_scalar("SELECT BODY FROM TZ_SCHEMA_SETTINGS WHERE CTX = ? AND SUBJECT = ? AND KIND = ?");
    Ok(body.bind(context).bind(subject).bind(kind_name(kind)).fetch_optional(conn).await?)
}

/// Makes, replaces or removes a setting.
pub(crate) async fn set_setting(
    conn: &mut Connection,
    scope: &Scope,
    kind: SettingKind,
    body: Option<&str>,
) -> Result<()> {
    let (context, subject) = place(scope);
    if let Scope::Subject(name) = scope {
        check_name(name)?;
    }
    names::check_chars("the name of a context", context, CONTEXT_CHARS)?;
    query("DELETE FROM TZ_SCHEMA_SETTINGS WHERE CTX = ? AND SUBJECT = ? AND KIND = ?")
        .bind(context)
        .bind(subject)
        .bind(kind_name(kind))
        .execute(&mut *conn)
        .await?;
    if let Some(body) = body {
        query("INSERT INTO TZ_SCHEMA_SETTINGS (CTX, SUBJECT, KIND, BODY) VALUES (?, ?, ?, ?)")
            .bind(context)
            .bind(subject)
            .bind(kind_name(kind))
            .bind(body)
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// Settings of subjects.
pub(crate) async fn settings(
    conn: &mut Connection,
    kind: SettingKind,
    filter: &SubjectFilter,
    page: Page,
) -> Result<Vec<(SubjectName, String)>> {
    let mut statement =
        QueryBuilder::<Db>::new("SELECT CTX, SUBJECT, BODY FROM TZ_SCHEMA_SETTINGS WHERE SUBJECT <> '' AND KIND = ");
    statement.push_bind(kind_name(kind)).push(" AND ");
    push_filter(&mut statement, "", filter);
    statement.push(" ORDER BY CTX, SUBJECT");
    push_page(&mut statement, page);
    let rows: Vec<(String, String, String)> = statement.build_query_as().fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(context, subject, body)| (SubjectName { context, subject }, body)).collect())
}

const fn kind_name(kind: SettingKind) -> &'static str {
    match kind {
        SettingKind::Config => "config",
        SettingKind::Mode => "mode",
    }
}

fn place(scope: &Scope) -> (&str, &str) {
    match scope {
        Scope::Global => ("", ""),
        Scope::Context(context) => (context, ""),
        Scope::Subject(name) => (&name.context, &name.subject),
    }
}

/// Pushes the conditions on context and prefix, of columns with `alias`.
fn push_filter(statement: &mut QueryBuilder<Db>, alias: &'static str, filter: &SubjectFilter) {
    match &filter.context {
        Some(context) => _ = statement.push(alias).push("CTX = ").push_bind(context.clone()),
        None => _ = statement.push("1 = 1"),
    }
    if !filter.prefix.is_empty() {
        // A range, so that the index is used, and no character of the prefix means anything but itself.
        statement.push(" AND ").push(alias).push("SUBJECT >= ").push_bind(filter.prefix.clone());
        if let Some(end) = end_of_prefix(&filter.prefix) {
            statement.push(" AND ").push(alias).push("SUBJECT < ").push_bind(end);
        }
    }
}

/// The least text that is greater than all that begin with the prefix.
fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut end: Vec<char> = prefix.chars().collect();
    while let Some(last) = end.pop() {
        // The code points between are no characters.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            end.push(next);
            return Some(end.into_iter().collect());
        }
    }
    None
}

fn push_deleted(statement: &mut QueryBuilder<Db>, deleted: Deleted) {
    match deleted {
        Deleted::Include => {}
        Deleted::Hide => _ = statement.push(" AND DELETED = 0"),
        Deleted::Only => _ = statement.push(" AND DELETED = 1"),
    }
}

fn push_page(statement: &mut QueryBuilder<Db>, page: Page) {
    statement.push(" LIMIT ").push_bind(i64::from(page.limit)).push(" OFFSET ").push_bind(i64::from(page.offset));
}

fn check(new: &NewVersion) -> PublicResult<()> {
    check_name(&new.name)?;
    if new.version.is_some_and(|version| version < 1) || new.id.is_some_and(|id| id < 0) {
        return Err(Error::invalid_input("versions begin at 1 and ids at 0"));
    }
    for reference in &new.content.references {
        check_name(&reference.subject)?;
        names::check_chars("the name of a reference", &reference.name, SUBJECT_CHARS)?;
        names::check_chars("the subject of a reference", &reference.subject_text, SUBJECT_TEXT_CHARS)?;
    }
    Ok(())
}

fn check_name(name: &SubjectName) -> PublicResult<()> {
    if name.subject.is_empty() || name.context.is_empty() {
        return Err(Error::invalid_input("a subject and its context need names"));
    }
    names::check_chars("the name of a context", &name.context, CONTEXT_CHARS)?;
    names::check_chars("the name of a subject", &name.subject, SUBJECT_CHARS)
}
