"""Who a source user becomes: the rules one by one, then what happens where they meet."""

from __future__ import annotations

import pytest

from tests.fixtures.pagtive import attempt_import, figures, imported, uid

NEW_NAMES = "SELECT left(id::text, 8)::int, username FROM users WHERE registration_source = 'pagtive' ORDER BY 1"


def user_of(target, source_id):
    """Return the target's user of a source user."""
    return target.one("SELECT user_id::text FROM pagtive_user_map WHERE source_id = %s", source_id)


def test_the_map_comes_first(settings, source, target):
    """A source user that is in the map is that user, whatever e-mail address or Feishu id it has now."""
    mapped, other = target.lawsker_user(1), target.lawsker_user(2, email="x@example.com")
    target.account(other, "feishu", "ou_other")
    person = source.user(1, email="x@example.com", username="ou_other")
    target.add("pagtive_user_map", source_id=person, user_id=mapped, matched_by="decision")
    run = imported(settings)
    assert user_of(target, person) == mapped
    assert figures(run, "users") == {"read": 1, "unchanged": 1}
    assert target.matched() == {person: "decision"}


def test_feishu_comes_before_email(settings, source, target):
    """A username that is the Feishu id of an account is that account's user, not the one with the e-mail address."""
    feishu, email = target.lawsker_user(1), target.lawsker_user(2, email="x@example.com")
    target.account(feishu, "feishu", "ou_abc")
    person = source.user(1, email="x@example.com", username="ou_abc")
    imported(settings)
    assert user_of(target, person) == feishu != email
    assert target.matched() == {person: "feishu"}


def test_only_the_exact_feishu_id_matches(settings, source, target):
    """What only looks like the account's id is somebody else."""
    target.account(target.lawsker_user(1), "feishu", "ou_abc")
    names = ["OU_abc", "ou_ABC", "ou_", "xou_abc", "ou_abc "]
    people = [source.user(number, username=name) for number, name in enumerate(names, start=1)]
    imported(settings)
    assert target.matched() == dict.fromkeys(people, "created")


def test_an_account_of_another_provider_is_no_feishu_account(settings, source, target):
    """Only accounts of provider feishu count."""
    target.account(target.lawsker_user(1), "wechat", "ou_abc")
    person = source.user(1, username="ou_abc")
    imported(settings)
    assert target.matched() == {person: "created"}


def test_email_without_regard_to_case_and_blanks(settings, source, target):
    """The same address in another case or with blanks around is the same person; the user keeps the address it has."""
    pairs = [
        ("Zhang.San@Example.com", "zhang.san@example.com"),
        ("li.si@example.com", "  LI.SI@EXAMPLE.COM\t"),
        (" wang.wu@example.com ", "wang.wu@example.com"),
        ("zhao.liu@example.com", "\u3000zhao.liu@example.com\u00a0"),
    ]
    users = [target.lawsker_user(number, email=there) for number, (there, _) in enumerate(pairs)]
    people = [source.user(number, email=here) for number, (_, here) in enumerate(pairs)]
    imported(settings)
    assert target.matched() == dict.fromkeys(people, "email")
    assert [user_of(target, person) for person in people] == users
    emails = [target.one("SELECT email FROM users WHERE id = %s", user) for user in users]
    assert emails == [there for there, _ in pairs]


FORMS = {
    "alice@example.com": "ＡＬＩＣＥ＠ｅｘａｍｐｌｅ．ｃｏｍ",
    "office@example.com": "o\ufb03ce@example.com",
    "ren\u00e9@example.com": "RENE\u0301@example.com",
    "kelvin@example.com": "\u212aelvin@example.com",
    "blank@example.com": "\u2009blank@example.com\u2003",
    "ANNA@EXAMPLE.COM": "anna@example.com",
}
"""The same address in two forms that NFKC makes one."""


@pytest.mark.parametrize("way", [0, 1])
def test_email_in_another_unicode_form(settings, source, target, way):
    """Full-width letters, ligatures, decomposed accents, the Kelvin sign, odd blanks: on either side."""
    people = {}
    for number, pair in enumerate(FORMS.items()):
        user = target.lawsker_user(number, email=pair[way])
        people[source.user(number, email=pair[1 - way])] = user
    imported(settings)
    assert target.matched() == dict.fromkeys(people, "email")
    assert {person: user_of(target, person) for person in people} == people


def test_other_letters_are_other_people(settings, source, target):
    """A sharp s is not ss, an accent is no plain letter, a dotless i is no i: nobody is guessed to be somebody else."""
    for number, email in enumerate(["strasse@x.com", "rene@x.com", "i@x.com"]):
        target.lawsker_user(number, email=email)
    people = [
        source.user(number, email=email) for number, email in enumerate(["straße@x.com", "rené@x.com", "ı@x.com"])
    ]
    imported(settings)
    assert target.matched() == dict.fromkeys(people, "created")


def test_forms_of_one_address_within_the_source_and_the_target(settings, source, target):
    """Two source users are merged; two users of the target are ambiguous; an account in another form is taken."""
    old, young = source.user(1, email="ａ@x.com"), source.user(2, email="A@x.com", created_at="2025-01-01")
    target.lawsker_user(1, email="twice@x.com")
    target.lawsker_user(2, email="Ｔwice@x.com")
    unclear = source.user(3, email="TWICE@x.com")
    target.account(target.lawsker_user(3), "email", "ｔaken@x.com", type="email")
    taken = source.user(4, email="taken@x.com")
    imported(settings)
    assert target.matched() == {old: "created", young: "merged"}
    assert target.rejected() == {f"users {unclear}": ["ambiguous_email"], f"users {taken}": ["account_taken"]}


def test_two_users_with_the_address_are_not_guessed_between(settings, source, target):
    """Where the target has the address twice, in two cases, the source user goes to quarantine, and its projects."""
    target.lawsker_user(1, email="a@example.com")
    target.lawsker_user(2, email="A@example.com")
    person = source.user(1, email="a@EXAMPLE.com")
    project = source.project(1, person)
    run = imported(settings)
    assert target.rejected() == {f"users {person}": ["ambiguous_email"], f"projects {project}": ["unknown_user"]}
    assert run.result["reasons"] == {"ambiguous_email": 1, "unknown_user": 1}
    assert target.matched() == {}


def test_an_ambiguous_address_does_not_matter_to_who_is_found_before(settings, source, target):
    """Feishu decides before the address is looked at."""
    target.lawsker_user(1, email="a@example.com")
    target.account(target.lawsker_user(2, email="A@example.com"), "feishu", "ou_abc")
    person = source.user(1, email="a@example.com", username="ou_abc")
    imported(settings)
    assert target.matched() == {person: "feishu"}


def test_blank_and_missing_addresses_match_nobody(settings, source, target):
    """NULL, the empty string and blanks are no address: of several such users each is a person of its own."""
    target.lawsker_user(1, email="")
    target.lawsker_user(2, email=" ")
    people = [source.user(number, email=email) for number, email in enumerate([None, "", "  ", None], start=1)]
    imported(settings)
    assert target.matched() == dict.fromkeys(people, "created")
    assert target.run("SELECT DISTINCT email FROM users WHERE registration_source = 'pagtive'") == [(None,)]
    assert target.one("SELECT count(*) FROM user_accounts") == 0


def test_two_source_users_with_one_address_become_one(settings, source, target):
    """The older one is created, the other merged into it; both keep their projects."""
    young = source.user(1, email="Same@example.com", created_at="2024-06-01", username="young")
    old = source.user(2, email=" same@EXAMPLE.com", created_at="2024-01-01", username="old")
    projects = [source.project(1, young), source.project(2, old)]
    run = imported(settings)
    assert target.matched() == {old: "created", young: "merged"}
    assert user_of(target, young) == user_of(target, old) == old
    assert target.one("SELECT username FROM users WHERE id = %s", old) == "old"
    owners = target.run("SELECT id::text, user_id::text FROM pagtive_projects ORDER BY id")
    assert owners == [(projects[0], old), (projects[1], old)]
    assert figures(run, "users") == {"read": 2, "inserted": 1, "merged": 1}


def test_two_source_users_of_one_existing_user(settings, source, target):
    """The first speaks for the user, the other is merged: its status and role are not taken over, also not later."""
    existing = target.lawsker_user(1, email="same@example.com")
    first = source.user(1, email="same@example.com", status=0, created_at="2024-01-01")
    second = source.user(2, email="SAME@example.com", status=2, created_at="2024-01-05")
    runs = [imported(settings), imported(settings)]
    assert target.matched() == {first: "email", second: "merged"}
    assert target.one("SELECT status::text FROM users WHERE id = %s", existing) == "INACTIVE"
    assert [figures(run, "users") for run in runs] == [
        {"read": 2, "updated": 1, "merged": 1},
        {"read": 2, "unchanged": 1, "merged": 1},
    ]


def test_one_by_feishu_one_by_email_of_the_same_user(settings, source, target):
    """Both are found, by different rules: Feishu speaks, although the other one is older."""
    existing = target.lawsker_user(1, email="same@example.com")
    target.account(existing, "feishu", "ou_abc")
    by_email = source.user(1, email="same@example.com", status=2, created_at="2020-01-01")
    by_feishu = source.user(2, email=None, username="ou_abc", status=0, created_at="2024-01-01")
    imported(settings)
    assert target.matched() == {by_email: "merged", by_feishu: "feishu"}
    assert target.one("SELECT status::text FROM users WHERE id = %s", existing) == "INACTIVE"


def test_one_feishu_id_twice_is_one_new_person(settings, source, target):
    """Two source users with one Feishu id that nobody has become one user with one Feishu account."""
    first = source.user(1, email=None, username="ou_new", created_at="2024-01-01")
    second = source.user(2, email="b@example.com", username="ou_new", created_at="2024-01-02")
    imported(settings)
    assert target.matched() == {first: "created", second: "merged"}
    accounts = "SELECT user_id::text, type, provider, provider_account_id, is_primary, is_verified FROM user_accounts"
    assert target.run(accounts) == [(first, "oauth", "feishu", "ou_new", True, True)]


@pytest.mark.variant
def test_a_chain_of_shared_addresses_and_ids_is_one_person(settings, source, target):
    """A shares a Feishu id with B, B an address with C, C an id with D: one person, led by the oldest."""
    ids = [
        source.user(4, email="y@example.com", username="ou_2", created_at="2024-01-04"),
        source.user(1, email=None, username="ou_1", created_at="2024-01-03"),
        source.user(2, email="x@example.com", username="ou_1", created_at="2024-01-02"),
        source.user(3, email="X@example.com", username="ou_2", created_at="2024-01-01"),
    ]
    imported(settings)
    assert target.matched() == {ids[3]: "created", **dict.fromkeys(ids[:3], "merged")}
    assert len({user_of(target, one) for one in ids}) == 1


def test_a_new_user_follows_one_who_was_found(settings, source, target):
    """Somebody with the address of a source user whom Feishu found becomes that user too."""
    existing = target.lawsker_user(1)
    target.account(existing, "feishu", "ou_abc")
    found = source.user(1, email="x@example.com", username="ou_abc")
    follower = source.user(2, email="X@example.com", created_at="2020-01-01")
    imported(settings)
    assert target.matched() == {found: "feishu", follower: "merged"}
    assert user_of(target, follower) == existing


def test_following_two_different_users_is_ambiguous(settings, source, target):
    """Two source users with one address were found as two different users: who shares the address is neither."""
    for number in (1, 2):
        target.account(target.lawsker_user(number), "feishu", f"ou_{number}")
        source.user(number, email="x@example.com", username=f"ou_{number}")
    person = source.user(3, email="x@example.com")
    imported(settings)
    assert target.rejected() == {f"users {person}": ["ambiguous_email"]}


def test_somebody_elses_account_is_not_taken(settings, source, target):
    """The address is another user's e-mail account, but not that user's address: quarantine, with all who share it."""
    target.account(target.lawsker_user(1, email="new@example.com"), "email", "Old@example.com", type="email")
    people = [source.user(1, email="old@example.com"), source.user(2, email="OLD@example.com")]
    imported(settings)
    assert target.rejected() == {f"users {person}": ["account_taken"] for person in people}
    assert target.matched() == {}


def test_a_feishu_user_needs_no_email_account(settings, source, target):
    """Whose address is somebody else's account, but who signs in with Feishu, is created."""
    target.account(target.lawsker_user(1), "email", "a@example.com", type="email")
    person = source.user(1, email="a@example.com", username="ou_new")
    imported(settings)
    assert target.matched() == {person: "created"}
    assert target.run("SELECT provider FROM user_accounts WHERE user_id = %s", person) == [("feishu",)]


def test_later_runs_follow_the_map_not_the_address(settings, source, target):
    """A created user stays the same person when both sides have changed their addresses."""
    person = source.user(1, email="a@example.com")
    imported(settings)
    target.run("UPDATE users SET email = 'b@example.com' WHERE id = %s", person)
    other = target.lawsker_user(5, email="a@example.com")
    run = imported(settings)
    assert user_of(target, person) == person != other
    assert figures(run, "users") == {"read": 1, "unchanged": 1}


@pytest.mark.variant
def test_a_user_whose_person_was_deleted_comes_back(settings, source, target):
    """Deleting a user takes its line of the map along; the next import sees somebody new."""
    person = source.user(1)
    imported(settings)
    for table in ("profiles", "user_roles", "users"):
        target.run(f"DELETE FROM {table} WHERE {'id' if table == 'users' else 'user_id'} = %s", person)
    assert figures(imported(settings), "users") == {"read": 1, "inserted": 1}


def test_a_later_twin_is_merged_into_an_imported_user(settings, source, target):
    """A source user who comes later with the address of an imported one is merged, and takes nothing over."""
    first = source.user(1, email="a@example.com")
    imported(settings)
    second = source.user(2, email="A@example.com", status=2, created_at="2020-01-01")
    run = imported(settings)
    assert target.matched() == {first: "created", second: "merged"}
    assert figures(run, "users") == {"read": 2, "unchanged": 1, "merged": 1}
    assert target.one("SELECT status::text FROM users WHERE id = %s", first) == "ACTIVE"


@pytest.mark.variant
def test_a_merged_user_never_speaks(settings, source, target):
    """Also when the one it was merged with has left the source, it takes nothing over."""
    first = source.user(1, email="a@example.com")
    source.user(2, email="A@example.com", created_at="2025-01-01")
    imported(settings)
    source.run("DELETE FROM users WHERE id = %s", first)
    source.run("UPDATE users SET status = 2, updated_at = '2030-01-01'")
    run = imported(settings, on_conflict="source")
    assert figures(run, "users") == {"read": 1, "merged": 1}
    assert target.one("SELECT status::text FROM users WHERE id = %s", first) == "ACTIVE"


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_ids_that_are_no_uuid_or_not_free(settings, source, target):
    """A new user keeps a uuid that is free, in whatever case it is written; others get a new one."""
    taken = target.lawsker_user(1)
    people = {
        source.user(1, id="cl9x8user"): False,
        source.user(2, id=taken): False,
        source.user(3, id=uid(3).upper().replace("00000003", "ABCDEF03")): True,
    }
    imported(settings)
    for person, kept in people.items():
        user = user_of(target, person.lower() if kept else person)
        assert (user == person.lower()) is kept
        assert user != taken
    assert target.matched() == {person.lower() if kept else person: "created" for person, kept in people.items()}


@pytest.mark.variant
def test_usernames_that_are_taken_get_numbers(settings, source, target):
    """The numbers go up from 2 past those that are taken, the older user first; an own name is kept before a number."""
    target.lawsker_user(1, username="bob")
    target.lawsker_user(2, username="bob-3")
    for number in range(1, 6):
        source.user(number, username="bob", created_at=f"2024-01-0{6 - number}")
    source.user(6, username="bob-4", created_at="2024-02-01")
    source.user(7, username="ann", created_at="2024-01-02")
    source.user(8, username="ann", created_at="2024-01-01")
    imported(settings)
    names = target.run(NEW_NAMES)
    assert names == [
        (1, "bob-8"), (2, "bob-7"), (3, "bob-6"), (4, "bob-5"), (5, "bob-2"), (6, "bob-4"), (7, "ann-2"), (8, "ann"),
    ]  # fmt: skip


@pytest.mark.variant
def test_usernames_as_long_as_the_column(settings, source, target):
    """A name of 255 characters that is taken is cut, so that its number fits; all names differ."""
    long = "n" * 255
    target.lawsker_user(1, username=long)
    for number in range(1, 13):
        source.user(number, username=long[:-1] + ("x" if number % 2 else "n"))
    imported(settings)
    names = [row[0] for row in target.run("SELECT username FROM users WHERE registration_source = 'pagtive'")]
    assert len(set(names)) == 12
    assert max(map(len, names)) <= 255
    assert sum(name.startswith("n" * 240 + "-") for name in names) == 11


@pytest.mark.variant
def test_usernames_where_there_is_none(settings, source, target):
    """No username: what stands before the @, else the beginning of the id."""
    source.user(1, username=None, email=" Li.Si@example.com ")
    source.user(2, username="", email=None)
    source.user(3, username="  ", email="@example.com")
    imported(settings)
    names = target.run(NEW_NAMES)
    assert names == [(1, "Li.Si"), (2, "user_00000002"), (3, "user_00000003")]


@pytest.mark.variant
def test_a_row_that_is_rejected_leads_nobody(settings, source, target):
    """The older twin does not fit the target; the younger one becomes the user."""
    source.user(1, email="x@example.com", status=7, created_at="2020-01-01")
    second = source.user(2, email="x@example.com")
    imported(settings)
    assert target.matched() == {second: "created"}


def test_feishu_users_that_were_not_upgraded_are_pointed_out(settings, source, target):
    """Rows of feishu_auths without an account would be missed by rule 2: the run says so beforehand."""
    user = target.lawsker_user(1)
    target.add("feishu_auths", user_id=user, open_id="ou_waiting")
    source.user(1, username="ou_waiting")
    run = attempt_import(settings, dry_run=True)
    assert run.result["feishu_not_upgraded"] == 1


def test_a_long_address_in_other_letters(settings, source):
    """One that no index entry could hold is quarantined like any other that is too long; the rest comes in."""
    source.user(1, email="".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(900)))
    source.user(2)
    run = imported(settings)
    assert figures(run, "users") == {"read": 2, "inserted": 1, "quarantined": 1}
    assert run.result["reasons"] == {"too_long": 1}


@pytest.mark.parametrize("blank", [" ", "\t", "\u3000", "\u00a0"])
def test_a_username_of_blanks_is_none(settings, source, target, blank):
    """The e-mail address gives the name then."""
    source.user(1, username=blank, email="wang@example.com")
    imported(settings)
    assert target.run(NEW_NAMES) == [(1, "wang")]


def test_a_retried_twin_of_somebody_who_was_merged(settings, source, target):
    """A run that reads only some users knows by what address those of earlier runs came, who are not read again."""
    target_user = target.lawsker_user(1, email="boss@x.com")
    known = source.user(1, email="a@x.com")
    source.user(2, email="A@x.com", status=9)
    imported(settings, decisions=[{"line": "2", "source_id": known, "action": "match", "target": target_user}])
    source.run("UPDATE users SET status = 1")
    run = imported(settings, retry_rejects=True)
    assert figures(run, "users") == {"read": 1, "merged": 1}
    assert user_of(target, uid(2)) == target_user


def test_a_retried_twin_by_the_second_address_of_a_person(settings, source, target):
    """Of two who were one by their Feishu id, the second one's address finds them too."""
    source.user(1, username="ou_1", email="a@x.com")
    source.user(2, username="ou_1", email="b@x.com")
    source.user(3, email="b@x.com", status=9)
    imported(settings)
    source.run("UPDATE users SET status = 1")
    imported(settings, retry_rejects=True)
    assert target.matched() == {uid(1): "created", uid(2): "merged", uid(3): "merged"}
    assert user_of(target, uid(3)) == user_of(target, uid(1))


def test_a_twin_among_the_oldest_users(settings, source, target):
    """An older twin of somebody whose address the target has changed since: one person, as in a whole import."""
    source.user(2, email="a@x.com", created_at="2024-02-01")
    imported(settings)
    target.run("UPDATE users SET email = 'new@x.com' WHERE registration_source = 'pagtive'")
    source.user(1, email="a@x.com", created_at="2020-01-01")
    run = imported(settings, limit_users=1)
    assert figures(run, "users") == {"read": 1, "merged": 1}
