"""Ruby and its gems."""

from __future__ import annotations

from analyzers.finding import Severity
from analyzers.rules.rule import Rule

TABLE = (
    Rule(
        "ruby.gem-not-built",
        Severity.LATER,
        "A native gem was built for another Ruby than the image has",
        "RubyGems takes only extensions that were built for its own version and platform, and passes over the gem without them.",
        "Install the gems with the very Ruby image of the run stage (same minor version, same C library).",
        "R30, RubyGems lib/rubygems/basic_specification.rb",
        example="Ignoring nokogiri-1.16.0 because its extensions are not built. Try: gem pristine nokogiri --version 1.16.0",
        evidence="directories extensions/PLATFORM/VERSION of the gems; lib/ruby/VERSION",
    ),
)  # fmt: skip
