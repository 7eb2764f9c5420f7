//! Proofs by construction that checks were made. Only [`Admissible`] can be stored, and only verification makes it.

use crate::draft::Draft;
use crate::entry::Entry;
use crate::id::{EntryId, TreeId};
use crate::judge::{History, Judge, Question, ReadError};
use crate::key::SecretKey;
use crate::sabotage::{self, Sabotage};
use crate::signature::{Domain, verify, verify_many};
use crate::time::{Height, Time};
use crate::verdict::{Invalid, Missing, Refusal};

/// An entry whose signature was verified, or made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed(Entry);

/// What has to be known of a parent to judge a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParentFacts {
    /// The parent.
    pub id: EntryId,
    /// Its height.
    pub height: Height,
    /// Its time.
    pub time: Time,
}

/// An entry that may be stored: canonical, hashed, signed, in place below its parents, by an author with the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admissible(Entry);

pub(crate) fn check_signature(entry: &Entry) -> Result<(), Invalid> {
    if sabotage::is(Sabotage::AcceptUnsigned) {
        return Ok(());
    }
    let holds = verify(Domain::Entry, &entry.header().author, entry.header_bytes(), entry.signature());
    if holds { check_proofs(entry) } else { Err(Invalid::Signature) }
}

/// What its settings prove by signatures of their own. Few entries do, so it is not done in bulk.
fn check_proofs(entry: &Entry) -> Result<(), Invalid> {
    let (tree, author) = (entry.tree(), entry.header().author);
    let proven = entry.settings().iter().all(|op| op.is_proven(&tree, &author));
    if proven { Ok(()) } else { Err(Invalid::JoinProof) }
}

impl Signed {
    /// Verifies one signature.
    pub fn check(entry: Entry) -> Result<Self, Invalid> {
        check_signature(&entry)?;
        Ok(Self(entry))
    }

    /// Signs a draft. What was signed just now with the author's own key needs no verification.
    ///
    /// # Errors
    /// As [`Draft::seal`], and when a join in it proves nothing.
    pub fn seal(draft: Draft, author: &SecretKey) -> Result<Self, Refusal> {
        let entry = draft.seal(author)?;
        check_proofs(&entry)?;
        Ok(Self(entry))
    }

    /// Verifies many signatures, with the same answers as one by one.
    #[must_use]
    pub fn check_many(entries: Vec<Entry>) -> Vec<Result<Self, Invalid>> {
        if sabotage::is(Sabotage::AcceptUnsigned) {
            return entries.into_iter().map(Self::check).collect();
        }
        let items: Vec<_> =
            entries.iter().map(|e| (e.header().author, e.header_bytes(), e.signature())).collect();
        let holds = verify_many(Domain::Entry, &items);
        entries
            .into_iter()
            .zip(holds)
            .map(|(e, ok)| if ok { check_proofs(&e).map(|()| Self(e)) } else { Err(Invalid::Signature) })
            .collect()
    }

    /// The entry.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.0
    }
}

/// Checks an entry against the tree it is offered for and the facts of its parents, cheapest first.
///
/// `parents` gives what is held of the header's parents, in their order.
pub fn check_place(entry: &Entry, tree: &TreeId, parents: &[Option<ParentFacts>]) -> Result<(), Refusal> {
    if entry.tree() != *tree {
        return Err(Invalid::ForeignTree.into());
    }
    let header = entry.header();
    let absent: Vec<EntryId> =
        header.parents.iter().zip(parents).filter(|(_, held)| held.is_none()).map(|(id, _)| *id).collect();
    if !absent.is_empty() {
        return Err(Missing::Parents(absent).into());
    }
    let highest = parents.iter().flatten().map(|parent| parent.height).max();
    let expected = match highest {
        Some(height) => height.child().ok_or(Invalid::Height)?,
        None => Height(0),
    };
    if header.height != expected && !sabotage::is(Sabotage::TrustHeight) {
        return Err(Invalid::Height.into());
    }
    if parents.iter().flatten().any(|parent| parent.time > header.time) {
        return Err(Invalid::TimeBeforeParent.into());
    }
    Ok(())
}

impl Admissible {
    /// Checks place and authority of a signed entry: the only way to make one.
    ///
    /// The outer error says that stored entries could not be read; the inner one is the verdict.
    pub fn check(
        signed: Signed,
        tree: &TreeId,
        parents: &[Option<ParentFacts>],
        settings_frontier: &[EntryId],
        judge: &dyn Judge,
        past: &dyn History,
    ) -> Result<Result<Self, Refusal>, ReadError> {
        let Signed(entry) = signed;
        if let Err(refusal) = check_place(&entry, tree, parents) {
            return Ok(Err(refusal));
        }
        let question = Question { entry: &entry, past: settings_frontier };
        Ok(judge.judge(question, past)?.map(|()| Self(entry)))
    }

    /// The entry.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.0
    }

    /// The entry, by value.
    #[must_use]
    pub fn into_entry(self) -> Entry {
        self.0
    }
}
