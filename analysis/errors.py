"""The one exception of this package: something about the input that the user can put right."""


class AnalysisError(Exception):
    """A sweep, a metric or an option cannot be used; the message says which, where and what is possible."""
