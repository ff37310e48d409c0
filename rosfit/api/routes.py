"""Everything the API serves; the app puts the pages beside it."""

from __future__ import annotations

from litestar import Router
from litestar.types import ControllerRouterHandler

from rosfit.api.access import require_right
from rosfit.api.auth import AuthController
from rosfit.api.broker_auth import EmqxController, RabbitController
from rosfit.api.commands import BulkController, CommandController, emergency_stop, get_driver
from rosfit.api.credentials import AuthorityController, CredentialController
from rosfit.api.devices import DeviceController
from rosfit.api.docs import api_docs
from rosfit.api.enrolment import EnrolmentController, EnrolmentTokenController
from rosfit.api.groups import GroupController
from rosfit.api.hooks import HookSourceController, take_hook
from rosfit.api.ota_artifacts import ArtifactController, UpdateKeyController
from rosfit.api.ota_deployments import DeploymentController, list_installed_versions
from rosfit.api.ota_files import download_artifact
from rosfit.api.people import AuditController, KeyController, UserController, create_token
from rosfit.api.responses import WireResponse
from rosfit.api.robots import ParameterController, RobotController
from rosfit.api.shadow import ShadowController
from rosfit.api.shadow_layers import ShadowLayerController
from rosfit.api.shadow_schemas import ShadowSchemaController
from rosfit.api.system import SystemController
from rosfit.api.tasks import TaskController
from rosfit.api.telemetry import DeadLetterController, TelemetryController
from rosfit.api.ws.socket import live_socket
from rosfit.api.ws.teleop import teleop_socket

BASE = "/api/v1"


def routes() -> list[ControllerRouterHandler]:
    """REST under the base path, and beside it health, docs and the socket."""
    base = Router(
        BASE,
        route_handlers=[
            AuthController,
            create_token,
            UserController,
            KeyController,
            AuditController,
            DeviceController,
            CredentialController,
            EnrolmentController,
            EnrolmentTokenController,
            EmqxController,
            RabbitController,
            BulkController,
            CommandController,
            emergency_stop,
            get_driver,
            RobotController,
            TaskController,
            ParameterController,
            GroupController,
            HookSourceController,
            take_hook,
            ShadowController,
            ShadowLayerController,
            ShadowSchemaController,
            ArtifactController,
            UpdateKeyController,
            DeploymentController,
            list_installed_versions,
            download_artifact,
            TelemetryController,
            DeadLetterController,
        ],
        guards=[require_right],
        response_class=WireResponse,
    )
    beside = Router("/", route_handlers=[SystemController, AuthorityController, api_docs], guards=[require_right])
    return [base, beside, live_socket, teleop_socket]
