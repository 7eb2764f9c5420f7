//! One hash for everything that can be seen of a database.

use std::ops::Bound;

use eid_core::cbor::Writer;
use eid_core::{Permission, Slot};
use eid_store::{Direction, TreeSnapshot};

use crate::authority::Settings;
use crate::codec::write_value;
use crate::error::DbError;
use crate::kind::table::Flow;
use crate::kind::{doc, registry, table, text};
use crate::rows::Stored;
use crate::sealed::hash_sealed;

/// Hashes settings and stores as a stream of CBOR values: each ends by itself, so no two states give the same bytes.
pub(crate) fn state_hash(snapshot: &TreeSnapshot, settings: &Settings) -> Result<Option<[u8; 32]>, DbError> {
    if snapshot.missing_payloads() > 0 {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new_derive_key("eid 2026 visible state");
    feed(&mut hasher, |w| {
        let slots: Vec<_> = settings.slots().collect();
        w.array(slots.len());
        for (slot, permission) in slots {
            match slot {
                Slot::Key(key) => w.array(3).bytes(&key.0),
                Slot::Everyone => w.array(3).text("*"),
                Slot::Invite(key) => w.array(4).text("invite").bytes(&key.0),
            };
            match permission {
                Some(permission) => w.uint(u64::from(permission.code())),
                None => w.null(),
            };
            w.uint(u64::from(permission.and_then(Permission::level).unwrap_or(0)));
        }
        match settings.title() {
            Some(title) => w.text(title),
            None => w.null(),
        };
    });
    for info in snapshot.stores()? {
        let rows = Stored::new(snapshot.clone(), &info.name, &info.kind);
        // A store in which nothing can be seen is as one that was never made.
        let mut is_empty = true;
        let mut begin = |hasher: &mut blake3::Hasher| {
            if std::mem::take(&mut is_empty) {
                feed(hasher, |w| {
                    w.array(2).text(info.name.as_str()).text(&info.kind);
                });
            }
        };
        match info.kind.as_str() {
            doc::KIND => doc::walk(&rows, &[], &mut |leaf| {
                begin(&mut hasher);
                feed(&mut hasher, |w| {
                    w.array(leaf.path.len());
                    for key in &leaf.path {
                        w.text(key);
                    }
                    write_value(w, &leaf.value);
                });
                Ok(())
            })?,
            table::KIND => {
                let all = (Bound::Unbounded, Bound::Unbounded);
                table::scan(&rows, all, Direction::Forward, usize::MAX, &mut |key, fields| {
                    begin(&mut hasher);
                    feed(&mut hasher, |w| {
                        w.text(&key).map(fields.len());
                        for (name, value) in &fields {
                            w.text(name);
                            write_value(w, value);
                        }
                    });
                    Ok(Flow::Continue)
                })?;
            }
            registry::KIND => {
                let mut said = |code: u64, parts: &[&[u8]]| {
                    begin(&mut hasher);
                    feed(&mut hasher, |w| {
                        w.array(1 + parts.len()).uint(code);
                        for part in parts {
                            w.bytes(part);
                        }
                    });
                };
                registry::each_registered(&rows, None, &mut |store, kind| {
                    said(0, &[store.as_bytes(), kind.as_bytes()]);
                })?;
                registry::each_index(&rows, None, &mut |store, kind, field| {
                    said(1, &[store.as_bytes(), kind.as_bytes(), field.as_bytes()]);
                })?;
                registry::each_encryption(&rows, None, &mut |store, config| {
                    said(2, &[store.as_bytes(), &config]);
                })?;
            }
            text::KIND => text::pages(&rows, &mut |page| {
                begin(&mut hasher);
                feed(&mut hasher, |w| {
                    w.text(page);
                });
            })?,
            // Sealed, or a payload that does not decode, which has no effect.
            "" if info.entries > info.undecodable => {
                if let Some(sealed) = hash_sealed(snapshot, info.name.as_str())? {
                    begin(&mut hasher);
                    feed(&mut hasher, |w| {
                        w.bytes(&sealed);
                    });
                }
            }
            _ => {}
        }
        if !is_empty {
            feed(&mut hasher, |w| {
                w.null();
            });
        }
    }
    Ok(Some(*hasher.finalize().as_bytes()))
}

fn feed(hasher: &mut blake3::Hasher, write: impl FnOnce(&mut Writer)) {
    let mut w = Writer::new();
    write(&mut w);
    hasher.update(&w.into_bytes());
}
