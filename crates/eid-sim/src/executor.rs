//! One thread, virtual time, and a seed that decides which ready task goes on.
//!
//! Nothing here reads a clock, draws from the system or depends on the order of a hash map. Time stands still while
//! any task is ready and jumps to the next timer when none is. Tasks belong to a [`Group`]: a process of the
//! simulated world, which can be killed at any point where one of its tasks waits.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::rng::Rng;
use crate::trace::{Trace, Verbosity};

/// A task's future.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One life of one process. A killed group never runs again; a restart is another group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(pub u64);

impl Group {
    /// The world itself: the drivers that no crash ends.
    pub const WORLD: Self = Self(0);
}

/// The simulated machine: cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Sim {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    ready: Arc<Mutex<Vec<u64>>>,
}

struct State {
    now_us: u64,
    next: u64,
    tasks: BTreeMap<u64, Task>,
    timers: BTreeMap<(u64, u64), Waker>,
    doomed: Vec<Group>,
    order: Rng,
    trace: Trace,
    polls: u64,
    polled: Group,
}

struct Task {
    group: Group,
    /// Absent while it is being polled.
    work: Option<Work>,
    handle: Arc<Handle>,
    waker: Waker,
}

struct Handle {
    id: u64,
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Handle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            lock(&self.ready).push(self.id);
        }
    }
}

/// Takes a lock of the one thread there is: a panic elsewhere in the world does not make its data unreadable.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why [`Sim::run`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The condition holds.
    Satisfied,
    /// Virtual time reached the deadline.
    Deadline,
    /// No task is ready and no timer is set.
    Idle,
    /// More steps than any world needs: something spins.
    Spinning,
}

impl Sim {
    /// Begins at time zero.
    #[must_use]
    pub fn new(seed: u64, verbosity: Verbosity) -> Self {
        let state = State {
            now_us: 0,
            next: 1,
            tasks: BTreeMap::new(),
            timers: BTreeMap::new(),
            doomed: Vec::new(),
            order: Rng::new(seed, "order"),
            trace: Trace::new(verbosity),
            polls: 0,
            polled: Group::WORLD,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), ready: Arc::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    /// Microseconds since the world began.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.state().now_us
    }

    /// How many times a task was polled.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.state().polls
    }

    /// Whose task was polled last.
    #[must_use]
    pub fn polled(&self) -> Group {
        self.state().polled
    }

    /// Reads or extends the trace.
    pub fn trace<R>(&self, with: impl FnOnce(&mut Trace) -> R) -> R {
        with(&mut self.state().trace)
    }

    /// Adds a line to the trace.
    pub fn say(&self, line: fmt::Arguments<'_>) {
        let mut state = self.state();
        let now = state.now_us;
        state.trace.line(now, &line);
    }

    /// Counts that something occurred.
    pub fn sometimes(&self, what: &'static str) {
        self.state().trace.sometimes(what);
    }

    /// Starts a task.
    pub fn spawn(&self, group: Group, work: Work) {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        let ready = Arc::clone(&self.shared.ready);
        let handle = Arc::new(Handle { id, queued: AtomicBool::new(true), ready });
        let waker = Waker::from(Arc::clone(&handle));
        state.tasks.insert(id, Task { group, work: Some(work), handle, waker });
        drop(state);
        lock(&self.shared.ready).push(id);
    }

    /// Ends every task of a group as soon as the one that runs waits. Their futures are dropped where they stand.
    pub fn kill(&self, group: Group) {
        self.state().doomed.push(group);
    }

    /// Waits until virtual time has gone on by so much.
    #[must_use]
    pub fn sleep_us(&self, us: u64) -> Sleep {
        let until_us = self.now_us().saturating_add(us);
        Sleep { sim: self.clone(), until_us, timer: None }
    }

    /// Sets a timer that wakes a task; gives what [`Self::forget_timer`] takes.
    pub(crate) fn wake_at(&self, until_us: u64, waker: Waker) -> (u64, u64) {
        let mut state = self.state();
        let key = (until_us, state.next);
        state.next += 1;
        state.timers.insert(key, waker);
        key
    }

    pub(crate) fn forget_timer(&self, key: (u64, u64)) {
        let dropped = self.state().timers.remove(&key);
        drop(dropped);
    }

    /// Runs tasks until a condition holds, which is asked after every step.
    pub fn run(&self, deadline_us: u64, mut satisfied: impl FnMut() -> bool) -> Stopped {
        const STEPS_MAX: u64 = 5_000_000;
        for _ in 0..STEPS_MAX {
            self.bury();
            if satisfied() {
                return Stopped::Satisfied;
            }
            if self.step() {
                continue;
            }
            let mut state = self.state();
            let Some((&(at, _), _)) = state.timers.first_key_value() else { return Stopped::Idle };
            if at > deadline_us {
                state.now_us = state.now_us.max(deadline_us);
                return Stopped::Deadline;
            }
            state.now_us = state.now_us.max(at);
            let mut due = Vec::new();
            while let Some(first) = state.timers.first_entry() {
                if first.key().0 > at {
                    break;
                }
                due.push(first.remove());
            }
            drop(state);
            due.into_iter().for_each(Waker::wake);
        }
        Stopped::Spinning
    }

    /// Polls one ready task, if there is one.
    fn step(&self) -> bool {
        let mut state = self.state();
        let id = {
            let mut ready = lock(&self.shared.ready);
            if ready.is_empty() {
                return false;
            }
            let index = state.order.index(ready.len());
            ready.swap_remove(index)
        };
        let Some(task) = state.tasks.get_mut(&id) else { return true };
        task.handle.queued.store(false, Ordering::Relaxed);
        let Some(mut work) = task.work.take() else { return true };
        let waker = task.waker.clone();
        let group = task.group;
        state.polls += 1;
        state.polled = group;
        let now = state.now_us;
        state.trace.numbers(&[now, id, group.0]);
        drop(state);
        let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
        let mut state = self.state();
        let finished = match polled {
            Poll::Pending => {
                if let Some(task) = state.tasks.get_mut(&id) {
                    task.work = Some(work);
                    return true;
                }
                // Killed while it ran.
                (None, Some(work))
            }
            Poll::Ready(()) => (state.tasks.remove(&id), Some(work)),
        };
        drop(state);
        // Futures are dropped outside the lock: what they drop may wake others.
        drop(finished);
        true
    }

    /// Drops the tasks of killed groups.
    fn bury(&self) {
        loop {
            let mut state = self.state();
            if state.doomed.is_empty() {
                return;
            }
            let doomed = std::mem::take(&mut state.doomed);
            let ids: Vec<u64> = state
                .tasks
                .iter()
                .filter(|(_, task)| doomed.contains(&task.group))
                .map(|(id, _)| *id)
                .collect();
            let tasks: Vec<Option<Task>> = ids.iter().map(|id| state.tasks.remove(id)).collect();
            drop(state);
            drop(tasks);
        }
    }

    /// Drops every task and timer, so that a world that is over frees what its tasks hold.
    pub fn clear(&self) {
        loop {
            let mut state = self.state();
            let tasks = std::mem::take(&mut state.tasks);
            let timers = std::mem::take(&mut state.timers);
            drop(state);
            if tasks.is_empty() && timers.is_empty() {
                return;
            }
            drop(tasks);
            drop(timers);
        }
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").finish_non_exhaustive()
    }
}

/// Resolves at a point of virtual time.
#[derive(Debug)]
pub struct Sleep {
    sim: Sim,
    until_us: u64,
    timer: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(key) = self.timer.take() {
            self.sim.forget_timer(key);
        }
        if self.sim.now_us() >= self.until_us {
            return Poll::Ready(());
        }
        let key = self.sim.wake_at(self.until_us, context.waker().clone());
        self.timer = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer.take() {
            self.sim.forget_timer(key);
        }
    }
}

/// Runs a future, but not for longer than `us` of virtual time.
pub async fn within<T>(sim: &Sim, us: u64, work: impl Future<Output = T> + Send) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let mut sleep = sim.sleep_us(us);
    std::future::poll_fn(move |context| {
        if let Poll::Ready(value) = work.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        Pin::new(&mut sleep).poll(context).map(|()| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(seed: u64) -> (Vec<u64>, [u8; 32]) {
        let sim = Sim::new(seed, Verbosity::Quiet);
        let log = Arc::new(Mutex::new(Vec::new()));
        for n in 0..8 {
            let (sim2, log) = (sim.clone(), Arc::clone(&log));
            sim.spawn(
                Group::WORLD,
                Box::pin(async move {
                    for _ in 0..3 {
                        lock(&log).push(n);
                        sim2.sleep_us(10).await;
                    }
                }),
            );
        }
        assert_eq!(sim.run(1000, || false), Stopped::Idle);
        assert_eq!(sim.now_us(), 30);
        let log = lock(&log).clone();
        (log, sim.trace(|trace| trace.hash()))
    }

    #[test]
    fn the_order_of_ready_tasks_is_a_function_of_the_seed() {
        assert_eq!(log_of(1), log_of(1));
        assert_ne!(log_of(1).0, log_of(2).0);
    }

    #[test]
    fn a_killed_group_does_nothing_more_and_others_go_on() {
        let sim = Sim::new(1, Verbosity::Quiet);
        let log = Arc::new(Mutex::new(Vec::new()));
        for group in [Group(1), Group(2)] {
            let (sim2, log) = (sim.clone(), Arc::clone(&log));
            sim.spawn(
                group,
                Box::pin(async move {
                    sim2.sleep_us(10).await;
                    lock(&log).push(group);
                }),
            );
        }
        let killer = sim.clone();
        sim.spawn(
            Group::WORLD,
            Box::pin(async move {
                killer.sleep_us(5).await;
                killer.kill(Group(1));
            }),
        );
        assert_eq!(sim.run(100, || false), Stopped::Idle);
        assert_eq!(*lock(&log), [Group(2)]);
    }

    #[test]
    fn a_wait_with_a_bound_ends_at_the_bound() {
        let sim = Sim::new(1, Verbosity::Quiet);
        let ended = Arc::new(Mutex::new(None));
        let (sim2, ended2) = (sim.clone(), Arc::clone(&ended));
        sim.spawn(
            Group::WORLD,
            Box::pin(async move {
                let never = within(&sim2, 50, std::future::pending::<()>()).await;
                *lock(&ended2) = Some((never, sim2.now_us()));
            }),
        );
        sim.run(1000, || false);
        assert_eq!(*lock(&ended), Some((None, 50)));
    }
}
