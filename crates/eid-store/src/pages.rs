//! A sorted map in pages that snapshots share and writers copy when somebody else still reads them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// Most rows of a page: copying one costs about as much as the path of a tree would.
const PAGE_ROWS_MAX: usize = 128;

type Page<V> = Vec<(Bytes, V)>;

/// Pages in key order, none of them empty. Cloning copies no row.
#[derive(Debug, Clone)]
pub(crate) struct Pages<V>(Arc<Vec<Arc<Page<V>>>>);

impl<V> Default for Pages<V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<V: Clone> Pages<V> {
    /// The page that has the key if any has.
    fn page_of(&self, key: &[u8]) -> usize {
        self.0.partition_point(|page| page[0].0 <= *key).saturating_sub(1)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let page = self.0.get(self.page_of(key))?;
        let row = page.binary_search_by(|(other, _)| other[..].cmp(key)).ok()?;
        Some(&page[row].1)
    }

    pub(crate) fn put(&mut self, key: Bytes, value: V) {
        let index = self.page_of(&key);
        let pages = Arc::make_mut(&mut self.0);
        let Some(page) = pages.get_mut(index) else {
            pages.push(Arc::new(vec![(key, value)]));
            return;
        };
        let rows = Arc::make_mut(page);
        match rows.binary_search_by(|(other, _)| other.cmp(&key)) {
            Ok(row) => rows[row].1 = value,
            Err(row) => rows.insert(row, (key, value)),
        }
        if rows.len() > PAGE_ROWS_MAX {
            // Rows mostly arrive at the end of their space: leave the left page nearly full then.
            let at = if index + 1 == pages.len() { PAGE_ROWS_MAX - 8 } else { PAGE_ROWS_MAX / 2 };
            let right = Arc::make_mut(&mut pages[index]).split_off(at);
            pages.insert(index + 1, Arc::new(right));
        }
    }

    pub(crate) fn delete(&mut self, key: &[u8]) {
        let index = self.page_of(key);
        let Some(page) = self.0.get(index) else { return };
        let Ok(row) = page.binary_search_by(|(other, _)| other[..].cmp(key)) else { return };
        let pages = Arc::make_mut(&mut self.0);
        let rows = Arc::make_mut(&mut pages[index]);
        rows.remove(row);
        if rows.is_empty() {
            pages.remove(index);
        }
    }

    /// The page and row of the first key that is not below.
    fn lower_bound(&self, key: &[u8]) -> (usize, usize) {
        let page = self.page_of(key);
        match self.0.get(page) {
            Some(rows) => (page, rows.partition_point(|(other, _)| *other < *key)),
            None => (0, 0),
        }
    }

    /// The rows of a range of keys, from either end.
    pub(crate) fn range(&self, keys: Range<&[u8]>) -> impl DoubleEndedIterator<Item = &(Bytes, V)> {
        let empty = keys.end <= keys.start;
        let (first, last) = (self.lower_bound(keys.start), self.lower_bound(keys.end));
        let pages = if empty { 0..0 } else { first.0..(last.0 + 1).min(self.0.len()) };
        pages.flat_map(move |page| {
            let rows = &self.0[page];
            let from = if page == first.0 { first.1 } else { 0 };
            let to = if page == last.0 { last.1 } else { rows.len() };
            &rows[from.min(to)..to]
        })
    }
}
