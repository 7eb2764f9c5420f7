//! Backups: one file with everything, and a directory made of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use eid_store::{BACKUP_MAGIC, BackupSummary};

use crate::error::{Error, ErrorKind};
use crate::instance::Instance;
use crate::offload::offload;

impl Instance {
    /// Writes one consistent copy of everything that is stored here into a file, and tells `progress` how many bytes of it
    /// are done. Writes go on meanwhile: the copy is of the moment at which it was begun. The file has the keys of this
    /// device in it, so only its owner may read it. It takes the place of an earlier backup when it is whole and on disk.
    ///
    /// ```
    /// # use eid::{Identity, Instance};
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
    /// # let dir = tempfile::tempdir()?;
    /// # let (home, file, elsewhere) = (dir.path().join("a"), dir.path().join("notes.backup"), dir.path().join("b"));
    /// let node = Instance::open(&home).await?;
    /// node.create_database("notes").await?.doc("main").set("title", "kept").await?;
    /// node.backup(&file, |_| {}).await?;
    ///
    /// let restored = eid::restore(&file, &elsewhere, Identity::New, |_, _| {}).await?;
    /// assert_eq!(restored.device, Some(node.device()));
    /// let copy = Instance::open(&elsewhere).await?;
    /// let notes = copy.database("notes")?.expect("it was backed up");
    /// assert_eq!(notes.doc("main").get_as::<String>("title")?.as_deref(), Some("kept"));
    /// // It is another device, which may read what it has, and write once somebody lets it.
    /// assert_ne!(copy.device(), node.device());
    /// # copy.close().await?;
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotEmpty`] when the file is there and is no backup, [`ErrorKind::Full`], [`ErrorKind::Io`]. What was
    /// there is as it was.
    pub async fn backup(
        &self,
        file: impl AsRef<Path>,
        mut progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<BackupSummary, Error> {
        let (db, file, mark) = (self.db().clone(), file.as_ref().to_owned(), mark(self.db().env()));
        offload(move || {
            may_replace(&file)?;
            let early = beside(&file, &mark, "partial")?;
            let written = (|| {
                let mut out = create_private(&early)?;
                let summary = db.backup(&mut out, &mut progress)?;
                let unwritten = |cause| Error::io(format!("cannot write {}", file.display()), cause);
                out.sync_all().map_err(unwritten)?;
                fs::rename(&early, &file).map_err(unwritten)?;
                sync_directory(&file).map_err(unwritten)?;
                Ok(summary)
            })();
            if written.is_err() {
                leave(&early, fs::remove_file(&early));
            }
            written
        })
        .await?
    }
}

/// Makes a data directory of a backup, and tells `progress` how many bytes of the file, of how many, are done. The copy
/// has a life of its own: what peers remember of the one that was backed up is not believed of it. With [`Identity::New`]
/// it is another device, whose key is made when it is opened and may do nothing in any database until somebody grants it a
/// right there.
///
/// # Errors
/// [`ErrorKind::NotEmpty`] when the directory holds anything, [`ErrorKind::Corrupt`] when the file is not a whole backup,
/// [`ErrorKind::NewerFormat`], [`ErrorKind::Full`], [`ErrorKind::Io`]. Nothing is left of what was begun then.
///
/// [`Identity::New`]: crate::Identity::New
#[cfg(feature = "embedded")]
pub async fn restore(
    file: impl AsRef<Path>,
    directory: impl AsRef<Path>,
    identity: eid_db::Identity,
    progress: impl FnMut(u64, u64) + Send + 'static,
) -> Result<eid_db::Restored, Error> {
    let (file, directory) = (file.as_ref().to_owned(), directory.as_ref().to_owned());
    offload(move || restore_now(&file, &directory, identity, progress)).await?
}

#[cfg(feature = "embedded")]
fn restore_now(
    file: &Path,
    directory: &Path,
    identity: eid_db::Identity,
    mut progress: impl FnMut(u64, u64),
) -> Result<eid_db::Restored, Error> {
    use eid_store::Backend as _;

    let env = eid_db::Env::system();
    let unread = |cause| Error::io(format!("cannot read {}", file.display()), cause);
    let mut from = File::open(file).map_err(unread)?;
    let total = from.metadata().map_err(unread)?.len();
    is_empty(directory)?;
    // Where a link leads, and not in the place of the link.
    let directory = &fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let early = beside(directory, &mark(&env), "restoring")?;
    crate::instance::make_private(&early)?;
    let restored = (|| {
        let backend = eid_store::Embedded::open(&early, eid_store::EmbeddedConfig::default())?;
        let mut progress = |done| progress(done, total);
        let restored = eid_db::restore(&mut from, &backend, &env, identity, &mut progress);
        let restored = restored
            .map_err(|cause| Error::from(cause).with_place(&format!("cannot restore {}", file.display())))?;
        backend.close()?;
        let unmade = |cause| Error::io(format!("cannot make {}", directory.display()), cause);
        sync_directory(&early.join("store")).map_err(unmade)?;
        // What is not empty by now is not removed.
        match fs::remove_dir(directory) {
            Err(cause) if cause.kind() == io::ErrorKind::DirectoryNotEmpty => {
                return Err(not_empty(directory));
            }
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(unmade(cause)),
            _ => {}
        }
        fs::rename(&early, directory).map_err(unmade)?;
        sync_directory(directory).map_err(unmade)?;
        Ok(restored)
    })();
    if restored.is_err() {
        leave(&early, fs::remove_dir_all(&early));
    }
    restored
}

/// A new file may take the place of nothing, or of a backup.
fn may_replace(file: &Path) -> Result<(), Error> {
    let unusable = |cause| Error::io(format!("cannot use {}", file.display()), cause);
    let mut found = match File::open(file) {
        Ok(found) => found,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(unusable(cause)),
    };
    let mut magic = [0; BACKUP_MAGIC.len()];
    match found.read_exact(&mut magic) {
        Ok(()) if magic == BACKUP_MAGIC => Ok(()),
        Err(cause) if cause.kind() != io::ErrorKind::UnexpectedEof => Err(unusable(cause)),
        _ => {
            let message = format!("{} is there already and is no backup", file.display());
            Err(Error::new(ErrorKind::NotEmpty, message))
        }
    }
}

/// A directory that holds nothing, or none.
#[cfg(feature = "embedded")]
fn is_empty(directory: &Path) -> Result<(), Error> {
    match fs::read_dir(directory).map(|mut entries| entries.next()) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(not_empty(directory)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => Err(not_empty(directory)),
        Err(cause) => Err(Error::io(format!("cannot read {}", directory.display()), cause)),
    }
}

#[cfg(feature = "embedded")]
fn not_empty(directory: &Path) -> Error {
    Error::new(ErrorKind::NotEmpty, format!("{} holds something already", directory.display()))
}

/// A few letters that nothing beside has in its name.
fn mark(env: &eid_db::Env) -> String {
    format!("{:016x}", u64::from_le_bytes(env.random()))
}

/// A path for what is not whole yet, on the same disk.
fn beside(path: &Path, mark: &str, what: &str) -> Result<PathBuf, Error> {
    let Some(name) = path.file_name() else {
        let message = format!("{} cannot be made", path.display());
        return Err(Error::new(ErrorKind::NotEmpty, message));
    };
    let mut early = name.to_owned();
    early.push(format!(".{mark}.{what}"));
    Ok(path.with_file_name(early))
}

fn create_private(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|cause| Error::io(format!("cannot make {}", path.display()), cause))
}

/// Has the name of a path on disk, where systems let that be asked for.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match File::open(parent.unwrap_or(Path::new("."))) {
        Ok(parent) if cfg!(unix) => parent.sync_all(),
        Err(cause) if cfg!(unix) => Err(cause),
        _ => Ok(()),
    }
}

/// What could not be removed stays, and is told.
fn leave(path: &Path, removed: io::Result<()>) {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "what was begun could not be removed");
        }
        _ => {}
    }
}
