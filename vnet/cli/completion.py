"""``vnet completion``: the script that completes vnet's command line in bash, zsh or fish."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import typer

__all__ = ["add_to"]

_BASH = r"""# Completion of vnet in bash.  In ~/.bashrc: eval "$(vnet completion bash)"
_vnet() {
    local line word files= IFS=$'\n'
    local -a words=()
    COMPREPLY=()
    # Words stand there as they were typed, with their quotes.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        word=${word//[\'\"\\]/}
        words+=("$word")
    done
    while IFS= read -r line; do
        line=${line%%$'\t'*}
        case $line in
            :files) compopt -o default; return ;;
            */*|*\ *) files=yes; line=${line%/} ;;
        esac
        COMPREPLY+=("$line")
    done < <("$1" _complete -- "${words[@]}" 2>/dev/null)
    # Quotes blanks, and puts a slash and no blank behind a folder.
    [[ -z $files ]] || compopt -o filenames
}
complete -F _vnet vnet
"""

_ZSH = r"""#compdef vnet
# Completion of vnet in zsh.  In ~/.zshrc, after compinit: eval "$(vnet completion zsh)"
# or in a folder of $fpath, as a file called _vnet.
_vnet() {
    local line name about
    local -a words_before names folders
    words_before=("${(@Q)words[2,CURRENT-1]}")
    for line in "${(@f)$(${(Q)~words[1]} _complete -- "${words_before[@]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
        name=${line%%$'\t'*}
        about=${line#*$'\t'}
        case $name in
            '') ;;
            :files) _files; return ;;
            */) folders+=("$name") ;;
            *) names+=("${name//:/\\:}${about:+:$about}") ;;
        esac
    done
    local found=1
    (( $#names )) && _describe 'vnet' names && found=0
    (( $#folders )) && compadd -S '' -- "${folders[@]}" && found=0
    return found
}
if [[ $funcstack[1] == _vnet ]]; then _vnet "$@"; else compdef _vnet vnet; fi
"""

_FISH = r"""# Completion of vnet in fish.  Once: vnet completion fish > ~/.config/fish/completions/vnet.fish
function __vnet_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -q current[1]; or set current ''
    set -l lines ($before[1] _complete -- $before[2..-1] $current 2>/dev/null)
    if test "$lines[1]" = :files
        __fish_complete_path $current
    else if set -q lines[1]
        printf '%s\n' $lines
    end
end
complete --command vnet --no-files --arguments '(__vnet_complete)'
"""

_SCRIPTS: Mapping[str, str] = MappingProxyType({"bash": _BASH, "zsh": _ZSH, "fish": _FISH})


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line, and the one that its scripts call."""
    app.command("completion", short_help="Print the script that completes vnet in a shell.")(completion)
    app.command(
        "_complete",
        hidden=True,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )(complete)


def _shells(incomplete: str) -> list[str]:
    return [shell for shell in _SCRIPTS if shell.startswith(incomplete)]


def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="Your shell.", autocompletion=_shells)],
) -> None:
    """Print the script that completes verbs, options, labs, nodes and files in bash, zsh or fish.

    For bash, put eval "$(vnet completion bash)" into ~/.bashrc; for zsh the same with zsh into ~/.zshrc, after
    compinit; for fish, run vnet completion fish > ~/.config/fish/completions/vnet.fish once.

    Example: vnet completion bash
    """
    if shell not in _SCRIPTS:
        from vnet.lab.tree import did_you_mean

        close, known = did_you_mean(shell, _SCRIPTS), ", ".join(_SCRIPTS)
        raise typer.BadParameter(f"there is no completion for {shell!r}{close}; expected one of {known}")
    print(_SCRIPTS[shell], end="", flush=True)


def complete(words: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Print what the last word can become.  Silent whatever happens: somebody is typing."""
    from vnet.cli.completing import candidates

    with contextlib.suppress(Exception):
        for name, about in candidates(words or [""]):
            # What shows up in somebody's command line is neither a line break nor an escape sequence.
            if name.isprintable():
                sys.stdout.write(f"{name}\t{' '.join(about.split())}\n" if about else f"{name}\n")
        sys.stdout.flush()
