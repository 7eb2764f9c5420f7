//! Many devices that come back to one node at the same moment are served no slower than one after another, and what waits
//! at that node stays under its bound.
//!
//! Each device shares a database with the node alone, in which it has written, and one with everybody, in which the node
//! has.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eid_core::{Permission, TreeId};
use eid_sync::Compression;

use crate::clock::Clock;
use crate::executor::{Group, Sim, Stopped, lock};
use crate::net::{Net, Node, Weather};
use crate::node::{AnyError, Disk, Process, Site, Wishes};
use crate::plan::DiskKind;
use crate::rng::Rng;
use crate::trace::Verbosity;

/// Entries that the node has written while all others were away.
const WRITTEN: u64 = 20;
/// Bytes of what each of the others has written meanwhile.
const OWN_BYTES: usize = 16 * 1024;
/// What may wait at the node: less than all of them bring together.
pub const MEMORY_BYTES: usize = 128 * 1024;
/// By how much more: sessions that find room at the same moment take a frame each.
const OVERSHOOT_BYTES: usize = 8 * OWN_BYTES;
/// How often it is asked who has been served, in virtual time.
const LOOK_US: u64 = 20_000;
/// Longest time until all are, virtual.
const PATIENCE_US: u64 = 3600 * 1_000_000;

/// How devices come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// All at the same moment, and they go on to keep in step.
    AtOnce,
    /// Each when the one before has been served.
    OneByOne,
}

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Until all were served, virtual.
    pub virtual_us: u64,
    /// The same on this machine, of one thread.
    pub real: Duration,
    /// The most that waited at the node at any moment.
    pub waiting_bytes: usize,
    /// Tasks that were polled.
    pub polls: u64,
}

impl Served {
    /// Whether no more waited than may.
    #[must_use]
    pub fn is_within_memory(&self) -> bool {
        self.waiting_bytes <= MEMORY_BYTES + OVERSHOOT_BYTES
    }
}

struct Device {
    process: Arc<Process>,
    own: TreeId,
}

/// Lets so many devices come back, and waits until each has what the node had written, and the node what each had.
///
/// # Errors
/// When something fails, or not all are served in an hour.
pub fn run(seed: u64, devices: usize, order: Order) -> Result<Served, AnyError> {
    let sim = Sim::new(seed, Verbosity::Quiet);
    let net = Net::new(&sim, seed, Weather::fair());
    let site = |index: usize| Site {
        sim: sim.clone(),
        net: net.clone(),
        node: Node(u32::try_from(index).unwrap_or(u32::MAX)),
        clock: Arc::new(Clock::right(&sim)),
        disk: Disk::new(DiskKind::Journal),
        name: format!("n{index}"),
        first_rung: None,
        compression: Compression::WhereItPays,
        ledger: None,
        memory_bytes: Some(MEMORY_BYTES),
        wishes: Wishes::default(),
    };
    let begun = Arc::new(Mutex::new(None));
    let (sites, begins) = ((0..=devices).map(site).collect::<Vec<_>>(), Arc::clone(&begun));
    sim.spawn(Group::WORLD, Box::pin(async move { *lock(&begins) = Some(begin(seed, sites).await) }));
    sim.run(PATIENCE_US, || lock(&begun).is_some());
    let Some(begun) = lock(&begun).take() else { return Err("the devices do not start".into()) };
    let (hub, shared, devices) = begun?;
    let wanted = hub.entries(&shared)?;
    let failure = Arc::new(Mutex::new(None));
    let (begin_us, real, polls) = (sim.now_us(), Instant::now(), sim.polls());
    let waits: Arc<Mutex<BTreeSet<usize>>> = Arc::new(Mutex::new((0..devices.len()).collect()));
    let devices = Arc::new(devices);
    match order {
        Order::AtOnce => devices.iter().for_each(|device| device.process.keep_known()),
        Order::OneByOne => {
            let (devices, failure) = (Arc::clone(&devices), Arc::clone(&failure));
            let one_by_one = async move {
                for device in devices.iter() {
                    if let Err(error) = device.process.sync(HUB, None).await {
                        *lock(&failure) = Some(error);
                    }
                }
            };
            sim.spawn(Group::WORLD, Box::pin(one_by_one));
        }
    }
    let (looks, all, node, own) = (Arc::clone(&waits), Arc::clone(&devices), Arc::clone(&hub), sim.clone());
    let looking = async move {
        while !lock(&looks).is_empty() {
            own.sleep_us(LOOK_US).await;
            lock(&looks).retain(|index| {
                let Device { process, own } = &all[*index];
                let has = process.entries(&shared).is_ok_and(|entries| entries >= wanted);
                !has || process.entries(own).ok() != node.entries(own).ok()
            });
        }
    };
    sim.spawn(Group::WORLD, Box::pin(looking));
    let mut waiting_bytes = 0;
    loop {
        let stopped = sim.run(begin_us + PATIENCE_US, || {
            waiting_bytes = waiting_bytes.max(hub.waiting_bytes());
            lock(&waits).is_empty() || lock(&failure).is_some()
        });
        match stopped {
            Stopped::Spinning => {}
            Stopped::Satisfied => break,
            Stopped::Deadline | Stopped::Idle => {
                return Err(format!("{} are not served", lock(&waits).len()).into());
            }
        }
    }
    let served = Served {
        virtual_us: sim.now_us() - begin_us,
        real: real.elapsed(),
        waiting_bytes,
        polls: sim.polls() - polls,
    };
    for process in devices.iter().map(|device| &device.process).chain([&hub]) {
        process.let_go();
        process.mount.kill();
    }
    sim.clear();
    match lock(&failure).take() {
        Some(error) => Err(error),
        None => Ok(served),
    }
}

const HUB: &str = "hub";

/// Starts everybody, with what they have written while they were away.
async fn begin(seed: u64, sites: Vec<Site>) -> Result<(Arc<Process>, TreeId, Vec<Device>), AnyError> {
    let mut processes = Vec::new();
    for (index, site) in sites.iter().enumerate() {
        let mut rng = Rng::new(seed, &format!("device {index}"));
        let address = if index == 0 { HUB.to_owned() } else { format!("d{index}") };
        let group = Group(index as u64 + 1);
        let process = Process::boot(site, group, &address, &mut rng, None, Box::new(|| ())).await?;
        processes.push(Arc::new(process));
    }
    let hub = processes.remove(0);
    let shared = hub.create("shared")?;
    hub.grant_everyone(&shared, Permission::Write)?;
    let mut devices = Vec::new();
    for process in processes {
        process.track(&shared, "shared")?;
        hub.copy_to(&shared, &process)?;
        let own = process.create("own")?;
        process.grant(&own, hub.device(), Permission::Write)?;
        hub.track(&own, &process.name)?;
        process.copy_to(&own, &hub)?;
        process.write_bytes(&own, OWN_BYTES)?;
        process.register(hub.device(), HUB)?;
        devices.push(Device { process, own });
    }
    for _ in 0..WRITTEN {
        hub.write_one(&shared)?;
    }
    Ok((hub, shared, devices))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_that_come_back_at_once_are_served_no_slower_than_one_after_another() {
        let at_once = run(1, 50, Order::AtOnce).expect("nothing fails without faults");
        let one_by_one = run(1, 50, Order::OneByOne).expect("nothing fails without faults");
        assert!(at_once.virtual_us <= one_by_one.virtual_us, "{at_once:?} {one_by_one:?}");
        assert!(at_once.waiting_bytes > 0 && at_once.is_within_memory(), "{at_once:?}");
    }
}
