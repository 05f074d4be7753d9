"""`#!` lines and what stands behind them."""

from __future__ import annotations

from analyzers.finding import Reason, Severity
from analyzers.rules.rule import Rule

_F = Severity.FATAL

TABLE = (
    Rule(
        "script.no-interpreter-line",
        _F,
        "The script has no #! line",
        "The kernel runs ELF files and files that begin with #!; a byte order mark or blank line before it counts as none.",
        "Begin the file with #!/bin/sh, without a byte order mark, or run it as CMD [\"/bin/sh\", \"/script\"].",
        "K2, K21",
        Reason.SCRIPT,
    ),
    Rule(
        "script.bad-interpreter-line",
        _F,
        "The #! line names no interpreter",
        "The kernel reads 256 bytes; the interpreter's name must stand and end within them.",
        "Write the interpreter's absolute path after #!.",
        "K6, K7",
        Reason.SCRIPT,
    ),
    Rule(
        "script.crlf",
        _F,
        "The #! line ends in a carriage return",
        "To the kernel the CR of a Windows line end is part of the interpreter's name, and there is no such file.",
        "Save the script with Unix line ends (dos2unix, or `* text eol=lf` in .gitattributes).",
        "K8",
        Reason.SCRIPT,
    ),
    Rule(
        "script.interpreter-absent",
        _F,
        "The script's interpreter is not in the image",
        "The kernel reports the missing interpreter as if the script were missing.",
        "Install the interpreter, or name one that the image has.",
        "K9",
        Reason.INTERPRETER_ABSENT,
    ),
    Rule(
        "script.interpreter-unusable",
        _F,
        "The script's interpreter cannot be executed",
        "It is a directory, lacks the execute bit, or its path cannot be walked.",
        "Mend its mode or path.",
        "K9",
        Reason.SCRIPT,
    ),
    Rule(
        "script.interpreter-is-text",
        _F,
        "The script's interpreter is neither a program nor a script",
        "The kernel runs only ELF files and #! scripts.",
        "Name a real interpreter in the #! line.",
        "K11",
        Reason.SCRIPT,
    ),
    Rule(
        "script.too-deep",
        _F,
        "The scripts name each other too deep",
        "The kernel follows five #! lines, no more; a script that names itself never ends.",
        "Name a real interpreter in the #! line.",
        "K11",
        Reason.SCRIPT,
    ),
    Rule(
        "script.env-target-absent",
        _F,
        "`env` does not find the interpreter",
        "The #! line asks env for a program that is not on PATH; everything after `env ` is one name.",
        "Install the interpreter, or use `env -S` for more than one word.",
        "K5",
        Reason.SCRIPT,
    ),
    Rule(
        "script.closed-to-user",
        _F,
        "The interpreter may not read the script",
        "The kernel starts the interpreter, which then opens the script with the user's own permissions.",
        "chmod a+r the script.",
        "C13, K1",
        Reason.PERMISSION,
    ),
    Rule(
        "script.absent",
        _F,
        "The shell does not find the script it is to run",
        "The shell itself starts; the file it is given is not there.",
        "Copy the script into the final stage, or mend its path.",
        "R43",
        Reason.SCRIPT,
    ),
)  # fmt: skip
