//! Asking for access: what this device has asked others for, and what others have asked it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eid_core::{Permission, PublicKey, TreeId};
use eid_sync::{Answer, AskedAccess, BootstrapRequest, Decision, RequestId, SyncEvent};

use crate::error::{Error, ErrorKind};
use crate::gate::told;
use crate::instance::Instance;
use crate::join::{Join, Joined};
use crate::offload::offload;
use crate::users::User;

/// What is being asked for again in the background.
#[derive(Debug, Default)]
pub(crate) struct Asking(Mutex<BTreeSet<(TreeId, PublicKey)>>);

impl Asking {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(TreeId, PublicKey)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pending(id: RequestId) -> Error {
    let message = "an admin of the database has to approve first; the request is remembered";
    Error::new(ErrorKind::Pending, message).of_request(id)
}

fn rejected(id: RequestId) -> Error {
    Error::new(ErrorKind::Rejected, "the request for access was rejected").of_request(id)
}

impl Join {
    /// Joins with a ticket that gives nothing: asks for a right, unless it is there.
    pub(crate) async fn by_asking(&self) -> Result<Joined, Error> {
        let (user, ticket) = (self.user(), self.ticket());
        let node = user.instance().clone();
        let (book, key) = (node.sync().asked(), user.key()?);
        let before = book.of(&ticket.db, &key)?;
        let (permission, said) = before
            .as_ref()
            .map_or((Permission::Read, None), |before| (before.permission, Some(before.metadata.clone())));
        let mut asked = AskedAccess {
            ticket: ticket.clone(),
            key,
            permission: self.wanted.unwrap_or(permission),
            request: RequestId([0; 16]),
            name: self.name.clone().or_else(|| before.as_ref().and_then(|before| before.name.clone())),
            metadata: self.metadata.clone().or(said).unwrap_or_default(),
            since_ms: before.as_ref().map_or_else(|| node.now_ms(), |before| before.since_ms),
        };
        match self.limited(node.ask(&asked, user)).await? {
            Answer::Granted(_) => {}
            Answer::Rejected(id) => {
                node.forget_asked(&asked).await?;
                return Err(rejected(id));
            }
            Answer::Pending(id) => {
                asked.request = id;
                let remembered = asked.clone();
                offload(move || book.put(&remembered)).await??;
                self.decided(&node, &asked).await?;
            }
        }
        let joined = match &asked.name {
            Some(name) => {
                let work = node.join_now(ticket, Some(name), user);
                self.limited(work).await?
            }
            None => self.bring().await?,
        };
        node.forget_asked(&asked).await?;
        Ok(joined)
    }

    /// Waits for the decision as long as it may; the task in the background waits on.
    async fn decided(&self, node: &Instance, asked: &AskedAccess) -> Result<(), Error> {
        if !self.approved_within.is_zero() {
            let own_name = node.display_name()?.unwrap_or_default();
            let waiting = node.sync().wait_for_access(asked, &own_name, &self.user().proven()?);
            match tokio::time::timeout(self.approved_within, waiting).await {
                Ok(Some(Decision::Granted(_))) => return Ok(()),
                Ok(Some(Decision::Rejected)) => {
                    node.forget_asked(asked).await?;
                    return Err(rejected(asked.request));
                }
                // It is not to be known yet.
                Ok(None) | Err(_) => {}
            }
        }
        node.go_on_asking().await?;
        Err(pending(asked.request))
    }
}

impl Instance {
    /// Asks the server of a ticket for access.
    async fn ask(&self, asked: &AskedAccess, user: &User) -> Result<Answer, Error> {
        let own_name = self.display_name()?.unwrap_or_default();
        let (engine, keys) = (self.sync(), user.proven()?);
        Ok(self.remembering(&asked.ticket, engine.ask_again(asked, &own_name, &keys)).await??)
    }

    async fn forget_asked(&self, asked: &AskedAccess) -> Result<(), Error> {
        let (book, tree, key) = (self.sync().asked(), asked.ticket.db, asked.key);
        Ok(offload(move || book.remove(&tree, &key)).await??)
    }

    /// What this device, and its users, have asked others for and nobody has decided.
    pub fn pending_joins(&self) -> Result<Vec<AskedAccess>, Error> {
        Ok(self.sync().asked().list()?)
    }

    /// Goes on asking for what this device has asked for and nobody has decided, also before a restart: in the background,
    /// until the instance is closed. Joins what was approved. What a user has asked for goes on with
    /// [`User::complete_joins`].
    pub(crate) async fn go_on_asking(&self) -> Result<(), Error> {
        let book = self.sync().asked();
        let all = offload(move || book.list()).await??;
        for asked in all.into_iter().filter(|asked| asked.key == self.device()) {
            if self.inner.asking.lock().insert((asked.ticket.db, asked.key)) {
                self.ask_in_background(asked)?;
            }
        }
        Ok(())
    }

    /// A task that does not keep the instance alive.
    fn ask_in_background(&self, asked: AskedAccess) -> Result<(), Error> {
        let own_name = self.display_name()?.unwrap_or_default();
        let (weak, mut waiting) =
            (Arc::downgrade(&self.inner), self.sync().wait_for_access(&asked, &own_name, &[]));
        tokio::spawn(async move {
            loop {
                let decision = waiting.await;
                let Some(node) = weak.upgrade().map(|inner| Self { inner }) else { return };
                match node.decided(&asked, decision).await {
                    Ok(()) => {
                        node.inner.asking.lock().remove(&(asked.ticket.db, asked.key));
                        return;
                    }
                    Err(error) => tracing::debug!(%error, "what was approved could not be joined yet"),
                }
                waiting = node.sync().wait_for_access(&asked, &own_name, &[]);
            }
        });
        Ok(())
    }

    /// Joins what was approved, and forgets what was decided.
    async fn decided(&self, asked: &AskedAccess, decision: Option<Decision>) -> Result<(), Error> {
        let Some(decision) = decision else { return Ok(()) };
        if self.sync().asked().of(&asked.ticket.db, &asked.key)?.is_none() {
            return Ok(());
        }
        let permission = match decision {
            Decision::Granted(permission) => {
                let joined = self.join_now(&asked.ticket, asked.name.as_deref(), &self.device_user()).await?;
                self.indexing().after(std::slice::from_ref(&joined.session)).await;
                Some(permission)
            }
            Decision::Rejected => None,
        };
        self.forget_asked(asked).await?;
        self.sync().tell_others(&SyncEvent::Answered { tree: asked.ticket.db, permission });
        Ok(())
    }

    /// What others have asked this device for, decided or not, the oldest first. Names and metadata come from the network:
    /// escape them before a terminal sees them.
    ///
    /// ```
    /// # use eid::{Access, ErrorKind, Http, Instance, Permission};
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
    /// let (ada, ben) = (Instance::builder().memory().open().await?, Instance::builder().memory().open().await?);
    /// let there = ada.create_database("notes").await?;
    /// ada.listen(Http::on("127.0.0.1:0")).await?;
    /// let ticket = there.share(Access::ask()).await?; // grants nothing
    ///
    /// let refused = ben.join(&ticket).asking(Permission::Write).await.unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::Pending); // remembered, and asked again by itself
    ///
    /// let request = ada.requests()?.remove(0);
    /// assert_eq!((request.key, request.permission), (ben.device(), Permission::Write));
    /// ada.approve_request(request.id, None).await?;
    /// let here = ben.join(&ticket).await?;
    /// here.doc("profile").set("name", "Ben").await?;
    /// # ada.close().await?;
    /// # Ok::<(), eid::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn requests(&self) -> Result<Vec<BootstrapRequest>, Error> {
        Ok(self.db().requests()?.into_iter().map(told).collect())
    }

    /// Approves a request as this device: grants exactly its key what it asks for, or what is given here.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Decided`]; [`ErrorKind::Forbidden`] when this device is no admin of the
    /// database, or gives more than it has. Nothing was changed then.
    pub async fn approve_request(
        &self,
        id: RequestId,
        permission: Option<Permission>,
    ) -> Result<BootstrapRequest, Error> {
        self.device_user().approve_request(id, permission).await
    }

    /// Rejects a request as this device: nobody is granted anything.
    ///
    /// # Errors
    /// As [`Self::approve_request`].
    pub async fn reject_request(&self, id: RequestId) -> Result<BootstrapRequest, Error> {
        self.device_user().reject_request(id).await
    }
}

impl User {
    /// As [`Instance::approve_request`], with the strongest key that this user has in the database.
    pub async fn approve_request(
        &self,
        id: RequestId,
        permission: Option<Permission>,
    ) -> Result<BootstrapRequest, Error> {
        self.decide(id, move |database| database.approve_request(&id.0, permission)).await
    }

    /// As [`Instance::reject_request`], as this user.
    pub async fn reject_request(&self, id: RequestId) -> Result<BootstrapRequest, Error> {
        self.decide(id, move |database| database.reject_request(&id.0)).await
    }

    async fn decide(
        &self,
        id: RequestId,
        decide: impl FnOnce(&eid_db::Database) -> Result<eid_db::AccessRequest, eid_db::DbError> + Send + 'static,
    ) -> Result<BootstrapRequest, Error> {
        let (db, user) = (self.instance().db().clone(), self.inner().clone());
        offload(move || {
            let tree = db.request(&id.0)?.database;
            let database = if user.is_device() { db.database_by_id(tree) } else { user.database_by_id(tree) };
            Ok(told(decide(&database)?))
        })
        .await?
    }

    /// Asks once more for everything that this user has asked for and nobody has decided, and joins what was approved.
    /// Gives what became of each.
    pub async fn complete_joins(
        &self,
        within: Duration,
    ) -> Result<Vec<(AskedAccess, Result<Joined, Error>)>, Error> {
        let (node, key) = (self.instance(), self.key()?);
        let mut all = Vec::new();
        for asked in node.pending_joins()?.into_iter().filter(|asked| asked.key == key) {
            let done = self.join(&asked.ticket).within(within).run().await;
            all.push((asked, done));
        }
        Ok(all)
    }
}
