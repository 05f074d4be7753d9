"""Which package has a library, where no image of the fleet has taught it yet: a small table by distribution and release.

Only libraries that people miss often. Names of Debian and Ubuntu are those of their archives' Contents indexes, names of Alpine
those of its so: providers. `*` is every release.
"""

from __future__ import annotations

_EVERYWHERE = {
    "libX11.so.6": "libx11-6", "libXext.so.6": "libxext6", "libXrender.so.1": "libxrender1", "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6", "libGL.so.1": "libgl1", "libEGL.so.1": "libegl1", "libgcc_s.so.1": "libgcc-s1",
    "libstdc++.so.6": "libstdc++6", "libgomp.so.1": "libgomp1", "libatomic.so.1": "libatomic1", "libz.so.1": "zlib1g",
    "libbz2.so.1.0": "libbz2-1.0", "liblzma.so.5": "liblzma5", "libzstd.so.1": "libzstd1", "libpq.so.5": "libpq5",
    "libsqlite3.so.0": "libsqlite3-0", "libmariadb.so.3": "libmariadb3", "libxml2.so.2": "libxml2", "libxslt.so.1": "libxslt1.1",
    "libexpat.so.1": "libexpat1", "libyaml-0.so.2": "libyaml-0-2", "libpcre2-8.so.0": "libpcre2-8-0", "libnss3.so": "libnss3",
    "libfontconfig.so.1": "libfontconfig1", "libfreetype.so.6": "libfreetype6", "libtinfo.so.6": "libtinfo6",
    "libncursesw.so.6": "libncursesw6", "libnuma.so.1": "libnuma1", "libgssapi_krb5.so.2": "libgssapi-krb5-2",
}  # fmt: skip
_OLD = {
    "libaio.so.1": "libaio1", "libcurl.so.4": "libcurl4", "libglib-2.0.so.0": "libglib2.0-0", "libuv.so.1": "libuv1",
    "libgthread-2.0.so.0": "libglib2.0-0", "libgobject-2.0.so.0": "libglib2.0-0", "libreadline.so.8": "libreadline8",
    "libpng16.so.16": "libpng16-16",
}  # fmt: skip
"""Before the move to 64 bit times, which renamed packages."""
_T64 = {
    "libaio.so.1t64": "libaio1t64", "libcurl.so.4": "libcurl4t64", "libglib-2.0.so.0": "libglib2.0-0t64",
    "libgthread-2.0.so.0": "libglib2.0-0t64", "libgobject-2.0.so.0": "libglib2.0-0t64", "libreadline.so.8": "libreadline8t64",
    "libpng16.so.16": "libpng16-16t64", "libuv.so.1": "libuv1t64", "libssl.so.3": "libssl3t64", "libcrypto.so.3": "libssl3t64",
}  # fmt: skip
_SSL1 = {"libssl.so.1.1": "libssl1.1", "libcrypto.so.1.1": "libssl1.1"}
_SSL3 = {"libssl.so.3": "libssl3", "libcrypto.so.3": "libssl3"}
_FFI7, _FFI8 = {"libffi.so.7": "libffi7"}, {"libffi.so.8": "libffi8"}
_DEBIAN_JPEG, _UBUNTU_JPEG = {"libjpeg.so.62": "libjpeg62-turbo"}, {"libjpeg.so.8": "libjpeg-turbo8"}


def _icu(release: str) -> dict[str, str]:
    return {f"lib{name}.so.{release}": f"libicu{release}" for name in ("icuuc", "icui18n", "icudata")}


KNOWN: dict[tuple[str, str], dict[str, str]] = {
    ("debian", "11"): _EVERYWHERE | _OLD | _SSL1 | _FFI7 | _DEBIAN_JPEG | _icu("67"),
    ("debian", "12"): _EVERYWHERE | _OLD | _SSL3 | _FFI8 | _DEBIAN_JPEG | _icu("72"),
    ("debian", "13"): _EVERYWHERE | _T64 | _FFI8 | _DEBIAN_JPEG | _icu("76"),
    ("ubuntu", "20.04"): _EVERYWHERE | _OLD | _SSL1 | _FFI7 | _UBUNTU_JPEG | _icu("66"),
    ("ubuntu", "22.04"): _EVERYWHERE | _OLD | _SSL3 | _FFI8 | _UBUNTU_JPEG | _icu("70"),
    ("ubuntu", "24.04"): _EVERYWHERE | _T64 | _FFI8 | _UBUNTU_JPEG | _icu("74"),
    ("alpine", "*"): {
        "libgcc_s.so.1": "libgcc", "libstdc++.so.6": "libstdc++", "libgomp.so.1": "libgomp", "libssl.so.3": "libssl3",
        "libcrypto.so.3": "libcrypto3", "libz.so.1": "zlib", "libGL.so.1": "mesa-gl", "libglib-2.0.so.0": "glib",
        "libgthread-2.0.so.0": "glib", "libgobject-2.0.so.0": "glib", "libpq.so.5": "libpq", "libffi.so.8": "libffi",
        "libxml2.so.2": "libxml2", "libxslt.so.1": "libxslt", "libcurl.so.4": "libcurl", "libsqlite3.so.0": "sqlite-libs",
        "libreadline.so.8": "readline", "libbz2.so.1": "libbz2", "liblzma.so.5": "xz-libs", "libuv.so.1": "libuv",
        "libfontconfig.so.1": "fontconfig", "libfreetype.so.6": "freetype", "libpng16.so.16": "libpng",
        "libjpeg.so.8": "libjpeg-turbo", "libyaml-0.so.2": "yaml", "libncursesw.so.6": "libncursesw",
    },
}  # fmt: skip


def known_package(distribution: str, release: str, library: str) -> str:
    """The package of that library in that release; empty where the table does not say."""
    versions = (release, release.partition(".")[0], "*")
    return next((found for each in versions if (found := KNOWN.get((distribution, each), {}).get(library))), "")
