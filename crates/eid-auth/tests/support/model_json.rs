//! The JSON of the model: entries with texts as ids and integers as keys, and its verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use eid_auth::Engine;
use eid_auth::ledger::Ledger;
use eid_auth::oracle::Dag;
use eid_core::{EntryId, KeyMode, Permission, PublicKey, SettingsOp, Signature, Slot};
use serde_json::value::RawValue;

/// An entry of the model. What is malformed is nothing.
pub struct ModelEntry {
    pub id: String,
    pub author: Option<String>,
    pub ops: Option<Vec<ModelOp>>,
    pub parents: Option<Vec<String>>,
}

/// An operation of the model. A key is the digits of an integer, or `*`; of an invite, these after an `i`.
pub enum ModelOp {
    Root,
    Set(String, Permission),
    Revoke(String, Option<Vec<String>>, bool),
    Accept(Vec<String>),
    Rules(u64),
    Invite(String, Permission),
    Join(String, Permission),
    Data,
}

type Raw<'a> = &'a RawValue;

fn list(raw: Raw<'_>) -> Option<Vec<Raw<'_>>> {
    serde_json::from_str(raw.get()).ok()
}

fn text(raw: Raw<'_>) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// The digits of an integer that is not negative, however large.
fn integer(raw: Raw<'_>) -> Option<String> {
    let digits = if raw.get() == "-0" { "0" } else { raw.get() };
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.to_owned())
}

fn key(raw: Raw<'_>) -> Option<String> {
    integer(raw).or_else(|| text(raw).filter(|text| text == "*"))
}

/// The slot of an invite.
fn invite(raw: Raw<'_>) -> Option<String> {
    integer(raw).map(|digits| format!("i{digits}"))
}

fn invited(raw: Raw<'_>) -> Option<Permission> {
    match text(raw)?.as_str() {
        "R" => Some(Permission::Read),
        "W" => Some(Permission::Write),
        _ => None,
    }
}

fn ids(raw: Raw<'_>) -> Option<Vec<String>> {
    list(raw)?.into_iter().map(text).collect()
}

fn op(raw: Raw<'_>) -> Option<ModelOp> {
    let parts = list(raw)?;
    let (kind, rest) = parts.split_first()?;
    match (text(kind)?.as_str(), rest) {
        ("data", []) => Some(ModelOp::Data),
        ("root", []) => Some(ModelOp::Root),
        ("set", [slot, permission, level]) => {
            let slot = key(slot)?;
            let level = integer(level)?.parse().ok()?;
            let permission = match text(permission)?.as_str() {
                "R" => Permission::Read,
                "W" => Permission::Write,
                "A" if slot != "*" => Permission::Admin(level),
                _ => return None,
            };
            Some(ModelOp::Set(slot, permission))
        }
        ("rules", [number]) => match integer(number)?.as_str() {
            "1" => Some(ModelOp::Rules(1)),
            "2" => Some(ModelOp::Rules(2)),
            _ => None,
        },
        ("invite", [key, permission]) => Some(ModelOp::Invite(invite(key)?, invited(permission)?)),
        ("join", [key, permission]) => Some(ModelOp::Join(invite(key)?, invited(permission)?)),
        (kind @ ("rev" | "withdraw"), [slot, rest @ ..]) => {
            let slot = if kind == "rev" { key(slot)? } else { invite(slot)? };
            let fence = match rest.first().filter(|fence| fence.get() != "null") {
                Some(fence) => Some(ids(fence)?),
                None => None,
            };
            let leaves = match rest.get(1).map(|mode| text(mode)) {
                None => false,
                Some(mode) => match mode?.as_str() {
                    "remove" => false,
                    "leave" if fence.is_none() => true,
                    _ => return None,
                },
            };
            (rest.len() <= 2).then_some(())?;
            Some(ModelOp::Revoke(slot, fence, leaves))
        }
        ("accept", [accepted]) => ids(accepted).filter(|ids| !ids.is_empty()).map(ModelOp::Accept),
        _ => None,
    }
}

/// Parents as the model iterates them: of a text, its characters.
fn parents(raw: Raw<'_>) -> Option<Vec<String>> {
    match text(raw) {
        Some(text) => Some(text.chars().map(String::from).collect()),
        None => ids(raw),
    }
}

/// Reads `{"entries": [..]}`.
pub fn parse(json: &str) -> Result<Vec<ModelEntry>, String> {
    let fail = |error: serde_json::Error| error.to_string();
    let top: BTreeMap<String, Raw<'_>> = serde_json::from_str(json).map_err(fail)?;
    let entries = top.get("entries").ok_or("there is no \"entries\"")?;
    let entries: Vec<BTreeMap<String, Raw<'_>>> = serde_json::from_str(entries.get()).map_err(fail)?;
    let entries = entries.into_iter().map(|fields| {
        let id = fields.get("id").and_then(|raw| text(raw)).ok_or("an entry has no text as \"id\"")?;
        Ok(ModelEntry {
            id,
            author: fields.get("author").and_then(|raw| integer(raw)),
            ops: fields.get("ops").and_then(|raw| list(raw)?.into_iter().map(op).collect()),
            parents: fields.get("parents").and_then(|raw| parents(raw)),
        })
    });
    entries.collect()
}

/// Gives every text and every integer an id or a key, in the order of the texts.
#[derive(Default)]
struct Names {
    ids: BTreeMap<String, EntryId>,
    keys: BTreeMap<String, PublicKey>,
}

fn bytes(n: usize) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    bytes
}

impl Names {
    fn of(entries: &[ModelEntry]) -> Self {
        let mut texts = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for entry in entries {
            texts.insert(entry.id.clone());
            texts.extend(entry.parents.iter().flatten().cloned());
            keys.extend(entry.author.clone());
            for op in entry.ops.iter().flatten() {
                match op {
                    ModelOp::Set(key, _) | ModelOp::Invite(key, _) | ModelOp::Join(key, _) => {
                        keys.insert(key.clone());
                    }
                    ModelOp::Revoke(key, fence, _) => {
                        keys.insert(key.clone());
                        texts.extend(fence.iter().flatten().cloned());
                    }
                    ModelOp::Accept(ids) => texts.extend(ids.iter().cloned()),
                    ModelOp::Root | ModelOp::Rules(_) | ModelOp::Data => {}
                }
            }
        }
        Self {
            ids: texts.into_iter().enumerate().map(|(n, text)| (text, EntryId(bytes(n)))).collect(),
            keys: keys.into_iter().enumerate().map(|(n, key)| (key, PublicKey(bytes(n)))).collect(),
        }
    }

    fn list(&self, ids: &[String]) -> Vec<EntryId> {
        ids.iter().map(|id| self.ids[id]).collect()
    }

    fn slot(&self, key: &str) -> Slot {
        match key.as_bytes() {
            b"*" => Slot::Everyone,
            [b'i', ..] => Slot::Invite(self.keys[key]),
            _ => Slot::Key(self.keys[key]),
        }
    }

    /// The entry in the words of the crate; nothing when it is malformed.
    fn translate(&self, entry: &ModelEntry) -> Option<Entry> {
        let author = self.keys[entry.author.as_ref()?];
        let ops = entry.ops.as_ref()?;
        let parents = self.list(entry.parents.as_ref()?);
        if let [ModelOp::Data] = ops.as_slice() {
            return Some((author, None, parents));
        }
        let mut settings = Vec::new();
        for (at, op) in ops.iter().enumerate() {
            settings.push(match op {
                ModelOp::Root if at == 0 && parents.is_empty() => {
                    SettingsOp::Set { slot: Slot::Key(author), permission: Permission::Admin(0) }
                }
                ModelOp::Set(key, permission) => {
                    SettingsOp::Set { slot: self.slot(key), permission: *permission }
                }
                ModelOp::Revoke(key, _, true) => {
                    SettingsOp::Revoke { slot: self.slot(key), mode: KeyMode::Leave }
                }
                ModelOp::Revoke(key, fence, false) => {
                    let fence = fence.as_ref().map(|ids| self.list(ids));
                    SettingsOp::Revoke { slot: self.slot(key), mode: KeyMode::Remove { fence } }
                }
                ModelOp::Accept(ids) => SettingsOp::Accept(self.list(ids)),
                ModelOp::Rules(number) => SettingsOp::Rules(*number),
                ModelOp::Invite(key, permission) => {
                    SettingsOp::Invite { key: self.keys[key], permission: *permission, expires_ms: None }
                }
                ModelOp::Join(key, permission) => SettingsOp::Join {
                    invite: self.keys[key],
                    permission: *permission,
                    proof: Signature([0; 64]),
                },
                ModelOp::Root | ModelOp::Data => return None,
            });
        }
        let begins = matches!(ops.first(), Some(ModelOp::Root));
        (begins == parents.is_empty()).then_some((author, Some(settings), parents))
    }
}

type Entry = (PublicKey, Option<Vec<SettingsOp>>, Vec<EntryId>);

/// What is known of a list of entries, in the words of the model.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct ModelVerdicts {
    pub standing: BTreeSet<String>,
    pub void: BTreeSet<String>,
    pub invalid: BTreeSet<String>,
    pub keys: BTreeMap<String, Option<Permission>>,
    /// Why entries are refused or void, in sentences; the model has none.
    pub reasons: BTreeMap<String, String>,
}

fn keys(names: &Names, slots: BTreeMap<Slot, Option<Permission>>) -> BTreeMap<String, Option<Permission>> {
    let known = names.keys.keys().map(String::as_str).chain(["*"]);
    known.filter_map(|key| slots.get(&names.slot(key)).map(|gives| (key.to_owned(), *gives))).collect()
}

/// Judges by the engine, one entry after another.
pub fn by_engine(entries: &[ModelEntry], engine: Engine) -> Result<ModelVerdicts, String> {
    let names = Names::of(entries);
    let mut ledger = Ledger::new(engine).map_err(|error| error.to_string())?;
    let mut verdicts = ModelVerdicts::default();
    for entry in entries {
        let refused = match names.translate(entry) {
            Some((author, ops, parents)) => {
                ledger.add(names.ids[&entry.id], author, ops.as_deref(), &parents).err()
            }
            None => {
                verdicts.invalid.insert(entry.id.clone());
                continue;
            }
        };
        if let Some(refused) = refused {
            verdicts.invalid.insert(entry.id.clone());
            verdicts.reasons.insert(entry.id.clone(), refused.to_string());
        }
    }
    let texts: BTreeMap<EntryId, &String> = names.ids.iter().map(|(text, id)| (*id, text)).collect();
    for (id, standing) in ledger.entries() {
        let text = texts[&id].clone();
        if standing.counts() {
            verdicts.standing.insert(text);
        } else {
            verdicts.reasons.insert(text.clone(), standing.to_string());
            verdicts.void.insert(text);
        }
    }
    verdicts.keys = keys(&names, ledger.slots());
    Ok(verdicts)
}

/// Judges by the oracle.
pub fn by_oracle(entries: &[ModelEntry]) -> ModelVerdicts {
    let names = Names::of(entries);
    let mut dag = Dag::new();
    let mut verdicts = ModelVerdicts::default();
    for entry in entries {
        let valid = names.translate(entry).is_some_and(|(author, ops, parents)| {
            dag.add(names.ids[&entry.id], author, ops.as_deref(), &parents)
        });
        if !valid {
            verdicts.invalid.insert(entry.id.clone());
        }
    }
    let texts: BTreeMap<EntryId, &String> = names.ids.iter().map(|(text, id)| (*id, text)).collect();
    let found = dag.verdicts();
    verdicts.standing = found.standing.iter().map(|id| texts[id].clone()).collect();
    verdicts.void = found.void.iter().map(|id| texts[id].clone()).collect();
    verdicts.keys = keys(&names, found.slots);
    verdicts
}

/// As Python prints a text.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("writing to a string does not fail");
                }
            }
        }
    }
    out.push('"');
    out
}

impl ModelVerdicts {
    /// The JSON that the model prints.
    pub fn to_json(&self) -> String {
        let list = |ids: &BTreeSet<String>| {
            format!("[{}]", ids.iter().map(|id| quote(id)).collect::<Vec<_>>().join(", "))
        };
        let keys = self.keys.iter().map(|(key, gives)| {
            let value = match gives {
                None => "[null, null, false]".to_owned(),
                Some(Permission::Admin(level)) => format!("[\"A\", {level}, true]"),
                Some(Permission::Write) => "[\"W\", null, true]".to_owned(),
                Some(_) => "[\"R\", null, true]".to_owned(),
            };
            format!("{}: {value}", quote(key))
        });
        format!(
            "{{\"standing\": {}, \"void\": {}, \"invalid\": {}, \"keys\": {{{}}}}}",
            list(&self.standing),
            list(&self.void),
            list(&self.invalid),
            keys.collect::<Vec<_>>().join(", ")
        )
    }
}
