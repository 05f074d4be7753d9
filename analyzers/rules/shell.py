"""What shell scripts and wrappers do before the program they are there for."""

from __future__ import annotations

from analyzers.finding import Reason, Severity
from analyzers.rules.rule import Rule

_F, _L, _W = Severity.FATAL, Severity.LATER, Severity.WARNING

TABLE = (
    Rule(
        "shell.command-absent",
        _F,
        "The script ends at a command that is not in the image",
        "The shell looks for it along PATH, finds nothing, and ends with status 127: by `exec`, by `set -e`, or because it is "
        "the last command.",
        "Install the command, or take it out of the script.",
        "failures 13, dash exec.c, bash execute_cmd.c, BusyBox shell/ash.c",
        Reason.SCRIPT,
    ),
    Rule(
        "shell.command-not-executable",
        _F,
        "The script ends at a command that may not be executed",
        "The file is there; its execute bit is not, or a directory on the way is closed to the user. The shell ends with status "
        "126.",
        "chmod +x the file, or run it by its interpreter.",
        "failures 15",
        Reason.PERMISSION,
    ),
    Rule(
        "shell.file-absent",
        _F,
        "The script reads a file that is not in the image",
        "dash and BusyBox's ash end when `.` finds no file; bash does so with `set -e`.",
        "Add the file, or test for it before it is read.",
        "dash main.c, BusyBox shell/ash.c",
        Reason.SCRIPT,
    ),
    Rule(
        "shell.directory-absent",
        _F,
        "The script goes to a directory that is not in the image",
        "`cd` fails, and the script ends with it.",
        "Make the directory in the build, or in the script.",
        "dash cd.c, bash builtins/cd.def, BusyBox shell/ash.c",
        Reason.SCRIPT,
    ),
    Rule(
        "shell.wants-absent-command",
        _W,
        "A script on the way wants a command that is not in the image",
        "The shell says so and goes on, without what the command was there for.",
        "Install the command, or take it out of the script.",
        "failures 13",
    ),
    Rule(
        "shell.gives-up",
        _W,
        "The script ends itself before its program is run",
        "With nothing but the image's own environment and command it ends with this status; it may want a variable, an argument "
        "or a mount that is given when it is run.",
        "Give what it asks for, or set it in the image.",
        "analyzers/shell",
    ),
    Rule(
        "shell.may-fail",
        _W,
        "One of the ways through the script fails",
        "Which way is taken cannot be told from the image.",
        "Install what is wanted on that way.",
        "analyzers/shell",
    ),
    Rule(
        "wrapper.command-absent",
        _F,
        "A wrapper is given a program that is not in the image",
        "It runs, looks for its command along PATH, and finds nothing.",
        "Install the program, or mend its name or PATH.",
        "failures 16",
        Reason.PATH,
    ),
    Rule(
        "wrapper.command-not-executable",
        _F,
        "A wrapper is given a program that may not be executed",
        "The file is there; its execute bit is not, or it is nothing that can be run.",
        "chmod +x the file.",
        "failures 15",
        Reason.PERMISSION,
    ),
    Rule(
        "wrapper.user-absent",
        _F,
        "A wrapper is to become a user who is not in the image",
        "The name is in neither /etc/passwd nor /etc/group of the image.",
        "Add the user in the final stage of the build, or give a number.",
        "failures 46",
        Reason.USER,
    ),
    Rule(
        "wrapper.user-not-permitted",
        _F,
        "A wrapper may not become another user",
        "The container already runs as a user who is not root, and only root may change to another one.",
        "Take USER out of the image, or the wrapper out of the command.",
        "gosu, setgroups(2)",
        Reason.USER,
    ),
    Rule(
        "health.command-absent",
        _L,
        "HEALTHCHECK wants a command that is not in the image",
        "Every check fails, and the container is called unhealthy.",
        "Install the command, or check with what the image has.",
        "failures 47",
    ),
    Rule(
        "health.shell-absent",
        _L,
        "HEALTHCHECK wants a shell that is not in the image",
        "The shell form runs /bin/sh; every check fails, and the container is called unhealthy.",
        "Write HEALTHCHECK CMD as a JSON array.",
        "failures 47, failures 17",
    ),
)
