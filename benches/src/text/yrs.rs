//! The same with yrs.

use yrs::block::ClientID;
use yrs::updates::decoder::Decode as _;
use yrs::{
    Doc, GetString as _, OffsetKind, Options, ReadTxn as _, StateVector, Text as _, TextRef, Transact as _,
    TransactionMut, Update,
};

use super::trace::Patch;
use super::{Replica, Sent};
use crate::work::Failed;

pub(crate) struct Yrs {
    doc: Doc,
    text: TextRef,
    /// Edits that are not in a transaction yet.
    open: Vec<Patch>,
    /// Whether each edit is a transaction of its own, as in an editor.
    each: bool,
}

impl Yrs {
    pub(crate) fn replicas(count: usize, each: bool) -> Vec<Self> {
        (1..=count as u64).map(|client| Self::new(client, each)).collect()
    }

    fn new(client: u64, each: bool) -> Self {
        let mut options = Options::with_client_id(ClientID::new(client));
        options.offset_kind = OffsetKind::Utf16;
        let doc = Doc::with_options(options);
        let text = doc.get_or_insert_text("text");
        Self { doc, text, open: Vec::new(), each }
    }

    /// What has to be kept.
    pub(crate) fn save(&self) -> Vec<u8> {
        self.doc.transact().encode_state_as_update_v1(&StateVector::default())
    }

    pub(crate) fn load(saved: &[u8]) -> Result<String, Failed> {
        let loaded = Self::new(9, false);
        loaded.doc.transact_mut().apply_update(Update::decode_v1(saved)?)?;
        let text = loaded.text.get_string(&loaded.doc.transact());
        Ok(text)
    }
}

fn edit(text: &TextRef, transaction: &mut TransactionMut<'_>, patch: &Patch) -> Result<(), Failed> {
    let Patch(at, deleted, inserted) = patch;
    if *deleted > 0 {
        text.remove_range(transaction, u32::try_from(*at)?, u32::try_from(*deleted)?);
    }
    if !inserted.is_empty() {
        text.insert(transaction, u32::try_from(*at)?, inserted);
    }
    Ok(())
}

impl Replica for Yrs {
    type Update = Vec<Vec<u8>>;

    fn edit(&mut self, patch: Patch) -> Result<(), Failed> {
        self.open.push(patch);
        Ok(())
    }

    fn seal(&mut self) -> Result<Sent<Self::Update>, Failed> {
        let mut updates = Vec::new();
        let parts = if self.each { 1 } else { self.open.len().max(1) };
        for part in self.open.chunks(parts) {
            let mut transaction = self.doc.transact_mut();
            part.iter().try_for_each(|patch| edit(&self.text, &mut transaction, patch))?;
            updates.push(transaction.encode_update_v1());
        }
        self.open.clear();
        let bytes = updates.iter().map(Vec::len).sum();
        Ok(Sent { update: updates, bytes })
    }

    fn take(&mut self, updates: &Self::Update) -> Result<(), Failed> {
        for update in updates {
            self.doc.transact_mut().apply_update(Update::decode_v1(update)?)?;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<String, Failed> {
        Ok(self.text.get_string(&self.doc.transact()))
    }
}
