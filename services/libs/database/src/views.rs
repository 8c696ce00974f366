//! The views that analysts see: the catalogue of them, and all rows of one.

use chrono::{DateTime, Utc};
use perito_domain::table::{Column, ColumnType};
use uuid::Uuid;

use crate::{
    Database,
    error::{During, Error, ErrorKind, Result},
    extract::{Extract, quote_identifier},
};

/// A view of the schema `analytics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its name, without the schema.
    pub name: String,
    /// What it holds.
    pub comment: String,
    /// Its columns, in order.
    pub columns: Vec<ViewColumn>,
}

/// A column of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewColumn {
    /// Its name.
    pub name: String,
    /// Its type, as Postgres calls it.
    pub sql_type: String,
    /// What it holds.
    pub comment: String,
    /// Its type in a file.
    pub kind: ColumnType,
    /// As what its values are sent, where that is not its own type.
    cast: Option<&'static str>,
}

/// How a column is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Operator {
    fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// A condition on a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column's name.
    pub column: String,
    /// How it is compared.
    pub comparison: Operator,
    /// With what, as text that the column's type reads.
    pub value: String,
}

/// Which rows of a view: those that meet all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowFilter {
    /// Of this run only.
    pub job: Option<Uuid>,
    /// Not before this moment, by the view's own time.
    pub since: Option<DateTime<Utc>>,
    /// Before this moment, by the view's own time.
    pub until: Option<DateTime<Utc>>,
    /// And what else.
    pub conditions: Vec<Condition>,
}

/// The columns that can be a view's own time: the first that it has.
const TIMES: [&str; 6] = ["finished_at", "scored_at", "failed_at", "decided_at", "registered_at", "created_at"];

impl View {
    /// All rows that meet the filter.
    ///
    /// # Errors
    /// `Invalid` when the filter names a column that the view does not have.
    pub fn extract(&self, filter: &RowFilter) -> Result<Extract> {
        let mut conditions = Vec::new();
        if let Some(job) = filter.job {
            self.condition(&mut conditions, "job_id", Operator::Equal, &job.to_string())?;
        }
        for (moment, comparison) in [(filter.since, Operator::GreaterOrEqual), (filter.until, Operator::Less)] {
            let Some(moment) = moment else { continue };
            let time = TIMES.into_iter().find(|time| self.columns.iter().any(|column| column.name == *time));
            let time = time.ok_or_else(|| {
                let message = format!("analytics.{} has no time of its own: compare a column instead", self.name);
                Error::new(ErrorKind::Invalid, message)
            })?;
            self.condition(&mut conditions, time, comparison, &moment.to_rfc3339())?;
        }
        for condition in &filter.conditions {
            self.condition(&mut conditions, &condition.column, condition.comparison, &condition.value)?;
        }
        let selected = self.columns.iter().map(|column| {
            let name = quote_identifier(&column.name);
            column.cast.map_or_else(|| name.clone(), |cast| format!("{name}::{cast} as {name}"))
        });
        let mut query = format!(
            "select {} from analytics.{}",
            selected.collect::<Vec<_>>().join(", "),
            quote_identifier(&self.name)
        );
        if !conditions.is_empty() {
            query.push_str(" where ");
            query.push_str(&conditions.join(" and "));
        }
        let columns = self.columns.iter().map(|column| Column { name: column.name.clone(), kind: column.kind });
        Ok(Extract { query, columns: columns.collect() })
    }

    fn condition(&self, to: &mut Vec<String>, column: &str, comparison: Operator, value: &str) -> Result<()> {
        if !self.columns.iter().any(|known| known.name == column) {
            let known: Vec<_> = self.columns.iter().map(|column| column.name.as_str()).collect();
            let message = format!("analytics.{} has no column {column:?}: it has {}", self.name, known.join(", "));
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if value.contains('\0') {
            return Err(Error::new(ErrorKind::Invalid, format!("the value for {column} has a zero byte")));
        }
        // Postgres reads the literal as the column's type, and refuses what is none.
        let literal = value.replace('\'', "''").replace('\\', "\\\\");
        to.push(format!("{} {} E'{literal}'", quote_identifier(column), comparison.sql()));
        Ok(())
    }
}

impl Database {
    /// The views that the connected role may read, by name.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn views(&self) -> Result<Vec<View>> {
        let rows = sqlx::query!(
            r#"select c.relname::text as "view!", coalesce(obj_description(c.oid, 'pg_class'), '') as "view_comment!",
                      a.attname::text as "name!", coalesce(col_description(c.oid, a.attnum), '') as "comment!",
                      format_type(a.atttypid, a.atttypmod) as "sql_type!", t.typname::text as "typname!", a.atttypmod as "modifier!"
               from pg_class c
               join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
               join pg_type t on t.oid = a.atttypid
               where c.relnamespace = to_regnamespace('analytics') and c.relkind in ('v', 'm') and has_table_privilege(c.oid, 'select')
               order by c.relname, a.attnum"#
        )
        .fetch_all(&self.control)
        .await
        .during("read the catalogue of views")?;
        let mut views: Vec<View> = Vec::new();
        for row in rows {
            if views.last().is_none_or(|view| view.name != row.view) {
                views.push(View { name: row.view, comment: row.view_comment, columns: Vec::new() });
            }
            let (kind, cast) = file_type(&row.typname, row.modifier);
            if let Some(view) = views.last_mut() {
                let column = ViewColumn { name: row.name, sql_type: row.sql_type, comment: row.comment, kind, cast };
                view.columns.push(column);
            }
        }
        Ok(views)
    }
}

/// The type in files of a type of Postgres, and as what its values are sent if not as themselves.
fn file_type(name: &str, modifier: i32) -> (ColumnType, Option<&'static str>) {
    match name {
        "bool" => (ColumnType::Bool, None),
        "int2" => (ColumnType::Int16, None),
        "int4" => (ColumnType::Int32, None),
        "int8" => (ColumnType::Int64, None),
        "float4" => (ColumnType::Float32, None),
        "float8" => (ColumnType::Float64, None),
        "uuid" => (ColumnType::Uuid, None),
        "date" => (ColumnType::Date, None),
        "timestamptz" => (ColumnType::Timestamp, None),
        "numeric" => match decimal(modifier) {
            Some((precision, scale)) => (ColumnType::Decimal { precision, scale }, Some("text")),
            None => (ColumnType::Float64, Some("float8")),
        },
        // Texts, classes, JSON, arrays and what else there may be.
        _ => (ColumnType::Text, Some("text")),
    }
}

/// Precision and scale, packed as Postgres has them (`numerictypmodin` in its source), if a file can hold them.
fn decimal(modifier: i32) -> Option<(u8, u8)> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    let (precision, scale) = (u8::try_from(packed >> 16).ok()?, u8::try_from(packed & 0x7ff).ok()?);
    (precision <= 38 && scale <= precision).then_some((precision, scale))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn view() -> View {
        let column = |name: &str, typname| {
            let (kind, cast) = file_type(typname, -1);
            ViewColumn { name: name.to_owned(), sql_type: typname.to_owned(), comment: String::new(), kind, cast }
        };
        let columns =
            vec![column("job_id", "uuid"), column("severity", "severity"), column("finished_at", "timestamptz")];
        View { name: "predictions".to_owned(), comment: String::new(), columns }
    }

    fn equal(column: &str, value: &str) -> RowFilter {
        let condition = Condition { column: column.to_owned(), comparison: Operator::Equal, value: value.to_owned() };
        RowFilter { conditions: vec![condition], ..RowFilter::default() }
    }

    #[test]
    fn values_stay_values() {
        let query = view().extract(&equal("severity", r"x' or 1=1 --\")).unwrap().query;
        assert!(query.ends_with(r#"from analytics."predictions" where "severity" = E'x'' or 1=1 --\\'"#), "{query}");
    }

    #[test]
    fn columns_are_those_of_the_view() {
        let refused = view().extract(&equal("severity\" = 'minor' or \"job_id", "x")).unwrap_err();
        assert!(refused.kind() == ErrorKind::Invalid && refused.to_string().contains("it has job_id, severity"));
    }

    #[test]
    fn since_needs_a_time() {
        let since = RowFilter { since: Some(DateTime::UNIX_EPOCH), ..RowFilter::default() };
        let query = view().extract(&since).unwrap().query;
        assert!(query.contains(r#""finished_at" >= E'1970-01-01T00:00:00+00:00'"#), "{query}");
        let mut timeless = view();
        timeless.columns.pop();
        assert!(timeless.extract(&since).unwrap_err().to_string().contains("no time of its own"));
    }

    #[test]
    fn decimals_keep_their_precision() {
        // numeric(20, 0), numeric(10, 2), numeric
        for (modifier, expected) in [((20 << 16) + 4, Some((20, 0))), ((10 << 16) + 2 + 4, Some((10, 2))), (-1, None)] {
            assert_eq!(decimal(modifier), expected);
        }
    }
}
