"""The errors a user can cause. Each message names the key or the file, and what is allowed."""

from __future__ import annotations

FULL_ERROR = "HYDRA_FULL_ERROR"  # set to 1: the traceback of an error, too


class LopError(Exception):
    """Something the user can put right; shown as one line, without a traceback."""


class ConfigError(LopError):
    """A configuration key has a value that is not allowed.

    A component raises it with its own parameter's name; `under` adds the path that leads there
    in the configuration, so that the message names what the user typed.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(key, value, allowed)
        self.key, self.value, self.allowed = key, value, allowed

    def under(self, path: str) -> ConfigError:
        return ConfigError(f"{path}.{self.key}" if self.key else path, self.value, self.allowed)

    def __str__(self) -> str:
        return f"{self.key}: {self.allowed}" if self.value is None else f"{self.key} = {self.value!r}: {self.allowed}"


class Refusal(ConfigError):
    """A command line that cannot be composed, in words that need no key in front of them."""

    def __init__(self, text: str) -> None:
        super().__init__(text, None, "")

    def __str__(self) -> str:
        return self.key


class DataError(LopError):
    """A data set is missing or damaged."""


class CheckpointError(LopError):
    """A checkpoint or log cannot be used to go on."""


class LogChanged(LopError):
    """Somebody else has written to the log of a run while it was trained."""


class IdentityError(LopError):
    """The folder of a run does not hold the run that it is named after."""


class SourcesChanged(LopError):
    """The user's own modules are not those that a run was begun with."""


class ClaimLost(LopError):
    """Another process has taken this run over, or holds it."""


class Interrupted(LopError):
    """The user (Ctrl-C) or the scheduler asked to stop; the run was saved and can go on."""
