//! On random DAGs the engine agrees with the oracle in every order of arrival, and no key changes what stronger keys
//! decided. `cargo xtask auth` does the same on many more.

#[expect(unreachable_pub, dead_code, reason = "shared with an example")]
mod support;

use eid_auth::oracle::Mutant;
use support::properties::{Tally, attacks, differs, disagreements};

const DAGS: u64 = 1_500;

#[test]
fn the_engine_agrees_with_the_oracle_in_every_order_of_arrival() {
    let mut tally = Tally::default();
    for seed in 0..DAGS {
        assert_eq!(disagreements(seed, &mut tally), Vec::<String>::new(), "seed {seed}");
    }
    assert!(tally.void > DAGS && tally.refused > DAGS, "{tally:?}");
}

#[test]
fn no_key_changes_what_stronger_keys_decided() {
    let mut tally = Tally::default();
    for seed in 0..DAGS {
        assert_eq!(attacks(seed, &mut tally), Vec::<String>::new(), "seed {seed}");
    }
    assert!(tally.hostile > DAGS && tally.once_strong > DAGS / 10 && tally.gaps == 0, "{tally:?}");
}

#[test]
fn a_broken_rule_gives_other_verdicts() {
    for mutant in [Mutant::Pinned, Mutant::Nolevel, Mutant::Noshield, Mutant::Flat, Mutant::Wild] {
        assert!((0..200).any(|seed| differs(seed, mutant)), "{mutant:?}");
    }
}
