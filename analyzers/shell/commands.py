"""Commands that a shell looks for: where they are, what the shell says when they are not, and what programs may write.

Mirrors dash 0.5.12 (`exec.c`), bash 5.2 (`execute_cmd.c`, `findcmd.c`) and BusyBox 1.35 (`shell/ash.c`), whose words were
taken from runs of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from analyzers.accounts import Credentials
from analyzers.facts import Kind
from analyzers.finding import Attempt, Step, show
from analyzers.handover.place import Surroundings
from analyzers.kernel import Execution, execute
from analyzers.shell.state import Field, Gap, State, Writes
from analyzers.shell.tree import Dialect
from analyzers.trail import attempt

_SHOWN_ATTEMPTS = 64


def _names(text: str) -> frozenset[bytes]:
    return frozenset(text.encode().split())


_COMMON = (
    ". : [ alias bg break cd command continue echo eval exec exit export false fg getopts hash jobs kill local printf pwd read "
    "readonly return set shift test times trap true type ulimit umask unalias unset wait"
)
BUILTINS = {
    Dialect.DASH: _names(_COMMON + " chdir fc"),
    Dialect.ASH: _names(_COMMON + " [[ chdir help history let source"),
    Dialect.BASH: _names(
        _COMMON + " bind builtin caller compgen complete compopt declare dirs disown enable fc help history let logout mapfile "
        "popd pushd readarray shopt source suspend typeset"
    ),
}
BUSYBOX_APPLETS = _names(
    "[ [[ acpid adjtimex ar arch arp arping awk base32 base64 basename bc blkdiscard blkid blockdev brctl bunzip2 bzcat bzip2 cal "
    "cat chattr chgrp chmod chown chpasswd chroot chvt cksum clear cmp comm cp cpio crond crontab cryptpw cttyhack cut date dc dd "
    "deallocvt depmod devmem df diff dirname dmesg dnsdomainname dos2unix du dumpkmap dumpleases echo ed egrep env expand expr "
    "factor fallocate false fatattr fbset fdflush fdformat fdisk fgconsole fgrep find findfs flock fold free freeramdisk fsck "
    "fsfreeze fstrim fsync ftpget ftpput fuser getfattr getopt getty grep groups gunzip gzip halt hd head hexdump hostid hostname "
    "httpd hwclock i2cdetect i2cdump i2cget i2cset id ifconfig ifdown ifup init inotifyd insmod install ionice iostat ip ipaddr "
    "ipcalc ipcrm ipcs iplink ipneigh iproute iprule kbd_mode kill killall killall5 klogd last less link linux32 linux64 ln "
    "loadfont loadkmap logger login logname logread losetup ls lsattr lsmod lsof lspci lsscsi lsusb lzcat lzma lzop lzopcat "
    "makemime md5sum mdev mesg microcom mkdir mkdosfs mke2fs mkfifo mknod mkpasswd mkswap mktemp modinfo modprobe more mount "
    "mountpoint mpstat mt mv nameif nanddump nandwrite nbd-client nc netcat netstat nice nl nmeter nohup nologin nproc nslookup "
    "nsenter nuke od openvt partprobe passwd paste patch pgrep pidof ping ping6 pipe_progress pivot_root pkill pmap poweroff "
    "printenv printf ps pscan pstree pwd pwdx rdate rdev readahead readlink realpath reboot reformime remove-shell renice reset "
    "resize rev rm rmdir rmmod route rpm rpm2cpio rtcwake run-init run-parts sed sendmail seq setarch setconsole setfattr "
    "setfont setkeycodes setlogcons setpriv setserial setsid sh sha1sum sha256sum sha3sum sha512sum showkey shred shuf slattach "
    "sleep sort split ssl_client start-stop-daemon stat static-sh strings stty su sulogin sum svc svok swapoff swapon switch_root "
    "sync sysctl syslogd tac tail tar taskset tc tcpsvd tee telnet telnetd test tftp tftpd time timeout top touch tr traceroute "
    "traceroute6 tree true truncate ts tty ttysize tunctl tune2fs udhcpc udhcpc6 udhcpd udpsvd uevent umount uname unexpand "
    "uniq unix2dos unlink unlzma unlzop unshare unxz unzip uptime users usleep uudecode uuencode vconfig vi vlock volname w wall "
    "watch watchdog wc wget which who whoami xargs xxd xz xzcat yes zcat zcip adduser addgroup deluser delgroup ash hush lpd lpq "
    "lpr popmaildir raidautorun rfkill runsv runsvdir scriptreplay selinuxenabled setuidgid softlimit chpst envdir envuidgid "
    "crc32 minips nanddump tail ubirename ubiupdatevol beep bootchartd chcon conspy dpkg dpkg-deb dnsd eject fakeidentd "
    "fgconsole flash_eraseall flash_lock flash_unlock flashcp getenforce getsebool hdparm inetd load_policy makedevs man "
    "matchpathcon mim readprofile restorecon setenforce setfiles setsebool sestatus runcon sv svlogd tcpsvd ubiattach "
    "ubidetach ubimkvol ubirmvol ubirsvol add-shell"
)
"""What a BusyBox may have inside and run without looking for a file."""

_ONLY_READ = _names(
    "[ arch awk base64 basename cat cksum cmp comm cut date df diff dirname du echo egrep expr false fgrep file free getconf "
    "getent getopt grep groups head hexdump hostname id jq kill ldd less locale logger logname ls md5sum mktemp mountpoint nc nl "
    "nproc nslookup od paste pgrep pidof ping pkill printenv printf ps pwd readlink realpath rev seq sha1sum sha256sum sha512sum "
    "sleep sort stat strings sum tac tail test tr true tty uname uniq uptime wc which who whoami xxd yes zcat usleep umount mount "
    "sysctl setsid stty tput clear killall locale pg_isready lsof nl column look"
)
_WRITES_ARGUMENTS = _names(
    "chgrp chmod chown cp install ln mkdir mkfifo mknod mv rm rmdir sed tee touch truncate unlink find gzip gunzip bzip2 xz"
)

BASH_WORDS = {
    "EACCES": b"Permission denied",
    "ELOOP": b"Too many levels of symbolic links",
    "ENAMETOOLONG": b"File name too long",
    "ENOENT": b"No such file or directory",
    "ENOTDIR": b"Not a directory",
}


class Sought(NamedTuple):
    """A command that was looked for."""

    executed: Execution
    step: Step
    path: bytes
    """What was handed to execve."""
    certain: bool
    """Nothing can have been written at any of the places before."""
    directory: bool = False


def seek(place: Surroundings, state: State, name: bytes, argv: Sequence[bytes], creds: Credentials) -> Sought | None:
    """The search for a command and its execve; None where PATH or the directory is unknown."""
    places = candidates(name, state)
    if places is None or state.cwd is None:
        return None
    attempts: list[Attempt] = []
    last = Execution((), error="ENOENT", culprit=name)
    denied, certain, tried = False, True, name
    environment = state.environment()[0]
    for candidate in places:
        absolute = candidate if candidate.startswith(b"/") else state.cwd.rstrip(b"/") + b"/" + candidate
        certain = certain and not state.writes.may_hold(absolute)
        found = place.rootfs.resolve(candidate, cwd=state.cwd, creds=creds)
        if len(attempts) < _SHOWN_ATTEMPTS:
            attempts.append(attempt(place.rootfs, "PATH" if candidate != name else "path", candidate, found))
        done = execute(
            place.rootfs,
            candidate,
            argv,
            cwd=state.cwd,
            creds=creds,
            profile=place.profile,
            architecture=place.architecture,
            env=environment,
        )
        if found.node is not None and found.node.entry.kind == Kind.FILE:
            certain = certain and not state.writes.may_hold(b"/" + found.node.path)
        if done.error not in ("EACCES", "ENOENT", "ENOTDIR"):
            return Sought(done, Step("lookup", show(name), ok=not done.error, attempts=tuple(attempts)), candidate, certain)
        denied = denied or done.error == "EACCES"
        if found.node is not None:
            last, tried = done, candidate
    if denied:
        last = Execution(last.steps, error="EACCES", cause=last.cause, subject=last.subject, culprit=last.culprit)
    node = place.rootfs.resolve(tried, cwd=state.cwd).node
    directory = node is not None and node.entry.kind == Kind.DIRECTORY
    return Sought(last, Step("lookup", show(name), ok=False, attempts=tuple(attempts)), tried, certain, directory)


def candidates(name: bytes, state: State) -> tuple[bytes, ...] | None:
    """Where a command is looked for, in order; None where PATH is unknown."""
    if b"/" in name:
        return (name,)
    path = state.get(b"PATH")
    if path is None:
        path = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    if not isinstance(path, bytes):
        return None
    return tuple(element.rstrip(b"/") + b"/" + name if element not in (b"", b".") else name for element in path.split(b":"))


class Speaker(NamedTuple):
    """How a shell names itself and its line."""

    dialect: Dialect
    zero: bytes
    """`$0`."""
    text: bool
    """It runs the text of `-c`: BusyBox's ash counts its lines from 0."""

    def at(self, line: int, command: bytes = b"") -> bytes:
        """The beginning of a complaint, of a builtin where `command` is given."""
        said = command + b": " if command else b""
        if self.dialect is Dialect.DASH:
            return self.zero + b": %d: " % line + said
        if self.dialect is Dialect.BASH:
            return self.zero + b": line %d: " % line + said
        number = line - self.text
        return self.zero + b": " + said + (b"line %d: " % number if number or command else b"")


def refusal(speaker: Speaker, name: bytes, sought: Sought, line: int, *, replacing: bool) -> tuple[tuple[bytes, ...], int]:
    """(lines, exit status) of a command that cannot be run; `replacing`: by `exec`."""
    absent = sought.executed.error in ("ENOENT", "ENOTDIR")
    builtin = b"exec" if replacing else b""
    if speaker.dialect is not Dialect.BASH:
        said = b": not found" if absent else b": Permission denied"
        return (speaker.at(line, builtin) + name + said,), 127 if absent else 126
    if sought.executed.error == "ENOENT" and sought.executed.subject and sought.executed.cause != "path.absent":
        found = sought.executed.cause.startswith(("script.", "elf."))
        if found:
            return (speaker.at(line) + sought.path + b": cannot execute: required file not found",), 127
    if absent and b"/" not in name:
        said = name + (b": not found" if replacing else b": command not found")
        return (speaker.at(line, builtin) + said,), 127
    words = b"Is a directory" if sought.directory else BASH_WORDS[sought.executed.error]
    shown = sought.path if b"/" not in name else name
    first = speaker.at(line) + shown + b": " + words
    if absent:
        return (first,), 127
    if replacing:
        return (first, speaker.at(line, builtin) + shown + b": cannot execute: " + words), 126
    return (first,), 126


def written(name: bytes, arguments: Sequence[Field], state: State) -> Writes:
    """What a program may write, for all that is known."""
    if name == b"sed" and not any(isinstance(each, bytes) and each.startswith((b"-i", b"--in-place")) for each in arguments):
        return Writes()
    if name == b"find" and not {b"-delete", b"-exec", b"-execdir", b"-ok"}.intersection(
        each for each in arguments if isinstance(each, bytes)
    ):
        return Writes()
    if name in _ONLY_READ:
        return Writes()
    if name not in _WRITES_ARGUMENTS or Gap.MANY in arguments or Gap.ONE in arguments or state.cwd is None:
        return Writes(anywhere=True)
    paths = [each for each in arguments if isinstance(each, bytes) and not each.startswith(b"-")]
    return Writes(_absolute(each, state.cwd) for each in paths)


def _absolute(path: bytes, cwd: bytes) -> bytes:
    joined = path if path.startswith(b"/") else cwd.rstrip(b"/") + b"/" + path
    parts: list[bytes] = []
    for part in joined.split(b"/"):
        if part == b"..":
            parts = parts[:-1]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/" + b"/".join(parts)


def absolute(path: bytes, cwd: bytes) -> bytes:
    """A path written as the shell would name it from the root, links not followed."""
    return _absolute(path, cwd)
