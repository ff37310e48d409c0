"""People, keys, groups, credentials, enrolment and the audit log as pages: what they do, record, hide and cost."""

from __future__ import annotations

import asyncio
import html
import re
import secrets
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest
from litestar.handlers import HTTPRouteHandler

from rosfit.accounts import audit as log
from rosfit.accounts import service as accounts
from rosfit.accounts.errors import TokenInvalidError
from rosfit.accounts.identity import Identities
from rosfit.accounts.models import AuditEntry, NewKey, NewUser, User, UserChange
from rosfit.accounts.rights import Right
from rosfit.dashboard.audit import Changed, changes
from rosfit.dashboard.enrolment import enrol_command
from rosfit.fleet import certificates, credentials, enrolment, groups
from rosfit.fleet import repository as fleet_repository
from rosfit.fleet import service as devices
from rosfit.fleet.authority import AuthorityFiles
from rosfit.fleet.enrolment_models import EnrolmentRequest, NewEnrolmentToken, Waiting
from rosfit.fleet.groups import NewGroup
from rosfit.fleet.models import EVERYWHERE, DeviceFilter, Group, NewDevice, Reach
from rosfit.kernel.clock import now
from rosfit.kernel.feed import Event
from tests.dashboard.conftest import Site
from tests.dashboard.test_pages import HTMX, OWN, _queries, add_robot, add_sample, queries

__all__ = ["queries"]


async def post(site: Site, path: str, **form: Any) -> httpx.Response:
    return await site.client.post(path, data=form, headers=OWN)


async def entries(site: Site, action: str) -> list[AuditEntry]:
    async with site.edge.open_work() as work:
        return (await log.find(work, {"action": action}, None, 50)).items


async def users(site: Site) -> dict[str, User]:
    async with site.edge.open_work() as work:
        return {user.email: user for user in (await accounts.list_users(work, None, 50)).items}


async def add_group(site: Site, name: str, **values: Any) -> Group:
    async with site.edge.open_work() as work:
        return await groups.create(work, NewGroup(name, **values))


def shown(answer: httpx.Response) -> str:
    """What a reader sees, on one line."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", answer.text)))


# People


async def test_a_person_is_added_changed_and_deleted_and_each_step_is_recorded(site: Site) -> None:
    await site.sign_in_as("admin")
    group = await add_group(site, "Pilot")
    form = {"email": "grace@example.org", "password": "a long one", "name": "Grace", "role": "operator"}
    limits = {"only_groups": group.group_id, "only_tags": "dock, hall"}
    added = await post(site, "/people/new", **form, **limits)
    assert (added.status_code, added.headers["location"]) == (303, "/people")
    grace = (await users(site))["grace@example.org"]
    assert (grace.role, grace.only_groups, grace.only_tags) == ("operator", [group.group_id], ["dock", "hall"])
    listed = shown(await site.client.get("/people"))
    assert "Grace" in listed
    assert "Pilot dock hall" in listed
    await post(site, f"/people/{grace.id}", name="Grace H", role="viewer")
    assert (await users(site))["grace@example.org"] == msgspec.structs.replace(
        grace, name="Grace H", role="viewer", only_groups=[], only_tags=[]
    )
    await post(site, f"/people/{grace.id}/delete")
    assert "grace@example.org" not in await users(site)
    deleted, updated, created = await entries(site, "user")
    assert created.after["email"] == "grace@example.org"
    assert (updated.before["role"], updated.after["role"]) == ("operator", "viewer")
    assert deleted.before["name"] == "Grace H"
    assert "a long one" not in str([created, updated, deleted])


async def test_a_form_about_a_person_names_each_field_that_is_wrong(site: Site) -> None:
    await site.sign_in_as("admin")
    form = {"email": "grace", "password": "short", "role": "king", "name": "x" * 201, "only_tags": "y" * 65}
    answer = await post(site, "/people/new", **form)
    assert answer.status_code == 422
    for why in ("Enter an e-mail", "Use 8 to 1024", "Choose one of the list", "tags of up to 64 characters"):
        assert why in answer.text
    assert 'value="grace"' in answer.text
    assert "short" not in answer.text.replace("shortcut", "")
    taken = await post(site, "/people/new", email="ADMIN@example.org", password="correct horse", role="viewer")
    assert (taken.status_code, "Somebody has this address already" in taken.text) == (409, True)


async def test_a_reset_password_and_disabling_end_every_session(site: Site) -> None:
    await site.sign_in_as("admin")
    async with site.edge.open_work() as work:
        user = await accounts.add_user(work, NewUser("grace@example.org", "correct horse", role="viewer"))
        session = await accounts.open_session(work, user)
    assert (await post(site, f"/people/{user.id}/password", password="short")).status_code == 422
    await post(site, f"/people/{user.id}/password", password="another horse")
    async with site.edge.open_work() as work:
        assert await accounts.session_actor(work, session) is None
        session = await accounts.open_session(work, user)
    await post(site, f"/people/{user.id}/disable")
    async with site.edge.open_work() as work:
        assert await accounts.session_actor(work, session) is None
    assert (await users(site))["grace@example.org"].disabled
    await post(site, f"/people/{user.id}/enable")
    assert not (await users(site))["grace@example.org"].disabled


@pytest.mark.parametrize(
    ("step", "form"),
    [
        ("", {"role": "viewer"}),
        ("", {"role": "admin", "only_tags": "dock"}),
        ("/disable", {}),
        ("/delete", {}),
    ],
)
async def test_the_last_admin_stays(site: Site, step: str, form: dict[str, str]) -> None:
    """A limit would end the right to manage people, too."""
    await site.sign_in_as("admin")
    admin = (await users(site))["admin@example.org"]
    answer = await post(site, f"/people/{admin.id}{step}", **form)
    assert (answer.status_code, "is the last admin" in answer.text) == (409, True)
    assert (await users(site))["admin@example.org"] == admin


async def test_an_admin_with_limits_does_not_count_as_another_admin(site: Site) -> None:
    await site.sign_in_as("admin")
    async with site.edge.open_work() as work:
        await accounts.add_user(work, NewUser("grace@example.org", "correct horse", role="admin", only_tags=["dock"]))
    admin = (await users(site))["admin@example.org"]
    assert (await post(site, f"/people/{admin.id}/delete")).status_code == 409
    grace = (await users(site))["grace@example.org"]
    async with site.edge.open_work() as work:
        await accounts.change_user(work, grace.id, UserChange(only_tags=[]))
    assert (await post(site, f"/people/{admin.id}/delete")).status_code == 303


# API keys


async def test_a_key_s_secret_is_shown_once_and_works_until_it_is_revoked(site: Site) -> None:
    await site.sign_in_as("admin")
    day = (now() + timedelta(days=3)).date().isoformat()
    form = {"name": "dispatch", "scopes": ["devices:read", "commands:write"], "only_tags": "dock", "expires_on": day}
    made = await post(site, "/keys/new", **form)
    secret = re.findall(r'<pre id="secret"[^>]*>([^<]+)</pre>', made.text)[0]
    actor = await Identities(site.edge.open_work, site.edge.signer).identify(secret)
    assert actor.may(Right.COMMANDS_WRITE)
    assert not actor.may(Right.DEVICES_WRITE)
    assert (actor.reach, actor.name) == (Reach(tags=("dock",)), "dispatch")
    listed = await site.client.get("/keys")
    assert secret not in listed.text
    for part in ("dispatch", actor.id, "commands:write", f"{day} 23:59", "admin@example.org"):
        assert part in shown(listed)
    assert (await post(site, f"/keys/{actor.id}/revoke")).status_code == 303
    assert "No API keys" in (await site.client.get("/keys")).text
    with pytest.raises(TokenInvalidError):
        await Identities(site.edge.open_work, site.edge.signer).identify(secret)
    recorded = await entries(site, "key")
    assert [entry.action for entry in recorded] == ["key.revoke", "key.create"]
    assert secret not in str(recorded)


async def test_a_form_about_a_key_names_each_field_that_is_wrong(site: Site) -> None:
    await site.sign_in_as("admin")
    answer = await post(site, "/keys/new", name="", only_tags="y" * 65, expires_on="2020-01-01")
    assert answer.status_code == 422
    for why in ("Use 1 to 100", "Choose at least one", "tags of up to 64", "Choose a day in the future"):
        assert why in answer.text
    assert await entries(site, "key") == []


# Groups


async def test_a_saved_query_is_looked_at_before_it_is_saved(site: Site) -> None:
    await site.sign_in_as("engineer")
    for number in range(7):
        await add_robot(site, f"bot-{number}", tags=["dock"])
    look = await site.client.get("/groups/look", params={"query": "tag:dock -id:bot-6"}, headers=HTMX)
    assert "6 robots now, the first 5:" in shown(look)
    wrong = await site.client.get("/groups/look", params={"query": "wheels>4"}, headers=HTMX)
    assert "'wheels' is no field" in shown(wrong)
    refused = await post(site, "/groups/new", kind="query", name="Docked", query="wheels>4")
    assert (refused.status_code, "is no field" in shown(refused)) == (422, True)
    saved = await post(site, "/groups/new", kind="query", name="Docked", query="tag:dock")
    page = await site.client.get(saved.headers["location"])
    assert "Saved query · 7 robots now" in shown(page)
    changed = await post(site, saved.headers["location"], name="Docks", query="tag:dock id:bot-1,bot-2")
    assert "2 robots now" in shown(await site.client.get(changed.headers["location"]))
    assert [entry.action for entry in await entries(site, "group")] == ["group.update", "group.create"]


async def test_a_list_of_robots_is_kept_by_hand(site: Site) -> None:
    await site.sign_in_as("engineer")
    for device_id in ("bot-1", "bot-2", "lift"):
        await add_robot(site, device_id)
    unknown = await post(site, "/groups/new", kind="static", name="Pilot", members="bot-1 nobody")
    assert (unknown.status_code, "Not registered: nobody" in shown(unknown)) == (422, True)
    assert "No groups yet" in (await site.client.get("/groups")).text
    made = await post(site, "/groups/new", kind="static", name="Pilot", members="bot-1")
    place = made.headers["location"]
    found = await site.client.get(place, params={"find": "bot"})
    assert re.findall(r'name="add" value="([^"]+)"', found.text) == ["bot-2"]
    assert "is no field" in shown(await site.client.get(place, params={"find": "wheels>4"}))
    added = await post(site, f"{place}/members", add="bot-2", find="bot")
    assert added.headers["location"] == f"{place}?find=bot"
    await post(site, f"{place}/members", remove="bot-1")
    async with site.edge.open_work() as work:
        members = await devices.find(work, DeviceFilter(group="Pilot"), None, 50)
    assert [device.device_id for device in members.items] == ["bot-2"]
    assert (await post(site, f"{place}/members", add="nobody")).status_code == 404
    await post(site, f"{place}/delete")
    assert [entry.action for entry in await entries(site, "group")] == [
        "group.delete", "group.update", "group.update", "group.create",
    ]  # fmt: skip


async def test_a_group_that_limits_somebody_stays(site: Site) -> None:
    await site.sign_in_as("admin")
    group = await add_group(site, "Pilot")
    async with site.edge.open_work() as work:
        await accounts.add_user(work, NewUser("grace@example.org", "correct horse", only_groups=[group.group_id]))
    answer = await post(site, f"/groups/{group.group_id}/delete")
    assert (answer.status_code, "grace@example.org" in answer.text) == (409, True)


@pytest.mark.parametrize("name", ["", "-a", "x" * 101, "a/b"])
async def test_a_group_s_name_is_checked(site: Site, name: str) -> None:
    await site.sign_in_as("engineer")
    await add_group(site, "Pilot")
    for wrong in (name, "pilot"):
        answer = await post(site, "/groups/new", kind="static", name=wrong)
        assert answer.status_code == 422
        assert 'aria-invalid="true"' in answer.text


# Credentials of a robot


async def test_rotating_a_credential_lets_the_old_one_live_on(site: Site) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot")
    form = {"kind": "password", "overlap_hours": "24", "ttl_hours": "8766"}
    first = await post(site, "/robots/bot/credentials", **form)
    token = re.findall(r'<pre id="token"[^>]*>(rfd_[^<]+)</pre>', first.text)[0]
    await post(site, "/robots/bot/credentials", **form)
    page = await site.client.get("/robots/bot/credentials")
    assert token not in page.text
    assert page.text.count('data-life="live"') == 2
    assert "bot.2" in page.text
    async with site.edge.open_work() as work:
        older = (await credentials.list_for(work, "bot"))[1]
    assert older.expires_at is not None
    assert older.expires_at < (now() + timedelta(hours=25)).isoformat()
    await post(site, f"/robots/bot/credentials/{older.id}/revoke")
    assert (await site.client.get("/robots/bot/credentials")).text.count('data-life="revoked"') == 1
    jwt = await post(site, "/robots/bot/credentials", **form | {"kind": "jwt", "overlap_hours": "0"})
    assert site.edge.signer.read_device(html.unescape(re.findall(r'<pre id="token"[^>]*>([^<]+)<', jwt.text)[0]))
    recorded = await entries(site, "credential")
    assert [entry.action.split(".")[1] for entry in recorded] == ["create", "revoke", "create", "create"]
    assert token not in str(recorded)


async def test_a_certificate_is_signed_and_revoked(site: Site, request_for_bot: str) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot")
    form = {"csr": request_for_bot}
    none = await post(site, "/robots/bot/certificates", **form)
    assert (none.status_code, "rosfit ca init" in none.text) == (409, True)
    await asyncio.to_thread(AuthorityFiles(site.settings.data_dir).create)
    wrong = await post(site, "/robots/bot/certificates", csr="nonsense")
    assert (wrong.status_code, "cannot be signed" in wrong.text) == (422, True)
    signed = await post(site, "/robots/bot/certificates", **form)
    assert signed.text.count("BEGIN CERTIFICATE") == 2
    async with site.edge.open_work() as work:
        (certificate,) = await certificates.list_for(work, "bot")
    assert certificate.serial in (await site.client.get("/robots/bot/credentials")).text
    await post(site, f"/robots/bot/certificates/{certificate.serial}/revoke")
    assert 'data-life="revoked"' in (await site.client.get("/robots/bot/credentials")).text
    assert [entry.action for entry in await entries(site, "certificate")] == [
        "certificate.revoke", "certificate.create",
    ]  # fmt: skip


async def test_who_may_not_change_robots_sees_credentials_without_buttons(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    async with site.edge.open_work() as work:
        await credentials.issue(work, "bot", credentials.Wanted(), str)
    page = (await site.client.get("/robots/bot/credentials")).text
    assert 'data-life="live"' in page
    assert "Rotate" not in page
    assert "Revoke" not in page


# Enrolment


async def test_a_token_is_shown_once_with_a_command_and_a_qr_code(site: Site) -> None:
    await site.sign_in_as("engineer")
    form = {"name": "Rack 4", "device_type": "ros2_robot", "tags": "rack-4", "ttl_hours": "24", "max_uses": "3"}
    made = await post(site, "/enrolment/new", **form)
    token = re.findall(r'<pre id="token"[^>]*>(rfe_[^<]+)</pre>', made.text)[0]
    assert "<svg viewBox=" in made.text.split('class="qr"')[1]
    assert "style" not in made.text.split('class="qr"')[1]
    assert f'"token": "{token}"' in shown(made)
    page = await site.client.get("/enrolment")
    assert token not in page.text
    assert "0 of 3" in shown(page)
    async with site.edge.open_work() as work:
        (listed,) = (await enrolment.list_tokens(work, None, 10)).items
        await enrolment.enrol(work, EnrolmentRequest(token, "bot"), str, None)
    assert "1 of 3" in shown(await site.client.get("/enrolment"))
    await post(site, f"/enrolment/tokens/{listed.id}/revoke")
    assert "No enrolment tokens" in (await site.client.get("/enrolment")).text
    recorded = await entries(site, "enrolment_token")
    assert [entry.action for entry in recorded] == ["enrolment_token.revoke", "enrolment_token.create"]
    assert token not in str(recorded)


async def waiting_robot(site: Site, device_id: str) -> Waiting:
    async with site.edge.open_work() as work:
        token = await enrolment.create_token(work, NewEnrolmentToken("Rack", approval=True), "usr_1")
        waiting = await enrolment.enrol(work, EnrolmentRequest(token.token, device_id), str, "10.0.0.7")
    assert isinstance(waiting, Waiting)
    return waiting


async def test_robots_that_wait_are_let_in_or_turned_away(site: Site) -> None:
    await site.sign_in_as("engineer")
    good, bad = await waiting_robot(site, "good"), await waiting_robot(site, "bad")
    page = await site.client.get("/enrolment")
    assert "Waiting to be let in 2" in shown(page)
    assert "10.0.0.7" in page.text
    assert (await post(site, f"/enrolment/{good.enrolment_id}/approve")).status_code == 303
    assert (await post(site, f"/enrolment/{bad.enrolment_id}/deny")).status_code == 303
    async with site.edge.open_work() as work:
        found = await devices.find(work, DeviceFilter(), None, 10)
    assert [device.device_id for device in found.items] == ["good"]
    again = await post(site, f"/enrolment/{bad.enrolment_id}/approve")
    assert (again.status_code, "decided already" in again.text) == (409, True)
    assert {entry.action for entry in await entries(site, "enrolment")} == {"enrolment.approve", "enrolment.deny"}


async def test_a_robot_whose_id_was_taken_meanwhile_is_not_let_in(site: Site) -> None:
    await site.sign_in_as("engineer")
    waiting = await waiting_robot(site, "bot")
    await add_robot(site, "bot")
    answer = await post(site, f"/enrolment/{waiting.enrolment_id}/approve")
    assert (answer.status_code, "registered already" in answer.text) == (409, True)
    assert "Waiting to be let in" in answer.text


async def test_a_form_about_a_token_names_each_field_that_is_wrong(site: Site) -> None:
    await site.sign_in_as("engineer")
    answer = await post(site, "/enrolment/new", name="", device_type="toaster", ttl_hours="0", max_uses="many")
    assert answer.status_code == 422
    for why in ("Use 1 to", "Choose one of the list", "number of hours", "whole number from 1"):
        assert why in answer.text


def test_the_command_holds_any_address_and_token_as_text() -> None:
    """Nothing in them may end the string that they stand in."""
    lines = enrol_command('https://x/"; import evil', "rfe_'$(id)").splitlines()
    script = "\n".join(lines[1:-1])
    assert 'address = "https://x/\\"; import evil"' in script
    compile(script, "command", "exec")


# The audit log


async def test_the_audit_log_is_filtered_and_paged(site: Site) -> None:
    await site.sign_in_as("admin")
    admin = (await users(site))["admin@example.org"]
    async with site.edge.open_work() as work:
        for number in range(60):
            after = {"name": f"name-{number}"}
            await log.record(work, admin.id, "device.update", f"bot-{number}", before={"name": "old"}, after=after)
        await log.record(work, "usr_gone", "key.create", "key_1", result="PERMISSION_DENIED")
    first = await site.client.get("/audit")
    assert first.text.count('<details class="entry"') == 50
    older = html.unescape(first.text.split('rel="next" href="')[1].split('"')[0])
    assert (await site.client.get(older)).text.count('<details class="entry"') == 11
    mine = await site.client.get("/audit", params={"actor": "admin@example.org", "action": "device"})
    assert "usr_gone" not in mine.text
    assert "admin@example.org" in shown(mine)
    following = html.unescape(mine.text.split('rel="next" href="')[1].split('"')[0])
    assert (await site.client.get(following)).text.count('<details class="entry"') == 10
    one = await site.client.get("/audit", params={"target": "bot-7"})
    assert re.search(r'<del>"old"</del>', html.unescape(one.text))
    assert re.search(r'<ins>"name-7"</ins>', html.unescape(one.text))
    refused = await site.client.get("/audit", params={"actor": "usr_gone"})
    assert "PERMISSION_DENIED" in shown(refused)
    assert "Nothing is recorded that fits" in (await site.client.get("/audit?target=bot")).text


async def test_the_audit_log_leaves_as_json_lines(site: Site) -> None:
    await site.sign_in_as("admin")
    await post(site, "/people/new", email="grace@example.org", password="correct horse", role="viewer")
    answer = await site.client.get("/audit/export.jsonl")
    assert 'filename="rosfit-audit.jsonl"' in answer.headers["content-disposition"]
    lines = [msgspec.json.decode(line) for line in answer.text.splitlines()]
    assert [(line["id"], line["action"]) for line in lines] == [(1, "user.create")]
    assert lines[0]["address"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, {"a": 1}, [Changed("a", None, "1")]),
        ({"a": 1}, None, [Changed("a", "1", None)]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, [Changed("a.b", "1", "3"), Changed("a.c", "2", None)]),
        ({"a": 1, "b": 2}, {"a": 2}, [Changed("a", "1", "2")]),
        ({"a": True}, {"a": 1}, [Changed("a", "true", "1")]),
        ({"a": [1]}, {"a": [1, 2]}, [Changed("a", "[1]", "[1,2]")]),
        ({"a": 1}, {"a": 1}, []),
        (None, None, []),
    ],
)
def test_changes_are_told_leaf_by_leaf(before: Any, after: Any, expected: list[Changed]) -> None:
    assert changes(before, after) == expected


async def test_a_denied_attempt_is_recorded(site: Site) -> None:
    """In work of its own: the request's is rolled back."""
    await site.sign_in_as("engineer")
    assert (await post(site, "/people/new", email="a@b", password="correct horse")).status_code == 403
    (entry,) = await entries(site, "access")
    assert (entry.target, entry.result) == ("POST /people/new", "PERMISSION_DENIED")
    await site.client.get("/people")
    assert len(await entries(site, "access")) == 1


# Who gets in, and what they see

ADMIN_PAGES = ("/people", "/people/new", "/keys", "/keys/new", "/audit", "/audit/export.jsonl")
ENGINEER_PAGES = ("/enrolment", "/enrolment/new", "/groups/new")


@pytest.mark.parametrize(
    ("role", "closed"),
    [
        ("viewer", ADMIN_PAGES + ENGINEER_PAGES),
        ("operator", ADMIN_PAGES + ENGINEER_PAGES),
        ("engineer", ADMIN_PAGES),
        ("admin", ()),
    ],
)
async def test_pages_open_to_who_has_the_right_and_only_they_see_the_way(
    site: Site, role: Any, closed: tuple[str, ...]
) -> None:
    await site.sign_in_as(role)
    menu = (await site.client.get("/")).text
    for path in ADMIN_PAGES + ENGINEER_PAGES:
        assert (await site.client.get(path)).status_code == (403 if path in closed else 200), path
    for path in ("/people", "/keys", "/audit", "/enrolment"):
        assert (f'href="{path}"' in menu) is (path not in closed)


def handlers_with_device(site: Site) -> list[HTTPRouteHandler]:
    return [
        handler
        for route in site.app.routes
        for handler in route.route_handlers
        if isinstance(handler, HTTPRouteHandler) and "device_id" in route.path
    ]


async def two_worlds(site: Site) -> None:
    """A robot within reach of `mine`, another of `secret`, groups of both, and an engineer limited to `mine`."""
    await add_robot(site, "mine-1", tags=["mine"])
    await add_robot(site, "secret-1", name="secret-name", tags=["secret-tag"])
    await add_sample(site, "secret-1", "odom", '{"x":1}')
    await add_group(site, "secret-list", device_ids=["secret-1"])
    await add_group(site, "secret-query", kind="query", query="tag:secret-tag")
    await add_group(site, "everybody", device_ids=["mine-1", "secret-1"])
    await site.sign_in_as("engineer", only_tags=["mine"])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?q=secret",
        "/?tag=secret-tag",
        "/?q=-tag:none",
        "/?group=everybody",
        "/groups",
        "/groups/everybody",
        "/groups/look?query=-tag:none",
        "/robots/mine-1",
        "/robots/mine-1/credentials",
    ],
)
async def test_somebody_limited_to_tags_sees_nothing_else(site: Site, path: str) -> None:
    await two_worlds(site)
    answer = await site.client.get(path)
    assert answer.status_code == 200
    shown_text = answer.text.replace(html.escape(path), "").replace("secret-tag", "", path.count("secret-tag") * 2)
    for hidden in ("secret-1", "secret-name", "secret-list", "secret-query"):
        assert hidden not in shown_text


async def test_tags_and_counts_of_others_are_not_told(site: Site) -> None:
    await two_worlds(site)
    fleet = await site.client.get("/")
    assert "secret-tag" not in fleet.text
    assert "1 of 1 robot" in shown(fleet)
    assert re.search(r'id="chip-all".*?class="count">1<', fleet.text, re.DOTALL)
    assert "everybody List 1 robot " in shown(await site.client.get("/groups"))
    assert "1 robot now" in shown(await site.client.get("/groups/look?query=-tag:none", headers=HTMX))


async def test_a_robot_out_of_reach_is_not_there_whatever_is_asked_of_it(site: Site) -> None:
    """Every page about a robot answers as if it did not exist, and what it has stays."""
    await two_worlds(site)
    async with site.edge.open_work() as work:
        theirs = await credentials.issue(work, "secret-1", credentials.Wanted(), str)
        ends = now() + timedelta(days=1)
        await fleet_repository.insert_certificate(work.connection, "abc", "secret-1", "fingerprint", ends)
    handlers = handlers_with_device(site)
    assert len(handlers) >= 12
    rotation = {"kind": "password", "overlap_hours": "24", "ttl_hours": "8766", "csr": "x"}
    # Each body is a good one, so that only the reach can refuse it.
    scripts = {"commands": {"command": "dock"}, "parameters": {"node": "/a", "name": "b", "value": 1}}
    for handler in handlers:
        for pattern in handler.paths:
            path = re.sub(r"\{device_id:str\}", "secret-1", pattern)
            path = path.replace("{credential_id:str}", theirs.id).replace("{serial:str}", "abc")
            path = re.sub(r"\{\w+:\w+\}", "x", path)
            for method in handler.http_methods - {"HEAD", "OPTIONS"}:
                script = scripts.get(path.rpartition("/")[2])
                body = {"json": script} if script else {"data": rotation}
                sent: Any = body if method == "POST" else {}
                asked = site.client.build_request(method, path, headers=OWN, params={"stream": "odom"}, **sent)
                answer = await site.client.send(asked)
                assert answer.status_code == 404, (method, path)
    async with site.edge.open_work() as work:
        (credential,) = await credentials.list_for(work, "secret-1")
        (certificate,) = await certificates.list_for(work, "secret-1")
    assert credential.revoked_at is None
    assert certificate.revoked_at is None


@pytest.mark.parametrize(
    "path", ["/groups/secret-list", "/groups/secret-query", "/groups/new", "/enrolment", "/people"]
)
async def test_what_concerns_the_whole_fleet_is_closed_to_the_limited(site: Site, path: str) -> None:
    await two_worlds(site)
    assert (await site.client.get(path)).status_code in {403, 404}


async def test_live_news_stop_at_the_limit(site: Site) -> None:
    """Neither a row nor a change of status of a robot out of reach goes out."""
    await two_worlds(site)
    reading = asyncio.create_task(read_events(site, "/fleet/events", 0.6))
    for _ in range(40):
        for device_id in ("secret-1", "mine-1"):
            change = msgspec.json.encode({"device_id": device_id, "status": "online"})
            site.feed.publish(Event("status", device_id, "online", change, "2026-03-30T10:05:32.123Z"))
            site.feed.publish(Event("telemetry", device_id, "odom", b'{"payload":{}}', "2026-03-30T10:05:32.123Z"))
        await asyncio.sleep(0.01)
    heard = await reading
    assert "mine-1" in heard
    assert "secret-1" not in heard


async def test_a_robot_that_a_limited_engineer_adds_is_theirs(site: Site) -> None:
    await two_worlds(site)
    answer = await post(site, "/add-robot", device_id="new-bot", type="ros2_robot")
    assert answer.status_code == 200
    async with site.edge.open_work() as work:
        assert (await devices.get(work, "new-bot", Reach(tags=("mine",)))).tags == ["mine"]
    assert [entry.target for entry in await entries(site, "device.create")] == ["new-bot"]
    assert [entry.target for entry in await entries(site, "credential.create")] == ["new-bot"]


async def test_who_is_limited_to_groups_adds_no_robots(site: Site) -> None:
    group = await add_group(site, "Pilot")
    await site.sign_in_as("admin")
    async with site.edge.open_work() as work:
        new = NewUser("grace@example.org", "correct horse", role="engineer", only_groups=[group.group_id])
        session = await accounts.open_session(work, await accounts.add_user(work, new))
    site.sign_in_with(session)
    answer = await post(site, "/add-robot", device_id="new-bot", type="ros2_robot")
    assert (answer.status_code, "limited to groups" in answer.text) == (403, True)
    async with site.edge.open_work() as work:
        assert (await devices.find(work, DeviceFilter(), None, 10)).items == []


# The fleet's search


async def test_the_fleet_is_searched_with_queries_and_groups(site: Site) -> None:
    await site.sign_in_as("viewer")
    for number in range(4):
        await add_robot(site, f"bot-{number}", tags=["dock"] if number < 3 else [])
    group = await add_group(site, "Pilot robots", device_ids=["bot-0", "bot-3"])
    for query, count in (("q=tag:dock -id:bot-0", 2), ("group=Pilot robots", 2), ("group=Pilot robots&q=tag:dock", 1)):
        answer = await site.client.get("/", params=httpx.QueryParams(query))
        assert answer.text.count("<tr id=") == count, query
        assert f"{count} of {count} robot" in shown(answer)
    by_id = await site.client.get("/", params={"group": group.group_id})
    assert by_id.text.count("<tr id=") == 2
    assert "<option selected>Pilot robots</option>" in (await site.client.get("/?group=Pilot+robots")).text


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ({"q": "wheels>4"}, "'wheels' is no field; fields are"),
        ({"q": "battery>much"}, "'much' is not a number"),
        ({"q": "group:nowhere"}, "There is no group 'nowhere'"),
        ({"group": "nowhere"}, "There is no group 'nowhere'"),
    ],
)
async def test_a_search_that_cannot_be_understood_says_why(site: Site, question: dict[str, str], why: str) -> None:
    await site.sign_in_as("viewer")
    for headers in ({}, HTMX):
        answer = await site.client.get("/", params=question, headers=headers)
        assert why in shown(answer)
        assert "hx-sse:connect" not in answer.text
        assert "<tr id=" not in answer.text


# What it costs


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("/people", 3),
        ("/people/new", 2),
        ("/keys", 4),
        ("/keys/new", 2),
        ("/groups", 3),
        ("/groups/new?kind=query", 1),
        ("/groups/look?query=tag:a", 3),
        ("/groups/Pilot", 7),
        ("/robots/bot/credentials", 6),
        ("/enrolment", 5),
        ("/enrolment/new", 1),
        ("/audit", 3),
    ],
)
async def test_a_page_about_access_costs_so_many_queries(site: Site, queries: list[str], path: str, count: int) -> None:
    """However many people, keys, groups and robots there are."""
    await site.sign_in_as("admin")
    admin = (await users(site))["admin@example.org"]
    async with site.edge.open_work() as work:
        actor = await accounts.session_actor(work, site.session)
        assert actor is not None
        for number in range(3):
            suffix = secrets.token_hex(4)
            await devices.register(work, NewDevice(device_id=f"bot-{number}", tags=["a"]))
            await groups.create(work, NewGroup(f"group {suffix}", "query", query="tag:a"))
            await accounts.create_key(work, NewKey(suffix, [Right.DEVICES_READ]), actor)
            await enrolment.create_token(work, NewEnrolmentToken(suffix), admin.id)
            await log.record(work, actor, "device.create", suffix)
        await devices.register(work, NewDevice(device_id="bot"))
        await groups.create(work, NewGroup("Pilot", device_ids=["bot", "bot-0"]))
        await credentials.issue(work, "bot", credentials.Wanted(), str)
    _queries.set(queries)
    answer = await site.client.get(path)
    _queries.set(None)
    assert answer.status_code == 200
    assert len(queries) == count, "\n".join(queries)


async def test_counts_of_groups_stay_within_reach(site: Site) -> None:
    await two_worlds(site)
    async with site.edge.open_work() as work:
        listed = {group.name: group for group in await groups.listing(work)}
        everywhere = await groups.counts(work, list(listed.values()), EVERYWHERE)
        mine = await groups.counts(work, list(listed.values()), Reach(tags=("mine",)))
        assert await groups.counts(work, [], EVERYWHERE) == {}
    by_name = {name: (everywhere[group.group_id], mine[group.group_id]) for name, group in listed.items()}
    assert by_name == {"everybody": (2, 1), "secret-list": (1, 0), "secret-query": (1, 0)}


async def read_events(site: Site, path: str, seconds: float) -> str:
    """What an event stream says in this time: the transport of the tests gives whole answers only."""
    sent: list[bytes] = []
    disconnected = asyncio.Event()
    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        if message := next(asked, None):
            return message
        await disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"rosfit.test"), (b"cookie", f"rosfit_session={site.session}".encode())],
        "scheme": "http", "http_version": "1.1", "server": ("rosfit.test", 80), "client": ("127.0.0.1", 1),
        "asgi": {"version": "3.0"}, "extensions": {},
    }  # fmt: skip
    serving = asyncio.create_task(site.app(scope, receive, send))  # type: ignore[arg-type]
    await asyncio.wait({serving}, timeout=seconds)
    disconnected.set()
    await asyncio.wait({serving}, timeout=10)
    return b"".join(sent).decode()
