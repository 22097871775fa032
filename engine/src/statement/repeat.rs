//! Which statements may be run again, for jobs that begin again.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Statement as SqlStatement, TableObject};
use tereza_runtime::Result;

use super::parse::{Home, Own, Parsed, Scope, Text};
use super::session::SessionStatement;
use crate::jobs::Repeat;
use crate::session::Session;

/// What may be done with a statement that was interrupted.
pub(crate) fn repeat(session: &Session, sql: &str) -> Result<Repeat> {
    of_text(sql, &Scope::of(session))
}

fn of_text(sql: &str, scope: &Scope) -> Result<Repeat> {
    let text = Text::new(sql, scope.clone())?;
    let is_repeatable = |yes: bool| if yes { Repeat::UnlessDone } else { Repeat::Never };
    Ok(match text.parse()? {
        Parsed::Own(own) => match own {
            Own::Ddl(ddl) => is_repeatable(ddl.is_repeatable()),
            Own::CreateView(create) => is_repeatable(create.is_repeatable()),
            Own::DropView(drop) => is_repeatable(drop.is_repeatable()),
            Own::Show(_) | Own::Describe(_) | Own::Analyze(_) => Repeat::UnlessDone,
            // Cancelling twice cancels once; a job without a name would be submitted twice.
            Own::Call(call) => is_repeatable(call.is_repeatable()),
            Own::Session(SessionStatement::Immediate(sql)) => of_text(&sql, scope)?,
            Own::Session(_) => Repeat::Always,
        },
        Parsed::DataFusion(statement) => of_datafusion(&statement, scope)?,
    })
}

/// DataFusion's statements change nothing but the session, except INSERT, and COPY, which makes the same file again.
fn of_datafusion(statement: &Statement, scope: &Scope) -> Result<Repeat> {
    let Statement::Statement(statement) = statement else {
        return Ok(match statement {
            Statement::CreateExternalTable(_) | Statement::Reset(_) => Repeat::Always,
            _ => Repeat::UnlessDone,
        });
    };
    Ok(match statement.as_ref() {
        SqlStatement::Query(_) | SqlStatement::Explain { .. } | SqlStatement::Execute { .. } => Repeat::UnlessDone,
        SqlStatement::Insert(insert) => match &insert.table {
            TableObject::TableName(name) if scope.table(scope.parts(name)?)?.home() == Home::Session => Repeat::Always,
            _ => Repeat::UnlessDone,
        },
        _ => Repeat::Always,
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse::tests::scope;
    use super::*;

    #[test]
    fn statements_are_told_apart_by_what_repeating_them_does() {
        let all = [
            (Repeat::Always, "use a"),
            (Repeat::Always, "set datafusion.execution.batch_size = 100"),
            (Repeat::Always, "create temporary table t as select 1"),
            (Repeat::Always, "create table memory.public.t (a int)"),
            (Repeat::Always, "insert into scratch values (1)"),
            (Repeat::Always, "insert into memory.public.t values (1)"),
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
            (Repeat::UnlessDone, "execute immediate 'select 1'"),
            (Repeat::Always, "execute immediate 'use a'"),
            (Repeat::Never, "create table t (a int)"),
            (Repeat::Never, "create schema s"),
            (Repeat::Never, "drop table t"),
            (Repeat::Never, "create view v as select 1 as a"),
            (Repeat::Never, "alter table t rename to u"),
            (Repeat::Never, "call system.runtime.submit_job('select 1')"),
            (Repeat::UnlessDone, "call system.runtime.submit_job('select 1', name => 'a')"),
        ];
        for (expected, sql) in all {
            assert_eq!(of_text(sql, &scope()).expect(sql), expected, "{sql}");
        }
    }
}
