"""Every error that this project raises on purpose, and whether a retry can help.

A message says what went wrong, with which object, and what to do about it.
"""

from __future__ import annotations

from pipeline.aws import plain_errors

#: The base classes; the broker layer's errors share them.
PipelineError = plain_errors.PlainError
ConfigError = plain_errors.ConfigError
TransientError = plain_errors.TransientError


class MessageError(PipelineError):
    """A queue message that can't be understood. It belongs in the dead-letter queue, with this reason."""


class PermanentError(PipelineError):
    """The object is the cause: a retry gives the same result, a corrected file does not.

    ``advice`` tells the person who uploaded the file what to do.
    """

    reason = "permanent"
    advice = "Upload a corrected file under the same key."

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        if advice is not None:
            self.advice = advice


class NotAnImage(PermanentError):
    """The bytes are in no supported format."""

    reason = "not-an-image"
    advice = "Check that the file opens in an image viewer, and upload it in one of the formats listed."


class TruncatedImage(PermanentError):
    """The file is shorter than its header says; the pipeline never writes a partly grey picture."""

    reason = "truncated"
    advice = "The upload was probably cut short: upload the file again."


class DamagedImage(PermanentError):
    """The file is complete, but its data is corrupt."""

    reason = "damaged"
    advice = "If an image program opens the file, save it again there and upload that; else look for a better copy."


class UnsupportedImage(PermanentError):
    """An image of an unsupported format or kind, or one whose appearance is ambiguous."""

    reason = "unsupported"
    advice = "Export the image as JPEG or PNG with 8 or 16 bits per sample, and upload that."


class ImageTooLarge(PermanentError):
    """The image exceeds a limit on pixels, bytes or frames, according to its header; it was not decoded."""

    reason = "too-large"
    advice = "Upload a smaller version, or raise the limit that the message names."


class TooCostly(ImageTooLarge):
    """Decoding the file exceeded the limit of memory or CPU time; a retry would do the same."""


class NameTaken(PermanentError):
    """Another object's rendition already has the name that this object's rendition would get."""

    reason = "name-taken"
    advice = "Upload the file under another name."


class KeyTooLong(PermanentError):
    """The object's key leaves no room for its rendition's prefix."""

    reason = "key-too-long"
    advice = "Upload the file under a shorter name."


class NotReadable(PermanentError):
    """The object is in an archive storage class: it must be restored before it can be read."""

    reason = "archived"
    advice = "Restore the object, then enqueue it again."


#: The reason of failures by a setting or a permission: once that is corrected, the object can be processed.
REFUSED = "refused"


class ServiceUnavailable(TransientError):
    """A service failed, refused or did not answer, and may do so for every object, not only for this one.

    The worker, which sees all tasks, decides whether this uses up one of a message's tries.
    """


class ObjectGone(PipelineError):
    """The object was deleted after its event. Not a failure: there is nothing to do."""


class ObjectChanged(PipelineError):
    """The object was overwritten after its event. Not a failure: the newer upload has its own event."""


class OwnOutput(PipelineError):
    """The pipeline wrote the object itself: processing it would loop. Not a failure."""
