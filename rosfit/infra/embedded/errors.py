"""What can go wrong with the servers we start ourselves."""

from rosfit.kernel.errors import RosfitError, UnavailableError


class EmbeddedServerError(RosfitError):
    """A server cannot be prepared, started or kept running."""

    code = "EMBEDDED_SERVER_FAILED"
    status = 500
    title = "A server that RosFit brings along does not work"


class DataFolderError(EmbeddedServerError):
    code = "DATA_FOLDER_UNUSABLE"
    title = "The data folder cannot be used"


class DataFolderBusyError(DataFolderError):
    code = "DATA_FOLDER_BUSY"
    title = "Another RosFit uses the data folder"


class NotRunningError(UnavailableError):
    code = "NOT_RUNNING"
    title = "No server runs with this data folder"
