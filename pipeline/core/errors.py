"""Every error that this project raises on purpose, and whether trying again can help.

A message says what went wrong, with which object, and what to do about it.
"""

from __future__ import annotations

from pipeline.aws import plain_errors

#: Beneath all that is raised on purpose, the broker layer's errors too.
PipelineError = plain_errors.PlainError
ConfigError = plain_errors.ConfigError
TransientError = plain_errors.TransientError


class MessageError(PipelineError):
    """A queue message that can't be understood. It belongs in the dead-letter queue, with this reason."""


class PermanentError(PipelineError):
    """The object itself is at fault: trying again gives the same result, a better file does not.

    ``advice`` tells the person who uploaded the file what to do.
    """

    reason = "permanent"
    advice = "Upload a corrected file under the same key."

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        if advice is not None:
            self.advice = advice


class NotAnImage(PermanentError):
    """The bytes are not in any format that is read."""

    reason = "not-an-image"
    advice = "Check that the file opens in an image viewer, and upload it in one of the formats listed."


class TruncatedImage(PermanentError):
    """The file is shorter than it says itself; a partly grey picture is never written."""

    reason = "truncated"
    advice = "The upload was probably cut short: upload the file again."


class DamagedImage(PermanentError):
    """The file is as long as it says, but what is in it makes no sense."""

    reason = "damaged"
    advice = "If the file opens in an image program, save it anew there and upload that; else look for a better copy."


class UnsupportedImage(PermanentError):
    """An image of a format or kind that is not read, or that has no one right way to be shown."""

    reason = "unsupported"
    advice = "Export the image as JPEG or PNG with 8 or 16 bits per sample, and upload that."


class ImageTooLarge(PermanentError):
    """A limit on pixels, bytes or frames was exceeded; found in the header, before decoding."""

    reason = "too-large"
    advice = "Upload a smaller version, or raise the limit that the message names."


class TooCostly(ImageTooLarge):
    """Decoding the file took more memory or CPU time than one image may; the next try would end the same way."""


class NameTaken(PermanentError):
    """Another object's rendition already has the name that this object's rendition would get."""

    reason = "name-taken"
    advice = "Upload the file under another name."


class KeyTooLong(PermanentError):
    """The object's key leaves no room for the prefix that its rendition's key begins with."""

    reason = "key-too-long"
    advice = "Upload the file under a shorter name."


class NotReadable(PermanentError):
    """The object is in a storage class that has to be restored before it can be read."""

    reason = "archived"
    advice = "Restore the object, then enqueue it again."


class ServiceUnavailable(TransientError):
    """A service failed, refused or did not answer, and may do so for every object: nothing says that it is this one's.

    Whether it costs a message one of its tries is for whoever sees all of them to say.
    """


class ObjectGone(PipelineError):
    """The object was deleted after its event was sent. Not a failure: there is nothing to do."""


class ObjectChanged(PipelineError):
    """The object was overwritten after its event was sent. Not a failure: the newer upload has its own event."""


class OwnOutput(PipelineError):
    """The object was written by the pipeline: making something of it would never end. Not a failure."""
