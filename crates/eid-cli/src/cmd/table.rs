//! `eid table`.

use std::ops::Bound;
use std::path::Path as FilePath;
use std::time::Instant;

use eid::{
    Database, ErrorKind, Filter, IndexProgress, IndexState, PageCursor, Path, Query, RowChange, Table as Rows,
};
use serde_json::{Map, Value, json};

use crate::args::{Format, Question, Table};
use crate::cmd::{Context, doc};
use crate::failure::Failure;
use crate::limits::WATCH_SIGN_OF_LIFE;
use crate::output::{Gone, count, json_line, number_of, printable};
use crate::rows::{self, FileRow};

type Row = Map<String, Value>;

/// Runs one of its sub-commands.
///
/// # Errors
/// Whatever the sub-command fails with.
pub async fn run(context: &Context, args: &Table) -> Result<(), Failure> {
    match args {
        Table::Import { db, table, file, format, key, batch } => {
            let import = Import { table, file, format: *format, key: key.as_deref(), batch: *batch };
            import.run(context, &context.database(db)?).await
        }
        Table::Export { db, table, format } => {
            let format = if context.out.json() { Format::Jsonl } else { *format };
            let db = context.database(db)?;
            exists(&db, table)?;
            export(context, &db.table(table), format)
        }
        Table::Get { db, table, key } => {
            let rows: Rows<Row> = context.database(db)?.table(table);
            let row = Value::Object(rows.get(key)?.ok_or_else(|| no_row(table, key))?);
            if context.out.json() {
                context.out.value(&row)?;
            } else {
                context.out.data(&serde_json::to_string_pretty(&row).unwrap_or_else(|_| row.to_string()))?;
            }
            Ok(())
        }
        Table::Put { db, table, key, row: text } => {
            let row = match serde_json::from_str(text) {
                Ok(Value::Object(row)) => row,
                Ok(_) => {
                    return Err(Failure::input("a row is a JSON object").hint("write '{\"field\": value}'"));
                }
                Err(error) => {
                    return Err(Failure::input(format!("the row is not JSON: {error}"))
                        .hint("write '{\"field\": value}'"));
                }
            };
            let db = context.database(db)?;
            let ((), entry) = db.commit(|tx| tx.table::<Row>(table).put(key, &row)).await?;
            doc::written(context, entry, || format!("put {}", printable(key)))
        }
        Table::Delete { db, table, key } => {
            let db = context.database(db)?;
            if db.table::<Row>(table).get(key)?.is_none() {
                return Err(no_row(table, key));
            }
            let ((), entry) = db.commit(|tx| tx.table::<Row>(table).delete(key)).await?;
            doc::written(context, entry, || format!("deleted {}", printable(key)))
        }
        Table::Query { question, explain, after } => query(context, question, *explain, after.as_ref()),
        Table::Index { db, table, field, drop } => {
            let db = context.database(db)?;
            exists(&db, table)?;
            match field {
                None => indexes(context, &db, table),
                Some(field) if *drop => drop_index(context, &db, table, field).await,
                Some(field) => create_index(context, &db, table, field).await,
            }
        }
        Table::Watch { question, changes } => watch(context, question, *changes).await,
    }
}

/// The query that a person means.
fn asked(context: &Context, question: &Question) -> Result<Query<Row>, Failure> {
    let db = context.database(&question.db)?;
    exists(&db, &question.table)?;
    let mut query = db.table::<Row>(&question.table).query();
    for text in &question.conditions {
        let filter: Filter = text.parse().map_err(|error| {
            Failure::usage(format!("in the condition `{}`: {error}", printable(text)))
                .hint("for example --where 'elevation > 300 and not (state = AK or name ~ \"San*\")'")
        })?;
        query = query.matching(filter);
    }
    for field in &question.order {
        let parse = |name: &str| name.parse::<Path>().map_err(|error| Failure::usage(error.to_string()));
        query = match field.strip_prefix('-') {
            Some(field) => query.order_desc(parse(field)?),
            None => query.order(parse(field)?),
        };
    }
    Ok(query.limit(question.limit.unwrap_or(usize::MAX)))
}

fn query(
    context: &Context,
    question: &Question,
    explain: bool,
    after: Option<&PageCursor>,
) -> Result<(), Failure> {
    let mut query = asked(context, question)?;
    if let Some(after) = after {
        query = query.page_after(after);
    }
    if explain {
        let plan = query.explain()?;
        let indexes: Vec<String> = plan.indexes().map(ToString::to_string).collect();
        let value = json!({
            "plan": plan.to_string(),
            "indexes": indexes,
            "scans_table": plan.scans_table(),
            "sorts": plan.sorts(),
        });
        context.out.say(&value, || printable(&plan.to_string()))?;
        return Ok(());
    }
    let page = query.page()?;
    if context.out.json() {
        for (key, row) in page.rows {
            context.out.value(&json!({"key": key, "row": row}))?;
        }
        return Ok(());
    }
    show(context, &page.rows)?;
    if let Some(next) = page.next.filter(|_| question.limit.is_some()) {
        context.out.note(format!("there may be more: --after '{next}'"))?;
    }
    Ok(())
}

fn indexes(context: &Context, db: &Database, table: &str) -> Result<(), Failure> {
    let declared = db.registry().indexes(table)?;
    let state = |state| match state {
        IndexState::Ready => "ready",
        IndexState::Building => "building",
        IndexState::Dropping => "dropping",
        IndexState::Pending => "pending",
    };
    let found = db.table::<Row>(table).indexes()?;
    let on_all = |field: &Path| declared.contains(&field.to_string());
    if context.out.json() {
        for index in found {
            let declared = on_all(&index.field);
            let line =
                json!({"field": index.field.to_string(), "state": state(index.state), "declared": declared});
            context.out.value(&line)?;
        }
        return Ok(());
    }
    let lines: Vec<Vec<String>> = found
        .iter()
        .map(|index| {
            let here = if on_all(&index.field) { "every device" } else { "this device" };
            vec![printable(&index.field.to_string()), state(index.state).to_owned(), here.to_owned()]
        })
        .collect();
    if !lines.is_empty() {
        context.out.text(context.out.columns(&["FIELD", "STATE", "WANTED ON"], &lines))?;
    }
    context.out.note(number_of(lines.len() as u64, "index", "indexes"))?;
    Ok(())
}

/// Declares the index for all devices, as far as this one may, and builds it here.
async fn create_index(context: &Context, db: &Database, table: &str, field: &Path) -> Result<(), Failure> {
    let started = Instant::now();
    let declared = match db.registry().declare_index(table, &field.to_string()).await {
        Ok(()) => true,
        Err(error) if matches!(error.kind(), ErrorKind::Forbidden | ErrorKind::Sealed) => false,
        Err(error) => return Err(error.into()),
    };
    let total = db.table::<Row>(table).count()?;
    let out = context.out.clone();
    let told = move |progress: &IndexProgress| out.progress("indexing", progress.rows, total).is_ok();
    let done = db.table::<Row>(table).create_index_telling(field, told).await?;
    if !done {
        return Err(Gone.into());
    }
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let value = json!({"field": field.to_string(), "rows": total, "declared": declared, "ms": ms});
    context.out.say(&value, || {
        let here = if declared { "" } else { ", on this device only" };
        let rows = number_of(total, "row", "rows");
        format!("indexed {} of {rows}{here}, {} ms", printable(&field.to_string()), count(ms))
    })?;
    Ok(())
}

async fn drop_index(context: &Context, db: &Database, table: &str, field: &Path) -> Result<(), Failure> {
    let name = field.to_string();
    let held = db.table::<Row>(table).indexes()?.iter().any(|index| index.field == *field);
    if !held && !db.registry().indexes(table)?.contains(&name) {
        return Err(Failure::not_found(format!("there is no index on \"{}\"", printable(&name))));
    }
    match db.registry().undeclare_index(table, &name).await {
        Err(error) if !matches!(error.kind(), ErrorKind::Forbidden | ErrorKind::Sealed) => {
            return Err(error.into());
        }
        _ => {}
    }
    db.table::<Row>(table).drop_index(field).await?;
    context.out.say(&json!({"field": name, "dropped": true}), || {
        format!("dropped the index on {}", printable(&name))
    })?;
    Ok(())
}

/// Prints what is found and then what changes, until this process is interrupted or nobody reads it.
async fn watch(context: &Context, question: &Question, only_changes: bool) -> Result<(), Failure> {
    let mut live = asked(context, question)?.watch()?;
    let initial = live.initial();
    if context.out.json() {
        for (key, row) in initial.iter().filter(|_| !only_changes) {
            context.out.value(&json!({"event": "row", "key": key, "row": row}))?;
        }
    } else if only_changes {
        context.out.note(format!("watching {}", number_of(initial.len() as u64, "row", "rows")))?;
    } else {
        show(context, &initial)?;
    }
    drop(initial);
    loop {
        let changed = tokio::select! {
            changed = live.next() => Some(changed?),
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(WATCH_SIGN_OF_LIFE) => None,
        };
        let Some(changed) = changed else {
            // Whoever reads this from another process may be gone, which only writing tells.
            context.out.progress("watching", 0, 0)?;
            continue;
        };
        for change in changed.changes {
            print_change(context, change)?;
        }
    }
}

fn print_change(context: &Context, change: RowChange<Row>) -> Result<(), Failure> {
    let (event, sign, key, row) = match change {
        RowChange::Added { key, row } => ("added", "+", key, Some(row)),
        RowChange::Changed { key, row } => ("changed", "~", key, Some(row)),
        RowChange::Removed { key } => ("removed", "-", key, None),
        RowChange::Unreadable { error, .. } => return Err(eid::Error::from(error).into()),
    };
    if context.out.json() {
        let mut line = json!({"event": event, "key": key});
        if let Some(row) = row {
            line["row"] = Value::Object(row);
        }
        context.out.value(&line)?;
    } else {
        let row = row.map(|row| format!("  {}", json_line(&Value::Object(row)))).unwrap_or_default();
        context.out.text(format!("{sign} {}{row}", printable(&key)))?;
    }
    Ok(())
}

/// A table comes into being with its first row: a name that nothing was ever written to is a slip.
fn exists(db: &Database, table: &str) -> Result<(), Failure> {
    let stores = db.stores()?;
    if stores.iter().any(|store| store.name == table) {
        return Ok(());
    }
    let tables: Vec<String> =
        stores.iter().filter(|store| store.kind == "table").map(|store| printable(&store.name)).collect();
    let failure = Failure::not_found(format!("there is no table \"{}\"", printable(table)));
    Err(if tables.is_empty() {
        failure.hint("`eid table import` and `eid table put` make one")
    } else {
        failure.hint(format!("there are: {}", tables.join(", ")))
    })
}

fn no_row(table: &str, key: &str) -> Failure {
    Failure::not_found(format!(
        "there is no row \"{}\" in the table \"{}\"",
        printable(key),
        printable(table)
    ))
}

struct Import<'a> {
    table: &'a str,
    file: &'a FilePath,
    format: Option<Format>,
    key: Option<&'a str>,
    batch: u64,
}

impl Import<'_> {
    /// Writes one entry per batch. A bad line ends it; what was written before stays.
    async fn run(&self, context: &Context, db: &Database) -> Result<(), Failure> {
        let started = Instant::now();
        let path = context.path(self.file);
        let format = self.format.map_or_else(|| rows::format_of(&path), Ok)?;
        let mut source = rows::Rows::open(&path, format, self.key)?;
        let name = self.file.display().to_string();
        let total = source.total();
        let (mut written, mut entries) = (0_u64, 0_u64);
        loop {
            let batch: Result<Vec<FileRow>, _> =
                source.by_ref().take(usize::try_from(self.batch).unwrap_or(usize::MAX)).collect();
            let batch = batch.map_err(|bad| {
                bad.failure(&name).hint(format!(
                    "nothing of its batch was written; {} before it stay; mend the line and import what is missing",
                    number_of(written, "row", "rows")
                ))
            })?;
            if batch.is_empty() {
                break;
            }
            let rows = batch.len() as u64;
            write(db, self.table, batch).await?;
            written += rows;
            entries += 1;
            if context.out.json() {
                context.out.value(&json!({"event": "batch", "rows_durable": written}))?;
            }
            context.out.progress("importing", source.read_so_far(), total)?;
        }
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let value = json!({"rows": written, "entries": entries, "ms": ms});
        context.out.say(&value, || {
            let (rows, entries) = (number_of(written, "row", "rows"), number_of(entries, "entry", "entries"));
            format!("{rows} in {entries}, {} ms", count(ms))
        })?;
        Ok(())
    }
}

/// Writes rows as one entry and waits for the disk.
///
/// # Errors
/// When the device may not write, or the rows do not fit into one entry.
pub async fn write(db: &Database, table: &str, batch: Vec<FileRow>) -> Result<(), Failure> {
    let written = db
        .write(|tx| {
            let rows = tx.table::<Row>(table);
            for row in &batch {
                match &row.key {
                    Some(key) => rows.insert_as(key, &row.fields)?,
                    None => rows.insert(&row.fields).map(drop)?,
                }
            }
            Ok(())
        })
        .await;
    written.map_err(|error| {
        let too_large = error.kind() == ErrorKind::TooLarge;
        let failure = Failure::from(error);
        if too_large { failure.hint("use a smaller --batch: an entry holds at most 1 MiB") } else { failure }
    })
}

fn export(context: &Context, table: &Rows<Row>, format: Format) -> Result<(), Failure> {
    let columns = if format == Format::Csv { columns_of(table)? } else { Vec::new() };
    if format == Format::Csv && !columns.is_empty() {
        context.out.data(&csv_line(columns.iter().map(String::as_str))?)?;
    }
    for_each(table, |row| {
        if format == Format::Jsonl {
            context.out.value(&Value::Object(row))?;
        } else {
            let cells: Vec<String> = columns.iter().map(|column| text_of(row.get(column))).collect();
            context.out.data(&csv_line(cells.iter().map(String::as_str))?)?;
        }
        Ok(())
    })
}

/// All columns, in the order of the first row, later ones in the order in which they turn up.
fn columns_of(table: &Rows<Row>) -> Result<Vec<String>, Failure> {
    let mut columns: Vec<String> = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    for_each(table, |row| {
        for column in row.into_iter().map(|(column, _)| column) {
            if known.insert(column.clone()) {
                columns.push(column);
            }
        }
        Ok(())
    })?;
    Ok(columns)
}

/// Calls `take` with every row, by key.
fn for_each(table: &Rows<Row>, mut take: impl FnMut(Row) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut failed = None;
    table.scan((Bound::Unbounded, Bound::Unbounded), |_, row| {
        failed = take(row).err();
        Ok(failed.is_none())
    })?;
    failed.map_or(Ok(()), Err)
}

fn csv_line<'a>(cells: impl Iterator<Item = &'a str>) -> Result<String, Failure> {
    let wrong = || Failure::input("a row cannot be written as CSV");
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    writer.write_record(cells).map_err(|_| wrong())?;
    let bytes = writer.into_inner().map_err(|_| wrong())?;
    Ok(String::from_utf8(bytes).map_err(|_| wrong())?.trim_end_matches('\n').to_owned())
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn show(context: &Context, rows: &[(String, Row)]) -> Result<(), Failure> {
    let mut columns: Vec<&str> = Vec::new();
    for (_, row) in rows {
        for column in row.keys() {
            if !columns.contains(&column.as_str()) {
                columns.push(column);
            }
        }
    }
    let headings: Vec<String> =
        std::iter::once("KEY".to_owned()).chain(columns.iter().map(|c| printable(c))).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|(key, row)| {
            let cells = columns.iter().map(|column| printable(&text_of(row.get(*column))));
            std::iter::once(printable(key)).chain(cells).collect()
        })
        .collect();
    if !lines.is_empty() {
        context.out.text(context.out.columns(&headings, &lines))?;
    }
    context.out.note(number_of(rows.len() as u64, "row", "rows"))?;
    Ok(())
}
