"""What is asked of Prometheus, as far as several dashboards ask it.

Every series of an image is first reduced to one by `max by`, so that two daemons that watch the same registry, or one that
came back under another address, count an image once.
"""

from __future__ import annotations

DAEMON = 'job=~"$job"'
CHOSEN = f'{DAEMON}, registry=~"$registry", repository=~"$repository", tag=~"$tag", platform=~"$platform"'
TEAM = 'team=~"$team"'
"""Only on what the image is; everything else is joined to it."""
INFO = "enoent_image_info"
IMAGE = "source, registry, repository, tag, platform"
LEGEND = "{{repository}}:{{tag}} {{platform}}"
PAGE = "${page}/?repository=${__data.fields.repository:percentencode}&tag=${__data.fields.tag:percentencode}"
"""The fleet page of the daemon, filtered to the image of a row."""
OVER_TIME = "/d/enoent-image?${__url_time_range}&var-repository=${__data.fields.repository:percentencode}"
OVER_TIME += "&var-tag=${__data.fields.tag:percentencode}"
"""The dashboard of one image."""


def image(metric: str, matchers: str = "", labels: str = "", *, smallest: bool = False) -> str:
    """One series for each image that is chosen, keeping `labels` too; `smallest` is the least value of the time shown."""
    by = f"{IMAGE}, {labels}" if labels else IMAGE
    wanted = ", ".join(each for each in (CHOSEN, TEAM if metric == INFO else "", matchers) if each)
    chosen = f"{metric}{{{wanted}}}"
    found = f"min by ({by}) (min_over_time({chosen}[$__range]))" if smallest else f"max by ({by}) ({chosen})"
    return found if metric == INFO else f"({found} and on ({IMAGE}) {INFO}{{{CHOSEN}, {TEAM}}})"


def verdicts(verdict: str) -> str:
    """How many chosen images have it; 0 when none has."""
    counted = image("enoent_image_start_verdict", f'verdict="{verdict}"', "reason")
    return f"count({counted}) or vector(0)"


def largest(metric: str, by: str) -> str:
    """A gauge of the daemon; the largest where several run."""
    return f"max by ({by}) ({metric}{{{DAEMON}}})"


def per_second(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{DAEMON}}}[$__rate_interval]))"


def described(labels: str) -> str:
    """What the chosen images are, one series each, to be joined on.

    Two daemons may see a moved tag at different times; one description is enough, and a second would break the join.
    """
    return f"topk by ({IMAGE}) (1, {image(INFO, labels=labels)})"


def of_team(series: str) -> str:
    """The same series with the team whose image it is."""
    return f"{series} * on ({IMAGE}) group_left (team) {described('team')}"
