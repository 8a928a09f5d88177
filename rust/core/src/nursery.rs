//! The zygotes of a process: started when they are first needed, shared by functions with the same interpreter and
//! packages, bounded in number, replaced by use.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::function::{Function, ZygoteKey};
use crate::house::House;
use crate::plan;
use crate::plan::User;
use crate::plan::environment::{Birth, Identity, Outside};
use crate::plan::rootfs::{Grant, Root};
use crate::plan::zygote::{Program, library};
use crate::posture::Wall;
use crate::process::name_within;
use crate::untold::Untold;
use crate::zygote::{Launch, Programs, Zygote};

/// Zygotes that are kept, each for another interpreter or set of packages.
const MOST_ZYGOTES: usize = 8;
/// A zygote is replaced after so many forks: what they leak, if anything, goes with it.
const MOST_FORKS: u64 = 50_000;

/// All zygotes.
#[derive(Debug)]
pub struct Nursery {
    programs: Programs,
    places: Mutex<HashMap<ZygoteKey, Arc<Place>>>,
    launched: Mutex<Vec<Arc<Zygote>>>,
    /// Packages that make a process unfit to be forked.
    unfit: Mutex<BTreeSet<String>>,
    /// Those, and why, as they are found.
    notes: Untold<Unfit>,
    next: AtomicU64,
    /// How often a zygote was asked for.
    uses: AtomicU64,
}

/// A module that every environment imports by itself, since none could be forked with it.
#[derive(Clone, Debug)]
pub struct Unfit {
    /// Its name.
    pub module: String,
    /// Why.
    pub reason: String,
}

/// A zygote is being looked for, or started.
#[derive(Clone, Copy, Debug)]
pub struct Busy;

#[derive(Debug, Default)]
struct Place {
    zygote: Mutex<Option<Arc<Zygote>>>,
    /// Which use of all was its last.
    used: AtomicU64,
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Zygote>>> {
        self.zygote.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the zygote go whose last use is longest ago; false if none can: it lives on for as long as environments do that were forked from it. One that
/// somebody is starting stays, since nobody is to wait for that under the lock of all.
#[expect(clippy::mutable_key_type, reason = "keys are compared by what never changes in them")]
fn give_one_up(places: &mut HashMap<ZygoteKey, Arc<Place>>) -> bool {
    let alone = places.iter().filter(|(_, place)| Arc::strong_count(place) == 1);
    let oldest = alone.min_by_key(|(_, place)| place.used.load(Ordering::Relaxed)).map(|(key, _)| key.clone());
    let Some(place) = oldest.and_then(|key| places.remove(&key)) else { return false };
    place.lock().take().inspect(|zygote| zygote.retire());
    true
}

impl Nursery {
    /// A nursery with no zygote in it yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            programs: Programs::new()?,
            places: Mutex::default(),
            launched: Mutex::default(),
            unfit: Mutex::default(),
            notes: Untold::default(),
            next: AtomicU64::new(1),
            uses: AtomicU64::new(0),
        })
    }

    /// The function's zygote. What a package of the code turns out to be unfit for is found by trying; a name that its
    /// owner asked for is refused, one that was read off the code is left to be imported after the fork.
    pub fn zygote(&self, house: &House, function: &Function) -> Result<Arc<Zygote>> {
        loop {
            let key = self.key_of(function);
            let refused = match self.zygote_of(house, &key)? {
                Ok(zygote) => return Ok(zygote),
                Err(refused) => refused,
            };
            let known = refused.keys().any(|name| key.preload.contains(name));
            if !function.spec.preload_optional || !known {
                let list: Vec<String> = refused.iter().map(|(name, why)| format!("{name}: {why}")).collect();
                return Err(Error::Configuration(format!(
                    "the zygote of {:?} is unfit to be forked ({}); leave such a package out of preload",
                    function.spec.name,
                    list.join("; ")
                )));
            }
            for (module, reason) in refused {
                self.notes.add(Unfit { module: module.clone(), reason });
                self.unfit.lock().unwrap_or_else(PoisonError::into_inner).insert(module);
            }
        }
    }

    /// What was found unfit since this was last asked.
    pub fn unfit(&self) -> Vec<Unfit> {
        self.notes.take()
    }

    /// The function's zygote, if there is one that serves. An error: somebody is about to find out.
    pub fn resident(&self, function: &Function) -> Result<Option<Arc<Zygote>>, Busy> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = places.get(&self.key_of(function)).cloned() else { return Ok(None) };
        drop(places);
        let zygote = match place.zygote.try_lock() {
            Ok(zygote) => zygote.clone(),
            Err(_) => return Err(Busy),
        };
        Ok(zygote.filter(|zygote| zygote.serves()))
    }

    fn key_of(&self, function: &Function) -> ZygoteKey {
        let mut key = function.zygote.clone();
        if function.spec.preload_optional {
            let unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
            key.preload.retain(|name| !unfit.contains(name));
        }
        key
    }

    /// The zygote for this key, started if there is none that lives; or what it refused to preload, and why.
    fn zygote_of(&self, house: &House, key: &ZygoteKey) -> Result<Result<Arc<Zygote>, BTreeMap<String, String>>> {
        let place = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            // There may be more than that, for as long as all of them are being started.
            while !places.contains_key(key) && places.len() >= MOST_ZYGOTES && give_one_up(&mut places) {}
            let place = Arc::clone(places.entry(key.clone()).or_default());
            place.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            place
        };
        let mut zygote = place.lock();
        if let Some(zygote) = zygote.as_ref().filter(|zygote| zygote.alive() && zygote.forks() < MOST_FORKS) {
            return Ok(Ok(Arc::clone(zygote)));
        }
        zygote.take().inspect(|zygote| zygote.retire());
        let started = match self.launch(house, key)? {
            Launch::Serving(zygote) => zygote,
            Launch::Refused(refused) => return Ok(Err(refused)),
        };
        *zygote = Some(Arc::clone(&started));
        self.launched.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&started));
        Ok(Ok(started))
    }

    fn launch(&self, house: &House, key: &ZygoteKey) -> Result<Launch> {
        let (interpreter, posture) = (&key.interpreter, &house.facts.posture);
        // What has vanished since is missed by nobody who needs none of it.
        let there = key.directories.iter().filter(|grant| grant.source.is_dir());
        let extra = there
            .map(|Grant { source, target }| Ok(Grant { source: house.store.grant(source)?, target: target.clone() }))
            .collect::<Result<Vec<_>>>()?;
        let shown: Vec<_> = extra.iter().map(|grant| grant.target.clone()).collect();
        let (scaffold, store) = (house.state.scaffold(), house.state.store());
        let root = if let Some(image) = &key.image {
            Root::of_image(scaffold, store, &image.root.key, key.network, posture)
        } else {
            let runtime = house.store.grant(&key.runtime)?;
            let root = Root::of_host(scaffold, store, runtime, extra, key.network, posture);
            if key.native { root.with_jdks() } else { root }.without(key.hidden())
        };
        let program = if key.native {
            Program::Native
        } else {
            let (library, control) = library();
            let mut path = interpreter.stdlib.clone();
            if key.packages {
                path.extend(interpreter.site.iter().cloned());
            }
            let config = serde_json::json!({
                "sys_path": path,
                "preload": key.preload,
                "library": library,
                "control": control,
                "renew": posture.has(Wall::Random),
            });
            Program::Interpreter { executable: &interpreter.executable, config: config.to_string() }
        };
        let user = house.zygote_user();
        let plan = plan::zygote::Zygote { root: &root, program, user, network: key.network, posture };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let cgroup = house.groups.create(&format!("z{number}"), user)?;
        let (uid, gid) = (house.facts.uid, house.facts.gid);
        let outside =
            if house.facts.root { Outside::Slot } else { Outside::Callers(name_within(uid), name_within(gid)) };
        let identity = Identity { inside: key.image.as_ref().map_or_else(User::default, |image| image.user), outside };
        let again = plan::rootfs::aliases(&shown);
        let birth =
            Birth::new(identity, cgroup.doors()?.len(), key.network, house.facts.landlock, &again, key.native, posture);
        Zygote::launch(&plan, birth, &self.programs, cgroup.clone(), (uid, gid)).inspect_err(|_| {
            let _ = cgroup.remove_within(Duration::from_secs(1));
        })
    }

    /// Takes an initialised function in, which is to end when the zygotes do.
    pub fn adopt(&self, base: Arc<Zygote>) {
        self.launched.lock().unwrap_or_else(PoisonError::into_inner).push(base);
    }

    /// Every zygote that lives, also those that were replaced.
    pub fn all(&self) -> Vec<Arc<Zygote>> {
        let mut launched = self.launched.lock().unwrap_or_else(PoisonError::into_inner);
        // A retired one ends with its last environment.
        launched.retain(|zygote| zygote.serves() || Arc::strong_count(zygote) > 1 || !zygote.stock.is_empty());
        launched.clone()
    }

    /// Ends all of them, also those that were replaced. What was made ahead for them is to be given up.
    pub fn kill(&self, deadline: Instant) {
        let launched = self.launched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // All of them are on their way before the first is waited for.
        for zygote in &launched {
            zygote.kill();
        }
        for zygote in &launched {
            zygote.end(deadline);
        }
    }

    /// Ends all of them, also those that were replaced, and whoever else still holds one: nothing runs in them any more.
    pub fn end(&self, deadline: Instant) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let launched = std::mem::take(&mut *self.launched.lock().unwrap_or_else(PoisonError::into_inner));
        for zygote in &launched {
            zygote.end(deadline);
        }
    }
}
