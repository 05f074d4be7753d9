"""The command line of the `java` launcher: what it is asked to start, and with which class path.

Mirrors OpenJDK `src/java.base/share/native/libjli/java.c` (JLI_Launch, SelectVersion, ParseArguments) and `args.c` (argument
files, JDK_JAVA_OPTIONS); JDK 8 knows neither of the latter. None wherever something is asked for that is not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from analyzers.lookup import variable

_CLASS_PATH = frozenset((b"-classpath", b"-cp", b"--class-path"))
_MODULE_MAIN = frozenset((b"-m", b"--module"))
_WITH_ARGUMENT = _CLASS_PATH | frozenset(
    b"-p --module-path --upgrade-module-path --add-modules --enable-native-access --limit-modules --add-exports --add-opens "
    b"--add-reads --patch-module --source".split()
)
"""IsWhiteSpaceOption: their argument may be the next word."""
_ENDS = frozenset(
    b"-version --version -help --help -h -? -X --help-extra -fullversion --full-version --list-modules --validate-modules "
    b"--describe-module -d --source".split()
)
"""Options after which nothing is started, and `--source`, which compiles."""
_CHANGES_CLASSES = (
    b"-javaagent:", b"-agentlib:", b"-agentpath:", b"-Xbootclasspath", b"-Djava.system.class.loader=", b"-Djava.class.path=",
    b"--patch-module", b"-Djava.security.manager", b"-XX:SharedArchiveFile", b"-Xshare", b"-XX:Flags", b"-XX:VMOptionsFile",
    b"-Djdk.module", b"-XX:+UseSharedSpaces", b"--upgrade-module-path",
)  # fmt: skip
"""Options that may bring or change classes, or bring options from files that are not read."""
_BLANKS = b" \t\n\v\f\r"
_ARGUMENT_FILES = 9
"""The first release with argument files and JDK_JAVA_OPTIONS."""


class JavaCommand(NamedTuple):
    """What the launcher is asked for. Exactly one of `jar` and `main_class` is set."""

    jar: bytes = b""
    main_class: bytes = b""
    class_path: bytes = b""
    """As written, elements between colons; empty with `jar`."""
    options: tuple[bytes, ...] = ()
    """Options of the JVM in the order it looks at them, JAVA_TOOL_OPTIONS first."""
    notes: tuple[bytes, ...] = ()
    """Lines that the launcher prints before anything else."""
    picked_up: tuple[bytes, ...] = ()
    """Lines that the JVM prints when it begins."""

    @property
    def changes_classes(self) -> bool:
        """Whether an option may bring classes that the class path does not have, or options that are not seen."""
        return any(option.startswith(_CHANGES_CLASSES) for option in self.options)


def read_command(
    argv: Sequence[bytes], env: Sequence[bytes], release: int, read_file: Callable[[bytes], bytes | None]
) -> JavaCommand | None:
    """The command, or None where it starts nothing or something that is not followed. `read_file` gives an argument file."""
    words: list[bytes] | None = list(argv[1:])
    notes: tuple[bytes, ...] = ()
    if release >= _ARGUMENT_FILES:
        more = variable(env, b"JDK_JAVA_OPTIONS")
        words = _expand(words or [], read_file)
        if more is not None and more.strip(_BLANKS):
            notes = (b"NOTE: Picked up JDK_JAVA_OPTIONS: " + more,)
            extra = split_words(more)
            if extra is None or any(word.startswith(b"@") or word in _ENDS for word in extra):
                return None
            words = None if words is None else [*extra, *words]
    if words is None:
        return None
    command = _parse(words, env)
    return None if command is None else _with_environment(command._replace(notes=notes), env)


def _expand(words: list[bytes], read_file: Callable[[bytes], bytes | None]) -> list[bytes] | None:
    """Argument files put in their place, up to the main class; None where one is not known."""
    expanded: list[bytes] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == b"--disable-@files":
            return [*expanded, *words[at:]]
        if word.startswith(b"@@"):
            expanded.append(word[1:])
        elif word.startswith(b"@") and len(word) > 1:
            text = read_file(word[1:])
            inner = None if text is None else split_words(text)
            if inner is None:
                return None
            expanded += inner
        else:
            expanded.append(word)
        if _names_main(expanded):
            return [*expanded, *words[at:]]
    return expanded


def _names_main(words: Sequence[bytes]) -> bool:
    """Whether the words so far end with the main class, after which nothing is expanded."""
    at = 0
    while at < len(words):
        if not words[at].startswith(b"-"):
            return True
        at += 2 if words[at] in _WITH_ARGUMENT or words[at] in _MODULE_MAIN else 1
    return False


def split_words(text: bytes) -> list[bytes] | None:
    """Words of an argument file or of JDK_JAVA_OPTIONS; None where quotes, escapes or comments are used in ways not followed."""
    words: list[bytes] = []
    for line in text.split(b"\n"):
        if line.strip(_BLANKS).startswith(b"#"):
            continue
        if b"\\" in line or b"'" in line or b"#" in line:
            return None
        pieces = line.split(b'"')
        if len(pieces) == 1:
            words += line.split()
        elif len(pieces) == 3 and not pieces[0].strip(_BLANKS) and not pieces[2].strip(_BLANKS):
            words.append(pieces[1])  # a whole line in quotes
        else:
            return None
    return words


def _parse(words: Sequence[bytes], env: Sequence[bytes]) -> JavaCommand | None:
    """ParseArguments: options up to the first word that is none; the last of -jar and -cp says what that word is."""
    jar, options = False, list[bytes]()
    class_path = variable(env, b"CLASSPATH")
    at = 0
    while at < len(words) and words[at].startswith(b"-"):
        word = words[at]
        name, equals, value = word.partition(b"=")
        at += 1
        if word in _ENDS or word in _MODULE_MAIN or (name == b"--module" and equals):
            return None
        if word == b"-jar":
            jar = True
        elif word in _CLASS_PATH or (name == b"--class-path" and equals):
            if not equals:
                if at >= len(words):
                    return None
                value, at = words[at], at + 1
            class_path, jar = value, False
        elif word in _WITH_ARGUMENT:
            if at >= len(words):
                return None
            options.append(word + b"=" + words[at])
            at += 1
        else:
            options.append(word)
    if at >= len(words) or not words[at]:
        return None
    if jar:
        return JavaCommand(jar=words[at], options=tuple(options))
    if words[at].endswith(b".java"):
        return None  # compiled and run in memory
    return JavaCommand(main_class=words[at], class_path=b"." if class_path is None else class_path, options=tuple(options))


def _with_environment(command: JavaCommand, env: Sequence[bytes]) -> JavaCommand | None:
    """Arguments::parse_java_tool_options_environment_variable and its kin (HotSpot `runtime/arguments.cpp`)."""
    options, picked_up = command.options, list[bytes]()
    for name, before in ((b"JAVA_TOOL_OPTIONS", True), (b"_JAVA_OPTIONS", False)):
        value = variable(env, name)
        if value is None:
            continue
        if any(byte in value for byte in b"\"'"):
            return None
        picked_up.append(b"Picked up " + name + b": " + value)
        options = (*value.split(), *options) if before else (*options, *value.split())
    return command._replace(options=options, picked_up=tuple(picked_up))
