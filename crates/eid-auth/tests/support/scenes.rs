//! Every named scenario of the model. Whoever includes this says what a scene is played on: the engine in memory, or
//! instances with real entries and real sessions.

use eid_core::Permission::{Admin, Read, Write};
use eid_core::Slot::Everyone;

use eid_core::SettingsOp::Rules;

use super::play::Act::{Accept, Data, Fence, Join, Put, Withdraw};
use super::play::{Scene, put, rev};
use super::random::{invite, invite_slot, leave, remove, set, slot};

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

// ---- invites

/// The base with the invite 0 to write, opened in "i" by key 1.
fn invited() -> Scene {
    let mut s = Scene::base();
    s.valid([("i", 1, Put(vec![Rules(2), invite(0, Write)]), "w3")]);
    s
}

#[test]
fn whoever_holds_an_open_invite_joins_by_himself_with_as_much_as_it_gives_or_less() {
    let mut s = invited();
    let refused = s.play([
        ("j", 8, Join(0, Write), "i"),
        ("d", 8, Data, "j"),
        ("early", 9, Join(0, Write), "w3"),
        ("less", 10, Join(0, Read), "i"),
        ("reader", 10, Data, "less"),
    ]);
    assert!(refused == ["early", "reader"] && s.stand("j d less"));
    assert_eq!((s.permission(8), s.permission(10)), (Some(Write), Some(Read)));
}

#[test]
fn invites_are_not_valid_under_the_first_rules_and_the_number_never_goes_back() {
    let mut s = Scene::base();
    let refused = s.play([
        ("i", 1, Put(vec![invite(0, Write)]), "w3"),
        ("two", 1, Put(vec![Rules(2)]), "w3"),
        ("i2", 2, Put(vec![invite(0, Write)]), "two"),
        ("one", 1, Put(vec![Rules(1)]), "two"),
        ("j", 8, Join(0, Write), "one i2"),
    ]);
    assert!(refused == ["i"] && s.stand("j"));
}

#[test]
fn rules_that_a_removed_admin_brought_stay() {
    let mut s = Scene::base();
    s.valid([
        ("x", 0, Put(vec![rev(1)]), "w3"),
        ("two", 1, Put(vec![Rules(2), invite(1, Read)]), "w3"),
        ("i", 2, Put(vec![invite(0, Write)]), "x two"),
        ("j", 8, Join(0, Write), "i"),
    ]);
    assert!(s.fall("two") && s.stand("i j"));
}

#[test]
fn nobody_takes_more_than_an_invite_gives() {
    let mut s = Scene::base();
    s.valid([("i", 1, Put(vec![Rules(2), invite(0, Read)]), "w3")]);
    assert_eq!(s.play([("up", 8, Join(0, Write), "i")]), ["up"]);
    assert_eq!(s.slot(8), None);
}

#[test]
fn who_was_removed_does_not_come_back_by_an_invite() {
    let mut s = invited();
    let refused = s.play([
        ("x", 1, Put(vec![rev(8)]), "i"),
        ("back", 8, Join(0, Write), "x"),
        ("member", 3, Join(0, Write), "i"),
        ("old", 8, Join(0, Write), "i"),
        ("d", 8, Data, "old"),
    ]);
    assert!(refused == ["back", "member"] && s.fall("d"));
    assert_eq!((s.slot(8), s.permission(8)), (Some(None), None));
    assert_eq!(s.why("d"), "void because key 1 removed key 8 in x");
}

#[test]
fn what_an_admin_wrote_to_a_slot_comes_before_a_join_beside_it() {
    let mut s = invited();
    s.valid([
        ("set", 2, Put(vec![put(8, Read)]), "i"),
        ("j", 8, Join(0, Write), "i"),
        ("x", 2, Put(vec![rev(9)]), "i"),
        ("k", 9, Join(0, Write), "i"),
    ]);
    assert_eq!((s.permission(8), s.slot(9)), (Some(Read), Some(None)));
}

#[test]
fn a_withdrawn_invite_voids_joins_beside_its_end_and_keeps_those_before() {
    let mut s = invited();
    let refused = s.play([
        ("j", 8, Join(0, Write), "i"),
        ("x", 2, Put(vec![remove(invite_slot(0), None)]), "j"),
        ("late", 9, Join(0, Write), "x"),
        ("bad", 10, Join(0, Write), "i"),
        ("db", 10, Data, "bad"),
        ("d", 8, Data, "x"),
    ]);
    assert!(refused == ["late"] && s.fall("bad db") && s.stand("j d"));
    assert_eq!(s.why("bad"), "void because key 2 removed the invite 0 in x");
    assert_eq!(s.why("db"), "void because key 10 has no right to it without bad, which is void");
    assert_eq!(s.slot(10), None);
    // The wildcard opens no invite, and gives its right to whoever has no slot.
    let refused = s.play([
        ("wild", 1, Put(vec![set(Everyone, Write)]), "x"),
        ("again", 9, Join(0, Write), "wild"),
        ("never", 9, Join(2, Write), "wild"),
    ]);
    assert_eq!(refused, ["again", "never"]);
}

#[test]
fn an_invite_withdrawn_with_leave_keeps_joins_beside_its_end() {
    let mut s = invited();
    let refused = s.play([
        ("x", 1, Put(vec![leave(invite_slot(0))]), "i"),
        ("j", 8, Join(0, Write), "i"),
        ("late", 9, Join(0, Write), "x"),
    ]);
    assert!(refused == ["late"] && s.stand("j"));
}

#[test]
fn an_invite_withdrawn_with_a_fence_takes_back_all_joins_outside_of_it() {
    let mut s = invited();
    s.valid([
        ("before", 9, Join(0, Write), "i"),
        ("j", 8, Join(0, Write), "i"),
        ("d", 8, Data, "j"),
        ("e", 3, Data, "d"),
        ("x", 1, Withdraw(0, &["before"]), "e before"),
    ]);
    assert!(s.fall("j d") && s.stand("before e"));
}

#[test]
fn an_invite_that_is_lowered_voids_joins_beside_it_that_took_more() {
    let mut s = invited();
    s.valid([
        ("less", 2, Put(vec![invite(0, Read)]), "i"),
        ("more", 8, Join(0, Write), "i"),
        ("same", 9, Join(0, Read), "i"),
    ]);
    assert!(s.fall("more") && s.stand("same"));
    assert_eq!(s.play([("late", 10, Join(0, Write), "less")]), ["late"]);
}

#[test]
fn who_came_by_an_invite_falls_with_it_and_comes_back_with_it() {
    let mut s = Scene::base();
    s.valid([
        ("two", 0, Put(vec![Rules(2)]), "w3"),
        ("x", 1, Put(vec![rev(3)]), "two"),
        ("i", 1, Put(vec![invite(0, Write)]), "x"),
        ("j", 8, Join(0, Write), "i"),
        ("d", 8, Data, "j"),
        ("x1", 0, Fence(1, &["x"]), "d"),
    ]);
    assert!(s.fall("i j d") && s.slot(8).is_none());
    let mut s = Scene::base();
    s.valid([
        ("two", 0, Put(vec![Rules(2)]), "w3"),
        ("i", 1, Put(vec![invite(0, Write)]), "two"),
        ("x1", 0, Put(vec![rev(1)]), "i"),
        ("j", 8, Join(0, Write), "i"),
        ("k", 9, Join(0, Write), "x1"),
    ]);
    assert!(s.stand("i j k"), "the remover had seen the invite");
}

#[test]
fn what_is_void_because_an_invite_was_withdrawn_counts_again_when_that_is_void() {
    let mut s = invited();
    s.valid([
        ("x", 2, Put(vec![remove(invite_slot(0), None)]), "i"),
        ("j", 8, Join(0, Write), "i"),
        ("d", 8, Data, "j"),
    ]);
    assert!(s.fall("j d"));
    s.valid([("x2", 0, Fence(2, &["i"]), "x")]);
    assert!(s.stand("j d") && s.fall("x"));
}

#[test]
fn data_of_a_void_join_is_accepted_again() {
    let mut s = invited();
    s.valid([
        ("x", 2, Put(vec![remove(invite_slot(0), None)]), "i"),
        ("j", 8, Join(0, Write), "i"),
        ("d", 8, Data, "j"),
        ("ok", 1, Accept(&["d"]), "x d"),
    ]);
    assert!(s.fall("j") && s.stand("d"));
}

#[test]
fn two_who_join_at_once_both_do_and_of_two_joins_of_one_key_the_more_restrictive_counts() {
    let mut s = invited();
    s.valid([
        ("i1", 1, Put(vec![invite(1, Read)]), "i"),
        ("j", 8, Join(0, Write), "i1"),
        ("k", 9, Join(0, Write), "i1"),
        ("l", 8, Join(1, Read), "i1"),
        ("d", 8, Data, "j"),
        ("m", 3, Data, "l k d"),
    ]);
    assert!(s.stand("j k l d") && s.permission(9) == Some(Write) && s.permission(8) == Some(Read));
    assert_eq!(s.play([("late", 8, Data, "m")]), ["late"]);
}

#[test]
fn a_withdrawn_invite_is_opened_again_with_the_rank_of_who_withdrew_it_only() {
    let mut s = invited();
    let refused = s.play([
        ("x", 0, Put(vec![remove(invite_slot(0), None)]), "i"),
        ("weak", 1, Put(vec![invite(0, Write)]), "x"),
        ("again", 0, Put(vec![invite(0, Write)]), "x"),
        ("j", 8, Join(0, Write), "again"),
    ]);
    assert!(refused == ["weak"] && s.stand("j"));
}

#[test]
fn only_admins_invite_and_a_joiner_is_no_admin() {
    let mut s = invited();
    let refused = s.play([
        ("writer", 3, Put(vec![invite(1, Read)]), "i"),
        ("stranger", 8, Put(vec![invite(1, Read)]), "i"),
        ("j", 8, Join(0, Write), "i"),
        ("joiner", 8, Put(vec![invite(1, Read)]), "j"),
        ("takes", 8, Put(vec![rev(3)]), "j"),
    ]);
    assert_eq!(refused, ["writer", "stranger", "joiner", "takes"]);
}
