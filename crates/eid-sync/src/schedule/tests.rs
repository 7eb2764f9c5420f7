use proptest::prelude::*;

use super::*;

fn tree(n: u8) -> TreeId {
    TreeId([n; 32])
}

fn live() -> Wish {
    Wish::default()
}

fn every(ms: u64) -> Wish {
    Wish { on_commit: false, every_ms: Some(ms) }
}

fn wishes<const N: usize>(all: [(u8, Wish); N]) -> BTreeMap<TreeId, Wish> {
    all.into_iter().map(|(n, wish)| (tree(n), wish)).collect()
}

/// Connected at time 0, with every database equal at the peer.
fn settled<const N: usize>(all: [(u8, Wish); N], tells: bool) -> Schedule {
    let mut schedule = Schedule::new(wishes(all), 7, 0);
    assert_eq!(schedule.poll(0), Action::Dial);
    schedule.connected(tells, 0);
    assert_eq!(schedule.poll(0), Action::Sweep);
    let equal: Vec<(TreeId, bool)> = all.iter().map(|(n, _)| (tree(*n), false)).collect();
    schedule.answered(&Action::Sweep, &equal, 0);
    for (n, wish) in all {
        if wish.on_commit && tells {
            schedule.followed(tree(n), true, 0);
            schedule.in_step(tree(n), 0);
        }
    }
    schedule
}

#[test]
fn a_peer_that_is_not_there_is_tried_ever_later_and_at_once_when_it_gives_a_sign_of_life() {
    let mut schedule = Schedule::new(wishes([(1, live())]), 7, 0);
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..16 {
        assert_eq!(schedule.poll(now), Action::Dial);
        assert_eq!(schedule.poll(now), Action::Wait(None), "one attempt at a time");
        schedule.failed(now);
        let Action::Wait(Some(at)) = schedule.poll(now) else { panic!("it never gives up") };
        waits.push(at - now);
        now = at;
    }
    for (n, wait) in waits.iter().enumerate() {
        let most = (RETRY_FIRST_MS << n).min(DIAL_MAX_MS);
        assert!((most / 2..=most).contains(wait), "{n}: {wait} of {most}");
    }
    assert_eq!(schedule.in_vain(), 16);
    schedule.seen(now - 1);
    assert_eq!(schedule.poll(now - 1), Action::Dial);
    schedule.failed(now);
    let Action::Wait(Some(at)) = schedule.poll(now) else { panic!("it waits") };
    assert!(at - now <= RETRY_FIRST_MS, "what failed before counts no more");
}

#[test]
fn a_connection_that_brings_nothing_counts_as_a_failure_and_one_that_did_is_made_again_soon() {
    let mut schedule = Schedule::new(wishes([(1, live())]), 7, 0);
    for _ in 0..5 {
        schedule.seen(0);
        schedule.poll(0);
    }
    for n in 1..6 {
        schedule.connected(true, 0);
        schedule.lost(false, false, 0);
        assert_eq!(schedule.in_vain(), n);
    }
    schedule.connected(true, 0);
    schedule.lost(true, false, LASTING_MS);
    let soon = LASTING_MS + RETRY_FIRST_MS / 2..=LASTING_MS + RETRY_FIRST_MS;
    assert!(schedule.dials_at().is_some_and(|at| soon.contains(&at)));
    schedule.connected(true, 5);
    schedule.lost(true, true, 5);
    assert_eq!(schedule.poll(5), Action::Dial, "elsewhere at once");
}

#[test]
fn a_connection_that_never_lasts_is_made_ever_later_although_it_is_of_use() {
    let mut schedule = Schedule::new(wishes([(1, live())]), 7, 0);
    for n in 0..12 {
        schedule.connected(true, 0);
        schedule.lost(true, false, LASTING_MS - 1);
        let (wait, most) =
            (schedule.dials_at().unwrap() - (LASTING_MS - 1), doubled(RETRY_FIRST_MS, n, DIAL_MAX_MS));
        assert!((most / 2..=most).contains(&wait), "{n}: {wait} of {most}");
    }
    schedule.connected(true, 0);
    schedule.lost(true, false, LASTING_MS);
    assert_eq!(schedule.in_vain(), 0, "this one has lasted");
}

#[test]
fn nothing_is_settled_before_the_peer_has_said_what_it_has_of_all_that_is_wanted() {
    let mut schedule = Schedule::new(wishes([(1, live())]), 7, 0);
    schedule.poll(0);
    schedule.connected(true, 0);
    let told = |_: &TreeId| true;
    assert_eq!(schedule.poll(0), Action::Sweep);
    assert!(!schedule.is_settled(told), "it is being asked");
    schedule.not_answered(0);
    assert!(!schedule.is_settled(told), "it could not answer");
    assert_eq!(schedule.poll(RETRY_FIRST_MS), Action::Sweep);
    schedule.hurry(RETRY_FIRST_MS);
    schedule.answered(&Action::Sweep, &[], RETRY_FIRST_MS);
    assert!(!schedule.is_settled(told), "somebody has asked for everything meanwhile");
    assert_eq!(schedule.poll(RETRY_FIRST_MS), Action::Sweep, "and it is done once more");
    schedule.answered(&Action::Sweep, &[], RETRY_FIRST_MS);
    assert!(schedule.is_settled(told));
    schedule.wish(wishes([(1, live()), (2, live())]), 2_000);
    assert!(!schedule.is_settled(told), "another one is wanted, and was not asked after");
}

#[test]
fn what_a_peer_gives_no_more_has_no_sessions_and_is_asked_after_ever_more_rarely() {
    let mut schedule = settled([(1, live()), (2, live())], true);
    schedule.behind(tree(1), true, 60_000);
    let Action::Wait(Some(mut now)) = schedule.poll(60_000) else { panic!("a session is due soon") };
    assert_eq!(schedule.poll(now), Action::Session(tree(1)));
    schedule.ended(tree(1), false, now);
    schedule.unavailable(tree(1), now);
    assert!(!schedule.knows(&tree(1)));
    let mut asked = Vec::new();
    while asked.len() < 8 {
        match schedule.poll(now) {
            Action::Sweep => {
                asked.push(now);
                schedule.answered(&Action::Sweep, &[], now);
                assert!(schedule.is_settled(|_| true));
            }
            Action::Ask(trees) => schedule.answered(&Action::Ask(trees), &[(tree(2), false)], now),
            Action::Wait(Some(next)) => now = next,
            other => panic!("{other:?}"),
        }
    }
    let waits: Vec<u64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(waits[0] <= 2 * OTHERS_MS && waits.is_sorted(), "{waits:?}");
    assert!(waits.last().is_some_and(|last| *last > 60 * OTHERS_MS), "{waits:?}");
}

#[test]
fn what_comes_hastens_no_session_of_a_peer_that_has_just_refused_one_and_no_question() {
    let mut schedule = settled([(1, live())], true);
    schedule.behind(tree(1), true, 60_000);
    let Action::Wait(Some(now)) = schedule.poll(60_000) else { panic!("a session is due soon") };
    assert_eq!(schedule.poll(now), Action::Session(tree(1)));
    schedule.ended(tree(1), false, now);
    let Action::Wait(Some(at)) = schedule.poll(now) else { panic!("it waits") };
    assert!(at >= now + RETRY_FIRST_MS / 2);
    schedule.committed(tree(1), now);
    assert_eq!(schedule.poll(now), Action::Wait(Some(at)));

    let mut schedule = settled([(1, live())], true);
    schedule.committed(tree(1), 60_000);
    assert_eq!(schedule.poll(60_000), Action::Ask(vec![tree(1)]));
    schedule.not_answered(60_000);
    schedule.committed(tree(1), 60_001);
    assert_eq!(schedule.poll(60_001), Action::Wait(Some(60_000 + RETRY_FIRST_MS)));
}

#[test]
fn what_comes_to_a_database_that_the_peer_does_not_follow_back_is_looked_at_all_the_same() {
    let mut schedule = settled([(1, live())], true);
    schedule.committed(tree(1), 100);
    assert_eq!(schedule.poll(100), Action::Wait(Some(FOLLOW_BACK_MS)), "it may be about to follow");
    let ask = Action::Ask(vec![tree(1)]);
    assert_eq!(schedule.poll(FOLLOW_BACK_MS), ask);
    schedule.answered(&ask, &[(tree(1), true)], FOLLOW_BACK_MS);
    let later = FOLLOW_BACK_MS + DOUBT_MS;
    assert_eq!(schedule.poll(later), ask, "perhaps something was on its way");
    schedule.answered(&ask, &[(tree(1), true)], later);
    assert_eq!(schedule.poll(later), Action::Session(tree(1)));
    schedule.committed(tree(1), later + 1);
    schedule.ended(tree(1), true, later + 10);
    assert_eq!(
        schedule.poll(later + 10),
        Action::Wait(Some(later + 10 + FOLLOW_BACK_MS)),
        "it came beside that"
    );
    schedule.answered(&ask, &[(tree(1), false)], later + 10 + FOLLOW_BACK_MS);
    schedule.committed(tree(1), 60_000);
    assert_eq!(schedule.poll(60_000), ask, "at once, when it had the time to follow");
}

#[test]
fn what_is_told_on_commit_holds_the_connection_and_what_goes_by_period_makes_it_when_it_is_due() {
    let mut schedule = settled([(1, live())], true);
    assert!(matches!(schedule.poll(1_000), Action::Wait(Some(_))));

    let mut schedule = settled([(1, every(60_000)), (2, every(90_000))], true);
    assert_eq!(schedule.poll(1), Action::HangUp);
    schedule.hung_up();
    assert_eq!(schedule.poll(59_999), Action::Wait(Some(60_000)));
    assert_eq!(schedule.poll(60_000), Action::Dial);

    let mut schedule = settled([(1, every(10_000))], true);
    assert_eq!(schedule.poll(1), Action::Wait(Some(10_000)), "soon enough to stay");
    assert_eq!(schedule.poll(10_000), Action::Ask(vec![tree(1)]));
}

#[test]
fn one_question_is_enough_for_what_is_due_at_nearly_the_same_time() {
    let mut schedule =
        settled([(1, every(10_000)), (2, every(10_500)), (3, every(20_000)), (4, live())], true);
    assert_eq!(schedule.poll(10_000), Action::Ask(vec![tree(1), tree(2)]));
    assert_eq!(schedule.poll(10_000), Action::Wait(None), "one question at a time");
    schedule.answered(&Action::Ask(vec![tree(1), tree(2)]), &[(tree(2), true), (tree(1), false)], 10_100);
    assert_eq!(schedule.poll(10_100), Action::Session(tree(2)));
    assert_eq!(schedule.poll(10_100), Action::Wait(Some(20_000)));
    schedule.ended(tree(2), true, 10_200);
    assert_eq!(schedule.poll(10_200), Action::Wait(Some(20_000)));
}

#[test]
fn a_wish_that_changes_counts_from_then_on_and_what_nobody_wants_is_left() {
    let mut schedule = settled([(1, every(600_000)), (2, live())], true);
    schedule.wish(wishes([(1, every(5_000)), (2, live())]), 1_000);
    assert_eq!(schedule.poll(1_000), Action::Wait(Some(6_000)));
    schedule.wish(wishes([(1, Wish { on_commit: false, every_ms: None }), (2, live())]), 1_500);
    assert_eq!(schedule.poll(5_999), Action::Wait(Some(6_000)), "once more");
    schedule.wish(wishes([(2, live())]), 2_000);
    assert!(!schedule.knows(&tree(1)));
    assert_eq!(schedule.poll(10_000), Action::Wait(Some(PERIOD_MS)));
    schedule.wish(wishes([(1, live()), (2, live())]), 11_000);
    assert_eq!(schedule.poll(11_000), Action::Sweep, "what is wanted now is asked after");
    schedule.answered(&Action::Sweep, &[], 11_000);
    schedule.wish(BTreeMap::new(), 12_000);
    assert_eq!(schedule.poll(12_000), Action::HangUp);
    schedule.hung_up();
    assert_eq!(schedule.poll(9_000_000), Action::Wait(None));
    schedule.wish(wishes([(1, live())]), 9_000_000);
    assert_eq!(schedule.poll(9_000_000), Action::Dial);
}

#[test]
fn a_period_that_is_taken_away_is_kept_once_more_and_then_never() {
    let mut schedule = settled([(1, every(5_000)), (2, live())], true);
    let never = Wish { on_commit: false, every_ms: None };
    schedule.wish(wishes([(1, never), (2, live())]), 1_500);
    assert_eq!(schedule.poll(1_500), Action::Wait(Some(5_000)), "what was due before");
    assert_eq!(schedule.poll(5_000), Action::Ask(vec![tree(1)]));
    schedule.answered(&Action::Ask(vec![tree(1)]), &[(tree(1), false)], 5_000);
    // The other one is looked at by its period, and this one with nobody.
    let mut now = 5_000;
    while now < 10 * PERIOD_MS {
        now = match schedule.poll(now) {
            Action::Wait(Some(at)) => at,
            asked @ Action::Ask(_) => {
                assert_eq!(asked, Action::Ask(vec![tree(2)]));
                schedule.answered(&asked, &[(tree(2), false)], now);
                now
            }
            Action::Sweep => {
                schedule.answered(&Action::Sweep, &[], now);
                now
            }
            action => panic!("{action:?} at {now}"),
        };
    }
}

#[test]
fn what_is_committed_is_sent_at_once_where_the_peer_does_not_follow_and_once_more_when_it_came_meanwhile() {
    let mut schedule = settled([(1, live()), (2, every(600_000))], false);
    schedule.committed(tree(2), 10);
    schedule.committed(tree(9), 10);
    assert!(matches!(schedule.poll(10), Action::Wait(_)), "by period, or not at all");
    schedule.committed(tree(1), 20);
    assert_eq!(schedule.poll(20), Action::Ask(vec![tree(1)]));
    schedule.answered(&Action::Ask(vec![tree(1)]), &[(tree(1), true)], 30);
    assert_eq!(schedule.poll(30), Action::Session(tree(1)));
    schedule.committed(tree(1), 40);
    assert!(matches!(schedule.poll(40), Action::Wait(_)), "one session at a time");
    schedule.ended(tree(1), true, 50);
    let Action::Wait(Some(at)) = schedule.poll(50) else { panic!("it came while the session ran") };
    assert!(at <= 50 + RETRY_FIRST_MS);
}

#[test]
fn who_is_behind_again_and_again_is_not_asked_without_a_rest() {
    let mut schedule = settled([(1, live())], true);
    let mut now = 100_000;
    schedule.behind(tree(1), false, now);
    assert_eq!(schedule.poll(now), Action::Session(tree(1)), "at once");
    let mut waits = Vec::new();
    for _ in 0..8 {
        schedule.ended(tree(1), true, now);
        schedule.followed(tree(1), true, now);
        schedule.in_step(tree(1), now);
        schedule.behind(tree(1), false, now);
        let Action::Wait(Some(at)) = schedule.poll(now) else { panic!("it has just not been enough") };
        waits.push(at - now);
        now = at;
        assert_eq!(schedule.poll(now), Action::Session(tree(1)));
    }
    assert!(waits.windows(2).all(|pair| pair[0] < 2 * pair[1]) && waits[7] > 20 * waits[0], "{waits:?}");
    schedule.ended(tree(1), true, now);
    schedule.followed(tree(1), true, now);
    schedule.in_step(tree(1), now);
    let later = now + 2 * RETRY_MAX_MS;
    schedule.behind(tree(1), false, later);
    assert_eq!(schedule.poll(later), Action::Session(tree(1)), "at once again, after some calm");
}

#[test]
fn who_has_nothing_in_common_is_asked_ever_more_rarely_also_when_something_comes_each_time() {
    for (comes, most) in [(false, PERIOD_MS), (true, OTHERS_MAX_MS)] {
        let mut schedule = Schedule::new(wishes([(1, live())]), 7, 0);
        schedule.poll(0);
        schedule.connected(true, 0);
        let mut now = 0;
        for n in 0..12 {
            assert_eq!(schedule.poll(now), Action::Sweep);
            schedule.answered(&Action::Sweep, &[], now);
            if comes {
                schedule.committed(tree(1), now);
            }
            let at = now + (OTHERS_MS << n).min(most);
            assert_eq!(schedule.poll(now), Action::Wait(Some(at)), "{n} {comes}");
            now = at;
        }
        schedule.hurry(now - 1);
        assert_eq!(schedule.poll(now - 1), Action::Sweep, "at once when somebody asks for that");
    }
}

#[test]
fn not_everybody_who_has_waited_comes_back_at_the_same_moment() {
    let dials_at = |random| {
        let mut schedule = Schedule::new(wishes([(1, live())]), random, 0);
        (0..6).for_each(|_| schedule.failed(0));
        schedule.dials_at().expect("it never gives up")
    };
    let mut all: Vec<u64> = (1..=9_u64).map(|n| dials_at(n << 40)).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 9, "{all:?}");
}

#[test]
fn sessions_begin_in_the_order_of_the_answer_and_what_the_peer_has_no_more_is_left() {
    let all = [(1, every(60_000)), (2, every(60_000)), (3, every(60_000))];
    let mut schedule = settled(all, false);
    let trees = vec![tree(1), tree(2), tree(3)];
    assert_eq!(schedule.poll(60_000), Action::Ask(trees.clone()));
    schedule.answered(&Action::Ask(trees), &[(tree(3), true), (tree(1), true)], 60_000);
    assert!(!schedule.knows(&tree(2)));
    assert_eq!(schedule.poll(60_000), Action::Session(tree(3)));
    assert_eq!(schedule.poll(60_000), Action::Session(tree(1)));
}

#[test]
fn what_differs_at_a_peer_that_tells_is_looked_at_once_more_before_a_session() {
    let mut schedule = settled([(1, live())], true);
    let ask = Action::Ask(vec![tree(1)]);
    let mut now = PERIOD_MS;
    if schedule.poll(now) == Action::Sweep {
        schedule.answered(&Action::Sweep, &[], now);
        assert_eq!(schedule.poll(now), ask);
    }
    schedule.answered(&ask, &[(tree(1), true)], now);
    now += DOUBT_MS;
    assert_eq!(schedule.poll(now - 1), Action::Wait(Some(now)), "it may be on its way");
    assert_eq!(schedule.poll(now), ask);
    schedule.answered(&ask, &[(tree(1), true)], now);
    assert_eq!(schedule.poll(now), Action::Session(tree(1)));
}

#[test]
fn what_was_wanted_by_period_for_a_while_is_asked_after_at_once_when_it_is_to_be_told_again() {
    let mut schedule = settled([(1, live()), (2, live())], true);
    schedule.wish(wishes([(1, every(600_000)), (2, live())]), 1_000);
    assert!(matches!(schedule.poll(1_000), Action::Wait(_)));
    schedule.wish(wishes([(1, live()), (2, live())]), 2_000);
    assert_eq!(schedule.poll(2_000), Action::Ask(vec![tree(1)]));
}

#[derive(Debug, Clone)]
enum Input {
    Committed(u8),
    Behind(u8, bool),
    Seen,
    Hurry,
    Wish(Vec<(u8, bool, u64)>),
    Lost(bool, bool),
    Passes(u64),
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        (0..5_u8).prop_map(Input::Committed),
        (0..5_u8, any::<bool>()).prop_map(|(n, ended)| Input::Behind(n, ended)),
        Just(Input::Seen),
        Just(Input::Hurry),
        prop::collection::vec((0..5_u8, any::<bool>(), 1_000..400_000_u64), 0..5).prop_map(Input::Wish),
        (any::<bool>(), any::<bool>()).prop_map(|(useful, elsewhere)| Input::Lost(useful, elsewhere)),
        (1..400_000_u64).prop_map(Input::Passes),
    ]
}

/// A peer that has all databases, and differs or fails as the numbers say.
struct Peer {
    schedule: Schedule,
    wished: BTreeMap<TreeId, Wish>,
    now: u64,
    connected: bool,
    /// When each database was last equal.
    equal_at: BTreeMap<TreeId, u64>,
    numbers: u64,
}

impl Peer {
    fn next(&mut self, below: u64) -> u64 {
        self.numbers =
            self.numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.numbers >> 33) % below
    }

    /// Does what the schedule says until it waits, and gives until when.
    fn settle(&mut self, fails: bool) -> Option<u64> {
        for _ in 0..200 {
            match self.schedule.poll(self.now) {
                Action::Dial => {
                    assert!(!self.connected && !self.wished.is_empty());
                    if fails && self.next(2) == 0 {
                        self.schedule.failed(self.now);
                    } else {
                        self.connected = true;
                        let tells = self.next(4) > 0;
                        self.schedule.connected(tells, self.now);
                    }
                }
                asked @ (Action::Sweep | Action::Ask(_)) => {
                    assert!(self.connected);
                    let trees: Vec<TreeId> = match &asked {
                        Action::Ask(trees) => trees.clone(),
                        _ => self.wished.keys().filter(|tree| !self.schedule.knows(tree)).copied().collect(),
                    };
                    let mut answer = Vec::new();
                    for tree in trees {
                        assert!(self.wished.contains_key(&tree), "nobody wants it");
                        answer.push((tree, self.next(2) == 0));
                    }
                    if fails && self.next(4) == 0 {
                        self.schedule.not_answered(self.now);
                    } else {
                        self.schedule.answered(&asked, &answer, self.now);
                        for (tree, differs) in answer {
                            if !differs {
                                self.equal_at.insert(tree, self.now);
                                self.schedule.followed(tree, self.wished[&tree].on_commit, self.now);
                            }
                        }
                    }
                }
                Action::Session(tree) => {
                    assert!(self.connected && self.wished.contains_key(&tree));
                    let is_done = !fails || self.next(2) == 0;
                    self.schedule.ended(tree, is_done, self.now);
                    if is_done {
                        self.equal_at.insert(tree, self.now);
                        self.schedule.followed(tree, true, self.now);
                    }
                }
                Action::HangUp => {
                    assert!(
                        self.wished.values().all(|wish| !wish.on_commit),
                        "what is told is not hung up on"
                    );
                    self.connected = false;
                    self.schedule.hung_up();
                }
                Action::Wait(until) => {
                    assert!(until.is_none_or(|at| at > self.now), "it would spin");
                    return until;
                }
            }
        }
        panic!("it does not come to rest: {:?}", self.schedule);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_nothing_spins_and_every_wish_is_kept_in_time(
        inputs in prop::collection::vec(input(), 1..60),
        numbers in any::<u64>(),
    ) {
        let wished = wishes([(0, live()), (1, every(30_000)), (2, every(300_000))]);
        let mut peer = Peer {
            schedule: Schedule::new(wished.clone(), numbers, 0),
            wished,
            now: 0,
            connected: false,
            equal_at: BTreeMap::new(),
            numbers,
        };
        for input in inputs {
            peer.settle(true);
            match input {
                Input::Committed(n) => peer.schedule.committed(tree(n), peer.now),
                Input::Behind(n, ended) => peer.schedule.behind(tree(n), ended, peer.now),
                Input::Seen => peer.schedule.seen(peer.now),
                Input::Hurry => peer.schedule.hurry(peer.now),
                Input::Wish(all) => {
                    let wish = |on_commit, ms| Wish { on_commit, every_ms: Some(ms) };
                    peer.wished = all.into_iter().map(|(n, live, ms)| (tree(n), wish(live, ms))).collect();
                    peer.schedule.wish(peer.wished.clone(), peer.now);
                }
                Input::Lost(useful, elsewhere) if peer.connected => {
                    peer.connected = false;
                    peer.schedule.lost(useful, elsewhere, peer.now);
                }
                Input::Lost(..) => {}
                Input::Passes(ms) => peer.now += ms,
            }
        }
        // From here on nothing fails: every database is looked at again and again.
        let begun = peer.now;
        let end = begun + DIAL_MAX_MS + 2 * PERIOD_MS;
        let mut looked: BTreeMap<TreeId, Vec<u64>> = BTreeMap::new();
        while peer.now < end {
            let until = peer.settle(false);
            for (tree, at) in &peer.equal_at {
                let all = looked.entry(*tree).or_default();
                if all.last() != Some(at) && *at >= begun {
                    all.push(*at);
                }
            }
            let Some(at) = until else {
                prop_assert!(peer.wished.is_empty(), "it waits for nothing");
                break;
            };
            peer.now = at.min(end);
        }
        for (tree, wish) in &peer.wished {
            let looks = looked.get(tree).cloned().unwrap_or_default();
            prop_assert!(!looks.is_empty(), "{tree:?} was never looked at");
            // After a failure it may have waited; from its first look on it is on time.
            let allowed = wish.period_ms() + wish.period_ms() / 10 + RETRY_MAX_MS;
            let gaps = looks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
            prop_assert!(gaps <= allowed, "{gaps} ms between two looks at {tree:?} of {wish:?}");
        }
    }
}
