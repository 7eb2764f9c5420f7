//! One rule for signatures, the same singly and in bulk, at every edge of the curve.

#[path = "../examples/vectors/make.rs"]
#[expect(dead_code, reason = "the generator of entries is used by another test")]
mod make;

use eid_core::{Domain, PublicKey, SecretKey, Signature, sign, sign_domain, verify, verify_many};

/// Key, message without its domain, signature, expected verdict.
fn grid() -> Vec<(PublicKey, Vec<u8>, Signature, bool)> {
    make::signatures()
        .into_iter()
        .map(|case| {
            let domain = sign_domain(Domain::Entry);
            let body = case.message.strip_prefix(domain).expect("cases are for entries").to_vec();
            (PublicKey(case.key), body, Signature(case.signature), case.valid)
        })
        .collect()
}

fn in_bulk(cases: &[&(PublicKey, Vec<u8>, Signature, bool)]) -> Vec<bool> {
    let items: Vec<_> = cases.iter().map(|(key, body, signature, _)| (*key, &body[..], signature)).collect();
    verify_many(Domain::Entry, &items)
}

#[test]
fn the_grid_of_edge_cases_has_the_verdicts_of_zip_215() {
    let grid = grid();
    assert!(grid.len() > 14 * 14);
    for (i, (key, body, signature, valid)) in grid.iter().enumerate() {
        assert_eq!(verify(Domain::Entry, key, body, signature), *valid, "case {i}");
    }
}

#[test]
fn batches_of_every_size_give_the_verdicts_of_single_checks() {
    let grid = grid();
    let all: Vec<_> = grid.iter().collect();
    let valid: Vec<_> = grid.iter().filter(|case| case.3).collect();
    assert!(in_bulk(&valid).into_iter().all(|holds| holds), "valid ones alone pass as one batch");
    for size in [1, 2, 3, 7, 64, all.len()] {
        for batch in all.chunks(size) {
            let expected: Vec<bool> = batch.iter().map(|case| case.3).collect();
            assert_eq!(in_bulk(batch), expected, "batches of {size}");
        }
    }
}

#[test]
fn torsion_that_cancels_between_two_signatures_changes_no_verdict() {
    // Pairs whose torsion components add up to nothing are where batch rules usually differ from single ones.
    let grid = grid();
    for a in grid.iter().step_by(3) {
        for b in grid.iter().skip(1).step_by(17) {
            assert_eq!(in_bulk(&[a, b]), [a.3, b.3]);
        }
    }
}

#[test]
fn one_bad_signature_in_a_batch_is_the_only_one_refused() {
    let key = SecretKey::from_seed([5; 32]);
    let bodies: Vec<Vec<u8>> = (0..40u8).map(|i| vec![i; 100]).collect();
    let mut signatures: Vec<Signature> = bodies.iter().map(|body| sign(Domain::Entry, &key, body)).collect();
    signatures[17].0[3] ^= 1;
    let items: Vec<_> = bodies
        .iter()
        .zip(&signatures)
        .map(|(body, signature)| (key.public(), &body[..], signature))
        .collect();
    let expected: Vec<bool> = (0..40).map(|i| i != 17).collect();
    assert_eq!(verify_many(Domain::Entry, &items), expected);
}

#[test]
fn a_signature_for_one_domain_holds_for_no_other() {
    let key = SecretKey::from_seed([5; 32]);
    for made_for in Domain::ALL {
        let signature = sign(made_for, &key, b"body");
        for asked in Domain::ALL {
            assert_eq!(
                verify(asked, &key.public(), b"body", &signature),
                made_for == asked,
                "{made_for:?} {asked:?}"
            );
            let items = [(key.public(), &b"body"[..], &signature); 2];
            assert_eq!(verify_many(asked, &items), [made_for == asked; 2], "{made_for:?} {asked:?}");
        }
    }
}

#[test]
fn no_domain_begins_another() {
    for a in Domain::ALL {
        for b in Domain::ALL.into_iter().filter(|b| *b != a) {
            assert!(!sign_domain(a).starts_with(sign_domain(b)), "{a:?} {b:?}");
        }
    }
}
