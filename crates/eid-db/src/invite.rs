//! Invites: a key whose holder may be given a right once, or a few times, by the device that made it.

use bytes::Bytes;
use eid_auth::OpenInvite;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::{Permission, PublicKey, SecretKey, SettingsOp, Slot, TreeId};
use eid_store::Local;
use zeroize::Zeroize as _;

use crate::database::Database;
use crate::error::{DbError, RedeemError};
use crate::instance::Instance;
use crate::limits::INVITES_MAX;
use crate::refusal::Refused;

/// What this device remembers of an invite that it made. Its secret is in the ticket only.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Invite {
    permission: Permission,
    /// Whose key grants it.
    issuer: PublicKey,
    expires_ms: Option<u64>,
    uses_left: Option<u32>,
    /// Whose grant was begun and may not be made yet: it counts once, also when it has to be made again after a crash.
    /// Once it is made the key is like any other, so that it cannot take back what an admin takes away from it later.
    joined: Vec<(PublicKey, String)>,
}

impl Invite {
    fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.array(6).uint(u64::from(self.permission.code()));
        w.uint(u64::from(self.permission.level().unwrap_or(0))).bytes(&self.issuer.0);
        for number in [self.expires_ms, self.uses_left.map(u64::from)] {
            match number {
                Some(number) => w.uint(number),
                None => w.null(),
            };
        }
        w.array(self.joined.len());
        for (key, name) in &self.joined {
            w.array(2).bytes(&key.0).text(name);
        }
        Bytes::from(w.into_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut r = Reader::new(bytes);
        r.array_exact(6)?;
        let permission = match (r.uint()?, r.uint()?) {
            (0, _) => Permission::Relay,
            (1, _) => Permission::Read,
            (2, _) => Permission::Write,
            (3, level) => Permission::Admin(u32::try_from(level).map_err(|_| CborError::Limit)?),
            _ => return Err(CborError::Limit),
        };
        let issuer = PublicKey(r.fixed()?);
        let expires_ms = r.nullable(Reader::uint)?;
        let uses_left = r.nullable(Reader::uint)?;
        let uses_left = uses_left.map(u32::try_from).transpose().map_err(|_| CborError::Limit)?;
        let count = r.array(usize::MAX)?;
        let mut joined = Vec::with_capacity(count);
        for _ in 0..count {
            r.array_exact(2)?;
            joined.push((PublicKey(r.fixed()?), r.text(usize::MAX)?.to_owned()));
        }
        r.finish()?;
        Ok(Self { permission, issuer, expires_ms, uses_left, joined })
    }

    /// Whether this key may still be given what the invite promises.
    fn check(&self, joiner: &PublicKey, now_ms: u64) -> Result<(), RedeemError> {
        if self.joined.iter().any(|(key, _)| key == joiner) {
            return Ok(());
        }
        if self.expires_ms.is_some_and(|expires| expires <= now_ms) {
            return Err(RedeemError::Expired);
        }
        if self.uses_left == Some(0) {
            return Err(RedeemError::UsedUp);
        }
        Ok(())
    }

    /// Takes note that the grant to this key is made.
    fn finish(&mut self, joiner: &PublicKey) {
        self.joined.retain(|(key, _)| key != joiner);
    }

    /// Takes note that a grant to this key begins.
    fn count(&mut self, joiner: &PublicKey, name: &str) {
        if self.joined.iter().any(|(key, _)| key == joiner) {
            return;
        }
        // An invite without a limit of uses needs no memory of them, which would have no bound.
        if let Some(left) = &mut self.uses_left {
            *left -= 1;
            self.joined.push((*joiner, name.chars().take(64).collect()));
        }
    }
}

/// Whether an open invite is past its date, by the clock of this device.
fn is_over(invite: &OpenInvite, now_ms: u64) -> bool {
    invite.expires_ms.is_some_and(|expires| expires <= now_ms)
}

fn row_key(tree: &TreeId, invite: &PublicKey) -> Vec<u8> {
    [tree.0, invite.0].concat()
}

impl Database {
    /// Makes an invite and gives its key, for the fragment of a ticket. Whoever proves to hold it is given
    /// `permission` by this device, at most `uses` times, until `expires_ms` (milliseconds since 1970). An invite that a
    /// user makes is honoured while that user is logged in.
    ///
    /// # Errors
    /// [`DbError::NotPermitted`] when whoever this handle acts for is no admin who could grant that.
    pub fn create_invite(
        &self,
        permission: Permission,
        uses: Option<u32>,
        expires_ms: Option<u64>,
    ) -> Result<SecretKey, DbError> {
        let issuer = self.author_key()?;
        let own = self.permission(&[issuer])?;
        if own.and_then(Permission::level).is_none() {
            return Err(self.lacking(&issuer, true)?.into());
        }
        if own < Some(permission) {
            return Err(Refused::AboveOneself { key: issuer, has: own }.into());
        }
        self.instance().remember_invite(&self.id(), permission, issuer, uses, expires_ms)
    }
}

impl Database {
    /// What somebody who has proven these keys may do in a session: what the strongest of them may, and whoever holds the
    /// key of an open invite that is not past its date by the clock of this device may read, so that it can join. A key
    /// that was revoked gains nothing by an invite beside it.
    pub fn permission_in_session(&self, keys: &[PublicKey]) -> Result<Option<Permission>, DbError> {
        let settings = self.settings()?;
        let held = keys.iter().filter_map(|key| settings.permission(key)).max();
        if held >= Some(Permission::Read) || settings.invites().is_empty() {
            return Ok(held);
        }
        let is_revoked = keys.iter().any(|key| settings.slot(&Slot::Key(*key)) == Some(None));
        let now_ms = self.instance().env().clock.now_ms();
        let open =
            settings.invites().iter().filter(|open| keys.contains(&open.key) && !is_over(open, now_ms));
        let by_invite = open.map(|open| open.permission.min(Permission::Read)).max();
        Ok(if is_revoked { held } else { held.max(by_invite) })
    }
}

impl Instance {
    fn invites(&self) -> Local {
        self.store().local().namespace("invites")
    }

    /// Open invites that this device has made, with whose key. Whether one is open stands in the settings.
    fn opened(&self) -> Local {
        self.store().local().namespace("opened invites")
    }

    /// Remembers who has opened an invite here: who is an admin grants what it promises when it is proven, as no other
    /// device that serves the database can, so that whoever joins is a member before anything has come.
    pub(crate) fn remember_opened(
        &self,
        tree: &TreeId,
        invite: &PublicKey,
        issuer: &PublicKey,
    ) -> Result<(), DbError> {
        Ok(self.opened().put(&row_key(tree, invite), issuer.0.to_vec())?)
    }

    pub(crate) fn forget_invites(&self, tree: &TreeId) -> Result<(), DbError> {
        for local in [self.invites(), self.opened()] {
            let rows = local.scan(&tree.0)?;
            local.write(rows.into_iter().map(|(key, _)| (key, None)).collect())?;
        }
        Ok(())
    }

    /// Makes an invite and gives its key, for the fragment of a ticket. Whoever proves to hold it is given
    /// `permission` by this device, at most `uses` times, until `expires_ms` (milliseconds since 1970).
    ///
    /// # Errors
    /// [`DbError::NotPermitted`] when this device is no admin who could grant that.
    pub fn create_invite(
        &self,
        tree: &TreeId,
        permission: Permission,
        uses: Option<u32>,
        expires_ms: Option<u64>,
    ) -> Result<SecretKey, DbError> {
        self.handle(*tree).create_invite(permission, uses, expires_ms)
    }

    fn remember_invite(
        &self,
        tree: &TreeId,
        permission: Permission,
        issuer: PublicKey,
        uses: Option<u32>,
        expires_ms: Option<u64>,
    ) -> Result<SecretKey, DbError> {
        self.drop_spent(tree)?;
        let mut seed: [u8; 32] = self.env().random();
        let key = SecretKey::from_seed(seed);
        seed.zeroize();
        let invite = Invite { permission, issuer, expires_ms, uses_left: uses, joined: Vec::new() };
        self.invites().put(&row_key(tree, &key.public()), invite.encode())?;
        Ok(key)
    }

    /// Forgets invites that nobody can use any more, when there are many.
    fn drop_spent(&self, tree: &TreeId) -> Result<(), DbError> {
        let rows = self.invites().scan(&tree.0)?;
        if rows.len() < INVITES_MAX {
            return Ok(());
        }
        let now = self.env().clock.now_ms();
        let is_spent = |bytes: &Bytes| {
            Invite::decode(bytes).is_ok_and(|invite| {
                invite.uses_left == Some(0) || invite.expires_ms.is_some_and(|expires| expires <= now)
            })
        };
        let spent: Vec<_> =
            rows.into_iter().filter(|(_, bytes)| is_spent(bytes)).map(|(key, _)| (key, None)).collect();
        if spent.is_empty() {
            return Err(DbError::TooManyInvites);
        }
        Ok(self.invites().write(spent)?)
    }

    /// Honours an invite that a joiner has proven to hold: grants the joiner what it promises, and counts the use. Who
    /// has the right already keeps it, and no use is counted.
    ///
    /// `proven` are the keys that were proven beside the joining device's. The first that is no invite is of a user: it
    /// is granted what is promised, and the device may read, so that it can fetch the database for the user.
    ///
    /// An open invite of the settings is not redeemed: whoever holds it joins by itself. It is looked whether it could,
    /// and what it would have then is given.
    ///
    /// The use is on disk before the grant is, with the joiner's key: after a crash in between, the same joiner is
    /// granted it without another use.
    pub fn redeem(
        &self,
        tree: &TreeId,
        proven: &[PublicKey],
        device: &PublicKey,
        name: &str,
    ) -> Result<Permission, RedeemError> {
        let _one_at_a_time = self.redeeming();
        let open = self.open_among(tree, proven)?;
        let (mut invites, mut joiner) = (Vec::new(), *device);
        for key in proven {
            match self.invites().get(&row_key(tree, key)).map_err(DbError::from)? {
                Some(bytes) => invites.push((row_key(tree, key), bytes)),
                None if open.iter().any(|invite| invite.key == *key) => {}
                None if joiner == *device => joiner = *key,
                None => {}
            }
        }
        let mut refused = RedeemError::Unknown;
        for invite in open {
            let row = row_key(tree, &invite.key);
            let issuer = self.opened().get(&row).map_err(DbError::from)?;
            if let Some(issuer) = issuer.and_then(|issuer| issuer[..].try_into().ok()).map(PublicKey) {
                let (permission, expires_ms) = (invite.permission, invite.expires_ms);
                let held = Invite { permission, issuer, expires_ms, uses_left: None, joined: Vec::new() };
                if let Ok(granted) = self.honour(tree, &row, held, (device, &joiner), name) {
                    return Ok(granted);
                }
            }
            // Whoever cannot grant it lets the joiner fetch what it needs to join by itself.
            match self.joinable(tree, &invite, [device, &joiner]) {
                Err(RedeemError::Expired) => refused = RedeemError::Expired,
                done => return done,
            }
        }
        for (row, bytes) in invites {
            let held = Invite::decode(&bytes)
                .map_err(|_| RedeemError::Db(DbError::Corrupt { what: "an invite" }))?;
            match self.honour(tree, &row, held, (device, &joiner), name) {
                Err(reason @ (RedeemError::Expired | RedeemError::UsedUp | RedeemError::IssuerAway)) => {
                    refused = reason;
                }
                done => return done,
            }
        }
        Err(refused)
    }

    /// The open invites among these keys.
    fn open_among(&self, tree: &TreeId, keys: &[PublicKey]) -> Result<Vec<OpenInvite>, DbError> {
        match self.handle(*tree).settings() {
            Ok(settings) => {
                Ok(settings.invites().iter().filter(|o| keys.contains(&o.key)).copied().collect())
            }
            Err(DbError::NotHere) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// What somebody has who joins by an open invite.
    fn joinable(
        &self,
        tree: &TreeId,
        invite: &OpenInvite,
        [device, joiner]: [&PublicKey; 2],
    ) -> Result<Permission, RedeemError> {
        let settings = self.handle(*tree).settings()?;
        if [device, joiner].iter().any(|key| settings.slot(&Slot::Key(**key)) == Some(None)) {
            return Err(RedeemError::Revoked);
        }
        match settings.permission(joiner) {
            Some(held) if held >= invite.permission => Ok(held),
            // Its own slot is set, to less: only an admin changes that.
            Some(held) if settings.slot(&Slot::Key(*joiner)).is_some() => Ok(held),
            _ if is_over(invite, self.env().clock.now_ms()) => Err(RedeemError::Expired),
            _ => Ok(invite.permission),
        }
    }

    fn honour(
        &self,
        tree: &TreeId,
        row: &[u8],
        held: Invite,
        (device, joiner): (&PublicKey, &PublicKey),
        name: &str,
    ) -> Result<Permission, RedeemError> {
        let database = self.handle(*tree);
        let settings = database.settings()?;
        if [device, joiner].iter().any(|key| settings.slot(&Slot::Key(**key)) == Some(None)) {
            return Err(RedeemError::Revoked);
        }
        let set = |key: &PublicKey, permission| SettingsOp::Set { slot: Slot::Key(*key), permission };
        let (has, reading) = (settings.permission(joiner), held.permission.min(Permission::Read));
        let mut grant = Vec::new();
        if has < Some(held.permission) {
            grant.push(set(joiner, held.permission));
        }
        if joiner != device && settings.permission(device) < Some(reading) {
            grant.push(set(device, reading));
        }
        let granted = has.max(Some(held.permission)).unwrap_or(held.permission);
        if grant.is_empty() {
            return Ok(granted);
        }
        held.check(joiner, self.env().clock.now_ms())?;
        let issuer = self.own_key(&held.issuer).ok_or(RedeemError::IssuerAway)?;
        let mut counted = held.clone();
        counted.count(joiner, name);
        let is_counted = counted != held;
        if is_counted {
            self.invites().put(row, counted.encode()).map_err(DbError::from)?;
        }
        if let Err(error) = database.write_settings_as(&issuer, &grant) {
            if is_counted {
                self.invites().put(row, held.encode()).map_err(DbError::from)?;
            }
            return Err(error.into());
        }
        if !counted.joined.is_empty() {
            counted.finish(joiner);
            // Lost in a crash, it is as if the crash had come before the grant.
            self.invites().put_relaxed(row, counted.encode()).map_err(DbError::from)?;
        }
        Ok(granted)
    }
}
