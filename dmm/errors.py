"""The one exception that is meant for people."""


class DmmError(Exception):
    """Something the user can mend.

    The message names the cause, the value and the way out, in the same words in every door: the
    trainer prints it and ends with exit code 2, ComfyUI shows it on the node, the WebUI as a
    notice.
    """
