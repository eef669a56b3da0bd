"""What can go wrong for a user, each with its exit code and a hint at the way out."""

from __future__ import annotations


def one_line(text: object) -> str:
    """Names of files and tensors may hold anything: what would break the line or the terminal is written out."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line; the name of its class where it says nothing."""
    said = str(error).strip()
    return one_line(said.splitlines()[0]) if said else type(error).__name__


class DalrError(Exception):
    """Base of every error a user can meet: one line that says what is wrong, one that says what to do.

    Attributes:
        message: What is wrong, in one sentence that names the argument, file or layer.
        hint: What to do about it; empty when the message says it already.
        exit_code: The exit status of the command line.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        message, hint = one_line(message), one_line(hint)
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint

    def reword(self, message: str, hint: str) -> None:
        """Says the same in other words, to a reader of another language."""
        DalrError.__init__(self, message, hint)


class InputError(DalrError):
    """The user's input cannot be used: a file, a sample, an option, a full disk."""

    exit_code = 2


class TargetError(DalrError):
    """The target or the budget cannot be met."""

    exit_code = 3


class VerificationError(DalrError):
    """The written model does not behave like the original."""

    exit_code = 4


class NothingToGainError(DalrError):
    """No layer of the model can be made smaller."""

    exit_code = 5
