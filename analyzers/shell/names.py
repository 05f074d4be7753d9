"""Names that shells and BusyBox have inside, and programs by what they may write."""

from __future__ import annotations

from analyzers.shell.tree import Dialect


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
    "[ [[ acpid adjtimex ar arch arp arping awk base32 base64 basename bc blkdiscard blkid blockdev brctl bunzip2 bzcat "
    "bzip2 cal cat chattr chgrp chmod chown chpasswd chroot chvt cksum clear cmp comm cp cpio crond crontab cryptpw "
    "cttyhack cut date dc dd deallocvt depmod devmem df diff dirname dmesg dnsdomainname dos2unix du dumpkmap dumpleases "
    "echo ed egrep env expand expr factor fallocate false fatattr fbset fdflush fdformat fdisk fgconsole fgrep find findfs "
    "flock fold free freeramdisk fsck fsfreeze fstrim fsync ftpget ftpput fuser getfattr getopt getty grep groups gunzip "
    "gzip halt hd head hexdump hostid hostname httpd hwclock i2cdetect i2cdump i2cget i2cset id ifconfig ifdown ifup init "
    "inotifyd insmod install ionice iostat ip ipaddr ipcalc ipcrm ipcs iplink ipneigh iproute iprule kbd_mode kill killall "
    "killall5 klogd last less link linux32 linux64 ln loadfont loadkmap logger login logname logread losetup ls lsattr "
    "lsmod lsof lspci lsscsi lsusb lzcat lzma lzop lzopcat makemime md5sum mdev mesg microcom mkdir mkdosfs mke2fs mkfifo "
    "mknod mkpasswd mkswap mktemp modinfo modprobe more mount mountpoint mpstat mt mv nameif nanddump nandwrite nbd-client "
    "nc netcat netstat nice nl nmeter nohup nologin nproc nslookup nsenter nuke od openvt partprobe passwd paste patch "
    "pgrep pidof ping ping6 pipe_progress pivot_root pkill pmap poweroff printenv printf ps pscan pstree pwd pwdx rdate "
    "rdev readahead readlink realpath reboot reformime remove-shell renice reset resize rev rm rmdir rmmod route rpm "
    "rpm2cpio rtcwake run-init run-parts sed sendmail seq setarch setconsole setfattr setfont setkeycodes setlogcons "
    "setpriv setserial setsid sh sha1sum sha256sum sha3sum sha512sum showkey shred shuf slattach sleep sort split "
    "ssl_client start-stop-daemon stat static-sh strings stty su sulogin sum svc svok swapoff swapon switch_root sync "
    "sysctl syslogd tac tail tar taskset tc tcpsvd tee telnet telnetd test tftp tftpd time timeout top touch tr traceroute "
    "traceroute6 tree true truncate ts tty ttysize tunctl tune2fs udhcpc udhcpc6 udhcpd udpsvd uevent umount uname unexpand "
    "uniq unix2dos unlink unlzma unlzop unshare unxz unzip uptime users usleep uudecode uuencode vconfig vi vlock volname w "
    "wall watch watchdog wc wget which who whoami xargs xxd xz xzcat yes zcat zcip adduser addgroup deluser delgroup ash "
    "hush lpd lpq lpr popmaildir raidautorun rfkill runsv runsvdir scriptreplay selinuxenabled setuidgid softlimit chpst "
    "envdir envuidgid crc32 minips ubirename ubiupdatevol beep bootchartd chcon conspy dpkg dpkg-deb dnsd eject fakeidentd "
    "flash_eraseall flash_lock flash_unlock flashcp getenforce getsebool hdparm inetd load_policy makedevs man matchpathcon "
    "mim readprofile restorecon setenforce setfiles setsebool sestatus runcon sv svlogd ubiattach ubidetach ubimkvol "
    "ubirmvol ubirsvol add-shell"
)
"""What a BusyBox may have inside and run without looking for a file."""

ONLY_READ = _names(
    "[ arch awk base64 basename cat cksum cmp comm cut date df diff dirname du echo egrep expr false fgrep file free "
    "getconf getent getopt grep groups head hexdump hostname id jq kill ldd less locale logger logname ls md5sum mktemp "
    "mountpoint nc nl nproc nslookup od paste pgrep pidof ping pkill printenv printf ps pwd readlink realpath rev seq "
    "sha1sum sha256sum sha512sum sleep sort stat strings sum tac tail test tr true tty uname uniq uptime wc which who "
    "whoami xxd yes zcat usleep umount mount sysctl setsid stty tput clear killall pg_isready lsof column look"
)
"""Programs that write no file that a start depends on."""

WRITES_ARGUMENTS = _names(
    "chgrp chmod chown cp install ln mkdir mkfifo mknod mv rm rmdir sed tee touch truncate unlink find gzip gunzip bzip2 xz"
)
"""Programs that write at the paths they are given and nowhere else."""
