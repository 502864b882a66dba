//! The simulation itself: discrete events over a virtual clock.
//!
//! Time jumps from event to event. What falls on one instant is done in this
//! order, so that a run has one outcome: arrivals, ends of waits, ends of turns
//! by vCPU, the boost, then idle vCPUs take work by number, and at last whoever
//! has just become ready and found no idle vCPU may interrupt somebody.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::random::Random;
use super::report::{Counters, SimReport};
use super::trace::{Event, Trace, What};
use super::workload::{Job, Workload};
use super::{Placement, SimConfig};
use crate::config::VCPUS_MAX;
use crate::level::{LevelSet, Share};
use crate::policy::{Facts, Policy, Requeue, pick_ready};
use crate::{ConfigError, Priority, ReadyQueue};

/// No event at all.
const NEVER: u64 = u64::MAX;
/// The virtual clock has to stay below: sums of two times then fit.
const CLOCK_NS_MAX: u64 = 1 << 62;
/// A thief takes half of a level, but no more than so many: as crossbeam's
/// deques do.
const STOLEN_MAX: usize = 32;

/// Runs `workload` on the machine of `config` under `policy`.
///
/// # Errors
/// If a field of `config` cannot be honoured, or if the workload could run for
/// longer than the clock counts.
pub fn simulate<P: Policy + ?Sized>(
    config: &SimConfig,
    policy: &P,
    workload: &Workload,
) -> Result<SimReport, ConfigError> {
    check(config, workload)?;
    let mut sim = Sim::new(config, policy, workload.jobs());
    while sim.step() {}
    Ok(sim.into_report())
}

fn check(config: &SimConfig, workload: &Workload) -> Result<(), ConfigError> {
    let refuse = |field, value: String, expected: String| {
        Err(ConfigError {
            field,
            value,
            expected,
        })
    };
    if !(1..=VCPUS_MAX).contains(&config.vcpu_count) {
        let expected = format!("1 to {VCPUS_MAX}");
        return refuse("vcpu_count", config.vcpu_count.to_string(), expected);
    }
    if config.switch_ns > 1_000_000_000 {
        let expected = "at most 1 s, which is 1000000000".to_owned();
        return refuse("switch_ns", config.switch_ns.to_string(), expected);
    }
    let jobs = workload.jobs();
    if u32::try_from(jobs.len()).is_err() {
        let expected = format!("at most {} jobs", u32::MAX);
        return refuse("workload", format!("{} jobs", jobs.len()), expected);
    }
    for (index, job) in jobs.iter().enumerate() {
        if job.work_ns == 0 || job.burst.is_some_and(|burst| burst.run_ns == 0) {
            let expected = "at least 1 ns of work in each piece".to_owned();
            return refuse("workload", format!("nothing in job {index}"), expected);
        }
    }
    // One vCPU, one after the other, no two waits at once: nothing takes longer.
    let longest: u128 = jobs.iter().map(longest_ns).sum();
    let last_arrival = jobs.last().map_or(0, |job| job.arrival_ns);
    if longest + u128::from(last_arrival) > u128::from(CLOCK_NS_MAX) {
        let expected = format!("at most {CLOCK_NS_MAX} ns, with all waits");
        return refuse("workload", format!("{longest} ns long"), expected);
    }
    Ok(())
}

fn longest_ns(job: &Job) -> u128 {
    let work_ns = u128::from(job.work_ns);
    let waits_ns = job.burst.map_or(0, |burst| {
        work_ns / u128::from(burst.run_ns) * u128::from(burst.wait_ns)
    });
    work_ns + waits_ns
}

/// A coroutine on its way through the machine.
#[derive(Debug)]
pub(super) struct Coroutine {
    level: Priority,
    /// Time at this level, for the policy.
    used_ns: u64,
    /// Of its whole work.
    left_ns: u64,
    /// Of the present piece of it.
    burst_left_ns: u64,
    /// Left of a slice that was interrupted; 0 for a fresh one.
    slice_left_ns: u64,
    /// Since when it is ready, or waits for its user.
    since_ns: u64,
    /// When the present request began.
    request_ns: u64,
    /// Number of the boost it has seen.
    boost: u32,
    /// Where it ran last or is queued.
    vcpu: u16,
    is_queued: bool,
    pub(super) arrived: bool,
    pub(super) started_ns: Option<u64>,
    pub(super) ended_ns: Option<u64>,
    pub(super) waited_ns: u64,
    pub(super) wait_ns_max: u64,
    pub(super) slept_ns: u64,
    pub(super) ran_ns: u64,
    pub(super) n_turns: u64,
    pub(super) n_moves: u64,
}

/// One simulated vCPU.
#[derive(Debug)]
struct Vcpu {
    queue: ReadyQueue<u32>,
    levels: LevelSet,
    share: Share,
    turn: Option<Turn>,
    /// Whom it ran last.
    last: Option<u32>,
    busy_ns: u64,
}

/// A coroutine on a vCPU.
#[derive(Clone, Copy, Debug)]
struct Turn {
    id: u32,
    /// After the switch.
    begins_ns: u64,
    slice_ends_ns: u64,
}

#[derive(Debug)]
struct Sim<'a, P: ?Sized> {
    config: &'a SimConfig,
    policy: &'a P,
    jobs: &'a [Job],
    /// As many as have arrived, then those to come.
    coroutines: Vec<Coroutine>,
    vcpus: Vec<Vcpu>,
    /// When each vCPU's turn ends; apart from the rest, because every step looks
    /// at all of them.
    due_ns: Vec<u64>,
    waiting: BinaryHeap<Reverse<(u64, u32)>>,
    n_arrived: usize,
    n_ended: usize,
    n_idle: usize,
    /// Queued coroutines by level, over all vCPUs.
    queued: [usize; 4],
    /// Those of them that are not at the level of their priority.
    strayed: [usize; 4],
    placement: Placement,
    next_vcpu: usize,
    now_ns: u64,
    boost_every_ns: u64,
    boost_at_ns: u64,
    boost: u32,
    /// Who has become ready at this instant.
    fresh: Vec<u32>,
    random: Random,
    trace: Trace,
    counters: Counters,
}

impl<'a, P: Policy + ?Sized> Sim<'a, P> {
    fn new(config: &'a SimConfig, policy: &'a P, jobs: &'a [Job]) -> Self {
        let coroutine = |job: &Job| Coroutine {
            level: job.priority,
            used_ns: 0,
            left_ns: job.work_ns,
            burst_left_ns: first_burst(job, job.work_ns),
            slice_left_ns: 0,
            since_ns: job.arrival_ns,
            request_ns: job.arrival_ns,
            boost: 0,
            vcpu: 0,
            is_queued: false,
            arrived: false,
            started_ns: None,
            ended_ns: None,
            waited_ns: 0,
            wait_ns_max: 0,
            slept_ns: 0,
            ran_ns: 0,
            n_turns: 0,
            n_moves: 0,
        };
        let vcpu = |_| Vcpu {
            queue: ReadyQueue::new(),
            levels: LevelSet::EMPTY,
            share: Share::default(),
            turn: None,
            last: None,
            busy_ns: 0,
        };
        let placement = match config.placement {
            Placement::LeastLoaded if !policy.balances() => Placement::RoundRobin,
            placement => placement,
        };
        let boost_every_ns = policy.boost_every().map_or(NEVER, nanoseconds).max(1);
        Self {
            config,
            policy,
            jobs,
            coroutines: jobs.iter().map(coroutine).collect(),
            vcpus: (0..config.vcpu_count).map(vcpu).collect(),
            due_ns: vec![NEVER; config.vcpu_count],
            waiting: BinaryHeap::new(),
            n_arrived: 0,
            n_ended: 0,
            n_idle: config.vcpu_count,
            queued: [0; 4],
            strayed: [0; 4],
            placement,
            next_vcpu: 0,
            now_ns: 0,
            boost_every_ns,
            boost_at_ns: boost_every_ns,
            boost: 0,
            fresh: Vec::new(),
            random: Random::new(config.seed),
            trace: Trace::new(config.keeps_trace),
            counters: Counters::default(),
        }
    }

    /// Everything that happens at the next instant at which anything does.
    /// Whether there was one.
    fn step(&mut self) -> bool {
        if self.n_ended == self.jobs.len() {
            return false;
        }
        let arrival_ns = self
            .jobs
            .get(self.n_arrived)
            .map_or(NEVER, |j| j.arrival_ns);
        let wake_ns = self.waiting.peek().map_or(NEVER, |Reverse((at, _))| *at);
        let due_ns = self.due_ns.iter().copied().min().unwrap_or(NEVER);
        let next_ns = arrival_ns.min(wake_ns).min(due_ns).min(self.boost_at_ns);
        if let Some(until_ns) = self.config.until_ns
            && next_ns > until_ns
        {
            self.now_ns = until_ns;
            return false;
        }
        self.now_ns = next_ns;

        while let Some(job) = self.jobs.get(self.n_arrived)
            && job.arrival_ns == self.now_ns
        {
            self.arrive(self.n_arrived);
            self.n_arrived += 1;
        }
        while let Some(Reverse((at_ns, id))) = self.waiting.peek().copied()
            && at_ns == self.now_ns
        {
            self.waiting.pop();
            self.wake(id);
        }
        if due_ns == self.now_ns {
            for vcpu in 0..self.vcpus.len() {
                if self.due_ns[vcpu] == self.now_ns {
                    self.end_turn(vcpu);
                }
            }
        }
        if self.boost_at_ns == self.now_ns {
            self.boost();
        }
        if self.n_idle > 0 && self.queued != [0; 4] {
            for vcpu in 0..self.vcpus.len() {
                if self.vcpus[vcpu].turn.is_none() {
                    self.pick(vcpu);
                }
            }
        }
        self.interrupt_for_the_fresh();
        true
    }

    fn record(&mut self, vcpu: usize, id: u32, what: What) {
        self.trace.record(Event {
            at_ns: self.now_ns,
            coroutine: id,
            // At most 64.
            vcpu: vcpu as u16,
            what,
        });
    }

    // Becoming ready.

    fn arrive(&mut self, index: usize) {
        // `check` has counted the jobs.
        let id = index as u32;
        let vcpu = self.place();
        let coroutine = &mut self.coroutines[index];
        coroutine.arrived = true;
        coroutine.boost = self.boost;
        self.record(vcpu, id, What::Arrived);
        let level = self.policy.level(&self.facts(id));
        self.enqueue(vcpu, id, level, false);
        self.fresh.push(id);
    }

    fn place(&mut self) -> usize {
        match self.placement {
            Placement::First => 0,
            Placement::RoundRobin => {
                let vcpu = self.next_vcpu;
                self.next_vcpu = (vcpu + 1) % self.vcpus.len();
                vcpu
            }
            Placement::LeastLoaded => {
                let load = |vcpu: &Vcpu| vcpu.queue.len() + usize::from(vcpu.turn.is_some());
                let loads = self.vcpus.iter().map(load).enumerate();
                loads.min_by_key(|(_, load)| *load).map_or(0, |(v, _)| v)
            }
        }
    }

    fn wake(&mut self, id: u32) {
        let now_ns = self.now_ns;
        let coroutine = &mut self.coroutines[id as usize];
        coroutine.slept_ns += now_ns - coroutine.since_ns;
        coroutine.since_ns = now_ns;
        coroutine.request_ns = now_ns;
        let vcpu = usize::from(coroutine.vcpu);
        self.record(vcpu, id, What::Woken);
        self.see_boost(id);
        let level = self.policy.level(&self.facts(id));
        self.enqueue(vcpu, id, level, false);
        self.fresh.push(id);
    }

    fn facts(&self, id: u32) -> Facts {
        let coroutine = &self.coroutines[id as usize];
        Facts {
            priority: self.jobs[id as usize].priority,
            level: coroutine.level,
            used_ns: coroutine.used_ns,
            waited_ns: self.now_ns - coroutine.since_ns,
        }
    }

    fn enqueue(&mut self, vcpu: usize, id: u32, level: Priority, at_head: bool) {
        let coroutine = &mut self.coroutines[id as usize];
        if coroutine.level != level {
            coroutine.level = level;
            coroutine.used_ns = 0;
        }
        coroutine.vcpu = vcpu as u16;
        coroutine.is_queued = true;
        let here = &mut self.vcpus[vcpu];
        if at_head {
            here.queue.push_front(level, id);
        } else {
            here.queue.push(level, id);
        }
        here.levels = here.levels.with(level);
        self.queued[level.level()] += 1;
        if level != self.jobs[id as usize].priority {
            self.strayed[level.level()] += 1;
        }
    }

    fn dequeue(&mut self, vcpu: usize, level: Priority) -> Option<u32> {
        let here = &mut self.vcpus[vcpu];
        let id = here.queue.pop_level(level)?;
        if here.queue.len_of(level) == 0 {
            here.levels = here.levels.without(level);
        }
        self.queued[level.level()] -= 1;
        if level != self.jobs[id as usize].priority {
            self.strayed[level.level()] -= 1;
        }
        self.coroutines[id as usize].is_queued = false;
        Some(id)
    }

    // Getting a vCPU.

    /// The levels that `vcpu` chooses from: its own, and those of others that
    /// are more urgent than all of its own. The live vCPUs look at the same word
    /// before they run something lower.
    fn choice(&self, vcpu: usize) -> LevelSet {
        let own = self.vcpus[vcpu].levels;
        if !self.config.stealing {
            return own;
        }
        let above = own.most_urgent().map_or(0, |level| level.level() + 1);
        Priority::ALL[above..]
            .iter()
            .filter(|level| self.queued[level.level()] > 0)
            .fold(own, |levels, level| levels.with(*level))
    }

    /// Starts the next one on an idle vCPU, if it finds any.
    fn pick(&mut self, vcpu: usize) {
        let levels = self.choice(vcpu);
        if levels.is_empty() {
            return;
        }
        let share = &mut self.vcpus[vcpu].share;
        let Some(level) = pick_ready(self.policy, levels, share, self.now_ns) else {
            return;
        };
        if levels.most_urgent() > Some(level) {
            self.counters.n_inversions += 1;
        }
        let id = match self.dequeue(vcpu, level) {
            Some(id) => Some(id),
            None => self.steal(vcpu, level),
        };
        if let Some(id) = id {
            self.start(vcpu, id, level);
        }
    }

    /// From the first vCPU with that level, beginning at a random one: half of
    /// it for a thief with nothing, one for others.
    fn steal(&mut self, thief: usize, level: Priority) -> Option<u32> {
        let count = self.vcpus.len();
        let first = self.random.below(count as u64) as usize;
        let mut others = (0..count).map(|offset| (first + offset) % count);
        let victim = others.find(|v| *v != thief && self.vcpus[*v].levels.has(level))?;
        let n_stolen = match self.vcpus[thief].levels.is_empty() {
            true => {
                let there = self.vcpus[victim].queue.len_of(level);
                there.div_ceil(2).min(STOLEN_MAX)
            }
            false => 1,
        };
        let id = self.dequeue(victim, level)?;
        self.moved(thief, id);
        for _ in 1..n_stolen {
            if let Some(more) = self.dequeue(victim, level) {
                self.moved(thief, more);
                self.enqueue(thief, more, level, false);
            }
        }
        Some(id)
    }

    fn moved(&mut self, to: usize, id: u32) {
        let coroutine = &mut self.coroutines[id as usize];
        coroutine.vcpu = to as u16;
        coroutine.n_moves += 1;
        self.record(to, id, What::Moved);
    }

    fn start(&mut self, vcpu: usize, id: u32, level: Priority) {
        let now_ns = self.now_ns;
        let mut begins_ns = now_ns;
        if self.vcpus[vcpu].last != Some(id) {
            begins_ns += self.config.switch_ns;
            self.counters.n_switches += 1;
        }
        self.record(vcpu, id, What::Started);
        self.see_boost(id);
        let coroutine = &mut self.coroutines[id as usize];
        let wait_ns = now_ns - coroutine.since_ns;
        coroutine.waited_ns += wait_ns;
        coroutine.wait_ns_max = coroutine.wait_ns_max.max(wait_ns);
        coroutine.started_ns.get_or_insert(now_ns);
        coroutine.vcpu = vcpu as u16;
        coroutine.n_turns += 1;
        let slice_ns = match std::mem::take(&mut coroutine.slice_left_ns) {
            0 => self.policy.slice(level).map_or(NEVER, nanoseconds).max(1),
            left_ns => left_ns,
        };
        let slice_ends_ns = begins_ns.saturating_add(slice_ns);
        self.due_ns[vcpu] = slice_ends_ns.min(begins_ns + coroutine.burst_left_ns);
        self.vcpus[vcpu].last = Some(id);
        self.vcpus[vcpu].turn = Some(Turn {
            id,
            begins_ns,
            slice_ends_ns,
        });
        self.n_idle -= 1;
    }

    // Losing it.

    /// Ends the turn at `vcpu`, counts what was done, leaves the vCPU idle.
    fn stop(&mut self, vcpu: usize) -> Option<Turn> {
        let turn = self.vcpus[vcpu].turn.take()?;
        self.due_ns[vcpu] = NEVER;
        self.n_idle += 1;
        self.account(vcpu, turn);
        Some(turn)
    }

    fn account(&mut self, vcpu: usize, turn: Turn) {
        let now_ns = self.now_ns;
        // Nothing, if it ends during the switch.
        let ran_ns = now_ns.saturating_sub(turn.begins_ns);
        let coroutine = &mut self.coroutines[turn.id as usize];
        coroutine.used_ns += ran_ns;
        coroutine.ran_ns += ran_ns;
        coroutine.left_ns -= ran_ns;
        coroutine.burst_left_ns -= ran_ns;
        coroutine.since_ns = now_ns;
        self.vcpus[vcpu].busy_ns += ran_ns;
        self.vcpus[vcpu].share.charge(coroutine.level, ran_ns);
    }

    fn end_turn(&mut self, vcpu: usize) {
        let Some(turn) = self.stop(vcpu) else {
            return;
        };
        let now_ns = self.now_ns;
        let job = &self.jobs[turn.id as usize];
        let coroutine = &mut self.coroutines[turn.id as usize];
        if coroutine.burst_left_ns > 0 {
            self.requeue(vcpu, turn.id, Requeue::SliceSpent, 0);
            return;
        }
        let response_ns = now_ns - coroutine.request_ns;
        self.counters.responses_ns[job.priority.level()].push(response_ns);
        if coroutine.left_ns == 0 {
            coroutine.ended_ns = Some(now_ns);
            self.n_ended += 1;
            self.record(vcpu, turn.id, What::Ended);
            return;
        }
        coroutine.burst_left_ns = first_burst(job, coroutine.left_ns);
        coroutine.request_ns = now_ns;
        match job.burst.map_or(0, |burst| burst.wait_ns) {
            0 => self.requeue(vcpu, turn.id, Requeue::Yielded, 0),
            wait_ns => {
                self.waiting.push(Reverse((now_ns + wait_ns, turn.id)));
                self.record(vcpu, turn.id, What::Waits);
            }
        }
    }

    /// `slice_left_ns` is what it gets back if it goes to the head.
    fn requeue(&mut self, vcpu: usize, id: u32, why: Requeue, slice_left_ns: u64) {
        let what = match why {
            Requeue::Yielded => What::Yielded,
            Requeue::SliceSpent => What::SliceSpent,
            Requeue::Preempted => What::Preempted,
        };
        self.record(vcpu, id, what);
        self.see_boost(id);
        let place = self.policy.requeue(&self.facts(id), why);
        if place.at_head {
            self.coroutines[id as usize].slice_left_ns = slice_left_ns;
        }
        self.enqueue(vcpu, id, place.level, place.at_head);
    }

    /// Asks for each coroutine that became ready just now and is still queued.
    fn interrupt_for_the_fresh(&mut self) {
        let mut fresh = std::mem::take(&mut self.fresh);
        for id in fresh.drain(..) {
            let coroutine = &self.coroutines[id as usize];
            if !coroutine.is_queued {
                continue;
            }
            let (arriving, home) = (coroutine.level, usize::from(coroutine.vcpu));
            let Some((vcpu, running)) = self.least_urgent_turn(home) else {
                continue;
            };
            if !self.policy.preempts(arriving, running) {
                continue;
            }
            if let Some(turn) = self.stop(vcpu) {
                let left_ns = turn.slice_ends_ns - self.now_ns.max(turn.begins_ns);
                self.counters.n_preemptions += 1;
                self.requeue(vcpu, turn.id, Requeue::Preempted, left_ns);
                self.pick(vcpu);
            }
        }
        // Keeps its allocation.
        self.fresh = fresh;
    }

    /// Where the least urgent coroutine runs, `home` first among equals. Without
    /// stealing nobody else could take the arrival, so only `home` counts.
    fn least_urgent_turn(&self, home: usize) -> Option<(usize, Priority)> {
        let level_at = |vcpu: usize| {
            let turn = self.vcpus[vcpu].turn.as_ref()?;
            Some((vcpu, self.coroutines[turn.id as usize].level))
        };
        if !self.config.stealing {
            return level_at(home);
        }
        let turns = (0..self.vcpus.len()).filter_map(level_at);
        turns.min_by_key(|(vcpu, level)| (*level, *vcpu != home, *vcpu))
    }

    // The boost.

    /// Everybody back to the level of its priority: who runs, and who is queued
    /// elsewhere, now; the others forget what they have used when they next
    /// start or wake. So a boost costs as much as there were sunk ones, and
    /// not as there are coroutines.
    fn boost(&mut self) {
        self.boost_at_ns = self.now_ns.saturating_add(self.boost_every_ns);
        self.boost += 1;
        for vcpu in 0..self.vcpus.len() {
            if let Some(turn) = self.vcpus[vcpu].turn {
                self.boost_turn(vcpu, turn);
            }
        }
        for level in Priority::ALL.into_iter().rev() {
            if self.strayed[level.level()] == 0 {
                continue;
            }
            for vcpu in 0..self.vcpus.len() {
                for _ in 0..self.vcpus[vcpu].queue.len_of(level) {
                    if let Some(id) = self.dequeue(vcpu, level) {
                        self.see_boost(id);
                        let level = self.policy.level(&self.facts(id));
                        self.enqueue(vcpu, id, level, false);
                    }
                }
            }
        }
    }

    /// A new account in the middle of a turn, and no longer slice than others
    /// get at the level.
    fn boost_turn(&mut self, vcpu: usize, mut turn: Turn) {
        self.account(vcpu, turn);
        self.see_boost(turn.id);
        turn.begins_ns = turn.begins_ns.max(self.now_ns);
        let coroutine = &self.coroutines[turn.id as usize];
        let slice_ns = self
            .policy
            .slice(coroutine.level)
            .map_or(NEVER, nanoseconds);
        let slice_ends_ns = turn.begins_ns.saturating_add(slice_ns.max(1));
        turn.slice_ends_ns = turn.slice_ends_ns.min(slice_ends_ns);
        let done_ns = turn.begins_ns + coroutine.burst_left_ns;
        self.due_ns[vcpu] = turn.slice_ends_ns.min(done_ns);
        self.vcpus[vcpu].turn = Some(turn);
    }

    fn see_boost(&mut self, id: u32) {
        let coroutine = &mut self.coroutines[id as usize];
        if coroutine.boost != self.boost {
            coroutine.boost = self.boost;
            coroutine.level = self.jobs[id as usize].priority;
            coroutine.used_ns = 0;
        }
    }

    // The end.

    fn into_report(mut self) -> SimReport {
        for vcpu in 0..self.vcpus.len() {
            let _ = self.stop(vcpu);
        }
        // Who is queued has waited until now; who waits for its user, too.
        let asleep: Vec<u32> = self.waiting.drain().map(|Reverse((_, id))| id).collect();
        for id in asleep {
            let coroutine = &mut self.coroutines[id as usize];
            coroutine.slept_ns += self.now_ns - coroutine.since_ns;
        }
        for coroutine in self.coroutines.iter_mut().filter(|c| c.is_queued) {
            let wait_ns = self.now_ns - coroutine.since_ns;
            coroutine.waited_ns += wait_ns;
            coroutine.wait_ns_max = coroutine.wait_ns_max.max(wait_ns);
        }
        let busy_ns = self.vcpus.iter().map(|vcpu| vcpu.busy_ns).collect();
        SimReport::new(
            self.policy.name(),
            self.config,
            self.now_ns,
            self.jobs,
            &self.coroutines,
            busy_ns,
            self.counters,
            self.trace,
        )
    }
}

/// The next piece of work, of what is left.
fn first_burst(job: &Job, left_ns: u64) -> u64 {
    job.burst.map_or(left_ns, |burst| burst.run_ns.min(left_ns))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
