//! `eid log`.

use serde_json::json;

use crate::args::Log;
use crate::cmd::Context;
use crate::failure::Failure;
use crate::output::printable;

/// Lists entries, the latest first.
///
/// # Errors
/// When there is no such database.
pub fn run(context: &Context, args: &Log) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    let mut rows = Vec::new();
    for entry in db.log(args.limit, args.doc_store.as_deref())? {
        let stores: Vec<&str> = entry.stores.iter().map(String::as_str).collect();
        if context.out.json() {
            let parents: Vec<String> = entry.parents.iter().map(ToString::to_string).collect();
            context.out.value(&json!({
                "entry": entry.id.to_string(), "time": entry.time.ms(), "author": entry.author.to_string(),
                "height": entry.height.0, "parents": parents, "stores": stores
            }))?;
        } else {
            rows.push(vec![
                utc(entry.time.ms()),
                entry.height.0.to_string(),
                entry.author.short(),
                printable(&stores.join(" ")),
                entry.id.to_string(),
            ]);
        }
    }
    if !context.out.json() {
        context
            .out
            .text(context.out.columns(&["TIME (UTC)", ">HEIGHT", "AUTHOR", "STORES", "ENTRY"], &rows))?;
    }
    Ok(())
}

/// Milliseconds since 1970 as `YYYY-MM-DD HH:MM:SS`, by the proleptic Gregorian calendar.
#[must_use]
pub fn utc(ms: u64) -> String {
    let seconds = ms / 1000;
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_shown_by_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(utc(1_700_000_000_000), "2023-11-14 22:13:20");
        assert_eq!(utc(4_107_542_399_000), "2100-02-28 23:59:59");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00");
    }
}
