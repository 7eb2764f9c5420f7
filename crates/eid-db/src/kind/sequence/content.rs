//! What sequences hold, as it stands in operations and rows.

use eid_core::cbor::{CborError, Reader, Writer};
use eid_crdt::sequence::{Item, Run};

/// A run of elements that can be stored.
///
/// # Contract
/// Reading gives what was written, and nothing else has the same bytes.
pub(crate) trait Content: Run + PartialEq + Default {
    /// Appends the run as one CBOR value.
    fn write(&self, w: &mut Writer);
    /// Reads a run.
    fn read(r: &mut Reader<'_>) -> Result<Self, CborError>;
}

/// One element of a list, with the same contract.
pub(crate) trait Element: Item + PartialEq {
    /// Appends the element as one CBOR value.
    fn write(&self, w: &mut Writer);
    /// Reads an element.
    fn read(r: &mut Reader<'_>) -> Result<Self, CborError>;
}

/// Elements are Unicode scalar values.
impl Content for String {
    fn write(&self, w: &mut Writer) {
        w.text(self);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        Ok(r.text(usize::MAX)?.to_owned())
    }
}

impl<V: Element> Content for Vec<V> {
    fn write(&self, w: &mut Writer) {
        w.array(self.len());
        self.iter().for_each(|item| item.write(w));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        let count = r.array(usize::MAX)?;
        (0..count).map(|_| V::read(r)).collect()
    }
}
