//! How much of its keys a principal may use: a key's rate, the quotas of the day, a key pair's whole life.
//!
//! One use is one signature or MAC that is asked for; a digest that is anchored counts for the day, and for no key
//! pair's life, since none is used. Everything is taken before the intent and given back when it is certain that no
//! key was used. What people decided by quorum, and the hand-over of a rotation, is counted and never refused.
//!
//! Counting goes on whether or not there is a limit, so that one that is set later knows what this process has
//! seen. What was before it is counted again from the ledger, see `recount.rs`.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use chancery_format::{Kid, PrincipalName, Timestamp};
use chancery_ledger::Roll;
use tokio::sync::Mutex;

use super::policy::Grant;
use super::quota::{Day, KeyUsage, Quotas, TakenUse};
use super::rate_limit::{DuplicateRate, KeyBuckets, KeyRate, Rate};
use super::recount::{Wanted, recount};
use super::{Permit, Refusal};
use crate::leaves::LeavesError;

/// Names counted in one day, of principals and of keys: as many as a configuration can hold.
const NAMES_MAX: usize = 100_000;

/// `[[key_limits]]`: how much one key may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLimit {
    /// The key.
    pub kid: Kid,
    /// For this principal instead of what holds for everybody together; it has a rate and nothing else.
    pub principal: Option<PrincipalName>,
    /// How often.
    pub rate: Option<Rate>,
    /// Uses in one UTC day, everybody's together.
    pub daily_quota: Option<u64>,
    /// Uses of one key pair in its whole life.
    pub lifetime_uses: Option<u64>,
}

/// What is in force: immutable but for its buckets, swapped whole.
#[derive(Debug, Default)]
pub struct Rules {
    buckets: KeyBuckets,
    daily_of_principals: HashMap<PrincipalName, u64>,
    daily_of_keys: HashMap<Kid, u64>,
    lifetime: HashMap<Kid, u64>,
}

impl Rules {
    /// What the operator wrote down. Buckets that did not change are taken over from `before`.
    pub fn compile(
        grants: &[Grant],
        limits: &[KeyLimit],
        before: Option<&Self>,
    ) -> Result<Self, Vec<DuplicateRate>> {
        let rate = |limit: &KeyLimit| {
            let (kid, principal) = (limit.kid.clone(), limit.principal.clone());
            Some(KeyRate { kid, principal, rate: limit.rate? })
        };
        let rates: Vec<_> = limits.iter().filter_map(rate).collect();
        let quota = |grant: &Grant| Some((grant.principal.clone(), grant.daily_quota?));
        let of_key = |count: fn(&KeyLimit) -> Option<u64>| {
            limits.iter().filter_map(move |limit| Some((limit.kid.clone(), count(limit)?))).collect()
        };
        Ok(Self {
            buckets: KeyBuckets::compile(&rates, before.map(|before| &before.buckets))?,
            daily_of_principals: grants.iter().filter_map(quota).collect(),
            daily_of_keys: of_key(|limit| limit.daily_quota),
            lifetime: of_key(|limit| limit.lifetime_uses),
        })
    }

    /// Whether the day's uses before this process matter.
    pub fn counts_days(&self) -> bool {
        !self.daily_of_principals.is_empty() || !self.daily_of_keys.is_empty()
    }

    /// Whether all uses before this process matter.
    pub fn counts_lives(&self) -> bool {
        !self.lifetime.is_empty()
    }

    /// The names whose key pairs' lives are limited, and to how many uses.
    pub fn lifetimes(&self) -> impl Iterator<Item = (&Kid, u64)> {
        self.lifetime.iter().map(|(kid, uses)| (kid, *uses))
    }
}

/// Uses found on the ledger.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Of the day, by who asked.
    pub principals: HashMap<PrincipalName, u64>,
    /// Of the day, by the key's name.
    pub kids: HashMap<Kid, u64>,
    /// Of all time, by key pair.
    pub signers: HashMap<Kid, u64>,
}

/// One use that was taken.
#[derive(Debug)]
#[must_use = "a use that does not happen must be given back"]
pub struct Taken {
    principal: PrincipalName,
    kid: Kid,
    day: Day,
    lives: Vec<(Arc<KeyUsage>, TakenUse)>,
}

/// Counts uses and holds them to the rules.
#[derive(Debug)]
pub struct Allowances {
    rules: ArcSwap<Rules>,
    principals: Quotas<PrincipalName>,
    kids: Quotas<Kid>,
    /// By `signer_kid`; as many as there are key pairs.
    lives: RwLock<HashMap<Kid, Arc<KeyUsage>>>,
    /// Leaves before this were there when counting began.
    began: u64,
    /// What of them was counted.
    recounted: Mutex<Wanted>,
}

impl Allowances {
    /// Counts from here on, a ledger of so many leaves behind it. Without rules until some are adopted.
    pub fn new(began: u64) -> Self {
        Self {
            rules: ArcSwap::default(),
            principals: Quotas::new(NAMES_MAX),
            kids: Quotas::new(NAMES_MAX),
            lives: RwLock::default(),
            began,
            recounted: Mutex::default(),
        }
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Puts rules in force, once what they need of the time before this process was counted again from the ledger.
    /// If that fails, the rules before stay.
    pub async fn adopt(&self, roll: &Roll, rules: Rules, now: Timestamp) -> Result<(), LeavesError> {
        let mut recounted = self.recounted.lock().await;
        let wanted = Wanted {
            days: rules.counts_days() && !recounted.days,
            lives: rules.counts_lives() && !recounted.lives,
        };
        let today = Day::of(now);
        let uses = recount(roll, self.began, today, wanted).await?;
        self.restore(&uses, today);
        recounted.days |= wanted.days;
        recounted.lives |= wanted.lives;
        self.rules.store(Arc::new(rules));
        Ok(())
    }

    /// Takes one use of a key, or says what is used up. A refusal takes nothing but a token of the key's rate.
    pub fn take(&self, permit: &Permit<'_>, now_ns: u64, now: Timestamp) -> Result<Taken, Refusal> {
        self.rules.load().buckets.take(permit.principal(), permit.kid(), now_ns)?;
        self.take_quotas(permit, now, true)
    }

    /// The same for a digest that is anchored: no key pair is used.
    pub fn take_anchored(&self, permit: &Permit<'_>, now_ns: u64, now: Timestamp) -> Result<Taken, Refusal> {
        self.rules.load().buckets.take(permit.principal(), permit.kid(), now_ns)?;
        self.take_quotas(permit, now, false)
    }

    /// Whether [`Allowances::take`] would be refused for what is used up. Takes nothing.
    pub fn look(&self, permit: &Permit<'_>, now: Timestamp) -> Result<(), Refusal> {
        self.give_back(self.take_quotas(permit, now, true)?);
        Ok(())
    }

    fn take_quotas(&self, permit: &Permit<'_>, now: Timestamp, uses_keys: bool) -> Result<Taken, Refusal> {
        let rules = self.rules.load();
        let (principal, kid, day) = (permit.principal().clone(), permit.kid().clone(), Day::of(now));
        let mut taken = Taken { principal, kid, day, lives: Vec::new() };
        let limit = rules.daily_of_principals.get(&taken.principal).copied();
        let counted = self.principals.take_daily(&taken.principal, limit.unwrap_or(u64::MAX), now);
        if let (Some(_), Err(exceeded)) = (limit, counted) {
            return Err(Refusal::QuotaExceeded { of: "this principal".to_owned(), exceeded });
        }
        let limit = rules.daily_of_keys.get(&taken.kid).copied();
        let counted = self.kids.take_daily(&taken.kid, limit.unwrap_or(u64::MAX), now);
        if let (Some(_), Err(exceeded)) = (limit, counted) {
            self.principals.give_back(&taken.principal, day);
            return Err(Refusal::QuotaExceeded { of: format!("key {}", taken.kid), exceeded });
        }
        for (kid, signer_kid) in permit.key_pairs().filter(|_| uses_keys) {
            let life = self.life(signer_kid);
            match life.take(rules.lifetime.get(kid).copied().unwrap_or(u64::MAX)) {
                Ok(used) => taken.lives.push((life, used)),
                Err(exhausted) => {
                    self.give_back(taken);
                    return Err(Refusal::KeyExhausted { signer_kid: signer_kid.clone(), exhausted });
                }
            }
        }
        Ok(taken)
    }

    /// Counts one use that nothing holds up.
    pub fn count(&self, permit: &Permit<'_>, now: Timestamp) -> Taken {
        let (principal, kid, day) = (permit.principal().clone(), permit.kid().clone(), Day::of(now));
        // Without a limit only the bound of names could refuse, and then there is nothing to hold it to.
        let _ = self.principals.take_daily(&principal, u64::MAX, now);
        let _ = self.kids.take_daily(&kid, u64::MAX, now);
        let used = |(_, signer_kid): (&Kid, &Kid)| {
            let life = self.life(signer_kid);
            let used = life.take(u64::MAX).ok()?;
            Some((life, used))
        };
        let lives = permit.key_pairs().filter_map(used).collect();
        Taken { principal, kid, day, lives }
    }

    /// Gives back a use that certainly did not happen.
    pub fn give_back(&self, taken: Taken) {
        self.principals.give_back(&taken.principal, taken.day);
        self.kids.give_back(&taken.kid, taken.day);
        for (life, used) in taken.lives {
            life.give_back(used);
        }
    }

    /// Adds what the ledger says was used before. Once.
    fn restore(&self, uses: &Uses, day: Day) {
        for (principal, count) in &uses.principals {
            // More names than a configuration can hold: what was removed from it since has no limit.
            let _ = self.principals.restore(principal, day, *count);
        }
        for (kid, count) in &uses.kids {
            let _ = self.kids.restore(kid, day, *count);
        }
        for (signer_kid, count) in &uses.signers {
            self.life(signer_kid).restore(*count);
        }
    }

    /// Uses of a key pair so far, as far as they were counted.
    pub fn used(&self, signer_kid: &Kid) -> u64 {
        self.life(signer_kid).used()
    }

    fn life(&self, signer_kid: &Kid) -> Arc<KeyUsage> {
        let lives = self.lives.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(life) = lives.get(signer_kid) {
            return Arc::clone(life);
        }
        drop(lives);
        let mut lives = self.lives.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lives.entry(signer_kid.clone()).or_default())
    }
}
