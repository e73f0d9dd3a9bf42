"""What makes bash, zsh and fish complete the words of a command, written from its parser."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence

from memgen_eval.errors import InputError

SHELLS = ("bash", "zsh", "fish")
FLAG = "--completion"
PLACES = ("FILE", "DIR", "REPORT")  # metavars of options that take a path
SETS = ("train", "test", "features", "data_dir")  # options that take one too, or a name
Words = Mapping[str, Sequence[str]]  # what may stand after an option, by the name that the parser gives it

BASH = """\
{function}() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" flags={flags} words="" option="" several="" i
    {command_flags}
    for ((i = COMP_CWORD - 1; i > 0; i--)); do
        if [[ "${{COMP_WORDS[i]}}" == -* ]]; then option="${{COMP_WORDS[i]}}"; break; fi
        several=1
    done
    case "$option" in
{cases}
        *) option="" ;;
    esac
    if [[ "$cur" == -* ]]; then COMPREPLY=($(compgen -W "$flags" -- "$cur")); return; fi
    if ((COMP_CWORD == 1)); then words={commands}; fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [[ "$option" != none ]]; then
        local IFS=$'\\n'
        COMPREPLY+=($(compgen -f -- "$cur"))
    fi
}}
complete -o filenames -F {function} {program}
"""
ZSH = """\
#compdef {program}
{function}() {{
    if ((CURRENT == 2)); then compadd -- {commands}; fi
    case "${{words[2]}}" in
{cases}
        *) _arguments -s {specs} '*:file:_files' ;;
    esac
}}
compdef {function} {program}
"""


def asked_shell(typed: Sequence[str]) -> str | None:
    """The shell whose words a command line asks to have completed, if it does. Raises InputError for an unknown one."""
    for place, word in enumerate(typed):
        flag, _, name = word.partition("=")
        if flag == FLAG:
            shell = name or (typed[place + 1] if place + 1 < len(typed) else "")
            if shell not in SHELLS:
                raise InputError(f"{FLAG} is {shell!r}, expected one of {', '.join(SHELLS)}")
            return shell
    return None


def completion(
    shell: str, parser: argparse.ArgumentParser, words: Words, commands: Mapping[str, argparse.ArgumentParser]
) -> str:
    """A script for one of `SHELLS`: ``source <(memgen-eval --completion bash)``.

    `words` are what options take, by the parser's names of them; `commands` are the parsers of what may stand in the
    first place.
    """
    write = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return write(parser, words, commands)


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings]


def _values(action: argparse.Action, words: Words) -> list[str]:
    """What may stand after an option, where that is known."""
    return [str(value) for value in action.choices or words.get(action.dest, ())]


def _takes_path(action: argparse.Action) -> bool:
    return action.nargs != 0 and (action.metavar in PLACES or action.dest in SETS)


def _bash(parser: argparse.ArgumentParser, words: Words, commands: Mapping[str, argparse.ArgumentParser]) -> str:
    cases = []
    for action in _options(parser):
        if action.nargs == 0:
            continue
        known, is_path = _values(action, words), _takes_path(action)
        if is_path and not known and action.nargs != "+":
            continue  # as where no option stands
        told = f"words={shlex.quote(' '.join(known))}; {'' if is_path else 'option=none; '}"
        body = f"{{ {told}}}" if action.nargs == "+" else f'[[ -n "$several" ]] && option="" || {{ {told}}}'
        cases.append(f"        {'|'.join(action.option_strings)}) {body} ;;")
    own = [
        f'if [[ "${{COMP_WORDS[1]}}" == {name} ]]; then flags={_flags(command)}; fi'
        for name, command in commands.items()
    ]
    return BASH.format(
        function=_function(parser),
        program=parser.prog,
        flags=_flags(parser),
        command_flags="\n    ".join(own) or ":",
        cases="\n".join(cases),
        commands=shlex.quote(" ".join(commands)),
    )


def _flags(parser: argparse.ArgumentParser) -> str:
    return shlex.quote(" ".join(flag for action in _options(parser) for flag in action.option_strings))


def _zsh(parser: argparse.ArgumentParser, words: Words, commands: Mapping[str, argparse.ArgumentParser]) -> str:
    cases = [
        f"        {name}) _arguments -s {_zsh_specs(command, {})} '*:file:_files' ;;"
        for name, command in commands.items()
    ]
    return ZSH.format(
        function=_function(parser),
        program=parser.prog,
        commands=" ".join(commands),
        cases="\n".join(cases),
        specs=_zsh_specs(parser, words),
    )


def _zsh_specs(parser: argparse.ArgumentParser, words: Words) -> str:
    specs = []
    for action in _options(parser):
        told = re.sub(r"([\[\]:\\])", r"\\\1", _help(action))
        known = _values(action, words)
        takes = "" if action.nargs == 0 else f":{action.metavar or action.dest}:"
        takes += f"({' '.join(known)})" if known and takes and not _takes_path(action) else ""
        if takes and _takes_path(action):
            takes += "{compadd -- " + " ".join(known) + "; _files}" if known else "_files"
        many = "*" if action.nargs == "+" or isinstance(action, argparse._AppendAction) else ""
        specs += [shlex.quote(f"{many}{flag}[{told}]{takes}") for flag in action.option_strings]
    return " ".join(specs)


def _fish(parser: argparse.ArgumentParser, words: Words, commands: Mapping[str, argparse.ArgumentParser]) -> str:
    names, lines = " ".join(commands), []
    if commands:
        lines.append(f"complete -c {parser.prog} -n '__fish_is_nth_token 1' -a {shlex.quote(names)}")
    for command, condition in (
        (parser, f"not __fish_seen_subcommand_from {names}" if names else "true"),
        *((command, f"__fish_seen_subcommand_from {name}") for name, command in commands.items()),
    ):
        for action in _options(command):
            flags = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in action.option_strings]
            known = (
                f" -a {shlex.quote(' '.join(found))}" if (found := _values(action, words)) and action.nargs != 0 else ""
            )
            takes = "" if action.nargs == 0 else " -r -F" if _takes_path(action) else " -x"
            told = shlex.quote(_help(action))
            line = f"complete -c {parser.prog} -n {shlex.quote(condition)} {' '.join(flags)}{takes}{known} -d {told}"
            lines.append(line)
    return "\n".join(lines) + "\n"


def _help(action: argparse.Action) -> str:
    """The first words of an option's help, in one line, as argparse would print it."""
    return " ".join((action.help or "").replace("%%", "%").split())


def _function(parser: argparse.ArgumentParser) -> str:
    return "_" + parser.prog.replace("-", "_")
