//! `eid table`.

use std::hash::BuildHasher as _;
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
use crate::limits::{FIELD_ROWS, FIELDS_NAMED, IMPORT_KEYS_COMPARED, WATCH_SIGN_OF_LIFE};
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
        Table::Put { db, table, key, row: text, merge } => {
            let row = match serde_json::from_str(text) {
                Ok(Value::Object(row)) => row,
                Ok(_) => {
                    return Err(Failure::usage("a row is a JSON object").hint("write '{\"field\": value}'"));
                }
                Err(error) => {
                    return Err(Failure::usage(format!("the row is not JSON: {error}"))
                        .hint("write '{\"field\": value}'"));
                }
            };
            let db = context.database(db)?;
            let (was_there, entry) = db
                .commit(|tx| {
                    let rows = tx.table::<Row>(table);
                    let before = rows.get(key)?;
                    let was_there = before.is_some();
                    let mut after = before.filter(|_| *merge).unwrap_or_default();
                    after.extend(row);
                    rows.put(key, &after)?;
                    Ok(was_there)
                })
                .await?;
            let result = match (was_there, entry) {
                (false, _) => "added",
                (true, None) => "unchanged",
                (true, Some(_)) if *merge => "merged",
                (true, Some(_)) => "replaced",
            };
            let value = json!({"entry": entry.map(|entry| entry.to_string()), "result": result});
            context.out.say(&value, || match entry {
                Some(_) => format!("{result} {}", printable(key)),
                None => format!("{} was like that already", printable(key)),
            })?;
            Ok(())
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

/// The query that a person means, and the fields that it looks at.
fn asked(context: &Context, question: &Question) -> Result<(Query<Row>, Fields), Failure> {
    let db = context.database(&question.db)?;
    exists(&db, &question.table)?;
    let rows = db.table::<Row>(&question.table);
    let mut query = rows.query();
    let mut fields = Fields { rows, conditions: Vec::new(), order: Vec::new() };
    for text in &question.conditions {
        let filter: Filter = text.parse().map_err(|error| {
            Failure::usage(format!("in the condition `{}`: {error}", printable(text)))
                .hint("for example --where 'elevation > 300 and not (state = AK or name ~ \"San*\")'")
        })?;
        fields_of(&filter, &mut fields.conditions);
        query = query.matching(filter);
    }
    for field in &question.order {
        let name = field.strip_prefix('-').unwrap_or(field);
        let path = name.parse::<Path>().map_err(|error| Failure::usage(error.to_string()))?;
        fields.order.push(path.clone());
        query = if name.len() < field.len() { query.order_desc(path) } else { query.order(path) };
    }
    Ok((query.limit(question.limit.unwrap_or(usize::MAX)), fields))
}

/// The fields that a condition compares.
fn fields_of(filter: &Filter, fields: &mut Vec<Path>) {
    match filter {
        Filter::All(all) | Filter::Any(all) => all.iter().for_each(|one| fields_of(one, fields)),
        Filter::Not(one) => fields_of(one, fields),
        Filter::Compare(field, ..)
        | Filter::In(field, _)
        | Filter::Prefix(field, _)
        | Filter::Like(field, _)
        | Filter::IsNull(field) => fields.push(field.clone()),
    }
}

/// The fields that a question looks at. A table has no fixed set of them, so a slip is found in the rows.
struct Fields {
    rows: Rows<Row>,
    conditions: Vec<Path>,
    order: Vec<Path>,
}

impl Fields {
    /// Warns of fields that explain why nothing was found, or why the order is not what was meant.
    fn warn(&self, context: &Context, found: &[(String, Row)]) -> Result<(), Failure> {
        if found.is_empty() {
            return warn_of_absent(context, &self.rows, &self.conditions);
        }
        let absent = |field: &&Path| found.iter().all(|(_, row)| !has(row, field));
        let absent: Vec<Path> = self.order.iter().filter(absent).cloned().collect();
        warn_of_absent(context, &self.rows, &absent)
    }
}

/// Warns of fields that none of the rows has, as far as they are looked at.
fn warn_of_absent(context: &Context, rows: &Rows<Row>, fields: &[Path]) -> Result<(), Failure> {
    let mut absent: Vec<&Path> = fields.iter().collect();
    let (mut known, mut looked_at) = (std::collections::BTreeSet::new(), 0);
    if absent.is_empty() {
        return Ok(());
    }
    rows.scan((Bound::Unbounded, Bound::Unbounded), |_, row| {
        looked_at += 1;
        absent.retain(|field| !has(&row, field));
        known.extend(row.into_iter().map(|(field, _)| field).take(FIELDS_NAMED));
        Ok(!absent.is_empty() && looked_at < FIELD_ROWS)
    })?;
    if looked_at == 0 {
        return Ok(());
    }
    let none = if looked_at < FIELD_ROWS {
        "no row".to_owned()
    } else {
        format!("none of the first {} rows", count(FIELD_ROWS))
    };
    let known: Vec<String> = known.iter().take(FIELDS_NAMED).map(|field| printable(field)).collect();
    for field in absent {
        let field = printable(&field.to_string());
        context
            .out
            .note(format!("warning: {none} has a field \"{field}\"; there are: {}", known.join(", ")))?;
    }
    Ok(())
}

/// Whether a row has something at this path.
fn has(row: &Row, field: &Path) -> bool {
    let Some((first, rest)) = field.keys().split_first() else { return false };
    let found = rest.iter().try_fold(row.get(first), |value, key| Some(value?.get(key)));
    found.flatten().is_some()
}

fn query(
    context: &Context,
    question: &Question,
    explain: bool,
    after: Option<&PageCursor>,
) -> Result<(), Failure> {
    let (mut query, fields) = asked(context, question)?;
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
    if after.is_none() {
        fields.warn(context, &page.rows)?;
    }
    let next = page.next.filter(|_| question.limit.is_some());
    if context.out.json() {
        let rows = page.rows.len();
        for (number, (key, row)) in page.rows.into_iter().enumerate() {
            let mut line = json!({"key": key, "row": row});
            if let Some(next) = next.as_ref().filter(|_| number + 1 == rows) {
                line["next"] = json!(next.to_string());
            }
            context.out.value(&line)?;
        }
        return Ok(());
    }
    show(context, &page.rows)?;
    if let Some(next) = next {
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
    warn_of_absent(context, &db.table::<Row>(table), std::slice::from_ref(field))?;
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
    let (query, fields) = asked(context, question)?;
    let mut live = query.watch()?;
    let initial = live.initial();
    fields.warn(context, &initial)?;
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
        let mut repeated = Repeated::default();
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
            batch.iter().filter_map(|row| row.key.as_deref()).for_each(|key| repeated.look_at(key));
            write(db, self.table, batch).await?;
            written += rows;
            entries += 1;
            if context.out.json() {
                context.out.value(&json!({"event": "batch", "rows_durable": written}))?;
            }
            context.out.progress("importing", source.read_so_far(), total)?;
        }
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        repeated.warn(context)?;
        let value = json!({"rows": written, "entries": entries, "repeated_keys": repeated.rows, "ms": ms});
        context.out.say(&value, || {
            let (rows, entries) = (number_of(written, "row", "rows"), number_of(entries, "entry", "entries"));
            format!("{rows} in {entries}, {} ms", count(ms))
        })?;
        Ok(())
    }
}

/// Counts the rows of a file whose key came before: each was merged into the row before it.
#[derive(Default)]
struct Repeated {
    hasher: std::collections::hash_map::RandomState,
    seen: std::collections::HashSet<u64>,
    rows: u64,
    first: Option<String>,
}

impl Repeated {
    fn look_at(&mut self, key: &str) {
        let mark = self.hasher.hash_one(key);
        if self.seen.contains(&mark) {
            self.rows += 1;
            self.first.get_or_insert_with(|| key.to_owned());
        } else if self.seen.len() < IMPORT_KEYS_COMPARED {
            self.seen.insert(mark);
        }
    }

    fn warn(&self, context: &Context) -> Result<(), Failure> {
        let Some(first) = &self.first else { return Ok(()) };
        let least = if self.seen.len() < IMPORT_KEYS_COMPARED { "" } else { "at least " };
        context.out.note(format!(
            "warning: {least}{} the key of a row before (\"{}\" is the first), and {} merged into it",
            number_of(self.rows, "row has", "rows have"),
            printable(first),
            if self.rows == 1 { "was" } else { "were" },
        ))?;
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
