//! Which statements may be run again, for jobs that begin again.

use datafusion::datasource::listing::ListingTableUrl;
use datafusion::sql::parser::{CopyToStatement, Statement};
use datafusion::sql::sqlparser::ast::{Statement as SqlStatement, TableObject};
use tereza_runtime::{Error, Result};

use super::parse::{Home, Own, Parsed, Scope, TableName, Text};
use super::session::SessionStatement;
use crate::catalogs::SessionTable;
use crate::jobs::Repeat;
use crate::session::Session;

/// What may be done with a statement that was interrupted.
pub(crate) async fn repeat(session: &Session, sql: &str) -> Result<Repeat> {
    match of_text(sql, &Scope::of(session))? {
        Effect::Known(repeat) => Ok(repeat),
        Effect::Insert(name) => {
            let found = session.context.table_provider(name.reference()).await;
            let is_in_memory = found.is_ok_and(|table| table.downcast_ref::<SessionTable>().is_some());
            Ok(if is_in_memory { Repeat::Always } else { Repeat::Never })
        }
    }
}

/// What a text tells.
#[derive(Debug, PartialEq, Eq)]
enum Effect {
    Known(Repeat),
    /// Rows go into a table of the session, which may be in memory, or files that another attempt finds.
    Insert(TableName),
}

fn of_text(sql: &str, scope: &Scope) -> Result<Effect> {
    let text = Text::new(sql, scope.clone())?;
    let known = match text.parse()? {
        Parsed::Own(own) => match own {
            Own::Ddl(ddl) => is_repeatable(ddl.is_repeatable()),
            Own::CreateView(create) => is_repeatable(create.is_repeatable()),
            Own::DropView(drop) => is_repeatable(drop.is_repeatable()),
            Own::Show(_) | Own::Describe(_) | Own::Analyze(_) => Repeat::UnlessDone,
            // Cancelling twice cancels once; a job without a name would be submitted twice.
            Own::Call(call) => is_repeatable(call.is_repeatable()),
            Own::Session(SessionStatement::Immediate(sql)) => return of_text(&sql, scope),
            Own::Session(_) => Repeat::Always,
            Own::Stream(statement) => statement.repeat(),
        },
        Parsed::DataFusion(statement) => return of_datafusion(&statement, scope),
    };
    Ok(Effect::Known(known))
}

fn is_repeatable(yes: bool) -> Repeat {
    if yes { Repeat::UnlessDone } else { Repeat::Never }
}

/// DataFusion's statements change nothing but the session, except INSERT and COPY.
fn of_datafusion(statement: &Statement, scope: &Scope) -> Result<Effect> {
    let statement = match statement {
        Statement::Statement(statement) => statement,
        Statement::CreateExternalTable(_) | Statement::Reset(_) => return Ok(Effect::Known(Repeat::Always)),
        Statement::CopyTo(copy) => return Ok(Effect::Known(is_repeatable(makes_one_file(copy)))),
        Statement::Explain(explain) if explain.options.analyze => return of_datafusion(&explain.statement, scope),
        Statement::Explain(_) => return Ok(Effect::Known(Repeat::UnlessDone)),
    };
    of_sql(statement, scope)
}

fn of_sql(statement: &SqlStatement, scope: &Scope) -> Result<Effect> {
    let known = match statement {
        SqlStatement::Explain { analyze: true, statement, .. } => return of_sql(statement, scope),
        SqlStatement::Query(_) | SqlStatement::Explain { .. } => Repeat::UnlessDone,
        SqlStatement::Insert(insert) => match &insert.table {
            TableObject::TableName(name) => {
                let name = scope.table(scope.parts(name)?)?;
                if name.home() == Home::Session {
                    return Ok(Effect::Insert(name));
                }
                Repeat::UnlessDone
            }
            _ => Repeat::UnlessDone,
        },
        // Its EXECUTE does not say what it runs.
        SqlStatement::Prepare { statement, .. } => match of_sql(statement, scope)? {
            Effect::Known(Repeat::UnlessDone) => Repeat::Always,
            _ => {
                return Err(Error::unsupported("in a job, PREPARE of a statement that changes the session")
                    .with_hint("run the statement itself"));
            }
        },
        SqlStatement::Execute { .. } => Repeat::UnlessDone,
        _ => Repeat::Always,
    };
    Ok(Effect::Known(known))
}

/// Whether COPY makes one file, the same again if it runs again; in a folder it would be one more. As DataFusion decides it.
fn makes_one_file(copy: &CopyToStatement) -> bool {
    let target = ListingTableUrl::parse(&copy.target);
    let is_file = target.is_ok_and(|target| !target.is_collection() && target.file_extension().is_some());
    is_file && copy.partitioned_by.is_empty()
}

#[cfg(test)]
mod tests {
    use tereza_runtime::ErrorKind;

    use super::super::parse::tests::scope;
    use super::*;

    #[test]
    fn statements_are_told_apart_by_what_repeating_them_does() {
        let all = [
            (Repeat::Always, "use a"),
            (Repeat::Always, "set datafusion.execution.batch_size = 100"),
            (Repeat::Always, "create temporary table t as select 1"),
            (Repeat::Always, "create table memory.public.t (a int)"),
            (Repeat::Always, "prepare p as select 1"),
            (Repeat::UnlessDone, "select 1"),
            (Repeat::UnlessDone, "explain select 1"),
            (Repeat::UnlessDone, "show tables"),
            (Repeat::UnlessDone, "insert into t values (1)"),
            (Repeat::UnlessDone, "insert overwrite t select 1"),
            (Repeat::UnlessDone, "insert into t partition (ds = '1') select 1"),
            (Repeat::UnlessDone, "create table t as select 1 as a"),
            (Repeat::UnlessDone, "create table if not exists t (a int)"),
            (Repeat::UnlessDone, "drop table if exists t"),
            (Repeat::UnlessDone, "create or replace view v as select 1 as a"),
            (Repeat::UnlessDone, "truncate table t"),
            (Repeat::UnlessDone, "analyze table t compute statistics"),
            (Repeat::UnlessDone, "copy (select 1) to '/tmp/a.csv'"),
            (Repeat::Never, "copy (select 1) to '/tmp/a'"),
            (Repeat::Never, "copy (select 1) to '/tmp/a.b/' stored as csv"),
            (Repeat::Never, "copy (select 1) to 's3://b/a.csv.' stored as csv"),
            (Repeat::Never, "copy (select 1 as a, 2 as b) to '/tmp/a.csv' partitioned by (b)"),
            (Repeat::UnlessDone, "explain insert into scratch values (1)"),
            (Repeat::UnlessDone, "explain analyze insert into t values (1)"),
            (Repeat::Never, "explain analyze copy (select 1) to '/tmp/a'"),
            (Repeat::Always, "prepare p as insert into t values (1)"),
            (Repeat::UnlessDone, "execute p"),
            (Repeat::UnlessDone, "execute immediate 'select 1'"),
            (Repeat::Always, "execute immediate 'use a'"),
            (Repeat::Always, "create temporary table t (a int) with ('connector' = 'kafka')"),
            (Repeat::UnlessDone, "create table if not exists t (a int) with ('connector' = 'kafka')"),
            (Repeat::Never, "create table t (a int) with ('connector' = 'kafka')"),
            (Repeat::UnlessDone, "execute statement set begin insert into t select 1; end"),
            (Repeat::Never, "create table t (a int)"),
            (Repeat::Never, "create schema s"),
            (Repeat::Never, "drop table t"),
            (Repeat::Never, "create view v as select 1 as a"),
            (Repeat::Never, "alter table t rename to u"),
            (Repeat::Never, "call system.runtime.submit_job('select 1')"),
            (Repeat::UnlessDone, "call system.runtime.submit_job('select 1', name => 'a')"),
            (Repeat::Never, "call system.runtime.submit_job('select 1', name => 'a', again => true)"),
        ];
        for (expected, sql) in all {
            assert_eq!(of_text(sql, &scope()).expect(sql), Effect::Known(expected), "{sql}");
        }
        // A folder may be named like a file.
        let folder = tempfile::Builder::new().suffix(".csv").tempdir().expect("a folder");
        let sql = format!("copy (select 1) to '{}'", folder.path().display());
        assert_eq!(of_text(&sql, &scope()).expect("COPY"), Effect::Known(Repeat::Never));
        for sql in ["insert into scratch values (1)", "explain analyze insert into memory.public.scratch values (1)"] {
            assert_eq!(
                of_text(sql, &scope()).expect(sql),
                Effect::Insert(Scope::temporary_table("scratch".into())),
                "{sql}"
            );
        }
        let refused =
            of_text("prepare p as insert into scratch values (1)", &scope()).expect_err("it changes the session");
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    }
}
