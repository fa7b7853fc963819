"""The command `completion`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional


@dataclass(frozen=True)
class Completion:
    """Asks for the script of a shell, which names all commands: `commands.dispatch` prints it."""

    shell: str


def completion(shell: Positional[Literal["bash", "zsh", "fish"]]) -> Completion:
    """Print a script that completes commands, options, methods and files in a shell.

    Args:
        shell: bash (add the script to ~/.bashrc, or write it to a file of bash-completion), zsh (write it to a file
            _scoredistill in a directory of $fpath) or fish (write it to
            ~/.config/fish/completions/scoredistill.fish).
    """
    return Completion(shell)
