//! Every named scenario of the model. Whoever includes this says what a scene is played on: the engine in memory, or
//! instances with real entries and real sessions.

use eid_core::Permission::{Admin, Read, Write};
use eid_core::Slot::Everyone;

use super::play::Act::{Accept, Data, Fence, Put};
use super::play::{Scene, put, rev};
use super::random::{leave, remove, set, slot};

#[test]
fn a_back_dated_write_of_a_revoked_key_is_void_and_earlier_work_is_kept() {
    let mut s = Scene::base();
    let refused = s.play([("d1", 3, Data, "w3"), ("x", 1, Put(vec![rev(3)]), "d1"), ("bad", 3, Data, "w3")]);
    assert!(refused.is_empty() && s.stand("d1") && s.fall("bad"));
    assert_eq!(s.why("bad"), "void because key 1 removed key 3 in x");
    // After a grant, later work stands; what was back-dated stays void.
    s.valid([("rg", 1, Put(vec![put(3, Write)]), "x"), ("d2", 3, Data, "rg")]);
    assert!(s.stand("d2") && s.fall("bad"));
}

#[test]
fn a_revoked_admin_cannot_mint_a_concurrent_key() {
    let mut s = Scene::base();
    s.play([
        ("x", 0, Put(vec![rev(1)]), "w3"),
        ("g", 1, Put(vec![put(5, Admin(1))]), "w3"),
        ("e5", 5, Data, "g"),
        ("k", 5, Put(vec![rev(3)]), "g"),
    ]);
    assert!(s.fall("g e5 k") && s.slot(5).is_none());
    assert_eq!(s.why("g"), "void because key 0 removed key 1 in x");
    assert_eq!(s.why("e5"), "void because key 5 has no right to it without g, which is void");
}

#[test]
fn of_two_equals_neither_may_remove_the_other() {
    let mut s = Scene::base();
    let refused = s.play([("m1", 1, Put(vec![rev(2)]), "w3"), ("m2", 2, Put(vec![rev(1)]), "w3")]);
    assert_eq!(refused, ["m1", "m2"]);
}

#[test]
fn a_removal_by_a_stronger_admin_beats_a_concurrent_grant_of_the_removed() {
    let mut s = Scene::base();
    s.play([
        ("up", 0, Put(vec![put(2, Admin(0))]), "w3"),
        ("k", 2, Put(vec![rev(1)]), "up"),
        ("f", 1, Put(vec![put(6, Admin(1))]), "w3"),
    ]);
    assert!(s.fall("f") && s.slot(1) == Some(None));
}

#[test]
fn a_purge_of_the_past_by_a_rogue_admin_is_undone_by_a_stronger_removal() {
    let mut s = Scene::base();
    s.play([("d1", 3, Data, "w3"), ("y", 3, Data, "d1"), ("evil", 1, Fence(3, &["r"]), "y")]);
    assert!(s.fall("d1 y"));
    s.play([("fix", 0, Fence(1, &["y"]), "evil")]);
    assert!(s.stand("d1 y"));
}

#[test]
fn an_honest_child_of_a_void_entry_stands() {
    let mut s = Scene::base();
    s.play([("x", 0, Put(vec![rev(3)]), "w3"), ("bad", 3, Data, "w3"), ("hon", 2, Data, "bad")]);
    assert!(s.stand("hon") && s.fall("bad"));
}

#[test]
fn a_weaker_admin_cannot_reactivate_what_a_stronger_one_revoked() {
    let mut s = Scene::base();
    let refused = s.play([("z", 0, Put(vec![rev(3)]), "w3"), ("re", 1, Put(vec![put(3, Write)]), "z")]);
    assert_eq!(refused, ["re"]);
}

#[test]
fn a_longer_chain_does_not_beat_higher_authority_on_the_same_slot() {
    let mut s = Scene::base();
    s.play([
        ("p", 0, Put(vec![put(3, Admin(0))]), "w3"),
        ("n1", 1, Data, "w3"),
        ("n2", 1, Data, "n1"),
        ("dn", 1, Put(vec![rev(3)]), "n2"),
    ]);
    assert_eq!(s.permission(3), Some(Admin(0)));
}

#[test]
fn a_stronger_grant_unseen_by_a_weaker_removal_shields_what_is_built_on_it() {
    let mut s = Scene::base();
    s.play([
        ("p", 0, Put(vec![put(3, Write)]), "w3"),
        ("dn", 1, Put(vec![rev(3)]), "w3"),
        ("d1", 3, Data, "p"),
        ("d2", 3, Data, "w3"),
    ]);
    assert!(s.permission(3) == Some(Write) && s.stand("d1") && s.fall("d2"));
}

#[test]
fn a_grant_that_gave_way_to_a_stronger_one_does_not_shield_from_its_removal() {
    let mut s = Scene::ladder();
    s.play([
        ("g", 1, Put(vec![put(9, Write)]), "r"),
        ("top", 0, Put(vec![put(9, Write)]), "r"),
        ("x", 2, Put(vec![rev(9)]), "top"),
        ("bad", 9, Data, "g"),
    ]);
    assert!(s.permission(9).is_none() && s.fall("bad"));
}

#[test]
fn a_weaker_write_does_not_unmask_one_of_two_conflicting_stronger_writes() {
    let mut s = Scene::base();
    s.play([
        ("g6", 0, Put(vec![put(6, Write)]), "w3"),
        ("p6", 0, Put(vec![put(6, Admin(1))]), "w3"),
        ("lo", 1, Put(vec![rev(6)]), "g6"),
    ]);
    assert_eq!(s.permission(6), Some(Write));
}

#[test]
fn every_concurrent_value_of_a_slot_must_be_outranked_not_only_the_one_that_counts() {
    let mut s = Scene::ladder();
    let refused = s.play([
        ("p", 0, Put(vec![put(9, Admin(1))]), "r"),
        ("n", 0, Data, "r"),
        ("q", 0, Put(vec![put(9, Write)]), "n"),
        ("lo", 2, Put(vec![rev(9)]), "p q"),
    ]);
    assert_eq!(refused, ["lo"]);
}

#[test]
fn of_concurrent_equals_the_more_restrictive_counts_not_the_longer_chain() {
    let mut s = Scene::ladder();
    s.play([
        ("n", 0, Data, "r"),
        ("p", 0, Put(vec![put(9, Admin(1))]), "n"),
        ("q", 0, Put(vec![put(9, Write)]), "r"),
    ]);
    assert_eq!(s.permission(9), Some(Write));
}

#[test]
fn a_removal_does_not_reach_settings_that_were_written_with_its_own_level() {
    let mut s = Scene::ladder();
    s.play([
        ("g", 2, Put(vec![put(9, Admin(2))]), "r"),
        ("x", 2, Put(vec![rev(9)]), "r"),
        ("i", 9, Put(vec![put(8, Write)]), "g"),
    ]);
    assert!(s.stand("i"));
}

#[test]
fn nobody_grants_above_himself() {
    let mut s = Scene::base();
    assert_eq!(s.play([("up", 1, Put(vec![put(6, Admin(0))]), "w3")]), ["up"]);
}

#[test]
fn a_demoted_admin_keeps_what_its_remaining_right_covers_and_cannot_write_into_the_past() {
    let mut s = Scene::ladder();
    s.play([
        ("dem", 0, Put(vec![put(1, Admin(5))]), "r"),
        ("mint", 1, Put(vec![put(9, Admin(1))]), "r"),
        ("kill", 1, Put(vec![rev(2)]), "r"),
        ("use", 9, Put(vec![rev(3)]), "mint"),
        ("d", 1, Data, "r"),
        ("low", 1, Put(vec![put(8, Write)]), "dem"),
    ]);
    assert!(s.fall("mint kill use") && s.permission(2) == Some(Admin(2)) && s.slot(9).is_none());
    assert!(s.stand("d low"));
    assert_eq!(s.why("mint"), "void because key 0 left key 1 only admin:5 in dem");
}

#[test]
fn a_void_promotion_lends_no_strength_though_its_holder_stays_an_admin() {
    let mut s = Scene::ladder();
    s.play([
        ("x", 0, Put(vec![rev(1)]), "r"),
        ("raise", 1, Put(vec![put(3, Admin(1))]), "r"),
        ("hit", 3, Put(vec![rev(7)]), "raise"),
        ("m", 2, Put(vec![put(7, Write)]), "r"),
    ]);
    assert!(s.fall("raise hit") && s.stand("m") && s.permission(7) == Some(Write));
    assert_eq!(s.why("hit"), "void because key 3 is a weaker admin without raise, which is void");
}

#[test]
fn a_void_weaker_write_in_its_past_does_not_make_an_entry_void() {
    let mut s = Scene::ladder();
    let refused = s.play([
        ("g", 2, Put(vec![put(9, Admin(2))]), "r"),
        ("r0", 1, Put(vec![rev(2)]), "r"),
        ("j", 3, Put(vec![put(9, Read)]), "g r0"),
        ("r00", 0, Put(vec![rev(1)]), "r"),
        ("i", 9, Put(vec![put(8, Write)]), "j r00"),
    ]);
    assert!(refused.is_empty() && s.stand("i") && s.fall("j"));
}

#[test]
fn a_rotation_adds_one_key_and_retires_the_other_whose_concurrent_work_stands() {
    let mut s = Scene::base();
    s.play([
        ("rot", 1, Put(vec![put(4, Admin(1)), leave(slot(1))]), "w3"),
        ("on", 4, Put(vec![put(5, Write)]), "rot"),
        ("old", 1, Put(vec![put(6, Write)]), "w3"),
    ]);
    assert!(s.stand("rot on old") && s.permission(4) == Some(Admin(1)) && s.permission(1).is_none());
}

#[test]
fn an_entry_is_refused_as_a_whole_for_one_operation_or_for_a_slot_twice() {
    let mut s = Scene::base();
    let refused = s.play([
        ("two", 1, Put(vec![put(5, Write), rev(2)]), "w3"),
        ("self", 1, Put(vec![put(4, Admin(1)), put(4, Write)]), "w3"),
    ]);
    assert!(refused == ["two", "self"] && s.slot(5).is_none());
}

#[test]
fn an_entry_of_several_operations_is_void_as_a_whole() {
    let mut s = Scene::base();
    s.play([
        ("x", 0, Put(vec![rev(1)]), "w3"),
        ("two", 1, Put(vec![put(5, Write), put(6, Write)]), "w3"),
        ("d", 6, Data, "two"),
    ]);
    assert!(s.fall("two d") && s.slot(5).is_none() && s.slot(6).is_none());
}

#[test]
fn by_the_wildcard_any_key_writes_and_no_more_and_its_removal_voids_what_relied_on_it() {
    let mut s = Scene::base();
    let refused = s.play([
        ("d0", 8, Data, "w3"),
        ("w", 1, Put(vec![set(Everyone, Write)]), "w3"),
        ("d1", 8, Data, "w"),
        ("c", 8, Put(vec![put(8, Write)]), "w"),
    ]);
    assert!(refused == ["d0", "c"] && s.stand("d1"));
    let refused = s.play([
        ("x", 1, Put(vec![remove(Everyone, None)]), "d1"),
        ("bad", 8, Data, "w"),
        ("d3", 3, Data, "w3"),
        ("late", 8, Data, "x"),
    ]);
    assert!(refused == ["late"] && s.stand("d1 d3") && s.fall("bad"));
    assert_eq!(s.why("bad"), "void because key 1 removed everyone in x");
}

#[test]
fn an_explicit_removal_beats_the_wildcard() {
    let mut s = Scene::base();
    let refused = s.play([
        ("w", 1, Put(vec![set(Everyone, Write)]), "w3"),
        ("x", 1, Put(vec![rev(8)]), "w"),
        ("bad", 8, Data, "w"),
        ("late", 8, Data, "x"),
        ("d9", 9, Data, "x"),
    ]);
    assert!(refused == ["late"] && s.fall("bad") && s.stand("d9"));
}

#[test]
fn who_falls_back_on_the_wildcard_because_his_grant_is_void_falls_with_it() {
    let mut s = Scene::base();
    s.play([
        ("w", 1, Put(vec![set(Everyone, Write)]), "w3"),
        ("g", 2, Put(vec![put(8, Write)]), "w"),
        ("x2", 0, Put(vec![rev(2)]), "w"),
        ("xw", 0, Put(vec![remove(Everyone, None)]), "w"),
        ("bad", 8, Data, "g"),
    ]);
    assert!(s.fall("bad"));
}

#[test]
fn leaving_keeps_concurrent_work_and_refuses_what_comes_after() {
    let mut s = Scene::base();
    let refused =
        s.play([("x", 1, Put(vec![leave(slot(3))]), "w3"), ("d", 3, Data, "w3"), ("late", 3, Data, "x")]);
    assert!(refused == ["late"] && s.stand("d"));
}

#[test]
fn void_data_counts_again_for_as_long_as_what_accepts_it_stands() {
    let mut s = Scene::base();
    s.play([("x", 1, Put(vec![rev(3)]), "w3"), ("d", 3, Data, "w3"), ("ok", 2, Accept(&["d"]), "x d")]);
    assert!(s.stand("d"));
    s.play([("x2", 0, Fence(2, &["w3"]), "ok")]);
    assert!(s.fall("d"));
}

#[test]
fn data_is_not_accepted_against_a_stronger_removal_nor_from_outside_the_past() {
    let mut s = Scene::base();
    let refused = s.play([
        ("x", 0, Put(vec![rev(3)]), "w3"),
        ("d", 3, Data, "w3"),
        ("e", 3, Data, "w3"),
        ("lo", 2, Accept(&["d"]), "x d"),
        ("not", 2, Accept(&["e"]), "x"),
    ]);
    assert!(refused == ["not"] && s.fall("d"));
}

#[test]
fn an_equal_removal_that_the_acceptor_had_not_seen_holds() {
    let mut s = Scene::base();
    s.play([("x", 1, Put(vec![rev(3)]), "w3"), ("d", 3, Data, "w3"), ("ok", 2, Accept(&["d"]), "d")]);
    assert!(s.fall("d"));
}

#[test]
fn data_whose_author_lost_a_void_grant_is_accepted_without_the_grant() {
    let mut s = Scene::base();
    s.play([
        ("x", 0, Put(vec![rev(1)]), "w3"),
        ("g", 1, Put(vec![put(5, Write)]), "w3"),
        ("d", 5, Data, "g"),
        ("c", 1, Put(vec![put(6, Write)]), "d"),
        ("ok", 0, Accept(&["d"]), "x c"),
    ]);
    assert!(s.stand("d") && s.fall("g"));
}
