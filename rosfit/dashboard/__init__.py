"""Web pages: fleet, robot, groups, people and their access, set-up and sign-in. Server-rendered, kept live over SSE."""

from __future__ import annotations

from typing import Any

from litestar import Router
from litestar.connection import ASGIConnection
from litestar.datastructures import CacheControlHeader
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.static_files import create_static_files_router
from litestar.types import ControllerRouterHandler

from rosfit.assets import asset_folder
from rosfit.dashboard import (
    adding,
    audit,
    bulk,
    commands,
    credentials,
    deployment_form,
    deployments,
    enrolment,
    export,
    fleet,
    groups,
    keys,
    layers,
    oidc,
    parameters,
    people,
    robot,
    robot_update,
    schemas,
    shadow,
    shadow_editor,
    shadow_history,
    signing_in,
    tasks,
    teleop,
    updates,
)
from rosfit.dashboard.access import provide_actor, provide_waiting_actor, same_origin
from rosfit.dashboard.errors import error_page
from rosfit.dashboard.rendering import fingerprint, template_config
from rosfit.kernel.errors import NotFoundError, RosfitError

__all__ = ["routes", "template_config"]

_PUBLIC: dict[str, Any] = {"public": True}
_A_YEAR_S = 365 * 86_400


def routes() -> list[ControllerRouterHandler]:
    """Every page and the static files. Each handler names its right in `opt`, or that it is public."""
    return [_public_pages(), _pages(), _waiting_pages(), *_static_files()]


def _public_pages() -> Router:
    return Router(
        "/",
        route_handlers=[
            signing_in.show_setup,
            signing_in.set_up,
            signing_in.show_sign_in,
            signing_in.sign_in,
            signing_in.sign_out,
            oidc.begin_sign_in,
            oidc.finish_sign_in,
        ],
        guards=[same_origin],
        exception_handlers={RosfitError: error_page},
        include_in_schema=False,
    )


def _pages() -> Router:
    return Router(
        "/",
        route_handlers=[
            fleet.show_fleet,
            fleet.fleet_events,
            robot.show_robot,
            robot.robot_events,
            robot.robot_series,
            robot.robot_logs,
            robot.robot_frame,
            export.ask_export,
            export.export_file,
            robot_update.show_robot_update,
            commands.recent_commands,
            commands.one_command,
            commands.send_command,
            commands.emergency_stop,
            commands.cancel_command,
            teleop.robot_driving,
            shadow.show_shadow,
            shadow.shadow_events,
            shadow_editor.show_editor,
            shadow_editor.edit,
            shadow_history.show_history,
            shadow_history.revert,
            bulk.show_form,
            bulk.preview_bulk,
            bulk.send_bulk,
            bulk.show_bulk,
            tasks.show_tasks,
            tasks.task_events,
            tasks.show_task_form,
            tasks.create_task,
            tasks.cancel_task,
            updates.show_updates,
            updates.updates_events,
            updates.show_upload_form,
            updates.delete_artifact,
            deployment_form.show_form,
            deployment_form.preview_deployment,
            deployment_form.create_deployment,
            deployments.show_deployment,
            deployments.deployment_events,
            deployments.show_device_log,
            deployments.ask_to_confirm,
            deployments.act_on_deployment,
            adding.show_form,
            adding.add_robot,
            adding.new_credential,
            adding.show_checklist,
            credentials.show_credentials,
            credentials.rotate_credential,
            credentials.revoke_credential,
            credentials.sign_certificate,
            credentials.revoke_certificate,
            groups.show_groups,
            groups.show_new_group,
            groups.look_at_query,
            groups.add_group,
            groups.show_group,
            groups.change_group,
            groups.change_members,
            groups.delete_group,
            layers.show_layers,
            layers.show_layer,
            layers.show_refusals,
            layers.show_layer_editor,
            layers.edit_layer,
            layers.delete_layer,
            schemas.show_schemas,
            schemas.show_schema,
            schemas.show_schema_form,
            schemas.write_schema,
            schemas.delete_schema,
            enrolment.show_enrolment,
            enrolment.show_new_token,
            enrolment.make_token,
            enrolment.revoke_token,
            enrolment.approve,
            enrolment.deny,
            people.show_people,
            people.show_new_person,
            people.add_person,
            people.show_person,
            people.change_person,
            people.reset_password,
            people.disable_person,
            people.enable_person,
            people.delete_person,
            keys.show_keys,
            keys.show_new_key,
            keys.make_key,
            keys.revoke_key,
            audit.show_audit,
            audit.export_audit,
        ],
        guards=[same_origin],
        dependencies={"actor": Provide(provide_actor)},
        exception_handlers={RosfitError: error_page},
        include_in_schema=False,
    )


def _waiting_pages() -> Router:
    """What waits for a robot's answer or an upload, without a database connection of its own meanwhile."""
    return Router(
        "/",
        route_handlers=[
            commands.robot_offers,
            parameters.robot_parameters,
            parameters.set_parameter,
            updates.upload_artifact,
        ],
        guards=[same_origin],
        dependencies={"actor": Provide(provide_waiting_actor)},
        exception_handlers={RosfitError: error_page},
        include_in_schema=False,
    )


def _static_files() -> list[Router]:
    """Under a name that changes with the content, kept for good; under the plain name, asked for again."""
    folder = asset_folder("static")
    kept = CacheControlHeader(max_age=_A_YEAR_S, public=True, immutable=True)
    plain = CacheControlHeader(no_cache=True)
    served: dict[str, Any] = {"opt": _PUBLIC, "guards": [_names_a_file]}
    return [
        create_static_files_router(
            f"/static/{fingerprint()}", [folder], name="static-kept", cache_control=kept, **served
        ),
        create_static_files_router("/static", [folder], name="static", cache_control=plain, **served),
    ]


def _names_a_file(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: no file has a NUL in its name, and the system's calls raise ValueError for one."""
    if "\0" in connection.scope["path"]:
        raise NotFoundError("There is no such file")
