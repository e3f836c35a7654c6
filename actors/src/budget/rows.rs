//! Every readable row of a table, for an actor that starts: one damaged record must not keep a node down.

use serde::{Serialize, de::DeserializeOwned};
use skep_runtime::store::{Error, Key, Span, Store, Table};

/// Rows of one page: a few hundred KiB at most are in memory twice.
const PAGE_ROWS: usize = 256;

/// All rows, in key order. Damaged ones are left out and named in the log.
pub(crate) fn all<K, V>(store: &Store, table: Table<K, V>) -> Result<Vec<(K, V)>, Error>
where
    K: Key,
    V: Serialize + DeserializeOwned,
{
    let mut rows = Vec::new();
    let mut rest = Some(Span::all());
    while let Some(span) = rest {
        rest = match store.scan(table, &span, PAGE_ROWS) {
            Ok(page) => {
                rows.extend(page.rows);
                page.rest
            }
            // A page that holds a damaged row is read again row by row, up to it and behind it.
            Err(Error::Corrupt { key, .. } | Error::Undecodable { key, .. }) => {
                tracing::error!(table = table.name(), "a damaged record is left out: check the disk's health");
                let mut before = Some(span.clone());
                while let Some(Ok(page)) = before.map(|span| store.scan(table, &span, 1)) {
                    rows.extend(page.rows);
                    before = page.rest;
                }
                Some(span.after(&key))
            }
            Err(error) => return Err(error),
        };
    }
    Ok(rows)
}
