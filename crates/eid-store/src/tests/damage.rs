//! Files of the embedded backend with random damage: whatever is asked of them is done, or refused with an error that
//! names it. Nothing panics past the backend.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::kit::*;
use crate::embedded::Dice;
use crate::{
    BackendError, CrashDisk, Embedded, EmbeddedConfig, EntryStore, StoreError, Vfs, is_engine_guarded,
};

const LOG: &str = "store.log";
const ENGINE: &str = "store.redb";
const CONFIG: EmbeddedConfig = EmbeddedConfig { cache_bytes: 64 << 10, log_bytes: 48 << 10 };

type Files = BTreeMap<&'static str, Vec<u8>>;

fn open(disk: &CrashDisk) -> Result<Arc<EntryStore>, StoreError> {
    let backend = Embedded::open_on(Arc::new(disk.clone()), CONFIG)?;
    EntryStore::open(Arc::new(backend), Arc::new(Simple::default()), Arc::new(Stamps), [5; 32])
}

fn read(disk: &CrashDisk) -> Files {
    [LOG, ENGINE]
        .map(|name| {
            let file = disk.open(name).unwrap().unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_at(0, &mut bytes).unwrap();
            (name, bytes)
        })
        .into()
}

fn disk_of(files: &Files) -> CrashDisk {
    let disk = CrashDisk::new();
    for (name, bytes) in files {
        let file = disk.create(name).unwrap();
        file.write_at(0, bytes).unwrap();
        file.sync().unwrap();
    }
    // A damaged number of a page must not become memory.
    disk.set_capacity(Some(disk.bytes() + (8 << 20)));
    disk
}

/// A store of 200 entries: closed, and left as by a process that was killed.
fn stores() -> [Files; 2] {
    let disk = CrashDisk::new();
    let (store, root) = (open(&disk).unwrap(), root());
    admit(&store, &[&root]);
    for n in 0..200 {
        store.commit(write(root.tree(), &[n, n + 1])).unwrap();
    }
    store.local().namespace("keys").put(b"device", bytes::Bytes::from_static(b"secret")).unwrap();
    let killed = read(&disk);
    store.close().unwrap();
    [read(&disk), killed]
}

/// Everything that a program does with a store. Gives what was said of damage.
fn use_it(disk: &CrashDisk) -> Vec<StoreError> {
    let mut said = Vec::new();
    let store = match open(disk) {
        Ok(store) => store,
        Err(error) => return vec![error],
    };
    let tree = root().tree();
    let mut note = |done: Result<(), StoreError>| said.extend(done.err());
    note(see(&store, tree).map(drop));
    note(store.local().namespace("keys").get(b"device").map(drop));
    note(store.fsck(false, &mut |_, _| {}).map(drop));
    note(store.commit(write(tree, &[7])).map(drop));
    note(store.fsck(true, &mut |_, _| {}).map(drop));
    note(see(&store, tree).map(drop));
    note(store.commit(write(tree, &[8])).map(drop));
    note(store.close());
    said
}

/// Whether an error says that what is stored is damaged, rather than that something else went wrong.
fn names_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Backend(BackendError::Corrupt { .. }) | StoreError::Corrupt { .. } => true,
        // A damaged number of a page is as good as a disk that is too small for it.
        StoreError::Backend(BackendError::Full) => true,
        // What reads like another file, a database of another number, or one that is not there.
        StoreError::UnknownTree | StoreError::Refused(_) => true,
        error => format!("{error:?}").contains("Corrupt"),
    }
}

#[test]
fn random_damage_of_the_files_is_an_error_and_never_a_panic() {
    // A panic that is caught has nothing to say.
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !is_engine_guarded() {
            before(info);
        }
    }));
    let (mut clean, mut refused) = (0, 0);
    for (state, files) in stores().into_iter().enumerate() {
        for seed in 0..80u64 {
            let mut dice = Dice(seed);
            let mut damaged = files.clone();
            let name = if dice.roll(5) == 0 { LOG } else { ENGINE };
            let bytes = damaged.get_mut(name).unwrap();
            let len = bytes.len() as u64;
            // The beginning of the file, where the engine keeps what leads to all else, is hit more often.
            let mut place =
                || if dice.roll(3) == 0 { dice.roll(len.min(8192)) } else { dice.roll(len) } as usize;
            match seed % 4 {
                0 => {
                    let at = place();
                    bytes.truncate(at);
                }
                1 => {
                    let at = place() / 512 * 512;
                    bytes[at..].iter_mut().take(4096).for_each(|byte| *byte = 0);
                }
                _ => {
                    for _ in 0..1 + seed % 64 {
                        let at = place();
                        bytes[at] ^= 1 << (at % 8);
                    }
                }
            }
            let disk = disk_of(&damaged);
            let said = catch_unwind(AssertUnwindSafe(|| use_it(&disk)));
            let said = said.unwrap_or_else(|_| panic!("state {state}, seed {seed}: it panicked"));
            let other = said.iter().find(|error| !names_damage(error));
            assert!(other.is_none(), "state {state}, seed {seed}: {other:?}");
            clean += u32::from(said.is_empty());
            refused += u32::from(!said.is_empty());
        }
    }
    assert!(clean > 20 && refused > 20, "{clean} of the stores worked, {refused} did not");
}

#[test]
fn once_the_engine_has_panicked_every_call_says_that_it_is_damaged() {
    let [files, _] = stores();
    let mut seen = 0;
    for seed in 0..60u64 {
        let mut dice = Dice(seed);
        let mut damaged = files.clone();
        let bytes = damaged.get_mut(ENGINE).unwrap();
        // The pages themselves: what leads to them is intact, so that it opens.
        for _ in 0..400 {
            let at = 8192 + dice.roll(bytes.len() as u64 - 8192) as usize;
            bytes[at] = 0xff;
        }
        let disk = disk_of(&damaged);
        let Ok(backend) = Embedded::open_on(Arc::new(disk), CONFIG) else { continue };
        let all = crate::Scan::range(vec![0], vec![0xff; 4]);
        let Ok(snapshot) = crate::Backend::snapshot(&backend) else { continue };
        let is_damaged = |error: &BackendError| matches!(error, BackendError::Corrupt { .. });
        if snapshot.scan_many(&[all]).is_err_and(|error| is_damaged(&error)) {
            let again = snapshot.get_many(&[vec![1]]).unwrap_err();
            let written = crate::Backend::commit(&backend, crate::Batch::default()).unwrap_err();
            let opened = crate::Backend::snapshot(&backend).unwrap_err();
            if [&again, &written, &opened].into_iter().all(is_damaged) {
                seen += 1;
            }
        }
    }
    assert!(seen > 5, "{seen}");
}
