"""HEALTHCHECK: whether its command can be run at all, foretold like a start of its own (failures 47).

The engine runs it in the container with the image's environment, user and directory, as `docker exec` would. What the check
then finds out is not looked into.
"""

from __future__ import annotations

from collections.abc import Iterator

from analyzers.finding import Finding, State, show
from analyzers.oci import ImageConfig
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs
from analyzers.rules import RULES
from analyzers.start import Overrides, Start, foretell_start
from analyzers.trail import show_path

_DEFAULT_SHELL = ("/bin/sh", "-c")


def health_findings(rootfs: Rootfs, config: ImageConfig, profile: HostProfile, overrides: Overrides) -> Iterator[Finding]:
    """At most one finding: that the check fails however well the program does."""
    test = () if config.healthcheck is None else config.healthcheck.test
    if len(test) < 2 or test[0] not in ("CMD", "CMD-SHELL"):
        return
    shell = test[0] == "CMD-SHELL"
    command = (*(config.shell or _DEFAULT_SHELL), test[1]) if shell else test[1:]
    asked = Overrides(entrypoint=command, cmd=(), env=overrides.env, user=overrides.user, working_dir=overrides.working_dir)
    start = foretell_start(rootfs, config, profile, asked)
    rule_id, message = _failure(start, shell=shell)
    if not rule_id:
        return
    rule = RULES[rule_id]
    subject = show_path(start.subject) if start.subject else ""
    yield Finding(
        rule.id, rule.severity, f"HEALTHCHECK: {message}", subject, trail=start.steps, why=rule.why, remedies=(rule.remedy,)
    )


def _failure(start: Start, *, shell: bool) -> tuple[str, str]:
    """(rule, the line that says why); empty where the check may succeed."""
    if start.state is State.FAILS:
        if shell and start.cause.startswith("path."):
            return "health.shell-absent", show(start.message)
        absent = start.cause in ("path.absent", "path.not-found", "shell.command-absent", "wrapper.command-absent")
        return "health.command-absent" if absent else "health.fails", show(start.message) or "it crashes"
    # `curl ... || exit 1` ends itself after a command that is not there.
    if start.state is State.STARTS and start.lines and any(each.rule == "shell.gives-up" for each in start.remarks):
        return "health.command-absent", show(start.lines[-1])
    return "", ""
